"""The text of 8-Ks, 10-Qs and 10-Ks with its tone, each known since EDGAR accepted it.

The complete submission of a filing is at https://www.sec.gov/Archives/edgar/data/CIK/ACCESSION.txt; its documents stand
between <DOCUMENT> and </DOCUMENT> (https://www.sec.gov/search-filings/edgar-search-assistance/accessing-edgar-data).
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, ClassVar, NamedTuple, Protocol

import polars as pl

from stock_assets.errors import UnknownTickerError
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Transient
from stock_assets.market.sources.replies import beginning
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.sec_filings import LOOK_AGAIN, CompanyFilings
from stock_assets.side_inputs.sources.texts import ROWS, Text, text_rows
from stock_assets.side_inputs.tones import Tones

ADDRESS = "https://www.sec.gov/Archives/edgar/data"
FORMS = ("8-K", "10-Q", "10-K")
_DOCUMENT = re.compile(r"<DOCUMENT>\s*<TYPE>([^\s<]+).*?<TEXT>(.*?)</TEXT>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"<\w+[\s>]|</\w+>")


class Filings(Protocol):
    """Which filings there are (`sec_filings.SecFilings`)."""

    def begin(self, fetched_at: datetime) -> None: ...

    def of(self, ticker: str, since: date, fetched_at: datetime) -> list[CompanyFilings]: ...


class _Wanted(NamedTuple):
    cik: int
    accession: str
    form: str
    known_at: datetime


class FilingTexts:
    """What companies file, judged as a whole."""

    name: ClassVar[str] = "sec"

    def __init__(
        self,
        filings: Filings,
        client: Client,
        tones: Tones,
        *,
        base_url: str = ADDRESS,
        stored_rows: pl.DataFrame | None = None,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    ) -> None:
        self.filings, self.client, self.tones, self.base_url = filings, client, tones, base_url
        self.stored_rows, self.on_progress = stored_rows, on_progress

    def with_stored(self, rows: pl.DataFrame) -> "FilingTexts":
        return FilingTexts(
            self.filings,
            self.client,
            self.tones,
            base_url=self.base_url,
            stored_rows=rows,
            on_progress=self.on_progress,
        )

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: the filings since shortly before `first` that are not stored with the same method.

        Of an 8-K its exhibits 99, which hold the press release, are read as well. Raises SourceError where EDGAR has no
        list of tickers.
        """
        self.filings.begin(fetched_at)
        since, method = first - LOOK_AGAIN, self.tones.method("filing")
        stored_filings: set[tuple[str, str]] = set()
        if self.stored_rows is not None:
            of_method = self.stored_rows.filter(pl.col("method") == method, pl.col("source") == self.name)
            stored_filings = set(of_method.select("subject", "name").iter_rows())

        def ask(ticker: str) -> list[Text]:
            filings = [
                filing
                for filing in _filings(self.filings.of(ticker, since, fetched_at), since)
                if filing.known_at <= fetched_at and filing.known_at.date() <= last
            ]
            return [
                self._text(ticker, filing) for filing in filings if (ticker, filing.accession) not in stored_filings
            ]

        answers, failures = of_each(subjects, ask, budget=self.client.budget, on_progress=self.on_progress)
        texts = [text for answer in answers.values() for text in answer]
        rows = text_rows(texts, self.tones, source=self.name, fetched_at=fetched_at) if texts else ROWS.to_frame()
        return SideAnswer(rows, failures)

    def _text(self, ticker: str, filing: _Wanted) -> Text:
        url = f"{self.base_url}/{filing.cik}/{filing.accession}.txt"
        body = self.client.get(ticker, url, lambda status, content: submission_text(status, content, filing.form))
        return Text(ticker, filing.known_at, filing.known_at, "filing", filing.accession, filing.form, body)


def _filings(companies: Sequence[CompanyFilings], since: date) -> list[_Wanted]:
    return [
        _Wanted(company.company.cik, accession, form, known_at)
        for company in companies
        for accession, form, known_at in company.filings.filter(
            pl.col("form").is_in(list(FORMS)), pl.col("filed") >= since
        )
        .select("accession", "form", "known_at")
        .iter_rows()
    ]


def submission_text(status: int, content: bytes, form: str) -> str:
    """The words of a complete submission: of its document of `form`, and of the exhibits 99 of an 8-K.

    Raises UnknownTickerError where there is no such filing, and Transient for what is no submission.

    >>> filed = b"<DOCUMENT><TYPE>8-K<TEXT><p>Results &amp; more</p></TEXT></DOCUMENT>"
    >>> submission_text(200, filed + b"<DOCUMENT><TYPE>EX-99.1<TEXT>A record year</TEXT></DOCUMENT>", "8-K")
    'Results & more A record year'
    """
    if status == 404:
        raise UnknownTickerError("HTTP 404: there is no such filing")
    text = content.decode("utf-8", "replace")
    documents = [
        (kind, document)
        for kind, document in _DOCUMENT.findall(text)
        if kind == form or (form == "8-K" and kind.startswith("EX-99"))
    ]
    if status != 200 or not documents:
        raise Transient(f"HTTP {status}, no submission but {beginning(text)}")
    return " ".join(_words(document) for _, document in documents)


def _words(document: str) -> str:
    """The text of a document, of HTML what a reader sees of it."""
    if not _MARKUP.search(document):
        return " ".join(document.split())
    from lxml import etree, html  # pyright: ignore[reportAttributeAccessIssue]: it is made of C

    try:
        page: Any = html.document_fromstring(document.encode(), parser=html.HTMLParser(encoding="utf-8"))
    except (etree.LxmlError, ValueError) as error:
        raise Transient(f"a document that is no HTML ({str(error)[:80]})") from error
    for hidden in page.xpath("//script|//style|//*[name() = 'ix:header']"):
        hidden.drop_tree()
    return " ".join(" ".join(page.itertext()).split())
