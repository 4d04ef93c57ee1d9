"""Faults between alpaca-py and the simulated broker: what networks, proxies and busy servers do to a request."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal[
    "429", "502 html", "404 html", "reset", "hang", "slow", "nonsense", "empty", "unknown status", "500", "504", "302"
]


@dataclass
class HttpFault:
    """Answers `times` requests of `method` whose path begins with `path` wrongly.

    With `after` the request reaches the broker first, and only its answer is lost.
    """

    kind: Kind
    method: str = "POST"
    path: str = "/v2/orders"
    times: int = 1
    after: bool = False
    skip: int = 0
    """requests that pass before the first of them"""


class HttpFaults:
    """Around the face. `faults` may be filled while it runs; `requests` counts what arrived."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.faults: list[HttpFault] = []
        self.requests: list[tuple[str, str]] = []

    def _of(self, method: str, path: str) -> list[HttpFault]:
        return [one for one in self.faults if one.times and one.method == method and path.startswith(one.path)]

    def hangs(self, method: str, path: str) -> bool:
        """Whether the next such request gets no answer."""
        fault = next((one for one in self._of(method, path) if not one.skip), None)
        return fault is not None and fault.kind == "hang"

    def _next(self, scope: Scope) -> HttpFault | None:
        for fault in self._of(scope["method"], scope["path"]):
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append((scope["method"], scope["path"]))
        fault = self._next(scope)
        if fault is None:
            await self.app(scope, receive, send)
            return
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        if fault.after or fault.kind in ("unknown status", "slow"):
            await self.app(scope, receive, keep)
        await _ANSWERS[fault.kind](messages, receive, send)


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _plain(status: int, body: bytes, kind: bytes = b"application/json") -> Any:
    async def answer(_: list[Message], __: Receive, send: Send) -> None:
        await _answer(send, status, body, kind)

    return answer


async def _reset(_: list[Message], receive: Receive, __: Send) -> None:
    receive.__self__.transport.abort()  # type: ignore[attr-defined]  # of uvicorn: the connection ends without an answer
    await asyncio.sleep(0.01)


async def _hang(_: list[Message], receive: Receive, __: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _slow(messages: list[Message], _: Receive, send: Send) -> None:
    await asyncio.sleep(0.05)
    for message in messages:
        await send(message)


async def _unknown_status(messages: list[Message], _: Receive, send: Send) -> None:
    body = json.loads(b"".join(message.get("body", b"") for message in messages))
    body["status"] = "held_by_a_state_of_next_year"
    await _answer(send, 200, json.dumps(body).encode())


_HTML = b"<html><h1>Bad Gateway</h1></html>"
_ANSWERS = {
    "429": _plain(429, b'{"code": 42910000, "message": "rate limit exceeded"}'),
    "500": _plain(500, b'{"code": 50010000, "message": "internal server error occurred"}'),
    "504": _plain(504, b'{"message": "timeout"}'),
    "502 html": _plain(502, _HTML, b"text/html"),
    "404 html": _plain(404, _HTML, b"text/html"),
    "302": _plain(302, b""),
    "nonsense": _plain(200, b"<html>logged out</html>", b"text/html"),
    "empty": _plain(200, b""),
    "reset": _reset,
    "hang": _hang,
    "slow": _slow,
    "unknown status": _unknown_status,
}
