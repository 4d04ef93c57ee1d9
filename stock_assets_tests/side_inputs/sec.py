"""A small EDGAR on this machine: the list of tickers, submissions, facts, and every way in which they can fail.

The shapes are those of https://www.sec.gov/search-filings/edgar-application-programming-interfaces, and of real answers
kept in public repositories (github.com/dgunning/edgartools at d5e8247: data/company_submission.json and
data/company_facts.json, of Tesla; data/company_tickers.json).
"""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.side_inputs.sources.edgar import Edgar
from stock_assets.side_inputs.sources.sec_filings import SecFilings
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import is_slow, write_body
from stock_assets_tests.waiting import HANG_SECONDS

CONTACT = "Jane Doe jane@example.com"
TICKERS = "/files/company_tickers.json"
FETCHED = datetime(2024, 6, 3, 23, tzinfo=UTC)


@dataclass(frozen=True)
class Reply:
    """What EDGAR says, whatever is asked."""

    status: int
    body: str | bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    cut: int | None = None
    """the connection ends after so many bytes of the body"""
    drip: float = 0.0
    """seconds between two bytes"""


#: The words are the SEC's (github.com/Gunratan/edgar/issues/4 and 10; data.sec.gov answers from S3).
UNDECLARED = Reply(
    403,
    "<!DOCTYPE html><html><head><title>SEC.gov | Request Rate Threshold Exceeded</title></head><body><h1>Your Request "
    "Originates from an Undeclared Automated Tool</h1><p>Please declare your traffic by updating your user agent."
    "</p></body></html>",
)
THRESHOLD = Reply(
    403,
    "<html><head><title>SEC.gov | Request Rate Threshold Exceeded</title><style>p {color: red}</style></head><body>"
    "<h1>SEC.gov | Request Rate Threshold Exceeded</h1></body></html>",
)
TOO_MANY = Reply(429, "<html><h1>Too Many Requests</h1></html>", {"Retry-After": "90"})
NO_SUCH_KEY = Reply(
    404,
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.'
    "</Message></Error>",
)
BROKEN = Reply(500, "<html>Internal Server Error</html>")
UNAVAILABLE = Reply(503, "<html>Service Unavailable</html>")
HTML = Reply(200, "<!DOCTYPE html><html><title>SEC.gov is down for maintenance</title></html>")
TRUNCATED_JSON = Reply(200, '{"cik":"1","filings":{"recent":{"accessionNumber":["0000')
CUT = Reply(200, '{"cik":"1","filings":{}}', cut=10)
EMPTY = Reply(200, "")
LIST = Reply(200, "[]")
HANGS = Reply(200, "", hangs=True)
DRIPS = Reply(200, '{"cik":"1","filings":{"recent":{}}}', drip=0.1)
MOVED = Reply(302, "", {"Location": "https://www.sec.gov/elsewhere"})

Content = Mapping[str, Any] | Reply


@dataclass
class Sec:
    """What EDGAR holds by path, and what it was asked. Several contents are given once each, the last for ever."""

    documents: Mapping[str, Content | Sequence[Content]]
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    packed: bool = True
    """whether answers are packed with gzip, as the SEC's are"""
    closing: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def is_slow(self, url: str) -> bool:
        """Whether the next answer to a request is none that ever comes whole."""
        path = urlsplit(url).path
        return is_slow(self.documents.get(path), self.asked[path])

    def reply(self, path: str, agent: str) -> Reply:
        with self._lock:
            count = self.asked[path]
            self.asked[path] += 1
            self.agents.add(agent)
        if "@" not in agent:
            return UNDECLARED
        content = self.documents.get(path, NO_SUCH_KEY)
        if isinstance(content, Sequence):
            content = content[min(count, len(content) - 1)]
        return content if isinstance(content, Reply) else Reply(200, json.dumps(content))


