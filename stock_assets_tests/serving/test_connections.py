"""What a client may take of the server: time, memory and connections, tried over real sockets."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from stock_assets.private import uvicorn as borrowed
from stock_assets.private.uvicorn import Bounds
from stock_assets.serving import guard
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.ports import Served, read_all, served

ANSWERED = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    bounds = Bounds(head_seconds=0.4, write_seconds=0.4, connections=300)
    with served(app_of(folder), bounds) as server:
        yield server


def answers(server: Served) -> bool:
    """Whether a client that behaves gets its answer, within a second."""
    began = time.monotonic()
    reply = server.exchange(server.head("/v1/predictions/AAPL", "Connection: close") + b"\r\n")
    assert reply.startswith(ANSWERED), reply[:200]
    return time.monotonic() - began < 1


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


def test_connections_that_are_reset_leave_nothing_behind(server: Served):
    """5,000 of them; uvicorn holds each as long as an idle one (0.54), which is some 14 MB here."""
    head = server.head("/v1/predictions/AAPL") + b"\r\n"
    at_once = struct.pack("ii", 1, 0)  # close sends a reset

    def reset(count: int) -> None:
        for place in range(count):
            connection = server.connect(head if place % 2 else head[:40])
            if place % 4 == 1:
                connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            connection.close()

    reset(500)
    process = psutil.Process()
    before = process.memory_info().rss
    reset(5000)
    assert answers(server)
    assert len(server.server.server_state.connections) < 50
    assert process.memory_info().rss - before < 8_000_000


def test_slow_heads_stop_nobody_and_end(server: Served):
    slow = [server.connect(server.head("/v1/predictions/AAPL")) for _ in range(200)]
    assert answers(server)
    for connection in slow[:5]:
        assert read_all(connection) == b""
    for connection in slow:
        connection.close()


def test_more_connections_than_there_is_room_for_end_the_oldest(server: Served):
    silent = [server.connect() for _ in range(400)]
    assert answers(server)
    assert len(server.server.server_state.connections) <= 300
    silent[0].settimeout(0.2)
    assert read_all(silent[0]) == b""
    for connection in silent:
        connection.close()


def test_where_every_connection_is_busy_the_next_comes_again():
    async def slow(scope, receive, send):
        if scope["type"] == "http":
            await asyncio.sleep(1)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await lifespan(receive, send)

    with served(slow, Bounds(connections=5)) as server:
        busy = [server.connect(server.head("/") + b"\r\n") for _ in range(5)]
        while len(server.server.server_state.tasks) < 5:
            time.sleep(0.01)
        refused = server.exchange(server.head("/") + b"\r\n")
        assert problem_of(refused) == (503, "not-ready")
        assert b"retry-after: 1" in refused
        for connection in busy:
            assert connection.recv(100).startswith(ANSWERED)
            connection.close()


async def lifespan(receive, send):
    for _ in range(2):
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def test_empty_lines_keep_no_connection_open(server: Served):
    with server.connect(server.head("/livez") + b"\r\n") as connection:
        assert connection.recv(4096).startswith(ANSWERED)
        began = time.monotonic()
        connection.sendall(b"\r\n")
        assert read_all(connection) == b""
        assert time.monotonic() - began < 3


def test_two_requests_share_a_connection(server: Served):
    head = server.head("/livez")
    with server.connect(head + b"\r\n") as connection:
        assert connection.recv(4096).startswith(ANSWERED)
        connection.sendall(head[:20])
        connection.sendall(head[20:] + b"Connection: close\r\n\r\n")
        assert read_all(connection).startswith(ANSWERED)


def test_a_client_that_does_not_read_is_not_waited_for():
    async def endless(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            await lifespan(receive, send)

    with served(endless, Bounds(write_seconds=0.2)) as server, server.connect(server.head("/") + b"\r\n"):
        deadline = time.monotonic() + 5
        while not server.server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        while server.server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not server.server.server_state.connections


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
    before, began = psutil.Process().memory_info().rss, time.monotonic()
    with server.connect(b"GET /") as connection:
        reply = connection.recv(100) if connection.send(b"a" * 10_000) else b""
        assert reply.startswith(b"HTTP/1.1 414 ")
        ended = False
        while not ended and time.monotonic() < began + 5:
            try:
                connection.send(b"a" * 10_000)
            except OSError:
                ended = True
    assert ended
    assert psutil.Process().memory_info().rss - before < 8_000_000
    assert answers(server)


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
    assert answers(server)


def test_slow_bodies_stop_nobody(server: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    head = server.head("/invocations", "Content-Type: text/csv", "Content-Length: 1000", method="POST") + b"\r\n"
    slow = [server.connect(head + b"ticker") for _ in range(50)]
    assert answers(server)
    for connection in slow[:5]:
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    for connection in slow:
        connection.close()


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
