"""What a client may take of the server: time, memory and connections, tried over real sockets."""

import asyncio
import gc
import json
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from stock_assets.private import uvicorn as borrowed
from stock_assets.private.uvicorn import Bounds
from stock_assets.serving import guard
from stock_assets_tests.effort import tries
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.ports import PATIENT, Served, read_all, served
from stock_assets_tests.waiting import HANG_SECONDS, until

ANSWERED = b"HTTP/1.1 200 OK\r\n"
#: Seconds after which what is slow ends, where that is what is tried: nothing that behaves is sent meanwhile.
SOON = 0.05


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    """It ends nothing by itself, so that who holds a connection does so as long as the test wants."""
    with served(app_of(folder), replace(PATIENT, connections=300)) as server:
        yield server


def answered(server: Served) -> None:
    """A client that behaves gets its answer."""
    reply = server.exchange(server.head("/v1/predictions/AAPL", "Connection: close") + b"\r\n")
    assert reply.startswith(ANSWERED), reply[:200]


def open_connections(server: Served) -> int:
    return len(server.server.server_state.connections)


def kept(server: Served) -> int:
    """The connections that anything in this process still holds, open or not."""
    gc.collect()
    return sum(type(each) is server.server.config.http_protocol_class for each in gc.get_objects())


def problem_of(reply: bytes) -> tuple[int, str]:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert int(head.split()[1]) == problem["status"]
    return problem["status"], problem["type"].partition("#")[2]


def test_the_borrowed_connection_is_that_of_the_pinned_version():
    assert version("uvicorn") == borrowed.TRIED_WITH
    pins = (Path(borrowed.__file__).parent.parent.parent / "constraints.txt").read_text().splitlines()
    assert f"uvicorn=={borrowed.TRIED_WITH}" in pins


@pytest.mark.tries
def test_connections_that_are_reset_leave_nothing_behind(server: Served):
    """uvicorn (0.54) keeps each as long as an idle one, which is ten minutes here."""
    head = server.head("/v1/predictions/AAPL") + b"\r\n"
    at_once = struct.pack("ii", 1, 0)  # close sends a reset
    for place in range(tries(1000, drill=5000)):
        with server.connect(head if place % 2 else head[:40]) as connection:
            if place % 4 == 1:
                connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    answered(server)
    until(lambda: open_connections(server) == 0)
    assert kept(server) < 5


def test_slow_heads_stop_nobody_and_end(server: Served):
    head = server.head("/v1/predictions/AAPL")
    with server.held(200, head):
        answered(server)
        assert open_connections(server) >= 200, "they are still there: nobody waited for their end"
    with server.within(head_seconds=SOON), server.held(5, head) as slow:
        for connection in slow:
            assert read_all(connection) == b""


def test_more_connections_than_there_is_room_for_end_the_oldest(server: Served):
    until(lambda: open_connections(server) == 0)
    with server.held(100) as old:
        until(lambda: open_connections(server) == 100)
        time.sleep(0.01)  # the loop counts milliseconds: those of one are of the same age
        with server.held(299) as young:
            answered(server)
            for connection in old:
                assert read_all(connection) == b""
            assert open_connections(server) <= 300
            for connection in young:
                connection.sendall(server.head("/livez", "Connection: close") + b"\r\n")
                assert read_all(connection).startswith(ANSWERED)


def test_where_every_connection_is_busy_the_next_comes_again():
    over = threading.Event()

    async def slow(scope, receive, send):
        if scope["type"] == "http":
            while not over.is_set():
                await asyncio.sleep(0.01)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await lifespan(receive, send)

    with served(slow, replace(PATIENT, connections=5)) as server, server.held(5, server.head("/") + b"\r\n") as busy:
        until(lambda: len(server.server.server_state.tasks) == 5)
        refused = server.exchange(server.head("/") + b"\r\n")
        over.set()
        assert problem_of(refused) == (503, "not-ready")
        assert b"retry-after: 1" in refused
        for connection in busy:
            assert connection.recv(100).startswith(ANSWERED)


async def lifespan(receive, send):
    for _ in range(2):
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def test_empty_lines_keep_no_connection_open(server: Served):
    with server.connect(server.head("/livez") + b"\r\n") as connection:
        assert connection.recv(4096).startswith(ANSWERED)
        with server.within(head_seconds=SOON):
            connection.sendall(b"\r\n")
            assert read_all(connection) == b""


