"""A run that is killed leaves whole sessions or none, and the next one finishes the work."""

import math
import multiprocessing
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import calendar_of
from stock_assets_tests.effort import tries
from stock_assets_tests.system.chain import WRITERS, contents, materialize, small_market
from stock_assets_tests.system.conftest import Server
from stock_assets_tests.system.test_concurrency import launch
from stock_assets_tests.waiting import HANG_SECONDS

KILLS = tries(8, drill=20)
SEED = 20240229


@pytest.fixture(scope="module")
def forked() -> ForkServerContext:
    """Processes that start with everything imported: importing it anew takes longer than the run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stock_assets_tests.system.chain"])
    return context


def begin(context: ForkServerContext, data_dir: Path, assets: tuple[str, ...]) -> ForkServerProcess:
    """A process whose assets are about to begin."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=materialize, args=(data_dir, assets, theirs))
    process.start()
    theirs.close()
    assert heard(ours) == "started"
    return process


def heard(connection: Connection) -> str:
    assert connection.poll(HANG_SECONDS), "the process did not get as far as its assets"
    said = connection.recv()
    connection.close()
    return said


def spend(process: ForkServerProcess, seconds: float) -> float:
    """Waits until the process has ended or spent so many seconds of processor time, and returns how many it spent.

    Processor time, because the seconds on the clock depend on what else the machine does.
    """
    spent = 0.0
    with suppress(psutil.NoSuchProcess):  # it ended while we looked
        watched = psutil.Process(process.pid)
        began = cpu(watched)
        while process.is_alive() and spent < seconds:
            time.sleep(0.002)
            spent = cpu(watched) - began
    return spent


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def finish(context: ForkServerContext, data_dir: Path, assets: tuple[str, ...]) -> float:
    """Runs to the end; the seconds of processor time that the assets took."""
    process = begin(context, data_dir, assets)
    seconds = spend(process, math.inf)
    process.join()
    assert process.exitcode == 0
    return seconds


def sizes(rows: pl.DataFrame) -> dict[object, int]:
    return dict(rows.group_by("session").len().iter_rows())


@pytest.mark.system
@pytest.mark.tries
@pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork processes"
)
def test_a_kill_at_any_moment_leaves_whole_sessions(forked: ForkServerContext, tmp_path: Path):
    finish(forked, tmp_path / "empty", ("universe",))
    shutil.copytree(tmp_path / "empty", tmp_path / "reference")
    seconds = finish(forked, tmp_path / "reference", WRITERS)
    reference = contents(small_market(tmp_path / "reference"), WRITERS)
    assert list(reference) == list(WRITERS)
    whole = {name: sizes(rows) for name, rows in reference.items()}

    chance = random.Random(SEED)
    kills, seen = 0, set()
    while kills < KILLS:
        # every other kill hits a first run, the others a second one over what the first left
        data_dir = tmp_path / f"store_{kills // 2}"
        if kills % 2 == 0:
            shutil.rmtree(data_dir, ignore_errors=True)
            shutil.copytree(tmp_path / "empty", data_dir)
        process = begin(forked, data_dir, WRITERS)
        spend(process, seconds * (kills + chance.random()) / KILLS)
        process.kill()
        process.join()
        if process.exitcode == 0:
            seconds *= 0.9  # it took less than the reference, and was over before it could be killed
            continue
        assert process.exitcode == -signal.SIGKILL
        kills += 1

        found = contents(small_market(data_dir), WRITERS)
        for name, rows in found.items():
            assert sizes(rows).items() <= whole[name].items(), f"{name} after kill {kills}"
            assert not rows.select("session", "ticker").is_duplicated().any()
        seen.add(tuple(found))
    assert len(seen) >= 3, f"every kill hit the same moment: {seen}"

    for data_dir in (tmp_path / "store_1", tmp_path / f"store_{KILLS // 2 - 1}"):
        finish(forked, data_dir, WRITERS)
        finished = contents(small_market(data_dir), WRITERS)
        for name, rows in reference.items():
            assert_frame_equal(finished[name], rows)


@pytest.mark.system
@pytest.mark.xdist_group("system")
def test_a_killed_run_is_reported_and_holds_up_nobody(server: Server):
    """The out-of-memory killer takes a run process of the live server: the next run must not wait for its place."""
    before = server.tables()
    days = [str(day) for day in calendar_of(server.settings).sessions]
    (killed,) = launch(server, [(days[0], days[-1])])

    os.kill(server.process_of(killed), signal.SIGKILL)
    assert server.finished(killed) == "FAILURE"
    (following,) = launch(server, [(days[0], days[-1])])
    assert server.finished(following) == "SUCCESS"
    for name, rows in server.tables().items():
        assert_frame_equal(rows, before[name], rel_tol=1e-9, abs_tol=1e-9)
