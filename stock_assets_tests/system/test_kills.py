"""An evening that is disturbed at any of its writes ends with the tables of an undisturbed one.

A test run disturbs the writes after which rows were lost for good, `make drill` every one, and kills the process after
each commit of the runs that carry a restatement to what was made of the old bar.
"""

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import StoreBusyError
from stock_assets_tests.effort import DRILL
from stock_assets_tests.system.kills import RESTATED, Life, disturbed, killed_after
from stock_assets_tests.system.test_drill import MEMORY

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("kills")]

#: What an evening writes, each in a transaction of its own, in this order but for the first two.
WRITES = (
    *("context_series", "universe", "raw_ohlcv", "daily_bars", "stationary_features", "pca_components", "predictions"),
    *("indicators", "drift", "operations", "publication", "labels", "retraining_decisions"),
)
#: What the runs of a restatement write after all that, in this order.
TRAVEL = (
    *("daily_bars", "stationary_features", "pca_components", "predictions", "indicators", "drift"),
    *("operations", "publication", "labels", "publication"),
)
#: What a test run disturbs: what rows were lost by, and what a decision is made of.
KILLED = WRITES if DRILL else ("predictions",)
BUSY = WRITES if DRILL else ("indicators", "drift")


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
    process.join(300)
    assert process.exitcode == 9, "it died at the commit and nowhere else"


@pytest.mark.parametrize("table", KILLED)
def test_a_process_that_dies_after_a_commit_loses_nothing(
    filled: Life, plain: dict[str, pl.DataFrame], forked: ForkServerContext, table: str
):
    life = filled.another()
    kill(forked, life, WRITES.index(table) + 1)
    assert_equal(life.finish(), plain)


@pytest.mark.skipif(not DRILL, reason="a part of `make drill`")
@pytest.mark.parametrize("number", range(len(TRAVEL)))
def test_a_process_that_dies_while_a_restatement_is_carried_on_loses_nothing(
    filled: Life, restated: dict[str, pl.DataFrame], forked: ForkServerContext, number: int
):
    life = filled.another(RESTATED)
    kill(forked, life, len(WRITES) + number + 1)
    assert_equal(life.finish(), restated)


def busy() -> NoReturn:
    raise StoreBusyError("stock_assets.duckdb was locked by another process")


@pytest.mark.parametrize("table", BUSY)
def test_a_store_that_is_busy_at_a_write_loses_nothing(filled: Life, plain: dict[str, pl.DataFrame], table: str):
    with disturbed(WRITES.index(table) + 1, busy, after=False) as written:
        tables = filled.another().finish()
    assert len(written) > len(WRITES), "it was written once more"
    assert_equal(tables, plain)
