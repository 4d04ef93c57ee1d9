"""What the models of bars share: a lesson, its rows as arrays, the form of an answer, and which rows have one.

**Purge.** A model with cutoff c, a moment, learns only from labels with `known_at <= c`. Where a training judges
itself, on a block of time or on its newest part, the labels of `horizon_bars` bars on either side are left out of what
learns (the embargo): labels of neighbours share bars.

**Missing inputs.** A row is answered where `REQUIRED` are there, which takes 80 % of the last 240 bars; any other
unknown input counts as its training mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, CutoffError, StockAssetsError
from stock_assets.features.bar_features import BAR_INPUTS, TRAILING
from stock_assets.features.bar_labels import BarLabelRule
from stock_assets.frames import BAR_KEYS, PROBABILITIES
from stock_assets.model.crossfit import Blocks
from stock_assets.model.lesson import Checkpoint
from stock_assets.model.linear import Level, fit_levels
from stock_assets.model.scaling import column_values
from stock_assets.model.windows import IGNORE, Panel

#: Columns without which a row has no answer: what the others are measured by.
REQUIRED = (f"vol_{TRAILING}", "vol_240")
#: Harmonics of the day beside the first, which is among the features: the flexible Fourier form of the volatility
#: within a day (Andersen & Bollerslev 1997).
HARMONICS = range(2, 7)


@dataclass(frozen=True)
class BarLesson:
    """Everything that one training of a model of bars is given."""

    features: pl.DataFrame
    """BAR_KEYS and `BAR_FEATURES`; rows after the cutoff are not looked at"""
    labels: pl.DataFrame
    """rows of the table `bar_labels`, purged: known by the cutoff; see `known_by`"""
    cutoff: datetime
    """the last moment that the training may have seen, with a time zone"""
    seed: int
    rule: BarLabelRule
    interval_minutes: int
    on_epoch: Callable[[Any], None] | None = None
    """receives the report of each epoch of a network"""
    checkpoint: Checkpoint | None = None

    @cached_property
    def rows(self) -> "BarRows":
        """The rows of the features up to the cutoff, with the labels that they have.

        Raises CutoffError for a label that was not known by the cutoff, StockAssetsError where no row has a label.
        """
        late_labels = self.labels.filter(pl.col("known_at") > self.cutoff)
        if not late_labels.is_empty():
            worst = late_labels.sort("known_at").row(-1, named=True)
            raise CutoffError(
                f"{late_labels.height} label(s) look past the cutoff {self.cutoff}: that of {worst['ticker']} at "
                f"{worst['bar_end']} is known only at {worst['known_at']}; expected labels purged by known_by"
            )
        past = self.features.filter(pl.col("bar_end") <= self.cutoff).sort(BAR_KEYS)
        rows = BarRows(past.join(self.labels, on=BAR_KEYS, how="left", maintain_order="left"), self.interval_minutes)
        if not rows.learnable.any():
            raise StockAssetsError(
                f"none of the {self.labels.height} label(s) known by {self.cutoff} has features with "
                f"{', '.join(REQUIRED)}; expected more than 240 bars of a ticker and a horizon before the cutoff"
            )
        return rows

    @property
    def horizon(self) -> int:
        """Bars that a label looks ahead."""
        return self.rule.horizon_bars


def known_by(labels: pl.DataFrame, cutoff: datetime) -> pl.DataFrame:
    """The labels that were known at the moment `cutoff`: those that a training with this cutoff may see."""
    return labels.filter(pl.col("known_at") <= cutoff)


class BarRows:
    """N feature rows sorted by BAR_KEYS, as arrays."""

    def __init__(self, frame: pl.DataFrame, interval_minutes: int) -> None:
        """`frame` has the columns of features and, for what is about labels, those of labels.

        Raises ArtifactError for a feature that it lacks.
        """
        self.frame, self._step = frame, interval_minutes * 60_000_000
        self.inputs = bar_inputs(frame)
        """float64 [N, F]"""
        self.time = frame["bar_end"].dt.epoch("us").to_numpy() // self._step
        """int64 [N]: the number of the bar among the intervals since 1970"""
        begins = frame["ticker"].rle_id().to_numpy()
        self.starts = np.flatnonzero(np.diff(begins.astype(np.int64), prepend=-1))
        """int64 [T]: the first row of each ticker"""
        self.ends = np.append(self.starts[1:], frame.height)
        """int64 [T]: one past its last row"""

    def panel(self, standard_inputs: np.ndarray) -> Panel:
        """The rows as sequences of `standard_inputs` [N, F], one per ticker, without labels.

        A sequence runs over all rows of a ticker, those without an answer too, and so over short holes. It never
        reaches over an outage of more than a fifth of the last 60 bars: no row is answered until that has left the
        window, which takes longer than a sequence is long.
        """
        values = np.concatenate([standard_inputs, np.zeros((1, standard_inputs.shape[1]))]).astype(np.float32)
        keys = self.frame.select("ticker", "session")
        return Panel(keys, values, np.full(len(values), IGNORE, np.int64), self.starts, self.ends)

    @cached_property
    def learnable(self) -> np.ndarray:
        """bool [N]: the rows with a label and all REQUIRED columns"""
        return answerable(self.frame) & self.frame["label"].is_not_null().to_numpy()

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [N]: -1, 0 or 1; 0 where there is none"""
        return self.frame["label"].cast(pl.Int64).fill_null(0).to_numpy()

    @cached_property
    def known(self) -> np.ndarray:
        """int64 [N]: the number of the last bar that the label looks at; that of the row itself without a label"""
        last = self.frame.select(pl.coalesce("known_at", "bar_end").dt.epoch("us")).to_series()
        return last.to_numpy() // self._step

    @cached_property
    def moves(self) -> np.ndarray:
        """float64 [N]: future_return over the barrier's distance at width 1; 0 where the row is not `learnable`"""
        unit = bar_unit(self.frame) * np.sqrt(np.maximum(self.known - self.time, 1))
        return np.where(self.learnable, column_values(self.frame, "future_return") / unit, 0.0)


