"""Yahoo's calendar of earnings on this machine: the page that yfinance 1.7 reads, and every way it can fail.

The table is that of https://finance.yahoo.com/calendar/earnings?symbol=AAPL, whose columns and dates are in
github.com/ranaroussi/yfinance/issues/1932 and in yfinance's own parser (`TickerBase._get_earnings_dates_using_scrape`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from threading import Event
from urllib.parse import parse_qs, urlsplit

from stock_assets_tests.market.vendor import Reply

#: (`Earnings Date`, `Reported EPS`)
Row = tuple[str, str]
COLUMNS = ("Symbol", "Company", "Earnings Date", "EPS Estimate", "Reported EPS", "Surprise (%)")


def page(ticker: str, rows: Sequence[Row], *, symbol: str | None = None, columns: Sequence[str] = COLUMNS) -> Reply:
    """The calendar of `ticker`, its rows marked as those of `symbol`; without a table where there are none."""
    cells = [(symbol or ticker, "A company, Inc.", when, "1.10", reported, "-") for when, reported in rows]
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else "<div>No results</div>"
    title = (
        f"<title>Earnings of {escape(ticker)}</title><a href='/calendar/earnings?symbol={escape(ticker)}'>Earnings</a>"
    )
    return Reply(200, f"<!DOCTYPE html><html><head>{title}</head><body>{table}</body></html>", "text/html")


@dataclass
class CalendarServer:
    """What the calendar has by ticker: rows, or a reply; `fails` may answer the n-th request for a ticker."""

    pages: Mapping[str, Sequence[Row] | Reply]
    fails: Callable[[str, int], Reply | None] = lambda _ticker, _count: None
    latency: float = 0.0
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    sizes: set[str] = field(default_factory=set)
    closing: Event = field(default_factory=Event)

    def reply(self, target: str, _cookies: str) -> Reply:
        parts = urlsplit(target)
        if parts.path == "/v1/test/getcrumb":
            return Reply(200, "a.crumb", "text/plain")
        if not parts.path.startswith("/calendar/earnings"):
            return Reply(404, "not found", "text/plain")
        query = parse_qs(parts.query)
        ticker = query["symbol"][0]
        self.sizes.update(query["size"])
        count = self.asked[ticker]
        self.asked[ticker] += 1
        if failure := self.fails(ticker, count):
            return failure
        rows = self.pages.get(ticker, ())
        return rows if isinstance(rows, Reply) else page(ticker, rows)
