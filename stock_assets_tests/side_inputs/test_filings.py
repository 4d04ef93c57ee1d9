"""When a filing was accepted and could be read, whichever clock EDGAR writes it in; and which company a ticker was."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import SettingsError, SourceError, UnknownTickerError
from stock_assets.market.calendar import trading_calendar
from stock_assets.side_inputs.as_of import known_session
from stock_assets.side_inputs.sources.companies import FORMER, Company, companies_of, own_companies
from stock_assets.side_inputs.sources.filings import FILINGS, filings_of, older_pages, page_of, recent
from stock_assets_tests.side_inputs.sec import filing, page, submissions

NEW_YORK = ZoneInfo("America/New_York")
CALENDAR = trading_calendar("XNYS", date(2023, 1, 3), date(2025, 12, 31))


def read(*filings: dict[str, str]) -> pl.DataFrame:
    return filings_of([page_of(page(filings), 1)])


def accepted(*filings: dict[str, str]) -> list[str]:
    """In UTC, in the order of the moments."""
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in read(*filings)["accepted"]]


def test_an_acceptance_in_utc_is_read_to_the_second() -> None:
    assert accepted(filing("8-K", "2024-01-25T21:05:07.000Z")) == ["2024-01-25 21:05:07"]


@pytest.mark.parametrize(
    ("stated", "of_utc"),
    [
        ("20250501162159", "2025-05-01 20:21:59"),  # as in the headers of filings
        ("20250115162159", "2025-01-15 21:21:59"),
        ("2025-05-01T16:21:59", "2025-05-01 20:21:59"),
        ("2025-05-01 16:21:59", "2025-05-01 20:21:59"),
        ("2025-05-01T16:21:59-04:00", "2025-05-01 20:21:59"),
        ("2025-05-01T20:21:59+00:00", "2025-05-01 20:21:59"),
    ],
)
def test_every_spelling_of_a_time(stated: str, of_utc: str) -> None:
    assert accepted(filing("8-K", stated, "2025-05-01")) == [of_utc]


def test_a_company_whose_times_are_the_clock_of_new_york_with_a_z() -> None:
    """U.S. Steel, 0001163302-25-000028: its header says 16:21:59 in New York. Hess, 0001628280-25-020816: 7:30:32
    (github.com/john-friedman/datamule-python/issues/115)."""
    assert accepted(filing("8-K", "2025-04-30T07:30:32.000Z")) == ["2025-04-30 11:30:32"], "3:30 is outside its hours"
    steel = filing("8-K", "2025-05-01T16:21:59.000Z")
    assert accepted(steel) == ["2025-05-01 16:21:59"], "12:21 in New York, or 16:21: nothing tells, so as it is written"
    early = filing("10-Q", "2025-05-02T06:45:10.000Z")
    assert accepted(steel, early) == ["2025-05-01 20:21:59", "2025-05-02 10:45:10"], "its other filings tell"


def test_the_real_times_of_a_company() -> None:
    """Tesla's, as they stood in 2022 (github.com/dgunning/edgartools at d5e8247, data/company_submission.json): the
    letter to the shareholders of 2018-10-24 came at 16:08 in New York, and the annual report at 6:10."""
    rows = read(
        filing("4", "2019-04-02T21:59:00.000Z"),
        filing("10-K", "2019-02-19T06:10:16.000Z"),
        filing("8-K", "2019-01-30T16:17:55.000Z"),
        filing("8-K", "2018-10-24T16:27:39.000Z"),
    )
    local = rows["accepted"].dt.convert_time_zone("America/New_York").dt.to_string("%Y-%m-%d %H:%M:%S")
    assert local.to_list() == [
        "2018-10-24 16:27:39",
        "2019-01-30 16:17:55",
        "2019-02-19 06:10:16",
        "2019-04-02 21:59:00",
    ]


def test_the_date_tells_the_clocks_apart() -> None:
    """After 17:30 a report has the date of the next working day, before it that of its own."""
    assert accepted(filing("8-K", "2024-02-01T21:05:00.000Z", "2024-02-01")) == ["2024-02-01 21:05:00"]
    assert accepted(filing("8-K", "2024-02-01T18:12:36.000Z", "2024-02-02")) == ["2024-02-01 23:12:36"]
    assert accepted(filing("8-K", "2024-02-02T02:30:00.000Z", "2024-02-02")) == ["2024-02-02 02:30:00"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([day for day in CALENDAR.sessions if day.month in (1, 3, 7, 11)]),
            st.times(time(6), time(21, 59, 59)),
            st.sampled_from(["8-K", "10-Q", "4"]),
        ),
        min_size=3,
        max_size=12,
        unique_by=lambda filing: filing[:2],
    ),
    st.booleans(),
)
def test_either_clock_of_a_company_gives_the_same_moments(filings: list[tuple[date, time, str]], in_utc: bool) -> None:
    """With one filing among them that only one clock can have."""
    evening = (date(2024, 3, 5), time(7), "8-K") if not in_utc else (date(2024, 3, 5), time(21), "4")
    stated, moments = [], []
    for day, clock, form in [*filings, *[evening] * (len(filings) + 1)]:
        moment = datetime.combine(day, clock.replace(microsecond=len(stated)), NEW_YORK)
        late = form != "4" and clock > time(17, 30)
        filed = next(session for session in CALENDAR.sessions if session > day) if late else day
        shown = moment.astimezone(UTC) if in_utc else moment
        stated.append(
            filing(form, f"{shown:%Y-%m-%dT%H:%M:%S}.000Z", filed.isoformat(), accessionNumber=f"{len(stated):020d}")
        )
        moments.append(moment.astimezone(UTC).replace(microsecond=0))
    rows = read(*stated).sort("accession")
    assert rows["accepted"].to_list() == moments


def test_a_filing_is_read_from_its_acceptance_on_and_one_of_the_evening_from_the_next_morning() -> None:
    rows = read(
        filing("8-K", "2024-01-25T21:05:07.000Z"),
        filing("10-Q", "2024-02-01T23:12:36.000Z", "2024-02-02"),
        filing("8-K", "2024-10-11T22:00:00.000Z", "2024-10-15"),  # the SEC rests on Columbus Day, the exchange does not
    )
    assert rows["known_at"].to_list() == [
        datetime(2024, 1, 25, 21, 5, 7, tzinfo=UTC),
        datetime(2024, 2, 2, 11, tzinfo=UTC),
        datetime(2024, 10, 15, 10, tzinfo=UTC),
    ]
    sessions = known_session(rows["known_at"], CALENDAR).to_list()
    assert sessions == [date(2024, 1, 26), date(2024, 2, 2), date(2024, 10, 15)]


def test_a_filing_without_a_time_is_known_at_the_end_of_its_day() -> None:
    rows = read(filing("8-K", "", "2024-01-25"))
    assert rows["accepted"].to_list() == [None]
    assert rows["known_at"].to_list() == [datetime(2024, 1, 26, 5, tzinfo=UTC)]
    assert known_session(rows["known_at"], CALENDAR).to_list() == [date(2024, 1, 26)]


def test_pages_are_one_list_and_a_filing_on_two_of_them_is_one() -> None:
    first, second = filing("8-K", "2024-01-25T21:05:07.000Z"), filing("8-K", "2023-01-25T21:05:07.000Z")
    rows = filings_of([page_of(page([first]), 1), page_of(page([first, second]), 1)])
    assert rows.schema == FILINGS
    assert rows["filed"].to_list() == [date(2023, 1, 25), date(2024, 1, 25)]
    assert filings_of([page_of(page([]), 1)]).is_empty()


BAD_PAGES: Sequence[tuple[object, str]] = [
    ({}, "lacks accessionNumber, form"),
    ([], "lacks accessionNumber"),
    ({**page([filing("8-K", "20240125160507")]), "form": []}, "is no table"),
    ({**page([filing("8-K", "20240125160507")]), "form": [{"a": 1}]}, "is no table"),
    ({**page([filing("8-K", "20240125160507")]), "filingDate": ["yesterday"]}, "found a filing .* a date such as"),
    ({**page([filing("8-K", "20240125160507")]), "accessionNumber": [None]}, "found a filing"),
]


@pytest.mark.parametrize(("content", "said"), BAD_PAGES, ids=[said[:20] for _, said in BAD_PAGES])
def test_a_page_that_is_none_names_the_company(content: object, said: str) -> None:
    with pytest.raises(SourceError, match=rf"EDGAR, CIK 7: .*{said}"):
        page_of(content, 7)  # pyright: ignore[reportArgumentType]: what EDGAR may send


def test_an_answer_of_another_company_is_refused() -> None:
    with pytest.raises(SourceError, match="found the filings of CIK 0000000008, expected its own"):
        recent(submissions(8, []), 7)
    with pytest.raises(SourceError, match="an answer without filings"):
        recent({"cik": "7"}, 7)
    with pytest.raises(SourceError, match="pages of older filings"):
        older_pages({"cik": "7", "filings": {"files": [{"name": "x"}]}})


@pytest.mark.parametrize(("ticker", "listed"), [("BRK.B", "BRK-B"), ("BRK/B", "BRK-B"), ("brk-b", "BRK-B")])
def test_spellings_of_a_class_of_shares(ticker: str, listed: str) -> None:
    assert companies_of(ticker, {listed: 1067983}) == (Company(1067983),)


def test_a_ticker_that_was_renamed_is_found_under_its_newest_name() -> None:
    assert companies_of("FB", {"META": 1326801}) == (Company(1326801),)
    assert companies_of("CBS", {"PARA": 813828}) == (Company(813828),)


def test_a_ticker_that_is_in_no_list_says_what_to_do() -> None:
    with pytest.raises(UnknownTickerError, match="no company with the ticker XYZ today; a line of STOCK_"):
        companies_of("XYZ", {"AAPL": 1})


def test_the_stretches_of_a_ticker_do_not_overlap() -> None:
    for ticker in FORMER:
        companies = companies_of(ticker, {ticker: 999})
        assert companies[0].first is None
        assert companies[-1] == Company(999, companies[-1].first)
        for one, other in pairwise(companies):
            assert one.last is not None
            assert one.last + timedelta(days=1) == other.first


def test_a_file_of_companies(tmp_path: Path) -> None:
    path = tmp_path / "companies.csv"
    path.write_text("ticker,cik,first,last\nNEW,2,2020-01-02,\nNEW,1,,2020-01-01\nbrk.b,3,,\n")
    companies = own_companies(path)
    assert companies["NEW"] == [Company(1, None, date(2020, 1, 1)), Company(2, date(2020, 1, 2))]
    assert companies_of("BRK.B", {}, companies) == (Company(3),)
    assert companies_of("NEW", {"NEW": 9}, companies) == tuple(companies["NEW"]), "it comes before the SEC's list"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ticker\nA\n", "lacks the column cik; found ticker, expected ticker, cik, first, last"),
        ("ticker,cik\nA,one\n", "line 2: found ('A', 'one'), expected a ticker, a whole number"),
        ("ticker,cik\n,1\n", "line 2: found (None, '1')"),
        ("ticker,cik,first,last\nA,1,2020-13-01,\n", "line 2: found ('A', '1', '2020-13-01', None)"),
        ("ticker,cik,first,last\nA,1,2020-02-01,2020-01-01\n", "a first day that is not after the last"),
        ("ticker,cik\nA,-4\n", "expected a cik above 0"),
        ("", "cannot be read"),
    ],
)
def test_a_file_of_companies_that_is_none(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "companies.csv"
    path.write_text(content)
    with pytest.raises(SettingsError, match=rf"STOCK_ASSETS_SEC_COMPANIES={re.escape(str(path))}.*{re.escape(said)}"):
        own_companies(path)
