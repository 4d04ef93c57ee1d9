"""One exchange through the ccxt package: its public market data, at the pace of a budget, failures as exceptions."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import polars as pl

from stock_assets.errors import SettingsError, SourceError, UnknownTickerError, raised_in
from stock_assets.files import write_file
from stock_assets.market.bars_of_minutes import FIGURES, KLINES
from stock_assets.market.download import json_within
from stock_assets.market.sources.budget import Budget, Politeness, Transient
from stock_assets.market.sources.replies import MOST_BYTES, TOO_LARGE, beginning, require_service

T = TypeVar("T")

#: Times of an exchange lie between these, in milliseconds since 1970; others are in another unit.
_TIMES = (1_230_768_000_000, 4_102_444_800_000)
#: Kraken's words for a market that it does not have, which ccxt passes on as an error of no kind.
UNKNOWN_PAIR = "EQuery:Unknown asset pair"
#: The share of Binance's weight of a minute from which on we wait for the next minute, and that weight. Others may ask
#: from the same address. https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits
BUSY, WEIGHT_OF_A_MINUTE = 0.9, 6000


@dataclass
class Reply:
    """What ccxt reads of an HTTP answer, and the encoding that it sets."""

    status_code: int
    reason: str
    headers: Mapping[str, str]
    text: str
    encoding: str = "utf-8"

    def raise_for_status(self) -> None:
        """Raises the error by which ccxt takes note of a refused request."""
        from requests import HTTPError

        if self.status_code >= 400:
            raise HTTPError(f"HTTP {self.status_code}")


class PoliteSession:
    """The HTTP session of ccxt: every request waits for its turn; an answer that is none is Transient.

    Safe to share among threads. `base_url` gets every request in place of the exchange.
    """

    def __init__(self, budget: Budget, base_url: str | None) -> None:
        self.budget = budget
        self.cookies: dict[str, str] = {}
        """ccxt empties them before each request"""
        self.headers: dict[str, str] = {}
        """ccxt adds its own to these"""
        self._base = None if base_url is None else urlsplit(base_url)

    def request(
        self, method: str, url: str, *, data: bytes | None = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> Reply:
        """The answer, whole and JSON. Raises Transient, GivenUp, and SourceError where the exchange bars our country.

        ccxt's other options (its own timeout, proxies) do not count: curl reads the proxies of the environment.
        """
        from curl_cffi import CurlECode
        from curl_cffi.requests.exceptions import RequestException

        self.budget.take()
        if self._base is not None:
            url = urlsplit(url)._replace(scheme=self._base.scheme, netloc=self._base.netloc).geturl()
        options = {"data": data, "headers": dict(headers or {}), "timeout": self.budget.politeness.timeout}
        try:  # that `timeout` is of the whole answer, a slow drip included
            answer = self._session.request(method, url, **options)
        except RequestException as error:
            if error.code == CurlECode.FILESIZE_EXCEEDED:
                raise Transient(TOO_LARGE) from None
            raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from error
        if len(answer.content) > MOST_BYTES:
            raise Transient(TOO_LARGE)
        reply = Reply(answer.status_code, answer.reason or "", answer.headers, answer.text)
        self._judge(reply)
        return reply

    def _judge(self, reply: Reply) -> None:
        now = datetime.now(UTC)
        if reply.status_code == 451:
            raise SourceError(
                f"the exchange does not serve this place (HTTP 451: {beginning(reply.text)}); expected another "
                "STOCK_ASSETS_CCXT_EXCHANGE, such as binanceus or kraken"
            )
        wait = reply.headers.get("Retry-After")
        require_service(reply.status_code, reply.text, retry_after=wait, now=now)
        try:
            whole = isinstance(json_within(reply.text), dict | list)
        except ValueError:
            whole = False
        if not whole:
            raise Transient(f"no JSON but {beginning(reply.text)}")
        used_weight = reply.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used_weight.isdigit() and int(used_weight) >= BUSY * WEIGHT_OF_A_MINUTE:
            # the weight is counted by the minute of the clock
            self.budget.hold(
                60 - now.second, f"{used_weight} of {WEIGHT_OF_A_MINUTE} of the weight of a minute are used"
            )

    def close(self) -> None:
        """ccxt closes the session of each of its clients, which share this one."""

    @cached_property
    def _session(self) -> Any:
        from curl_cffi import CurlOpt
        from curl_cffi.requests import Session

        return Session(curl_options={CurlOpt.MAXFILESIZE_LARGE: MOST_BYTES})


class ExchangeClient:
    """Markets, klines and the clock of one exchange. Safe to share among threads: each has its own client of ccxt."""

    def __init__(
        self, name: str, budget: Budget, base_url: str | None = None, *, markets_file: Path | None = None
    ) -> None:
        """`name` is the exchange's in ccxt. `base_url` gets every request in its place.

        In `markets_file` the markets are kept: Binance's list has 20 MB, and every look at the running session is a
        process of its own. A ticker that it lacks makes us ask for the list again.
        """
        self.name, self.budget, self._file = name, budget, markets_file
        self._session = PoliteSession(budget, base_url)
        self._of_thread = threading.local()
        self._markets: Mapping[str, Any] | None = None
        self._asked = False

    @property
    def _exchange(self) -> Any:
        if not hasattr(self._of_thread, "exchange"):
            self._of_thread.exchange = make_exchange(self.name, self._session)
        return self._of_thread.exchange

    def most_klines(self) -> int | None:
        """How many klines an answer holds at most, as ccxt knows it; None where it does not."""
        spot = (self._exchange.features or {}).get("spot") or {}
        return (spot.get("fetchOHLCV") or {}).get("limit")

    def require_timeframe(self, timeframe: str) -> None:
        """Raises SettingsError where the exchange has no klines of `timeframe` ("1m")."""
        frames = self._exchange.timeframes or {}
        if timeframe not in frames:
            raise SettingsError(
                f"STOCK_ASSETS_INTERVAL={timeframe}: {self.name} has no such klines; expected one of "
                f"{', '.join(frames)}, as far as the setting allows them"
            )

    def moment(self) -> datetime | None:
        """What the exchange's clock shows; None where it has no public one. Raises as `Budget.patiently`."""
        if not self._exchange.has.get("fetchTime"):
            return None
        return self._ask("the clock", lambda: _moment(self._exchange.fetch_time()))

    def load_markets(self, tickers: Sequence[str]) -> None:
        """Has the spot markets ready, and asks for their list where those on disk lack one of `tickers`.

        Raises as `Budget.patiently`.
        """
        saved_markets = self._markets or self._saved_markets() or {}
        if self._asked or (saved_markets and all(ticker in saved_markets for ticker in tickers)):
            self._markets = self._markets or saved_markets
            return
        self._markets = self._ask("the markets", lambda: _spot(self._exchange.load_markets()))
        self._asked = True
        if self._file is not None:
            write_file(self._file, json.dumps(self._markets).encode())

    def market(self, ticker: str) -> Mapping[str, Any]:
        """ccxt's record of the spot market `ticker` ("BTC/USDT"), of those that were loaded.

        Raises UnknownTickerError where the exchange has none of that name, which is also what becomes of a symbol that
        was renamed or removed.
        """
        markets = self._markets or {}
        if ticker not in markets:
            raise UnknownTickerError(
                f"{self.name} has no spot market {ticker} among its {len(markets)}: it never had, or it was renamed or "
                "removed"
            )
        return markets[ticker]

    def klines(self, ticker: str, timeframe: str, *, since: datetime | None, limit: int | None) -> pl.DataFrame:
        """The klines of one request (`KLINES`), in the order of their times: from `since` on, where the exchange heeds
        it, else the newest.

        Raises UnknownTickerError, and as `Budget.patiently`.
        """
        self.market(ticker)
        milliseconds = None if since is None else int(since.timestamp() * 1000)

        def ask() -> pl.DataFrame:
            exchange = self._exchange
            if not exchange.markets:
                exchange.set_markets(list((self._markets or {}).values()))
            rows = exchange.fetch_ohlcv(ticker, timeframe, since=milliseconds, limit=limit)
            _require_market(exchange, exchange.market(ticker)["id"])
            return _frame(ticker, rows)

        return self._ask(ticker, ask)

    def _saved_markets(self) -> Mapping[str, Any] | None:
        """The markets on disk; None without any that can be read: then they are asked for again."""
        try:
            return None if self._file is None else json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return None

    def _ask(self, subject: str, ask: Callable[[], T]) -> T:
        def translated() -> T:
            try:
                return ask()
            except (Transient, SourceError):
                raise
            except Exception as error:
                raise self._translated(error) from error

        return self.budget.patiently(subject, translated)

    def _translated(self, error: Exception) -> Exception:
        """What an exception of ccxt says; one of our own code as it is."""
        import ccxt

        if isinstance(error, ccxt.BadSymbol) or UNKNOWN_PAIR in str(error):
            return UnknownTickerError(f"{self.name} says {error}")
        if isinstance(error, ccxt.NotSupported):
            return SourceError(f"{self.name}: {error}; expected an exchange with public klines")
        if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
            return Transient(str(error), refused=True)
        if isinstance(error, ccxt.BaseError):
            return Transient(f"{type(error).__name__}: {error}")
        if raised_in(error, "ccxt"):
            return Transient(f"an answer that ccxt cannot read ({type(error).__name__}: {error})")
        return error


