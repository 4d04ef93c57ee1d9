"""Announcements of earnings from 8-Ks: when on their day, amendments, two in a quarter, and a company that changes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import SettingsError, SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.settings import read_settings
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.announcing import ROWS, with_replays
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.materialize import fetch_side_input, side_inputs_as_of
from stock_assets.side_inputs.registry import side_input
from stock_assets.side_inputs.schedule import schedule_of
from stock_assets.side_inputs.sources import sec_filings as sec_filings_module
from stock_assets.side_inputs.sources.companies import Company
from stock_assets.side_inputs.sources.filings import filings_of, page_of
from stock_assets.side_inputs.sources.sec_announcements import SecAnnouncements, announcements, rows_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.side_inputs import sec
from stock_assets_tests.side_inputs.sec import FETCHED, Sec, filing, filings_from, submissions, submissions_path
from stock_assets_tests.tables import rows_of as stored_rows

CALENDAR = trading_calendar("XNYS", date(2023, 1, 3), date(2025, 12, 31))
FIRST, LAST = date(2024, 1, 2), date(2024, 6, 3)


def rows(*filings: dict[str, str], fetched_at: datetime = FETCHED) -> pl.DataFrame:
    """The announcements of AAA in `filings`."""
    announced = announcements(filings_of([page_of(sec.page(filings), 1)]))
    return rows_of(announced, CALENDAR, ticker="AAA", source="sec", fetched_at=fetched_at)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sec]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as servers:
        yield lambda documents: servers.enter_context(sec.serving(Sec(documents)))


def fetched(server: Sec, *tickers: str, first: date = FIRST, own: Any = None, **options: Any) -> SideAnswer:
    source = SecAnnouncements(filings_from(server, own, **options), CALENDAR)
    return source.fetch(tickers, first, LAST, fetched_at=FETCHED)


#: acceptance in UTC, date of the filing, day, moment, reaction session
MOMENTS: Sequence[tuple[str, str, str, str, str]] = [
    ("2024-01-25T14:29:59.000Z", "2024-01-25", "2024-01-25", "pre", "2024-01-25"),  # it opens at 9:30 in New York
    ("2024-01-25T14:30:00.000Z", "2024-01-25", "2024-01-25", "during", "2024-01-25"),
    ("2024-01-25T20:59:59.000Z", "2024-01-25", "2024-01-25", "during", "2024-01-25"),
    ("2024-01-25T21:00:00.000Z", "2024-01-25", "2024-01-25", "post", "2024-01-26"),
    ("2024-01-26T02:59:59.000Z", "2024-01-26", "2024-01-25", "post", "2024-01-26"),  # another day in UTC
    ("2024-01-27T02:30:00.000Z", "2024-01-29", "2024-01-26", "post", "2024-01-29"),  # a Friday evening
    ("2024-07-25T19:59:59.000Z", "2024-07-25", "2024-07-25", "during", "2024-07-25"),  # summer time
    ("2024-07-25T20:00:00.000Z", "2024-07-25", "2024-07-25", "post", "2024-07-26"),
    ("2024-07-03T16:59:59.000Z", "2024-07-03", "2024-07-03", "during", "2024-07-03"),  # it closes at 13:00
    ("2024-07-03T17:00:00.000Z", "2024-07-03", "2024-07-03", "post", "2024-07-05"),
    ("2024-11-29T18:30:00.000Z", "2024-11-29", "2024-11-29", "post", "2024-12-02"),  # the day after Thanksgiving
    ("2024-03-08T20:59:59.000Z", "2024-03-08", "2024-03-08", "during", "2024-03-08"),  # the last session before
    ("2024-03-11T19:59:59.000Z", "2024-03-11", "2024-03-11", "during", "2024-03-11"),  # the first after the clocks
    ("2024-03-11T20:00:00.000Z", "2024-03-11", "2024-03-11", "post", "2024-03-12"),
    ("2024-11-01T20:00:00.000Z", "2024-11-01", "2024-11-01", "post", "2024-11-04"),
    ("2024-11-04T20:30:00.000Z", "2024-11-04", "2024-11-04", "during", "2024-11-04"),
]


@pytest.mark.parametrize(("stated", "filed", "day", "moment", "reaction"), MOMENTS, ids=[row[0] for row in MOMENTS])
def test_when_on_its_day(stated: str, filed: str, day: str, moment: str, reaction: str) -> None:
    # a report of an evening says that the times of this company are in UTC
    evening = filing("4", "2024-02-02T02:00:00.000Z", "2024-02-01")
    row = rows(filing("8-K", stated, filed), evening).row(0, named=True)
    assert row["event_time"] == datetime.fromisoformat(stated)
    assert (str(row["day"]), row["moment"], str(row["reaction_session"])) == (day, moment, reaction)
    assert (row["origin"], row["source"], row["assumed"], row["withdrawn"]) == ("filed", "sec", False, False)


def test_the_same_announcement_in_the_clock_of_new_york() -> None:
    morning = filing("10-Q", "2024-02-02T06:20:00.000Z")
    row = rows(filing("8-K", "2024-01-25T16:05:07.000Z"), morning).row(0, named=True)
    assert row["event_time"] == datetime(2024, 1, 25, 21, 5, 7, tzinfo=UTC)
    assert (row["moment"], row["reaction_session"]) == ("post", date(2024, 1, 26))


def test_an_announcement_is_no_earlier_known_than_it_could_be_read() -> None:
    known = with_session(rows(filing("8-K", "2024-01-25T23:40:00.000Z", "2024-01-26")), CALENDAR).row(0, named=True)
    assert known["event_time"] == datetime(2024, 1, 25, 23, 40, tzinfo=UTC)
    assert known["known_at"] == datetime(2024, 1, 26, 11, tzinfo=UTC)
    assert known["session"] == date(2024, 1, 26)


def test_without_a_time_the_moment_is_unknown() -> None:
    row = rows(filing("8-K", "", "2024-01-25")).row(0, named=True)
    assert (row["day"], row["moment"], row["assumed"]) == (date(2024, 1, 25), "unknown", True)
    assert row["event_time"] == datetime(2024, 1, 25, 17, tzinfo=UTC), "noon in New York"
    assert row["known_at"] == datetime(2024, 1, 26, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("form", "items", "filed", "announces"),
    [
        ("8-K", "2.02", "2024-01-25", True),
        ("8-K", "7.01, 2.02 ,9.01", "2024-01-25", True),
        ("8-K", "7.01,9.01", "2024-01-25", False),
        ("8-K", "12.02", "2024-01-25", False),
        ("8-K", "", "2024-01-25", False),
        ("10-Q", "2.02", "2024-01-25", False),
        ("8-K", "12", "2004-04-20", True),  # as the item was called until August 2004
        ("8-K", "12", "2024-01-25", False),
    ],
)
def test_which_forms_announce(form: str, items: str, filed: str, *, announces: bool) -> None:
    listed = filings_of([page_of(sec.page([filing(form, f"{filed}T21:05:00.000Z", filed, items=items)]), 1)])
    assert announcements(listed).height == announces


def test_an_amendment_announces_nothing() -> None:
    first = filing("8-K", "2024-01-25T21:05:00.000Z")
    of_the_day = filing("8-K/A", "2024-02-20T21:05:00.000Z", reportDate="2024-01-25")
    soon_after = filing("8-K/A", "2024-01-29T13:00:00.000Z")
    assert rows(first, of_the_day, soon_after)["day"].to_list() == [date(2024, 1, 25)]


def test_an_amendment_that_amends_no_announcement_is_one() -> None:
    without_item = filing("8-K", "2024-01-25T21:05:00.000Z", items="9.01")
    assert rows(without_item, filing("8-K/A", "2024-01-26T13:00:00.000Z", reportDate="2024-01-25"))[
        "day"
    ].to_list() == [date(2024, 1, 26)]


def test_a_forecast_and_the_results_of_one_quarter_are_two_announcements() -> None:
    early, results = filing("8-K", "2024-01-08T13:00:00.000Z"), filing("8-K", "2024-01-25T21:05:00.000Z")
    both = rows(results, early)
    assert both["reaction_session"].to_list() == [date(2024, 1, 8), date(2024, 1, 26)]
    schedule = schedule_of(with_session(both, CALENDAR), CALENDAR)
    assert schedule["reaction_session"].to_list() == [date(2024, 1, 8), date(2024, 1, 26)]


def test_of_several_forms_with_one_reaction_the_first_counts() -> None:
    release = filing("8-K", "2024-01-25T21:05:00.000Z")
    more = filing("8-K", "2024-01-25T21:40:00.000Z")
    next_morning = filing("8-K", "2024-01-26T13:00:00.000Z")
    only = rows(more, next_morning, release).row(0, named=True)
    assert rows(more, next_morning, release).height == 1
    assert only["event_time"] == datetime(2024, 1, 25, 21, 5, tzinfo=UTC)


def test_a_fetch_brings_what_its_sessions_ask_for_and_says_who_has_no_answer(serve: Callable[..., Sec]) -> None:
    server = serve(
        {
            sec.TICKERS: sec.tickers(AAA=1, BBB=2, CCC=3),
            submissions_path(1): submissions(
                1,
                [
                    filing("8-K", "2024-06-04T13:00:00.000Z"),  # after it was fetched
                    filing("8-K", "2024-04-25T20:05:00.000Z"),
                    filing("8-K", "2024-01-25T21:05:00.000Z"),
                    filing("8-K", "2023-10-26T20:05:00.000Z"),  # before the range
                ],
            ),
            submissions_path(2): sec.BROKEN,
        }
    )
    answer = fetched(server, "AAA", "BBB", "CCC", "ETF")
    assert answer.rows.schema == ROWS
    assert answer.rows["day"].to_list() == [date(2024, 1, 25), date(2024, 4, 25)]
    assert answer.rows["subject"].unique().to_list() == ["AAA"]
    assert {ticker: failure.unknown for ticker, failure in answer.failures.items()} == {
        "BBB": False,
        "CCC": True,
        "ETF": True,
    }
    assert "HTTP 500: 'Internal Server Error'" in answer.failures["BBB"].reason


def test_a_killed_fetch_asks_only_for_the_rest(serve: Callable[..., Sec], tmp_path: Path) -> None:
    """The process dies while it asks for the second company."""
    documents = {submissions_path(cik): submissions(cik, [filing("8-K", "2024-01-25T21:05:00.000Z")]) for cik in (1, 2)}
    server = serve({sec.TICKERS: sec.tickers(AAA=1, BBB=2), **documents})

    def killed(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    dying = SecAnnouncements(filings_from(server, staged=tmp_path, threads=1), CALENDAR, on_progress=killed)
    with pytest.raises(KeyboardInterrupt):
        dying.fetch(["AAA", "BBB"], FIRST, LAST, fetched_at=FETCHED)
    again = fetched(server, "AAA", "BBB", staged=tmp_path)
    assert again.rows["subject"].to_list() == ["AAA", "BBB"]
    assert set(server.asked.values()) == {1}, "by both together"


def test_a_vendor_who_refuses_everyone_ends_the_run(serve: Callable[..., Sec]) -> None:
    names = {f"T{place}": place for place in range(1, 41)}
    server = serve(
        {sec.TICKERS: sec.tickers(**names), **{submissions_path(cik): sec.THRESHOLD for cik in names.values()}}
    )
    answer = fetched(server, *names)
    assert set(answer.failures) == set(names)
    assert sum("gave up: no answer since" in failure.reason for failure in answer.failures.values()) > 30
    assert server.asked.total() < len(names), "asking each once more would be impolite"


def test_without_the_list_of_tickers_there_is_no_answer_at_all(serve: Callable[..., Sec]) -> None:
    with pytest.raises(SourceError, match="EDGAR, the list of tickers: HTTP 503"):
        fetched(serve({sec.TICKERS: sec.UNAVAILABLE}), "AAA")


def test_older_pages_are_asked_for_only_where_the_range_reaches_them(serve: Callable[..., Sec]) -> None:
    old = "/submissions/CIK0000000001-submissions-001.json"
    document = submissions(1, [filing("8-K", "2024-01-25T21:05:00.000Z")], _001=("2005-01-01", "2023-12-31"))
    pages = {old: sec.page([filing("8-K", "2023-10-26T20:05:00.000Z")])}
    server = serve({sec.TICKERS: sec.tickers(AAA=1), submissions_path(1): document, **pages})
    assert fetched(server, "AAA", first=date(2024, 3, 1)).rows.is_empty()
    assert server.asked[old] == 0
    days = fetched(server, "AAA", first=date(2023, 1, 3)).rows["day"].to_list()
    assert days == [date(2023, 10, 26), date(2024, 1, 25)]
    assert server.asked[old] == 1


def test_a_ticker_that_joins_brings_its_history(serve: Callable[..., Sec]) -> None:
    past = [filing("8-K", f"{day}T21:05:00.000Z") for day in ("2024-01-25", "2023-01-26", "2021-01-28")]
    server = serve({sec.TICKERS: sec.tickers(AAA=1), submissions_path(1): submissions(1, past)})
    source = SecAnnouncements(filings_from(server), CALENDAR)
    stored = rows(filing("8-K", "2023-10-26T20:05:00.000Z"))
    for of_others, days in ((stored, []), (stored.clear(), [date(2023, 1, 26), date(2024, 1, 25)])):
        asking = source.with_stored(of_others)
        assert asking.fetch(["AAA"], date(2024, 5, 1), LAST, fetched_at=FETCHED).rows["day"].to_list() == days


def test_both_companies_of_a_ticker_count_each_in_its_own_days(serve: Callable[..., Sec]) -> None:
    """The old one goes on filing, as debtor or part of the new one; a form of both is one announcement."""
    of_both = filing("8-K", "2024-04-25T20:05:00.000Z")
    server = serve(
        {
            sec.TICKERS: sec.tickers(AAA=2),
            submissions_path(1): submissions(
                1,
                [filing("8-K", "2024-05-20T20:05:00.000Z"), of_both, filing("8-K", "2024-01-25T21:05:00.000Z")],
            ),
            submissions_path(2): submissions(2, [of_both, filing("8-K", "2024-02-08T21:05:00.000Z")]),
        }
    )
    own = {"AAA": [Company(1, None, date(2024, 3, 31)), Company(2, date(2024, 4, 1))]}
    assert fetched(server, "AAA", own=own).rows["day"].to_list() == [date(2024, 1, 25), date(2024, 4, 25)]
    whole = {"AAA": [Company(1), Company(2)]}
    days = fetched(server, "AAA", own=whole).rows["day"].to_list()
    assert days == [date(2024, 1, 25), date(2024, 2, 8), date(2024, 4, 25), date(2024, 5, 20)]


def test_a_company_whose_filings_begin_late_is_named(serve: Callable[..., Sec]) -> None:
    """A new holding company, as long as nobody names the one before; a company of old is not."""
    begun = [filing("8-K", "2023-06-08T20:05:00.000Z")]
    server = serve(
        {
            sec.TICKERS: sec.tickers(AAA=1, BBB=2),
            submissions_path(1): submissions(1, begun),
            submissions_path(2): submissions(2, begun, _001=("2005-01-01", "2019-12-31")),
        }
    )
    (note,) = fetched(server, "AAA", "BBB", first=date(2020, 1, 2)).notes
    assert note.startswith("EDGAR has no filings of the first years of AAA (since 2023-06-08); where a company had")
    assert "STOCK_ASSETS_SEC_COMPANIES" in note
    assert fetched(server, "AAA").notes == []


def test_a_file_of_companies_is_read_when_the_sec_is_asked(
    serve: Callable[..., Sec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = submissions(7, [filing("8-K", "2024-01-25T21:05:00.000Z")])
    server = serve({sec.TICKERS: sec.tickers(AAA=1), submissions_path(7): document})
    monkeypatch.setattr(sec_filings_module, "Edgar", lambda contact, **_: sec.client(server, contact))
    companies = tmp_path / "companies.csv"
    companies.write_text("nothing\n")
    settings = read_settings(source="yahoo", sec_contact=sec.CONTACT, sec_companies=companies)
    source = SecAnnouncements(sec_filings_module.sec_filings(settings, lambda _: None), CALENDAR)
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_SEC_COMPANIES=.* lacks the column ticker and cik"):
        source.fetch(["GONE"], FIRST, LAST, fetched_at=FETCHED)
    companies.write_text("ticker,cik\nGONE,7\n")
    assert source.fetch(["GONE"], FIRST, LAST, fetched_at=FETCHED).rows["day"].to_list() == [date(2024, 1, 25)]


def test_a_company_that_is_long_gone_is_not_asked_for(serve: Callable[..., Sec]) -> None:
    server = serve(
        {
            sec.TICKERS: sec.tickers(DIS=2),
            submissions_path(2): submissions(2, [filing("8-K", "2024-02-07T21:05:00.000Z")]),
        }
    )
    assert fetched(server, "DIS").rows["day"].to_list() == [date(2024, 2, 7)]
    assert server.asked[submissions_path(1001039)] == 0


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CALENDAR.between(date(2023, 6, 1), date(2024, 6, 1))),
            st.integers(0, 12 * 60 - 1),
            st.sampled_from(["8-K", "8-K", "8-K/A"]),
        ),
        max_size=8,
        unique_by=lambda filing: filing[:2],
    ),
    st.sampled_from(CALENDAR.between(date(2023, 6, 1), date(2024, 6, 1))),
)
def test_what_is_filed_later_changes_nothing_before(filings: list[tuple[date, int, str]], cut: date) -> None:
    """The schedule of every session up to `cut` is that of the filings known at its close."""
    stated = [filing("4", "2023-02-02T02:00:00.000Z", "2023-02-01")]  # it says that the times are in UTC
    for place, (day, minutes, form) in enumerate(filings):
        moment = datetime.combine(day, time(10, 15)) + timedelta(minutes=minutes)
        stated.append(filing(form, f"{moment:%Y-%m-%dT%H:%M:%S}.000Z", accessionNumber=f"{place:020d}"))
    listed = filings_of([page_of(sec.page(stated), 1)])
    until = CALENDAR.closes[cut]

    def standing(known: pl.DataFrame) -> pl.DataFrame:
        announced = rows_of(announcements(known), CALENDAR, ticker="AAA", source="sec", fetched_at=FETCHED)
        schedule = schedule_of(with_session(with_replays(announced, CALENDAR), CALENDAR), CALENDAR)
        then = schedule.filter(
            pl.col("known_from") <= cut, pl.col("known_until").is_null() | (pl.col("known_until") > cut)
        )
        return then.drop("known_until")

    assert_frame_equal(standing(listed), standing(listed.filter(pl.col("known_at") <= until)))


def test_the_sec_is_asked_where_the_settings_say_who_asks(tmp_path: Path) -> None:
    """Not about the companies of the simulated market, which file nothing."""
    entry = side_input("announcements")
    silent, asking, simulated = (
        read_settings(data_dir=tmp_path, source=source, sec_contact=contact)
        for source, contact in (("yahoo", None), ("yahoo", sec.CONTACT), ("simulated", sec.CONTACT))
    )
    assert not any(isinstance(source, SecAnnouncements) for source in entry.sources(silent, lambda _: None))
    assert entry.missing(silent) is None, "Yahoo's calendar is asked"
    files = read_settings(data_dir=tmp_path, source="snapshot", snapshot=tmp_path)
    assert "STOCK_ASSETS_SEC_CONTACT" in (entry.missing(files) or "")
    assert any(isinstance(source, SecAnnouncements) for source in entry.sources(asking, lambda _: None))
    assert entry.missing(asking) is None
    assert not any(isinstance(source, SecAnnouncements) for source in entry.sources(simulated, lambda _: None))


def test_a_restatement_and_an_announcement_as_of_a_moment(
    serve: Callable[..., Sec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the store: what the platform says of a moment is what had been fetched and could be read by then."""
    report, amended = "0000000001-24-000001", "0000000001-24-000002"
    first = [
        filing("4", "2024-02-02T02:00:00.000Z", "2024-02-01"),
        filing("8-K", "2024-02-14T21:05:00.000Z"),
        filing("10-K", "2024-02-15T21:31:05.000Z", accessionNumber=report),
    ]
    later = [*first, filing("10-K/A", "2024-04-10T12:00:00.000Z", accessionNumber=amended)]
    year = {"start": "2023-01-01"}
    figures = [
        sec.figure("2023-12-31", 5e9, report, "2024-02-15", **year),
        sec.figure("2023-12-31", 4e9, amended, "2024-04-10", **year),
    ]
    server = serve(
        {
            sec.TICKERS: sec.tickers(AAA=1),
            submissions_path(1): [submissions(1, first), submissions(1, first), submissions(1, later)],
            sec.facts_path(1): [sec.facts(1, {"us-gaap:NetIncomeLoss": of}) for of in (figures[:1], figures)],
        }
    )
    settings = read_settings(
        source="snapshot",
        snapshot=tmp_path,
        data_dir=tmp_path / "data",
        start=date(2023, 1, 3),
        end=date(2024, 12, 31),
        sec_contact=sec.CONTACT,
    )
    monkeypatch.setattr(sec_filings_module, "Edgar", lambda contact, **_: sec.client(server, contact))
    store = Warehouse(settings.database)
    store.replace_table("universe", stored_rows("universe", pl.DataFrame({"ticker": ["AAA"]})))

    def evening(name: str, *days: date) -> pl.DataFrame:
        now = datetime.combine(days[-1], time(23), UTC)
        return fetch_side_input(store, settings, name, sessions=days, now=now).added

    calendar = CALENDAR.between(date(2023, 1, 3), date(2024, 2, 20))
    assert evening("announcements", *calendar)["origin"].to_list() == ["filed", "replayed"]
    assert evening("fundamentals", *calendar)["session"].to_list() == [date(2024, 2, 16)]
    restated = evening("fundamentals", date(2024, 4, 10))
    assert restated.select("session", "value").rows() == [(date(2024, 4, 10), 4e9)]
    assert evening("fundamentals", date(2024, 4, 11)).is_empty(), "what is stored already is no new version"

    def as_of(moment: datetime) -> list[float]:
        return side_inputs_as_of(store, moment)["fundamentals"]["value"].to_list()

    assert as_of(datetime(2024, 4, 10, 22, tzinfo=UTC)) == [5e9], "it was fetched at 23:00"
    assert as_of(datetime(2024, 4, 10, 23, tzinfo=UTC)) == [5e9, 4e9]
    assert server.agents == {sec.CONTACT}
