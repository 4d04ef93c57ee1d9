"""The filings of a ticker: of all companies that it stood for, each within its own days."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SettingsError
from stock_assets.market.sources.budget import Budget
from stock_assets.settings import PREFIX, Settings
from stock_assets.side_inputs.registry import Say
from stock_assets.side_inputs.sources.companies import Company, companies_of, own_companies
from stock_assets.side_inputs.sources.edgar import POLITENESS, Edgar
from stock_assets.side_inputs.sources.filings import Page, filings_of, older_pages, page_of, recent

#: Every fetch looks so far back once more: for what EDGAR lists late, and for sessions without a fetch.
LOOK_AGAIN = timedelta(days=5)
#: The side inputs that ask EDGAR.
ASKING = ("announcements", "fundamentals")


class CompanyFilings(NamedTuple):
    """The filings of one company in the days in which the ticker stood for it."""

    company: Company
    filings: pl.DataFrame
    """`FILINGS`, by known_at"""
    begins: date | None
    """the date of its first filing of all, or the day from which on the ticker stands for it; None without one"""
    fetched_at: datetime


class SecFilings:
    """What sources of EDGAR share: a client, and which company a ticker stood for."""

    def __init__(self, edgar: Edgar, own: Callable[[], Mapping[str, Sequence[Company]]] = dict) -> None:
        """`own` reads the companies of a person's file, see `own_companies`."""
        self.edgar, self._read_own = edgar, own
        self._own: Mapping[str, Sequence[Company]] = {}
        self._today: Mapping[str, int] = {}
        self._pages: dict[int, _Newest] = {}

    def begin(self, fetched_at: datetime) -> None:
        """Reads the list of tickers. Raises SourceError where it cannot be had, and SettingsError for a file of
        companies that is none."""
        self._own = self._read_own()
        self.edgar.forget(fetched_at)
        self._pages.clear()
        self._today = self.edgar.tickers(fetched_at)

    def of(self, ticker: str, since: date, fetched_at: datetime) -> list[CompanyFilings]:
        """The filings of `ticker` that have a date of `since` or later, or are listed on one page with these.

        Raises SourceError, UnknownTickerError where it is no company's.
        """
        companies = companies_of(ticker, self._today, self._own)
        companies_in_reach = [company for company in companies if company.last is None or company.last >= since]
        return [self._of_company(company, since, fetched_at) for company in companies_in_reach or companies[-1:]]

    def _of_company(self, company: Company, since: date, fetched_at: datetime) -> CompanyFilings:
        newest = self._newest(company.cik, fetched_at)
        pages = [newest.filings]
        pages += [self._older(company.cik, page.name, fetched_at) for page in newest.older if page.last >= since]
        filings = filings_of(pages).filter(
            pl.col("filed").is_between(company.first or date.min, company.last or date.max)
        )
        begins = min((*newest.filings["filed"], *(page.first for page in newest.older)), default=None)
        return CompanyFilings(company, filings, begins and max(begins, company.first or begins), newest.fetched_at)

    def _newest(self, cik: int, fetched_at: datetime) -> "_Newest":
        if cik not in self._pages:
            document = self.edgar.submissions(cik, fetched_at)
            page = page_of(recent(document.content, cik), cik)
            self._pages[cik] = _Newest(page, older_pages(document.content), document.fetched_at)
        return self._pages[cik]

    def _older(self, cik: int, name: str, fetched_at: datetime) -> pl.DataFrame:
        return page_of(self.edgar.older_filings(cik, name, fetched_at).content, cik)


class _Newest(NamedTuple):
    filings: pl.DataFrame
    older: Sequence[Page]
    fetched_at: datetime


def sec_filings(settings: Settings, say: Say) -> SecFilings:
    """What the settings allow, which have a `sec_contact`. Nothing is read or asked yet."""
    if settings.sec_contact is None:
        raise SettingsError(f"{PREFIX}SEC_CONTACT is not set; expected a name and an e-mail address")
    # those that are on may be fetched at once, by processes of their own
    asking = sum(name in ASKING for name in settings.side_inputs or ()) or 1
    politeness = replace(POLITENESS, per_second=POLITENESS.per_second / asking)
    folder, budget = settings.data_dir / "staged_filings", Budget(politeness, say=say)
    edgar = Edgar(settings.sec_contact, staged=folder, budget=budget)
    companies = settings.sec_companies
    return SecFilings(edgar) if companies is None else SecFilings(edgar, lambda: own_companies(companies))
