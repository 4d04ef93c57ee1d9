"""The API: one lookup and a day, idle and while every core computes, beside MLflow's server and one that opens DuckDB.

    python -m benchmarks.serving [--seconds 5] [--tickers 498] [--sessions 260]

A publication of so many sessions with three models is served by a real process, and `wrk` asks it over the loopback.
The rivals look the same row up: a pyfunc behind `mlflow models serve`, and a FastAPI that opens the DuckDB file per
request. The writer is a process that stores a day again and again; its wait is the time that the file was locked.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psutil

from benchmarks.common import Target, preamble, table, targets
from stock_assets.cores import usable_cores

HOST = "127.0.0.1"
#: Writes of a day by the evening's writer, and swaps.
WRITES, SWAPS = 30, 20
API = "import sys; from stock_assets.serving.server import serve; from stock_assets.settings import read_settings; "
API += "serve(read_settings(data_dir=sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"
#: The same with a process that predicts on demand and takes 2 s for each.
PREDICTS = "import time; from stock_assets.serving.on_demand import worker; "
PREDICTS += "worker.predictor = lambda: lambda *question: time.sleep(2) or {}; worker.main()"
SLOW = "import sys; from stock_assets.serving.on_demand.process import OnDemand; "
SLOW += f"OnDemand.__init__.__defaults__ = ((sys.executable, '-c', {PREDICTS!r}),); "
SLOW += API.replace("data_dir=sys.argv[1]", "data_dir=sys.argv[1], on_demand=True")
#: What `wrk` posts to MLflow's server.
POST = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"dataframe_split": {"columns": ["ticker"], "data": [["%s"]]}}'
"""


class Load(NamedTuple):
    """What `wrk` measured."""

    p50: float
    """milliseconds, as the next"""
    p99: float
    per_second: float
    failed: int


def wrk(url: str, seconds: int, connections: int = 8, script: Path | None = None) -> Load:
    """Asks `url` as often as one thread of `wrk` can."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    command += ["-s", str(script)] if script else []
    output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
    shares = {
        share: float(value) * units[unit] for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)", output)
    }
    failure_count = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", output)))
    failure_count += sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", output)))
    return Load(shares["50"], shares["99"], float(re.findall(r"Requests/sec:\s+([\d.]+)", output)[0]), failure_count)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def until_answered(port: int, path: str, *, patience: float = 120) -> float:
    """Seconds until a GET of `path` is answered with 200."""
    start = time.perf_counter()
    while time.perf_counter() - start < patience:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return time.perf_counter() - start
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"{path} on port {port} was not answered within {patience:.0f} s")


@contextmanager
def process(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen]:
    """A process that ends with the block, and all that it started."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, start_new_session=True, **(quiet | options)) as running:  # pyright: ignore[reportCallIssue, reportArgumentType]
        try:
            yield running
        finally:
            for child in [*psutil.Process(running.pid).children(recursive=True), running]:
                child.kill()


def compute() -> None:
    while True:
        sum(range(100_000))


@contextmanager
def busy_cores() -> Iterator[None]:
    """As many processes that compute as there are cores: the API's machine during an evening."""
    computing = [
        multiprocessing.get_context("spawn").Process(target=compute, daemon=True) for _ in range(usable_cores())
    ]
    for process_of_core in computing:
        process_of_core.start()
    try:
        yield
    finally:
        for process_of_core in computing:
            process_of_core.kill()
            process_of_core.join()


# ---------------------------------------------------------------- the workload


def sessions_until(last: date, count: int) -> list[date]:
    days = [last - timedelta(days=n) for n in range(2 * count)]
    return sorted([day for day in days if day.weekday() < 5][:count])


def publish_all(data_dir: Path, tickers: Sequence[str], sessions: Sequence[date]) -> None:
    from stock_assets_tests.publication.folders import published_folder

    published_folder(data_dir / "published", sessions=sessions, tickers=tickers, labelled=len(sessions) - 7)


def publish_again(data_dir: Path, tickers: Sequence[str], session: date, number: int) -> str:
    """Another version of the newest session: its entry in the ledger."""
    from stock_assets.publication.ledger import read_pointer
    from stock_assets.publication.write import NewFiles, publish
    from stock_assets_tests.publication.folders import MODELS, predictions_of

    folder, models = data_dir / "published", MODELS | {"rnn": f"rnn-2025-12-31-{number:08x}"}
    before, new = read_pointer(folder), NewFiles(folder)
    assert before is not None
    new.put("predictions", str(session), predictions_of(session, tickers, models=models))
    facts_of_entry = {"reason": f"swap {number}", "code_version": "0", "now": datetime.now(UTC)}
    return publish(folder, new, before.facts, champions=models, **facts_of_entry).entry


