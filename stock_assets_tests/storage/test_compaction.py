"""The store loses its free space and nothing else: killed anywhere, on a full disk, or while somebody holds it."""

import errno
import multiprocessing
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

import duckdb
import pytest

from stock_assets.errors import StockAssetsError, StoreBusyError
from stock_assets.storage import compaction
from stock_assets.storage.attached import attached
from stock_assets.storage.compaction import compact
from stock_assets_tests.waiting import HANG_SECONDS

ROWS = 40_000
#: Also a row that is only in the write-ahead log, as a killed writer leaves it.
MAKE = f"""
CREATE SCHEMA market; CREATE SCHEMA features;
CREATE TABLE market.bars AS SELECT range AS id, 'T' || (range % 7) AS ticker, random() AS close FROM range({ROWS});
CREATE TABLE features.empty (a INTEGER[], b STRUCT(x DATE, y TIMESTAMPTZ), c DECIMAL(38, 2));
CREATE TABLE main.schema_version AS SELECT 1 AS version;
CHECKPOINT;
DELETE FROM market.bars WHERE id % 20 <> 0;
CHECKPOINT;
"""
LOGGED = (
    "PRAGMA disable_checkpoint_on_shutdown; INSERT INTO market.bars VALUES (-1, 'logged', 1.0), (NULL, NULL, 'nan')"
)


def make(path: Path) -> Path:
    with duckdb.connect(path) as store:
        store.execute(MAKE)
    with duckdb.connect(path) as store:
        store.execute(LOGGED)
    assert path.with_name(f"{path.name}.wal").exists()
    return path


def contents(path: Path) -> dict[str, list[tuple]]:
    tables = ("market.bars", "features.empty", "main.schema_version")
    with duckdb.connect(path, read_only=True) as store:
        return {table: store.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in tables}


def shrink(path: Path, wait: float = 0) -> compaction.Compacted:
    return compact(path, wait, free_share=0, free_bytes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "store.duckdb")


def same(left: dict, right: dict) -> bool:
    return repr(left) == repr(right)  # a NaN is itself here


def test_the_file_is_smaller_and_its_rows_are_the_same(path: Path):
    path.chmod(0o600)
    before, rows = path.stat().st_size, contents(path)
    done = shrink(path)
    assert path.stat().st_size == done.after < before
    assert same(contents(path), rows)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_store_with_little_free_space_stays_the_file_it_is(path: Path):
    inode = path.stat().st_ino
    done = compact(path, 0)
    assert done.before == done.after
    assert path.stat().st_ino == inode


#: Compacts copies of the store in a process each, the k-th of which is killed at the k-th line that is run.
KILLER = """
import os, shutil, signal, sys
from pathlib import Path
import duckdb  # so that no child has to
from stock_assets.storage import compaction

original, target = Path(sys.argv[1]), Path(sys.argv[2])
step = 0
while True:
    step += 1
    folder = target / str(step)
    folder.mkdir()
    for file in (original, original.with_name(original.name + ".wal")):
        shutil.copy(file, folder)
    child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame, event, argument):
            global lines
            if frame.f_code not in (compaction.compact.__code__, compaction._copy.__code__):
                return None
            if event == "line":
                lines += 1
                if lines == step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        compaction.compact(folder / original.name, 0, free_share=0, free_bytes=1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(step)
        break
"""


def test_a_kill_at_any_line_leaves_a_whole_store(path: Path, tmp_path: Path):
    rows = contents_of_a_copy(path, tmp_path / "reference")
    killed = tmp_path / "killed"
    killed.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLER, path, killed], capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    steps = int(done.stdout)
    assert steps > 20
    left_over = []
    for folder in killed.iterdir():
        store = folder / path.name
        if list(folder.glob(".tmp-*")):
            left_over.append(store)
        assert same(contents_of_a_copy(store, folder / "copy"), rows), folder.name
    assert len(left_over) > 5
    for store in left_over[::4]:
        shrink(store)
        assert same(contents(store), rows)
        assert not list(store.parent.glob(".tmp-*")), "the next compaction removes what the killed one left"


def contents_of_a_copy(path: Path, folder: Path) -> dict[str, list[tuple]]:
    """What a reader finds; reading a copy leaves the write-ahead log of the original where it is."""
    folder.mkdir()
    for file in (path, path.with_name(f"{path.name}.wal")):
        if file.exists():
            (folder / file.name).write_bytes(file.read_bytes())
    with duckdb.connect(folder / path.name):
        pass
    return contents(folder / path.name)


