"""A small Yahoo on this machine: the v8 chart protocol, cookies and crumbs, and every way it can fail."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import polars as pl

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Reply:
    """What the chart endpoint says of a ticker, whatever is asked."""

    status: int
    body: str
    kind: str = "application/json"


UNKNOWN = Reply(
    404,
    '{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}',
)
RATE_LIMITED = Reply(429, "Too Many Requests\r\n", "text/html")
BROKEN = Reply(500, '{"chart":{"result":null,"error":{"code":"Internal","description":"server error"}}}')
MALFORMED = Reply(200, '{"chart":{"result":[{"meta":')
HTML = Reply(200, "<!DOCTYPE html><html><body>Oops</body></html>", "text/html")
NO_RESULT = Reply(200, '{"chart":{"result":[],"error":null}}')


@dataclass
class ChartServer:
    """What Yahoo knows, and what it was asked.

    `answers` holds per ticker a Reply, or a frame of session, open, high, low, close, adj_close, volume,
    dividend and split_ratio. Any other ticker is answered as Yahoo answers an unknown one.
    """

    answers: Mapping[str, pl.DataFrame | Reply]
    url: str = ""
    requests: list[str] = field(default_factory=list)

    def reply(self, target: str) -> Reply:
        self.requests.append(target)
        parts = urlsplit(target)
        if parts.path.startswith("/v8/finance/chart/"):
            ticker = unquote(parts.path.rsplit("/", 1)[1])
            known = self.answers.get(ticker, UNKNOWN)
            return known if isinstance(known, Reply) else Reply(200, _chart(ticker, known, parse_qs(parts.query)))
        if parts.path == "/v1/test/getcrumb":
            return Reply(200, "a.crumb", "text/plain")
        return Reply(404, "not found", "text/plain")  # as fc.yahoo.com, which sets its cookie with a 404


@contextmanager
def chart_server(answers: Mapping[str, pl.DataFrame | Reply]) -> Iterator[ChartServer]:
    """A server on 127.0.0.1 for the time of the block."""
    yahoo = ChartServer(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = yahoo.reply(self.path)
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "A3=d=biscuit; Path=/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: what was asked is in `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    yahoo.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield yahoo
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _opening(session: date) -> int:
    """Yahoo stamps a daily bar with the opening bell, in seconds since 1970."""
    return int(datetime.combine(session, time(9, 30), NEW_YORK).timestamp())


def _chart(ticker: str, bars: pl.DataFrame, query: dict[str, list[str]]) -> str:
    if "period1" in query:
        from_, to = (datetime.fromtimestamp(int(query[p][0]), UTC) for p in ("period1", "period2"))
        stamps = [datetime.fromtimestamp(_opening(s), UTC) for s in bars["session"]]
        bars = bars.filter(pl.Series([from_ <= stamp < to for stamp in stamps], dtype=pl.Boolean))
    else:
        bars = bars.tail(1)
    result: dict[str, object] = {
        "meta": {
            "currency": "USD",
            "symbol": ticker,
            "exchangeName": "NMS",
            "fullExchangeName": "NasdaqGS",
            "instrumentType": "EQUITY",
            "hasPrePostMarketData": True,
            "gmtoffset": -14400,
            "timezone": "EDT",
            "exchangeTimezoneName": "America/New_York",
            "priceHint": 2,
            "dataGranularity": "1d",
            "range": "",
            "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
        },
        "indicators": {"quote": [{}], "adjclose": [{}]},
    }
    if not bars.is_empty():
        result["timestamp"] = [_opening(session) for session in bars["session"]]
        result["indicators"] = {
            "quote": [{c: bars[c].to_list() for c in ("open", "high", "low", "close", "volume")}],
            "adjclose": [{"adjclose": bars["adj_close"].to_list()}],
        }
        paid = bars.filter(pl.col("dividend") > 0)
        split = bars.filter(pl.col("split_ratio") != 1)
        result["events"] = {
            "dividends": {
                str(_opening(day)): {"amount": amount, "date": _opening(day)}
                for day, amount in paid.select("session", "dividend").iter_rows()
            },
            "splits": {
                str(_opening(day)): {
                    "date": _opening(day),
                    "numerator": ratio,
                    "denominator": 1.0,
                    "splitRatio": f"{ratio:g}:1",
                }
                for day, ratio in split.select("session", "split_ratio").iter_rows()
            },
        }
    return json.dumps({"chart": {"result": [result], "error": None}})
