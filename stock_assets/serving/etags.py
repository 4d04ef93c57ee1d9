"""Answers that say which publication they are of, and how a client that has one already is told so."""

from collections.abc import Mapping
from zlib import crc32

from starlette.requests import Request
from starlette.responses import Response

from stock_assets.serving.current import Served

#: A client may keep an answer, and asks each time whether it still holds.
ASK_AGAIN = "private, max-age=0, must-revalidate"
#: An entry of the ledger never changes.
FOR_EVER = "private, max-age=31536000, immutable"


def tag_of(served_state: Served, body: bytes) -> str:
    """A weak tag: the same answer of the same publication, in whatever encoding it is sent.

    A weak one, because a proxy that compresses an answer leaves a strong tag as it is though the bytes differ.
    """
    return f'W/"{served_state.pointer.entry}-{crc32(body):08x}"'


def is_held(request: Request, tag: str) -> bool:
    """Whether the client says that it holds the answer of `tag`."""
    header_values = [value for name, value in request.scope["headers"] if name == b"if-none-match"]
    if not header_values:
        return False
    tags = [tag_text.strip().removeprefix("W/") for tag_text in b",".join(header_values).decode("latin-1").split(",")]
    return "*" in tags or tag.removeprefix("W/") in tags


def answer(
    request: Request,
    served_state: Served,
    body: bytes,
    *,
    media_type: str = "application/json",
    tag: str | None = None,
    cache: str = ASK_AGAIN,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """`body` with its headers, or 304 without it where the client holds it. `headers` are those of the route."""
    tag = tag or tag_of(served_state, body)
    all_headers = {
        "etag": tag,
        "cache-control": cache,
        "vary": "accept",
        "last-modified": served_state.last_modified,
        "x-publication": served_state.pointer.entry,
    }
    if served_state.code_version is not None:
        all_headers["x-code-version"] = served_state.code_version
    if served_state.facts.simulated:
        all_headers["x-simulated"] = "true"
    if headers:
        all_headers.update(headers)
    if is_held(request, tag):
        return Response(None, 304, all_headers)
    return Response(body, 200, all_headers, media_type)
