"""Days that the whole market knows ahead: rules, pages of the Fed, the release calendar and files of one's own."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.errors import SourceError
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.settings import Settings
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.as_of import rows_by, with_session
from stock_assets.side_inputs.fed_pages import scheduled_meetings
from stock_assets.side_inputs.registry import side_input
from stock_assets.side_inputs.scheduled_days import expiry_days, payroll_days
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.fred import Fred
from stock_assets.side_inputs.sources.scheduled import EventFile, FedCalendar, FredReleases, ScheduleRules
from stock_assets.tables import UTC_TIME
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import serving
from stock_assets_tests.servers import listening
from stock_assets_tests.side_inputs.fred_server import KEY, FakeFred
from stock_assets_tests.waiting import HANG_SECONDS

CALENDAR = trading_calendar("XNYS", date(2013, 1, 1), date(2020, 12, 31))

#: As the Bureau of Labor Statistics lists them, https://www.bls.gov/schedule/2014/home.htm to 2019.
EMPLOYMENT_REPORTS = """
2014: 1-10 2-7 3-7 4-4 5-2 6-6 7-3 8-1 9-5 10-3 11-7 12-5
2015: 1-9 2-6 3-6 4-3 5-8 6-5 7-2 8-7 9-4 10-2 11-6 12-4
2016: 1-8 2-5 3-4 4-1 5-6 6-3 7-8 8-5 9-2 10-7 11-4 12-2
2017: 1-6 2-3 3-10 4-7 5-5 6-2 7-7 8-4 9-1 10-6 11-3 12-8
2018: 1-5 2-2 3-9 4-6 5-4 6-1 7-6 8-3 9-7 10-5 11-2 12-7
2019: 1-4 2-1 3-8 4-5 5-3 6-7 7-5 8-2 9-6 10-4 11-1 12-6
"""

#: The form of https://www.federalreserve.gov/monetarypolicy/fomccalendars.htm.
PAGE = """<!DOCTYPE html><html><body>
<div class="panel panel-default"><div class="panel-heading"><h4><a id="1">2020 FOMC Meetings</a></h4></div>
 <div class="row fomc-meeting"><div class="fomc-meeting__month col-xs-5"><strong>January</strong></div>
  <div class="fomc-meeting__date col-xs-4">28-29</div><div>Statement: PDF | HTML</div></div>
 <div class="fomc-meeting--shaded row fomc-meeting"><div class="fomc-meeting__month"><strong>March</strong></div>
  <div class="fomc-meeting__date col-xs-4">17-18* (cancelled)</div></div>
 <div class="row fomc-meeting"><div class="fomc-meeting__month"><strong>March</strong></div>
  <div class="fomc-meeting__date">15 (unscheduled)</div></div>
 <div class="row fomc-meeting"><div class="fomc-meeting__month"><strong>August</strong></div>
  <div class="fomc-meeting__date">27 (notation vote)</div></div>
 <div class="row fomc-meeting"><div class="fomc-meeting__month"><strong>Apr/May</strong></div>
  <div class="fomc-meeting__date">30-1</div></div>
 <div class="row fomc-meeting"><div class="fomc-meeting__month"><strong>December</strong></div>
  <div class="fomc-meeting__date">15-16*</div></div></div>
<div class="panel panel-default"><div class="panel-heading"><h4><a id="2">2019 FOMC Meetings</a></h4></div>
 <div class="row fomc-meeting"><div class="fomc-meeting__month"><strong>July</strong></div>
  <div class="fomc-meeting__date">30-31</div></div></div>
