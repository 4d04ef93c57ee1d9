"""What an evening has to do, decided from what the store holds, what is under way and the clock."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile

from stock_assets.market.calendar import TradingCalendar

#: A session that failed is tried again after so long, twice as long after every further failure, up to the longest:
#: a vendor mends a bad day within hours, and an alarm a minute helps nobody.
RETRY, LONGEST_RETRY = timedelta(minutes=30), timedelta(hours=6)

#: The tag of a run that ended because its server was killed: no failure of its session, which is tried again at once.
INTERRUPTED = "stock_assets/interrupted"


@dataclass(frozen=True)
class State:
    """What is known when a tick asks."""

    now: datetime
    """aware"""
    predicted_through: date | None
    """the last session of `predictions`"""
    labelled_through: date | None
    """the last session of `labels`"""
    model_years: frozenset[int]
    """the model years that are trained, networks, baselines and ensemble"""
    under_way: str | None = None
    """the run or backfill that writes meanwhile, in words"""
    failures: int = 0
    """runs for the oldest session that is not predicted which failed"""
    failed_at: datetime | None = None
    """when the last of them did"""
    attempts: int = 0
    """all runs for it that there were"""


@dataclass(frozen=True)
class Plan:
    """The sessions to make now, ascending; none where `reason` says why there is nothing to do."""

    sessions: tuple[date, ...]
    reason: str


def due_at(calendar: TradingCalendar, session: date, after_close: timedelta) -> datetime:
    """When a session is to be fetched, UTC: `after_close` after its close, and not before its partition exists, at
    midnight of the calendar's zone."""
    return max(calendar.closes[session] + after_close, calendar.day_over(session))


def chain_due(calendar: TradingCalendar, after_close: timedelta, state: State) -> Plan:
    """The closed sessions that have no predictions yet, oldest first.

    After a failure the oldest alone is tried again: those behind it wait for what is wrong with it.
    """
    if state.under_way:
        return Plan((), f"{state.under_way} is under way")
    if state.predicted_through is None:
        return Plan((), "no session is predicted yet; `make run` or a backfill makes the first ones")
    following = calendar.between(state.predicted_through + timedelta(days=1), calendar.sessions[-1])
    if not following:
        return Plan((), f"{state.predicted_through} is predicted, and the calendar of the settings ends there")
    due = list(takewhile(lambda session: due_at(calendar, session, after_close) <= state.now, following))
    if not due:
        moment = due_at(calendar, following[0], after_close)
        return Plan((), f"{state.predicted_through} is predicted; {following[0]} is due at {moment:%Y-%m-%d %H:%M} UTC")
    served = list(takewhile(lambda session: session.year in state.model_years, due))
    if not served:
        return Plan((), f"{due[0]} waits for model year {due[0].year}, which is not trained yet")
    if state.failures:
        assert state.failed_at is not None
        again = state.failed_at + min(RETRY * 2 ** (state.failures - 1), LONGEST_RETRY)
        if state.now < again:
            return Plan(
                (),
                f"{served[0]} failed {state.failures} time(s), last at {state.failed_at:%Y-%m-%d %H:%M} UTC; it is "
                f"tried again at {again:%Y-%m-%d %H:%M} UTC",
            )
        served = served[:1]
    return Plan(tuple(served), f"{len(served)} closed session(s) without predictions, from {served[0]}")


def labels_due(calendar: TradingCalendar, horizon: int, state: State) -> Plan:
    """The sessions whose labels became complete. A session counts as closed once it is predicted: the bars of one
    that stopped at a check must not decide labels."""
    if state.under_way:
        return Plan((), f"{state.under_way} is under way")
    if state.predicted_through is None or state.labelled_through is None:
        return Plan((), "nothing is predicted or labelled yet; `make run` or a backfill makes the first ones")
    last = calendar.shift(state.predicted_through, -horizon)
    due = calendar.between(state.labelled_through + timedelta(days=1), last) if last else ()
    if not due:
        return Plan((), f"every label that {state.predicted_through} completes is there")
    return Plan(due, f"labels of {len(due)} session(s) from {due[0]} became complete by {state.predicted_through}")


def model_year_due(calendar: TradingCalendar, horizon: int, state: State) -> int | None:
    """The model year of the next session, where it is to be trained now: the sessions before it are done, with
    every label they complete, and no model serves it yet."""
    if state.under_way or state.predicted_through is None or state.labelled_through is None:
        return None
    upcoming = calendar.shift(state.predicted_through, 1)
    if upcoming is None or upcoming.year in state.model_years or labels_due(calendar, horizon, state).sessions:
        return None
    return upcoming.year
