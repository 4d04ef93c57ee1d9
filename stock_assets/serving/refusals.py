"""Errors in the form that the client of a path reads: a problem (RFC 9457), or the form of another protocol."""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from stock_assets.guard import Refusal, answer

if TYPE_CHECKING:
    from starlette.types import Scope, Send

PROBLEM, JSON = "application/problem+json", "application/json"
#: What MLflow's clients know as the code of an error, by HTTP status.
MLFLOW_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


def error_of(path: str, status: int, text: str) -> tuple[str, bytes]:
    """The media type and body of an error, in the form of the protocol that `path` belongs to.

    >>> error_of("/v2/models/rnn", 404, "there is no model rnn")
    ('application/json', b'{"error": "there is no model rnn"}')
    """
    if path == "/v2" or path.startswith("/v2/"):
        return JSON, json.dumps({"error": text}).encode()
    if path in ("/ping", "/invocations"):
        code = MLFLOW_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
        return JSON, json.dumps({"error_code": code, "message": text}).encode()
    title = HTTPStatus(status).phrase
    return PROBLEM, json.dumps({"type": "about:blank", "title": title, "status": status, "detail": text}).encode()


async def refuse(scope: "Scope", send: "Send", refusal: Refusal, headers: Iterable[tuple[str, str]] = ()) -> None:
    """Answers with `refusal` instead of what was asked for."""
    kind, body = error_of(scope["path"], refusal.status, refusal.text)
    await answer(send, refusal.status, body.decode(), headers=[("Content-Type", kind), *headers])
