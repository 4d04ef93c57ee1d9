"""One evening of a small market that is disturbed at one of its writes, and what the store holds once it is over.

Importing this module imports all that an evening needs and computes nothing, so that a process with it can be forked.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import polars as pl
import pytest

from stock_assets.cli.server import settle_interrupted_runs
from stock_assets.definitions import build_definitions
from stock_assets.errors import DamagedFileError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.system import drill_market
from stock_assets_tests.system.drill_market import Plants, planted
from stock_assets_tests.system.evenings import Platform, platform
from stock_assets_tests.system.test_drill import LAST_BEFORE, TICKERS, fewer_models, fill, moment, use
from stock_assets_tests.waiting import HANG_SECONDS, until

NEVER = date(2030, 1, 2)
PLANTS = Plants(regime=NEVER, restated=("SIM01", NEVER, NEVER), corrupt=(NEVER, NEVER))
#: The vendor restates the close of three sessions before the evening, as the evening's fetch is the first to see.
RESTATED = replace(
    PLANTS, restated=("SIM01", LAST_BEFORE - timedelta(days=2), moment(LAST_BEFORE).date() + timedelta(days=1))
)
#: What differs between two evenings that made the same: when something was done, and the alerts about what failed.
TIMES = ("fetched_at", "seen_at", "decided_at", "trained_at", "published_at", "entry")
NOT_COMPARED = ("alerts",)
#: How long ticks that ask for nothing are apart: a run that failed is tried again sooner.
PAUSE = timedelta(minutes=40)


@dataclass(frozen=True)
class Life:
    """A market in a folder of its own: this process keeps the files of Dagster open, by their names."""

    folder: Path
    plants: Plants = PLANTS

    @contextmanager
    def opened(self) -> Iterator[Platform]:
        with pytest.MonkeyPatch.context() as patch:
            config = use(patch, self.folder, TICKERS[:4])
            patch.setenv("DRILL_PLANTS", self.plants.text())
            fewer_models(patch)
            with platform(config, Path(drill_market.__file__)) as running:
                yield running
        settings.cache_clear()

    def fill(self) -> None:
        """Everything up to LAST_BEFORE."""
        with self.opened() as running:
            config = settings()
            fill(config, planted(build_definitions(config), self.plants), running.instance, LAST_BEFORE)
            until_quiet(running, moment(LAST_BEFORE) + timedelta(minutes=10))

    def another(self, plants: Plants = PLANTS) -> "Life":
        """The same market, from now on apart from this one, and with what is planted of later days."""
        life = Life(Path(tempfile.mkdtemp(prefix="life-", dir=self.folder.parent)) / "data", plants)
        shutil.copytree(self.folder, life.folder)
        return life

    def finish(self) -> dict[str, pl.DataFrame]:
        """What the store holds after the evening, once the automation asks for nothing more."""
        with self.opened() as running:
            settle_interrupted_runs(settings().dagster_home)  # as the server does when it starts
            until_quiet(running, evening_of(running))
            return contents(Warehouse(running.store))

    def so_far(self) -> dict[str, pl.DataFrame]:
        """What the store holds now."""
        with self.opened() as running:
            return contents(Warehouse(running.store))

    def remove(self) -> None:
        shutil.rmtree(self.folder.parent)


def evening_of(_: Platform) -> datetime:
    """The evening after LAST_BEFORE, by the settings of an open market."""
    return moment(calendar_of(settings()).shift(LAST_BEFORE, 1) or LAST_BEFORE)


def until_quiet(running: Platform, now: datetime) -> None:
    """Ticks from `now` on until three in a row, PAUSE apart, ask for nothing: Dagster first goes on with a tick that
    was cut off, which may take two."""
    quiet = 0
    for _ in range(20):
        works = running.tick(now)
        quiet = 0 if works else quiet + 1
        if quiet == 3:
            return
        now += timedelta(minutes=1) if works else PAUSE
    raise AssertionError("the evening does not end")


def contents(store: Warehouse) -> dict[str, pl.DataFrame]:
    """The rows of every table in a fixed order, without the times at which they were made."""
    tables = {}
    for name in store.row_counts():
        if name not in NOT_COMPARED:
            rows = store.read(name)
            if name == "order_gates":  # one of them names when the bars were fetched
                texts = pl.col("value", "reason").str.replace_all(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "moment")
                rows = rows.with_columns(texts)
            rows = rows.drop(*TIMES, strict=False)
            tables[name] = rows.sort(rows.columns, nulls_last=True)
    return tables


@contextmanager
def disturbed(at_write: int | None, disturb: Callable[[], None], *, after: bool) -> Iterator[list[str]]:
    """Calls `disturb` at the write of that number, counted from 1, or at each; before it begins or `after` it is
    committed.

    Yields the tables that were written, in order.
    """
    written: list[str] = []
    write = Warehouse.write

    def counted(store: Warehouse, changes: list[Change]) -> None:
        written.append(changes[0].table)
        here = at_write is None or len(written) == at_write
        if here and not after:
            disturb()
        write(store, changes)
        if here and after:
            disturb()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Warehouse, "write", counted)
        yield written


def killed_after(life: Life, number: int) -> None:
    """Lives through the evening in a process that ends without a word after its commit of that number."""
    play(life, number, lambda: os._exit(9))


def standing_still_after_each(life: Life, told: Connection) -> None:
    """Lives through the evening in a process that says so and stands still after each commit until it may go on."""

    def stand_still() -> None:
        told.send("committed")
        os.kill(os.getpid(), signal.SIGSTOP)

    play(life, None, stand_still)


def play(life: Life, number: int | None, disturb: Callable[[], None]) -> None:
    with life.opened() as running, disturbed(number, disturb, after=True):
        running.tick(evening_of(running))
        until_quiet(running, evening_of(running) + timedelta(minutes=1))


def stands_still(process: int) -> bool:
    """Whether every thread of it is stopped."""
    states = [task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{process}/task").glob("*/stat")]
    return set(states) == {"T"}


def left_at_each_commit(context: ForkServerContext, life: Life) -> list[Life]:
    """What a process leaves that dies after its first commit of the evening, its second, and so on: the files as they
    are while one process stands still there. It is over when this returns, so that nobody takes its runs for alive."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=standing_still_after_each, args=(life, theirs))
    process.start()
    theirs.close()
    assert process.pid is not None
    left = []
    with ours, suppress(EOFError):  # it has ended
        while True:
            assert ours.poll(5 * HANG_SECONDS), "the process got to no other commit, and to no end"
            ours.recv()
            until(partial(stands_still, process.pid))
            left.append(life.another(life.plants))
            os.kill(process.pid, signal.SIGCONT)
    process.join(HANG_SECONDS)
    assert process.exitcode == 0
    return left


def filling_the_disk(life: Life) -> None:
    """Lives through the evening in a process whose disk fills up meanwhile: that is all that is said."""
    with life.opened() as running:
        for minutes in (0, 10):
            with suppress(DamagedFileError):
                running.tick(evening_of(running) + timedelta(minutes=minutes))
