"""The bars of a market below a day as the panel that the ledger reads: the bar takes the place of the session.

What days alone have is left out: no dividend and no split, since bars have none, and no index of the market. Borrow and
interest are charged where the date of the session changes, for the nights between, and an order may fill as large a
share of an ordinary bar as it may of a session.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import polars as pl

from stock_assets.frames import BAR_KEYS
from stock_assets.market.adjustments import with_membership
from stock_assets.trading.books import Book, Limits
from stock_assets.trading.measures import BarTimes
from stock_assets.trading.panel import Panel, panel_of

_PRICES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class BarMarket:
    """T bars of N tickers, in the order of time; those that were expected and did not come are among them."""

    panel: Panel
    """its sessions are the ends of the bars, UTC"""
    session: np.ndarray
    """datetime64[D] [T]: the session that each lies in"""
    per_session: int
    """bars of an ordinary session"""
    goes_on: bool = False
    """whether the exchange stays open after the last bar"""

    @property
    def sessions(self) -> list[date]:
        """Those that it has bars of."""
        return np.unique(self.session).tolist()

    @property
    def left(self) -> np.ndarray:
        """int64 [T]: the bars after each until the exchange closes or rests; many where it stays open."""
        number = len(self.session)
        end = number + 2 * number * self.goes_on
        starts = np.append(np.flatnonzero(self.panel.opening[1:]) + 1, end)
        return starts[np.searchsorted(starts, np.arange(number), side="right")] - 1 - np.arange(number)


def bar_market(
    bars: pl.DataFrame,
    universe: pl.DataFrame,
    expected: pl.DataFrame,
    *,
    sessions: Sequence[date],
    length: timedelta,
    limits: Limits,
) -> BarMarket:
    """The market of `sessions` (ascending), from rows of `bars` of them and of the sessions before that costs look at.

    `expected` has session and bar_end of every bar that the calendar expects of both, ascending, and of the next
    session where there is one; `length` is how long a bar lasts. `universe` is the table. A bar without prices is none;
    any other suspect bar is not traded at.

    Raises as `panel_of`.
    """
    opening = np.diff(expected["bar_end"].dt.epoch("us").to_numpy(), prepend=0) > length / timedelta(microseconds=1)
    days = expected["session"].to_numpy().astype("datetime64[D]")
    before = int(np.searchsorted(days, np.datetime64(sessions[0])))
    after = int(np.searchsorted(days, np.datetime64(sessions[-1]), side="right"))
    goes_on = after < len(days) and not opening[after]
    ends, days, opening = expected["bar_end"][:after].to_list(), days[:after], opening[:after]
    _, counts = np.unique(days, return_counts=True)
    times = BarTimes(
        earlier=ends[:before],
        session=days,
        opening=opening,
        per_session=int(counts.max()),
    )
    context = pl.DataFrame(schema={"series": pl.String, "session": bars.schema["bar_end"], "total_return": pl.Float64})
    panel = panel_of(_rows(bars, universe), universe, context, sessions=ends[before:], limits=limits, times=times)
    return BarMarket(panel, days[before:], times.per_session, bool(goes_on))


def _rows(bars: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """`bars` as `panel_of` reads rows of daily_bars; a return leads from the trusted close before."""
    priced = bars.filter(pl.col("suspect").is_null() | (pl.col("suspect") != "no_price")).sort(BAR_KEYS)
    trusted = pl.when(pl.col("suspect").is_null()).then("close").forward_fill().shift().over("ticker")
    return with_membership(priced, universe).select(
        "ticker",
        *_PRICES,
        "is_member",
        "suspect",
        session="bar_end",
        dividend=pl.lit(0.0),
        split_ratio=pl.lit(1.0),
        total_return=pl.col("close") / trusted - 1,
    )


def at_bars(book: Book, per_session: int) -> Book:
    """`book` with what is meant of a session as it is of one of its bars: the share of the traded value that an order
    fills. What counts decisions, K and `Limits.frozen_sessions`, counts bars."""
    return replace(book, costs=replace(book.costs, participation=book.costs.participation / per_session))
