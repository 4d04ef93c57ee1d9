"""`/v1/sessions`: whether a day is a session, and whether it is published."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.serving.answers import text_of
from stock_assets.serving.current import Served
from stock_assets.serving.etags import answer
from stock_assets.serving.forms import form_of
from stock_assets.serving.lookup import SessionState, nothing_published, stamp, state_of
from stock_assets.serving.parameters import DAY_OF_PATH, Parameters
from stock_assets.serving.routes.asked import described, now_of, served_of
from stock_assets.serving.schemas import SessionOfTheExchange

router = APIRouter(prefix="/v1", tags=["sessions"])
SESSION = Parameters((DAY_OF_PATH,))


@router.get(
    "/sessions/{date}",
    summary="Whether a day is published",
    response_model=SessionOfTheExchange,
    **described(SESSION),
)
async def session_of_the_exchange(request: Request) -> Response:
    """`published`; `due`, once it has closed; `late`; `holiday`; `not_yet`, before it closes; or `not_published`, where
    no predictions were or will be. `reason` says why, the times say when."""
    form_of(request)
    served_state = served_of(request)
    day = SESSION.of(request)["date"] or served_state.newest
    if day is None:
        raise nothing_published()
    state = state_of(served_state, day, now_of(request))
    return answer(request, served_state, text_of(described_session(served_state, state)))


def described_session(served_state: Served, state: SessionState) -> dict[str, Any]:
    """What is known of a day."""
    facts = served_state.facts
    digest = served_state.pointer.files["predictions"].get(str(state.day), "")
    entry = served_state.chain.published.get((str(state.day), digest))
    due_at, closes_at = (state.upcoming.due_at, state.upcoming.closes_at) if state.upcoming else (None, None)
    late_after = None if due_at is None else due_at + timedelta(seconds=facts.grace_seconds)
    return {
        "day": str(state.day),
        "status": state.status,
        "reason": state.reason,
        "exchange": facts.exchange,
        "zone": facts.zone,
        "closes_at": _moment(closes_at),
        "closes_at_local": None if closes_at is None else closes_at.astimezone(ZoneInfo(facts.zone)).isoformat(),
        "due_at": _moment(due_at),
        "late_after": _moment(late_after),
        "published_at": _moment(entry and entry.published_at),
        "publication": entry and entry.id,
        "code_version": entry and entry.code_version,
        "previous": state.previous and str(state.previous),
        "next": state.next and str(state.next),
        "simulated": facts.simulated,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else stamp(moment)
