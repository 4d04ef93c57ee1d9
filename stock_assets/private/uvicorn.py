"""What is borrowed from the inside of uvicorn: its connection, with bounds that uvicorn lacks.

uvicorn waits for ever for the first request of a connection and for the rest of a head that has begun, keeps a head of
any size in memory, and holds a reset connection as long as an idle one. `BoundedConnection` ends all of these, and the
connection that has waited longest when there are too many.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn

from stock_assets.errors import PrivateApiError

#: The version that this was tried with; constraints.txt pins it.
TRIED_WITH = "0.54.0"
#: Methods and attributes of the connection that are overridden or read.
BORROWED = (
    "connection_made",
    "connection_lost",
    "data_received",
    "on_message_begin",
    "on_url",
    "on_header",
    "on_headers_complete",
    "pause_writing",
    "resume_writing",
    "send_400_response",
    "_unset_keepalive_if_required",
)


def _missing_symbol_error(symbol: str) -> PrivateApiError:
    return PrivateApiError(
        f"uvicorn {uvicorn.__version__} has no {symbol}, which stock_assets borrows and has tried with uvicorn "
        f"{TRIED_WITH}; expected that version: pip install 'uvicorn[standard]=={TRIED_WITH}'"
    )


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise _missing_symbol_error("httptools_impl.HttpToolsProtocol") from error
for _name in BORROWED:
    if not hasattr(HttpToolsProtocol, _name):
        raise _missing_symbol_error(f"HttpToolsProtocol.{_name}")


@dataclass(frozen=True)
class Bounds:
    """What one client may take of a server."""

    head_seconds: float = 10.0
    """for the head of a request, from the first byte of it or the start of the connection"""
    write_seconds: float = 30.0
    """in which a client that does not read its answer has to read some of it"""
    farewell_seconds: float = 1.0
    """in which what a refused client still sends is read and dropped"""
    target_bytes: int = 8192
    """path and query"""
    header_bytes: int = 32_768
    headers: int = 100
    connections: int = 1000
    """of all clients"""

    @property
    def head_bytes(self) -> int:
        """More than a head within the other bounds can have."""
        return self.target_bytes + self.header_bytes + 8 * self.headers + 256


class BoundedConnection(HttpToolsProtocol):
    """A connection within `bounds`. What exceeds them is answered with `refusal`, and the connection ends."""

    bounds = Bounds()

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._since = self.loop.time()
        self._status, self._refused = 400, False
        self._heads = self._head_bytes = self._read_bytes = 0
        self._in_head = True

    @staticmethod
    def refusal(status: int) -> tuple[bytes, bytes]:
        """(head without the status line, body) of the answer to a request that is refused."""
        raise NotImplementedError(status)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > self.bounds.connections and not _end_the_oldest(
            self.connections, newest_connection=self
        ):
            self._status = 503
            self.send_400_response("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset(head=True, write=True)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client reset the connection
        super().connection_lost(exc)

    @property
    def is_waiting(self) -> bool:
        """Whether no request of the connection is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        heads = self._heads
        super().data_received(data)
        # the parser keeps a header to itself until it is whole
        self._read_bytes = self._read_bytes + len(data) if self._in_head and heads == self._heads else 0
        if self._read_bytes > self.bounds.head_bytes:
            self._status = 431
            self.send_400_response("")
        # an empty line between two requests ends the keep-alive timer and begins none
        if self.is_waiting and self._head_timer is None and self.timeout_keep_alive_task is None:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        self._since = self.loop.time()
        self._head_timer = self.loop.call_later(self.bounds.head_seconds, self.end)

    def end(self) -> None:
        """Ends the connection at once."""
        self._unset(head=True, write=True)
        if not self.transport.is_closing():
            self.transport.abort()

    def _unset(self, *, head: bool = False, write: bool = False) -> None:
        if head and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if write and self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes, self._in_head = 0, True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.bounds.target_bytes:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        # those behind a body count as well, and are not looked at
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self.bounds.header_bytes or len(self.headers) >= self.bounds.headers:
            self._refuse(431)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unset(head=True)
        self._in_head = False
        self._heads += 1
        super().on_headers_complete()

    def _refuse(self, status: int) -> None:
        self._status = status
        raise ValueError(status)  # ends the parser, which has uvicorn call `send_400_response`

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        if self.transport.is_closing() or self._refused:
            return
        if not self.is_waiting:  # another answer is on its way
            self.end()
            return
        head, body = self.refusal(self._status)
        line = f"HTTP/1.1 {self._status} {HTTPStatus(self._status).phrase}\r\n".encode()
        self.transport.write(line + head + b"connection: close\r\n\r\n" + body)
        # what still arrives is read and dropped: to end before it is read is a reset, and the client loses the answer
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._unset(head=True)
        self._head_timer = self.loop.call_later(self.bounds.farewell_seconds, self.end)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.bounds.write_seconds, self.end)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unset(write=True)


def _end_the_oldest(connections: Iterable[Any], newest_connection: BoundedConnection) -> bool:
    """Ends the connection that has waited longest for a request, so that another client gets in; whether one did."""
    waiting = [
        connection
        for connection in connections
        if isinstance(connection, BoundedConnection) and connection.is_waiting and connection is not newest_connection
    ]
    if waiting:
        min(waiting, key=lambda connection: connection._since).end()
    return bool(waiting)
