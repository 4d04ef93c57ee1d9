"""Figures of reports: when they were known, as filed and as restated, by several tags, of one company after another."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from stock_assets.errors import SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.settings import read_settings
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.as_of import rows_by, with_session
from stock_assets.side_inputs.registry import side_input
from stock_assets.side_inputs.sources.companies import Company
from stock_assets.side_inputs.sources.sec_fundamentals import ROWS, SecFundamentals, facts_of
from stock_assets_tests.side_inputs import sec
from stock_assets_tests.side_inputs.sec import (
    FETCHED,
    Sec,
    facts,
    facts_path,
    figure,
    filing,
    filings_from,
    submissions,
    submissions_path,
)

CALENDAR = trading_calendar("XNYS", date(2023, 1, 3), date(2024, 12, 31))
REPORT, AMENDED, NEXT = "0000000001-24-000001", "0000000001-24-000002", "0000000001-24-000003"
FILINGS = [
    filing("4", "2024-02-02T02:00:00.000Z", "2024-02-01"),
    filing("10-K", "2024-02-15T21:31:05.000Z", accessionNumber=REPORT),
    filing("10-K/A", "2024-04-10T12:00:00.000Z", accessionNumber=AMENDED),
    filing("10-Q", "2024-05-02T20:05:30.000Z", accessionNumber=NEXT),
]
YEAR = {"start": "2023-01-01", "end": "2023-12-31"}


def of_year(value: float, accession: str, filed: str, **others: Any) -> dict[str, Any]:
    return figure(YEAR["end"], value, accession, filed, start=YEAR["start"], **others)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sec]]:
    """Starts an EDGAR with one company: AAA, number 1, its filings and the facts given by tag."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as servers:

        def start(figures: dict[str, Any], filings: list[dict[str, str]] = FILINGS, **more: Any) -> Sec:
            documents = {
                sec.TICKERS: sec.tickers(AAA=1, BBB=2),
                submissions_path(1): submissions(1, filings),
                facts_path(1): facts(1, figures),
                **{path.replace("_", "/"): content for path, content in more.items()},
            }
            return servers.enter_context(sec.serving(Sec(documents)))

        yield start


def answered(server: Sec, *tickers: str, first: date = date(2024, 1, 2), own: Any = None) -> SideAnswer:
    source = SecFundamentals(filings_from(server, own))
    return source.fetch(tickers or ("AAA",), first, date(2024, 6, 3), fetched_at=FETCHED)


def test_a_figure_is_known_from_the_second_at_which_its_filing_was_accepted(serve: Callable[..., Sec]) -> None:
    rows = answered(serve({"us-gaap:NetIncomeLoss": [of_year(5e9, REPORT, "2024-02-15", form="10-K")]})).rows
    assert rows.schema == ROWS
    row = rows.row(0, named=True)
    assert row == {
        "subject": "AAA",
        "event_time": datetime(2023, 12, 31, tzinfo=UTC),
        "known_at": datetime(2024, 2, 15, 21, 31, 5, tzinfo=UTC),
        "fetched_at": FETCHED,
        "source": "sec",
        "concept": "net_income",
        "period_start": date(2023, 1, 1),
        "period_end": date(2023, 12, 31),
        "value": 5e9,
        "unit": "USD",
        "form": "10-K",
        "filing": REPORT,
    }
    assert with_session(rows, CALENDAR)["session"].to_list() == [date(2024, 2, 16)], "after the close of that day"


def test_a_filing_that_edgar_does_not_list_is_known_at_the_end_of_its_day(serve: Callable[..., Sec]) -> None:
    stray = of_year(5e9, "0000000009-24-000001", "2024-02-15")
    rows = answered(serve({"us-gaap:NetIncomeLoss": [stray]})).rows
    assert rows["known_at"].to_list() == [datetime(2024, 2, 16, 5, tzinfo=UTC)]


