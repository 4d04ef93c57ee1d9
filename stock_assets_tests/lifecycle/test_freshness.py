"""Late is counted in sessions: evenings, holidays and weekends of twenty years."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stock_assets.lifecycle.evening import due_at
from stock_assets.lifecycle.freshness import GRACE, freshness
from stock_assets.market.calendar import trading_calendar

XNYS = trading_calendar("XNYS", date(2010, 1, 4), date(2030, 12, 31))
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "predicted", "behind"),
    [
        ("2025-03-05T01:59", "2025-03-03", 0),  # Tuesday was due at midnight and has its grace
        ("2025-03-05T02:00", "2025-03-03", 1),
        ("2025-03-05T02:00", "2025-03-04", 0),
        ("2025-03-10T23:59", "2025-03-07", 0),  # from Friday's evening to Monday's nothing is due
        ("2025-03-08T02:00", "2025-03-06", 1),  # Friday is late on a Saturday
        ("2025-03-09T12:00", "2025-03-06", 1),  # and on Sunday it is still the one
        ("2025-11-28T12:00", "2025-11-26", 0),  # Thanksgiving
        ("2025-12-26T01:00", "2025-12-24", 0),  # Christmas
        ("2025-01-10T12:00", "2025-01-08", 0),  # a day of mourning, announced ten days before
        ("2025-03-14T12:00", "2025-03-06", 5),
        ("2010-01-04T12:00", "2010-01-04", 0),  # before the first was due
    ],
)
def test_sessions_behind(now: str, predicted: str, behind: int):
    state = freshness(XNYS, HOUR, GRACE, predicted_through=date.fromisoformat(predicted), now=at(now))
    assert (state.fresh, state.sessions_behind) == (behind == 0, behind)


def test_a_late_session_says_since_when():
    state = freshness(XNYS, HOUR, GRACE, predicted_through=date(2025, 3, 3), now=at("2025-03-06T12:00"))
    assert state.last_expected == date(2025, 3, 5)
    assert state.reason == (
        "2 session(s) behind: 2025-03-04 was due at 2025-03-05 00:00 UTC, and the last one predicted is 2025-03-03"
    )


def test_a_store_that_was_never_filled_is_not_late():
    assert freshness(XNYS, HOUR, GRACE, predicted_through=None, now=at("2025-03-06T12:00")).fresh


@given(
    st.integers(20, len(XNYS.sessions) - 20),
    st.integers(0, 10 * 24 * 60),
    st.integers(0, 15),
    st.integers(0, 720),
    st.integers(0, 30 * 60),
)
def test_it_is_what_counting_all_sessions_says(start: int, minutes: int, done: int, after_close: int, grace: int):
    after, patience = timedelta(minutes=after_close), timedelta(minutes=grace)
    now = XNYS.closes[XNYS.sessions[start]] + timedelta(minutes=minutes)
    predicted = XNYS.sessions[start - 10 + done]
    late = [
        s for s in XNYS.sessions[start - 20 : start + 20] if s > predicted and due_at(XNYS, s, after) + patience <= now
    ]
    state = freshness(XNYS, after, patience, predicted_through=predicted, now=now)
    assert state.sessions_behind == len(late)
    assert state.fresh is not bool(late)