#: The names of the inputs: columns of the features, then the harmonics of the day.
INPUT_NAMES = (*BAR_INPUTS, *(f"time_{part}_{k}" for k in HARMONICS for part in ("sin", "cos")))


def bar_inputs(rows: pl.DataFrame) -> np.ndarray:
    """float64 [N, F]: INPUT_NAMES of feature rows, NaN where a column is null.

    Raises ArtifactError for a column that `rows` lack.
    """
    if missing := [name for name in (*BAR_INPUTS, "minute_of_day") if name not in rows.columns]:
        raise ArtifactError(f"the features of bars lack {', '.join(missing)}; expected the columns of bar_features")
    angle = rows["minute_of_day"].to_numpy() * (2 * np.pi / 1440)
    waves = [part(k * angle) for k in HARMONICS for part in (np.sin, np.cos)]
    return np.column_stack([*(column_values(rows, name) for name in BAR_INPUTS), *waves])


#: The inputs that look the same on a calm and on a wild day, in the order of INPUT_NAMES: without the time, and with
#: volatilities and ranges less the volatility that the barriers are measured by.
SHAPE_NAMES = tuple(
    name for name in INPUT_NAMES if not name.startswith(("time_", "week_")) and name != f"vol_{TRAILING}"
)


def shape_of(inputs: np.ndarray) -> np.ndarray:
    """float64 [N, G]: SHAPE_NAMES of inputs [N, F]."""
    columns = [INPUT_NAMES.index(name) for name in SHAPE_NAMES]
    trailing = inputs[:, [INPUT_NAMES.index(f"vol_{TRAILING}")]]
    is_volatility = np.array([name.startswith(("vol_", "range_")) for name in SHAPE_NAMES])
    return inputs[:, columns] - np.where(is_volatility, trailing, 0.0)


def answerable(rows: pl.DataFrame) -> np.ndarray:
    """bool [N]: the feature rows that have all REQUIRED columns."""
    return rows.select(pl.all_horizontal(pl.col(REQUIRED).is_not_null())).to_series().to_numpy()


def bar_unit(rows: pl.DataFrame) -> np.ndarray:
    """float64 [N]: the volatility of a bar that the barriers of a label are measured by (a fraction); NaN for null."""
    return np.exp(column_values(rows, f"vol_{TRAILING}"))


