"""`/livez` and `/readyz`: whether the process runs, and whether it can answer.

Neither waits for a thread, so that a busy server still says that it lives.
"""

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.serving.answers import prediction, text_of
from stock_assets.serving.current import Current, Served
from stock_assets.serving.days import DamagedFile
from stock_assets.serving.lookup import stamp
from stock_assets.serving.parameters import Parameters
from stock_assets.serving.problems import Problem, documented
from stock_assets.serving.routes.asked import current_of
from stock_assets.serving.schemas import Alive, Readiness

router = APIRouter(tags=["health"])
NO_STORE = {"cache-control": "no-store"}
NONE = Parameters()
OF_HEALTH = ("wrong-parameter", "headers-too-large", "internal-error")


@router.get("/livez", summary="Whether the process runs", response_model=Alive, responses=documented(*OF_HEALTH))
async def livez(request: Request) -> Response:
    """Answers as long as the process does. It looks at nothing else."""
    NONE.of(request)
    return Response(b'{"status":"alive"}', 200, NO_STORE, "application/json")


@router.get(
    "/readyz",
    summary="Whether it can answer",
    response_model=Readiness,
    responses=documented(*OF_HEALTH, "not-ready"),
)
async def readyz(request: Request) -> Response:
    """Builds an answer of the current publication. `degraded` says what of the published cannot be served."""
    NONE.of(request)
    return Response(text_of(readiness(current_of(request))), 200, NO_STORE, "application/json")


def readiness(current: Current) -> dict[str, Any]:
    """What `/readyz` answers. Raises Problem where no answer can be given."""
    served_state, now = current.served, current.clock()
    if served_state is None:
        raise not_ready(current.trouble or "nothing is published yet")
    if served_state.newest is None:
        raise not_ready("the publication has no session")
    try:
        sample = _sample(served_state)
    except DamagedFile as error:
        raise not_ready(str(error), file=error.file) from error
    return {
        "status": "ready" if current.trouble is None else "degraded",
        "degraded": current.trouble,
        "publication": served_state.pointer.entry,
        **freshness(served_state, now),
        "sample": sample,
        "simulated": served_state.facts.simulated,
    }


def _sample(served_state: Served) -> dict[str, Any]:
    """An answer as a client gets it: the first ticker of the newest session by the model in service."""
    assert served_state.newest is not None
    day = served_state.day_now(
        served_state.newest
    )  # in memory since it is served; read here only where it was damaged then
    assert day is not None
    tickers, model = day.tickers, served_state.facts.in_service
    if not tickers:
        return {"ticker": None, "model": model, "status": "no ticker"}
    row = prediction(served_state, day, tickers[0], model=model)
    text_of(row)
    return {"ticker": tickers[0], "model": model, "status": row["status"]}


def freshness(served_state: Served, now: datetime) -> dict[str, Any]:
    """How old what is served is, and what comes next."""
    published_at, upcoming = served_state.pointer.published_at, served_state.facts.upcoming
    coming = next((session for session in upcoming if session.due_at >= now), None)
    return {
        "session": None if served_state.newest is None else str(served_state.newest),
        "published_at": stamp(published_at),
        "age_seconds": max((now - published_at).total_seconds(), 0.0),
        "sessions_behind": sessions_behind(served_state, now),
        "next_session": None if coming is None else str(coming.session),
        "due_at": None if coming is None else stamp(coming.due_at),
    }


def sessions_behind(served_state: Served, now: datetime) -> int:
    """The sessions that are late at `now`."""
    grace = timedelta(seconds=served_state.facts.grace_seconds)
    return sum(session.due_at + grace < now for session in served_state.facts.upcoming)


def not_ready(detail: str, **members: object) -> Problem:
    return Problem("not-ready", detail, headers={"Retry-After": "2"}, **members)
