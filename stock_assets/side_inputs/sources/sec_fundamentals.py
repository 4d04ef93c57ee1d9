"""Figures of companies' reports from EDGAR, each known from the second at which its filing could be read.

EDGAR's facts of a company list every figure of every filing, most of them many times: a report states the figures of
the year before once more. A row is a figure as it was first filed, or a later filing that changed it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any, ClassVar

import polars as pl

from stock_assets.errors import SourceError, UnknownTickerError
from stock_assets.escape import shortened
from stock_assets.market.sources.answers import check_request
from stock_assets.market.sources.asking import of_each
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.concepts import CONCEPTS, Concept
from stock_assets.side_inputs.sources.filings import NEW_YORK
from stock_assets.side_inputs.sources.sec_filings import LOOK_AGAIN, CompanyFilings, SecFilings
from stock_assets.side_inputs.tables import FUNDAMENTALS
from stock_assets.tables import UTC_TIME

#: Forms with figures that make a company's facts worth asking for.
REPORTS = ("10-K", "10-Q", "10-KT", "10-QT", "20-F", "40-F")
#: Facts begin with the first reports in XBRL; older filings have nothing to join.
_FIRST_FACTS = date(2009, 1, 1)

#: The columns of FUNDAMENTALS without session, which follows from known_at.
ROWS = pl.Schema({name: dtype for name, dtype in FUNDAMENTALS.schema.items() if name != "session"})
_TAGGED = pl.Schema({**ROWS, "tag": pl.Int64})
_FACTS = pl.Schema(
    {
        "concept": pl.String,
        "tag": pl.Int64,
        "period_start": pl.Date,
        "period_end": pl.Date,
        "value": pl.Float64,
        "unit": pl.String,
        "form": pl.String,
        "filing": pl.String,
        "filed": pl.Date,
    }
)


class SecFundamentals:
    """The figures of `concepts.CONCEPTS` in companies' reports."""

    name: ClassVar[str] = "sec"

    def __init__(
        self,
        filings: SecFilings,
        *,
        stored_tickers: Collection[str] | None = None,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    ) -> None:
        """`stored_tickers` are the tickers of which the store has figures: of others they are asked for at once."""
        self.filings, self.stored_tickers, self.on_progress = filings, stored_tickers, on_progress

    def with_stored(self, rows: pl.DataFrame) -> "SecFundamentals":
        """The same source, which knows the rows of `fundamentals` in the store."""
        return SecFundamentals(self.filings, stored_tickers=frozenset(rows["subject"]), on_progress=self.on_progress)

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """All figures, back to 2009, of every ticker of `subjects` that filed a report since shortly before `first` or
        that the store lacks; no rows of the others. As `SideSource.fetch`."""
        check_request(first, last, fetched_at)
        self.filings.begin(fetched_at)

        def work(ticker: str) -> pl.DataFrame:
            since = first - LOOK_AGAIN
            companies = self.filings.of(ticker, since, fetched_at)
            new = self.stored_tickers is not None and ticker not in self.stored_tickers
            if not new and not any(_reports(company, since) for company in companies):
                return ROWS.to_frame()
            companies = self.filings.of(ticker, _FIRST_FACTS, fetched_at)
            return versions(pl.concat([_TAGGED.to_frame(), *(self._rows(ticker, company) for company in companies)]))

        budget = self.filings.edgar.budget
        answers, failures = of_each(subjects, work, budget=budget, on_progress=self.on_progress)
        rows = pl.concat([ROWS.to_frame(), *answers.values()])
        return SideAnswer(rows.filter(pl.col("known_at") <= pl.col("fetched_at")), failures)

    def _rows(self, ticker: str, of_company: CompanyFilings) -> pl.DataFrame:
        cik = of_company.company.cik
        try:
            document = self.filings.edgar.facts(cik, of_company.fetched_at)
        except UnknownTickerError:  # it filed no report in XBRL
            return _TAGGED.to_frame()
        facts = facts_of(document.content, cik)
        company = of_company.company
        within = facts.filter(pl.col("filed").is_between(company.first or date.min, company.last or date.max))
        return rows_of(ticker, within, of_company.filings, source=self.name, fetched_at=document.fetched_at)


def _reports(company: CompanyFilings, since: date) -> bool:
    form = pl.col("form").str.strip_suffix("/A")
    return not company.filings.filter(form.is_in(REPORTS), pl.col("filed") >= since).is_empty()


