"""When the orders of a session are due: after the evening, and in time for the next opening auction.

A broker takes opening orders from the evening on and until minutes before the open, later than predictions are made:
they are no part of the evening's chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from stock_assets.errors import TradingError
from stock_assets.market.calendar import TradingCalendar

#: From when on opening orders are taken in New York, and how long after a close elsewhere.
EVENING, NEW_YORK, AFTER_CLOSE = time(19, 5), ZoneInfo("America/New_York"), timedelta(hours=3, minutes=5)
#: Before the next open: when orders that no evening sent get their second chance, and until when they are taken.
SECOND_CHANCE, LAST_CALL = timedelta(minutes=60), timedelta(minutes=2)


@dataclass(frozen=True)
class Window:
    """When the orders that were decided at the close of `session` are sent."""

    session: date
    fill_session: date
    first: datetime
    """UTC, as the others"""
    second: datetime
    last: datetime
    """no order is sent from then on"""


@dataclass(frozen=True)
class Evening:
    """What is there of the newest closed session."""

    targets_through: date | None
    """the newest session with target weights"""
    decided_at: datetime | None = None
    """when its gates were looked at last"""
    passed: bool = False
    """whether they all did"""
    unsettled: int = 0
    """orders of its plan of which the broker's answer is unknown"""


@dataclass(frozen=True)
class Due:
    """The session whose orders are due now, None where `reason` says why there is none."""

    session: date | None
    reason: str
    chance: int = 1
    """1 in the evening, 2 before the open, 3 where an order's fate is unknown"""

    @property
    def work(self) -> str:
        """The name of the run; each chance has attempts of its own."""
        return f"orders of {self.session}, chance {self.chance}"


def window_of(calendar: TradingCalendar, session: date) -> Window:
    """The window of `session`. Raises TradingError where the calendar has no session after it.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> new_york = trading_calendar("XNYS", date(2026, 11, 2), date(2026, 12, 31))
    >>> str(window_of(new_york, date(2026, 11, 27)).first)  # a half day before a weekend
    '2026-11-28 00:05:00+00:00'
    """
    following = calendar.shift(session, 1)
    if following is None:
        raise TradingError(f"{session} is the last session of the calendar; expected one after it, to fill orders in")
    opens, closes = calendar.opens[following], calendar.closes[session]
    last = opens - LAST_CALL
    evening = datetime.combine(session, EVENING, NEW_YORK).astimezone(closes.tzinfo)
    first = evening if closes <= evening < last else min(closes + AFTER_CLOSE, opens - SECOND_CHANCE)
    return Window(session, following, first, max(first, opens - SECOND_CHANCE), last)


def newest_closed(calendar: TradingCalendar, now: datetime) -> date | None:
    """The last session that has closed by `now`, whatever the day is where it did."""
    recent = calendar.before(now.date() + timedelta(days=2), 8)
    closed_sessions = [session for session in recent if calendar.closes[session] <= now]
    return closed_sessions[-1] if closed_sessions else None


def orders_due(calendar: TradingCalendar, evening: Evening, *, now: datetime) -> Due:
    """The session whose orders are to be sent at `now`: twice at most, unless an order's fate is unknown."""
    if waits := too_early(calendar, now=now):
        return Due(None, waits)
    session = newest_closed(calendar, now)
    assert session is not None  # as it is not too early
    window = window_of(calendar, session)
    if evening.targets_through is None or evening.targets_through < session:
        return Due(None, f"target_weights is there through {evening.targets_through}; the orders wait for {session}")
    if evening.decided_at is None:
        return Due(session, f"the orders of {session} for the open of {window.fill_session}")
    if evening.passed:
        if evening.unsettled:
            return Due(session, f"the fate of {evening.unsettled} order(s) of {session} is unknown", 3)
        return Due(None, f"the orders of {session} are sent")
    if now >= window.second > evening.decided_at:
        return Due(session, f"the orders of {session} were refused by a gate: their second chance", 2)
    return Due(None, f"the orders of {session} were refused by a gate at {evening.decided_at:%Y-%m-%d %H:%M} UTC")


def too_early(calendar: TradingCalendar, *, now: datetime) -> str | None:
    """Why no order can be sent at `now`, whatever is stored; None within the window of the newest session."""
    session = newest_closed(calendar, now)
    if session is None or calendar.shift(session, 1) is None:
        return "the calendar has no session that is filled next"
    window = window_of(calendar, session)
    if now < window.first:
        return f"the orders of {session} are due at {window.first:%Y-%m-%d %H:%M} UTC"
    if now >= window.last:
        return f"no order of {session} is taken from {window.last:%Y-%m-%d %H:%M} UTC on"
    return None


def newest_of(sessions: Sequence[date]) -> date:
    """The one of `sessions`. Raises TradingError for several: orders of the past cannot be sent."""
    if len(sessions) != 1:
        raise TradingError(
            f"orders of {len(sessions)} sessions were asked for, {sessions[0]} to {sessions[-1]}; expected the newest "
            "alone: an order of the past cannot be sent, so orders are never back-filled. Nothing is sent"
        )
    return sessions[0]


def require_newest(calendar: TradingCalendar, session: date, *, now: datetime) -> Window:
    """The window of `session`. Raises TradingError unless it is the newest closed one and its open lies ahead."""
    newest = newest_closed(calendar, now)
    if session != newest:
        raise TradingError(
            f"orders of {session} were asked for; expected {newest}, the newest closed session: an order of the past "
            "cannot be sent, so orders are never back-filled. Nothing is sent"
        )
    window = window_of(calendar, session)
    if not window.first <= now < window.last:
        raise TradingError(
            f"orders of {session} were asked for at {now:%Y-%m-%d %H:%M} UTC; expected a time from "
            f"{window.first:%Y-%m-%d %H:%M} to {window.last:%Y-%m-%d %H:%M} UTC. Nothing is sent"
        )
    return window
