"""One real `stock-assets run` on a small market, which all of these tests use while it works and afterwards.

The first start goes through every stage of the graph, each in a process of its own: it takes a minute or two.
Whatever does not need the whole graph therefore runs meanwhile, as an impatient user would.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import psutil
import pytest

from stock_assets.cli.graphql import DagsterClient
from stock_assets.cli.server import still_running
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import PREFIX, PROJECT_DIR, Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.system.chain import DAILY_CHAIN, small_market

T = TypeVar("T")

#: What `stock-assets run` says last.
COMPLETE = "Browse the graph at"
#: Waits for a server are of many minutes: on a busy machine everything takes several times as long.
MINUTES = 60.0
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

RUNS = """
query Runs($filter: RunsFilter) {
  runsOrError(filter: $filter) { ... on Runs { results { id status tags { key value } assetSelection { path } } } }
}"""

MESSAGES = """
query Messages($id: ID!, $after: String) {
  logsForRun(runId: $id, afterCursor: $after) { ... on EventConnection {
    cursor hasMore events { ... on EngineEvent { message } }
  } }
}"""

#: What a test waits for, in the order in which it comes; the server is stopped last.
STAGES = ("server", "meanwhile", "summary", "stopped")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what has to wait behind what has not."""

    def stage(item: pytest.Item) -> int:
        names = getattr(item, "fixturenames", ()) if item.get_closest_marker("system") else ()
        return max((place for place, name in enumerate(STAGES) if name in names), default=-1)

    items.sort(key=stage)


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which every process works on `settings`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "DAGSTER_", "PYTEST_"))}
    chosen = {
        "CONFIG": "off",
        "SOURCE": settings.source,
        "DATA_DIR": str(settings.data_dir),
        "START": str(settings.start),
        "END": str(settings.end),
        "FIRST_MODEL_YEAR": str(settings.first_model_year),
        "TICKERS": ",".join(settings.tickers or ()),
        "API_PORT": str(free_port()),  # other servers of these tests run at the same time
        "EXTENSIONS": "stock_assets_tests.system.quick_evenings",
    }
    own = {"COLUMNS": "200", "PYTHONPATH": str(PROJECT_DIR)}
    return plain | {PREFIX + name: value for name, value in chosen.items()} | own


def console_script() -> str:
    path = shutil.which("stock-assets", path=str(Path(sys.executable).parent))
    assert path, "the package is not installed beside this Python"
    return path


def stock_assets(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The finished command, as a shell would run it."""
    return subprocess.run(
        [console_script(), *arguments],
        env=environment(settings),
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=10 * MINUTES,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what: str, probe: Callable[[], T | None], seconds: float = 10 * MINUTES, pause: float = 0.2) -> T:
    """The first answer of `probe` that is true; fails naming `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := probe():
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still no {what}")
        time.sleep(pause)


@dataclass
class Server:
    """A `stock-assets run` of our own."""

    settings: Settings
    port: int
    output: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> DagsterClient:
        return DagsterClient(self.url)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.database)

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_until_it_says(self, text: str, seconds: float) -> str:
        def heard() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"stock-assets run ended with exit code {self.process.returncode}:\n{self.said()}")
            return text in self.said()

        try:
            eventually(f"{text!r} from stock-assets run", heard, seconds)
        except pytest.fail.Exception as failure:
            log = self.settings.dagster_home / "dagster-dev.log"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:]) if log.exists() else "no log"
            pytest.fail(f"{failure}\n{self.said()}\n--- the end of {log.name}:\n{tail}")
        return self.said()

    def family(self) -> list[psutil.Process]:
        leader = psutil.Process(self.process.pid)
        return [leader, *leader.children(recursive=True)]

    def runs(self, tags: Mapping[str, str] | None = None) -> list[dict]:
        """Every run, or those with all of `tags`."""
        wanted = {"tags": [{"key": key, "value": value} for key, value in tags.items()]} if tags else {}
        return self.client.ask(RUNS, {"filter": wanted})["runsOrError"]["results"]

    def run_status(self, run_id: str) -> str:
        answer = self.client.ask(RUNS, {"filter": {"runIds": [run_id]}})
        (run,) = answer["runsOrError"]["results"]
        return run["status"]

    def process_of(self, run_id: str) -> int:
        """The process that executes the run, as soon as it does."""
        page: dict[str, Any] = {"cursor": None}

        def named() -> int | None:
            page.update(self.client.ask(MESSAGES, {"id": run_id, "after": page["cursor"]})["logsForRun"])
            said = " ".join(event.get("message", "") for event in page["events"])
            pid = re.search(r"Executing steps in process \(pid: (\d+)\)", said)
            return int(pid[1]) if pid else None

        return eventually("process of the run", named, pause=0.05)

    def finished(self, run_id: str, seconds: float = 10 * MINUTES) -> str:
        """How the run ended."""

        def ended() -> str | None:
            status = self.run_status(run_id)
            return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

        return eventually(f"end of run {run_id}", ended, seconds)

    def tables(self, names: tuple[str, ...] = DAILY_CHAIN) -> dict[str, pl.DataFrame]:
        """The rows of the tables in a fixed order."""
        return {name: self.warehouse.read(name).sort("session", "ticker") for name in names}

    def stop(self, number: signal.Signals) -> None:
        """Sends the signal and checks that every process of the family ends, and the port is free."""
        family = self.family()
        assert len(family) > 3, "a server, a daemon and a code server were expected"
        self.process.send_signal(number)
        assert self.process.wait(timeout=5 * MINUTES) == 0
        assert not still_running(family, MINUTES)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self.port))

    def end_by_force(self) -> None:
        """For the end of a failed test: nothing of ours stays behind."""
        if self.process.poll() is not None:
            return
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        for member in still_running(family, 30):
            member.kill()
        self.process.wait()


def start(settings: Settings, port: int) -> Server:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    output = settings.data_dir / f"output-{time.time_ns()}.txt"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [console_script(), "run"],
            env=environment(settings) | {"PORT": str(port)},
            cwd=PROJECT_DIR,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(settings, port, output, process)


@pytest.fixture
def unused_port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server, once the daily chain is there; the rest of the graph follows while it is used."""
    server = start(small_market(tmp_path_factory.mktemp("system") / "data"), free_port())
    try:
        server.wait_until_it_says("Dagster is up at", 10 * MINUTES)
        sessions = set(calendar_of(server.settings).sessions[60:])

        def daily_chain_is_there() -> bool:
            done = [run for run in server.runs() if run["status"] == "SUCCESS"]
            return any({"path": ["stationary_features"]} in run["assetSelection"] for run in done)

        eventually("daily chain", daily_chain_is_there, 15 * MINUTES, pause=1)
        assert server.warehouse.sessions("indicators") >= sessions
        yield server
    finally:
        server.end_by_force()


@pytest.fixture(scope="session")
def summary(server: Server) -> str:
    """What `stock-assets run` said until the whole graph was there."""
    return server.wait_until_it_says(COMPLETE, 20 * MINUTES)


@pytest.fixture(scope="session")
def memory() -> dict:
    """What one test began and another one looks at later."""
    return {}


@pytest.fixture
def meanwhile() -> None:
    """For the end of what a test began: the daemon takes up to a minute, in which others run."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser; where there is none the test is skipped, unless REQUIRE_BROWSER=1."""
    for name in CHROMIUM:
        if path := shutil.which(name):
            return path
    reason = f"no browser: none of {', '.join(CHROMIUM)} is installed"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
