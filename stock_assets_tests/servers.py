"""Local servers that behave well or badly: they answer, refuse, redirect, drip, flood, hang or never answer."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Server:
    """One that listens on this machine."""

    url: str
    asked: list[str] = field(default_factory=list)
    """'METHOD path' of every request"""


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler], closing: Event | None = None) -> Iterator[str]:
    """The address of a server whose requests `handler` answers; `closing` is set before it ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if closing is not None:
            closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def listening(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> Iterator[Server]:
    """A server that answers every request with `status`, `headers` and `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = Server("")
    with answering(Handler) as server.url:
        yield server


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that accepts connections and then does what `talk` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def silence(connection: socket.socket) -> None:
    """Never answers, nor a handshake, until the client leaves."""
    while connection.recv(65536):
        pass


def drip_header(connection: socket.socket) -> None:
    """Sends a byte of an endless header every 50 ms, until the client leaves."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def flood(connection: socket.socket) -> None:
    """Sends 600 MB."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 629145600\r\n\r\n")
    piece = b"x" * (1 << 20)
    for _ in range(600):
        connection.sendall(piece)
