"""A publisher that dies, or finds the disk full or the store busy, at any of its steps leaves the old or the new
publication whole, and the next one ends as an undisturbed one.

A test run disturbs one step of each kind, `make drill` every one.
"""

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import DamagedFileError, StoreBusyError
from stock_assets.files import TEMPORARY
from stock_assets.publication.layout import KINDS, Pointer
from stock_assets.publication.materialize.publish import publish_sessions
from stock_assets.publication.read import Publication, open_publication
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.effort import DRILL
from stock_assets_tests.publication.kills import COUNT, killed_after, publish_last, stepping
from stock_assets_tests.publication.markets import NOW, market, sessions_of, settings_of
from stock_assets_tests.waiting import HANG_SECONDS


class Evening:
    """A market whose sessions but the last are published, and what undisturbed publishing of the last leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before = folder / "before"
        settings, store = market(self.before, COUNT)
        self.sessions = sessions_of(settings, COUNT)
        operations = store.read("operations")
        store.replace_table("operations", operations.filter(pl.col("session") < self.sessions[-1]))
        self.old = publish_sessions(store, settings, self.sessions[:-1], registry=NoRegistry(), now=NOW).pointer
        store.replace_table("operations", operations)
        plain = self.copy("plain")
        with stepping(0, lambda: None) as self.steps:
            publish_last(plain)
        self.new, self.rows = whole(plain).pointer, rows_of(plain)

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.before, self.folder / name))


def whole(folder: Path) -> Publication:
    """What is published, once every file that the pointer names was read."""
    publication = open_publication(settings_of(folder).published)
    assert publication is not None
    for kind in KINDS:
        for key, digest in publication.pointer.files[kind].items():
            publication.content(kind, key, digest)
    return publication


def rows_of(folder: Path) -> pl.DataFrame:
    rows = Warehouse(settings_of(folder).database).read("publication")
    return rows.select("session", "digest", "rows", "content").sort("session")


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    return Evening(tmp_path_factory.mktemp("evening"))


def assert_old_or_new(folder: Path, evening: Evening) -> Pointer:
    pointer = whole(folder).pointer
    assert pointer.files in (evening.old.files, evening.new.files)
    return pointer


def assert_finishes(folder: Path, evening: Evening) -> None:
    """The next run ends as an undisturbed one, and its ledger leads back to the first entry."""
    publish_last(folder)
    publication = whole(folder)
    assert publication.pointer.files == evening.new.files
    assert publication.pointer.facts == evening.new.facts
    assert rows_of(folder).equals(evening.rows)
    newest = (
        Warehouse(settings_of(folder).database).read("publication").filter(pl.col("session") == evening.sessions[-1])
    )
    assert newest["entry"].to_list() == [publication.pointer.entry]
    assert not list(folder.rglob(f"{TEMPORARY}*")), "what a killed writer left is removed"


def chosen(steps: list[str]) -> list[int]:
    """The first step of each kind, or every one."""
    first = [i + 1 for i, step in enumerate(steps) if step not in steps[:i]]
    return list(range(1, len(steps) + 1)) if DRILL else first


def test_the_steps_end_with_ledger_pointer_and_store(evening: Evening):
    assert evening.steps[-5:] == [
        "write ledger",
        "rename ledger",
        "write current.json",
        "rename current.json",
        "commit",
    ]
    assert {"write predictions", "rename bars", "rename monitoring"} <= set(evening.steps[:-5])


def test_a_publisher_that_is_killed_leaves_the_old_or_the_new_publication(evening: Evening):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stock_assets_tests.publication.kills"])
    for step in chosen(evening.steps):
        folder = evening.copy(f"killed-{step}")
        process = context.Process(target=killed_after, args=(folder, step))
        process.start()
        process.join(HANG_SECONDS)
        assert process.exitcode == 9, "it died at the step and nowhere else"
        pointer = assert_old_or_new(folder, evening)
        renamed = step > evening.steps.index("rename current.json")
        assert (pointer.files == evening.new.files) is renamed, evening.steps[step - 1]
        assert_finishes(folder, evening)


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["write predictions", "write monitoring", "write ledger", "write current.json"])
def test_a_full_disk_leaves_the_old_publication(evening: Evening, step: str, tmp_path: Path):
    folder = Path(shutil.copytree(evening.before, tmp_path / "full"))
    with stepping(evening.steps.index(step) + 1, full), pytest.raises(DamagedFileError, match="make room on its disk"):
        publish_last(folder)
    assert assert_old_or_new(folder, evening) == evening.old
    assert_finishes(folder, evening)


def busy(*_: object, **__: object) -> None:
    raise StoreBusyError("stock_assets.duckdb was locked by another process")


@pytest.mark.parametrize("method", ["read", "replace_sessions"])
def test_a_busy_store_leaves_row_and_file_to_the_next_run(
    evening: Evening, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(shutil.copytree(evening.before, tmp_path / "busy"))
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, method, busy)
        with pytest.raises(StoreBusyError):
            publish_last(folder)
    pointer = assert_old_or_new(folder, evening)
    assert (pointer.files == evening.new.files) is (method == "replace_sessions"), "the pointer comes before the rows"
    assert evening.sessions[-1] not in Warehouse(settings_of(folder).database).sessions("publication")
    assert_finishes(folder, evening)
