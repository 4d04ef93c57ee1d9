"""What is borrowed from the inside of yfinance, and the calls that use it.

The public `Ticker.history` asks Yahoo once more for the time zone of every ticker and hides what Yahoo answers behind
"no timezone found". `daily_history` does what it does, less that. Importing this file checks that every borrowed name
is there.
"""

import atexit
import warnings
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stock_assets.errors import StockAssetsError, raised_in

with warnings.catch_warnings():  # yfinance's import would switch its deprecation warnings on, for all
    import yfinance
    import yfinance.data
    import yfinance.exceptions
    import yfinance.scrapers.history

if TYPE_CHECKING:
    import pandas as pd

#: The version that all this was tried on.
TRIED_ON = "1.7.0"
#: Every borrowed name, and what it is needed for.
BORROWED = {
    "scrapers.history.PriceHistory": "the history of a ticker, without asking for its time zone",
    "scrapers.history.PriceHistory.get_history_metadata": "when Yahoo saw the last trade: what came later is not final",
    "data.YfData": "the requests of a history go through our own session, which keeps our pace",
    "data.YfData.cache_get.cache_clear": "it keeps answers as long as the process lives; vendors restate the past",
    "exceptions.YFPricesMissingError": "Yahoo's own reason for an answer without prices",
    "config.debug.hide_exceptions": "a failure must be an exception, not a line in a log",
}


def require_borrowed(module: object, version: str, borrowed: Mapping[str, str] = BORROWED) -> None:
    """Raises StockAssetsError where `module` lacks one of `borrowed`; it names them and the way out."""
    missing = [f"{name} ({purpose})" for name, purpose in borrowed.items() if not _has(module, name)]
    if missing:
        raise StockAssetsError(
            f"yfinance {version} lacks {'; '.join(missing)}; expected the names of version {TRIED_ON}: install "
            f"yfinance=={TRIED_ON}, or change stock_assets/private/yfinance.py"
        )


def _has(module: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


require_borrowed(yfinance, yfinance.__version__)
#: Time zones and (pickled) cookies are kept in a folder of this process.
_folder = TemporaryDirectory(ignore_cleanup_errors=True)
atexit.register(_folder.cleanup)
yfinance.set_tz_cache_location(_folder.name)
yfinance.config.debug.hide_exceptions = False


class UnreadableAnswerError(Exception):
    """yfinance could make no history of what Yahoo answered."""


def daily_history(session: Any, ticker: str, *, first: date, last: date) -> "pd.DataFrame":
    """The daily bars of `ticker` from `first` to `last` with Open, High, Low, Close, Adj Close, Volume, Dividends and
    Stock Splits, by the midnights of the exchange's time zone; no row where Yahoo sends none.

    `session` makes the requests, and what it raises is raised as it is. Raises UnreadableAnswerError where yfinance
    fails on an answer: broken ones fail anywhere in it, with any exception.
    """
    return _history(session, ticker, start=first, end=last + timedelta(days=1), interval="1d")[0]


def bar_history(
    session: Any, ticker: str, *, first: datetime, last: datetime, interval: str
) -> tuple["pd.DataFrame", Mapping[str, Any]]:
    """The bars of `ticker` that begin from `first` on and before `last` (aware), of "1m", "5m", "15m" or "1h", without
    those before the opening and after the close, by the moments at which they begin; and what Yahoo states of the
    ticker, such as `regularMarketTime`, the moment of its last trade.

    The columns are those of `daily_history`; figures are adjusted for splits and not for dividends. Where a session
    runs, the last row is what Yahoo has of the running bar, and its moment may be that of the last trade. Raises as
    `daily_history`.
    """
    return _history(session, ticker, start=first, end=last, interval=interval)


def _history(session: Any, ticker: str, **options: Any) -> tuple["pd.DataFrame", Mapping[str, Any]]:
    yfinance.data.YfData.cache_get.cache_clear()
    try:
        # the time zone is the one in which dates are taken
        prices = yfinance.scrapers.history.PriceHistory(
            yfinance.data.YfData(session=session), ticker.upper(), "UTC", session
        )
        rows = prices.history(**options, auto_adjust=False, actions=True)
        return rows, prices.get_history_metadata()
    except yfinance.exceptions.YFPricesMissingError as error:
        raise UnreadableAnswerError(error.yahoo_reason or "an empty answer") from error
    except Exception as error:
        if not raised_in(error, "yfinance"):
            raise
        raise UnreadableAnswerError(f"an answer that yfinance cannot read ({type(error).__name__}: {error})") from error


def earnings_dates(session: Any, ticker: str, *, row_limit: int) -> "pd.DataFrame":
    """The announcements of `ticker` in Yahoo's calendar, coming and past ones, the latest first: `Reported EPS`, `EPS
    Estimate` and `Surprise(%)` by moments with a time zone; at most `row_limit`, 100 at most.

    `Ticker.get_earnings_dates` is documented; of the inside only its cache of answers is cleared. `session` makes the
    requests, and what it raises is raised as it is. Raises UnreadableAnswerError where yfinance fails on an answer.
    """
    yfinance.data.YfData.cache_get.cache_clear()
    try:
        # yfinance writes the ticker into the address as it is
        dates = yfinance.Ticker(quote(ticker, safe=""), session=session).get_earnings_dates(limit=row_limit)
    except Exception as error:
        if not raised_in(error, "yfinance"):
            raise
        raise UnreadableAnswerError(f"an answer that yfinance cannot read ({type(error).__name__}: {error})") from error
    if dates is None:
        raise UnreadableAnswerError("a page without a table")
    return dates
