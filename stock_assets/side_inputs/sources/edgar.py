"""EDGAR, the filing system of the SEC: who we are, how often we ask, and what an answer of it is.

The rules are its own (https://www.sec.gov/about/webmaster-frequently-asked-questions): a User-Agent with a name and an
e-mail address, and at most ten requests a second of one user. The addresses and forms of the documents are those of
https://www.sec.gov/search-filings/edgar-application-programming-interfaces.
"""

import gzip
import re
import shutil
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from stock_assets.errors import SourceError, UnknownTickerError
from stock_assets.escape import one_line
from stock_assets.files import write_file
from stock_assets.market.download import json_within
from stock_assets.market.sources.budget import Budget, Exhausted, GivenUp, Politeness, Transient
from stock_assets.market.sources.replies import REFUSALS, seconds_until

#: Below the SEC's ten a second, of everything that asks it. A company's facts have up to 30 MB, which take a while.
POLITENESS = Politeness(per_second=8.0, timeout=60.0)
#: Bytes of an answer, unpacked.
MOST_BYTES = 96_000_000
#: So long an answer that waits on disk stands for a new one: a killed fetch goes on, the next evening's asks again.
STAGED_FOR = timedelta(hours=2)
#: What the SEC calls a program that does not say whose it is: asking again changes nothing, unless it has answered
#: before, and only asks for patience.
_UNDECLARED = b"Undeclared Automated Tool"
_DATA, _WWW = "https://data.sec.gov", "https://www.sec.gov"


class Document(NamedTuple):
    """One answer of EDGAR."""

    content: Any
    fetched_at: datetime
    """when EDGAR was asked for it, UTC"""


