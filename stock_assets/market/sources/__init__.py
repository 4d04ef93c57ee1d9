"""Where prices come from. Every source answers the same questions in the same tables."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, ClassVar, Protocol

import polars as pl

if TYPE_CHECKING:  # it checks its bars as the sources do
    from stock_assets.market.context import Context


class Source(Protocol):
    """A vendor of daily bars."""

    name: ClassVar[str]
    """Written into `raw_ohlcv.source`: 'simulated', 'snapshot' or 'yahoo'."""

    def universe(self) -> pl.DataFrame:
        """Every ticker the source offers, with the sessions it was a member (`UNIVERSE_SCHEMA`).

        Raises SourceError when the source cannot be read or a configured ticker is unknown to it.
        """
        ...

    def fetch(self, tickers: Sequence[str], first: date, last: date, fetched_at: datetime) -> pl.DataFrame:
        """The bars of `tickers` from `first` to `last`, both included, as known at `fetched_at` (UTC).

        Returns `RAW_SCHEMA`, sorted by ticker and session, one row per (ticker, session). Tickers with no
        bar in the range have no row; nothing after `fetched_at` is used.

        Raises EmptySourceError when no ticker has a bar, SourceError for anything that is not prices.
        """
        ...

    def context(self, first: date, last: date, fetched_at: datetime) -> "Context":
        """The configured context series from `first` to `last`, as known at `fetched_at` (UTC).

        A series that has no bar of a session has no row of it. Raises SourceError for one that the source does not
        have although it was named, and for a bar that is none.
        """
        ...
