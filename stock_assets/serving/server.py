"""The process that listens: uvicorn with its limits, one worker.

    serve(settings, "127.0.0.1", 8000)

One worker, since what is served is in its memory and a lookup takes a fraction of a millisecond. What is no request at
all is answered here, in the form in which every other error is: before a request is whole, no application sees it.
"""

import socket
from asyncio import Transport
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from stock_assets.errors import StockAssetsError
from stock_assets.serving.app import make_app
from stock_assets.serving.problems import MEDIA_TYPE, Problem
from stock_assets.settings import Settings

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from starlette.types import Receive, Scope, Send

#: Seconds that a connection stays open without a request, that a head may take, and that a shutdown waits for answers.
KEEP_ALIVE_SECONDS, HEAD_SECONDS, GRACEFUL_SECONDS = 5, 10, 5
#: Connections at the same time, and those that wait to be accepted.
MOST_CONNECTIONS, BACKLOG = 500, 2048
#: Bytes of a head that is not whole yet; `envelope` refuses whole ones of half as much.
MOST_HEAD_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with a bound of what a client may send before its request is whole."""

    _head_bytes, _in_head = 0, True
    _waiting: "TimerHandle | None" = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_bytes, self._in_head = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        self.app = _busy if len(self.connections) > MOST_CONNECTIONS else self.config.loaded_app
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(Problem("headers-too-large", f"the head has more than {MOST_HEAD_BYTES:,} bytes"))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (its words are no problem of RFC 9457)
        self._refuse(Problem("unreadable-request", "this is no request of HTTP/1.1"))

    def _refuse(self, problem: Problem) -> None:
        body = bytes(problem.response().body)
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[problem.status] + head.encode() + body)
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


async def _busy(scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Answers in the place of the application while there are too many connections."""
    headers = {"Retry-After": "1", "Connection": "close"}
    problem = Problem("not-ready", f"more than {MOST_CONNECTIONS} connections at the same time", headers=headers)
    await problem.response()(scope, receive, send)


def configured(app: Any) -> uvicorn.Config:
    """How uvicorn runs `app`."""
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        workers=1,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises StockAssetsError where nothing can listen on that address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise StockAssetsError(
            f"nothing can listen on {host}:{port} ({error}); free the port, or set STOCK_ASSETS_API_PORT to another"
        ) from error


def serve(
    settings: Settings, host: str, port: int, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """Answers on `host` and `port` until the process is told to end.

    Raises StockAssetsError where nothing can listen there.
    """
    with listener(host, port) as listening:
        uvicorn.Server(configured(make_app(settings, clock=clock))).run(sockets=[listening])
