"""Prices in files: Parquet or CSV, columns named as by Yahoo, pandas-datareader, Stooq or ourselves."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.context import SERIES, MarketContext, context_of, is_index
from stock_assets.market.sources import Answer
from stock_assets.market.sources.answers import BARS, answer, check_request, some, with_history
from stock_assets.market.sources.forms.bars import read_bars
from stock_assets.market.sources.forms.listing import DataFile, list_files
from stock_assets.market.sources.registry import register_source
from stock_assets.market.sources.row_checks import usable_rows
from stock_assets.market.tables import UNIVERSE_SCHEMA
from stock_assets.settings import Settings


class SnapshotSource:
    """Bars that were downloaded once and lie in a file or a folder.

    A file needs date, open, high, low, close and volume; with dividends and splits it must also have the
    adjusted close. Without an adjusted close, close is one (Stooq). Without a ticker column the name of
    the file is the ticker; Stooq's `.US` is dropped. A column sector may say in each row what the ticker's
    is. A folder is read with all folders inside it. A file with a timestamp in place of the date holds bars of
    minutes (UTC where no zone is named), of which those of the calendar's sessions are made.
    """

    name: ClassVar[str] = "snapshot"

    def __init__(
        self,
        path: Path,
        calendar: TradingCalendar,
        *,
        tickers: tuple[str, ...] | None = None,
        end: date | None = None,
        series: tuple[str, ...] | None = None,
    ) -> None:
        """`tickers` None means all, `series` None those of SERIES that it holds; an index is no ticker.

        Rows before the calendar or after `end` and the calendar do not exist.
        """
        self.path, self.calendar, self.tickers, self.series = path, calendar, tickers, series
        self.start = calendar.sessions[0]
        self.end = min(end or calendar.sessions[-1], calendar.sessions[-1])

    def universe(self) -> pl.DataFrame:
        """Every ticker with the sessions of its first and last bar (`UNIVERSE_SCHEMA`), sorted by ticker.

        `to_session` is null for a ticker with a bar in the snapshot's last session; `name` is the ticker;
        `sector` the last one that its rows state, null where they state none.

        Raises SourceError when the snapshot is broken or lacks a configured ticker.
        """
        bars = self._bars()
        end = bars["session"].max()
        if self.tickers is not None:
            self._check_known(self.tickers, bars)
            bars = bars.filter(pl.col("ticker").is_in(self.tickers))
        to_session = pl.when(pl.col("session").max() < end).then(pl.col("session").max())
        return (
            bars.group_by("ticker")
            .agg(
                name=pl.col("ticker").first(),
                sector=pl.col("sector").drop_nulls().last(),
                from_session=pl.col("session").min(),
                to_session=to_session,
            )
            .sort("ticker")
            .match_to_schema(UNIVERSE_SCHEMA)
        )

    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """The bars of `tickers` from `first` to `last`, as the snapshot holds them (`RAW_SCHEMA`).

        `later_splits` multiplies all later splits of the snapshot, those after `end` and `fetched_at` too:
        its prices are adjusted for them, and undoing that is all the column is for.

        Raises SourceError when the snapshot is broken, a ticker unknown or the range reversed, and
        EmptySourceError when no ticker has a bar in a range that has sessions.
        """
        check_request(first, last, fetched_at)
        bars = self._bars()
        self._check_known(tickers, bars)
        rows = answer(
            bars,
            calendar=self.calendar,
            tickers=tickers,
            first=first,
            last=last,
            source=self.name,
            fetched_at=fetched_at,
        )
        held_out = self._loaded().findings.filter(
            pl.col("ticker").is_in(list(tickers)), pl.col("session").is_between(first, last)
        )
        return Answer(rows, findings=held_out)

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        """As `Source.context`; null volumes are none, and rows on days without a session are left out and counted."""
        check_request(first, last, fetched_at)
        bars = self._loaded().context
        if missing := sorted({*(self.series or ())} - {*bars["ticker"]}):
            raise SourceError(f"{self.path} has no series {', '.join(missing)}, which STOCK_ASSETS_CONTEXT names")
        return context_of(
            bars,
            self.calendar,
            first=first,
            last=min(last, self.end),
            source=self.name,
            fetched_at=fetched_at,
        )

    def _loaded(self) -> "_Loaded":
        series = SERIES if self.series is None else self.series
        return _load(self.path, list_files(self.path), self.calendar, tickers=self.tickers or (), series=series)

    def _bars(self) -> pl.DataFrame:
        bars = self._loaded().bars
        within = bars.filter(pl.col("session").is_between(self.start, self.end))
        if within.is_empty():
            raise EmptySourceError(
                f"{self.path} has bars from {bars['session'].min()} to {bars['session'].max()}, "
                f"none from {self.start} to {self.end}"
            )
        return within

    def _check_known(self, tickers: Sequence[str], bars: pl.DataFrame) -> None:
        tickers_held = bars["ticker"].unique()
        unknown = sorted(set(tickers) - set(tickers_held))
        if unknown:
            raise SourceError(
                f"{self.path} has no bar of {some(unknown)} from {self.start} to {self.end}; "
                f"it has {some(tickers_held.sort().to_list())}"
            )


# One snapshot per process is read and checked once, and again when a file has changed.
@lru_cache(maxsize=1)
def _load(
    path: Path,
    files: tuple[DataFile, ...],
    calendar: TradingCalendar,
    *,
    tickers: tuple[str, ...],
    series: tuple[str, ...],
) -> "_Loaded":
    """All bars of `files`, checked, sorted by ticker and session, with their history; and those of `series` as `BARS`.

    A fund among the series is a ticker too where `tickers` names it.
    """
    bars = pl.concat([read_bars(file, path, calendar, series=series) for file in files], rechunk=True)
    among = pl.col("ticker").is_in(series)
    context = bars.filter(among).select(BARS.names())
    if context.height:
        bars = bars.filter(~among | (pl.col("ticker").is_in(tickers) & ~is_index(pl.col("ticker"))))
    if bars.is_empty():
        raise EmptySourceError(f"{path} holds nothing but indices and context series, expected bars of tickers")
    bars, findings = usable_rows(bars, calendar, path)
    return _Loaded(with_history(bars).drop("place"), context, findings)


class _Loaded(NamedTuple):
    bars: pl.DataFrame
    """of the tickers, with their history"""
    context: pl.DataFrame
    """of the series (`BARS`)"""
    findings: pl.DataFrame
    """about rows that were held out"""


def _from_settings(settings: Settings, _: object) -> SnapshotSource:
    assert settings.snapshot is not None  # the settings refuse a snapshot source without a path
    return SnapshotSource(
        settings.snapshot,
        calendar_of(settings),
        tickers=settings.tickers,
        end=settings.end,
        series=settings.context,
    )


register_source("snapshot", _from_settings, "prices in files, Parquet or CSV")
