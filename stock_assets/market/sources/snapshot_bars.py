"""Files of minutes as a source of bars of an interval below a day."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.bars_of_minutes import as_source_bars
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.intervals import Interval
from stock_assets.market.sources import NOTHING_STORED, BarAnswer, bars_since
from stock_assets.market.sources.answers import check_request, some
from stock_assets.market.sources.forms.bars import SnapshotReader
from stock_assets.market.sources.forms.listing import Listing, list_files
from stock_assets.market.sources.forms.reading import NoBarsError, Notes, Reading
from stock_assets.market.sources.registry import Say
from stock_assets.market.tables import UNIVERSE_SCHEMA


class SnapshotBars:
    """Bars that lie in a file or a folder, as long as `interval` or shorter: shorter ones are aggregated."""

    name: ClassVar[str] = "snapshot"

    def __init__(
        self,
        path: Path,
        calendar: TradingCalendar,
        interval: Interval,
        *,
        tickers: tuple[str, ...] | None = None,
        reading: Reading | None = None,
        say: Say = lambda _: None,
    ) -> None:
        """`tickers` None means all. `say` hears what was guessed, passed over and held out."""
        self.path, self.calendar, self.interval, self.tickers = path, calendar, interval, tickers
        self.reading, self.say = reading or Reading(), say
        self._said: list[str] = []

    def universe(self) -> pl.DataFrame:
        """As `SnapshotSource.universe`, without sectors."""
        bars = self._bars()
        end = bars["session"].max()
        if self.tickers is not None:
            self._require_known(self.tickers, bars)
            bars = bars.filter(pl.col("ticker").is_in(self.tickers))
        to_session = pl.when(pl.col("session").max() < end).then(pl.col("session").max())
        rows = bars.group_by("ticker").agg(
            name=pl.col("ticker").first(),
            sector=pl.lit(None, pl.String),
            from_session=pl.col("session").min(),
            to_session=to_session,
        )
        return rows.sort("ticker").match_to_schema(UNIVERSE_SCHEMA)

    def fetch_bars(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        fetched_at: datetime,
        since: Mapping[str, datetime] = NOTHING_STORED,
    ) -> BarAnswer:
        """As `IntradaySource.fetch_bars`. Raises SourceError for a ticker that the files lack."""
        check_request(first, last, fetched_at)
        bars = self._bars()
        self._require_known(tickers, bars)
        requested_bars = bars.filter(
            pl.col("ticker").is_in(list(tickers)),
            pl.col("session").is_between(first, last),
            pl.col("bar_end") <= fetched_at,
        )
        return BarAnswer(as_source_bars(bars_since(requested_bars, since), self.name))

    def notes(self) -> dict[str, list[str]]:
        """What was guessed, passed over and held out, and of which files."""
        return self._loaded()[1].by_kind()

    def _bars(self) -> pl.DataFrame:
        return self._loaded()[0]

    def _loaded(self) -> tuple[pl.DataFrame, Notes]:
        bars_and_notes = _load(
            self.path, list_files(self.path), self.calendar, interval=self.interval, reading=self.reading
        )
        if self._said != (lines := bars_and_notes[1].lines()):
            self._said = lines
            for line in lines:
                self.say(f"{self.path}: {line}")
        return bars_and_notes

    def _require_known(self, tickers: Sequence[str], bars: pl.DataFrame) -> None:
        if unknown := sorted({*tickers} - {*bars["ticker"].unique()}):
            raise SourceError(
                f"{self.path} has no bar of {some(unknown)}; it has {some(bars['ticker'].unique().sort().to_list())}"
            )


# One snapshot per process is read once, and again when a file has changed.
@lru_cache(maxsize=1)
def _load(
    path: Path, listing: Listing, calendar: TradingCalendar, *, interval: Interval, reading: Reading
) -> tuple[pl.DataFrame, Notes]:
    """All bars of the files, sorted, and what is to be said of them.

    Raises SourceError for a bar that two files have with other figures, EmptySourceError for no bar at all.
    """
    reader = SnapshotReader(path, calendar, (), reading=reading, interval=interval)
    for file, reason in listing.passed_over:
        reader.notes.add(f"passed over, {reason}", str(file.relative_to(path)))
    tables: list[pl.DataFrame] = []
    for file in listing.files:
        try:
            tables += reader.bars(file)
        except NoBarsError as error:
            reader.notes.add("passed over", str(error))
    bars = pl.concat(tables).unique(maintain_order=True) if tables else pl.DataFrame()
    if bars.is_empty():
        raise EmptySourceError(
            f"{path} has no bar of {interval.text} in a session of {calendar.name} from {calendar.sessions[0]} to "
            f"{calendar.sessions[-1]}; set STOCK_ASSETS_START and STOCK_ASSETS_END to sessions that it has"
        )
    if (twice := bars.filter(pl.struct("ticker", "bar_end").is_duplicated())).height:
        row = twice.row(0, named=True)
        raise SourceError(
            f"{path}, ticker {row['ticker']}, {row['bar_end']}: found two bars with other figures in its files, "
            "expected one"
        )
    return bars.sort("ticker", "bar_end"), reader.notes
