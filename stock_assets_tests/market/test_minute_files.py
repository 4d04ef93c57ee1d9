"""Files of bars of minutes as people have them: right sessions, a session held out and told, or one clear error."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.materialize.fetch import fetch_bars
from stock_assets.market.sources import Answer
from stock_assets.market.sources.forms.reading import Reading
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.setting_values import SessionHours
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.market.minute_files import beginnings, rows
from stock_assets_tests.tables import rows_of

NEW_YORK = trading_calendar("XNYS", date(2018, 11, 12), date(2018, 11, 30))  # half a day on the 23rd
JUNE = trading_calendar("XNYS", date(2018, 6, 1), date(2018, 6, 15))
YEAR = trading_calendar("XNYS", date(2018, 1, 2), date(2018, 12, 31))
TOKYO = trading_calendar("XTKS", date(2018, 11, 12), date(2018, 11, 30))
ZONE = ZoneInfo("America/New_York")


def minute_text(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")


def local_text(at: datetime) -> str:
    return minute_text(at.astimezone(ZONE))


def answer(path: Path, calendar: TradingCalendar, reading: Reading | None = None) -> Answer:
    source = SnapshotSource(path, calendar, reading=reading)
    tickers = source.universe()["ticker"].to_list()
    return source.fetch(
        tickers, calendar.sessions[0], calendar.sessions[-1], fetched_at=datetime(2030, 1, 1, tzinfo=UTC)
    )


@pytest.fixture
def answer_of(tmp_path: Path) -> Callable[..., Answer]:
    """The answer about a frame that is written into a file."""

    def read(
        frame: pl.DataFrame, calendar: TradingCalendar, reading: Reading | None = None, *, kind: str = "csv"
    ) -> Answer:
        path = tmp_path / f"minutes.{kind}"
        frame.write_parquet(path) if kind == "parquet" else frame.write_csv(path)
        return answer(path, calendar, reading)

    return read


# K3: a session of minutes that do not cover it


def test_reported_half_a_day_is_no_bar_and_is_told(bug_file):
    found = answer(bug_file("gap/A.csv"), YEAR)
    assert found.bars.select("session", "volume").rows() == [(date(2018, 1, 3), 1300.0), (date(2018, 1, 5), 1300.0)]
    (finding,) = found.findings.rows(named=True)
    assert (finding["ticker"], finding["session"], finding["kind"]) == ("A", date(2018, 1, 4), "minutes")
    assert (finding["found"], finding["expected"], finding["repaired"]) == (90.0, 390.0, False)


def test_reported_hours_on_the_hour_keep_the_first_half_hour(bug_file):
    (bar,) = answer(bug_file("hour_on_the_hour/A.csv"), YEAR).bars.rows(named=True)
    assert (bar["open"], bar["close"], bar["volume"]) == (10.0, 17.0, 700.0)


def test_hours_on_the_hour_keep_the_first_half_hour(answer_of):
    times = list(beginnings(NEW_YORK, 60, before=30, on_the_hour=True))
    found = answer_of(rows(times, write=minute_text), NEW_YORK)
    assert found.findings.is_empty()
    assert found.bars["open"][0] == 100.0  # of the bar that begins half an hour before the opening
    assert found.bars["volume"].to_list() == [
        700.0 if day != date(2018, 11, 23) else 400.0 for day in NEW_YORK.sessions
    ]


@pytest.mark.parametrize("step", [60, 120, 240])
def test_bars_that_mix_the_session_with_what_is_outside_make_none(answer_of, step: int):
    """With bars before and after the session, one that reaches over the opening or the close holds foreign trades."""
    first = datetime(2018, 11, 12, tzinfo=UTC)
    times = [first + timedelta(minutes=step * i) for i in range(19 * 1440 // step)]
    with pytest.raises(EmptySourceError, match=rf"a bar of {step} minutes reaches over the (opening|close)"):
        answer_of(rows(times, write=minute_text), NEW_YORK)


def test_a_bar_that_reaches_over_the_close_into_later_trades_makes_no_close(answer_of):
    times = list(beginnings(NEW_YORK, 60, after=180))
    with pytest.raises(EmptySourceError, match="a bar of 60 minutes reaches over the close"):
        answer_of(rows(times, write=minute_text), NEW_YORK)


def test_the_last_hour_of_a_vendor_who_ends_at_the_close_is_half_an_hour(answer_of):
    found = answer_of(rows(beginnings(NEW_YORK, 60), write=minute_text), NEW_YORK)
    assert found.findings.is_empty()
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions)


def test_a_market_that_never_closes_has_no_bar_of_two_sessions(answer_of):
    june = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 10))
    to_new_york = june.with_hours(SessionHours.parse("17:00-17:00 America/New_York"))  # at 21:00 UTC
    times = [datetime(2025, 6, 1, tzinfo=UTC) + timedelta(hours=4 * i) for i in range(60)]
    assert answer_of(rows(times, write=minute_text), june).bars.height == 10
    with pytest.raises(EmptySourceError, match="no whole session"):
        answer_of(rows(times, write=minute_text), to_new_york)


def test_a_ticker_that_begins_in_mid_session_has_no_bar_of_it(answer_of):
    times = list(beginnings(NEW_YORK, 30))
    later = [at for at in times if at >= datetime(2018, 11, 13, 17, tzinfo=UTC)]
    both = pl.concat([rows(times, "A", minute_text), rows(later, "B", minute_text)])
    found = answer_of(both, NEW_YORK)
    assert found.findings.select("ticker", "session", "found").rows() == [("B", date(2018, 11, 13), 240.0)]
    of_b = found.bars.filter(pl.col("ticker") == "B")
    assert of_b["session"].to_list() == list(NEW_YORK.sessions[2:])


def test_what_is_held_out_is_told_in_quarantine(tmp_path: Path):
    times = list(beginnings(NEW_YORK, 30))
    later = [at for at in times if at >= datetime(2018, 11, 13, 17, tzinfo=UTC)]
    path = tmp_path / "minutes.csv"
    pl.concat([rows(times, "A", minute_text), rows(later, "B", minute_text)]).write_csv(path)
    settings = read_settings(data_dir=tmp_path, start=date(2018, 11, 12), end=date(2020, 12, 31), first_model_year=2020)
    store, source = Warehouse(settings.database), SnapshotSource(path, NEW_YORK)
    store.replace_table("universe", rows_of("universe", source.universe()))
    now = datetime(2019, 1, 1, tzinfo=UTC)
    fetched = fetch_bars(store, settings, source, sessions=NEW_YORK.sessions[1:3], now=now)
    assert (fetched.new_versions, fetched.uncovered) == (3, 1)
    (finding,) = store.read("quarantine").drop("seen_at").rows()
    assert finding == ("B", date(2018, 11, 13), "minutes", "minutes", 240.0, 390.0, False)
    again = fetch_bars(store, settings, source, sessions=NEW_YORK.sessions[1:3], now=now + timedelta(days=1))
    assert (again.new_versions, again.uncovered) == (0, 0)


def test_one_bad_price_is_held_out_and_named_and_the_rest_is_kept(tmp_path: Path):
    times = list(beginnings(NEW_YORK, 30))
    frame = pl.concat([rows(times, "A", minute_text), rows(times, "B", minute_text)])
    frame = frame.with_columns(low=pl.when(pl.int_range(pl.len()) == 20).then(0.0).otherwise("low"))
    path = tmp_path / "minutes.csv"
    frame.write_csv(path)
    source = SnapshotSource(path, NEW_YORK)
    found = answer(path, NEW_YORK)
    assert found.bars.filter(ticker="A")["session"].to_list() == [
        day for i, day in enumerate(NEW_YORK.sessions) if i != 1
    ]
    assert found.bars.filter(ticker="B").height == len(NEW_YORK.sessions)
    (finding,) = found.findings.rows()
    assert finding == ("A", NEW_YORK.sessions[1], "no_price", "low", 0.0, None, False)
    source.universe()
    (note,) = source.notes()["sessions that minutes do not make are held out"]
    assert f"(1, {NEW_YORK.sessions[1]} of A: low of 0.0 at 18:00:00)" in note


def test_text_in_the_place_of_a_number_is_an_error_in_minutes_too(answer_of):
    frame = rows(beginnings(NEW_YORK, 30), write=minute_text)
    of_text = frame.with_columns(low=pl.when(pl.int_range(pl.len()) == 20).then(pl.lit("n.v.x")).otherwise("low"))
    with pytest.raises(SourceError, match=r"minutes\.csv, row 21, column low: found 'n\.v\.x', expected a number"):
        answer_of(of_text, NEW_YORK)


@pytest.mark.parametrize(("day", "zone"), [(10, "America/New_York"), (31, "Europe/London"), (31, "Europe/Berlin")])
def test_a_clock_that_is_set_gives_its_zone_away_around_the_clock(answer_of, day: int, zone: str):
    march = trading_calendar("24/7", date(2024, 3, day - 3), date(2024, 4, 3))
    times = [march.opens[march.sessions[0]] + timedelta(minutes=30 * i) for i in range(48 * 6)]
    local = rows(times, write=lambda at: minute_text(at.astimezone(ZoneInfo(zone))))
    with pytest.raises(
        SourceError, match=rf"no bar from 0[12]:00 to 0[23]:00 on 2024-03-{day}.*skip.*TIME_ZONE={zone}"
    ):
        answer_of(local, march)
    assert answer_of(local, march, Reading(time_zone=zone)).findings.height <= 2  # the days at its ends
    assert answer_of(rows(times, write=minute_text), march).findings.is_empty()
    november = trading_calendar("24/7", date(2024, 10, 25), date(2024, 11, 6))
    times = [november.opens[november.sessions[0]] + timedelta(minutes=30 * i) for i in range(48 * 12)]
    with pytest.raises(SourceError, match=r"two bars of each time from 0[12]:00.*repeat"):
        answer_of(rows(times, write=lambda at: minute_text(at.astimezone(ZoneInfo(zone)))), november)


def test_a_hole_that_all_tickers_share_is_one_of_the_file(answer_of):
    times = list(beginnings(NEW_YORK, 1))
    cut = NEW_YORK.sessions[4]
    hole = NEW_YORK.opens[cut] + timedelta(hours=2)
    kept = [at for at in times if not hole <= at < hole + timedelta(minutes=8)]
    found = answer_of(pl.concat([rows(kept, name, minute_text) for name in "AB"]), NEW_YORK)
    assert found.findings.select("ticker", "session", "kind").rows() == [("A", cut, "minutes"), ("B", cut, "minutes")]
    assert found.bars.height == 2 * (len(NEW_YORK.sessions) - 1)
    paused = [at for at in times if not hole <= at < hole + timedelta(minutes=15)]  # as of a whole exchange
    found = answer_of(pl.concat([rows(paused, name, minute_text) for name in "AB"]), NEW_YORK)
    assert found.findings.select("ticker", "kind", "found").rows() == [("A", "pause", 15.0), ("B", "pause", 15.0)]
    assert found.bars.height == 2 * len(NEW_YORK.sessions)


@pytest.mark.parametrize("others", [0, 1])
def test_a_short_hole_of_one_ticker_is_told_and_its_bar_stays(answer_of, others: int):
    """A pause in the trading of one share lasts five or ten minutes."""
    times = list(beginnings(NEW_YORK, 1))
    cut = NEW_YORK.sessions[4]
    hole = NEW_YORK.opens[cut] + timedelta(hours=2)
    kept = [at for at in times if not hole <= at < hole + timedelta(minutes=10)]
    found = answer_of(pl.concat([rows(kept, "A", minute_text), *[rows(times, "B", minute_text)] * others]), NEW_YORK)
    assert found.findings.select("ticker", "session", "kind", "found").rows() == [("A", cut, "pause", 10.0)]
    assert found.bars.height == (1 + others) * len(NEW_YORK.sessions)


def test_a_file_of_minutes_without_a_whole_session_leaves_the_other_files(tmp_path: Path):
    rows(beginnings(NEW_YORK, 30), "A", minute_text).write_csv(tmp_path / "A.csv")
    seldom = [NEW_YORK.opens[day] + timedelta(minutes=37 * (i + 1)) for i, day in enumerate(NEW_YORK.sessions[:5])]
    rows(seldom, "B", minute_text).write_csv(tmp_path / "B.csv")
    source = SnapshotSource(tmp_path, NEW_YORK)
    assert source.universe()["ticker"].to_list() == ["A"]
    (note,) = source.notes()["passed over"]
    assert "B.csv has bars from" in note
    assert "hold no whole session" in note


def test_a_file_that_ends_in_mid_session_has_no_bar_of_it(answer_of):
    times = [at for at in beginnings(NEW_YORK, 5) if at < datetime(2018, 11, 30, 17, tzinfo=UTC)]
    found = answer_of(rows(times, write=minute_text), NEW_YORK)
    assert found.findings["session"].to_list() == [date(2018, 11, 30)]
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions[:-1])


def test_a_file_of_mostly_half_sessions_is_an_error(answer_of):
    times = [at for at in beginnings(NEW_YORK, 30) if at.hour < 17 or at.day in (14, 15)]
    with pytest.raises(
        SourceError, match=r"covers 2 of 14 sessions .*2018-11-12 of A: its bars end 240 minutes before"
    ):
        answer_of(rows(times, write=minute_text), NEW_YORK)


@pytest.mark.parametrize("step", [1, 5, 30])
def test_times_at_which_bars_end_are_an_error(answer_of, step: int):
    ends = [at + timedelta(minutes=step) for at in beginnings(NEW_YORK, step)]
    with pytest.raises(SourceError, match=f"as of bars of {step} minute.s. whose time is that of their end"):
        answer_of(rows(ends, write=minute_text), NEW_YORK)


@pytest.mark.parametrize(
    ("calendar", "around"),
    [(JUNE, 0), (NEW_YORK, 0), (JUNE, 330), (trading_calendar("XNYS", date(2018, 9, 4), date(2018, 12, 31)), 330)],
    ids=["summer", "winter", "extended hours in summer", "extended hours in both"],
)
def test_new_york_times_without_a_zone_raise_a_doubt_and_the_setting_decides(answer_of, calendar, around: int):
    local = rows(beginnings(calendar, 5, before=around, after=240 if around else 0), write=local_text)
    with pytest.raises(SourceError, match=r"times without a zone.*STOCK_ASSETS_TIME_ZONE=America/New_York"):
        answer_of(local, calendar)
    found = answer_of(local, calendar, Reading(time_zone="America/New_York"))
    assert found.findings.is_empty()
    assert found.bars["session"].to_list() == list(calendar.sessions)
    hours = [(calendar.closes[day] - calendar.opens[day]) / timedelta(hours=1) for day in calendar.sessions]
    assert found.bars["volume"].to_list() == [100.0 * 12 * length for length in hours]


def test_tokyo_times_without_a_zone_raise_a_doubt(answer_of):
    local = rows(beginnings(TOKYO, 5), write=lambda at: minute_text(at.astimezone(ZoneInfo("Asia/Tokyo"))))
    with pytest.raises(SourceError, match="STOCK_ASSETS_TIME_ZONE=Asia/Tokyo"):
        answer_of(local, TOKYO)
    assert answer_of(local, TOKYO, Reading(time_zone="Asia/Tokyo")).bars.height == len(TOKYO.sessions)


def test_utc_times_with_bars_around_the_session_raise_no_doubt(answer_of):
    for calendar in (JUNE, NEW_YORK):
        found = answer_of(rows(beginnings(calendar, 5, before=330, after=240), write=minute_text), calendar)
        assert found.findings.is_empty()
        assert found.bars["session"].to_list() == list(calendar.sessions)


def test_a_file_may_hold_hours_and_then_minutes(answer_of):
    times = [at for at in beginnings(NEW_YORK, 60) if at.day < 20]
    times += [at for at in beginnings(NEW_YORK, 1) if at.day >= 20]
    found = answer_of(rows(times, write=minute_text), NEW_YORK)
    assert found.findings.is_empty()
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions)


# K4: the order of day and month in times


def test_reported_us_times_are_an_error_and_the_setting_decides(bug_file):
    path = bug_file("us_times/A.csv")
    with pytest.raises(SourceError, match=r"order of day and month is not certain.*STOCK_ASSETS_DATE_FORMAT"):
        answer(path, YEAR)
    found = answer(path, YEAR, Reading(date_format="%m/%d/%Y"))
    assert found.bars["session"].to_list() == [date(2018, 2, 1), date(2018, 2, 2)]


@pytest.mark.parametrize("written", ["%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%y %I:%M %p", "%d-%m-%Y %H:%M"])
def test_the_order_of_day_and_month_is_stated_or_an_error(answer_of, written: str):
    february = trading_calendar("XNYS", date(2018, 2, 1), date(2018, 2, 9))
    frame = rows(beginnings(february, 30), write=lambda at: at.strftime(written))
    with pytest.raises(SourceError, match="order of day and month"):
        answer_of(frame, february)
    for date_format in (written, written.split()[0]):
        found = answer_of(frame, february, Reading(date_format=date_format))
        assert found.bars["session"].to_list() == list(february.sessions)


# K11: zones and numbers


def test_reported_offsets_are_read(bug_file):
    (bar,) = answer(bug_file("offset_times/A.csv"), YEAR).bars.rows(named=True)
    assert (bar["session"], bar["open"], bar["close"], bar["volume"]) == (date(2018, 1, 3), 10.0, 10.0, 1300.0)


FORMS: dict[str, Callable[[datetime], object]] = {
    "utc": lambda at: at.isoformat(),
    "Z": lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "two offsets": lambda at: at.astimezone(ZONE).isoformat(),
    "no colon": lambda at: at.astimezone(ZoneInfo("Asia/Kolkata")).strftime("%Y-%m-%d %H:%M:%S%z"),
    "named": lambda at: f"{at.astimezone(ZONE):%Y-%m-%d %H:%M:%S} America/New_York",
    "s": lambda at: int(at.timestamp()),
    "ms": lambda at: int(at.timestamp()) * 10**3,
    "us": lambda at: int(at.timestamp()) * 10**6,
    "ns": lambda at: int(at.timestamp()) * 10**9,
    "float": lambda at: at.timestamp(),
}


@pytest.mark.parametrize("name", ["timestamp", "date", "time", "datetime"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_same_moments_make_the_same_sessions_in_every_form(answer_of, form: str, name: str, kind: str):
    autumn = trading_calendar("XNYS", date(2018, 10, 31), date(2018, 11, 8))  # the clock changes on the 4th
    times = list(beginnings(autumn, 30))
    found = answer_of(rows(times, write=FORMS[form]).rename({"timestamp": name}), autumn, kind=kind)
    assert found.bars["session"].to_list() == list(autumn.sessions)
    assert found.bars["open"].to_list() == [100.0 + 13 * i for i in range(len(autumn.sessions))]
    assert set(found.bars["volume"]) == {1300.0}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("number", "reading"),
    [
        (43102.5, r"1970-01-01 11:58:22"),  # a day of a spreadsheet
        (151490340, r"1974-10-20 08:39:00"),
        (99, r"1970-01-01 00:01:39"),
        (15149034 * 10**13, r"6770-07-16"),
    ],
)
def test_a_number_that_is_no_plausible_time_says_what_it_would_be(answer_of, number: float, reading: str, kind: str):
    frame = rows(beginnings(NEW_YORK, 30)).with_columns(timestamp=pl.lit(number))
    with pytest.raises(
        SourceError, match=rf"row 1, a time: found '{number}', which as \w+ since 1970 would be {reading}"
    ):
        answer_of(frame, NEW_YORK, kind=kind)


# K12: daily bars in a column of moments, and minutes in one of dates


def test_reported_daily_dates_in_a_column_of_moments(bug_file):
    found = answer(bug_file("alpha_vantage/AAPL.csv"), YEAR)
    assert found.bars.select("ticker", "session", "close").rows() == [
        ("AAPL", date(2018, 1, 2), 10.0),
        ("AAPL", date(2018, 1, 3), 10.0),
    ]


def midnight(day: date, zone: str = "America/New_York") -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone))


DAYS: dict[str, Callable[[date], object]] = {
    "date": str,
    "midnight": lambda day: f"{day} 00:00:00",
    "midnight with an offset": lambda day: f"{day} 00:00:00-05:00",
    "midnight as UTC": lambda day: midnight(day).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "midnight of UTC": lambda day: f"{day}T00:00:00Z",
    "seconds at midnight": lambda day: int(midnight(day).timestamp()),
    "milliseconds at midnight of UTC": lambda day: int(midnight(day, "UTC").timestamp() * 1000),
    "seconds at the opening": lambda day: int(NEW_YORK.opens[day].timestamp()),
    "the close": lambda day: NEW_YORK.closes[day].isoformat(),
    "compact": lambda day: f"{day:%Y%m%d}",
}
TYPED: dict[str, Callable[[date], object]] = {
    "date": lambda day: day,
    "datetime": lambda day: datetime.combine(day, time()),
    "datetime with a zone": midnight,
    "datetime of midnight as UTC": lambda day: midnight(day).astimezone(UTC),
    "number": lambda day: int(midnight(day).timestamp() * 10**9),
    "number as a date": lambda day: int(f"{day:%Y%m%d}"),
}


def daily(write: Callable[[date], object], name: str) -> pl.DataFrame:
    frame = rows(datetime.combine(day, time()) for day in NEW_YORK.sessions).drop("timestamp")
    return frame.with_columns(pl.Series(name, [write(day) for day in NEW_YORK.sessions]))


@pytest.mark.parametrize("name", ["timestamp", "date", "time", "datetime"])
@pytest.mark.parametrize(("form", "kind"), [*((form, "csv") for form in DAYS), *((form, "parquet") for form in TYPED)])
def test_daily_bars_are_daily_bars_whatever_their_column_is_called(answer_of, name: str, form: str, kind: str):
    write = (DAYS if kind == "csv" else TYPED)[form]
    found = answer_of(daily(write, name), NEW_YORK, kind=kind)
    assert found.findings.is_empty()
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions)
    assert found.bars["close"].to_list() == [101.0 + i for i in range(len(NEW_YORK.sessions))]


@pytest.mark.parametrize("clock", ["09:30:00", "16:00:00"])
@pytest.mark.parametrize("half", ["as usual", "as it was"])
def test_one_bar_a_day_at_the_exchange_s_own_opening_or_close_without_a_zone_is_daily(answer_of, clock: str, half: str):
    def write(day: date) -> str:
        early = half == "as it was" and clock > "10" and day == date(2018, 11, 23)
        return f"{day} {'13:00:00' if early else clock}"

    found = answer_of(daily(write, "date"), NEW_YORK)
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions)
    assert found.bars["close"].to_list() == [101.0 + i for i in range(len(NEW_YORK.sessions))]


def test_one_bar_a_day_at_any_other_time_is_an_error(answer_of):
    with pytest.raises(EmptySourceError, match="a bar of 1440 minutes is longer than the session"):
        answer_of(daily(lambda day: f"{day} 12:00", "timestamp"), NEW_YORK)


@pytest.mark.parametrize("written", ["%H:%M", "%H:%M:%S", "%H%M%S", "%H%M", "%I:%M %p"])
@pytest.mark.parametrize("day", ["%Y-%m-%d", "%Y%m%d", "%Y.%m.%d"])
def test_minutes_in_two_columns(answer_of, day: str, written: str):
    times = list(beginnings(NEW_YORK, 30))
    frame = rows(times).drop("timestamp")
    frame = frame.with_columns(
        date=pl.Series([at.strftime(day) for at in times]), time=pl.Series([at.strftime(written) for at in times])
    )
    found = answer_of(frame, NEW_YORK)
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions)
    assert found.bars["volume"].to_list() == [700.0 if at == date(2018, 11, 23) else 1300.0 for at in NEW_YORK.sessions]


@pytest.mark.parametrize("clock", ["00:00", "00:00:00", "000000", "0", ""])
def test_daily_bars_in_two_columns(answer_of, clock: str):
    found = answer_of(daily(str, "date").with_columns(time=pl.lit(clock)), NEW_YORK)
    assert found.bars["session"].to_list() == list(NEW_YORK.sessions)
