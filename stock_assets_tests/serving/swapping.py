"""A server of its own process and a publisher of another, for drills; each is run as a module.

    python -m stock_assets_tests.serving.swapping serve DATA_DIR FD SECONDS
    python -m stock_assets_tests.serving.swapping publish DATA_DIR PORT SWAPS

The server accepts connections on the listening socket FD and looks at the pointer every SECONDS. The publisher swaps
between a few publications of one session, waits each time until the server answers the new one, and prints its entry.
"""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl

from stock_assets.publication.write import NewFiles, parquet_of, publish
from stock_assets_tests.publication.folders import MODELS, SESSIONS, facts_of, predictions_of
from stock_assets_tests.waiting import HANG_SECONDS

NEWEST = SESSIONS[-1]
#: The versions of `rnn` that take turns. Every one of their rows differs.
TURNS = tuple(f"rnn-2025-12-31-{n:08x}" for n in range(7))
TICKERS = tuple(f"T{n:03d}" for n in range(200))


@cache
def rows_of_turn(version: str) -> pl.DataFrame:
    """What is published of NEWEST while `version` serves."""
    return predictions_of(NEWEST, TICKERS, models=MODELS | {"rnn": version})


@cache
def file_of_turn(version: str) -> bytes:
    """The same as a file."""
    return parquet_of(rows_of_turn(version), version)


def publish_turn(folder: Path, number: int) -> str:
    """Publishes the rows of a turn, and returns its entry."""
    version = TURNS[number % len(TURNS)]
    new = NewFiles(folder)
    new.put("predictions", str(NEWEST), file_of_turn(version))
    champions = MODELS | {"rnn": version}
    pointer = publish(
        folder, new, facts_of(), champions=champions, reason=f"swap {number}", code_version="0", now=datetime.now(UTC)
    )
    return pointer.entry


@contextmanager
def served(data_dir: Path, *, seconds: float) -> Iterator[tuple[int, int]]:
    """(port, process id) of a server over `data_dir` that looks at the pointer every `seconds`."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, "-m", __name__, "serve", str(data_dir), str(fd), str(seconds)]
        with subprocess.Popen(command, pass_fds=[fd]) as process:
            try:
                yield port, process.pid
            finally:
                process.terminate()
                process.wait(HANG_SECONDS)


def _serve(data_dir: Path, fd: int, seconds: float) -> None:
    import uvicorn

    from stock_assets.serving import current, server
    from stock_assets.settings import read_settings

    current.EVERY_SECONDS = seconds
    app = server.make_app(read_settings(data_dir=data_dir), clock=lambda: datetime.now(UTC))
    uvicorn.Server(server.configured(app)).run(sockets=[socket.socket(fileno=fd)])


def _publish(data_dir: Path, port: int, swaps: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
    for number in range(1, swaps + 1):
        entry = publish_turn(data_dir / "published", number)
        while True:
            connection.request("GET", f"/v1/predictions/{TICKERS[0]}")
            answer = connection.getresponse()
            answer.read()
            if answer.headers["x-publication"] == entry:
                break
            time.sleep(0.002)
        print(entry)


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    if what == "serve":
        _serve(Path(folder), int(rest[0]), float(rest[1]))
    else:
        _publish(Path(folder), int(rest[0]), int(rest[1]))
