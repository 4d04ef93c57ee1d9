"""An S3 of the tests' own (moto, which answers conditional requests as Amazon's does), and a proxy that spoils it."""

import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

from stock_assets.buckets import Bucket
from stock_assets.objects import ObjectPath
from stock_assets_tests.waiting import until

SECRET = "a-secret-that-no-error-shows"
_NUMBERS = count(1)


@dataclass
class S3:
    """A server on 127.0.0.1; `environment` is how obstore reaches it."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIATESTS",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def bucket(self) -> ObjectPath:
        """A new and empty bucket."""
        name = f"tests-{os.getpid()}-{next(_NUMBERS)}"
        assert self.request("PUT", f"/{name}") == 200
        return ObjectPath(Bucket("s3", name))

    def request(self, method: str, path: str, content: bytes = b"") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            # the date and the region of a signature, which moto reads and does not check
            credential = "AWS4-HMAC-SHA256 Credential=AKIATESTS/20260101/us-east-1/s3/aws4_request"
            connection.request(method, path, content, headers={"Authorization": credential})
            return connection.getresponse().status
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


@contextmanager
def running_s3(host: str = "127.0.0.1") -> Iterator[S3]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '{host}', '-p', '{port}'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=-3, stderr=-3) as process:
        server = S3(port, process)
        try:
            until(server.answers)
            yield server
        finally:
            process.kill()


@dataclass
class Answer:
    """What the proxy answers in the place of the server."""

    status: int = 403
    code: str = "AccessDenied"
    more: str = ""

    @property
    def body(self) -> bytes:
        text = f"<Error><Code>{self.code}</Code><Message>of {SECRET}</Message>{self.more}</Error>"
        return text.encode()


#: Decides on a request (its method and path): an answer in the place of the server's, or "hang", "drop" (the request is
#: not passed on), "lose" (it is passed on, and nobody hears the answer), None (nothing is spoilt).
Fault = Callable[[str, str], Answer | str | None]


@dataclass
class Proxy:
    """Passes requests on to the server, but for what `fault` spoils."""

    port: int
    fault: Fault = lambda _method, _path: None
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}


@contextmanager
def running_proxy(server: S3, host: str = "127.0.0.1") -> Iterator[Proxy]:
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            proxy.requests.append((self.command, self.path))
            fault = proxy.fault(self.command, self.path)
            if isinstance(fault, Answer):
                self.answer(fault.status, {}, fault.body)
                return
            if fault == "hang":
                over.wait()
            if fault in ("drop", "hang"):
                self.close_connection = True
                return
            upstream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            try:
                upstream.request(self.command, self.path, content, dict(self.headers))
                answer = upstream.getresponse()
                body = answer.read()
            finally:
                upstream.close()
            if fault == "lose":
                self.close_connection = True
                return
            self.answer(answer.status, dict(answer.headers), body)

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Handler) as listener:
        listener.daemon_threads = True
        proxy = Proxy(listener.server_port)
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            over.set()
            listener.shutdown()
            thread.join()
