"""Prices from Yahoo Finance through yfinance, one history per ticker."""

import atexit
import re
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.bars import UNIVERSE_SCHEMA
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.context import SERIES, Context, context_of
from stock_assets.market.sources.answers import (
    BARS,
    answer,
    check_request,
    check_sessions,
    check_values,
    some,
    with_history,
)

if TYPE_CHECKING:
    import pandas as pd

#: The preceding bar of a ticker is looked for this long before the first session.
_LOOK_BACK = timedelta(days=30)

#: yfinance's column for each of ours.
_COLUMNS = {
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "adj_close": "Adj Close",
    "volume": "Volume",
    "dividend": "Dividends",
    "split_ratio": "Stock Splits",
}


class YahooSource:
    """Daily bars of chosen tickers, as Yahoo states them at the time of the call."""

    name: ClassVar[str] = "yahoo"

    def __init__(
        self,
        calendar: TradingCalendar,
        tickers: tuple[str, ...] | None,
        base_url: str | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        series: tuple[str, ...] = SERIES,
    ) -> None:
        """`base_url` gets every request in place of Yahoo; `on_progress` hears tickers done and asked for."""
        self.series = series
        self.calendar, self.tickers = calendar, tickers
        self.base_url, self.on_progress = base_url, on_progress

    def universe(self) -> pl.DataFrame:
        """The configured tickers from the calendar's first session on, open-ended (`UNIVERSE_SCHEMA`).

        Raises SourceError when no ticker is configured: Yahoo has no list of all.
        """
        if not self.tickers:
            raise SourceError("STOCK_ASSETS_TICKERS is not set; the source yahoo expects the tickers to ask for")
        tickers = pl.DataFrame({"ticker": sorted(self.tickers)})
        return tickers.with_columns(
            name="ticker",
            sector=pl.lit(None, pl.String),
            from_session=pl.lit(self.calendar.sessions[0]),
            to_session=pl.lit(None, pl.Date),
        ).match_to_schema(UNIVERSE_SCHEMA)

    def fetch(self, tickers: Sequence[str], first: date, last: date, fetched_at: datetime) -> pl.DataFrame:
        """The bars of `tickers` from `first` to `last` (`RAW_SCHEMA`), split-adjusted as of `fetched_at`.

        `fetched_at` is the time of the call: each history is asked for up to its day, because the splits
        after `last` are needed too. One request per ticker.

        Raises EmptySourceError naming the tickers that Yahoo has no prices of, and SourceError naming the
        ticker for any other failure and for a bar that is none.
        """
        check_request(first, last, fetched_at)
        today = fetched_at.astimezone(UTC).date()
        asked = sorted(set(tickers))
        # yfinance keeps what it was told of the past as long as the process lives; vendors restate the past
        _yfinance().data.YfData.cache_get.cache_clear()
        histories: list[pl.DataFrame] = []
        for ticker in asked:
            histories.append(_history(ticker, first - _LOOK_BACK, today, self.base_url))
            if self.on_progress is not None:
                self.on_progress(len(histories), len(asked))
        empty = [ticker for ticker, bars in zip(asked, histories, strict=True) if bars.is_empty()]
        if empty or not asked:
            raise EmptySourceError(f"Yahoo has no prices of {some(empty, 20)} from {first - _LOOK_BACK} to {today}")
        bars = with_history(pl.concat(histories))
        wanted = bars.filter(pl.col("session").is_between(first, last))
        check_values(wanted)
        check_sessions(wanted, self.calendar)
        return answer(
            wanted,
            calendar=self.calendar,
            tickers=asked,
            first=first,
            last=last,
            source=self.name,
            fetched_at=fetched_at,
        )

    def context(self, first: date, last: date, fetched_at: datetime) -> Context:
        """As `Source.context`: one request per series; one that Yahoo states no bar of has no row."""
        check_request(first, last, fetched_at)
        today = fetched_at.astimezone(UTC).date()
        histories = [_history(name, first - _LOOK_BACK, today, self.base_url) for name in self.series]
        bars = pl.concat([BARS.to_frame(), *histories])
        return context_of(bars, self.calendar, first, last, self.name, fetched_at)


def _history(ticker: str, first: date, last: date, base_url: str | None) -> pl.DataFrame:
    """Yahoo's history of `ticker` from `first` to `last` as `BARS`, no row where it states none.

    Raises SourceError naming the ticker.
    """
    if not re.fullmatch(r"[A-Za-z0-9^][A-Za-z0-9.^=&-]*", ticker):  # it becomes part of an address
        raise SourceError(f"Yahoo, ticker {ticker!r}: expected letters and digits, with . ^ = & - between")
    yf = _yfinance()
    # The zone in which yfinance takes start and end. Without it, it asks Yahoo once more for every ticker
    # and hides what Yahoo answers behind "no timezone found".
    yf.cache.get_tz_cache().store(ticker.upper(), "UTC")
    try:
        history = yf.Ticker(ticker, session=_session(base_url)).history(
            start=first, end=last + timedelta(days=1), interval="1d", auto_adjust=False, actions=True
        )
        return _bars(history, ticker)
    except yf.exceptions.YFPricesMissingError as error:
        if error.yahoo_reason is None:
            return BARS.to_frame()
        raise SourceError(f"Yahoo, ticker {ticker}: {error.yahoo_reason}") from error
    except Exception as error:  # a broken answer fails anywhere in yfinance, with any exception
        raise SourceError(f"Yahoo, ticker {ticker}: {type(error).__name__}: {error}") from error


def _bars(history: "pd.DataFrame", ticker: str) -> pl.DataFrame:
    """An answer of yfinance, whose index holds the midnights of the exchange's own time zone, as `BARS`."""
    columns = {column: history[theirs].to_numpy(dtype=float) for column, theirs in _COLUMNS.items()}
    sessions = pl.Series([moment.date() for moment in history.index], dtype=pl.Date)
    bars = pl.DataFrame({"session": sessions, **columns}).with_columns(
        pl.col(*columns).fill_nan(None), place=pl.lit("Yahoo"), ticker=pl.lit(ticker)
    )
    return bars.with_columns(pl.col("split_ratio").replace(0.0, 1.0)).match_to_schema(BARS)


@cache
def _yfinance() -> Any:
    """yfinance, which hides no error and keeps time zones and (pickled) cookies in a folder of its own."""
    folder = TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    with warnings.catch_warnings():  # yfinance's import would switch its deprecation warnings on, for all
        import yfinance
        import yfinance.data

    yfinance.set_tz_cache_location(folder.name)
    yfinance.config.debug.hide_exceptions = False
    return yfinance


@cache
def _session(base_url: str | None) -> Any:
    """The HTTP session of yfinance, which sends every request to `base_url` when there is one."""
    from curl_cffi.requests import Session

    if base_url is None:
        return Session(impersonate="chrome")
    base = urlsplit(base_url)

    class Redirected(Session):
        def request(self, method: Any, url: str, **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            here = urlsplit(url)._replace(scheme=base.scheme, netloc=base.netloc).geturl()
            return super().request(method, here, **options)

    return Redirected()
