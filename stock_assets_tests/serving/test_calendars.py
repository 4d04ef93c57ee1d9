"""What the API says of any day at any moment, on exchanges of several zones and on one that never closes."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import exchange_calendars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import calendar_of
from stock_assets.publication.materialize.publish import facts_of
from stock_assets.serving.app import make_app
from stock_assets.settings import read_settings
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.wire import Wire

#: Over the turn of a year, at which XTKS rests four days and XNYS one; the last of three published sessions is before.
START, LAST, END = date(2024, 12, 2), date(2024, 12, 27), date(2025, 6, 30)
FOREX = "17:00-17:00 America/New_York"


@dataclass(frozen=True)
class Exchange:
    """The API of one exchange, and what exchange_calendars itself says of it."""

    wire: Wire
    move: Callable[[datetime], None]
    """sets the clock of the API"""
    closes: dict[date, datetime]
    """of every session, UTC"""
    published: tuple[date, ...]
    last: date
    """the last session that the publication names"""
    zone: str


def exchange_of(folder: Path, code: str, hours: str | None) -> Exchange:
    config = read_settings(
        data_dir=folder, exchange=code, session_hours=hours, start=START, end=END, first_model_year=2025
    )
    sessions = calendar_of(config).between(START, LAST)[-3:]
    facts = facts_of(config, sessions, None)
    published_folder(folder / "published", sessions=sessions, facts=facts)
    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 deprecates
        warnings.simplefilter("ignore", DeprecationWarning)
        schedule = exchange_calendars.get_calendar(code, start=str(START), end=str(END)).closes
    closes = {day.date(): close.to_pydatetime() for day, close in schedule.items()}
    zone = "America/New_York" if hours else {"XNYS": "America/New_York", "XTKS": "Asia/Tokyo", "24/7": "UTC"}[code]
    if hours:  # a session ends at five in New York, on its own day
        closes = {day: datetime(day.year, day.month, day.day, 17, tzinfo=ZoneInfo(zone)) for day in closes}
    at = [datetime(2024, 12, 27, 23, tzinfo=UTC)]

    def move(moment: datetime) -> None:
        at[0] = moment

    return Exchange(
        Wire(make_app(config, clock=lambda: at[0])), move, closes, sessions, facts.upcoming[-1].session, zone
    )


@pytest.fixture(scope="module", params=[("XNYS", None), ("XTKS", None), ("24/7", None), ("24/7", FOREX)], ids=str)
def exchange(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    return exchange_of(tmp_path_factory.mktemp("exchange"), *request.param)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(days=st.integers(-2, 20), minutes=st.integers(-3 * 1440, 18 * 1440))
def test_a_day_is_what_the_exchange_says_at_every_moment(exchange: Exchange, days: int, minutes: int):
    day, now = LAST + timedelta(days=days), datetime(2024, 12, 28, tzinfo=UTC) + timedelta(minutes=minutes)
    exchange.move(now)
    said = exchange.wire.get(f"/v1/sessions/{day}").json()
    asked = exchange.wire.get(f"/v1/predictions/AAPL?session={day}")
    assert said["zone"] == exchange.zone
    if day in exchange.published:
        assert (said["status"], asked.status) == ("published", 200)
        assert asked.json()["session"] == str(day)
        return
    assert asked.status == (409 if day in exchange.closes or day > exchange.last else 404)
    if day > exchange.last or day < exchange.published[0]:
        assert said["status"] in ("not_yet", "not_published")
        assert said["closes_at"] is None
    elif (close := exchange.closes.get(day)) is None:
        assert (said["status"], said["closes_at"]) == ("holiday", None)
    else:
        due, late = (datetime.fromisoformat(said[name]) for name in ("due_at", "late_after"))
        assert datetime.fromisoformat(said["closes_at"]) == close
        local = datetime.fromisoformat(said["closes_at_local"])
        assert local == close
        assert local.utcoffset() == close.astimezone(ZoneInfo(exchange.zone)).utcoffset()
        assert close < due < late
        assert said["status"] == ("not_yet" if now < close else "due" if now <= late else "late")


def test_sessions_follow_one_another_as_on_the_exchange(exchange: Exchange):
    exchange.move(datetime(2024, 12, 28, tzinfo=UTC))
    day, walked = exchange.published[0], []
    while day is not None:
        walked.append(day)
        following = exchange.wire.get(f"/v1/sessions/{day}").json()["next"]
        day = following and date.fromisoformat(following)
    assert walked == [one for one in exchange.closes if exchange.published[0] <= one <= exchange.last]
    assert len(walked) == 13