def test_a_restatement_is_a_version_and_a_repetition_is_none(serve: Callable[..., Sec]) -> None:
    figures = [
        of_year(5e9, REPORT, "2024-02-15"),
        of_year(4e9, AMENDED, "2024-04-10", form="10-K/A"),
        of_year(4e9, NEXT, "2024-05-02", frame="CY2023"),
    ]
    rows = answered(serve({"us-gaap:NetIncomeLoss": figures})).rows
    assert rows.select("value", "filing").rows() == [(5e9, REPORT), (4e9, AMENDED)]
    known = with_session(rows, CALENDAR)
    assert rows_by(known, date(2024, 4, 9))["value"].to_list() == [5e9]
    assert rows_by(known, date(2024, 4, 10))["value"].to_list() == [5e9, 4e9]
    assert rows_by(known, date(2024, 2, 15)).is_empty()


def test_a_tag_that_counts_less_restates_nothing(serve: Callable[..., Sec]) -> None:
    """Snowflake's reports state the equity of a year before with the shares of others in it alone."""
    equity = "us-gaap:StockholdersEquity"
    with_others = f"{equity}IncludingPortionAttributableToNoncontrollingInterest"
    figures = {
        equity: [figure("2023-12-31", 90.0, REPORT, "2024-02-15"), figure("2024-03-31", 95.0, NEXT, "2024-05-02")],
        with_others: [figure("2023-12-31", 99.0, NEXT, "2024-05-02"), figure("2022-12-31", 70.0, NEXT, "2024-05-02")],
    }
    rows = answered(serve(figures)).rows.sort("period_end")
    assert rows["value"].to_list() == [70.0, 90.0, 95.0]


def test_one_filing_twice_in_the_list_is_one_figure_the_more_exact_one(serve: Callable[..., Sec]) -> None:
    figures = [
        of_year(5_000_000_000, REPORT, "2024-02-15"),
        of_year(4_987_654_000, REPORT, "2024-02-15"),
        of_year(4_987_654_000, REPORT, "2024-02-15", frame="CY2023"),
    ]
    assert answered(serve({"us-gaap:NetIncomeLoss": figures})).rows["value"].to_list() == [4_987_654_000.0]


def test_the_first_tag_that_a_filing_has_counts(serve: Callable[..., Sec]) -> None:
    rows = answered(
        serve(
            {
                "us-gaap:SalesRevenueNet": [of_year(10.0, REPORT, "2024-02-15"), figure_of_quarter(3.0, NEXT)],
                "us-gaap:Revenues": [of_year(12.0, REPORT, "2024-02-15")],
                "us-gaap:SomethingElse": [of_year(99.0, REPORT, "2024-02-15")],
            }
        )
    ).rows
    assert rows.select("concept", "value").rows() == [("revenue", 12.0), ("revenue", 3.0)]


def figure_of_quarter(value: float, accession: str) -> dict[str, Any]:
    return figure("2024-03-31", value, accession, "2024-05-02", start="2024-01-01")


def test_of_shares_only_the_newest_count_of_a_filing_is_one_of_its_time(serve: Callable[..., Sec]) -> None:
    """A report after a split states the shares of the year before in new shares."""
    rows = answered(
        serve(
            {
                "us-gaap:CommonStockSharesOutstanding": [
                    figure("2022-12-31", 400.0, REPORT, "2024-02-15"),
                    figure("2023-12-31", 404.0, REPORT, "2024-02-15"),
                ],
                "dei:EntityCommonStockSharesOutstanding": [figure("2024-02-09", 405.0, REPORT, "2024-02-15")],
            }
        )
    ).rows
    assert rows.select("concept", "period_end", "value").rows() == [
        ("reported_shares", date(2023, 12, 31), 404.0),
        ("shares", date(2024, 2, 9), 405.0),
    ]


def test_a_period_that_ends_after_its_filing_is_left_out(serve: Callable[..., Sec]) -> None:
    rows = answered(
        serve(
            {
                "us-gaap:Assets": [
                    figure("2032-12-31", 1.0, REPORT, "2024-02-15"),
                    figure("2023-12-31", 2.0, REPORT, "2024-02-15"),
                ]
            }
        )
    ).rows
    assert rows["value"].to_list() == [2.0]


