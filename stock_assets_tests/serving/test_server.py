"""The process that listens, over a real port: tickers in addresses, and how long a new publication takes."""

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
from stock_assets.serving.server import listener
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    server = Server(folder)
    yield server
    server.client.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=10) in (0, -signal.SIGTERM)


def test_tickers_are_percent_encoded_in_an_address(server: Server):
    for written, ticker in (("%5EGSPC", "^GSPC"), ("BRK.B", "BRK.B"), ("%42RK%2EB", "BRK.B")):
        assert server.client.get(f"/v1/predictions/{written}").json()["ticker"] == ticker
    assert server.client.get("/v1/predictions/BTC%2FUSD").json()["type"].endswith("#unknown-ticker")
    assert server.client.head("/v1/predictions/AAPL").headers["content-length"] != "0"
    assert server.client.post("/v1/predictions:batch", json={"items": [{"ticker": "BTC/USD"}]}).status_code == 200


def test_a_new_publication_answers_within_a_quarter_of_a_second(server: Server):
    waits = []
    for number in range(5):
        models = MODELS | {"rnn": f"rnn-2026-06-30-{number:08d}"}
        new = NewFiles(server.folder)
        new.put("predictions", str(SESSIONS[-1]), predictions_of(SESSIONS[-1], models=models))
        moment = datetime(2026, 11, 20, 22, tzinfo=UTC) + timedelta(minutes=number)
        publish(server.folder, new, facts_of(), champions=models, reason="again", code_version="1", now=moment)
        renamed = time.monotonic()
        while server.client.get("/v1/predictions/AAPL").headers["x-model-version"] != models["rnn"]:
            assert time.monotonic() - renamed < 10
        waits.append(time.monotonic() - renamed)
    assert min(waits) < 0.25  # of five, since other processes share these cores


def test_a_port_that_is_taken_is_one_clear_error(server: Server):
    with pytest.raises(StockAssetsError, match=f"nothing can listen on 127.0.0.1:{server.port}"):
        listener("127.0.0.1", server.port)


def test_the_process_needs_little_memory(server: Server):
    assert psutil.Process(server.process.pid).memory_info().rss < 150e6
