import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from stock_assets.defs.partitions import trading_days
from stock_assets.errors import SettingsError
from stock_assets.market.calendar import calendar_of, trading_calendar
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.settings import CALENDAR_END, read_settings

XNYS = trading_calendar("XNYS", date(2012, 1, 3), date(2013, 1, 31))


def test_storms_and_holidays_are_no_sessions():
    assert not XNYS.is_session(date(2012, 10, 29))  # Hurricane Sandy
    assert not XNYS.is_session(date(2012, 12, 25))
    assert XNYS.is_session(date(2012, 12, 24))  # a half day is a session


def test_between_includes_both_ends_and_takes_any_day():
    assert XNYS.between(date(2012, 10, 27), date(2012, 10, 31)) == (date(2012, 10, 31),)
    assert XNYS.between(date(2012, 7, 3), date(2012, 7, 5)) == (date(2012, 7, 3), date(2012, 7, 5))


def test_before_and_shift_count_sessions():
    assert XNYS.before(date(2012, 7, 5), 2) == (date(2012, 7, 2), date(2012, 7, 3))
    assert XNYS.before(date(2012, 1, 3), 5) == ()
    assert XNYS.shift(date(2012, 7, 3), 1) == date(2012, 7, 5)
    assert XNYS.shift(date(2012, 1, 3), -1) is None


def test_position_names_what_is_no_session():
    with pytest.raises(ValueError, match="2012-12-25 is no session of XNYS"):
        XNYS.position(date(2012, 12, 25))


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2012, 7, 5, 23, 59, tzinfo=UTC), date(2012, 7, 3)),
        (datetime(2012, 7, 6, 0, 0, tzinfo=UTC), date(2012, 7, 5)),
        (
            datetime(2012, 7, 9, 12, 0, tzinfo=UTC),
            date(2012, 7, 6),
        ),  # Friday is there on Monday noon
    ],
)
def test_a_session_is_closed_at_midnight_utc(moment: datetime, expected: date):
    assert XNYS.last_closed(moment) == expected


def test_kept_sessions_are_those_computed_and_are_read_again(tmp_path: Path):
    start, end = date(2012, 1, 3), date(2013, 1, 31)
    kept = trading_calendar("XNYS", start, end, cache_dir=tmp_path / "new")
    assert kept == XNYS
    (file,) = (tmp_path / "new").iterdir()
    trading_calendar.cache_clear()
    known = {"zone": "UTC", "days": ["2012-01-03"], "opens": [1325601000], "closes": [1325624400], "rests": []}
    file.write_text(json.dumps(known | {"local_zone": "America/New_York"}))  # what is kept is what is read
    assert trading_calendar("XNYS", start, end, cache_dir=tmp_path / "new").sessions == (start,)
    trading_calendar.cache_clear()
    file.write_text(json.dumps(known))  # of an earlier version
    made_again = trading_calendar("XNYS", start, end, cache_dir=tmp_path / "new")
    assert (made_again.sessions, made_again.local_zone) == (XNYS.sessions, "America/New_York")


@pytest.mark.parametrize(
    ("session", "close"),
    [
        (date(2012, 7, 2), datetime(2012, 7, 2, 20, 0, tzinfo=UTC)),  # daylight saving
        (date(2012, 7, 3), datetime(2012, 7, 3, 17, 0, tzinfo=UTC)),  # a half day
        (date(2012, 12, 28), datetime(2012, 12, 28, 21, 0, tzinfo=UTC)),
    ],
)
def test_a_session_closes_when_the_exchange_does(session: date, close: datetime):
    assert XNYS.closes[session] == close


def test_an_exchange_nobody_knows_is_one_clear_error():
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_EXCHANGE=MOON is no calendar; expected one of .*XNYS"):
        trading_calendar("MOON", date(2012, 1, 3), date(2012, 1, 31))


@pytest.mark.parametrize(("name", "last_year"), [("XBOM", 2026), ("XSES", 2026), ("XSAU", 2029), ("XNYS", 2035)])
def test_an_open_end_is_the_last_day_that_the_calendar_has(name: str, last_year: int):
    calendar = trading_calendar(name, date(2025, 1, 2))
    assert calendar.sessions[0] <= date(2025, 1, 6)
    assert calendar.sessions[-1].year >= last_year  # a newer exchange_calendars may know more
    assert calendar.sessions[-1] <= CALENDAR_END


@pytest.mark.parametrize(
    ("name", "start", "end", "message"),
    [
        ("XTKS", date(1990, 1, 4), None, "STOCK_ASSETS_START=1990-01-04 lies before the calendar XTKS, .* 1997-01-01"),
        ("XBOM", date(1995, 1, 2), date(1995, 6, 30), "STOCK_ASSETS_START=1995-01-02 lies before the calendar XBOM"),
        ("XBOM", date(2025, 1, 2), CALENDAR_END, "STOCK_ASSETS_END=2035-12-31 lies after the calendar XBOM, .* 2026-"),
        ("XSAU", date(2034, 1, 2), None, "STOCK_ASSETS_START=2034-01-02 lies after the calendar XSAU"),
    ],
)
def test_days_that_a_calendar_lacks_are_one_clear_error(name: str, start: date, end: date | None, message: str):
    with pytest.raises(SettingsError, match=message) as caught:
        trading_calendar(name, start, end)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "open_days", "closed_days"),
    [
        # Orthodox Easter was on 5 May 2024, Good Friday of Rome on 29 March
        ("ASEX", ["2024-05-02", "2024-05-07"], ["2024-03-18", "2024-03-29", "2024-05-03", "2024-05-06", "2024-06-24"]),
        ("XBEL", ["2024-04-30", "2024-05-07"], ["2024-05-03", "2024-05-06"]),
        ("XBSE", ["2024-05-02", "2024-05-07"], ["2024-05-03", "2024-05-06", "2024-06-24"]),
        ("XCYS", ["2024-05-02", "2024-05-08"], ["2024-05-03", "2024-05-06", "2024-05-07"]),
        # from Sunday to Thursday until January 2026, from Monday to Friday since
        ("XTAE", ["2024-01-07", "2024-01-04", "2026-01-04", "2026-01-09"], ["2024-01-05", "2026-01-11"]),
        # single Saturdays on which Mumbai and Moscow traded
        ("XBOM", ["2024-01-20", "2025-02-01"], ["2024-01-27", "2025-02-08"]),
        ("XMOS", ["2018-04-28", "2024-04-27", "2024-11-02"], ["2018-05-05", "2024-04-20"]),
    ],
)
def test_calendars_of_orthodox_easters_and_changed_weeks(name: str, open_days: list[str], closed_days: list[str]):
    calendar = trading_calendar(name, date(2018, 1, 8))
    assert [day for day in open_days if not calendar.is_session(date.fromisoformat(day))] == []
    assert [day for day in closed_days if calendar.is_session(date.fromisoformat(day))] == []


