"""Where prices come from. Every source answers the same questions in the same tables.

`registry` makes the one that the settings name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import polars as pl

from stock_assets.escape import one_line
from stock_assets.market.findings import no_findings

if TYPE_CHECKING:  # it checks its bars as the sources do
    from stock_assets.market.context import MarketContext

#: So long after its close a session of bars is over: its last bars have come, and the vendor has revised them.
SETTLE = timedelta(minutes=5)


@dataclass(frozen=True)
class Failure:
    """Why there is no answer for a ticker."""

    reason: str
    unknown: bool = False
    """the vendor says that it has nothing of the ticker, and will say so again"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))  # often the vendor's own words


def nothing_to_settle() -> None:
    """The source kept nothing."""


@dataclass(frozen=True)
class Answer:
    """The answer of a source to one request."""

    bars: pl.DataFrame
    """`RAW_SCHEMA`, sorted by ticker and session, one row per (ticker, session)"""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """by ticker; these have no row"""
    spans: Mapping[str, tuple[date, date]] = field(default_factory=dict)
    """the days of the first and the last bar that the vendor holds of a ticker, where it states more than was asked"""
    findings: pl.DataFrame = field(default_factory=no_findings)
    """what the source held out, of what was asked for (`QUARANTINE_SCHEMA` without seen_at)"""
    settle: Callable[[], None] = nothing_to_settle
    """to be called when the bars are stored: what the source kept for the case of a kill may go"""


class Source(Protocol):
    """A vendor of daily bars."""

    name: ClassVar[str]
    """what it is registered as; written into `raw_ohlcv.source`"""

    def universe(self) -> pl.DataFrame:
        """Every ticker the source offers, with the sessions it was a member (`UNIVERSE_SCHEMA`).

        Raises SourceError when the source cannot be read or a configured ticker is unknown to it.
        """
        ...

    # four parameters by position: the one call of the protocol, which every source and its tests share
    def fetch(self, tickers: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> Answer:
        """The bars of `tickers` from `first` to `last`, both included, as of `fetched_at` (UTC).

        Tickers with no bar in the range have no row; nothing after `fetched_at` is used.

        Raises SourceError when the source as a whole cannot answer, and EmptySourceError when a source that holds
        all there is has no bar of any ticker.
        """
        ...

    def context(self, first: date, last: date, fetched_at: datetime) -> "MarketContext":
        """The configured context series from `first` to `last`, as of `fetched_at` (UTC).

        A series that has no bar of a session has no row of it. Raises SourceError for one that the source does not
        have although it was named, and for an impossible price.
        """
        ...


#: The `since` of a request for whole sessions.
NOTHING_STORED: Mapping[str, datetime] = MappingProxyType({})


@dataclass(frozen=True)
class BarAnswer:
    """The answer of a source to one request for bars of an interval below a day."""

    bars: pl.DataFrame
    """`bar_tables.SOURCE_BAR_SCHEMA`, sorted by ticker, session and bar_end, one row per (ticker, bar_end)"""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """by ticker; these have no row"""
    limits: Mapping[str, date] = field(default_factory=dict)
    """by ticker the first session of which the vendor still has bars, where it has none of the older ones asked for"""
    settle: Callable[[], None] = nothing_to_settle
    """to be called when the bars are stored: what the source kept for the case of a kill may go"""
    splits: Mapping[tuple[str, date], float] = field(default_factory=dict)
    """new shares per old one, by ticker and session, of splits that the vendor has taken out of earlier bars"""


def bars_since(bars: pl.DataFrame, since: Mapping[str, datetime]) -> pl.DataFrame:
    """Those of `bars` (ticker, bar_end) that `IntradaySource.fetch_bars` is asked for with `since`."""
    if not since:
        return bars
    begin = pl.col("ticker").replace_strict(dict(since), default=None, return_dtype=pl.Datetime("us", "UTC"))
    return bars.filter((pl.col("bar_end") > begin).fill_null(value=True))


@runtime_checkable
class IntradaySource(Protocol):
    """A source that has bars of the setting `interval` below a day as well."""

    name: ClassVar[str]

    def universe(self) -> pl.DataFrame:
        """As `Source.universe`."""
        ...

    def fetch_bars(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        fetched_at: datetime,
        since: Mapping[str, datetime] = NOTHING_STORED,
    ) -> BarAnswer:
        """The finished bars of `tickers` in the sessions from `first` to `last`, both included; of a ticker in `since`
        those that end after that moment (the end of a bar, UTC).

        A bar whose end lies after `fetched_at` (UTC) is unfinished and never in the answer; nor is one outside the
        hours of its session. A bar that the vendor lacks is missing and not filled. A finer vendor's bars are
        aggregated to the interval, never the reverse.

        Raises SourceError when the source as a whole cannot answer, or has only coarser bars.
        """
        ...


@runtime_checkable
class InventsBars(Protocol):
    """A source whose bars follow from its laws and its settings alone, so that it can tell whether it made a bar."""

    @property
    def made_by(self) -> str:
        """What its bars follow from, in words."""
        ...

    def invented(self, sessions: Sequence[date]) -> pl.DataFrame:
        """ticker, session, close as traded (f64), of those of `sessions` that its calendar has."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A source that reads files which other programs wrote."""

    def notes(self) -> Mapping[str, Sequence[str]]:
        """What it guessed and what it passed over, each with the files: every file is read, or is in here."""
        ...
