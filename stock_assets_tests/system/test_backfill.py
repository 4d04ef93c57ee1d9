"""A backfill from the shell, on a server that is busy with another one."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.settings import PROJECT_DIR
from stock_assets_tests.system.conftest import MINUTES, Server, console_script, environment, eventually

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]

FIRST, LAST, SESSIONS = "2018-03-01", "2018-03-29", 21
TITLES = "{ partitionBackfillsOrError(limit: 20) { ... on PartitionBackfills { results { title status } } } }"


@dataclass
class Command:
    """`stock-assets backfill` under way, and the tables as they were before."""

    process: subprocess.Popen[bytes]
    output: Path
    before: dict[str, pl.DataFrame]


@pytest.fixture(scope="session")
def command(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    output = tmp_path_factory.mktemp("shell") / "output.txt"
    before = server.tables()
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
        )
    yield Command(process, output, before)
    process.kill()
    process.wait()


def test_the_shell_launches_a_backfill(server: Server, command: Command):
    def launched() -> bool:
        assert command.process.poll() in (None, 0), command.output.read_text()
        backfills = server.client.ask(TITLES)["partitionBackfillsOrError"]["results"]
        return f"{FIRST} to {LAST}" in [backfill["title"] for backfill in backfills]

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
