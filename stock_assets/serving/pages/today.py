"""Screen 1: can tonight's predictions be used?"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from stock_assets.pages import numbers
from stock_assets.pages.numbers import plural
from stock_assets.pages.status import FailedCheck, Trouble, Verdict, verdict
from stock_assets.publication.layout import Facts, Upcoming
from stock_assets.publication.read import Publication
from stock_assets.serving.pages.alerts import OpenAlerts, run_address, troubles
from stock_assets.serving.pages.calls import (
    Call,
    LeftOut,
    calls_of,
    left_out,
    predicted_rows,
    session_before,
    strongest,
)

#: Calls listed from each end, and failed runs.
LISTED, RUNS = 5, 5


@dataclass(frozen=True)
class Lag:
    """How far the publication is behind the calendar."""

    behind: int
    """sessions that are late"""
    reason: str
    coming: Upcoming | None
    """the next session to be published that is not late"""


@dataclass(frozen=True)
class FailedRun:
    """A run that failed lately."""

    at: datetime
    what: str
    partitions: str | None
    run: str | None


@dataclass(frozen=True)
class TodayView:
    """What the screen shows; of an empty store the verdict and the alerts alone."""

    verdict: Verdict
    alerts: tuple[Trouble, ...]
    session: date | None = None
    published_at: datetime | None = None
    published_local: str = ""
    lag: Lag | None = None
    coming_local: str = ""
    due_local: str = ""
    predicted: int = 0
    absent: tuple[LeftOut, ...] = ()
    suspects: int = 0
    model: str = ""
    version: str | None = None
    trained_through: date | None = None
    age: int | None = None
    """sessions from the cutoff to the session"""
    checks: tuple[FailedCheck, ...] = ()
    passed_checks: int = 0
    runs: tuple[FailedRun, ...] = ()
    buys: tuple[Call, ...] = ()
    sells: tuple[Call, ...] = ()
    score: Mapping[str, Any] | None = None
    """the walk-forward row of the model in service"""
    naive: Mapping[str, Any] | None = None
    """that of the best naive baseline"""
    live: Mapping[str, Any] | None = None
    """the last rolling row of the model in service, with `naive`, the baseline's log-loss"""
    currency: str | None = None

    @property
    def absent_count(self) -> int:
        return sum(group.count for group in self.absent)

    @property
    def live_lead(self) -> float | None:
        """As `lead`, over the last scored sessions."""
        return None if self.live is None else self.live["naive"] - self.live["log_loss"]

    @property
    def lead(self) -> float | None:
        """The walk-forward log-loss of the best naive baseline less that of the model in service."""
        return None if self.score is None or self.naive is None else self.naive["log_loss"] - self.score["log_loss"]


def lag_of(facts: Facts, newest: date, now: datetime) -> Lag:
    """The lag of `newest` at `now` (aware), by the calendar that was published with it.

    A session is late `grace_seconds` after it is due.
    """
    coming = [session for session in facts.upcoming if session.session > newest]
    grace = timedelta(seconds=facts.grace_seconds)
    late_sessions = [session for session in coming if session.due_at + grace <= now]
    waiting = coming[len(late_sessions)] if len(late_sessions) < len(coming) else None
    if late_sessions:
        least = "at least " if waiting is None else ""
        reason = (
            f"{late_sessions[0].session} was due at {numbers.moment(late_sessions[0].due_at)} and is not published: "
            f"{least}{plural(len(late_sessions), 'session')} behind"
        )
        return Lag(len(late_sessions), reason, waiting)
    if waiting is None:
        return Lag(0, f"the calendar ends at {newest}: no session is expected", None)
    if waiting.closes_at <= now:
        return Lag(0, f"{waiting.session} has closed and is due at {numbers.moment(waiting.due_at)}", waiting)
    return Lag(0, f"the next session is {waiting.session}, due at {numbers.moment(waiting.due_at)}", waiting)


def today_view(publication: Publication | None, alerts: OpenAlerts, now: datetime) -> TodayView:
    """The view of `publication` (None before anything was published) at `now` (aware)."""
    facts = publication.pointer.facts if publication else None
    open_alerts = troubles(alerts, facts)
    if publication is None or facts is None or not publication.pointer.sessions:
        return TodayView(verdict(newest=None, predicted=0, behind=0, reason="", alerts=len(open_alerts)), open_alerts)
    session = publication.pointer.sessions[-1]
    calls = calls_of(publication, session, session_before(publication, session))
    checks, passed_count = _checks(publication)
    lag = lag_of(facts, session, now)
    buys, sells = strongest(calls, LISTED)
    row = {row["session"]: row for row in publication.monitoring("sessions").to_dicts()}.get(session, {})
    scores = publication.monitoring("score").to_dicts()
    failures = publication.monitoring("failures").sort("at", descending=True).head(RUNS)
    return TodayView(
        verdict=verdict(
            newest=session,
            predicted=len(calls),
            behind=lag.behind,
            reason=lag.reason,
            checks=checks,
            alerts=len(open_alerts),
        ),
        alerts=open_alerts,
        session=session,
        published_at=publication.pointer.published_at,
        published_local=numbers.local_moment(publication.pointer.published_at, facts.zone),
        lag=lag,
        coming_local=numbers.local_moment(lag.coming and lag.coming.closes_at, facts.zone),
        due_local=numbers.local_moment(lag.coming and lag.coming.due_at, facts.zone),
        predicted=len(calls),
        absent=left_out(publication, session),
        suspects=publication.bars(session)["suspect"].count(),
        model=facts.in_service,
        version=row.get("version") or publication.pointer.champions.get(facts.in_service),
        trained_through=predicted_rows(publication, session)["trained_through"].max(),  # pyright: ignore[reportArgumentType]
        age=row.get("age"),
        checks=checks,
        passed_checks=passed_count,
        runs=tuple(
            FailedRun(record["at"], record["what"], record["partitions"], run_address(facts, record["run_id"]))
            for record in failures.to_dicts()
        ),
        buys=buys,
        sells=sells,
        score=next((record for record in scores if record["model"] == facts.in_service), None),
        naive=next((record for record in scores if record["naive"]), None),
        live=_live(publication, facts.in_service),
        currency=facts.currency,
    )


def _checks(publication: Publication) -> tuple[tuple[FailedCheck, ...], int]:
    """The checks whose newest result is a failure, those that forbid use first, and how many passed."""
    rows = publication.monitoring("checks")
    facts = publication.pointer.facts
    failed_rows = rows.filter(~rows["passed"]).sort("severity", "asset", "check").to_dicts()
    checks = (
        FailedCheck(
            row["asset"], row["check"], row["severity"], row["text"], row["at"], run_address(facts, row["run_id"])
        )
        for row in failed_rows
    )
    return tuple(checks), rows.height - len(failed_rows)


def _live(publication: Publication, model: str) -> dict[str, Any] | None:
    rows = publication.monitoring("rolling_skill")
    newest = {row["model"]: row for row in rows.filter(pl.col("session") == pl.col("session").max()).to_dicts()}
    if model not in newest or "naive" not in newest:
        return None
    return {**newest[model], "naive": newest["naive"]["log_loss"]}