def facts_of(document: Mapping[str, Any], cik: int, concepts: Mapping[str, Concept] = CONCEPTS) -> pl.DataFrame:
    """The figures of `concepts` in a company's facts (concept, tag, period_start, period_end, value, unit, form,
    filing, filed), as listed. Raises SourceError where the facts are of another company or a figure is none."""
    try:
        if int(document["cik"]) != cik:
            raise SourceError(f"EDGAR, CIK {cik}: found the facts of CIK {document['cik']}, expected its own")
        taxonomies = document["facts"]
        rows = [
            (name, place, *figure)
            for name, concept in concepts.items()
            for place, tag in enumerate(concept.tags)
            for figure in _listed(taxonomies, tag, concept.unit)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"EDGAR, CIK {cik}: the facts hold something else ({shortened(repr(error), 120)}), expected end, val, "
            "accn, form and filed of each figure"
        ) from error
    return pl.DataFrame(rows, schema=_FACTS, orient="row")


def _listed(taxonomies: Mapping[str, Any], tag: str, unit: str) -> Iterable[tuple[Any, ...]]:
    """The columns of `_FACTS` from period_start on."""
    taxonomy, _, tag_name = tag.partition(":")
    for entry in taxonomies.get(taxonomy, {}).get(tag_name, {}).get("units", {}).get(unit, []):
        start, end, value = entry.get("start"), date.fromisoformat(entry["end"]), float(entry["val"])
        if not isfinite(value):
            raise ValueError(f"{tag} of {end} is {value}")
        begin = None if start is None else date.fromisoformat(start)
        filing_day = date.fromisoformat(entry["filed"])
        yield begin, end, value, unit, str(entry["form"]), str(entry["accn"]), filing_day


def rows_of(
    ticker: str, facts: pl.DataFrame, filings: pl.DataFrame, *, source: str, fetched_at: datetime
) -> pl.DataFrame:
    """`facts` (of `facts_of`) as rows of FUNDAMENTALS with their tag, each known when its filing was (`FILINGS`).

    Of a figure the first tag that a filing has counts; one of a period that ends after its filing is a slip of the
    filer and left out. A filing that EDGAR lists no time of is known at the end of its day in New York.
    """
    facts = facts.filter(pl.col("period_end") <= pl.col("filed"))
    of_filing, of_period = ["concept", "filing"], ["concept", "filing", "period_start", "period_end"]
    tag, end = pl.col("tag"), pl.col("period_end")
    newest = pl.col("concept").is_in([name for name, concept in CONCEPTS.items() if concept.newest_only])
    usable_facts = facts.filter(
        tag == pl.when(newest).then(tag.min().over(of_filing)).otherwise(tag.min().over(of_period))
    )
    usable_facts = usable_facts.filter(~newest | (end == end.max().over(of_filing)))
    # of two figures of one period in one filing the more exact one
    zeros = pl.col("value").cast(pl.Int128).cast(pl.String).str.extract(r"(0*)$").str.len_chars()
    distinct = usable_facts.sort(*of_period, zeros, "value").unique(of_period, keep="first", maintain_order=True)
    day_end = (pl.col("filed").cast(pl.Datetime("us")) + pl.duration(days=1)).dt.replace_time_zone(NEW_YORK)
    return (
        distinct.join(filings.select("known_at", filing="accession"), on="filing", how="left", maintain_order="left")
        .with_columns(
            subject=pl.lit(ticker),
            source=pl.lit(source),
            fetched_at=pl.lit(fetched_at.astimezone(UTC)).cast(UTC_TIME),
            event_time=pl.col("period_end").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            known_at=pl.coalesce("known_at", day_end.dt.convert_time_zone("UTC").cast(UTC_TIME)),
        )
        .select(_TAGGED.names())
        .match_to_schema(_TAGGED)
    )


def versions(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` (of `rows_of`) as `ROWS`: every figure as first filed, and as it was changed.

    A filing that says once more what stands already is no version. Nor is one that has the figure under a tag that
    counts less: equity with the shares of others in it, of a date whose equity is known without.
    """
    period = ["subject", "concept", "period_start", "period_end"]
    rows_in_order = rows.sort("known_at", "filing", maintain_order=True)
    rows_of_best_tag = rows_in_order.filter(pl.col("tag") == pl.col("tag").cum_min().over(period))
    before = pl.col("value").shift().over(period)
    is_same = (pl.col("value") - before).abs() <= 1e-9 * before.abs()
    return rows_of_best_tag.filter(~is_same.fill_null(value=False)).select(ROWS.names())