def test_another_currency_is_not_taken_for_dollars() -> None:
    document = facts(1, {"us-gaap:Assets": [figure("2023-12-31", 2.0, REPORT, "2024-02-15")]})
    units = document["facts"]["us-gaap"]["Assets"]["units"]
    units["EUR"] = units.pop("USD")
    assert facts_of(document, 1).is_empty()


def test_facts_are_asked_for_after_a_report_alone(serve: Callable[..., Sec]) -> None:
    figures = {"us-gaap:NetIncomeLoss": [of_year(5e9, REPORT, "2024-02-15")]}
    quiet = serve(figures, [*FILINGS[:3], filing("8-K", "2024-05-30T20:05:00.000Z")])
    assert answered(quiet, first=date(2024, 5, 28)).rows.is_empty()
    assert quiet.asked[facts_path(1)] == 0
    busy = serve(figures)
    assert answered(busy, first=date(2024, 5, 3)).rows.height == 1, "all that it filed, also long before"
    assert busy.asked[facts_path(1)] == 1
    assert busy.asked[submissions_path(1)] == 1


def test_a_ticker_that_joins_brings_its_history(serve: Callable[..., Sec]) -> None:
    server = serve({"us-gaap:NetIncomeLoss": [of_year(5e9, REPORT, "2024-02-15")]}, FILINGS[:3])
    source = SecFundamentals(filings_from(server))
    for stored, height in ((["AAA"], 0), (["BBB"], 1)):
        asking = source.with_stored(pl.DataFrame({"subject": stored}))
        answer = asking.fetch(["AAA"], date(2024, 5, 28), date(2024, 6, 3), fetched_at=FETCHED)
        assert answer.rows.height == height


def test_a_company_without_facts_has_no_rows_and_is_no_failure(serve: Callable[..., Sec]) -> None:
    server = serve({})
    server.documents = {path: content for path, content in server.documents.items() if path != facts_path(1)}
    answer = answered(server)
    assert answer.rows.is_empty()
    assert answer.failures == {}


def test_one_company_fails_alone(serve: Callable[..., Sec]) -> None:
    figures = {"us-gaap:NetIncomeLoss": [of_year(5e9, REPORT, "2024-02-15")]}
    server = serve(figures)
    server.documents = {**server.documents, submissions_path(2): submissions(2, FILINGS), facts_path(2): sec.HTML}
    answer = answered(server, "AAA", "BBB", "ETF")
    assert answer.rows["subject"].to_list() == ["AAA"]
    assert {ticker: failure.unknown for ticker, failure in answer.failures.items()} == {"BBB": False, "ETF": True}
    assert "EDGAR, facts of CIK 2: no JSON but 'SEC.gov is down" in answer.failures["BBB"].reason


def test_both_companies_of_a_ticker_are_one_history(serve: Callable[..., Sec]) -> None:
    """The new holding company states the old figures again, and the old one goes on filing for its bonds."""
    old, new = "0000000002-24-000001", "0000000001-24-000003"
    server = serve({"us-gaap:NetIncomeLoss": [of_year(5.0, new, "2024-05-02"), figure_of_quarter(2.0, new)]})
    of_old = [of_year(5.0, old, "2024-02-15"), figure_of_quarter(9.0, "0000000002-24-000002")]
    server.documents = {
        **server.documents,
        submissions_path(2): submissions(
            2, [FILINGS[0], filing("10-K", "2024-02-15T21:31:05.000Z", accessionNumber=old)]
        ),
        facts_path(2): facts(2, {"us-gaap:NetIncomeLoss": of_old}),
    }
    own = {"AAA": [Company(2, None, date(2024, 3, 31)), Company(1, date(2024, 4, 1))]}
    rows = answered(server, own=own).rows
    assert rows.select("value", "filing").rows() == [(5.0, old), (2.0, new)]