@contextmanager
def serving(sec: Sec) -> Iterator[Sec]:
    """The server on 127.0.0.1 for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            reply = sec.reply(self.path, self.headers.get("User-Agent", ""))
            if reply.hangs:
                sec.closing.wait()
                self.close_connection = True
                return
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            packed = sec.packed and "gzip" in self.headers.get("Accept-Encoding", "") and not reply.drip
            body = gzip.compress(body) if packed else body
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(body)))
            if packed:
                self.send_header("Content-Encoding", "gzip")
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            write_body(self, body, cut=reply.cut, drip=reply.drip, closing=sec.closing)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sec.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield sec
    finally:
        sec.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def polite(**options: Any) -> Budget:
    """A budget on a clock that nobody waits for."""
    time = FakeTime()
    politeness = {"per_second": 1000.0, "tries": 3, "timeout": HANG_SECONDS, **options}
    return Budget(Politeness(**politeness), clock=time.clock, sleep=time.sleep)


def client(sec: Sec, contact: str = CONTACT, staged: Any = None, **options: Any) -> Edgar:
    return Edgar(contact, base_url=sec.url, staged=staged, budget=polite(**options))


def filings_from(sec: Sec, own: Any = None, **options: Any) -> SecFilings:
    return SecFilings(client(sec, **options), lambda: own or {})


def tickers(**ciks: int) -> dict[str, Any]:
    """company_tickers.json; an underscore in a name is a dash."""
    return {
        str(place): {"cik_str": cik, "ticker": ticker.replace("_", "-"), "title": f"{ticker} INC"}
        for place, (ticker, cik) in enumerate(ciks.items())
    }


def filing(form: str, accepted: str, filed: str | None = None, **columns: str) -> dict[str, str]:
    """One filing: `accepted` is its acceptanceDateTime, `filed` its date, that of the acceptance if not said."""
    day = filed or accepted[:10]
    number = f"0000000001-{day[2:4]}-{crc32(repr((form, accepted, day)).encode()) % 1_000_000:06d}"
    return {
        "accessionNumber": number,
        "filingDate": day,
        "reportDate": day,
        "acceptanceDateTime": accepted,
        "form": form,
        "items": "2.02,9.01" if form.startswith("8-K") else "",
        **columns,
    }


def page(filings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Filings as EDGAR lists them: one list per column."""
    columns = ("accessionNumber", "filingDate", "reportDate", "acceptanceDateTime", "form", "items")
    return {name: [filing[name] for filing in filings] for name in columns}


def submissions(cik: int, filings: Sequence[Mapping[str, str]], **older: tuple[str, str]) -> dict[str, Any]:
    """A company's document; `older` names pages of older filings (001) with their first and last date."""
    return {
        "cik": f"{cik:010d}",
        "name": "A COMPANY",
        "filings": {
            "recent": page(filings),
            "files": [
                {"name": f"CIK{cik:010d}-submissions-{number[1:]}.json", "filingFrom": first, "filingTo": last}
                for number, (first, last) in older.items()
            ],
        },
    }


def submissions_path(cik: int) -> str:
    return f"/submissions/CIK{cik:010d}.json"


def facts_path(cik: int) -> str:
    return f"/api/xbrl/companyfacts/CIK{cik:010d}.json"


def figure(end: str, value: float, accession: str, filed: str, **others: Any) -> dict[str, Any]:
    """One figure of a tag; `start` is among `others` where it is of a period."""
    return {
        "end": end,
        "val": value,
        "accn": accession,
        "fy": 2024,
        "fp": "Q1",
        "form": "10-Q",
        "filed": filed,
        **others,
    }


def facts(cik: int, figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """A company's facts by tag, such as us-gaap:Assets; numbers of shares have the unit shares, others USD."""
    taxonomies: dict[str, dict[str, Any]] = {}
    for tag, rows in figures.items():
        taxonomy, _, name = tag.partition(":")
        unit = "shares" if "Shares" in name else "USD"
        taxonomies.setdefault(taxonomy, {})[name] = {"label": name, "description": name, "units": {unit: [*rows]}}
    return {"cik": cik, "entityName": "A Company", "facts": taxonomies}