def test_a_market_that_never_closes_has_a_session_every_day(tmp_path: Path):
    days = trading_calendar("24/7", date(2025, 1, 1), date(2025, 1, 31), cache_dir=tmp_path)
    assert len(days.sessions) == 31
    assert days.closures() == ()
    assert not days.rests_on_weekends
    assert days.last_closed(datetime(2025, 1, 5, tzinfo=UTC)) == date(2025, 1, 4)


def test_where_somebody_trades_on_weekends_the_other_weekends_are_closures():
    riyadh = trading_calendar("XSAU", date(2024, 1, 1), date(2024, 1, 31))  # from Sunday to Thursday
    assert riyadh.is_session(date(2024, 1, 7))
    closed = riyadh.closures()
    assert {day.weekday() for day in closed} == {4, 5}
    assert len(closed) + len(riyadh.sessions) == (riyadh.sessions[-1] - riyadh.sessions[0]).days + 1


@pytest.mark.parametrize(
    ("code", "zone", "moment", "last"),
    [
        ("XTKS", "Asia/Tokyo", datetime(2025, 1, 8, 15, tzinfo=UTC), date(2025, 1, 8)),
        ("XETR", "Europe/Berlin", datetime(2025, 7, 8, 21, 59, tzinfo=UTC), date(2025, 7, 7)),
        ("XLON", "UTC", datetime(2025, 7, 8, 23, 59, tzinfo=UTC), date(2025, 7, 7)),
        ("XNYS", "UTC", datetime(2025, 1, 9, tzinfo=UTC), date(2025, 1, 8)),
    ],
)
def test_a_day_is_over_at_the_midnight_that_comes_first(code: str, zone: str, moment: datetime, last: date):
    calendar = trading_calendar(code, date(2025, 1, 1), date(2025, 12, 31))
    assert (calendar.zone, calendar.last_closed(moment)) == (zone, last)
    # every session has closed when its day is over
    assert all(calendar.closes[day] <= calendar.day_over(day) for day in calendar.sessions)
    assert all(calendar.opens[day] < calendar.closes[day] for day in calendar.sessions)


# ---------------------------------------------------------------- declared sessions


def test_declared_sessions_reach_calendar_partitions_and_files(tmp_path: Path):
    saturday, typhoon = date(2024, 1, 20), date(2024, 1, 22)
    settings = read_settings(
        source="snapshot",
        snapshot=tmp_path / "SENSEX.csv",
        data_dir=tmp_path / "store",
        exchange="XBOM",
        start=date(2023, 12, 1),
        end=date(2024, 3, 28),
        first_model_year=2024,
        extra_sessions="2024-01-20 09:15-12:30, 2024-03-02",
        missing_sessions="2024-01-23,2024-01-21",
    )
    calendar = calendar_of(settings)
    plain = trading_calendar("XBOM", date(2023, 12, 1), date(2024, 3, 28))
    assert plain.is_session(saturday)  # the declaration sets its hours
    assert set(calendar.sessions) ^ set(plain.sessions) == {date(2024, 3, 2), date(2024, 1, 23)}
    assert calendar.opens[saturday] == datetime(2024, 1, 20, 3, 45, tzinfo=UTC)
    assert calendar.closes[saturday] == datetime(2024, 1, 20, 7, 0, tzinfo=UTC)
    assert calendar.closes[date(2024, 3, 2)].time() == plain.closes[date(2024, 3, 1)].time()
    keys = trading_days(settings).get_partition_keys()
    assert keys == [str(day) for day in calendar.sessions]
    assert typhoon not in calendar.sessions  # Mumbai rested on it anyway

    days = [day for day in plain.sessions[20:60] if day not in (saturday, date(2024, 1, 23))]
    rows = [f"{day},10,11,9,10,100" for day in sorted([*days, saturday])]
    (tmp_path / "SENSEX.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]))
    source = SnapshotSource(tmp_path / "SENSEX.csv", calendar)
    bars = source.fetch(["SENSEX"], days[0], days[-1], fetched_at=datetime(2024, 6, 1, tzinfo=UTC))
    assert bars.bars["session"].to_list() == sorted({*days, saturday})
    assert bars.findings.is_empty()


@pytest.mark.parametrize(
    ("name", "value"),
    [("extra_sessions", "20 January"), ("extra_sessions", "2024-01-20 12:00-09:00"), ("missing_sessions", "soon")],
)
def test_a_declared_session_that_is_no_day_is_one_line(name: str, value: str):
    with pytest.raises(SettingsError, match=rf"STOCK_ASSETS_{name.upper()}"):
        read_settings(**{name: value})
