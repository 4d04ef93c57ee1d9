"""What holds for every request, whatever it asks: its size, HEAD, its id, and an answer also where the server fails."""

import logging
import re
import secrets
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stock_assets.serving.problems import Problem

log = logging.getLogger("stock_assets.serving")

#: Bytes of the headers together, how many there may be, and bytes of the path with the query.
MOST_HEADER_BYTES, MOST_HEADERS, MOST_ADDRESS_BYTES = 32_768, 100, 8_192
REQUEST_ID = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Envelope:
    """The ASGI application `app`, asked for nothing oversized, and never without an answer."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        name, is_head, has_started = _id_of(scope), scope["method"] == "HEAD", False

        async def send_on(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, name)]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        if is_head:  # every route that answers GET answers HEAD, with the same headers
            scope = {**scope, "method": "GET"}
        try:
            if problem := oversized(scope):
                return await problem.response(scope["path"])(scope, receive, send_on)
            await self.app(scope, receive, send_on)
        except Exception as error:
            log.error("the request %s failed", name.decode(), exc_info=error)
            if has_started:  # too late for a problem: the connection ends, and the client sees a cut answer
                raise
            problem = Problem("internal-error", f"{type(error).__name__} while the answer was made")
            await problem.response(scope["path"])(scope, receive, send_on)


def _id_of(scope: Scope) -> bytes:
    """The id that the client gave its request, or one of ours."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ID.fullmatch(value):
            return value
    return secrets.token_hex(8).encode()


def oversized(scope: Scope) -> Problem | None:
    """The problem of a request with too long an address or too large headers; None for any other."""
    headers = scope["headers"]
    length = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MOST_HEADERS or length > MOST_HEADER_BYTES:
        detail = f"{len(headers)} headers of {length:,} bytes; at most {MOST_HEADERS} of {MOST_HEADER_BYTES:,}"
        return Problem("headers-too-large", detail)
    address = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    if address > MOST_ADDRESS_BYTES:
        return Problem("address-too-long", f"{address:,} bytes; at most {MOST_ADDRESS_BYTES:,}")
    return None