</body></html>"""

#: The form of https://www.federalreserve.gov/monetarypolicy/fomchistorical2014.htm.
HISTORICAL = """<html><body><h3>2014</h3>
<div class="panel"><h5 class="panel-heading panel-heading--shaded">January 28-29 Meeting - 2014</h5></div>
<div class="panel"><h5 class="panel-heading">March 4 (unscheduled) - 2014</h5></div>
<div class="panel"><h5 class="panel-heading">April 29-30 Meeting - 2014</h5></div>
<div class="panel"><h5 class="panel-heading">April 30-May 1 Meeting - 2013</h5></div>
<div class="panel"><h5 class="panel-heading">Jul/Aug 31-1 Meeting - 2018</h5></div>
<div class="panel"><h5 class="panel-heading">October 16 Conference Call - 2013</h5></div>
</body></html>"""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def budget() -> Budget:
    time = FakeTime()
    return Budget(Politeness(per_second=1000, tries=2, timeout=HANG_SECONDS), clock=time.clock, sleep=time.sleep)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_employment_reports_by_rule_are_those_of_six_years() -> None:
    listed = [
        date(int(line[:4]), *map(int, day.split("-")))
        for line in EMPLOYMENT_REPORTS.strip().splitlines()
        for day in line[6:].split()
    ]
    assert len(listed) == 72
    assert payroll_days(date(2014, 1, 1), date(2019, 12, 31)) == listed


@given(st.dates(date(2013, 2, 1), date(2020, 11, 1)), st.integers(0, 400))
def test_expiries_are_third_fridays_or_the_session_before(first: date, days: int) -> None:
    last = min(first + timedelta(days=days), date(2020, 12, 31))
    expected = []
    for day in (first + timedelta(days=after) for after in range((last - first).days + 8)):
        if day.weekday() == 4 and 15 <= day.day <= 21:
            while not CALENDAR.is_session(day):
                day -= timedelta(days=1)
            expected += [day] if first <= day <= last else []
    assert expiry_days(first, last, CALENDAR) == expected


def test_good_friday_moves_an_expiry_to_thursday() -> None:
    assert expiry_days(date(2014, 4, 1), date(2014, 4, 30), CALENDAR) == [date(2014, 4, 17)]


def test_a_report_on_a_holiday_is_shown_by_the_next_session() -> None:
    rows = ScheduleRules(CALENDAR).fetch((), date(2015, 3, 1), date(2015, 4, 30), fetched_at=at("2015-05-01")).rows
    good_friday = rows.filter(pl.col("day") == date(2015, 4, 3)).row(0, named=True)
    assert good_friday["subject"] == "payrolls"
    assert good_friday["event_time"] == at("2015-04-03T12:30")  # 8:30 in New York, in summer
    assert good_friday["reaction_session"] == date(2015, 4, 6)
    assert good_friday["assumed"]


def test_a_rule_is_known_a_year_ahead_and_not_more() -> None:
    moment = at("2016-03-01T22:00")
    rows = ScheduleRules(CALENDAR).fetch((), date(2016, 3, 1), date(2016, 3, 1), fetched_at=moment).rows
    assert rows["known_at"].max() <= moment
    assert rows.group_by("subject").len().sort("subject").rows() == [("expiry", 12), ("payrolls", 12)]
    one = ScheduleRules(CALENDAR).fetch(("expiry",), date(2016, 3, 1), date(2016, 3, 1), fetched_at=moment).rows
    assert one["subject"].unique().to_list() == ["expiry"]


def test_both_forms_of_the_pages_of_the_fed_give_the_last_days_of_scheduled_meetings() -> None:
    assert scheduled_meetings(PAGE, "page") == [
        date(2019, 7, 31), date(2020, 1, 29), date(2020, 5, 1), date(2020, 12, 16),
    ]  # fmt: skip
    assert scheduled_meetings(HISTORICAL, "page") == [
        date(2013, 5, 1), date(2014, 1, 29), date(2014, 4, 30), date(2018, 8, 1),
    ]  # fmt: skip


def test_a_meeting_of_one_named_month_that_begins_anew_ends_in_the_next() -> None:
    page = PAGE.replace("Apr/May", "April")
    assert date(2020, 5, 1) in scheduled_meetings(page, "page")


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("", "found no HTML"),
        ("<html><h1>Page not found</h1></html>", "found no meeting of the FOMC"),
        (PAGE.replace(">30-31<", ">TBD<"), "found the days 'TBD' of a meeting in 'July' 2019"),
        (PAGE.replace(">30-31<", ">30-32<"), "found a meeting on 30-32 'July' 2019"),
        (PAGE.replace("July", "Juin"), "found a meeting on 30-31 'Juin' 2019"),
    ],
)
def test_a_page_that_is_not_what_it_was_is_refused(page: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"the page: {message}"):
        scheduled_meetings(page, "the page")


def test_a_decision_is_known_from_the_beginning_of_its_year_or_when_it_was_first_seen(tmp_path: Path) -> None:
    saved = tmp_path / "fomccalendars.htm"
    saved.write_text(PAGE)
    moment = at("2019-08-15T22:00")
    source = FedCalendar(CALENDAR, [str(saved)], Client(budget()))
    rows = source.fetch((), date(2019, 1, 2), date(2019, 8, 15), fetched_at=moment).rows
    assert rows.select("day", "known_at", "assumed").rows() == [
        (date(2019, 7, 31), at("2019-01-01T05:00"), True),
        (date(2020, 1, 29), moment, False),
        (date(2020, 5, 1), moment, False),
        (date(2020, 12, 16), moment, False),
    ]
    assert rows["event_time"].to_list()[:2] == [at("2019-07-31T18:00"), at("2020-01-29T19:00")]


def after(stored: pl.DataFrame, answer: SideAnswer, moment: datetime) -> pl.DataFrame:
    """The store after `answer`: what it states all of and lacks is withdrawn at `moment`."""
    coming = stored.filter(pl.col("subject").is_in(list(answer.states_all_of)), pl.col("event_time") > moment)
    gone = coming.join(answer.rows, on=["subject", "event_time"], how="anti").with_columns(
        withdrawn=pl.lit(value=True), known_at=pl.lit(moment).cast(UTC_TIME), fetched_at=pl.lit(moment).cast(UTC_TIME)
    )
    rows = pl.concat([answer.rows, gone.select(answer.rows.columns)])
    return pl.concat([stored, with_session(rows, CALENDAR).select(stored.columns)])


def days_known(rows: pl.DataFrame, session: date) -> list[date]:
    return rows_by(rows, session).filter(~pl.col("withdrawn"))["day"].to_list()


def test_a_meeting_that_is_moved_is_withdrawn_and_stands_on_its_new_day_from_then_on() -> None:
    evening, later = at("2020-02-03T20:00"), at("2020-03-02T20:00")
    with listening(body=PAGE.encode()) as server:
        source = FedCalendar(CALENDAR, [server.url], Client(budget()))
        first = source.fetch((), date(2019, 1, 2), evening.date(), fetched_at=evening)
    stored = with_session(first.rows, CALENDAR)
    with listening(body=PAGE.replace("30-1<", "6-7<").encode()) as server:
        again = FedCalendar(CALENDAR, [server.url], Client(budget())).fetch(
            (), later.date(), later.date(), fetched_at=later
        )
    # an evening adds no past meeting anew, and what it sees is known then
    assert again.rows.select("day", "known_at", "assumed").rows() == [
        (date(2020, 5, 7), later, False),
        (date(2020, 12, 16), later, False),
    ]
    rows = after(stored, again, later)
    assert [date(2020, 5, 1) in days_known(rows, day) for day in (date(2020, 2, 28), later.date())] == [True, False]
    assert [date(2020, 5, 7) in days_known(rows, day) for day in (date(2020, 2, 28), later.date())] == [False, True]


def test_a_page_that_cannot_be_had_fails_without_withdrawing_anything() -> None:
    evening = at("2020-02-03T22:00")
    with listening(status=503) as bad, listening(body=PAGE.encode()) as good:
        source = FedCalendar(CALENDAR, [good.url, f"{bad.url}/token"], Client(budget()))
        answer = source.fetch((), evening.date(), evening.date(), fetched_at=evening)
    assert answer.rows.is_empty()
    assert answer.failures["fomc"].reason == f"{bad.url}/(hidden): HTTP 503: '' (2 tries)"


CPI = ["2019-12-11", "2020-01-14", "2020-02-07", "2020-02-13", "2020-03-11", "2020-04-10", "2020-05-12"]


def releases(server: FakeFred) -> FredReleases:
    return FredReleases(CALENDAR, Fred(KEY, base_url=server.url, budget=budget()))


def test_a_report_is_known_from_the_one_before_and_one_of_a_month_counts() -> None:
    moment = at("2020-03-02T22:00")
    with serving(FakeFred(releases={10: CPI, 50: []})) as server:
        answer = releases(server).fetch(("cpi",), date(2020, 1, 2), date(2020, 3, 2), fetched_at=moment)
    assert [path for path, _ in server.asked] == ["release/dates"]
    # 7 February has revised factors alone; April's day is not named by a report of ours yet
    assert answer.rows.select("day", "known_at", "assumed").rows() == [
        (date(2020, 1, 14), at("2019-12-11T13:30"), True),
        (date(2020, 2, 13), at("2020-01-14T13:30"), True),
        (date(2020, 3, 11), at("2020-02-13T13:30"), True),
        (date(2020, 4, 10), moment, False),
        (date(2020, 5, 12), moment, False),
    ]
    assert answer.rows.filter(pl.col("day") == date(2020, 4, 10))["reaction_session"].item() == date(2020, 4, 13)


def test_a_report_that_is_put_off_is_known_on_its_new_day_only_from_then_on() -> None:
    evening, later = at("2020-03-02T20:00"), at("2020-03-20T20:00")
    with serving(FakeFred(releases={10: CPI, 50: []})) as server:
        source = releases(server)
        stored = with_session(source.fetch((), date(2020, 1, 2), evening.date(), fetched_at=evening).rows, CALENDAR)
        server.releases = {10: [*CPI[:5], "2020-04-24", CPI[6]], 50: []}
        again = source.fetch((), later.date(), later.date(), fetched_at=later)
    rows = after(stored, again, later)
    assert again.rows.select("day", "known_at").rows() == [(date(2020, 4, 24), later), (date(2020, 5, 12), later)]
    assert [date(2020, 4, 10) in days_known(rows, day) for day in (date(2020, 3, 19), later.date())] == [True, False]
    assert [date(2020, 4, 24) in days_known(rows, day) for day in (date(2020, 3, 19), later.date())] == [False, True]


def test_a_file_of_ones_own_says_since_when_it_was_known_or_is_taken_to_be(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("Subject,day,time,known_at\nfomc,2014-06-18,14:00,2013-06-21 12:00\nfomc,2014-07-30,,\n")
    rows = EventFile(CALENDAR, file).fetch((), date(2014, 6, 2), date(2014, 6, 2), fetched_at=at("2014-07-03")).rows
    assert rows.select("event_time", "known_at", "assumed").rows() == [
        (at("2014-06-18T18:00"), at("2013-06-21T12:00"), False),
        (at("2014-07-30T16:00"), at("2014-07-02T16:00"), True),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("subject,when\nfomc,2014-06-18\n", "lacks the column day; found subject, when, expected subject, day"),
        ("subject,day\nfomc,18.06.2014\n", "row 1: found the day '18.06.2014' and the time 'None', expected some"),
        ("subject,day\n,2014-06-18\n", "row 1: found no subject"),
        ("subject,day,known_at\nfomc,2014-06-18,soon\n", "column known_at"),
        ("subject,day,Day\nfomc,2014-06-18,2014-06-18\n", "two columns of one name"),
        ("", "cannot be read as CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_row(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "events.csv"
    file.write_text(content)
    with pytest.raises(SourceError, match=message) as error:
        EventFile(CALENDAR, file).fetch((), date(2014, 6, 2), date(2014, 6, 2), fetched_at=at("2014-07-03"))
    assert str(file) in str(error.value)


def test_the_settings_choose_the_sources(tmp_path: Path) -> None:
    def names(**settings: object) -> list[str]:
        entry = side_input("scheduled_events")
        return [source.name for source in entry.sources(Settings(data_dir=tmp_path, **settings), lambda _: None)]

    assert names() == ["rule"]
    assert names(scheduled_events="a.htm, my.csv", fred_key=KEY) == ["rule", "federal_reserve", "file", "fred"]
    assert side_input("macro").sources(Settings(data_dir=tmp_path), lambda _: None) == ()
    assert "STOCK_ASSETS_FRED_KEY is unset" in (side_input("macro").missing(Settings(data_dir=tmp_path)) or "")
    (series,) = side_input("macro").sources(
        Settings(data_dir=tmp_path, fred_key=KEY, fred_series="GDP"), lambda _: None
    )
    assert series.series == ("GDP",)
