"""Every error of the API as one document of RFC 9457, `application/problem+json`.

A problem has a type of `PROBLEMS`: its status, its title, what it means and what to do. `docs/errors.md` is made of the
same list, and the address `type` of a problem leads to its heading on that page, which the server answers itself.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from textwrap import fill
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stock_assets.errors import StockAssetsError
from stock_assets.escape import one_line, shortened
from stock_assets.serving.protocols.forms import foreign_error

if TYPE_CHECKING:
    from collections.abc import Sequence

MEDIA_TYPE = "application/problem+json"
#: The page that the types lead to, as the server answers it and as it lies in the repository.
PAGE = "/docs/errors.md"
#: Characters of a value of the request that a detail quotes.
LONGEST_QUOTE = 80


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem: what a client can tell apart."""

    status: int
    title: str
    meaning: str
    way_out: str


PROBLEMS: dict[str, ProblemType] = {
    "wrong-parameter": ProblemType(
        422,
        "A parameter is wrong",
        "A parameter of the path, the query or the body is absent, is given twice, has no such name, or has a value of "
        "another form. `parameter` names it and `expected` says which values it takes.",
        "Correct the parameter. The server guesses none.",
    ),
    "unreadable-request": ProblemType(
        400,
        "The request cannot be read",
        "The request is no HTTP, or its body is no JSON.",
        "Send what the route describes in `/openapi.json`.",
    ),
    "token-in-query": ProblemType(
        400,
        "A token stands in the address",
        "The query has a parameter that other servers take a token in. Addresses end up in logs and histories, so the "
        "token is refused there, also where it is right.",
        "Send `Authorization: Bearer TOKEN`, and make a new token where this one has been in logs.",
    ),
    "no-token": ProblemType(
        401,
        "A token is missing",
        "The server asks every client for a token, and the request holds none of its file.",
        "Send `Authorization: Bearer TOKEN`. `stock-assets token NAME` makes a token.",
    ),
    "foreign-request": ProblemType(
        403,
        "The request comes from elsewhere",
        "The header `Host` is none of the server's own names, the request comes from a page of another origin, or it "
        "came to an address beyond loopback of a server that has no tokens.",
        "Use an address of the server itself. A further name of it goes into `STOCK_ASSETS_UI_NAMES`.",
    ),
    "missing-scope": ProblemType(
        403,
        "The token may not do this",
        "The token lacks the scope that the request needs: `predict` for predictions on demand, `read` for the rest.",
        "Use a token that has it: `stock-assets token NAME --scopes read,predict`.",
    ),
    "slow-body": ProblemType(
        408, "The body did not arrive", "The body of the request took longer than 10 seconds.", "Send it again."
    ),
    "too-many-requests": ProblemType(
        429,
        "Too many requests",
        "The client made more requests within a minute than `RateLimit-Policy` allows. Requests that fail cost "
        "nothing, and a batch costs one.",
        "Ask again after `Retry-After` seconds.",
    ),
    "foreign-cursor": ProblemType(
        404,
        "The cursor belongs to another question",
        "The cursor is none of this server, or was handed out for other parameters.",
        "Ask the first page again without a cursor, and pass `next` on with the same parameters.",
    ),
    "expired-cursor": ProblemType(
        410,
        "The cursor has expired",
        "The publication that the first pages were read from is no longer in the ledger.",
        "Ask the first page again without a cursor.",
    ),
    "unknown-route": ProblemType(
        404, "There is no such route", "The path is none of this API.", "`/openapi.json` lists the routes."
    ),
    "method-not-allowed": ProblemType(
        405,
        "The route does not answer this method",
        "The path exists and is answered to other methods: the header `Allow` names them.",
        "Use one of them.",
    ),
    "not-acceptable": ProblemType(
        406,
        "The answer has no such form",
        "None of the media types of the header `Accept` is one that the route answers in.",
        "Ask for `application/json`, or where the route is a range for `text/csv` or `application/vnd.apache.parquet`.",
    ),
    "body-too-large": ProblemType(
        413, "The body is too large", "The body of the request is longer than the route takes.", "Send it in parts."
    ),
    "address-too-long": ProblemType(
        414, "The address is too long", "The path and the query have more than 8,192 bytes.", "Ask in parts."
    ),
    "unsupported-media-type": ProblemType(
        415,
        "The body has another media type",
        "The header `Content-Type` of the request is not `application/json`.",
        "Send JSON, and say so in the header.",
    ),
    "headers-too-large": ProblemType(
        431,
        "The headers are too large",
        "The headers of the request have more than 32,768 bytes together, or are more than 100.",
        "Send fewer cookies and headers.",
    ),
    "unknown-ticker": ProblemType(
        404,
        "The ticker is unknown",
        "No row of the session, or of the range, is about this ticker: it is neither predicted nor left out.",
        "Compare the spelling, which tells small letters from capitals, with `GET /v1/predictions`.",
    ),
    "unknown-model": ProblemType(
        404,
        "The model is unknown",
        "The session has no row of this model. `models` lists those that it has.",
        "Name one of them, or none: then the model in service answers.",
    ),
    "unknown-version": ProblemType(
        404,
        "The model version is unknown",
        "No card of this version is published.",
        "`GET /v1/models/{name}` lists the versions of a model.",
    ),
    "unknown-publication": ProblemType(
        404,
        "The publication is unknown",
        "The ledger has no such entry on the way to what is published now.",
        "`GET /v1/publications` lists the entries.",
    ),
    "not-a-session": ProblemType(
        404,
        "The day is no session",
        "The exchange is closed on that day: a weekend, a holiday or a closure. `previous` and `next` are the sessions "
        "around it.",
        "Ask for one of them.",
    ),
    "not-published": ProblemType(
        404,
        "Nothing is published for this",
        "The session has no published predictions and is due no more, or nothing was published at all, or not yet at "
        "the moment of `as_of`.",
        "`GET /v1/sessions/{date}` says why; `GET /v1/publications` says what was published when.",
    ),
    "empty-range": ProblemType(
        404,
        "No session lies in the range",
        "None of the sessions from `from` to `to` is published.",
        "`GET /v1/sessions/latest` names the newest session that is published.",
    ),
    "not-published-yet": ProblemType(
        409,
        "The session is not published yet",
        "The session has not closed, or its predictions are not due yet. `due_at` says when they are, and the header "
        "`Retry-After` in how many seconds.",
        "Ask again then.",
    ),
    "late": ProblemType(
        409,
        "The session is late",
        "The predictions of the session were due at `due_at` and are not published.",
        "Look at the operations page of the server: the alarms say what failed.",
    ),
    "moment-in-the-future": ProblemType(
        409,
        "The moment lies in the future",
        "Nobody knows yet what will be published at the moment of `as_of`.",
        "Ask as of a moment that has passed, or without `as_of`.",
    ),
    "damaged-publication": ProblemType(
        500,
        "A published file is damaged",
        "The file that the answer lies in is absent, or is not what its name says. `file` names it within the folder "
        "of what is published. It is never served.",
        "Restore the file from a backup, or remove it and materialize `publication`.",
    ),
    "internal-error": ProblemType(
        500,
        "The server failed",
        "A fault of the server; its log holds the details beside the `X-Request-ID` of the answer.",
        "Report it with that id.",
    ),
    "trained-too-late": ProblemType(
        409,
        "The version has seen the session",
        "The version was trained through the session or a later one: what it says of it is no prediction.",
        "Name a version whose cutoff lies before the session.",
    ),
    "rows-missing": ProblemType(
        409,
        "The version cannot read the stored rows",
        "Rows that the prediction is made of are absent or were made for other versions; `detail` says which.",
        "Materialize what `detail` names, then ask again.",
    ),
    "not-ready": ProblemType(
        503,
        "The server cannot answer",
        "No answer can be given at present; `detail` says why.",
        "Ask again after `Retry-After` seconds.",
    ),
}


