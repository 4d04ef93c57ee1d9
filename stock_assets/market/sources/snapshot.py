"""Prices in files: Parquet or CSV, columns named as by Yahoo, pandas-datareader, Stooq or ourselves."""

import re
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
from stock_assets.market.sources.forms.actions import with_adjusted_closes
from stock_assets.market.sources.forms.bars import SnapshotReader
from stock_assets.market.sources.forms.listing import Listing, list_files
from stock_assets.market.sources.forms.reading import NoBarsError, Note, Notes, Reading
from stock_assets.market.sources.registry import Say, register_source
from stock_assets.market.sources.row_checks import usable_rows
from stock_assets.market.tables import UNIVERSE_SCHEMA
from stock_assets.settings import Settings


class SnapshotSource:
    """Bars that were downloaded once and lie in a file or a folder, in any of the forms of docs/snapshots.md.

    A bar needs date, open, high, low, close and volume. Without an adjusted close, close is one; with dividends and
    splits `reading.prices` says so. A folder is read with all folders inside it. A column sector may say in each row
    what the ticker's is.
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
        reading: Reading | None = None,
        say: Say = lambda _: None,
    ) -> None:
        """`tickers` None means all, `series` None those of SERIES that it holds; an index is no ticker.

        Rows before the calendar or after `end` and the calendar do not exist. `reading` decides where a file could
        mean two things; `say` hears once what was guessed and passed over.
        """
        self.path, self.calendar, self.tickers, self.series = path, calendar, tickers, series
        self.reading, self.say = reading or Reading(), say
        self._said: tuple[Note, ...] = ()
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
            chosen_tickers = _file_spellings(self.tickers, bars["ticker"].unique())
            self._check_known(chosen_tickers, bars)
            bars = bars.filter(pl.col("ticker").is_in(chosen_tickers))
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
        end = bars["session"].max()
        if first > end and self.calendar.between(first, last):  # pyright: ignore[reportOperatorIssue]: a date
            raise EmptySourceError(
                f"{self.path} has no bar from {first} on, its bars end on {end}: set STOCK_ASSETS_END={end} where it "
                "is closed, or add newer files"
            )
        rows = answer(
            bars,
            calendar=self.calendar,
            tickers=tickers,
            first=first,
            last=last,
            source=self.name,
            fetched_at=fetched_at,
        )
        in_request = pl.col("ticker").is_in(list(tickers)), pl.col("session").is_between(first, last)
        return Answer(rows, findings=self._loaded().held_out.filter(*in_request))

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

    def notes(self) -> dict[str, list[str]]:
        """What was guessed and passed over, and of which files. Every file in the folder is read, or is here."""
        return self._loaded().notes.by_kind()

    def span(self) -> tuple[date, date]:
        """The sessions of its first and its last bar."""
        sessions = self._bars()["session"]
        return sessions.min(), sessions.max()  # pyright: ignore[reportReturnType]: dates, and bars are not empty

    def _loaded(self) -> "Loaded":
        series = SERIES if self.series is None else self.series
        loaded_bars = _load(
            self.path,
            list_files(self.path),
            self.calendar,
            tickers=self.tickers or (),
            series=series,
            reading=self.reading,
        )
        if self._said != (notes := tuple(loaded_bars.notes.all)):
            self._said = notes
            for line in loaded_bars.notes.lines():
                self.say(f"{self.path}: {line}")
        return loaded_bars

    def _bars(self) -> pl.DataFrame:
        bars = self._loaded().bars
        within = bars.filter(pl.col("session").is_between(self.start, self.end))
        if within.is_empty():
            first, last = bars["session"].min(), bars["session"].max()
            raise EmptySourceError(
                f"{self.path} has bars from {first} to {last}, none from {self.start} to {self.end}; set "
                f"STOCK_ASSETS_START and STOCK_ASSETS_END to sessions in between"
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


def _file_spellings(tickers: Sequence[str], held_tickers: pl.Series) -> list[str]:
    """`tickers` as the snapshot spells them, which holds `held_tickers`: vendors write BRK.B, BRK-B, BRK/B or BRK_B."""
    alike: dict[str, list[str]] = {}
    for ticker in held_tickers:
        alike.setdefault(re.sub("[./_]", "-", ticker), []).append(ticker)
    names = {common: spellings[0] for common, spellings in alike.items() if len(spellings) == 1}
    present_tickers = set(held_tickers)
    return [
        ticker if ticker in present_tickers else names.get(re.sub("[./_]", "-", ticker), ticker) for ticker in tickers
    ]


class Loaded(NamedTuple):
    """What the files of a snapshot hold."""

    bars: pl.DataFrame
    """checked, sorted by ticker and session, with their history"""
    context: pl.DataFrame
    """the bars of the context series (`BARS`)"""
    held_out: pl.DataFrame
    """findings: what is no bar (`QUARANTINE_SCHEMA` without seen_at)"""
    notes: Notes
    """what was guessed and passed over"""


# One snapshot per process is read and checked once, and again when a file has changed.
@lru_cache(maxsize=1)
def _load(
    path: Path,
    listing: Listing,
    calendar: TradingCalendar,
    *,
    tickers: tuple[str, ...],
    series: tuple[str, ...],
    reading: Reading,
) -> Loaded:
    """All bars of the files. A fund among the series is a ticker too where `tickers` names it."""
    reader = SnapshotReader(path, calendar, series, reading=reading)
    for file, reason in listing.passed_over:
        reader.notes.add(f"passed over, {reason}", str(file.relative_to(path)))
    bars = _all_bars(reader, listing)
    if reader.without_adjusted and reading.prices in ("as_traded", "split_adjusted"):
        bars = bars.sort("ticker", "session", maintain_order=True)
        of_these = pl.col("ticker").is_in(reader.without_adjusted)
        adjusted_bars = with_adjusted_closes(bars.filter(of_these), splits_applied=reading.prices == "split_adjusted")
        bars = pl.concat([bars.filter(~of_these), adjusted_bars])
    among = pl.col("ticker").is_in(series)
    context = bars.filter(among).select(BARS.names())
    if context.height:
        bars = bars.filter(~among | (pl.col("ticker").is_in(tickers) & ~is_index(pl.col("ticker"))))
    if bars.is_empty():
        raise EmptySourceError(f"{path} holds nothing but indices and context series, expected bars of tickers")
    bars, findings = usable_rows(bars, calendar, path)
    # files come newest first, by year or by day: sorted once more for all
    bars, context = (rows.sort("ticker", "session", maintain_order=True) for rows in (bars, context))
    return Loaded(with_history(bars).drop("place"), context, pl.concat([findings, *reader.held_out]), reader.notes)


def _all_bars(reader: SnapshotReader, listing: Listing) -> pl.DataFrame:
    """The bars of all files. A file of a folder that holds none is noted; raises the first reason where all do."""
    tables: list[pl.DataFrame] = []
    empty: list[NoBarsError] = []
    for file in listing.files:
        try:
            tables += reader.bars(file)
        except NoBarsError as error:
            empty.append(error)
    if not tables:
        further_files = f" ({len(empty)} such files)" if len(empty) > 1 else ""
        raise NoBarsError(f"{empty[0]}{further_files}") from empty[0]
    for error in empty:
        reader.notes.add("passed over", str(error))
    return pl.concat(tables, rechunk=True)


def _from_settings(settings: Settings, say: Say) -> SnapshotSource:
    assert settings.snapshot is not None  # the settings refuse a snapshot source without a path
    reading = Reading(
        date_format=settings.date_format,
        time_zone=settings.time_zone,
        decimal=settings.decimal,
        columns=settings.columns,
        prices=settings.prices,
        ticker=settings.tickers[0] if settings.tickers and len(settings.tickers) == 1 else None,
    )
    calendar = calendar_of(settings)
    if settings.interval != "1d":
        from stock_assets.market.intervals import Interval
        from stock_assets.market.sources.snapshot_bars import SnapshotBars

        return SnapshotBars(  # pyright: ignore[reportReturnType]: a source of universe and bars alone
            settings.snapshot,
            calendar,
            Interval.parse(settings.interval),
            tickers=settings.tickers,
            reading=reading,
            say=say,
        )
    return SnapshotSource(
        settings.snapshot,
        calendar,
        tickers=settings.tickers,
        end=settings.end,
        series=settings.context,
        reading=reading,
        say=say,
    )


register_source("snapshot", _from_settings, "prices in files, Parquet or CSV")
