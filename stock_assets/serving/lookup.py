"""Which session, model and row a question is about, or why there is none. Pure but for the reading of a session."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from stock_assets.publication.layout import POINTER, Upcoming
from stock_assets.serving.current import Served
from stock_assets.serving.days import Day, ModelRows
from stock_assets.serving.problems import Problem

Status = Literal["published", "due", "late", "holiday", "not_yet", "not_published"]


@dataclass(frozen=True)
class SessionState:
    """What is known of a day."""

    day: date
    status: Status
    reason: str
    upcoming: Upcoming | None
    """when it closes and is due, of a session that is not published yet"""
    previous: date | None
    """the session before it"""
    next: date | None
    """the session after it"""


def state_of(served_state: Served, day: date, now: datetime) -> SessionState:
    """Whether `day` is a session of the exchange, and whether it is published at `now`."""
    facts, published_sessions = served_state.facts, served_state.sessions
    upcoming = {session.session: session for session in facts.upcoming}
    calendar = sorted({*published_sessions, *upcoming, *(facts.unpublished or ())})
    place = bisect_left(calendar, day)
    after = bisect_right(calendar, day)
    status, reason = _judge(served_state, day, now)
    return SessionState(
        day,
        status,
        reason,
        upcoming.get(day),
        calendar[place - 1] if place else None,
        calendar[after] if after < len(calendar) else None,
    )


def _judge(served_state: Served, day: date, now: datetime) -> tuple[Status, str]:
    facts, published_sessions = served_state.facts, served_state.sessions
    if str(day) in served_state.pointer.files["predictions"]:
        return "published", "its predictions are published"
    for coming_session in facts.upcoming:
        if coming_session.session == day:
            return _judge_upcoming(served_state, coming_session, now)
    if day < facts.first_session:
        return "not_published", f"the calendar of this market begins with {facts.first_session}"
    if not published_sessions or day < published_sessions[0]:
        return (
            "not_published",
            f"the published predictions begin with {published_sessions[0] if published_sessions else 'no session'}",
        )
    if day in (facts.unpublished or ()):
        return "not_published", "a session whose predictions were not published"
    last = max([published_sessions[-1], *(coming_session.session for coming_session in facts.upcoming)])
    if day > last:
        status = "not_yet" if facts.upcoming else "not_published"  # a snapshot ends
        return status, f"the calendar of this publication ends with {last}"
    if facts.unpublished is None and day < published_sessions[-1]:
        return "not_published", "no session of the exchange, or one whose predictions were not published"
    return "holiday", f"{facts.exchange} is closed on {day:%A}, {day}"


def _judge_upcoming(served_state: Served, session: Upcoming, now: datetime) -> tuple[Status, str]:
    due_text = f"its predictions are due at {stamp(session.due_at)}"
    if now < session.closes_at:
        return "not_yet", f"it closes at {stamp(session.closes_at)}, and {due_text}"
    if now <= session.due_at + timedelta(seconds=served_state.facts.grace_seconds):
        return "due", f"it has closed, and {due_text}"
    return "late", f"its predictions were due at {stamp(session.due_at)}, and are not published"


def stamp(moment: datetime) -> str:
    """A moment as the API writes it, in UTC.

    >>> from datetime import UTC
    >>> stamp(datetime(2026, 11, 20, 21, 30, tzinfo=UTC))
    '2026-11-20T21:30:00Z'
    """
    return moment.isoformat().replace("+00:00", "Z")


def no_session(state: SessionState, now: datetime) -> Problem:
    """The problem of a day that is not published."""
    days: dict[str, Any] = {"previous": _text(state.previous), "next": _text(state.next)}
    detail = f"{state.day}: {state.reason}"
    if state.status == "holiday":
        return Problem("not-a-session", detail, session_status=state.status, **days)
    if state.upcoming is None:
        kind = "not-published-yet" if state.status == "not_yet" else "not-published"
        return Problem(kind, detail, session_status=state.status, **days)
    due_at = state.upcoming.due_at
    wait = max(int((due_at - now).total_seconds()), 60)
    kind = "late" if state.status == "late" else "not-published-yet"
    return Problem(
        kind, detail, headers={"Retry-After": str(wait)}, session_status=state.status, due_at=stamp(due_at), **days
    )


def _text(day: date | None) -> str | None:
    return None if day is None else str(day)


def resolve(served_state: Served, session: date | None, now: datetime, *, root: Served | None = None) -> date:
    """`session`, or the newest one for None. Raises Problem where it is not published.

    `root` is what is served now, where `served_state` is what was served earlier.
    """
    if session is None:
        if served_state.newest is None:
            raise nothing_published()
        return served_state.newest
    if str(session) in served_state.pointer.files["predictions"]:
        return session
    if root is not None and str(session) in root.pointer.files["predictions"]:
        moment = stamp(served_state.pointer.published_at)
        raise Problem("not-published", f"{session} was not published by then; the publication of {moment} lacks it")
    raise no_session(state_of(root or served_state, session, now), now)


@dataclass(frozen=True)
class Resolved:
    """A session that was asked for, and why it is not published where it is not."""

    session: date
    status: str
    problem: Problem | None = None


def resolved(served_state: Served, session: date | None, now: datetime, *, root: Served) -> Resolved:
    """As `resolve`, with the problem as a value. Raises Problem where nothing is published at all."""
    try:
        return Resolved(resolve(served_state, session, now, root=root), "published")
    except Problem as problem:
        if session is None:
            raise
        return Resolved(session, str(problem.members.get("session_status", "not_published")), problem)


def nothing_published(trouble: str | None = None) -> Problem:
    """The problem before anything was published, or where the first pointer cannot be read for `trouble`."""
    if trouble is not None:
        return Problem("damaged-publication", trouble, file=POINTER)
    return Problem(
        "not-published",
        "nothing is published yet; materialize publication, or start with `make run`",
        session_status="not_published",
    )


def rows_of(day: Day, model: str) -> ModelRows:
    """What `model` says of the session. Raises Problem where it says nothing."""
    rows = day.models.get(model)
    if rows is None:
        models = sorted(day.models)
        model_names = ", ".join(models) or "no model"
        detail = f"the session {day.session} has no row of the model {model}; it has {model_names}"
        raise Problem("unknown-model", detail, models=models)
    return rows


def require_ticker(day: Day, ticker: str) -> None:
    """Raises Problem for a ticker of which the session has no row."""
    if not day.holds(ticker):
        hint = f"; it has {ticker.upper()}" if day.holds(ticker.upper()) else ""
        raise Problem("unknown-ticker", f"the session {day.session} has no row of {ticker}{hint}")
