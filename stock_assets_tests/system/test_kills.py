"""An evening that is disturbed at any of its writes, or by a full disk, ends with the tables of an undisturbed one.

This file by itself disturbs the writes after which rows were lost for good, `make drill` every one, and the process
dies after each commit, also of the runs that carry a restatement to what was made of the old bar. What a process leaves
that dies after a commit are its files at that moment: one process per evening stands still after each of its commits,
and its files are copied. That they are those of a process that is really killed is a test, too.
"""

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.defs.runs import attempts
from stock_assets.errors import StoreBusyError
from stock_assets.lifecycle.evening import EVENING, evening_work, with_side_inputs
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.disks import small_disk
from stock_assets_tests.effort import DRILL
from stock_assets_tests.system.kills import (
    RESTATED,
    Life,
    contents,
    disturbed,
    evening_of,
    filling_the_disk,
    killed_after,
    left_at_each_commit,
)
from stock_assets_tests.system.test_drill import MEMORY
from stock_assets_tests.waiting import HANG_SECONDS

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("kills")]

#: What an evening writes, each in a transaction of its own, in this order but for the first two.
WRITES = (
    *("context_series", "universe", "announcements", "raw_ohlcv", "daily_bars", "side_features", "stationary_features"),
    *("pca_components", "predictions"),
    *("target_weights", "fills", "indicators", "drift", "operations", "publication"),
    *("labels", "operations", "publication"),
    *("paper_equity", "order_gates", "operations", "publication", "retraining_decisions"),
)
#: What the runs of a restatement write after all that, in this order.
TRAVEL = (
    *("daily_bars", "side_features", "stationary_features", "pca_components", "predictions", "target_weights", "fills"),
    *("indicators", "drift", "operations", "publication", "labels", "operations", "publication"),
)
#: Bytes that an evening finds free, which writes 2.5 MB: it begins nothing, or is cut off at any of its writes.
FREE = (60_000, 300_000, 500_000, 700_000, 1_000_000, 1_300_000, 1_600_000, 2_500_000) if DRILL else (800_000,)


def numbered(*tables: str) -> list[object]:
    """The writes that are disturbed, counted from 1: all in `make drill`, else those of `tables`."""
    return [
        pytest.param(number, id=f"{number}-{table}")
        for number, table in enumerate(WRITES, start=1)
        if DRILL or table in tables
    ]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = Path(tempfile.mkdtemp(dir=MEMORY)) if MEMORY.is_dir() else tmp_path_factory.mktemp("kills")
    filled = Life(folder / "filled")
    filled.fill()
    yield filled
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def plain(filled: Life) -> dict[str, pl.DataFrame]:
    """The tables after an undisturbed evening."""
    with disturbed(0, lambda: None, after=True) as written:
        tables = filled.another().finish()
    assert sorted(written[:2]) == sorted(WRITES[:2])
    assert tuple(written[2:]) == WRITES[2:], "every write of an evening is disturbed"
    return tables


@pytest.fixture(scope="module")
def restated(filled: Life) -> dict[str, pl.DataFrame]:
    """The tables after an undisturbed evening in which the vendor restates a bar."""
    with disturbed(0, lambda: None, after=True) as written:
        tables = filled.another(RESTATED).finish()
    assert tuple(written[len(WRITES) :]) == TRAVEL, "every write of the restatement is disturbed"
    assert "restatements" in tables
    return tables


@pytest.fixture(scope="module")
def forked() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stock_assets_tests.system.kills"])
    return context


def assert_equal(tables: dict[str, pl.DataFrame], plain: dict[str, pl.DataFrame]) -> None:
    assert set(tables) == set(plain)
    for name, rows in plain.items():
        assert_frame_equal(tables[name], rows, rel_tol=1e-9, abs_tol=1e-12)


def kill(context: ForkServerContext, life: Life, number: int) -> None:
    """Has the process of the evening die after its commit of that number, counted from 1."""
    process = context.Process(target=killed_after, args=(life, number))
    process.start()
    process.join(5 * HANG_SECONDS)
    assert process.exitcode == 9, "it died at the commit and nowhere else"


@pytest.fixture(scope="module")
def dead(filled: Life, forked: ForkServerContext) -> list[Life]:
    """What is left of an evening after each of its writes."""
    return left_at_each_commit(forked, filled.another())


@pytest.fixture(scope="module")
def dead_in_a_restatement(filled: Life, forked: ForkServerContext) -> list[Life]:
    return left_at_each_commit(forked, filled.another(RESTATED))[len(WRITES) :]


def test_a_process_that_is_killed_leaves_what_one_has_that_stands_still(
    filled: Life, plain: dict[str, pl.DataFrame], dead: list[Life], forked: ForkServerContext
):
    number = WRITES.index("predictions") + 1  # rows were lost by it
    life = filled.another()
    kill(forked, life, number)
    assert_equal(life.so_far(), dead[number - 1].so_far())
    assert_equal(life.finish(), plain)
    life.remove()


@pytest.mark.parametrize("number", numbered("predictions"))
def test_a_process_that_dies_after_a_commit_loses_nothing(
    plain: dict[str, pl.DataFrame], dead: list[Life], number: int
):
    assert len(dead) == len(WRITES)
    assert_equal(dead[number - 1].finish(), plain)
    dead[number - 1].remove()


@pytest.mark.skipif(not DRILL, reason="a part of `make drill`")
@pytest.mark.parametrize("number", range(len(TRAVEL)))
def test_a_process_that_dies_while_a_restatement_is_carried_on_loses_nothing(
    restated: dict[str, pl.DataFrame], dead_in_a_restatement: list[Life], number: int
):
    assert len(dead_in_a_restatement) == len(TRAVEL)
    assert_equal(dead_in_a_restatement[number].finish(), restated)
    dead_in_a_restatement[number].remove()


def busy() -> NoReturn:
    raise StoreBusyError("stock_assets.duckdb was locked by another process")


@pytest.mark.parametrize("number", numbered("indicators", "drift"))  # of which a decision is made
def test_a_store_that_is_busy_at_a_write_loses_nothing(filled: Life, plain: dict[str, pl.DataFrame], number: int):
    life = filled.another()
    with disturbed(number, busy, after=False) as written:
        tables = life.finish()
    assert len(written) > len(WRITES), "it was written once more"
    assert_equal(tables, plain)
    life.remove()


@pytest.mark.parametrize("free", FREE)
def test_a_disk_that_is_full_loses_nothing_and_no_run_succeeds_without_its_rows(
    filled: Life, plain: dict[str, pl.DataFrame], forked: ForkServerContext, tmp_path: Path, free: int
):
    with small_disk(tmp_path / "disk", 500) as disk:
        life = Life(disk.folder / "data")
        shutil.copytree(filled.folder, life.folder)
        disk.leave(free)
        process = forked.Process(target=filling_the_disk, args=(life,))
        process.start()
        process.join(5 * HANG_SECONDS)
        assert process.exitcode == 0, "whatever was said, the disk was named"
        disk.leave(500_000_000)
        with life.opened() as running:
            if attempts(running.instance, evening_work(evening_of(running).date() - timedelta(days=1))).succeeded:
                tables = contents(Warehouse(running.store))
                made = with_side_inputs(EVENING, ("announcements", "side_features"))
                assert_equal({name: tables[name] for name in made}, {name: plain[name] for name in made})
        assert_equal(life.finish(), plain)
