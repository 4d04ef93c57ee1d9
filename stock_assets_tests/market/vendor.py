"""A small Yahoo on this machine: the v8 chart protocol, cookies and crumbs, and every way it can fail."""

import json
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import curl_cffi.requests
import polars as pl
import pytest

from stock_assets_tests.servers import answering
from stock_assets_tests.waiting import HANG_SECONDS

CHART = "/v8/finance/chart/"
NEW_YORK = "America/New_York"


@dataclass(frozen=True)
class Reply:
    """What the chart endpoint says of a ticker, whatever is asked."""

    status: int
    body: str
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    """nothing is ever sent"""
    cut: int | None = None
    """the connection ends after so many bytes of the body"""
    drip: float = 0.0
    """seconds between two bytes"""


UNKNOWN = Reply(
    404,
    '{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}',
)
NO_RANGE = Reply(
    400,
    '{"chart":{"result":null,"error":{"code":"Bad Request","description":"Data doesn\'t exist for startDate = 1"}}}',
)
RATE_LIMITED = Reply(429, "Too Many Requests\r\n", "text/html")
COME_BACK = Reply(429, "Too Many Requests\r\n", "text/html", {"Retry-After": "90"})
INVALID_CRUMB = Reply(401, '{"chart":{"result":null,"error":{"code":"Unauthorized","description":"Invalid Crumb"}}}')
BROKEN = Reply(500, '{"chart":{"result":null,"error":{"code":"Internal","description":"server error"}}}')
UNAVAILABLE = Reply(503, "<html>Service Unavailable</html>", "text/html")
MALFORMED = Reply(200, '{"chart":{"result":[{"meta":')
HTML = Reply(200, "<!DOCTYPE html><html><body>Oops</body></html>", "text/html")
DOWN = Reply(200, "Will be right back", "text/html")
NO_RESULT = Reply(200, '{"chart":{"result":[],"error":null}}')
HANGS = Reply(200, "", hangs=True)
TRUNCATED = Reply(200, '{"chart":{"result":[{"meta":{"currency":"USD"}}],"error":null}}', cut=30)
DRIP = Reply(200, '{"chart":{"result":[],"error":null}}', drip=0.2)


@runtime_checkable
class Charts(Protocol):
    """What a vendor holds of a ticker where it answers itself, as bars below a day do (`vendor_bars`)."""

    def reply(self, ticker: str, query: Mapping[str, Sequence[str]]) -> Reply: ...


History = pl.DataFrame | Reply | Charts


@dataclass
class Vendor:
    """What Yahoo knows, and what it was asked.

    `answers` holds per ticker a frame of session, open, high, low, close, adj_close, volume, dividend and split_ratio,
    a Reply, or several of them: each is given once, the last for ever. Any other ticker is answered as Yahoo answers an
    unknown one. `zones` are the time zones of those that do not trade in New York. `fails` may answer the n-th request
    (from 0) for a ticker in place of that. Every request takes `latency` seconds. With a `crumb` whoever asks for
    prices must say it, as well as the cookie.
    """

    answers: Mapping[str, History | Sequence[History]]
    zones: Mapping[str, str] = field(default_factory=dict)
    fails: Callable[[str, int], Reply | None] = lambda _ticker, _count: None
    latency: float = 0.0
    crumb: str | None = None
    crumb_refusals: int = 0
    """so many requests for a crumb are answered 429"""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """requests for prices, by ticker"""
    closing: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def is_slow(self, url: str) -> bool:
        """Whether the next answer to a request is none that ever comes whole."""
        path = urlsplit(url).path
        ticker = unquote(path.removeprefix(CHART))
        return path.startswith(CHART) and is_slow(self.answers.get(ticker, UNKNOWN), self.asked[ticker])

    def reply(self, target: str, cookies: str) -> Reply:
        parts = urlsplit(target)
        with self._lock:
            self.requests.append(target)
            if parts.path.startswith(CHART):
                ticker = unquote(parts.path.removeprefix(CHART))
                count = self.asked[ticker]
                self.asked[ticker] += 1
        if parts.path == "/v1/test/getcrumb":
            if self.crumb_refusals:
                self.crumb_refusals -= 1
                return RATE_LIMITED
            return Reply(200, self.crumb or "a.crumb", "text/plain")
        if not parts.path.startswith(CHART):
            return Reply(404, "not found", "text/plain")  # as fc.yahoo.com, which sets its cookie with a 404
        query = parse_qs(parts.query)
        if self.crumb is not None and ("A3=" not in cookies or query.get("crumb") != [self.crumb]):
            return INVALID_CRUMB
        if failure := self.fails(ticker, count):
            return failure
        known = self.answers.get(ticker, UNKNOWN)
        if isinstance(known, Sequence):
            known = known[min(count, len(known) - 1)]
        if isinstance(known, Reply):
            return known
        if isinstance(known, Charts):
            return known.reply(ticker, query)
        return Reply(200, chart(ticker, known, query, self.zones.get(ticker, NEW_YORK)))


