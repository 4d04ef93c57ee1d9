"""A server on a port of this machine, in a thread of the test, with the bounds of the real one."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from stock_assets.private.uvicorn import Bounds
from stock_assets.serving.server import BACKLOG, BOUNDS, configured


@dataclass(frozen=True)
class Served:
    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, content: bytes = b"", *, timeout: float = 10) -> socket.socket:
        """A connection that has sent `content`."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        connection.sendall(content)
        return connection

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
def served(app: Any, bounds: Bounds = BOUNDS) -> Iterator[Served]:
    """`app` on a free port, until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    port = listener.getsockname()[1]
    server = uvicorn.Server(configured(app, bounds))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the server did not start"
    try:
        yield Served(port, server)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive(), "the server did not end"
