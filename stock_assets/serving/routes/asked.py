"""What the routes have in common: what is served and when, pages of rows, and how OpenAPI describes them."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from stock_assets.publication.layout import LEDGER, Entry
from stock_assets.serving.bodies import Body
from stock_assets.serving.current import Current, Served
from stock_assets.serving.cursors import Position, cursor_of, position_of
from stock_assets.serving.etags import answer, tag_of
from stock_assets.serving.forms import JSON, RANGES, document, range_body
from stock_assets.serving.lookup import nothing_published, stamp
from stock_assets.serving.parameters import Parameters
from stock_assets.serving.problems import Problem, documented

Kind = TypeVar("Kind")

#: Problems of every route that answers of a publication, of one that answers of a session in it, and of a ticker.
ALWAYS = ("wrong-parameter", "not-published", "damaged-publication", "not-acceptable", "headers-too-large")
OF_A_SESSION = ("unknown-model", "not-a-session", "not-published-yet", "late", "moment-in-the-future")
OF_A_ROW = (*OF_A_SESSION, "unknown-ticker")
OF_A_PAGE = ("foreign-cursor", "expired-cursor")
#: More rows than this are put together outside the event loop.
MANY_ROWS = 1_500


def current_of(request: Request) -> Current:
    current: Current = request.app.state.current
    return current


def served_of(request: Request) -> Served:
    """What is served now; a route asks once. Raises Problem before anything was published."""
    current = current_of(request)
    if current.served is None:
        raise nothing_published(current.trouble)
    return current.served


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


def require_ledger(served_state: Served) -> tuple[Entry, ...]:
    """The entries that led to what is served, oldest first. Raises Problem where the ledger is damaged."""
    if not served_state.chain.entries:
        raise Problem("damaged-publication", served_state.chain.trouble or "the ledger is empty", file=LEDGER)
    return served_state.chain.entries


@dataclass(frozen=True)
class Page:
    """What a page is read from: the publication of the first page of the walk, and the key of the last row before."""

    served: Served
    root: Served
    after: str | None
    question: str

    def cursor(self, last: str) -> str:
        """The cursor of the page after the row `last`."""
        return cursor_of(Position(self.served.pointer.entry, last), self.question)


async def page_of(request: Request, values: Mapping[str, Any]) -> Page:
    """The page that `values` is about. Raises Problem for a cursor of another question or a publication that is
    gone."""
    parts = {name: value for name, value in values.items() if name not in ("cursor", "limit")}
    question = f"{request.scope['path']} {sorted(parts.items(), key=lambda part: part[0])}"
    if values["cursor"] is None:
        served_state, root = await served_as_of(request, values.get("as_of"))
        return Page(served_state, root, None, question)
    root, position = served_of(request), position_of(values["cursor"], question)
    if position.entry == root.pointer.entry:
        return Page(root, root, position.after, question)
    place = root.chain.by_id.get(position.entry)
    if place is None:
        raise Problem("expired-cursor", f"the publication {position.entry} is no longer in the ledger")
    return Page(await root.at_entry(place), root, position.after, question)


async def beside(count: int, make: Callable[[], Kind]) -> Kind:
    """What `make` makes of `count` rows: outside the event loop where they are many."""
    return await asyncio.to_thread(make) if count > MANY_ROWS else make()


@dataclass(frozen=True)
class Range:
    """Rows and what they have in common, in the form that the client asked for."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    common: Mapping[str, Any]
    schema: pl.Schema
    next: str | None = None

    def body(self, served_state: Served, form: str) -> Body:
        if form == JSON:
            content = document(self.common, self.name, self.rows, next=self.next)
        else:
            content = range_body(form, [{**self.common, **row} for row in self.rows], self.schema)
        headers = {} if self.next is None else {"x-next-cursor": self.next}
        return Body(content, form, tag_of(served_state, content), headers)


def send(request: Request, served_state: Served, body: Body, **options: Any) -> Response:
    headers = {**body.headers, **options.pop("headers", {})}
    return answer(
        request, served_state, body.content, media_type=body.media_type, tag=body.tag, headers=headers, **options
    )


def described(parameters: Parameters, *kinds: str, ranges: bool = False) -> dict[str, Any]:
    """How a route is described: its parameters and its problems, besides those of every route."""
    success: dict[str, Any] = {"description": "the answer", "headers": HEADERS}
    if ranges:
        success["content"] = {form: {"schema": _OTHER_FORM} for form in RANGES[1:]}
    return {
        "openapi_extra": {"parameters": parameters.openapi()},
        "responses": {
            200: success,
            304: {"description": "the client holds this answer: `If-None-Match` names its tag"},
            **documented(*ALWAYS, *kinds),
        },
    }


_OTHER_FORM = {"type": "string", "description": "the rows, with the columns of the JSON"}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


HEADERS = {
    "ETag": _header("a weak tag of this answer"),
    "X-Publication": _header("the entry of the ledger that the answer is of"),
    "X-Code-Version": _header("the version of the code that published it; absent where the ledger is damaged"),
    "X-Model-Version": _header("the model version, where the answer is of one alone"),
    "X-Simulated": _header("`true` where the prices are no real ones; absent otherwise"),
}