class Problem(StockAssetsError):
    """A request that is answered with a problem of the type `kind` of PROBLEMS.

    `detail` is for a person; `members` are for programs; `headers` go out with the answer.
    """

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: object) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.members, self.headers = kind, detail, members, dict(headers or {})

    @property
    def status(self) -> int:
        return PROBLEMS[self.kind].status

    def document(self) -> dict[str, Any]:
        """What the answer holds.

        >>> Problem("unknown-ticker", "2026-11-20 has no row of ABC").document()["type"]
        '/docs/errors.md#unknown-ticker'
        """
        return {
            "type": f"{PAGE}#{self.kind}",
            "title": PROBLEMS[self.kind].title,
            "status": self.status,
            "detail": one_line(self.detail),
            **self.members,
        }

    def response(self, path: str = "") -> Response:
        """The answer to a request of `path`: a problem, or an error of the protocol that the path belongs to."""
        headers = {"Cache-Control": "no-store", **self.headers}
        foreign = foreign_error(path, self.status, one_line(self.detail))
        if foreign is not None:
            return Response(foreign, self.status, headers, "application/json")
        body = json.dumps(self.document(), ensure_ascii=True, default=str).encode()
        return Response(body, self.status, headers, MEDIA_TYPE)


def quoted(value: object) -> str:
    """A value of a request as a detail shows it: on one line, and not all of a long one.

    >>> quoted("1704153600"), quoted("a\\nb")
    ("'1704153600'", "'a b'")
    """
    return f"'{shortened(one_line(value), LONGEST_QUOTE)}'"


