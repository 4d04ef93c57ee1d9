"""A server on a port of this machine, in a thread of the test, with the bounds of the real one."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import uvicorn

from stock_assets.private.uvicorn import Bounds
from stock_assets.serving.server import BACKLOG, BOUNDS, configured
from stock_assets_tests.waiting import HANG_SECONDS

#: For clients that behave, on a machine of any slowness.
PATIENT = replace(BOUNDS, head_seconds=600.0, write_seconds=600.0, farewell_seconds=600.0)


@dataclass(frozen=True)
class Served:
    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, content: bytes = b"") -> socket.socket:
        """A connection that has sent `content`."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS)
        connection.sendall(content)
        return connection

    @contextmanager
    def held(self, count: int, content: bytes = b"") -> Iterator[list[socket.socket]]:
        """So many connections that have sent `content`, until the end of the block."""
        with ExitStack() as stack:
            yield [stack.enter_context(self.connect(content)) for _ in range(count)]

    @contextmanager
    def within(self, **bounds: float) -> Iterator[None]:
        """The server with other bounds, for what begins in the block."""
        kind: Any = self.server.config.http_protocol_class
        before = kind.bounds
        kind.bounds = replace(before, **bounds)
        try:
            yield
        finally:
            kind.bounds = before

    def head(self, path: str, *headers: str, method: str = "GET") -> bytes:
        """The head of a request, without the empty line that ends it."""
        return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers, "")).encode(
            "latin-1"
        )

    def exchange(self, content: bytes) -> bytes:
        """What is answered to `content` until the server ends the connection."""
        with self.connect(content) as connection:
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """What arrives until the server ends the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@contextmanager
def served(app: Any, bounds: Bounds = PATIENT) -> Iterator[Served]:
    """`app` on a free port, until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    port = listener.getsockname()[1]
    config = configured(app, bounds)
    config.timeout_keep_alive = 600
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the server did not start"
        yield Served(port, server)
    finally:
        server.should_exit = True
        thread.join(HANG_SECONDS)
        listener.close()
        assert not thread.is_alive(), "the server did not end"
