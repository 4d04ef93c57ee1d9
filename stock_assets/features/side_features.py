"""What models read of the side inputs: groups of columns, one per side input, in the table `side_features`.

A group is one record: which tables of side inputs it reads, its columns, and a pure function that computes them from
the bars and from what was known. `in_model` groups are made every evening and are inputs of the models; the others are
made on demand, for `input_value`, since they were measured and did not help.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import TableError
from stock_assets.market.calendar import TradingCalendar


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


#: The groups in the order of their columns. `register_side_group` adds to it.
GROUPS: dict[str, SideGroup] = {}


def register_side_group(group: SideGroup) -> SideGroup:
    """`group`, whose columns are made from now on. Raises TableError for a name or a column that is taken."""
    taken = {*GROUPS, *(name for other in GROUPS.values() for name in other.columns)}
    if again := sorted(taken & {group.name, *group.columns}):
        raise TableError(f"{again[0]} is a group or a column of side features already; expected another name")
    GROUPS[group.name] = group
    return group