class Edgar:
    """Documents of EDGAR. Safe to share among threads."""

    def __init__(
        self, contact: str, *, base_url: str | None = None, staged: Path | None = None, budget: Budget | None = None
    ) -> None:
        """`contact` is the name and e-mail address that the SEC asks for, `base_url` gets every request in its place.

        In the folder `staged` answers wait, so that a killed fetch goes on; without one it begins anew.
        """
        self.contact, self.base_url, self.staged = contact, base_url, staged
        self.budget = budget or Budget(POLITENESS)
        self._was_answered = False

    def tickers(self, fetched_at: datetime) -> Mapping[str, int]:
        """The CIK of every ticker that a company has today, spelled as the SEC does: BRK-B.

        Raises SourceError where the list cannot be had.
        """
        document = self._document(f"{_WWW}/files/company_tickers.json", fetched_at, "the list of tickers")
        try:
            return {str(row["ticker"]): int(row["cik_str"]) for row in document.content.values()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"EDGAR, company_tickers.json: found {_beginning(str(document.content))}, expected rows of cik_str and "
                "ticker"
            ) from error

    def submissions(self, cik: int, fetched_at: datetime) -> Document:
        """The newest filings of a company and the names of the pages with older ones."""
        return self._document(f"{_DATA}/submissions/CIK{cik:010d}.json", fetched_at, f"filings of CIK {cik}")

    def older_filings(self, cik: int, page: str, fetched_at: datetime) -> Document:
        """A page of older filings, by the name that `submissions` gives it."""
        if not re.fullmatch(rf"CIK{cik:010d}-submissions-\d{{3}}\.json", page):  # it becomes part of an address
            raise SourceError(
                f"EDGAR, CIK {cik}: found a page of older filings called {_beginning(page)}, expected "
                f"CIK{cik:010d}-submissions-001.json and so on"
            )
        return self._document(f"{_DATA}/submissions/{page}", fetched_at, f"older filings of CIK {cik}")

    def facts(self, cik: int, fetched_at: datetime) -> Document:
        """All figures of the reports of a company, as XBRL has them since 2009."""
        return self._document(f"{_DATA}/api/xbrl/companyfacts/CIK{cik:010d}.json", fetched_at, f"facts of CIK {cik}")

    def _document(self, url: str, fetched_at: datetime, subject: str) -> Document:
        """Raises SourceError (UnknownTickerError where EDGAR has no such document)."""
        asked_at = fetched_at.astimezone(UTC)
        if (staged_document := self._staged_document(url, asked_at)) is not None:
            return staged_document
        try:
            body, content = self.budget.patiently(subject, lambda: self._ask(url))
        except UnknownTickerError as error:
            raise UnknownTickerError(f"EDGAR has no {subject}: {error}") from error
        except (Exhausted, GivenUp) as error:
            raise SourceError(f"EDGAR, {subject}: {error}") from error
        if self.staged is not None:
            head = f"{asked_at.isoformat()}\n".encode()
            write_file(self._file(self.staged, url, asked_at), gzip.compress(head + body, compresslevel=1))
        return Document(content, asked_at)

    def _ask(self, url: str) -> tuple[bytes, Any]:
        """Body and JSON of one answer. Raises Transient, GivenUp and UnknownTickerError."""
        from curl_cffi import CurlECode
        from curl_cffi.curl import CURL_WRITEFUNC_ERROR
        from curl_cffi.requests.exceptions import RequestException

        self.budget.take()
        if self.base_url is not None:
            to = urlsplit(self.base_url)
            url = urlsplit(url)._replace(scheme=to.scheme, netloc=to.netloc).geturl()
        body = bytearray()

        def receive(piece: bytes) -> int:
            body.extend(piece[: MOST_BYTES + 1 - len(body)])
            return len(piece) if len(body) <= MOST_BYTES else CURL_WRITEFUNC_ERROR

        try:
            answer = self._session.get(
                url,
                headers={"User-Agent": self.contact, "Accept-Encoding": "gzip, deflate"},
                timeout=self.budget.politeness.timeout,  # of the whole answer, a slow drip included
                content_callback=receive,
                allow_redirects=False,
            )
        except RequestException as error:
            if error.code == CurlECode.WRITE_ERROR and len(body) > MOST_BYTES:
                raise Transient(f"an answer of more than {MOST_BYTES / 1e6:g} MB") from error
            raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from error
        retry_after = seconds_until(answer.headers.get("Retry-After"), datetime.now(UTC))
        if _UNDECLARED in body[:8_000] and not self._was_answered:
            self.budget.stop(
                f"the SEC refuses our address ({_UNDECLARED.decode()}); expected STOCK_ASSETS_SEC_CONTACT to hold a "
                "name and an e-mail address, such as 'Jane Doe jane@example.com'"
            )
            self.budget.take()
        content = judge(answer.status_code, bytes(body), retry_after=retry_after)
        self._was_answered = True
        return bytes(body), content

    @cached_property
    def _session(self) -> Any:
        from curl_cffi.requests import Session

        return Session()

    def _staged_document(self, url: str, asked_at: datetime) -> Document | None:
        """What was kept; None where there is nothing, or nothing that can be read, or it is too old."""
        if self.staged is None:
            return None
        try:
            head, _, body = gzip.decompress(self._file(self.staged, url, asked_at).read_bytes()).partition(b"\n")
            kept_at = datetime.fromisoformat(head.decode())
            recent = timedelta(0) <= asked_at - kept_at < STAGED_FOR
            return Document(json_within(body), kept_at) if recent else None
        except (OSError, EOFError, zlib.error, ValueError, TypeError):
            return None

    @staticmethod
    def _file(folder: Path, url: str, asked_at: datetime) -> Path:
        return folder / f"{asked_at:%Y-%m-%d}" / f"{url.rpartition('://')[2].replace('/', '_')}.gz"

    def forget(self, fetched_at: datetime) -> None:
        """Removes what waits on disk since another day."""
        if self.staged is not None and self.staged.exists():
            for folder in self.staged.iterdir():
                if folder.name != f"{fetched_at.astimezone(UTC):%Y-%m-%d}":
                    shutil.rmtree(folder, ignore_errors=True)


def judge(status: int, body: bytes, *, retry_after: float | None = None) -> Any:
    """The JSON of an answer.

    Raises UnknownTickerError where EDGAR says that there is nothing, and Transient, with its own words, for the rest.

    >>> judge(200, b'{"cik": 320193}')
    {'cik': 320193}
    >>> judge(200, b"<html><title>Maintenance</title></html>")
    Traceback (most recent call last):
    ...
    stock_assets.market.sources.budget.Transient: no JSON but 'Maintenance'
    """
    text = body.decode("utf-8", "replace")
    if status == 404:
        raise UnknownTickerError(f"HTTP 404, {_beginning(text)}")
    if status != 200:
        raise Transient(f"HTTP {status}: {_beginning(text)}", refused=status in REFUSALS, retry_after=retry_after)
    try:
        content = json_within(text)
    except ValueError:
        raise Transient(f"no JSON but {_beginning(text)}" if body else "an empty answer") from None
    if not isinstance(content, dict):
        raise Transient(f"no JSON of an object but {_beginning(text)}")
    return content


def _beginning(text: str) -> str:
    """The first words of a page, without its tags."""
    words = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text[:4_000], flags=re.DOTALL | re.IGNORECASE)
    return repr(one_line(" ".join(words.split()))[:120])