def make_exchange(name: str, session: Any) -> Any:
    """ccxt's client of the exchange `name` for public data of spot markets.

    Raises SettingsError where ccxt is not installed, or has no such exchange.
    """
    try:
        import ccxt
    except ImportError as error:
        raise SettingsError(
            "STOCK_ASSETS_SOURCE=ccxt needs the package ccxt; expected it installed: pip install 'stock_assets[crypto]'"
        ) from error
    if name not in ccxt.exchanges:
        raise SettingsError(
            f"STOCK_ASSETS_CCXT_EXCHANGE={name!r} is no exchange of ccxt {ccxt.__version__}; expected one of "
            f"{', '.join(ccxt.exchanges)}"
        )
    options = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", "maxRetriesOnFailure": 0}
    exchange = getattr(ccxt, name)(
        {"session": session, "enableRateLimit": False, "enableLastJsonResponse": True, "options": options}
    )
    exchange.has["fetchCurrencies"] = False  # another request, for what klines do not need
    # what lies before `since` is looked at, and not dropped: it may be a time in another unit
    exchange.filter_by_since_limit = lambda rows, *_, **__: rows
    return exchange


def polite_pace(name: str, requests_per_second: float | None) -> Politeness:
    """As many requests a second as ccxt knows the exchange `name` to bear, `requests_per_second` at most. Raises
    SettingsError."""
    bears = 1000 / make_exchange(name, None).rateLimit
    return Politeness(per_second=bears if requests_per_second is None else min(requests_per_second, bears))