def wrong(parameter: str, value: object, expected: str) -> Problem:
    """The problem of a parameter with a value that it may not have."""
    return Problem(
        "wrong-parameter",
        f"{parameter} is {quoted(value)}; expected {expected}",
        parameter=parameter,
        expected=expected,
    )


_BY_STATUS = {
    400: "unreadable-request",
    404: "unknown-route",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "wrong-parameter",
    503: "not-ready",
}


def handle_problems(app: FastAPI) -> None:
    """Has `app` answer every error with a problem, also those of the frameworks; `envelope` answers for faults."""

    async def answer_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response(request.scope["path"])

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _BY_STATUS.get(error.status_code, "internal-error")
        path = quoted(request.scope["path"])
        details = {
            "unknown-route": f"there is no route {path}",
            "method-not-allowed": f"{path} does not answer {request.scope.get('method', '')}",
        }
        detail = details.get(kind) or str(error.detail or HTTPStatus(error.status_code).phrase)
        headers = dict(error.headers or {})
        if "GET" in headers.get("Allow", ""):
            headers["Allow"] += ", HEAD"
        return Problem(kind, detail, headers=headers).response(request.scope["path"])

    async def answer_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return of_validation(error.errors()).response(request.scope["path"])

    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_validation)


def of_validation(errors: "Sequence[Mapping[str, Any]]") -> Problem:
    """The problem of what pydantic refuses: the names of the places and its words, without what was sent."""
    places = [".".join(map(str, error.get("loc", ()))) for error in errors]
    if any(error.get("type") == "json_invalid" for error in errors):
        return Problem("unreadable-request", "the body is no JSON")
    lines = [f"{place}: {error.get('msg', 'wrong')}" for place, error in zip(places, errors, strict=True)]
    detail = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
    return Problem("wrong-parameter", detail, parameter=places[0] if places else "body")


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route answers, as OpenAPI lists responses."""
    by_status: dict[int | str, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(PROBLEMS[kind].status, []).append(kind)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": "; ".join(f"`{kind}`: {PROBLEMS[kind].title}" for kind in names),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status, names in by_status.items()
    }


#: Problems of every route, from what stands around the routes.
EVERYWHERE = (
    "token-in-query",
    "no-token",
    "foreign-request",
    "missing-scope",
    "address-too-long",
    "headers-too-large",
    "too-many-requests",
    "internal-error",
    "not-ready",
)

#: The schema of every problem.
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error, as RFC 9457 has it. Further members say more for programs.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "leads to what the problem means"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "what it is about, what was found and what was expected"},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": True,
}


def page(kinds: Iterable[str] = PROBLEMS) -> str:
    """`docs/errors.md`: a heading per problem type."""
    parts = [
        "# Errors of the API",
        "Every error is one document of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) with the media type "
        f"`{MEDIA_TYPE}`: `type` leads to a heading of this page, `detail` says what was found and expected, and "
        "further members are for programs. This page is derived from `stock_assets/serving/problems.py`: "
        "`python -m docs.make_tables` writes it.",
    ]
    for kind in kinds:
        problem = PROBLEMS[kind]
        parts += [f"## {kind}", f"Status {problem.status}. {problem.title}.", problem.meaning, problem.way_out]
    return "\n\n".join(fill(part, 120, break_long_words=False, break_on_hyphens=False) for part in parts) + "\n"
