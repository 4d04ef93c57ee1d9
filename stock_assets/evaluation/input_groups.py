"""The inputs of the models in groups that can be left out, permuted or added: families of columns, side inputs, noise.

A group holds columns that say the same kind of thing: what one of them says alone is mostly said by its neighbours.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.features.side_features import SideGroup
from stock_assets.frames import KEYS

#: The group of columns that hold nothing: what it seems to be worth is the luck of a training.
NOISE = "noise"
#: As many columns as a small group has.
NOISE_COLUMNS = 5
#: The group of the columns that no family names, such as those of an extension.
OTHERS = "other_inputs"

#: The families of the columns of `stationary_features`: what is in each, and how the names of its columns begin. A
#: column is of the first family that fits.
FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "vix": ("what option prices expect of the month", ("vix_",)),
    "index": ("the return and the volatility of the index", ("index_",)),
    "market_level": ("volatility and dispersion of all tickers on the day", ("market_",)),
    "peers": ("the ticker against its peers, and its part in the market", ("peer_", "factor_", "beta_")),
    "past_bursts": ("joint bursts of volume and range, a year or some quarters before", ("event_",)),
    "ranks": ("its ranks among the day's tickers", ("rank_",)),
    "volume": ("its volume against its own past", ("volume_",)),
    "own_volatility": ("its own past volatility", ("vol_", "std_ratio_", "max_abs_return_", "semivariance_")),
    "own_returns": (
        "its own past returns and the classic indicators of them",
        ("log_return_", "momentum_", "ma_gap_", "bb_position_", "rsi_share_", "macd_ratio_"),
    ),
}


@dataclass(frozen=True)
class InputGroup:
    """Columns that are left out, permuted or added together."""

    name: str
    text: str
    """what they say, in a few words"""
    columns: tuple[str, ...]
    in_model: bool
    """whether models read them; the others are added"""


def input_groups(
    columns: Sequence[str], sides: Mapping[str, SideGroup], added_columns: Mapping[str, Sequence[str]] | None = None
) -> dict[str, InputGroup]:
    """The groups of `columns`, which the model reads, and those of `added_columns`, columns by name of one of `sides`.

    >>> list(input_groups(["vol_total_1", "rank_volume", "vol_total_5"], {}))
    ['ranks', 'own_volatility', 'noise']
    """
    side_of = {column: name for name, side in sides.items() for column in side.columns}
    members: dict[str, list[str]] = {}
    for column in columns:
        members.setdefault(side_of.get(column) or _family(column), []).append(column)
    texts = {name: text for name, (text, _) in FAMILIES.items()} | {OTHERS: "columns of no family"}
    order = [*FAMILIES, OTHERS, *sides]
    groups = {
        name: InputGroup(name, texts.get(name, _side_text(sides.get(name))), tuple(members[name]), in_model=True)
        for name in sorted(members, key=order.index)
    }
    for name, of_side in (added_columns or {}).items():
        groups[name] = InputGroup(name, _side_text(sides[name]), tuple(of_side), in_model=False)
    noise = tuple(f"{NOISE}_{i + 1}" for i in range(NOISE_COLUMNS))
    return groups | {NOISE: InputGroup(NOISE, "random numbers: what luck looks like", noise, in_model=False)}


def _family(column: str) -> str:
    return next((name for name, (_, begins) in FAMILIES.items() if column.startswith(begins)), OTHERS)


def _side_text(side: SideGroup | None) -> str:
    return f"made from {', '.join(side.reads)}" if side else ""


def absent_families(groups: Mapping[str, InputGroup]) -> dict[str, str]:
    """Why `groups` lack a family, by its name."""
    series = "its series is not among the market context of the store (STOCK_ASSETS_CONTEXT)"
    reasons = {"vix": series, "index": series}
    return {name: reasons.get(name, "the model has none of its columns") for name in FAMILIES if name not in groups}


def chosen_groups(
    groups: Mapping[str, InputGroup], names: Sequence[str], absent_names: Collection[str] = ()
) -> dict[str, InputGroup]:
    """Those of `groups` that are called `names`, all where there is none. Raises StockAssetsError for a name that is
    neither one of them nor one of `absent_names`."""
    if unknown := [name for name in names if name not in groups and name not in absent_names]:
        expected = ", ".join([*groups, *absent_names])
        raise StockAssetsError(f"there is no group of inputs {unknown[0]!r}; expected some of {expected}")
    return {name: group for name, group in groups.items() if not names or name in names}


def noise_columns(keys: pl.DataFrame, columns: Sequence[str], *, seed: int) -> pl.DataFrame:
    """ticker, session of `keys` with `columns` (f32) of independent standard normal numbers."""
    values = np.random.default_rng(seed).standard_normal((keys.height, len(columns)), np.float32)
    return keys.select(KEYS).with_columns(pl.Series(name, values[:, i]) for i, name in enumerate(columns))