BAD_FACTS: list[tuple[Any, str]] = [
    ({"cik": 8, "facts": {}}, "found the facts of CIK 8, expected its own"),
    ({"cik": 7}, "the facts hold something else"),
    ({"cik": 7, "facts": []}, "the facts hold something else"),
    (facts(7, {"us-gaap:Assets": [{"end": "2023-12-31", "val": 1.0}]}), "the facts hold something else .*form"),
    (facts(7, {"us-gaap:Assets": [figure("soon", 1.0, REPORT, "2024-02-15")]}), "Invalid isoformat string: 'soon'"),
    (facts(7, {"us-gaap:Assets": [figure("2023-12-31", float("inf"), REPORT, "2024-02-15")]}), "Assets .* is inf"),
    (
        facts(7, {"us-gaap:Assets": [{**figure("2023-12-31", 0, REPORT, "2024-02-15"), "val": "x"}]}),
        "could not convert",
    ),
]


@pytest.mark.parametrize(("document", "said"), BAD_FACTS, ids=[said[:25] for _, said in BAD_FACTS])
def test_facts_that_are_none_name_the_company(document: Any, said: str) -> None:
    with pytest.raises(SourceError, match=rf"EDGAR, CIK 7: .*{said}"):
        facts_of(document, 7)


def test_the_real_shape() -> None:
    """Tesla's, as it stood in 2022 (github.com/dgunning/edgartools at d5e8247, data/company_facts.json): a report and
    its amendment state one count of shares, and only the last one has a frame."""
    entry = {"end": "2020-02-07", "val": 181341586, "fy": 2019, "fp": "FY"}
    shares = [
        {**entry, "accn": "0001564590-20-004475", "form": "10-K", "filed": "2020-02-13"},
        {**entry, "accn": "0001564590-20-018984", "form": "10-K/A", "filed": "2020-04-28", "frame": "CY2019Q4I"},
    ]
    units = {"label": "Entity Common Stock, Shares Outstanding", "description": "…", "units": {"shares": shares}}
    document = {"cik": 1318605, "facts": {"dei": {"EntityCommonStockSharesOutstanding": units}}}
    read = facts_of(document, 1318605).select("concept", "period_start", "period_end", "value", "form")
    assert read.rows() == [
        ("shares", None, date(2020, 2, 7), 181341586.0, "10-K"),
        ("shares", None, date(2020, 2, 7), 181341586.0, "10-K/A"),
    ]


def test_the_settings_say_whether_the_sec_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", str(tmp_path))
    entry = side_input("fundamentals")
    simulated = read_settings(sec_contact=sec.CONTACT, source="simulated")
    assert entry.sources(simulated, lambda _: None) == []
    assert "simulated market file nothing" in (entry.missing(simulated) or "")
    monkeypatch.setenv("STOCK_ASSETS_SOURCE", "yahoo")
    silent = read_settings()
    assert entry.sources(silent, lambda _: None) == []
    assert "STOCK_ASSETS_SEC_CONTACT is not set" in (entry.missing(silent) or "")
    monkeypatch.setenv("STOCK_ASSETS_SEC_CONTACT", sec.CONTACT)
    (source,) = entry.sources(read_settings(), lambda _: None)
    assert isinstance(source, SecFundamentals)
    assert source.filings.edgar.contact == sec.CONTACT
    assert source.filings.edgar.budget.politeness.per_second == 8.0
    (one_of_two,) = entry.sources(read_settings(side_inputs="announcements,fundamentals,macro"), lambda _: None)
    assert isinstance(one_of_two, SecFundamentals)
    assert one_of_two.filings.edgar.budget.politeness.per_second == 4.0, "both may ask at once"
    assert entry.missing(read_settings()) is None


def test_nothing_is_known_later_than_it_was_fetched(serve: Callable[..., Sec]) -> None:
    late = filing("10-Q", "2024-06-03T22:30:00.000Z", "2024-06-04", accessionNumber=NEXT)
    rows = answered(serve({"us-gaap:NetIncomeLoss": [of_year(5.0, NEXT, "2024-06-04")]}, [FILINGS[0], late])).rows
    assert rows.filter(pl.col("known_at") > FETCHED).is_empty()
    assert rows.is_empty(), "it is published at 6:00 the next morning"
