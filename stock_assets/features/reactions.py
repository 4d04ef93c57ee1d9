"""Reactions to announcements on panels of sessions and tickers: which were known when, and what bars show of them."""

from collections.abc import MutableMapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from stock_assets.features.panels import filled, places
from stock_assets.features.peers import WINDOW, Comovement, comovement

#: The most reactions that a size is the mean of: two years of them, which REACH sessions hold.
RECENT = 8
#: Sessions after which a reaction is forgotten.
REACH = 520
#: Sessions within which a ticker must have a reaction, past or expected, to count as one whose dates are known.
DATED = 130

#: A place after every session.
_NEVER = 1 << 30


class Panels(NamedTuple):
    """Bars as panels of T sessions and N tickers; NaN or False where there is no bar."""

    days: pl.Series
    """all sessions of the calendar that the bars span"""
    tickers: pl.Series
    r: np.ndarray
    jump: np.ndarray
    """the size of a bar as a reaction"""
    present: np.ndarray
    trusted: np.ndarray
    """not suspect"""

    @classmethod
    def empty(cls, days: Sequence[date], tickers: Sequence[str], folder: Path | None = None) -> Self:
        """Without a bar; `tickers` ascending; in files of `folder` where it is one."""
        shape = len(days), len(tickers)
        panels = (filled(shape, value, folder) for value in (np.nan, np.nan, False, False))
        return cls(pl.Series(days, dtype=pl.Date), pl.Series(tickers, dtype=pl.String), *panels)

    def cell(self, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """(day, ticker) of each row (ticker, session)."""
        day = self.days.search_sorted(rows["session"]).to_numpy().astype(np.int64)
        return day, places(self.tickers, rows["ticker"])

    def add(self, rows: pl.DataFrame, cell: tuple[np.ndarray, np.ndarray], jumps: np.ndarray) -> None:
        """Adds bars with r and suspect."""
        self.r[cell], self.jump[cell] = rows["r"].to_numpy(), jumps
        self.present[cell], self.trusted[cell] = True, rows["suspect"].is_null().to_numpy()

    def between(self, begin: int, end: int) -> Self:
        """The days from place `begin` to before `end`."""
        arrays = (array[begin:end] for array in (self.r, self.jump, self.present, self.trusted))
        return type(self)(self.days[begin:end], self.tickers, *arrays)


class Events(NamedTuple):
    """Rows of a schedule, sorted by ticker and reaction, in places of sessions relative to those of a panel."""

    ticker: np.ndarray
    reaction: np.ndarray
    start: np.ndarray
    until: np.ndarray
    """stands from `start` to before `until`"""

    @classmethod
    def of(cls, schedule: pl.DataFrame, tickers: pl.Series, calendar: np.ndarray, *, origin: int) -> Self:
        """`schedule` has ticker, reaction_session, known_from and known_until; place `origin` of `calendar` is 0."""
        rows = schedule.filter(pl.col("ticker").is_in(tickers.implode())).sort("ticker", "reaction_session")

        def place(name: str) -> np.ndarray:
            return np.searchsorted(calendar, rows[name].to_numpy().astype("datetime64[D]")) - origin

        until = np.where(rows["known_until"].is_null().to_numpy(), _NEVER, place("known_until"))
        return cls(places(tickers, rows["ticker"]), place("reaction_session"), place("known_from"), until)

    def of_days(self, first: int, last: int) -> Self:
        """Those that any of the days at the places from `first` to `last` may ask for, in places from `first` on."""
        in_reach = (self.start <= last) & (self.until > first) & (self.reaction > first - REACH)
        in_reach &= self.reaction <= last + REACH
        ticker, *moments = (values[in_reach] for values in self)
        return type(self)(ticker, *(moment - first for moment in moments))

    def at_own_close(self, sessions: int, tickers: int) -> np.ndarray:
        """bool [T, N]: reactions that stood in the schedule at their own session's close."""
        reacted = np.zeros((sessions, tickers), bool)
        stood = (self.start <= self.reaction) & (self.reaction < self.until)
        stood &= (self.reaction >= 0) & (self.reaction < sessions)
        reacted[self.reaction[stood], self.ticker[stood]] = True
        return reacted


class Past(NamedTuple):
    """Of each asked day and ticker [S, N], from the reactions up to that day that stand in its schedule."""

    since: np.ndarray
    """sessions since the last one; NaN without one"""
    jump: np.ndarray
    residual: np.ndarray
    """of the last one; NaN without a bar"""
    number: np.ndarray
    """of the last RECENT ones with a size"""
    jumps: np.ndarray
    squares: np.ndarray
    """sums over these"""


def past_reactions(events: Events, panels: tuple[np.ndarray, np.ndarray, np.ndarray], days: np.ndarray) -> Past:
    """`panels` [T, N] are the size of a bar, its squared return and its residual return."""
    tickers = panels[0].shape[1]
    start, until = np.maximum(events.start, events.reaction), np.minimum(events.until, events.reaction + REACH)
    events_in_range = np.flatnonzero((start < until) & (start <= days[-1]) & (until > days[0]))
    ticker, reaction, start, until = (
        values[events_in_range] for values in (events.ticker, events.reaction, start, until)
    )
    jump, square, residual = (_at(panel, reaction, ticker) for panel in panels)
    has_jump = np.isfinite(jump)
    past = Past(*np.full((3, len(days), tickers), np.nan), *np.zeros((3, len(days), tickers)))
    for row, day in enumerate(days):
        standing = np.flatnonzero((start <= day) & (day < until))  # by ticker and reaction
        last = standing[np.diff(ticker[standing], append=-1) != 0]
        past.since[row, ticker[last]] = day - reaction[last]
        past.jump[row, ticker[last]], past.residual[row, ticker[last]] = jump[last], residual[last]
        counted_events = standing[has_jump[standing]]
        own = ticker[counted_events]
        from_last = np.cumsum(np.bincount(own, minlength=tickers))[own] - np.arange(len(own))
        recent = counted_events[from_last <= RECENT]
        past.number[row] = np.bincount(ticker[recent], minlength=tickers)
        past.jumps[row] = np.bincount(ticker[recent], jump[recent], minlength=tickers)
        past.squares[row] = np.bincount(ticker[recent], square[recent], minlength=tickers)
    return past


def _at(panel: np.ndarray, day: np.ndarray, ticker: np.ndarray) -> np.ndarray:
    """The values of these cells; NaN before the first session."""
    return np.where(day >= 0, panel[np.maximum(day, 0), ticker], np.nan)


def days_ahead(events: Events, days: np.ndarray, tickers: int, *, horizon: int) -> np.ndarray:
    """[S, N] sessions until the next reaction that is expected; 0 for none within `horizon`."""
    place = np.full(int(days[-1]) + 1, -1)
    place[days] = np.arange(len(days))
    ahead = np.zeros((len(days), tickers), int)
    for k in range(horizon, 0, -1):
        day = events.reaction - k
        in_days = (events.start <= day) & (day < events.until) & (day >= 0) & (day <= days[-1])
        in_days[in_days] &= place[day[in_days]] >= 0
        ahead[place[day[in_days]], events.ticker[in_days]] = k
    return ahead


def with_dates(events: Events, days: np.ndarray, tickers: int) -> np.ndarray:
    """bool [S, N]: a reaction within DATED sessions before or after stands in the schedule."""
    begin = np.clip(np.maximum(events.start, events.reaction - DATED), 0, days[-1] + 1)
    end = np.clip(np.minimum(events.until, events.reaction + DATED + 1), begin, days[-1] + 1)
    changes = np.zeros((int(days[-1]) + 2, tickers), int)
    np.add.at(changes, (begin, events.ticker), 1)
    np.add.at(changes, (end, events.ticker), -1)
    return np.cumsum(changes, axis=0)[days] > 0


@threadpool_limits.wrap(limits=1, user_api="blas")
def quarters_of(
    grid: Panels, first: int, known_comovements: MutableMapping[date, Comovement] | None = None
) -> list[tuple[int, int, Comovement]]:
    """(begin, end, what moves together) of each calendar quarter from that of day `first` on, by `peers`' rules.

    `known_comovements` has what was found before, by the first day of its quarter, and gets what is found now.
    """
    quarter = (grid.days.dt.year() * 4 + grid.days.dt.quarter()).to_numpy()
    begins = np.flatnonzero(np.diff(quarter, prepend=-1))
    ends = np.append(begins[1:], len(quarter))
    known_comovements, quarters = {} if known_comovements is None else known_comovements, []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if end > first:
            window, day = slice(max(0, begin - WINDOW), begin), grid.days[begin]
            if day not in known_comovements:
                known_comovements[day] = comovement(np.where(grid.trusted[window], grid.r[window], np.nan))
            quarters.append((begin, end, known_comovements[day]))
    return quarters


def residual_returns(grid: Panels, quarters: Sequence[tuple[int, int, Comovement]]) -> np.ndarray:
    """[T, N] r minus what the common factors explain of it, minus the mean of the session where a ticker is new to
    them (`peers`' factor_residual, but for these); NaN before the first of `quarters` and without a bar."""
    residual = np.full(grid.r.shape, np.nan)
    for begin, end, comoving in quarters:
        r = grid.r[begin:end]
        trusted = np.where(grid.trusted[begin:end], np.nan_to_num(r), 0.0)
        common = (trusted / comoving.scale) @ comoving.loadings @ comoving.loadings.T * comoving.scale
        ticker_count = np.maximum((grid.trusted[begin:end] & np.isfinite(r)).sum(axis=1, keepdims=True), 1)
        market = trusted.sum(axis=1, keepdims=True) / ticker_count
        residual[begin:end] = r - np.where(np.any(comoving.loadings, axis=1), common, market)
    return residual


def peer_means(
    quarters: Sequence[tuple[int, int, Comovement]],
    days: np.ndarray,
    *,
    present: np.ndarray,
    panels: Sequence[np.ndarray],
) -> np.ndarray:
    """[len(panels), S, N] mean of each of `panels` [S, N] over the peers that are `present`; a NaN does not count, and
    a mean of none is 0."""
    means = np.zeros((len(panels), *present.shape))
    for begin, end, comoving in quarters:
        inside = (days >= begin) & (days < end)
        if not inside.any():
            continue
        for place, panel in enumerate(panels):
            values = panel[inside].astype(float)
            counts = present[inside] & np.isfinite(values)
            number = comoving.sums(counts.astype(float))
            total = comoving.sums(np.where(counts, np.nan_to_num(values), 0.0))
            means[place, inside] = np.divide(total, number, out=np.zeros_like(total), where=number > 0)
    return means