def rows_for(
    cutoff: datetime, features: pl.DataFrame, keys: pl.DataFrame, *, lookback_rows: int = 1
) -> tuple[pl.DataFrame, np.ndarray]:
    """(`features` sorted by BAR_KEYS, bool [N]: those of them that are answered).

    Answered are rows of `keys` (BAR_KEYS) with all REQUIRED columns and `lookback_rows` rows of their ticker up to
    themselves. Raises CutoffError for a key that is not after the cutoff.
    """
    early = keys.filter(pl.col("bar_end") <= cutoff)
    if not early.is_empty():
        raise CutoffError(
            f"a model trained through {cutoff} was asked to predict {early['bar_end'].min()}; expected bars that end "
            "after its cutoff"
        )
    rows = features.sort(BAR_KEYS)
    keys_of_rows = rows.select(BAR_KEYS).join(
        keys.select(BAR_KEYS).with_columns(_asked=True), on=BAR_KEYS, how="left", maintain_order="left"
    )
    has_lookback = (
        keys_of_rows.select(pl.int_range(pl.len()).over("ticker") >= lookback_rows - 1).to_series().to_numpy()
    )
    return rows, answerable(rows) & has_lookback & keys_of_rows["_asked"].fill_null(value=False).to_numpy()


def bar_predictions(keys: pl.DataFrame, probabilities: np.ndarray, expected_return: np.ndarray) -> pl.DataFrame:
    """BAR_KEYS, expected_return, p_sell, p_hold, p_buy, score = p_buy - p_sell, in the order of `keys`.

    `probabilities` is float64 [N, 3] in the order of CLASSES, `expected_return` a fraction, float64 [N].
    """
    return keys.select(
        *BAR_KEYS,
        pl.Series("expected_return", expected_return),
        *(pl.Series(name, probabilities[:, i]) for i, name in enumerate(PROBABILITIES)),
        pl.Series("score", probabilities[:, 2] - probabilities[:, 0]),
    )


def newest_part(rows: BarRows, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """(learns, judges), bool [N] each: the learnable rows of the newest fifth of the time, which judge, and those whose
    labels are known a horizon before it.

    Raises StockAssetsError where either is empty.
    """
    first, last = rows.time[rows.learnable].min(), rows.time[rows.learnable].max()
    begin = last + 1 - (last + 1 - first) // JUDGED
    learns, judges = rows.learnable & (rows.known < begin - horizon), rows.learnable & (rows.time >= begin)
    if not (learns.any() and judges.any()):
        raise StockAssetsError(
            f"labels of {last + 1 - first} bar(s) are too few to learn from and to be judged on; expected at least "
            f"{JUDGED} times the horizon of {horizon} bars and its embargo"
        )
    return learns, judges


def level_and_unseen(
    rows: BarRows, targets: np.ndarray, learns: np.ndarray, *, blocks: Blocks, clip: float, penalty: float
) -> tuple[Level, np.ndarray]:
    """(the ridge regression of `targets` [N, K] on the inputs at `learns`, bool [N]; float64 [N, K]: at each of them
    the forecast of one that has not learned from its block, nor from an embargo on either side)."""
    count = len(blocks.edges) - 1
    without = [blocks.touching(k) for k in range(count)]
    level, *levels_without_block = fit_levels(rows.inputs, targets, learns, without=without, clip=clip, penalty=penalty)
    forecast_of_unseen = np.zeros(targets.shape)
    for k, other in enumerate(levels_without_block):
        own = np.flatnonzero(learns & blocks.inside(k))
        forecast_of_unseen[own] = other.forecast(rows.inputs, own)
    return level, forecast_of_unseen


#: The newest part of a training's time, one of so many, judges how long it trains.
JUDGED = 5


def slope(forecast: np.ndarray, outcome: np.ndarray, groups: np.ndarray) -> float:
    """The slope of `outcome` on `forecast` through the origin, float64 [N] each, shrunk by its own uncertainty.

    max(0, b (1 - 1 / t²)), with b of least squares and t from the sums of each of `groups` (int64 [N]), within which
    rows depend on each other: a forecast that cannot be told from luck counts as none.
    """
    squares = float(forecast @ forecast)
    if squares == 0.0:
        return 0.0
    products = np.bincount(groups, weights=forecast * outcome)
    scatter = float(products @ products)
    total = float(products.sum())
    return max(0.0, total / squares) * max(0.0, 1 - scatter / total**2) if total else 0.0