def fill_store(data_dir: Path, tickers: Sequence[str], sessions: Sequence[date]) -> Path:
    """The same predictions in a DuckDB file."""
    from stock_assets.storage.warehouse import Warehouse

    store = Warehouse(data_dir / "stock_assets.duckdb")
    store.replace_sessions("predictions", sessions, pl.concat(stored_day(tickers, day) for day in sessions))
    return store.path


def stored_day(tickers: Sequence[str], session: date) -> pl.DataFrame:
    from stock_assets.model.tables import PREDICTIONS
    from stock_assets_tests.publication.folders import predictions_of

    rows = predictions_of(session, tickers, ()).with_columns(session=pl.lit(session))
    return PREDICTIONS.fit(rows.select([name for name in PREDICTIONS.names if name in rows.columns]))


# ---------------------------------------------------------------- what is measured


def writer(path: Path, tickers: Sequence[str], session: date) -> tuple[float, float]:
    """(milliseconds of a write of a day, median; seconds that the file was locked by others, all writes)."""
    from stock_assets.storage import attached
    from stock_assets.storage.warehouse import Warehouse

    waited_seconds, sleep, milliseconds, rows = 0.0, time.sleep, [], stored_day(tickers, session)

    class Clock:  # the store sleeps only where the file is locked
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            nonlocal waited_seconds
            start = time.perf_counter()
            sleep(seconds)
            waited_seconds += time.perf_counter() - start

    attached.time = Clock  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(WRITES):
        start = time.perf_counter()
        Warehouse(path).replace_sessions("predictions", [session], rows)
        milliseconds.append((time.perf_counter() - start) * 1000)
    attached.time = time
    return statistics.median(milliseconds), waited_seconds


@contextmanager
def under_load(url: str, seconds: int = 600) -> Iterator[None]:
    with process(["wrk", "-t1", "-c4", f"-d{seconds}s", url]):
        time.sleep(0.5)
        yield


def swaps(data_dir: Path, port: int, tickers: Sequence[str], session: date) -> list[float]:
    """Milliseconds from the rename of the pointer to the first new answer, of each swap."""
    milliseconds, connection = [], http.client.HTTPConnection(HOST, port, timeout=10)
    for number in range(SWAPS):
        entry = publish_again(data_dir, tickers, session, number)
        start = time.perf_counter()
        while True:
            connection.request("GET", f"/v1/predictions/{tickers[0]}")
            answer = connection.getresponse()
            answer.read()
            if answer.headers["x-publication"] == entry:
                break
            time.sleep(0.001)
        milliseconds.append((time.perf_counter() - start) * 1000)
    connection.close()
    return milliseconds


def beside_slow_questions(data_dir: Path) -> float:
    """Milliseconds that `livez` takes in 19 of 20 cases while 60 predictions on demand of 2 s each were asked for."""
    port, milliseconds = free_port(), []
    body = json.dumps({"ticker": "SLOW", "session": "2026-11-20", "version": "rnn-2025-12-31-0a0a"})
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
    question = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    with process([sys.executable, "-c", SLOW, str(data_dir), str(port)]), ExitStack() as stack:
        until_answered(port, "/livez")
        probe = stack.enter_context(closing(http.client.HTTPConnection(HOST, port, timeout=60)))
        waiting = {stack.enter_context(socket.create_connection((HOST, port), 60)) for _ in range(60)}
        for connection in waiting:
            connection.sendall(question)
        while waiting:
            start = time.perf_counter()
            probe.request("GET", "/livez")
            probe.getresponse().read()
            milliseconds.append((time.perf_counter() - start) * 1000)
            waiting -= set(select.select(list(waiting), [], [], 0)[0])
    return statistics.quantiles(milliseconds, n=20)[-1]