def test_two_requests_share_a_connection(server: Served):
    head = server.head("/livez")
    with server.connect(head + b"\r\n") as connection:
        assert connection.recv(4096).startswith(ANSWERED)
        connection.sendall(head[:20])
        connection.sendall(head[20:] + b"Connection: close\r\n\r\n")
        assert read_all(connection).startswith(ANSWERED)


def test_a_client_that_does_not_read_is_not_waited_for():
    begun = threading.Event()

    async def endless(scope, receive, send):
        if scope["type"] == "http":
            begun.set()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await lifespan(receive, send)

    with served(endless, Bounds(write_seconds=SOON)) as server, server.connect(server.head("/") + b"\r\n"):
        assert begun.wait(HANG_SECONDS)
        until(lambda: open_connections(server) == 0)


@pytest.mark.parametrize(
    ("status", "kind", "path", "headers"),
    [
        (414, "address-too-long", "/" + "a" * 9000, []),
        (414, "address-too-long", "/v1/predictions/AAPL?session=" + "1" * 9000, []),
        (431, "headers-too-large", "/livez", ["X-A: " + "a" * 33_000]),
        (431, "headers-too-large", "/livez", [f"X-{place}: a" for place in range(101)]),
        (400, "unreadable-request", "/livez", ["X-A a"]),
        (400, "unreadable-request", "/livez", ["Content-Length: 1", "Content-Length: 2"]),
        (400, "unreadable-request", "/livez", ["Content-Length: 1", "Transfer-Encoding: chunked"]),
    ],
)
def test_the_head_of_a_request_is_bounded(server: Served, status: int, kind: str, path: str, headers: list[str]):
    reply = server.exchange(server.head(path, *headers) + b"\r\n")
    assert problem_of(reply) == (status, kind)


def test_an_endless_head_is_kept_nowhere_and_ends(server: Served):
    piece = b"a" * 10_000
    with server.connect(b"GET /" + piece) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 414 ")
        tracemalloc.start()
        try:
            for _ in range(5000):
                connection.sendall(piece)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 8_000_000, "50 MB arrived, but for what waits in the sockets"
    with server.within(farewell_seconds=SOON), server.connect(b"GET /" + piece) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 414 ")
        until(lambda: not takes(connection, piece), pause=0)
    answered(server)


def takes(connection: socket.socket, content: bytes) -> bool:
    """Whether the other side still takes something."""
    try:
        connection.sendall(content)
    except OSError:
        return False
    return True


def test_what_is_no_http_is_a_problem(server: Served):
    for content in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"HELO a\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
    ):
        assert problem_of(server.exchange(content)) == (400, "unreadable-request")


def test_trailers_of_a_body_are_bounded(server: Served):
    head = server.head("/invocations", "Content-Type: text/csv", "Transfer-Encoding: chunked", method="POST")
    trailers = b"0\r\n" + b"".join(b"X-%d: a\r\n" % place for place in range(5000))
    reply = server.exchange(head + b"\r\n" + trailers + b"\r\n")
    assert b" 200 " not in reply[:20]
    answered(server)


def test_slow_bodies_stop_nobody(server: Served, monkeypatch: pytest.MonkeyPatch):
    head = server.head("/invocations", "Content-Type: text/csv", "Content-Length: 1000", method="POST") + b"\r\n"
    monkeypatch.setattr(guard, "BODY_SECONDS", 600.0)
    with server.held(50, head + b"ticker"):
        until(lambda: len(server.server.server_state.tasks) >= 50)
        answered(server)
        assert open_connections(server) >= 50, "they are still there: nobody waited for their end"
    monkeypatch.setattr(guard, "BODY_SECONDS", SOON)
    with server.held(5, head + b"ticker") as slow:
        for connection in slow:
            assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_too_large_ends_the_connection(server: Served):
    head = server.head("/invocations", "Content-Type: text/csv", "Content-Length: 99999999", method="POST")
    assert server.exchange(head + b"\r\n").startswith(b"HTTP/1.1 413 ")


def test_a_websocket_is_not_opened(server: Served):
    headers = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )
    with server.connect(server.head("/livez", *headers) + b"\r\n") as connection:
        assert not connection.recv(100).startswith(b"HTTP/1.1 101")


def test_the_log_holds_no_address(folder: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"), served(app_of(folder)) as server:
        server.exchange(server.head("/v1/sessions?token=a-secret", "Connection: close") + b"\r\n")
    assert "a-secret" not in caplog.text
