"""The chart endpoint of the small Yahoo below a day: its records, and the ranges that it refuses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets_tests.market.vendor import Reply

FIGURES = ("open", "high", "low", "close", "volume")
#: days back, days of one request
REACH = {"1m": (30, 8), "5m": (60, 60), "15m": (60, 60), "1h": (730, 730)}


def refused(words: str) -> Reply:
    """As Yahoo refuses a range, HTTP 422."""
    error = {"code": "Unprocessable Entity", "description": words}
    return Reply(422, json.dumps({"chart": {"result": None, "error": error}}))


@dataclass(frozen=True)
class Bars:
    """What Yahoo holds of a ticker at `now` by its own clock.

    `rows` has at (UTC, when a bar begins) and the figures, of one interval; those from `now` less `delay` on are not
    seen yet, and where a bar runs its row is there, as well as the last trade by itself. `empty` are moments of which
    it sends a row of nulls. `events` has (moment, "dividends" or "splits", figure).
    """

    rows: pl.DataFrame
    calendar: TradingCalendar
    now: datetime
    kind: str = "EQUITY"
    delay: timedelta = timedelta(0)
    last_trade: datetime | None = None
    """where it is earlier than `now` and the sessions say"""
    empty: Sequence[datetime] = ()
    events: Sequence[tuple[datetime, str, float]] = ()
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)
    """the ranges that were asked for"""

    def reply(self, ticker: str, query: Mapping[str, Sequence[str]]) -> Reply:
        begin, end = (datetime.fromtimestamp(int(query[p][0]), UTC) for p in ("period1", "period2"))
        (interval,) = query["interval"]
        assert query["includePrePost"][0].lower() == "false"
        self.asked.append((begin, end))
        back, at_once = REACH[interval]
        where = f"{interval} data not available for startTime={query['period1'][0]} and endTime={query['period2'][0]}."
        if end - begin > timedelta(days=at_once):
            return refused(
                f"{where} Only {at_once} days worth of {interval} granularity data are allowed to be fetched per "
                "request."
            )
        if begin < self.now - timedelta(days=back):
            return refused(f"{where} The requested range must be within the last {back} days.")
        return Reply(200, json.dumps({"chart": {"result": [self._result(ticker, begin, end)], "error": None}}))

    def _result(self, ticker: str, begin: datetime, end: datetime) -> dict[str, object]:
        seen = self.now - self.delay
        known = self.rows.filter(pl.col("at") < seen)
        begun = [day for day in self.calendar.sessions if self.calendar.opens[day] <= seen]
        last = self.last_trade or min(seen, self.calendar.closes[begun[-1]])
        shown = known.filter(pl.col("at").is_between(begin, end, closed="left"))
        stamps = [int(at.timestamp()) for at in shown["at"]]
        figures = {name: shown[name].to_list() for name in FIGURES}
        running = seen < self.calendar.closes[begun[-1]]
        if stamps and running and begin <= last < end and int(last.timestamp()) not in stamps:
            stamps.append(int(last.timestamp()))
            for name in FIGURES:
                figures[name].append(0.0 if name == "volume" else figures["close"][-1])
        for at in self.empty:
            if begin <= at < min(end, seen):
                stamps.append(int(at.timestamp()))
                for name in FIGURES:
                    figures[name].append(None)
        order = sorted(range(len(stamps)), key=stamps.__getitem__)
        zone = ZoneInfo(self.calendar.local_zone)
        result: dict[str, object] = {
            "meta": {
                "currency": "USD",
                "symbol": ticker,
                "exchangeName": "NMS",
                "instrumentType": self.kind,
                "firstTradeDate": int(self.rows["at"].to_list()[0].timestamp()),
                "regularMarketTime": int(last.timestamp()),
                "gmtoffset": int(self.now.astimezone(zone).utcoffset().total_seconds()),  # pyright: ignore
                "timezone": "EST",
                "exchangeTimezoneName": self.calendar.local_zone,
                "tradingPeriods": self._periods(begin, end),
                "validRanges": ["1d", "5d", "1mo"],
            },
            "indicators": {"quote": [{}]},
        }
        if stamps:
            result["timestamp"] = [stamps[i] for i in order]
            result["indicators"] = {"quote": [{name: [values[i] for i in order] for name, values in figures.items()}]}
            result["events"] = self._events(begin, end)
        return result

    def _periods(self, begin: datetime, end: datetime) -> list[list[dict[str, object]]]:
        hours = [(self.calendar.opens[day], self.calendar.closes[day]) for day in self.calendar.sessions]
        return [
            [
                {
                    "timezone": "EST",
                    "start": int(opened.timestamp()),
                    "end": int(closed.timestamp()),
                    "gmtoffset": -18000,
                }
            ]
            for opened, closed in hours
            if opened < end and begin < closed
        ]

    def _events(self, begin: datetime, end: datetime) -> dict[str, dict[str, object]]:
        events: dict[str, dict[str, object]] = {}
        for at, kind, figure in self.events:
            stamp = int(at.timestamp())
            if begin <= at < end:
                split = {"date": stamp, "numerator": figure, "denominator": 1.0, "splitRatio": f"{figure:g}:1"}
                record = {"amount": figure, "date": stamp} if kind == "dividends" else split
                events.setdefault(kind, {})[str(stamp)] = record
        return events
