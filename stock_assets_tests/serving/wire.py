"""Asks an ASGI application header by header, as a socket would: no library corrects what is sent."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

OWN = "127.0.0.1:8000"
JSON = ("content-type", "application/json")
BROWSER = ("accept", "text/html,application/xhtml+xml")


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The header; None where the answer has none, and an error where it has two."""
        (value,) = [value for key, value in self.headers if key == name] or [None]
        return value

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Wire:
    """An ASGI application, as a server on `server` would call it."""

    app: Any
    server: tuple[str, int | None] | None = ("127.0.0.1", 8000)
    client: str = "127.0.0.1"

    def ask(
        self,
        method: str,
        target: str,
        *headers: tuple[str, str],
        body: bytes | Iterable[bytes] = b"",
        host: str | None = OWN,
    ) -> Reply:
        return asyncio.run(self.asking(method, target, *headers, body=body, host=host))

    async def asking(
        self,
        method: str,
        target: str,
        *headers: tuple[str, str],
        body: bytes | Iterable[bytes] = b"",
        host: str | None = OWN,
    ) -> Reply:
        path, _, query = target.partition("?")
        hosts = [] if host is None else [("host", host)]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "server": self.server,
            "client": (self.client, 50000),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in (*hosts, *headers)],
        }
        parts = [body] if isinstance(body, bytes) else [*body]
        incoming = [
            {"type": "http.request", "body": part, "more_body": place < len(parts)}
            for place, part in enumerate(parts, start=1)
        ]
        reply = Reply()

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop(0)
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
            elif message["type"] == "http.response.body":
                reply.body += message.get("body", b"")

        await self.app(scope, receive, send)
        return reply

    def get(self, target: str, *headers: tuple[str, str], **how: Any) -> Reply:
        return self.ask("GET", target, *headers, **how)

    def post(self, target: str, *headers: tuple[str, str], **how: Any) -> Reply:
        return self.ask("POST", target, *headers, **how)
