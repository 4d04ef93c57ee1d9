"""When orders are due: in the evening, before the open, and never for a session of the past."""

from datetime import UTC, date, datetime, timedelta

import pytest

from stock_assets.errors import TradingError
from stock_assets.market.calendar import trading_calendar
from stock_assets.trading.due import Evening, newest_of, orders_due, require_newest, window_of

NEW_YORK = trading_calendar("XNYS", date(2026, 11, 2), date(2026, 12, 31))
#: The day before Thanksgiving: the open after it is on Friday, which is a half day.
WEDNESDAY, FRIDAY, MONDAY = date(2026, 11, 25), date(2026, 11, 27), date(2026, 11, 30)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}+00:00")


def test_windows_end_before_the_next_open_whatever_lies_between():
    window = window_of(NEW_YORK, WEDNESDAY)
    assert (window.fill_session, window.first, window.second, window.last) == (
        FRIDAY,
        at("11-26 00:05"),
        at("11-27 13:30"),
        at("11-27 14:28"),
    )
    assert window_of(NEW_YORK, FRIDAY).first == at("11-28 00:05")  # 19:05 on a half day as well


@pytest.mark.parametrize("code", ["XTKS", "XLON", "XASX", "24/7"])
def test_of_other_exchanges_they_lie_between_close_and_open(code: str):
    calendar = trading_calendar(code, date(2026, 11, 2), date(2026, 12, 30))
    for session in calendar.sessions[:20]:
        window = window_of(calendar, session)
        assert window.first <= window.second < window.last < calendar.opens[window.fill_session]
        assert code == "24/7" or calendar.closes[session] <= window.first


THERE = Evening(WEDNESDAY)


@pytest.mark.parametrize(
    ("evening", "now", "due", "words"),
    [
        (THERE, "11-25 23:59", None, "due at 2026-11-26 00:05"),
        (THERE, "11-26 00:05", 1, "for the open of 2026-11-27"),
        (Evening(date(2026, 11, 24)), "11-26 01:00", None, "the orders wait for 2026-11-25"),
        (Evening(None), "11-26 01:00", None, "through None"),
        (Evening(WEDNESDAY, at("11-26 00:06"), True), "11-26 01:00", None, "are sent"),
        (Evening(WEDNESDAY, at("11-26 00:06"), True, 2), "11-26 01:00", 3, "2 order(s) of 2026-11-25 is unknown"),
        (Evening(WEDNESDAY, at("11-26 00:06"), False), "11-26 01:00", None, "refused by a gate at"),
        (Evening(WEDNESDAY, at("11-26 00:06"), False), "11-27 13:30", 2, "second chance"),
        (Evening(WEDNESDAY, at("11-27 13:31"), False), "11-27 13:40", None, "refused by a gate at"),
        (THERE, "11-27 14:28", None, "from 2026-11-27 14:28 UTC on"),
        (THERE, "11-27 18:30", None, "due at 2026-11-28 00:05"),  # Friday has closed at 18:00
    ],
)
def test_what_is_due(evening: Evening, now: str, due: int | None, words: str):
    answer = orders_due(NEW_YORK, evening, now=at(now))
    assert words in answer.reason
    assert answer.session == (WEDNESDAY if due else None)
    assert due is None or answer.work == f"orders of 2026-11-25, chance {due}"


@pytest.mark.parametrize(
    ("session", "now", "words"),
    [
        (date(2026, 11, 24), "11-26 01:00", "expected 2026-11-25, the newest closed session"),
        (FRIDAY, "11-26 01:00", "expected 2026-11-25"),
        (WEDNESDAY, "11-25 22:00", "expected a time from 2026-11-26 00:05"),
        (WEDNESDAY, "11-27 14:28", "to 2026-11-27 14:28 UTC"),
    ],
)
def test_any_other_session_is_refused(session: date, now: str, words: str):
    with pytest.raises(TradingError, match=r"Nothing is sent") as refused:
        require_newest(NEW_YORK, session, now=at(now))
    assert words in str(refused.value)


def test_a_range_is_refused_and_the_last_session_has_no_open():
    with pytest.raises(TradingError, match="orders of 2 sessions were asked for, 2026-11-25 to 2026-11-27"):
        newest_of([WEDNESDAY, FRIDAY])
    with pytest.raises(TradingError, match="is the last session of the calendar"):
        window_of(NEW_YORK, NEW_YORK.sessions[-1])
    done = orders_due(NEW_YORK, THERE, now=datetime(2027, 1, 1, tzinfo=UTC) + timedelta(hours=1))
    assert done.reason == "the calendar has no session that is filled next"
