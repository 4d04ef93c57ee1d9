"""Past announcements of earnings: 8-Ks with item 2.02, Results of Operations and Financial Condition."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import ClassVar

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.sources.answers import check_request, some
from stock_assets.market.sources.asking import of_each
from stock_assets.settings import PREFIX
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.announcing import ROWS, announcement_rows, day_and_moment, event_time
from stock_assets.side_inputs.sources.sec_filings import LOOK_AGAIN, SecFilings

#: The item since the forms were numbered anew on 2004-08-23, and the one before.
_ITEM, _OLD_ITEM, _RENUMBERED = "2.02", "12", date(2004, 8, 23)
#: An amendment so many days after an announcement is about that one, whatever day it reports.
_AMENDS_DAYS = 10
#: What is asked for of a ticker that joins: the size of its past reactions, and the dates of a year before.
HISTORY = timedelta(days=2 * 366)


class SecAnnouncements:
    """When companies announced their earnings, to the second at which EDGAR accepted the 8-K."""

    name: ClassVar[str] = "sec"

    def __init__(
        self,
        filings: SecFilings,
        calendar: TradingCalendar,
        *,
        stored_tickers: Collection[str] | None = None,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    ) -> None:
        """`stored_tickers` are the tickers of which the store has announcements: of others a history is asked for."""
        self.filings, self.calendar, self.stored_tickers, self.on_progress = (
            filings,
            calendar,
            stored_tickers,
            on_progress,
        )

    def with_stored(self, rows: pl.DataFrame) -> "SecAnnouncements":
        """The same source, which knows the rows of `announcements` in the store."""
        own = rows.filter(pl.col("source") == self.name)["subject"]
        return SecAnnouncements(
            self.filings, self.calendar, stored_tickers=frozenset(own), on_progress=self.on_progress
        )

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """The announcements of every ticker of `subjects` since shortly before `first`, and of one that the store lacks
        those of the last HISTORY; as `SideSource.fetch`."""
        check_request(first, last, fetched_at)
        self.filings.begin(fetched_at)

        first_filing_days: dict[str, date] = {}

        def work(ticker: str) -> pl.DataFrame:
            new = self.stored_tickers is not None and ticker not in self.stored_tickers
            since = min(first - LOOK_AGAIN, last - HISTORY) if new else first - LOOK_AGAIN
            companies = self.filings.of(ticker, since, fetched_at)
            begins = min((company.begins for company in companies if company.begins), default=None)
            if begins is not None and begins > since + HISTORY:
                first_filing_days[ticker] = begins
            filings_with_item = announcements(pl.concat([company.filings for company in companies]))
            rows = rows_of(
                filings_with_item,
                self.calendar,
                ticker=ticker,
                source=self.name,
                fetched_at=min(company.fetched_at for company in companies),
            )
            return rows.filter(pl.col("day") >= since, pl.col("known_at") <= pl.col("fetched_at"))

        budget = self.filings.edgar.budget
        answers, failures = of_each(subjects, work, budget=budget, on_progress=self.on_progress)
        return SideAnswer(pl.concat([ROWS.to_frame(), *answers.values()]), failures, notes=_notes(first_filing_days))


def _notes(first_filing_days: Mapping[str, date]) -> list[str]:
    """Tickers whose company files since long after the beginning of the range: a new one, or a new number of an old
    one."""
    if not first_filing_days:
        return []
    company_names = some([f"{ticker} (since {begins})" for ticker, begins in sorted(first_filing_days.items())], 20)
    return [
        f"EDGAR has no filings of the first years of {company_names}; where a company had another number before, "
        f"{PREFIX}SEC_COMPANIES names it"
    ]


def announcements(filings: pl.DataFrame) -> pl.DataFrame:
    """Those of `filings` (`FILINGS`) that announce earnings, by known_at.

    An amendment (8-K/A) announces nothing: it is about the announcement of the same day, or of the days before. One
    that amends no announcement is one, as where the first form left the item out.
    """
    items = pl.col("items").str.split(",").list.eval(pl.element().str.strip_chars())
    has_item = items.list.contains(_ITEM) | (items.list.contains(_OLD_ITEM) & (pl.col("filed") < _RENUMBERED))
    filings_with_item = filings.filter(pl.col("form").is_in(["8-K", "8-K/A"]), has_item).unique(
        "accession", keep="first"
    )
    filings_in_order = filings_with_item.sort("known_at", "accession").with_row_index("place")
    of_one_day = pl.col("report").is_not_null() & (pl.col("place") > pl.col("place").min().over("report"))
    soon_after = (pl.col("filed") - pl.col("filed").shift()).dt.total_days() <= _AMENDS_DAYS
    amends = (pl.col("form") == "8-K/A") & (of_one_day | soon_after.fill_null(value=False))
    return filings_in_order.filter(~amends).drop("place")


def rows_of(
    filings: pl.DataFrame, calendar: TradingCalendar, *, ticker: str, source: str, fetched_at: datetime
) -> pl.DataFrame:
    """`filings` (`FILINGS`) as rows of `announcements` (`announcing.ROWS`), by known_at.

    Of several with one reaction session the first counts: the others add to it. The day of a filing without a time is
    its date, the moment unknown, and known_at the end of that day is `assumed`.
    """
    without = pl.col("accepted").is_null()
    of_accepted = day_and_moment(filings["accepted"], calendar)
    dates = filings.select("known_at", "accepted", "filed", ticker=pl.lit(ticker), assumed=without).with_columns(
        day=pl.when(without).then("filed").otherwise(of_accepted["day"]),
        moment=pl.when(without).then(pl.lit("unknown")).otherwise(of_accepted["moment"]),
    )
    noon = event_time(dates["day"], dates["moment"], calendar)
    dates = dates.with_columns(event_time=pl.coalesce("accepted", noon)).drop("accepted", "filed")
    rows = announcement_rows(dates, calendar, origin="filed", source=source, fetched_at=fetched_at)
    first = pl.col("reaction_session").is_null() | pl.col("reaction_session").is_first_distinct()
    return rows.sort("known_at", "event_time").filter(first)