def page(port: int) -> tuple[float, float] | None:
    """(kB, seconds to first sight) of the dashboard in Chromium; None where it cannot be opened."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            browser_page = browser.new_page()
            answers = []
            browser_page.on("response", lambda answer: answers.append(answer))  # it sets an attribute of what it calls
            if (answer := browser_page.goto(f"http://{HOST}:{port}/")) is None or answer.status != 200:
                return None
            browser_page.wait_for_load_state("networkidle")
            script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            return sum(len(answer_of_page.body()) for answer_of_page in answers) / 1000, browser_page.evaluate(
                script
            ) / 1000
        finally:
            browser.close()


# ---------------------------------------------------------------- the rivals


@contextmanager
def mlflow_server(data_dir: Path, ticker: str) -> Iterator[tuple[int, Path]]:
    """(port, script for wrk) of `mlflow models serve` with the rows of the newest session."""
    folder, port, script = data_dir / "pyfunc", free_port(), data_dir / "post.lua"
    script.write_text(POST % ticker)
    quiet = dict(os.environ, MLFLOW_DISABLE_TELEMETRY="true", PYTHONWARNINGS="ignore", PATH=path_with_python())
    quiet |= {"MLFLOW_TRACKING_URI": f"sqlite:///{data_dir}/mlflow.db"}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.serving_rivals", "save", str(data_dir), str(folder)],
        env=quiet,
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    with process([*command, "-h", HOST, "-p", str(port), "-w", "1"], env=quiet):
        until_answered(port, "/ping")
        yield port, script


def path_with_python() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


@contextmanager
def duckdb_server(store: Path, ticker: str) -> Iterator[int]:
    """The port of a FastAPI that opens the DuckDB file per request."""
    port = free_port()
    with process([sys.executable, "-m", "benchmarks.serving_rivals", "duckdb", str(store), str(port)]):
        until_answered(port, f"/{ticker}")
        yield port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--tickers", type=int, default=498)
    parser.add_argument("--sessions", type=int, default=260)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; install it: apt-get install wrk")
    tickers = [f"T{n:03d}" for n in range(options.tickers)]
    sessions = sessions_until(date(2026, 11, 20), options.sessions)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        publish_all(data_dir, tickers, sessions)
        store = fill_store(data_dir, tickers, sessions)
        print(f"{len(tickers)} tickers x {len(sessions)} sessions x 3 models; {usable_cores()} cores.\n", flush=True)
        measure(data_dir, store, tickers, session=sessions[-1], seconds=options.seconds)


def measure(data_dir: Path, store: Path, tickers: Sequence[str], *, session: date, seconds: int) -> None:
    """Prints every table."""
    port = free_port()
    row_url, day = f"http://{HOST}:{port}/v1/predictions/{tickers[0]}", f"http://{HOST}:{port}/v1/predictions"
    waits = {"no server": writer(store, tickers, session)}
    rows: list[tuple[str, Load]] = []
    with process([sys.executable, "-c", API, str(data_dir), str(port)]) as server:
        ready = until_answered(port, "/readyz")
        rows.append(("one row, 1 connection, idle", wrk(row_url, seconds, connections=1)))
        rows.append(("one row, 8 connections, idle", wrk(row_url, seconds)))
        rows.append((f"a day, {len(tickers)} rows, 8 connections, idle", wrk(day, seconds)))
        with busy_cores():
            rows.append(("one row, 1 connection, all cores busy", wrk(row_url, seconds, connections=1)))
        with under_load(row_url):
            waits["the API under load"] = writer(store, tickers, session)
        swap_milliseconds = swaps(data_dir, port, tickers, session)
        slow = beside_slow_questions(data_dir)
        memory = psutil.Process(server.pid).memory_info().rss / 1e6
        page_figures = page(port)
    with duckdb_server(store, tickers[0]) as rival:
        url = f"http://{HOST}:{rival}/{tickers[0]}"
        rows.append(("FastAPI that opens DuckDB, 8 connections", wrk(url, seconds)))
        with under_load(url):
            waits["that FastAPI under load"] = writer(store, tickers, session)
    with mlflow_server(data_dir, tickers[0]) as (rival, script):
        rows.append(
            ("`mlflow models serve`, 8 connections", wrk(f"http://{HOST}:{rival}/invocations", seconds, script=script))
        )
    print(table(("answers", "p50, ms", "p99, ms", "per second", "failed"), [(name, *load) for name, load in rows]))
    loads = dict(rows)
    own_rate = loads["one row, 8 connections, idle"].per_second
    slower = {name: own_rate / load.per_second for name, load in rows[-2:]}
    print(table(("one row, 8 connections", "times as fast is the API"), list(slower.items())))
    wait_rows = [(name, milliseconds, waited_seconds * 1000) for name, (milliseconds, waited_seconds) in waits.items()]
    print(table(("a writer beside", "ms a write, median", f"ms locked out, {WRITES} writes together"), wait_rows))
    single_load = loads["one row, 1 connection, idle"]
    print(
        targets(
            Target("one row, idle, p50, ms", single_load.p50, 1),
            Target("one row, idle, p99, ms", single_load.p99, 5),
            Target("one row, all cores busy, p99, ms", loads["one row, 1 connection, all cores busy"].p99, 50),
            Target("one row, per second and worker", own_rate, 4000, at_least=True),
            Target("a day, per second and worker", rows[2][1].per_second, 3000, at_least=True),
            Target("pointer renamed to first new answer, worst, ms", max(swap_milliseconds), 250),
            Target("`livez` beside 60 slow predictions on demand, p95, ms", slow, 50),
            Target("start to ready, s", ready, 1.5),
            Target("memory, MB", memory, 150),
            Target("the writer is locked out, ms", waits["the API under load"][1] * 1000, 0),
            *(
                [Target("page, kB", page_figures[0], 150), Target("page, s to first sight", page_figures[1], 0.5)]
                if page_figures
                else []
            ),
        )
    )
    if page_figures is None:
        print("The page was not measured: it cannot be opened here.\n")


if __name__ == "__main__":
    preamble()
    main()
