"""Whether the newest predictions are those expected by now, counted in sessions and not in hours."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.evening import due_at
from stock_assets.market.calendar import TradingCalendar

#: A session is late so long after it was due: time for a retry or two before an alert.
GRACE = timedelta(hours=2)
#: The key of the alert about late predictions.
KEY = "freshness/predictions"


@dataclass(frozen=True)
class Freshness:
    """How far the predictions are."""

    fresh: bool
    last_expected: date | None
    """the last session that should be predicted by now; None before the first"""
    sessions_behind: int
    """sessions, or bars, up to it that are not predicted"""
    reason: str
    unit: str = "session"
    """what `sessions_behind` counts: below a day, bars"""


def freshness(
    calendar: TradingCalendar,
    after_close: timedelta,
    grace: timedelta,
    *,
    predicted_through: date | None,
    now: datetime,
) -> Freshness:
    """How fresh `predicted_through`, the last session of the predictions, is at `now` (aware).

    A session counts as late `grace` after it was due. On weekends and holidays none is due, so nothing becomes late.
    A store without predictions is not late: it has not been filled yet.
    """
    # due moments ascend with the sessions: a few days after the last one that can be expected are looked at as well
    recent = calendar.before(now.astimezone(UTC).date() + timedelta(days=1), 8 + (after_close + grace).days)
    expected = [session for session in recent if due_at(calendar, session, after_close) + grace <= now]
    last = expected[-1] if expected else None
    if predicted_through is None:
        return Freshness(True, last, 0, "no session is predicted yet")
    if last is None or last <= predicted_through:
        return Freshness(True, last, 0, f"{predicted_through} is predicted, and none after it is late")
    behind = calendar.between(predicted_through + timedelta(days=1), last)
    due_time = due_at(calendar, behind[0], after_close)
    return Freshness(
        False,
        last,
        len(behind),
        f"{len(behind)} session(s) behind: {behind[0]} was due at {due_time:%Y-%m-%d %H:%M} UTC, and the last one "
        f"predicted is {predicted_through}",
    )


def alert_of(state: Freshness, now: datetime) -> Alert:
    """The alert about predictions that are late."""
    return Alert(KEY, f"predictions are {state.sessions_behind} {state.unit}(s) late", state.reason, None, now)
