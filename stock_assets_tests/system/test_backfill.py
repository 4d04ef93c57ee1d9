"""A backfill from the shell, on a server that is busy with another one; a Ctrl-C, and the same command again."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.settings import PROJECT_DIR
from stock_assets_tests.system.conftest import MINUTES, Server, console_script, environment, eventually

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

FIRST, LAST, SESSIONS = "2018-03-01", "2018-03-29", 21
ATTEMPTS = 5
TITLES = "{ partitionBackfillsOrError(limit: 20) { ... on PartitionBackfills { results { id title status } } } }"


@dataclass
class Command:
    """`stock-assets backfill` under way, and the tables as they were before."""

    process: subprocess.Popen[bytes]
    output: Path
    before: dict[str, pl.DataFrame]


@contextmanager
def backfill(server: Server, folder: Path) -> Iterator[Command]:
    output, before = folder / "output.txt", server.tables()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [
                *(console_script(), "backfill", "--start", FIRST, "--end", LAST),
                *("--assets", "raw_ohlcv,daily_bars", "--port", str(server.port)),
            ],
            env=environment(server.settings),
            cwd=PROJECT_DIR,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, as in a terminal
        )
    try:
        yield Command(process, output, before)
    finally:
        process.kill()
        process.wait()


def backfills(server: Server) -> dict[str, str]:
    """The status of each, by the id, of those that the shell launched, the newest first."""
    answer = server.client.ask(TITLES)["partitionBackfillsOrError"]["results"]
    return {backfill["id"]: backfill["status"] for backfill in answer if backfill["title"] == f"{FIRST} to {LAST}"}


@pytest.fixture(scope="session")
def interrupted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """One that got a Ctrl-C while a run of it was there, and its end. On a busy machine one may be over before it is
    seen to have a run: another one is then begun."""
    for _ in range(ATTEMPTS):
        earlier = set(backfills(server))
        with backfill(server, tmp_path_factory.mktemp("interrupted")) as command:

            def has_a_run(begun: Command = command, earlier: set[str] = earlier) -> bool:
                assert begun.process.poll() in (None, 0), begun.output.read_text()
                fresh = set(backfills(server)) - earlier
                return any(server.runs({"dagster/backfill": backfill_id}) for backfill_id in fresh)

            eventually("run of the backfill", has_a_run, pause=0.05)
            if command.process.poll() is None:
                os.killpg(command.process.pid, signal.SIGINT)
            if command.process.wait(timeout=10 * MINUTES) != 0:
                return command
    pytest.fail(f"each of {ATTEMPTS} backfills was over before its Ctrl-C")


@pytest.fixture(scope="session")
def command(
    server: Server,
    interrupted: Command,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Command]:
    """The same command after the interrupted one."""
    with backfill(server, tmp_path_factory.mktemp("shell")) as command:
        yield command


def test_a_ctrl_c_ends_the_command_and_its_backfill(server: Server, interrupted: Command):
    *_, cancelling, over, last = interrupted.output.read_text().splitlines()
    assert (interrupted.process.returncode, last) == (130, "stock-assets: interrupted")
    assert cancelling == "cancelling the backfill …"
    assert over.startswith("it is over. What it made stays, whole sessions only; the same command makes all")
    assert "Traceback" not in interrupted.output.read_text()
    backfill_id, status = next(iter(backfills(server).items()))
    assert status == "CANCELED"
    runs = server.runs({"dagster/backfill": backfill_id})
    assert {run["status"] for run in runs} <= {"SUCCESS", "CANCELED"}, runs
    for name, rows in server.tables().items():
        assert_frame_equal(rows, interrupted.before[name], rel_tol=1e-9, abs_tol=1e-9)


def test_the_shell_launches_a_backfill(server: Server, command: Command):
    def launched() -> bool:
        assert command.process.poll() in (None, 0), command.output.read_text()
        return next(iter(backfills(server).values())) != "CANCELED"

    assert eventually("backfill from the shell", launched)


@pytest.mark.usefixtures("meanwhile")
def test_the_shell_shows_it_to_the_end(server: Server, command: Command):
    assert command.process.wait(timeout=10 * MINUTES) == 0, command.output.read_text()
    said = command.output.read_text()
    for asset in ("raw_ohlcv", "daily_bars"):
        assert re.search(rf"^{asset} {SESSIONS}/{SESSIONS}$", said, re.MULTILINE), said
    assert re.search(r"done in \d+ s", said)
    for name, rows in server.tables().items():
        assert_frame_equal(rows, command.before[name], rel_tol=1e-9, abs_tol=1e-9)