def _moment(milliseconds: Any) -> datetime:
    if not isinstance(milliseconds, int) or not _TIMES[0] <= milliseconds <= _TIMES[1]:
        raise Transient(f"its clock shows {milliseconds!r}, expected milliseconds since 1970")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _spot(markets: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of ccxt's `markets` that are spot markets. Raises Transient for none: an exchange has some."""
    spot = {symbol: {**market, "info": None} for symbol, market in markets.items() if market.get("spot")}
    if not spot:
        raise Transient("an answer without any spot market")
    return spot


def _require_market(exchange: Any, name: str) -> None:
    """Raises Transient where Kraken answers about another market than `name`; of Binance's klines none says which."""
    answer = exchange.last_json_response
    if not isinstance(answer, dict) or "result" not in answer:
        return
    result = answer["result"]
    if not isinstance(result, dict):
        raise Transient(f"an answer without klines: {beginning(str(answer))}")
    others = sorted({*result} - {"last", name})
    if others and name not in result:
        raise Transient(f"an answer about {others[0]}, expected {name}")


def _frame(ticker: str, rows: list[list[Any]]) -> pl.DataFrame:
    """ccxt's `rows` (milliseconds, open, high, low, close, volume) as `KLINES`, in their order. Raises Transient for a
    time that is none, as where seconds are taken for milliseconds."""
    columns = list(zip(*(row[:6] for row in rows), strict=True)) or [()] * 6
    for time in columns[0]:
        if not isinstance(time, int) or not _TIMES[0] <= time <= _TIMES[1]:
            raise Transient(f"a kline of the time {time!r}, expected milliseconds since 1970 from 2009 on")
    at = pl.Series("at", columns[0], pl.Int64).cast(pl.Datetime("ms")).cast(pl.Datetime("us"))
    figures = {
        name: pl.Series(name, values, pl.Float64, strict=False)
        for name, values in zip(FIGURES, columns[1:], strict=True)
    }
    key_columns = {"ticker": pl.Series([ticker] * len(rows), dtype=pl.String), "at": at.dt.replace_time_zone("UTC")}
    return pl.DataFrame(key_columns | figures).match_to_schema(KLINES)
