"""The process that listens, over a real port: tickers in addresses, and how long a new publication takes."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from stock_assets.errors import StockAssetsError
from stock_assets.publication.write import NewFiles, publish
from stock_assets.serving import current
from stock_assets.serving.server import listener
from stock_assets_tests.publication.folders import MODELS, SESSIONS, facts_of, predictions_of, published_folder
from stock_assets_tests.waiting import HANG_SECONDS, until

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
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=HANG_SECONDS)

    def end(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=HANG_SECONDS) in (0, -signal.SIGTERM)

    def wait(self) -> None:
        """Until it answers."""
        until(lambda: self.process.poll() is not None or self.answers())
        assert self.process.poll() is None

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
    try:
        server.wait()
        yield server
    finally:
        server.end()


def test_tickers_are_percent_encoded_in_an_address(server: Server):
    for written, ticker in (("%5EGSPC", "^GSPC"), ("BRK.B", "BRK.B"), ("%42RK%2EB", "BRK.B")):
        assert server.client.get(f"/v1/predictions/{written}").json()["ticker"] == ticker
    assert server.client.get("/v1/predictions/BTC%2FUSD").json()["type"].endswith("#unknown-ticker")
    assert server.client.head("/v1/predictions/AAPL").headers["content-length"] != "0"
    assert server.client.post("/v1/predictions:batch", json={"items": [{"ticker": "BTC/USD"}]}).status_code == 200


def test_a_new_publication_answers_by_itself(server: Server):
    """The pointer is looked at several times in a quarter of a second; how long it takes, benchmarks measure."""
    assert current.EVERY_SECONDS <= 0.1
    for number in range(3):
        models = MODELS | {"rnn": f"rnn-2026-06-30-{number:08d}"}
        new = NewFiles(server.folder)
        new.put("predictions", str(SESSIONS[-1]), predictions_of(SESSIONS[-1], models=models))
        moment = datetime(2026, 11, 20, 22, tzinfo=UTC) + timedelta(minutes=number)
        publish(server.folder, new, facts_of(), champions=models, reason="again", code_version="1", now=moment)
        until(lambda: server.client.get("/v1/predictions/AAPL").headers["x-model-version"] == models["rnn"])  # noqa: B023


def test_a_port_that_is_taken_is_one_clear_error(server: Server):
    with pytest.raises(StockAssetsError, match=f"nothing can listen on 127.0.0.1:{server.port}"):
        listener("127.0.0.1", server.port)


def test_the_process_needs_little_memory(server: Server):
    assert psutil.Process(server.process.pid).memory_info().rss < 150e6
