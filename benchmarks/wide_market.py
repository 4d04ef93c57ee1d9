"""The simulated market at any width: as many worlds of sixty companies as it takes, one after the other.

A source for benchmarks (`STOCK_ASSETS_SOURCE=wide`): world k is the simulated market of the seed plus k, and its
companies are W000SIM01, W000SIM02, … One world is made at a time, so that no request holds all bars in memory. The
context series are those of world 0. Nothing in it is real.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import polars as pl

from stock_assets.errors import EmptySourceError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.context import MarketContext
from stock_assets.market.sources import Answer
from stock_assets.market.sources.registry import register_source
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.simulated_companies import TICKERS
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import Settings
from stock_assets.side_inputs.sources.simulated_announcements import SimulatedAnnouncements

_DIGITS = len("W000")


def wide_tickers(count: int) -> list[str]:
    """The first `count` tickers, ascending.

    >>> wide_tickers(61)[-2:]
    ['W000SIM60', 'W001SIM01']
    """
    return [f"W{k // len(TICKERS):03d}{TICKERS[k % len(TICKERS)]}" for k in range(count)]


def by_world(tickers: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """(prefix of the world, its tickers without it), ascending."""
    for prefix, members in groupby(sorted(tickers), key=lambda ticker: ticker[:_DIGITS]):
        yield prefix, [ticker[_DIGITS:] for ticker in members]


class WideMarket:
    """The source (`Source`)."""

    name: ClassVar[str] = "wide"

    def __init__(self, settings: Settings) -> None:
        self._calendar, self._seed, self._tickers = calendar_of(settings), settings.seed, settings.tickers or ()

    def universe(self) -> pl.DataFrame:
        frames = [
            self._world(prefix, members).universe().with_columns(_named(prefix))
            for prefix, members in by_world(self._tickers)
        ]
        return pl.concat(frames).match_to_schema(UNIVERSE_SCHEMA)

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        frames = [RAW_SCHEMA.to_frame()]
        for prefix, members in by_world(tickers):
            try:
                bars = self._world(prefix, members).fetch(members, first, last, fetched_at=fetched_at).bars
            except EmptySourceError:  # all of these were listed later, or delisted before
                continue
            frames.append(bars.with_columns(_named(prefix), source=pl.lit(self.name)))
        return Answer(pl.concat(frames))

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        answer = SimulatedSource(self._calendar, self._seed).context(first, last, fetched_at)
        return MarketContext(answer.rows.with_columns(source=pl.lit(self.name)), {})

    def _world(self, prefix: str, members: Sequence[str]) -> SimulatedSource:
        return SimulatedSource(self._calendar, self._seed + int(prefix[1:]), tuple(members))


def write_announcements(path: Path, tickers: Sequence[str], calendar: TradingCalendar, *, seed: int) -> None:
    """Puts every announcement of `tickers` that is filed into a file as STOCK_ASSETS_ANNOUNCEMENTS names one."""
    first, last = calendar.sessions[0], calendar.sessions[-1]
    frames = []
    for prefix, members in by_world(tickers):
        source = SimulatedAnnouncements(calendar, seed + int(prefix[1:]))
        rows = source.fetch(members, first, last, fetched_at=calendar.day_over(last)).rows
        filed_dates = rows.filter(pl.col("origin") == "filed").select(ticker="subject", date="day", when="moment")
        frames.append(filed_dates.unique(["ticker", "date"], maintain_order=True).with_columns(_named(prefix)))
    pl.concat(frames).write_parquet(path)


def _named(prefix: str) -> pl.Expr:
    return (pl.lit(prefix) + pl.col("ticker")).alias("ticker")


register_source(
    "wide", lambda settings, _: WideMarket(settings), "as many simulated markets as it takes, for benchmarks"
)
