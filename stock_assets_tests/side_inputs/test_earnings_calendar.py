"""Yahoo's calendar of announcements through yfinance, against a small Yahoo on this machine."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.settings import read_settings
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.announcing import ROWS
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.registry import side_input
from stock_assets.side_inputs.schedule import schedule_of
from stock_assets.side_inputs.sources.earnings_calendar import HOUR, OFTEN, SELDOM, EarningsCalendar, due_subjects
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import (
    BROKEN,
    COME_BACK,
    DOWN,
    DRIP,
    HTML,
    INVALID_CRUMB,
    MALFORMED,
    RATE_LIMITED,
    TRUNCATED,
    UNAVAILABLE,
    Reply,
    serving,
)
from stock_assets_tests.side_inputs.calendar_server import COLUMNS, CalendarServer, Row, page
from stock_assets_tests.waiting import HANG_SECONDS

pytestmark = [
    # yfinance 1.7 renames with inplace=True, which pandas 3.1 deprecates
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning"),
]

CALENDAR = trading_calendar("XNYS", date(2024, 1, 2), date(2025, 12, 31))
#: After the close of Thursday in New York.
EVENING = datetime(2025, 1, 16, 22, tzinfo=UTC)
TODAY = EVENING.date()
AAPL: list[Row] = [
    ("October 30, 2025 at 4 PM EDT", "-"),
    ("January 30, 2025 at 4 PM EST", "-"),
    ("October 31, 2024 at 4 PM EDT", "1.64"),
    ("August 1, 2024 at 8 AM EDT", "1.40"),
    ("May 2, 2024 at 12 AM EDT", "1.53"),
]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def source_of(server: CalendarServer, *, stored: pl.DataFrame | None = None, staged: Path | None = None, **politeness):
    time = FakeTime()
    options = {"per_second": 1000.0, "tries": 3, "timeout": HANG_SECONDS, **politeness}
    budget = Budget(Politeness(**options), clock=time.clock, sleep=time.sleep)
    return EarningsCalendar(CALENDAR, base_url=server.url, budget=budget, stored_rows=stored, staged=staged)


def evening(server: CalendarServer, *tickers: str, **options: object) -> SideAnswer:
    since = TODAY - timedelta(days=7)
    return source_of(server, **options).fetch(tickers, since, TODAY, fetched_at=EVENING)


def test_a_coming_date_is_known_when_it_was_fetched_and_a_reported_one_when_it_happened() -> None:
    with serving(CalendarServer({"AAPL": AAPL})) as server:
        answer = source_of(server).fetch(("AAPL",), date(2024, 4, 1), TODAY, fetched_at=EVENING)

    assert answer.failures == {}
    assert set(answer.states_all_of) == {"AAPL"}
    assert answer.rows.schema == ROWS
    columns = ("day", "moment", "reaction_session", "event_time", "known_at", "reported", "assumed")
    after_close = datetime(2024, 10, 31, 20, tzinfo=UTC)
    before_open = datetime(2024, 8, 1, 12, tzinfo=UTC)
    assert answer.rows.select(columns).sort("day").rows() == [
        # midnight stands for no hour: noon of its day, known when the day was over
        (
            date(2024, 5, 2), "unknown", date(2024, 5, 2),
            datetime(2024, 5, 2, 16, tzinfo=UTC), datetime(2024, 5, 3, 4, tzinfo=UTC), True, True,
        ),
        (date(2024, 8, 1), "pre", date(2024, 8, 1), before_open, before_open + HOUR, True, True),
        (date(2024, 10, 31), "post", date(2024, 11, 1), after_close, after_close + HOUR, True, True),
        # 4 PM in winter; October of 2025 is an estimate, too far ahead
        (
            date(2025, 1, 30), "post", date(2025, 1, 31),
            datetime(2025, 1, 30, 21, tzinfo=UTC), EVENING, False, False,
        ),
    ]  # fmt: skip
    assert answer.rows["origin"].unique().to_list() == ["calendar"]
    # a long range asks for a long page
    assert server.sizes == {"100"}


@pytest.mark.parametrize(
    ("written", "day", "moment"),
    [
        ("January 22, 2025 at 7 PM EST", date(2025, 1, 23), "unknown"),  # midnight in UTC: the day alone
        ("January 22, 2025 at 12 AM EST", date(2025, 1, 22), "unknown"),
        ("January 22, 2025 at 11 AM EST", date(2025, 1, 22), "unknown"),  # 16:00 in UTC
        ("January 22, 2025 at 9 AM EST", date(2025, 1, 22), "pre"),
        ("January 22, 2025 at 10 AM EST", date(2025, 1, 22), "during"),
        ("January 22, 2025 at 5 PM EST", date(2025, 1, 22), "post"),
        ("March 10, 2025 at 9 AM EDT", date(2025, 3, 10), "pre"),  # the first session of summer time
    ],
)
def test_the_hour_says_when_on_the_day(written: str, day: date, moment: str) -> None:
    with serving(CalendarServer({"AAPL": [(written, "-")]})) as server:
        rows = evening(server, "AAPL").rows
    assert rows.select("day", "moment").rows() == [(day, moment)]


def test_a_date_that_passed_without_figures_is_no_row_and_one_that_is_over_is_no_coming_one() -> None:
    late: list[Row] = [("January 16, 2025 at 4 PM EST", "-"), ("January 10, 2025 at 8 AM EST", "-")]
    with serving(CalendarServer({"AAPL": late})) as server:
        answer = evening(server, "AAPL")
    assert answer.rows.is_empty()
    assert answer.failures == {}


def test_spellings_reach_yahoo_as_they_are() -> None:
    tickers = ("BRK-B", "M&M.NS", "7203.T")
    with serving(CalendarServer(dict.fromkeys(tickers, AAPL))) as server:
        answer = evening(server, *tickers)
    assert answer.failures == {}
    assert set(server.asked) == set(tickers)
    assert answer.rows["subject"].unique().sort().to_list() == sorted(tickers)


@pytest.mark.parametrize(
    "failure", [RATE_LIMITED, COME_BACK, INVALID_CRUMB, BROKEN, UNAVAILABLE, TRUNCATED, MALFORMED, HTML, DOWN]
)
def test_what_fails_once_is_asked_for_again(failure: Reply) -> None:
    def fails(_ticker: str, count: int) -> Reply | None:
        return failure if count == 0 else None

    with serving(CalendarServer({"AAPL": AAPL}, fails=fails)) as server:
        answer = evening(server, "AAPL")
    assert answer.failures == {}
    assert answer.rows["day"].to_list() == [date(2025, 1, 30)]
    assert server.asked["AAPL"] == 2


def test_a_ticker_that_the_calendar_does_not_have_is_unknown_and_not_asked_for_again() -> None:
    with serving(CalendarServer({"AAPL": AAPL, "SPY": []})) as server:
        answer = evening(server, "AAPL", "SPY", "../x")
    assert answer.failures["SPY"].unknown
    assert answer.failures["SPY"].reason == "Yahoo's calendar has no announcement of SPY"
    assert server.asked["SPY"] == 1
    assert "ticker '../x': expected letters and digits" in answer.failures["../x"].reason
    assert set(answer.states_all_of) == {"AAPL"}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (page("AAPL", AAPL, symbol="FORTY"), "found 'FORTY' in 5 row(s) of 5, expected AAPL alone"),
        (page("AAPL", [*AAPL, ("", "1.0")]), "found no date in 1 row(s) of 6"),
        (page("AAPL", AAPL, columns=[*COLUMNS[:2], "Event Name", *COLUMNS[3:]]), "expected Earnings Date in it"),
        (page("AAPL", [("soon", "-")]), "an answer that yfinance cannot read"),
        (Reply(200, "<table><tr><td rowspan=99999>AAPL</td></tr></table>", "text/html"), "a cell of the page spans"),
        (HTML, "no calendar but '<!DOCTYPE html><html><body>Oops</body></html>' (3 tries)"),
        (Reply(404, "gone", "text/plain"), "HTTP 404: 'gone' (3 tries)"),
        (RATE_LIMITED, "HTTP 429"),
    ],
)
def test_what_is_no_calendar_of_the_ticker_fails_and_says_what_it_is(reply: Reply, reason: str) -> None:
    with serving(CalendarServer({"AAPL": reply})) as server:
        answer = evening(server, "AAPL", patience=100.0)
    assert answer.rows.is_empty()
    assert answer.states_all_of == ()
    assert reason in answer.failures["AAPL"].reason


def test_a_drip_is_bounded_as_a_whole() -> None:
    with serving(CalendarServer({"AAPL": DRIP})) as server:
        answer = evening(server, "AAPL", timeout=0.1, tries=1)
    assert "no answer (Timeout, curl 28)" in answer.failures["AAPL"].reason


def stored_rows(*dates: tuple[str, date]) -> pl.DataFrame:
    """Versions in the store: the coming date of each ticker, as the calendar had it a week ago."""
    when = [(f"{day:%B} {day.day}, {day.year} at 4 PM EST", "-") for _, day in dates]
    pages = {ticker: [row] for (ticker, _), row in zip(dates, when, strict=True)}
    week_ago = EVENING - timedelta(days=7)
    with serving(CalendarServer(pages)) as server:
        answer = source_of(server).fetch(tuple(pages), week_ago.date(), week_ago.date(), fetched_at=week_ago)
    assert answer.rows.height == len(dates)
    return with_session(answer.rows, CALENDAR)


def test_a_moved_date_is_withdrawn_by_the_answer_that_lacks_it() -> None:
    """The answer states all that is to come, so that the fetch of the side input withdraws the other date."""
    stored = stored_rows(("AAPL", date(2025, 1, 30)))
    moved: list[Row] = [("February 6, 2025 at 4 PM EST", "-")]
    with serving(CalendarServer({"AAPL": moved})) as server:
        answer = evening(server, "AAPL")
    (ticker,) = answer.states_all_of
    gone = stored.filter(pl.col("subject") == ticker).join(answer.rows, on=["subject", "event_time"], how="anti")
    at = pl.lit(EVENING).cast(pl.Datetime("us", "UTC"))
    gone = gone.with_columns(withdrawn=pl.lit(value=True), known_at=at, fetched_at=at).select(answer.rows.columns)
    schedule = schedule_of(
        pl.concat([stored, with_session(pl.concat([answer.rows, gone]), CALENDAR).select(stored.columns)]), CALENDAR
    )
    assert schedule.select("day", "known_from", "known_until").rows() == [
        (date(2025, 1, 30), date(2025, 1, 10), date(2025, 1, 17)),
        (date(2025, 2, 6), date(2025, 1, 17), date(2025, 2, 10)),
    ]


def test_an_evening_asks_for_those_near_their_date_often_and_for_the_others_seldom() -> None:
    tickers = [f"T{i:03d}" for i in range(60)]
    near, far = tickers[:30], tickers[30:]
    one = stored_rows(("T000", date(2025, 1, 30)))
    stored = pl.concat(
        [
            one.with_columns(
                subject=pl.lit(ticker), day=pl.lit(date(2025, 1, 24) if ticker in near else date(2025, 3, 6))
            )
            for ticker in tickers
        ]
    )
    sessions = CALENDAR.between(TODAY - timedelta(days=10), TODAY + timedelta(days=10))[:SELDOM]
    evenings = [due_subjects(tickers, stored, CALENDAR, source="yahoo_calendar", session=day) for day in sessions]
    # from ten days ahead on all of the near ones are asked for in any two sessions
    for before, after in pairwise(evenings[3:]):
        assert set(near) <= {*before, *after}
        assert not set(before) & set(after) & set(near)
    times = [sum(ticker in evening for evening in evenings) for ticker in far]
    assert times == [1] * len(far)
    assert max(map(len, evenings)) < len(tickers) * (1 / OFTEN + 2 / SELDOM)
    assert due_subjects(tickers, None, CALENDAR, source="yahoo_calendar", session=TODAY) == tickers
    assert due_subjects(tickers, stored, CALENDAR, source="another", session=TODAY) == tickers


def test_what_waits_on_disk_is_not_asked_for_again(tmp_path: Path) -> None:
    with serving(CalendarServer({"AAPL": AAPL})) as server:
        first = evening(server, "AAPL", staged=tmp_path)
        again = source_of(server, staged=tmp_path).fetch(
            ("AAPL",), TODAY - timedelta(days=7), TODAY, fetched_at=EVENING + timedelta(hours=1)
        )
    assert server.asked["AAPL"] == 1
    assert again.rows.equals(first.rows)
    assert again.rows["fetched_at"].to_list() == [EVENING]


def test_yahoo_is_asked_with_its_prices_and_beside_the_sec(tmp_path: Path) -> None:
    def names(source: str, **settings: object) -> list[str]:
        chosen = read_settings(source=source, data_dir=tmp_path, **settings)
        return [made.name for made in side_input("announcements").sources(chosen, lambda _: None)]

    contact = {"sec_contact": "Jane Doe jane@example.com", "tickers": ("AAPL",)}
    assert names("yahoo", **contact) == ["sec", "yahoo_calendar"]
    assert names("yahoo", tickers=("AAPL",)) == ["yahoo_calendar"]
    (tmp_path / "own.csv").write_text("ticker,date,when\nAAPL,2024-02-01,post\n")
    assert names("yahoo", announcements=tmp_path / "own.csv") == ["file"]
    assert side_input("announcements").missing(read_settings(source="yahoo", data_dir=tmp_path)) is None
    assert "yahoo_calendar" not in names("simulated", sec_contact=contact["sec_contact"])
