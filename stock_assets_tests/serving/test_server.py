"""The process that listens, over a real port: what is no request, resets, a new publication, and the time it takes."""

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from stock_assets.errors import StockAssetsError
from stock_assets.publication.write import NewFiles, publish
from stock_assets.serving.envelope import MOST_HEADER_BYTES
from stock_assets.serving.server import BOUNDS, OTHER_DESCRIPTORS, listener
from stock_assets_tests.publication.folders import MODELS, SESSIONS, facts_of, predictions_of, published_folder

SERVE = """
import sys
from pathlib import Path
from stock_assets.serving.server import serve
from stock_assets.settings import read_settings
serve(read_settings(data_dir=Path(sys.argv[1])), "127.0.0.1", int(sys.argv[2]))
"""


class Server:
    """`serve` in a process of its own."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "published"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, "-W", "error", "-c", SERVE, str(data_dir), str(self.port)])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        until = time.monotonic() + 30
        while not self.answers() and time.monotonic() < until:
            assert self.process.poll() is None
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            return self.client.get("/livez").status_code == 200
        except httpx.TransportError:
            return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def say(self, content: bytes) -> bytes:
        """What the server answers to `content` before it closes the connection."""
        with self.connect() as connection:
            connection.sendall(content)
            pieces = []
            while piece := connection.recv(65_536):
                pieces.append(piece)
        return b"".join(pieces)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    server = Server(folder)
    yield server
    server.client.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=10) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"hello\r\n\r\n", 400, "unreadable-request"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2 * MOST_HEADER_BYTES, 431, "headers-too-large"),
        (b"GET /" + b"a" * 2 * MOST_HEADER_BYTES, 414, "address-too-long"),
    ],
    ids=["no HTTP", "a long header", "a long address"],
)
def test_what_is_no_request_is_a_problem(server: Server, content: bytes, status: int, kind: str):
    head, _, body = server.say(content).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] == f"/docs/errors.md#{kind}"


def test_tickers_are_percent_encoded_in_an_address(server: Server):
    for written, ticker in (("%5EGSPC", "^GSPC"), ("BRK.B", "BRK.B"), ("%42RK%2EB", "BRK.B")):
        assert server.client.get(f"/v1/predictions/{written}").json()["ticker"] == ticker
    assert server.client.get("/v1/predictions/BTC%2FUSD").json()["type"].endswith("#unknown-ticker")
    assert server.client.head("/v1/predictions/AAPL").headers["content-length"] != "0"
    assert server.client.post("/v1/predictions:batch", json={"items": [{"ticker": "BTC/USD"}]}).status_code == 200


def test_a_new_publication_answers_within_a_quarter_of_a_second(server: Server):
    waits = []
    for number in range(3):
        models = MODELS | {"rnn": f"rnn-2026-06-30-{number:08d}"}
        new = NewFiles(server.folder)
        new.put("predictions", str(SESSIONS[-1]), predictions_of(SESSIONS[-1], models=models))
        moment = datetime(2026, 11, 20, 22, tzinfo=UTC) + timedelta(minutes=number)
        publish(server.folder, new, facts_of(), champions=models, reason="again", code_version="1", now=moment)
        renamed = time.monotonic()
        while server.client.get("/v1/predictions/AAPL").headers["x-model-version"] != models["rnn"]:
            assert time.monotonic() - renamed < 10
        waits.append(time.monotonic() - renamed)
    assert min(waits) < 0.25  # of three, since other processes share these cores


def test_resets_and_idle_connections_leave_nothing_behind(server: Server):
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    for _ in range(1_000):
        with server.connect() as connection:
            connection.sendall(b"GET /v1/predictions HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close is a reset
    assert server.client.get("/livez").status_code == 200
    assert process.memory_info().rss - before < 10e6


def test_connections_that_ask_nothing_give_way(server: Server):
    most = min(BOUNDS.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_DESCRIPTORS)
    opened = []
    try:
        for _ in range(min(most + 5, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_DESCRIPTORS)):
            opened.append(server.connect())
        assert server.answers()
    finally:
        for connection in opened:
            connection.close()


def test_a_port_that_is_taken_is_one_clear_error(server: Server):
    with pytest.raises(StockAssetsError, match=f"nothing can listen on 127.0.0.1:{server.port}"):
        listener("127.0.0.1", server.port)


def test_the_process_needs_little_memory(server: Server):
    assert psutil.Process(server.process.pid).memory_info().rss < 150e6
