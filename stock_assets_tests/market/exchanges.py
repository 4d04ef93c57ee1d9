"""Binance and Kraken on this machine, as far as klines go: the records and the rules of their public documentation.

Binance: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints (klines),
.../general-endpoints (exchangeInfo, time) and .../limits (429, 418, Retry-After, X-MBX-USED-WEIGHT-1M).
Kraken: https://docs.kraken.com/api-reference/market-data/get-ohlc-data, .../get-tradable-asset-pairs and
.../get-server-time.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock
from urllib.parse import parse_qs, urlsplit

from stock_assets_tests.market.vendor import Reply, write_body
from stock_assets_tests.servers import answering

#: (time of opening, open, high, low, close, volume)
Kline = tuple[datetime, float, float, float, float, float]

BANNED = Reply(
    418,
    '{"code":-1003,"msg":"Way too much request weight used; IP banned until 1748736060000."}',
    headers={"Retry-After": "120"},
)
TOO_MANY = Reply(429, '{"code":-1003,"msg":"Too much request weight used."}', headers={"Retry-After": "30"})
INVALID_SYMBOL = Reply(400, '{"code":-1121,"msg":"Invalid symbol."}')
RESTRICTED = Reply(451, '{"code":0,"msg":"Service unavailable from a restricted location"}')
FIREWALL = Reply(403, "<html>Request blocked</html>", "text/html")
MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "1d": 1440}


def klines(first: datetime, count: int, *, minutes: int = 1, price: float = 100.0) -> list[Kline]:
    """A kline in each interval from `first` on; its figures say which one it is."""
    return [
        (first + timedelta(minutes=minutes * i), price + i, price + i + 2, price + i - 2, price + i + 1, 10.0 + i)
        for i in range(count)
    ]


@dataclass
class Exchange:
    """What an exchange holds at `now` by its own clock, and what it was asked.

    `fails` may answer the n-th request (from 0) for klines of a market in place of what it holds, `arranged` changes
    the order or the number of the klines of an answer. A kline that began and has not ended is in the answers, as it
    stands. Every answer has the `headers`.
    """

    markets: Mapping[str, Sequence[Kline]]
    """by the exchange's own name of the market: BTCUSDT, or XXBTZUSD"""
    now: datetime
    fails: Callable[[str, int], Reply | None] = lambda _market, _count: None
    arranged: Callable[[list[Kline]], list[Kline]] = lambda rows: rows
    headers: Mapping[str, str] = field(default_factory=dict)
    clock: Reply | None = None
    url: str = ""
    requests: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    """requests for klines, by market"""
    closing: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def kline_requests(self) -> list[dict[str, str]]:
        """The queries of the requests for klines, in their order."""
        places = ("/api/v3/klines", "/0/public/OHLC")
        parts = [urlsplit(target) for target in self.requests]
        return [{k: v[0] for k, v in parse_qs(part.query).items()} for part in parts if part.path in places]

    def counted(self, market: str) -> Reply | None:
        """Counts a request for klines of `market`; what answers it instead, if anything does."""
        with self._lock:
            count = self.asked.get(market, 0)
            self.asked[market] = count + 1
        return self.fails(market, count)

    def reply(self, target: str) -> Reply:
        raise NotImplementedError

    def is_slow(self, url: str) -> bool:
        """Whether the next answer never comes whole: the client need not be patient with it."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        market = (query.get("symbol") or query.get("pair") or [""])[0]
        failure = self.fails(market, self.asked.get(market, 0)) if market else None
        return failure is not None and (failure.hangs or failure.drip > 0)

    def milliseconds(self) -> int:
        return int(self.now.timestamp() * 1000)


class Binance(Exchange):
    """`limit` klines (500, at most 1000) from startTime on, the first there are; without one the newest."""

    def reply(self, target: str) -> Reply:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/api/v3/time":
            return self.clock or Reply(200, json.dumps({"serverTime": self.milliseconds()}))
        if parts.path == "/api/v3/exchangeInfo":
            return Reply(200, json.dumps({"timezone": "UTC", "symbols": [_binance_market(n) for n in self.markets]}))
        if parts.path != "/api/v3/klines":
            return Reply(404, "<html>not found</html>", "text/html")
        if (failure := self.counted(query["symbol"])) is not None:
            return failure
        if query["symbol"] not in self.markets:
            return INVALID_SYMBOL
        length = timedelta(minutes=MINUTES[query["interval"]])
        rows = [row for row in self.markets[query["symbol"]] if row[0] <= self.now]
        limit = min(int(query.get("limit", 500)), 1000)
        if "startTime" in query:
            rows = [row for row in rows if row[0].timestamp() * 1000 >= int(query["startTime"])][:limit]
        else:
            rows = rows[-limit:]
        records = [
            [
                int(row[0].timestamp() * 1000),
                *(f"{figure:.8f}" for figure in row[1:6]),
                int((row[0] + length).timestamp() * 1000) - 1,
                f"{row[4] * row[5]:.8f}",
                7,
                "1.00000000",
                "100.00000000",
                "0",
            ]
            for row in self.arranged(rows)
        ]
        return Reply(200, json.dumps(records))


class Kraken(Exchange):
    """The newest 720 klines after `since`, the running one always among them; times in seconds."""

    def reply(self, target: str) -> Reply:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/0/public/Time":
            seconds = int(self.now.timestamp())
            return self.clock or _kraken({"unixtime": seconds, "rfc1123": f"{self.now:%a, %d %b %y %H:%M:%S} +0000"})
        if parts.path == "/0/public/AssetPairs":
            return _kraken({name: _kraken_market(name) for name in self.markets})
        if parts.path != "/0/public/OHLC":
            return Reply(404, "not found", "text/plain")
        if (failure := self.counted(query["pair"])) is not None:
            return failure
        if query["pair"] not in self.markets:
            return Reply(200, '{"error":["EQuery:Unknown asset pair"]}')
        rows = [row for row in self.markets[query["pair"]] if row[0] <= self.now][-720:]
        since = int(query.get("since", 0))
        rows = [row for row in rows if row[0].timestamp() > since or row is rows[-1]]
        records = [
            [int(row[0].timestamp()), *(f"{row[i]:.5f}" for i in (1, 2, 3, 4, 4, 5)), 7] for row in self.arranged(rows)
        ]
        return _kraken({query["pair"]: records, "last": records[-2][0] if len(records) > 1 else 0})


def _kraken(result: object) -> Reply:
    return Reply(200, json.dumps({"error": [], "result": result}))


def _binance_market(name: str) -> dict[str, object]:
    base = name.removesuffix("USDT")
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.00", "stepSize": "0.00001"},
        ],
    }


def _kraken_market(name: str) -> dict[str, object]:
    base, quote = name[:4], name[4:]
    return {
        "altname": f"{base[1:]}{quote[1:]}",
        "wsname": f"{base[1:]}/{quote[1:]}",
        "aclass_base": "currency",
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": 1,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.26]],
        "fees_maker": [[0, 0.16]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.0001",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    }


@contextmanager
def trading(exchange: Exchange) -> Iterator[Exchange]:
    """The exchange on 127.0.0.1 for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body leave together

        def do_GET(self) -> None:
            exchange.requests.append(self.path)
            reply = exchange.reply(self.path)
            if reply.hangs:
                exchange.closing.wait()
                self.close_connection = True
                return
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in {**exchange.headers, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            write_body(self, body, cut=reply.cut, drip=reply.drip, closing=exchange.closing)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: what was asked is in `requests`."""

    with answering(Handler, exchange.closing) as exchange.url:
        yield exchange
