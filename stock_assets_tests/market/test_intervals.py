"""The bars of a session, and the session of a bar, against the clock of the exchange."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import MINUTES, Interval, bar_ends, expected_bars, session_of

NEW_YORK = trading_calendar("XNYS", date(2024, 2, 26), date(2024, 11, 29))
ALWAYS = trading_calendar("24/7", date(2024, 2, 26), date(2024, 4, 5))
ONE = Interval.parse("1m")


@pytest.mark.parametrize("text", MINUTES)
def test_an_interval_is_spelled_as_the_setting_does(text: str):
    interval = Interval.parse(text)
    assert (interval.text, interval.length, interval.is_daily) == (
        text,
        timedelta(minutes=MINUTES[text]),
        text == "1d",
    )


@pytest.mark.parametrize("text", ["2m", "1", "", "1M", "60m"])
def test_another_interval_is_refused_by_name(text: str):
    with pytest.raises(ValueError, match="expected one of 1m, 5m, 15m, 1h, 1d"):
        Interval.parse(text)


@pytest.mark.parametrize(
    ("session", "first", "last", "count"),
    [
        (date(2024, 3, 8), "14:31", "21:00", 390),  # the last session of winter time
        (date(2024, 3, 11), "13:31", "20:00", 390),  # the first of summer time
        (date(2024, 11, 29), "14:31", "18:00", 210),  # half a day
    ],
)
def test_a_session_of_new_york_has_its_minutes_in_utc(session: date, first: str, last: str, count: int):
    ends = bar_ends(NEW_YORK, session, ONE)
    assert (ends[0].strftime("%H:%M"), ends[-1].strftime("%H:%M"), len(ends)) == (first, last, count)
    assert ends.diff().drop_nulls().unique().to_list() == [timedelta(minutes=1)]


def test_a_day_of_24_7_has_1440_minutes_and_ends_at_midnight():
    ends = bar_ends(ALWAYS, date(2024, 3, 31), ONE)
    assert len(ends) == 1440
    assert ends[-1] == datetime(2024, 4, 1, tzinfo=UTC)


def test_a_session_of_hours_that_hold_the_change_of_the_clocks_has_an_hour_less():
    from stock_assets.setting_values import SessionHours

    berlin = ALWAYS.with_hours(SessionHours.parse("00:00-24:00 Europe/Berlin"))
    assert len(bar_ends(berlin, date(2024, 3, 31), Interval.parse("1h"))) == 23
    assert len(bar_ends(berlin, date(2024, 3, 30), Interval.parse("1h"))) == 24


def test_the_last_bar_of_an_hour_ends_with_the_session():
    ends = bar_ends(NEW_YORK, date(2024, 3, 11), Interval.parse("1h"))
    assert [f"{end.astimezone(ZoneInfo('America/New_York')):%H:%M}" for end in ends] == [
        "10:30", "11:30", "12:30", "13:30", "14:30", "15:30", "16:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exchange", "session", "hours"),
    [
        ("XTKS", date(2024, 1, 4), "10:00 11:00 11:30 13:30 14:30 15:00"),
        ("XTKS", date(2024, 11, 5), "10:00 11:00 11:30 13:30 14:30 15:30"),  # the close moved to 15:30
        ("XHKG", date(2024, 1, 4), "10:30 11:30 12:00 14:00 15:00 16:00"),
        ("XHKG", date(2024, 12, 24), "10:30 11:30 12:00"),  # half a day
    ],
)
def test_the_rest_at_noon_has_no_bars_and_hours_begin_anew_after_it(exchange: str, session: date, hours: str):
    calendar = trading_calendar(exchange, date(2024, 1, 2), date(2024, 12, 31))
    ends = bar_ends(calendar, session, Interval.parse("1h"))
    local = [f"{end.astimezone(ZoneInfo(calendar.local_zone)):%H:%M}" for end in ends]
    assert local == hours.split()
    minutes = [f"{end.astimezone(ZoneInfo(calendar.local_zone)):%H:%M}" for end in bar_ends(calendar, session, ONE)]
    assert not {f"{hour:02d}:{minute:02d}" for hour in (12,) for minute in range(1, 30)} & set(minutes)


def _session_by_hand(calendar: TradingCalendar, moment: datetime) -> date | None:
    found = [day for day in calendar.sessions if calendar.opens[day] < moment <= calendar.closes[day]]
    return found[0] if found else None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 50 * 24 * 60 * 60), max_size=60), st.sampled_from([NEW_YORK, ALWAYS]))
def test_the_session_of_moments_is_the_one_whose_hours_hold_them(seconds: list[int], calendar: TradingCalendar):
    moments = [datetime(2024, 2, 20, tzinfo=UTC) + timedelta(seconds=each) for each in seconds]
    ends = pl.Series(moments, dtype=pl.Datetime("us", "UTC"))
    assert session_of(calendar, ends).to_list() == [_session_by_hand(calendar, moment) for moment in moments]


@pytest.mark.parametrize("calendar", [NEW_YORK, ALWAYS], ids=["XNYS", "24/7"])
@pytest.mark.parametrize("text", ["1m", "15m", "1h"])
def test_every_bar_lies_in_the_session_that_it_is_a_bar_of(calendar: TradingCalendar, text: str):
    bars = expected_bars(calendar, calendar.sessions[:30], Interval.parse(text))
    assert session_of(calendar, bars["bar_end"]).to_list() == bars["session"].to_list()
    assert bars["bar_end"].is_unique().all()