@pytest.mark.parametrize(("step", "calls"), [("sync", 1), ("sync", 2), ("shutil.copymode", 1)])
def test_a_disk_that_fails_at_a_step_leaves_a_whole_store(
    path: Path, step: str, calls: int, monkeypatch: pytest.MonkeyPatch
):
    rows, left = contents_of_a_copy(path, path.parent / "reference"), count(calls - 1, -1)

    def full(*_: object) -> None:
        if not next(left):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"stock_assets.storage.compaction.{step}", full)
    with pytest.raises(StockAssetsError, match="No space left on device") as raised:
        shrink(path)
    assert "\n" not in str(raised.value)
    assert same(contents(path), rows)
    assert not list(path.parent.glob(".tmp-*"))


def test_a_disk_that_is_full_while_the_copy_is_written_leaves_the_store_as_it_was(path: Path):
    """The copy may not grow beyond half of what it needs, as on a full disk."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        message = pool.apply(_compact_with_a_small_disk, (path,))
    assert message.startswith("store.duckdb was not compacted and is as it was: ")
    assert len(contents(path)["market.bars"]) == ROWS / 20 + 2
    assert list(path.parent.iterdir()) == [path]


def _compact_with_a_small_disk(path: Path) -> str:
    import resource
    import signal

    with duckdb.connect(path):
        pass  # what was written ahead is in the file then
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        shrink(path)
    except StockAssetsError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return str(error)
    return "compacted"


def test_a_disk_without_room_for_the_copy_is_told_before(path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = compaction.shutil.disk_usage(path)
    monkeypatch.setattr("stock_assets.storage.compaction.shutil.disk_usage", lambda _: usage._replace(free=1))
    with pytest.raises(StockAssetsError, match="cannot be compacted: its copy needs"):
        shrink(path)


def test_a_copy_that_differs_is_thrown_away(path: Path, monkeypatch: pytest.MonkeyPatch):
    answers = iter([{"market.bars": (1,)}, {"market.bars": (2,)}])
    monkeypatch.setattr(compaction, "contents", lambda *_: next(answers))
    inode = path.stat().st_ino
    with pytest.raises(StockAssetsError, match=r"the copy of the store differs in market\.bars"):
        shrink(path)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("read_only", [True, False])
def test_it_is_refused_while_this_process_uses_the_store(path: Path, read_only: bool):
    with attached(path, read_only, 0), pytest.raises(StoreBusyError):
        shrink(path)


@pytest.mark.parametrize("read_only", [True, False])
def test_it_is_refused_while_another_process_holds_the_store(path: Path, read_only: bool):
    holding = f"import duckdb, sys; c = duckdb.connect({str(path)!r}, read_only={read_only}); print(1, flush=True); "
    with duckdb.connect(path):
        pass  # a reader does not play back what was written ahead
    with subprocess.Popen(
        [sys.executable, "-c", holding + "sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(StoreBusyError):
            shrink(path)
        holder.communicate()


def test_nobody_reads_or_writes_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch):
    others: list[str] = []

    def meanwhile(synced: Path) -> None:
        if synced.is_dir():
            return

        def use(read_only: bool) -> None:
            try:
                with attached(path, read_only, 0):
                    others.append("used")
            except StoreBusyError:
                others.append("busy")

        for read_only in (True, False):
            thread = threading.Thread(target=use, args=(read_only,))
            thread.start()
            thread.join()

    monkeypatch.setattr(compaction, "sync", meanwhile)
    shrink(path)
    assert others == ["busy", "busy"]


def test_who_opened_the_old_file_before_it_was_replaced_looks_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    """The rename falls between the opening of the file and its locking: rows must not go to the old one."""
    from stock_assets.storage import attached as module

    inodes = iter([1, 2])
    real = module._inode
    monkeypatch.setattr(module, "_inode", lambda file: next(inodes, None) or real(file))
    with attached(path, read_only=False, wait=HANG_SECONDS) as (connection, name):
        connection.execute(f"INSERT INTO {name}.market.bars VALUES (-2, 'again', 1.0)")
    with duckdb.connect(path, read_only=True) as store:
        assert store.execute("SELECT count(*) FROM market.bars WHERE id = -2").fetchone() == (1,)
    assert next(inodes, None) is None
