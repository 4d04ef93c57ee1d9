"""`/v1/publications`: the ledger, who said what when and why."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.publication.layout import Entry
from stock_assets.serving.answers import text_of
from stock_assets.serving.etags import FOR_EVER, answer
from stock_assets.serving.forms import form_of
from stock_assets.serving.lookup import stamp
from stock_assets.serving.parameters import CURSOR_OF_PAGE, ENTRY_OF_PATH, OF_SESSION, Parameters, limit
from stock_assets.serving.problems import Problem
from stock_assets.serving.routes.asked import OF_A_PAGE, described, page_of, require_ledger, served_of
from stock_assets.serving.schemas import Publication, Publications

router = APIRouter(prefix="/v1", tags=["publications"])
LEDGER = Parameters((OF_SESSION, limit(1_000, 200), CURSOR_OF_PAGE))
ENTRY = Parameters((ENTRY_OF_PATH,))


@router.get("/publications", summary="The ledger", response_model=Publications, **described(LEDGER, *OF_A_PAGE))
async def publications(request: Request) -> Response:
    """What was published when and why, the oldest first; of one session, the entries that named its predictions."""
    form_of(request)
    values = LEDGER.of(request)
    page = await page_of(request, values)
    entries = require_ledger(page.served)
    if page.after is not None:
        entries = entries[page.served.chain.by_id[page.after] + 1 :]
    session = values["session"] and str(values["session"])
    if session is not None:
        entries = tuple(entry for entry in entries if session in entry.files["predictions"])
    page_entries = entries[: values["limit"]]
    cursor = page.cursor(page_entries[-1].id) if len(entries) > len(page_entries) else None
    rows = [summary(entry) for entry in page_entries]
    body = {"publication": page.served.pointer.entry, "publications": rows, "next": cursor}
    return answer(request, page.served, text_of(body), headers={"x-next-cursor": cursor} if cursor else None)


@router.get(
    "/publications/{id}",
    summary="One entry of the ledger",
    response_model=Publication,
    **described(ENTRY, "unknown-publication"),
)
async def publication(request: Request) -> Response:
    """What one publication named: every file that is new in it, by its digest."""
    form_of(request)
    name = ENTRY.of(request)["id"]
    served_state = served_of(request)
    entries = require_ledger(served_state)
    place = served_state.chain.by_id.get(name)
    if place is None:
        detail = f"the ledger has no entry {name} on the way to {served_state.pointer.entry}"
        raise Problem("unknown-publication", detail)
    entry = entries[place]
    return answer(request, served_state, text_of({**summary(entry), "files": entry.files}), cache=FOR_EVER)


def summary(entry: Entry) -> dict[str, Any]:
    """An entry without its files."""
    sessions = sorted(entry.files["predictions"])
    return {
        "id": entry.id,
        "published_at": stamp(entry.published_at),
        "previous": entry.previous,
        "reason": entry.reason,
        "code_version": entry.code_version,
        "champions": entry.champions,
        "sessions": len(sessions),
        "first_session": sessions[0] if sessions else None,
        "last_session": sessions[-1] if sessions else None,
    }
