"""What every route asks of the application: what is served, and the time."""

from bisect import bisect_right
from datetime import datetime
from typing import Any

from starlette.requests import Request

from stock_assets.publication.layout import LEDGER, Entry
from stock_assets.serving.current import Current, Served
from stock_assets.serving.lookup import nothing_published, stamp
from stock_assets.serving.parameters import Parameters
from stock_assets.serving.problems import Problem, documented

#: Problems of every route that answers of a publication.
ALWAYS = ("wrong-parameter", "not-published", "damaged-publication", "internal-error", "headers-too-large")


def current_of(request: Request) -> Current:
    current: Current = request.app.state.current
    return current


def served_of(request: Request) -> Served:
    """What is served now; a route asks once. Raises Problem before anything was published."""
    served = current_of(request).served
    if served is None:
        raise nothing_published()
    return served


def now_of(request: Request) -> datetime:
    return current_of(request).clock()


async def served_as_of(request: Request, moment: datetime | None) -> tuple[Served, Served]:
    """(what was served at `moment`, what is served now); the same for None.

    Raises Problem for a moment in the future, and for one before anything was published.
    """
    root = served_of(request)
    if moment is None:
        return root, root
    if moment > now_of(request):
        raise Problem("moment-in-the-future", f"as_of is {stamp(moment)}; it is {stamp(now_of(request))}")
    entries = require_ledger(root)
    count = bisect_right([entry.published_at for entry in entries], moment)
    if not count:
        first = stamp(entries[0].published_at)
        raise Problem("not-published", f"nothing was published by {stamp(moment)}; the first publication is of {first}")
    return await root.at_entry(count - 1), root


def require_ledger(served: Served) -> tuple[Entry, ...]:
    """The entries that led to what is served, oldest first. Raises Problem where the ledger is damaged."""
    if not served.chain.entries:
        raise Problem("damaged-publication", served.chain.trouble or "the ledger is empty", file=LEDGER)
    return served.chain.entries


def described(parameters: Parameters, *kinds: str) -> dict[str, Any]:
    """How a route is described: its parameters and its problems, besides those of every route."""
    return {
        "openapi_extra": {"parameters": parameters.openapi()},
        "responses": {
            304: {"description": "the client holds this answer: `If-None-Match` names its tag"},
            **documented(*ALWAYS, *kinds),
        },
    }