def is_slow(content: object, count: int) -> bool:
    """Whether the answer of that number (from 0), one of several or always the same, hangs or drips."""
    if isinstance(content, Sequence):
        content = content[min(count, len(content) - 1)]
    return getattr(content, "hangs", False) or getattr(content, "drip", 0.0) > 0


@contextmanager
def patient_but_with(slow: Callable[[str], bool]) -> Iterator[None]:
    """Clients of curl wait for good answers as long as a busy machine takes, and as they want for what is slow."""
    request = curl_cffi.requests.Session.request

    def timed(session: Any, method: Any, url: str, **options: Any) -> Any:
        return request(session, method, url, **options if slow(url) else {**options, "timeout": HANG_SECONDS})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curl_cffi.requests.Session, "request", timed)
        yield


def plain_history(sessions: Sequence[date], base: float = 100.0, step: float = 0.01) -> pl.DataFrame:
    """A history without corporate actions, of a price that grows by `step` a session."""
    close = pl.Series([base + step * i for i in range(len(sessions))])
    return pl.DataFrame({"session": list(sessions)}).with_columns(
        open=close,
        high=close + 1,
        low=close - 1,
        close=close,
        adj_close=close,
        volume=1e6,
        dividend=0.0,
        split_ratio=1.0,
    )


def write_body(handler: BaseHTTPRequestHandler, body: bytes, *, cut: int | None, drip: float, closing: Event) -> None:
    """The body of an answer: whole, `cut` short, or a byte every `drip` seconds until `closing`."""
    if cut is not None:
        handler.close_connection = True
    if not drip:
        handler.wfile.write(body[:cut])
        return
    for byte in body:
        if closing.wait(drip):
            return
        try:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
        except OSError:  # who asked has lost patience
            handler.close_connection = True
            return


@contextmanager
def serving(vendor: Vendor) -> Iterator[Vendor]:
    """The vendor on 127.0.0.1 for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave together

        def do_GET(self) -> None:
            reply = vendor.reply(self.path, self.headers.get("Cookie", ""))
            clock.sleep(vendor.latency)
            if reply.hangs:
                vendor.closing.wait()
                self.close_connection = True
                return
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "A3=d=biscuit; Path=/")
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            write_body(self, body, cut=reply.cut, drip=reply.drip, closing=vendor.closing)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: what was asked is in `requests`."""

    with answering(Handler, vendor.closing) as vendor.url:
        yield vendor


@lru_cache(maxsize=20_000)
def _opening(session: date, zone: str) -> int:
    """Yahoo stamps a daily bar with the opening bell, in seconds since 1970."""
    return int(datetime.combine(session, time(9, 30), ZoneInfo(zone)).timestamp())


def chart(ticker: str, bars: pl.DataFrame, query: Mapping[str, Sequence[str]], zone: str = NEW_YORK) -> str:
    """What Yahoo answers for `ticker`: its `bars` (as in `Vendor.answers`) of the range that the query asks for."""
    stamps = [_opening(session, zone) for session in bars["session"]]
    bars = bars.with_columns(stamp=pl.Series(stamps, dtype=pl.Int64))
    begin, end = (int(query[p][0]) for p in ("period1", "period2"))
    past = bars.filter(pl.col("stamp") < end)
    bars = past.filter(pl.col("stamp") >= begin)
    result: dict[str, object] = {
        "meta": {
            "currency": "USD",
            "symbol": ticker,
            "exchangeName": "NMS",
            "fullExchangeName": "NasdaqGS",
            "firstTradeDate": past["stamp"].min(),
            "regularMarketTime": past["stamp"].max(),
            "instrumentType": "INDEX" if ticker.startswith("^") else "EQUITY",
            "hasPrePostMarketData": True,
            "gmtoffset": int(datetime.now(UTC).astimezone(ZoneInfo(zone)).utcoffset().total_seconds()),  # pyright: ignore
            "timezone": "EDT",
            "exchangeTimezoneName": zone,
            "priceHint": 2,
            "dataGranularity": "1d",
            "range": "",
            "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
        },
        "indicators": {"quote": [{}], "adjclose": [{}]},
    }
    if not bars.is_empty():
        result["timestamp"] = bars["stamp"].to_list()
        result["indicators"] = {
            "quote": [{c: bars[c].to_list() for c in ("open", "high", "low", "close", "volume")}],
            "adjclose": [{"adjclose": bars["adj_close"].to_list()}],
        }
        paid = bars.filter(pl.col("dividend") > 0)
        split = bars.filter(pl.col("split_ratio") != 1)
        result["events"] = {
            "dividends": {
                str(stamp): {"amount": amount, "date": stamp}
                for stamp, amount in paid.select("stamp", "dividend").iter_rows()
            },
            "splits": {
                str(stamp): {"date": stamp, "numerator": ratio, "denominator": 1.0, "splitRatio": f"{ratio:g}:1"}
                for stamp, ratio in split.select("stamp", "split_ratio").iter_rows()
            },
        }
    return json.dumps({"chart": {"result": [result], "error": None}})
