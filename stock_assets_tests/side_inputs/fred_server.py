"""A small FRED on this machine, which answers as https://fred.stlouisfed.org/docs/api/fred/ says.

Every version stands from its vintage to the day before the next one; of a real-time period the days outside of it are
cut off, as FRED does. A key that it does not know, a series that it does not have and too many vintages are errors with
FRED's own texts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from threading import Event
from urllib.parse import parse_qs, urlsplit

from stock_assets_tests.market.vendor import Reply

KEY = "0123456789abcdef0123456789abcdef"
FOREVER = date(9999, 12, 31)
#: (day of the figure, vintage, value); None withdraws it, "." is a figure that is missing.
Version = tuple[str, str, str | None]

NOT_REGISTERED = (
    "Bad Request.  The value for variable api_key is not registered.  "
    "Read https://fred.stlouisfed.org/docs/api/api_key.html for more information."
)


@dataclass
class FakeFred:
    """What FRED holds, and what it was asked: `asked` has path and parameters of every request, without the key."""

    series: Mapping[str, Sequence[Version]] = field(default_factory=dict)
    releases: Mapping[int, Sequence[str]] = field(default_factory=dict)
    fails: Callable[[str, int], Reply | None] = lambda _path, _count: None
    most_rows: int = 100_000
    """of a page, however many are asked for"""
    most_vintages: int = 2_000
    latency: float = 0.0
    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    closing: Event = field(default_factory=Event)

    def reply(self, target: str, _cookies: str) -> Reply:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.strip("/")
        count = len(self.asked)
        key = query.pop("api_key", None)
        self.asked.append((path, query))
        if failure := self.fails(path, count):
            return failure
        if key != KEY:
            return _error(400, NOT_REGISTERED)
        since = date.fromisoformat(query["realtime_start"])
        until = date.fromisoformat(query["realtime_end"])
        if path == "release/dates":
            days = [day for day in self.releases[int(query["release_id"])] if date.fromisoformat(day) >= since]
            return self._page(query, "release_dates", [{"release_id": query["release_id"], "date": d} for d in days])
        if query["series_id"] not in self.series:
            return _error(400, "Bad Request.  The series does not exist.")
        versions = self.series[query["series_id"]]
        vintages = sorted({day for _, day, _ in versions if since <= date.fromisoformat(day) <= until})
        if path == "series/vintagedates":
            return self._page(query, "vintage_dates", vintages)
        if len(vintages) > self.most_vintages:
            return _error(400, "Bad Request.  This exceeds the maximum number of vintage dates allowed.")
        return self._page(query, "observations", _standing(versions, since, until))

    def _page(self, query: Mapping[str, str], holds: str, rows: Sequence[object]) -> Reply:
        offset, limit = int(query["offset"]), min(int(query["limit"]), self.most_rows)
        body = {"count": len(rows), "offset": offset, "limit": limit, holds: rows[offset : offset + limit]}
        return Reply(200, json.dumps(body))


def _standing(versions: Sequence[Version], since: date, until: date) -> list[dict[str, str]]:
    rows = []
    for day in sorted({day for day, _, _ in versions}):
        own = sorted((date.fromisoformat(vintage), value) for of, vintage, value in versions if of == day)
        ends = [begins - timedelta(days=1) for begins, _ in own[1:]] + [FOREVER]
        for (begins, value), ended in zip(own, ends, strict=True):
            if value is not None and begins <= until and ended >= since:
                span = {"realtime_start": str(max(begins, since)), "realtime_end": str(min(ended, until))}
                rows.append({**span, "date": day, "value": value})
    return rows


def _error(status: int, message: str) -> Reply:
    return Reply(status, json.dumps({"error_code": status, "error_message": message}))
