"""What models read of the side inputs: groups of columns, one per side input, in the table `side_features`.

A group is one record: which tables of side inputs it reads, its columns, and a pure function that computes them from
the bars and from what was known. `in_model` groups are made every evening and are inputs of the models; the others are
made on demand, for `input_value`, since they were measured and did not help.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

import polars as pl

from stock_assets.errors import TableError
from stock_assets.features import market_context
from stock_assets.features.stationary import FEATURES
from stock_assets.frames import KEYS
from stock_assets.market.calendar import TradingCalendar
from stock_assets.tables import KEY_COLUMNS, TABLES, Column, Table, redeclare


@dataclass(frozen=True)
class SideColumn:
    """One column. `text` describes it, with the source of its formula; values are cut at `low` and `high`."""

    text: str
    low: float
    high: float


@dataclass(frozen=True)
class SideFrames:
    """What a group computes its columns from."""

    bars: pl.DataFrame
    """of `daily_bars`: of all tickers, from the group's look-back before the first of `sessions` to the last one"""
    rows: Mapping[str, pl.DataFrame]
    """by side input that the group reads, its rows with `session` up to the last of `sessions`"""
    sessions: Sequence[date]
    """those to compute, ascending"""
    calendar: TradingCalendar


@dataclass(frozen=True)
class SideRange:
    """A range of sessions whose bars are not in memory together."""

    rows: Mapping[str, pl.DataFrame]
    sessions: Sequence[date]
    calendar: TradingCalendar
    """as in `SideFrames`"""
    tickers: Sequence[str]
    """all that have a bar, ascending"""
    folder: Path | None
    """where files may lie until the range is made; None where memory suffices"""


class InSteps(Protocol):
    """A group of a range in two steps."""

    def own(self, bars: pl.DataFrame) -> pl.DataFrame:
        """ticker, session and what is of a ticker alone, of every bar of the sessions, from all `bars` of some
        tickers, as `SideFrames` has them; what it needs of them later is remembered."""
        ...

    def completed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """ticker, session and the columns of the group of each of `rows`, which `own` has returned, of all tickers on
        some sessions that follow each other: called after the last `own`, in the order of the sessions."""
        ...


@dataclass(frozen=True, kw_only=True)
class SideGroup:
    """The columns of one side input. A row of session t reads rows of a side input with `session <= t` alone, and bars
    up to t; a day alone gives the same rows as a range."""

    name: str
    reads: tuple[str, ...]
    """tables of side inputs"""
    columns: Mapping[str, SideColumn]
    compute: Callable[[SideFrames], pl.DataFrame]
    """returns ticker, session and the columns (f64; null where unknown) of every bar of `sessions`"""
    lookback: int
    """sessions of bars before a row that it looks at"""
    in_model: bool
    """whether models read it: only what was measured to help"""
    bar_columns: tuple[str, ...] | None = None
    """what it reads of a bar besides ticker and session; None for everything"""
    in_steps: Callable[[SideRange], InSteps] | None = None
    """as `compute`, of a range that does not fit into memory; without it, blocks of sessions are computed, each with
    its look-back"""


#: The groups in the order of their columns. `register_side_group` adds to it.
GROUPS: dict[str, SideGroup] = {}

#: The table of the columns that models read.
SIDE_FEATURES = "side_features"


def register_side_group(group: SideGroup) -> SideGroup:
    """`group`, whose columns are made from now on. Raises TableError for a name or a column that is taken."""
    others = {*GROUPS, *(name for other in GROUPS.values() for name in other.columns)}
    taken_names = others | {"ticker", "session", *FEATURES, *market_context.FEATURES}
    if repeated_names := sorted(taken_names & {group.name, *group.columns}):
        raise TableError(f"{repeated_names[0]} is a group or a column of features already; expected another name")
    GROUPS[group.name] = group
    if SIDE_FEATURES in TABLES:  # from outside the package, whose own tables are declared by now
        redeclare(side_features_table())
    return group


def side_features_table() -> Table:
    """The declaration of `side_features` with the columns of all groups that models read."""
    groups = [group for group in GROUPS.values() if group.in_model]
    return Table(
        SIDE_FEATURES,
        "features",
        f"inputs of the models from what is known beside prices: {', '.join(group.name for group in groups)}; null "
        "where it is unknown",
        (
            *KEY_COLUMNS,
            *(Column(name, pl.Float64(), feature.text) for group in groups for name, feature in group.columns.items()),
        ),
        keys=("ticker", "session"),
        partitions="session",
    )


def side_columns() -> list[str]:
    """The columns of `side_features`, in their order. A model reads those that it was trained on, and their mean in the
    place of a null."""
    return [name for group in GROUPS.values() if group.in_model for name in group.columns]


def may_be_null() -> list[str]:
    """The inputs of models that may be null or absent: those of the market context and of the side inputs, also of the
    groups that are added for a comparison."""
    return [*market_context.MARKET_CONTEXT, *(name for group in GROUPS.values() for name in group.columns)]


def computed(group: SideGroup, frames: SideFrames) -> pl.DataFrame:
    """ticker, session and the columns of `group` of the bars of `sessions`, cut at their bounds, sorted by both.

    Raises TableError where the group returns other columns or rows.
    """
    rows = _with_columns_of(group, group.compute(frames))
    bars = frames.bars.filter(pl.col("session").is_in(list(frames.sessions))).select("ticker", "session")
    joint_rows = bars.join(rows, on=["ticker", "session"], how="left", validate="1:1")
    if rows.height > joint_rows.height:
        raise TableError(f"the side features {group.name} have {rows.height} rows; expected one of {bars.height} bars")
    return _cut(group, joint_rows).sort("session", "ticker")


def completed(group: SideGroup, steps: InSteps, rows: pl.DataFrame) -> pl.DataFrame:
    """As `computed`, the columns of `rows` (`InSteps`), in their order."""
    finished_rows = _with_columns_of(group, steps.completed(rows))
    if not finished_rows.select(KEYS).equals(rows.select(KEYS)):
        raise TableError(
            f"the side features {group.name} have {finished_rows.height} rows; expected those of their own step"
        )
    return _cut(group, finished_rows)


def _with_columns_of(group: SideGroup, rows: pl.DataFrame) -> pl.DataFrame:
    if missing := [name for name in ("ticker", "session", *group.columns) if name not in rows.columns]:
        raise TableError(f"the side features {group.name} lack the column {missing[0]}")
    return rows


def _cut(group: SideGroup, rows: pl.DataFrame) -> pl.DataFrame:
    cut = (pl.col(name).clip(column.low, column.high) for name, column in group.columns.items())
    return rows.select(*KEYS, *cut)
