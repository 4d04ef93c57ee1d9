"""What a backup holds, what it costs, what is kept, and what is refused; a kill leaves what was there before."""

import fcntl
import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from stock_assets.errors import BackupError
from stock_assets.files import ACCOUNT_LOCK
from stock_assets.storage import backup as module_of_backup
from stock_assets.storage import restore as module
from stock_assets.storage.artifacts import save_artifact
from stock_assets.storage.backup import LARGE, STORE, make_backup
from stock_assets.storage.blocks import split
from stock_assets.storage.elsewhere import Elsewhere, put_elsewhere, require_free
from stock_assets.storage.manifest import BLOCKS, DATA, MANIFEST, Backup, backups, read_manifest
from stock_assets.storage.restore import restore, settle_killed_restore
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import SCHEMA_VERSION
from stock_assets_tests.tables import rows_of

NOW = datetime(2026, 11, 27, 23, tzinfo=UTC)


def alert(key: str) -> pl.DataFrame:
    return rows_of("alerts", pl.DataFrame({"key": [key]}))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store of one row, a saved model, a database in write-ahead mode and a lock."""
    folder = tmp_path / "data"
    Warehouse(folder / STORE).append("alerts", alert("first"))
    save_artifact(folder / "artifacts" / "model" / "one", {"weights": np.arange(4.0)}, {"kind": "test"})
    history = folder / "dagster" / "history"
    history.mkdir(parents=True)
    with closing(sqlite3.connect(history / "runs.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE runs (id INTEGER)")
        connection.execute("INSERT INTO runs VALUES (1)")
        connection.commit()
    (folder / "dagster" / "owner.lock").write_text("1")
    return folder


def inode(backup: Path, name: str) -> int:
    return (backup / DATA / name).stat().st_ino


def blocks(backup: Backup) -> dict[str, int]:
    """The number of the file of each block."""
    return {path.name: path.stat().st_ino for path in (backup.folder / BLOCKS).iterdir()}


def test_a_backup_is_whole_private_and_says_what_it_holds(data: Path, tmp_path: Path):
    settings = tmp_path / "stock_assets.toml"
    settings.write_text('alert_urls = "slack://secret"\n')
    made = make_backup(data, tmp_path / "backups", keep=3, now=NOW, settings=settings)
    assert made.folder == tmp_path / "backups" / "2026-11-27T23-00-00Z"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made.folder, *(made.folder.rglob("*.toml"))))
    assert all(path.stat().st_mode & 0o077 == 0 for path in made.folder.rglob("*") if path.is_file())
    manifest = read_manifest(made.folder)
    assert manifest == made.manifest
    assert manifest.rows == {"alerts": 1}
    assert (manifest.schema_version, manifest.made_at) == (SCHEMA_VERSION, "2026-11-27T23:00:00+00:00")
    assert set(manifest.files) == {
        "artifacts/model/one/model.json",
        "artifacts/model/one/weights.safetensors",
        "dagster/history/runs.db",
        STORE,
    }
    assert (made.folder / "settings.toml").read_text() == settings.read_text()
    assert list(problems_of(made.folder)) == []


def test_what_a_journal_holds_is_in_the_copy(data: Path, tmp_path: Path):
    with closing(sqlite3.connect(data / "dagster" / "history" / "runs.db")) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO runs VALUES (2)")
        writer.commit()
        writer.execute("INSERT INTO runs VALUES (3)")  # not committed
        made = make_backup(data, tmp_path / "backups", keep=1, now=NOW)
    with closing(sqlite3.connect(made.folder / DATA / "dagster" / "history" / "runs.db")) as copy:
        assert copy.execute("SELECT id FROM runs").fetchall() == [(1,), (2,)]


def test_only_what_changed_costs_space(data: Path, tmp_path: Path):
    first = make_backup(data, tmp_path / "backups", keep=9, now=NOW)
    same = make_backup(data, tmp_path / "backups", keep=9, now=NOW + timedelta(hours=1))
    assert same.new_bytes == 0
    assert same.manifest.rows == first.manifest.rows
    Warehouse(data / STORE).append("alerts", alert("second"))
    with closing(sqlite3.connect(data / "dagster" / "history" / "runs.db")) as connection:
        connection.execute("INSERT INTO runs VALUES (2)")
        connection.commit()
    last = make_backup(data, tmp_path / "backups", keep=9, now=NOW + timedelta(hours=2))
    weights = "artifacts/model/one/weights.safetensors"
    assert inode(first.folder, weights) == inode(last.folder, weights)
    runs = "dagster/history/runs.db"
    assert inode(first.folder, runs) == inode(same.folder, runs) != inode(last.folder, runs)
    assert blocks(first) == blocks(same) != blocks(last)
    assert (first.manifest.rows["alerts"], last.manifest.rows["alerts"]) == (1, 2)
    assert list(problems_of(first.folder)) == []


def test_an_evening_costs_the_blocks_that_it_wrote(data: Path, tmp_path: Path):
    """Store and databases grow at their end; what lies before is shared, and each backup is whole without others."""
    with duckdb.connect(data / STORE) as connection:
        connection.execute("CREATE TABLE main.history AS SELECT i, hash(i) AS value FROM range(1000000) t(i)")
    with closing(sqlite3.connect(data / "dagster" / "history" / "runs.db")) as connection:
        connection.executemany("INSERT INTO runs VALUES (?)", ((number,) for number in range(600_000)))
        connection.commit()
    first = make_backup(data, tmp_path / "b", keep=2, now=NOW)
    assert first.new_bytes > 8_000_000 + LARGE
    Warehouse(data / STORE).append("alerts", alert("second"))
    with closing(sqlite3.connect(data / "dagster" / "history" / "runs.db")) as connection:
        connection.execute("INSERT INTO runs VALUES (2)")
        connection.commit()
    second = make_backup(data, tmp_path / "b", keep=2, now=NOW + timedelta(days=1))
    assert second.new_bytes < first.new_bytes / 3
    shared = blocks(first).items() & blocks(second).items()
    assert len(shared) > 0.7 * len(blocks(second))
    make_backup(data, tmp_path / "b", keep=1, now=NOW + timedelta(days=2))
    assert not first.folder.exists()
    assert list(problems_of(tmp_path / "b" / "2026-11-29T23-00-00Z")) == []
    restore(tmp_path / "b", tmp_path / "new", now=NOW)
    assert (tmp_path / "new" / STORE).read_bytes() == (data / STORE).read_bytes()
    assert list(problems_of(tmp_path / "new")) == []


def test_a_block_that_rotted_or_a_file_that_is_gone_is_copied_anew(data: Path, tmp_path: Path):
    first = make_backup(data, tmp_path / "b", keep=9, now=NOW)
    rotten, gone = first.manifest.files[STORE].blocks[-1], first.folder / DATA / "artifacts/model/one/model.json"
    (first.folder / BLOCKS / rotten).write_bytes(b"rotten")
    gone.unlink()
    Warehouse(data / STORE).append("alerts", alert("second"))
    second = make_backup(data, tmp_path / "b", keep=9, now=NOW + timedelta(days=1))
    assert list(problems_of(second.folder)) == []
    assert len(list(problems_of(first.folder))) == 2


def test_a_backup_of_before_blocks_is_restored_and_followed(data: Path, tmp_path: Path):
    first = make_backup(data, tmp_path / "b", keep=9, now=NOW)
    fields = json.loads((first.folder / MANIFEST).read_text())
    fields["layout"] = 1
    for about in fields["files"].values():
        del about["blocks"]
    (first.folder / MANIFEST).write_text(json.dumps(fields))
    shutil.copy(data / STORE, first.folder / DATA / STORE)
    shutil.rmtree(first.folder / BLOCKS)
    assert list(problems_of(first.folder)) == []
    restore(first.folder, tmp_path / "new", now=NOW)
    assert Warehouse(tmp_path / "new" / STORE).row_counts() == {"alerts": 1}
    same = make_backup(data, tmp_path / "b", keep=9, now=NOW + timedelta(hours=1))
    assert (same.new_bytes, same.manifest.files[STORE].blocks) == (0, [])
    Warehouse(data / STORE).append("alerts", alert("second"))
    last = make_backup(data, tmp_path / "b", keep=9, now=NOW + timedelta(hours=2))
    assert [list(problems_of(made.folder)) for made in (same, last)] == [[], []]


def test_what_the_log_of_a_killed_writer_holds_is_in_the_copy(data: Path, tmp_path: Path):
    script = """
import duckdb, os, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("PRAGMA disable_checkpoint_on_shutdown")
connection.execute("CREATE TABLE lifecycle.late (i INTEGER)")
connection.execute("INSERT INTO lifecycle.late VALUES (1)")
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", script, str(data / STORE)], check=False)
    assert (data / f"{STORE}.wal").stat().st_size
    made = make_backup(data, tmp_path / "b", keep=9, now=NOW)
    assert made.manifest.rows == {"alerts": 1, "late": 1}
    restore(made.folder, tmp_path / "new", now=NOW)
    with duckdb.connect(tmp_path / "new" / STORE) as connection:
        assert connection.sql("SELECT count(*) FROM lifecycle.late").fetchall() == [(1,)]


def test_nobody_writes_while_the_store_is_read(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said = []

    def watched(content, folder, earlier):
        if not said:  # the first is the store
            open_it = f"import duckdb; duckdb.connect({str(data / STORE)!r})"
            opened = subprocess.run([sys.executable, "-c", open_it], capture_output=True, text=True, check=False)
            said.append(opened.stderr)
        return split(content, folder, earlier)

    monkeypatch.setattr(module_of_backup, "split", watched)
    make_backup(data, tmp_path / "b", keep=9, now=NOW)
    assert "Could not set lock" in said[0]
    Warehouse(data / STORE).append("alerts", alert("second"))  # it is free again


def test_the_newest_are_kept(data: Path, tmp_path: Path):
    made = [make_backup(data, tmp_path / "b", keep=2, now=NOW + timedelta(days=day)).folder for day in range(4)]
    assert backups(tmp_path / "b") == made[2:]
    assert list(problems_of(made[-1])) == []
    assert not list((tmp_path / "b").glob(".tmp-*"))


def test_a_restored_folder_holds_the_same(data: Path, tmp_path: Path):
    make_backup(data, tmp_path / "backups", keep=1, now=NOW)
    restore(tmp_path / "backups", tmp_path / "new" / "data", now=NOW)
    assert Warehouse(tmp_path / "new" / "data" / STORE).read("alerts").equals(Warehouse(data / STORE).read("alerts"))
    assert list(problems_of(tmp_path / "new" / "data")) == []


def test_a_full_folder_is_replaced_only_when_asked_and_kept_beside(data: Path, tmp_path: Path):
    made = make_backup(data, tmp_path / "backups", keep=1, now=NOW)
    Warehouse(data / STORE).append("alerts", alert("second"))
    with pytest.raises(BackupError, match="is not empty; expected an empty folder"):
        restore(made.folder, data, now=NOW)
    restore(made.folder, data, replace=True, now=NOW)
    assert Warehouse(data / STORE).row_counts() == {"alerts": 1}
    before = tmp_path / "data.before-2026-11-27T23-00-00Z"
    assert Warehouse(before / STORE).row_counts() == {"alerts": 2}


@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "manifest", "deep", "leads out", "block leads out"])
def test_a_damaged_backup_is_not_restored(data: Path, tmp_path: Path, damage: str):
    made = make_backup(data, tmp_path / "backups", keep=1, now=NOW)
    file, manifest = made.folder / BLOCKS / made.manifest.files[STORE].blocks[-1], made.folder / MANIFEST
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    elif damage == "gone":
        file.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "deep":
        manifest.write_text("[" * 100_000)
    elif damage == "block leads out":
        fields = json.loads(manifest.read_text())
        fields["files"][STORE]["blocks"] = ["../manifest.json"]
        manifest.write_text(json.dumps(fields))
    else:
        fields = json.loads(manifest.read_text())
        fields["files"]["../outside"] = fields["files"].pop(STORE)
        manifest.write_text(json.dumps(fields))
    with pytest.raises(BackupError) as refused:
        restore(made.folder, tmp_path / "new", now=NOW)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()
    assert list(problems_of(made.folder))


def test_a_backup_of_a_newer_version_is_refused(data: Path, tmp_path: Path):
    with duckdb.connect(data / STORE) as connection:
        connection.execute("INSERT INTO main.schema_version VALUES (99)")
    made = make_backup(data, tmp_path / "backups", keep=1, now=NOW)
    with pytest.raises(BackupError, match="schema version 99, and this stock_assets reads up to"):
        restore(made.folder, tmp_path / "new", now=NOW)


@pytest.mark.parametrize(("target", "says"), [("data/backups", "inside the data folder"), ("b", "no store in")])
def test_what_cannot_be_backed_up_is_one_line(data: Path, tmp_path: Path, target: str, says: str):
    source = data if "data" in target else tmp_path / "nothing"
    with pytest.raises(BackupError, match=says):
        make_backup(source, tmp_path / target, keep=1, now=NOW)


def test_two_backups_to_one_folder_do_not_meet(data: Path, tmp_path: Path):
    import fcntl

    (tmp_path / "b").mkdir()
    with (tmp_path / "b" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match=r"another backup to .* is under way"):
            make_backup(data, tmp_path / "b", keep=1, now=NOW)


def test_a_store_and_a_folder_of_dagster_outside_are_in_it_and_are_put_back_there(data: Path, tmp_path: Path):
    store, dagster = tmp_path / "fast" / "bars.duckdb", tmp_path / "ssd" / "runs_and_events"
    store.parent.mkdir()
    dagster.parent.mkdir()
    (data / STORE).rename(store)
    (data / "dagster").rename(dagster)
    (data / STORE).write_bytes(b"of before the setting")
    elsewhere = Elsewhere(paths={STORE: store, "dagster": dagster})
    made = make_backup(data, tmp_path / "b", keep=2, now=NOW, elsewhere=elsewhere)
    assert made.manifest.rows == {"alerts": 1}
    assert {"dagster/history/runs.db", STORE} < set(made.manifest.files)
    assert list(problems_of(made.folder)) == []
    again = make_backup(data, tmp_path / "b", keep=2, now=NOW + timedelta(hours=1), elsewhere=elsewhere)
    assert again.new_bytes == 0
    with pytest.raises(BackupError, match=f"lies inside the folder {dagster}"):
        make_backup(data, dagster / "b", keep=1, now=NOW, elsewhere=elsewhere)

    with pytest.raises(BackupError, match=f"{store} is in use already"):
        require_free(elsewhere, replace=False)
    Warehouse(store).append("alerts", alert("second"))
    shutil.rmtree(dagster)
    restore(tmp_path / "b", tmp_path / "new", now=NOW)
    assert len(put_elsewhere(tmp_path / "new", elsewhere, now=NOW)) == 2
    assert Warehouse(store).row_counts() == {"alerts": 1}
    assert Warehouse(store.with_name(f"{store.name}.before-2026-11-27T23-00-00Z")).row_counts() == {"alerts": 2}
    with closing(sqlite3.connect(dagster / "history" / "runs.db")) as copy:
        assert copy.execute("SELECT id FROM runs").fetchall() == [(1,)]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["artifacts"]
    assert list(problems_of(tmp_path / "new", store=store, other_folder=dagster)) == []
    (dagster / "history" / "runs.db").write_bytes(b"SQLite format 3\0" + b"\0" * 5000)
    assert len(list(problems_of(tmp_path / "new", store=store, other_folder=dagster))) == 1


def test_a_backup_that_fails_leaves_nothing(data: Path, tmp_path: Path):
    good = make_backup(data, tmp_path / "b", keep=1, now=NOW).folder
    (data / "dagster" / "history" / "runs.db").write_bytes(b"SQLite format 3\0" + b"\0" * 5000)
    with pytest.raises(BackupError, match=r"runs\.db cannot be copied: .*; restore it from a backup"):
        make_backup(data, tmp_path / "b", keep=1, now=NOW + timedelta(days=1))
    assert backups(tmp_path / "b") == [good]
    assert not list((tmp_path / "b").glob(".tmp-*"))


#: Backs up or restores, and dies at the n-th file that is copied.
KILLED = """
import os, shutil, sys
from datetime import UTC, datetime
from pathlib import Path
from stock_assets.storage import backup, blocks, restore
what, source, target, n = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
copies = iter(range(1, 100))
copy = shutil.copyfile
def dying(*arguments):
    copy(*arguments)
    if next(copies) == n:
        os._exit(9)
shutil.copyfile = dying
if n == 0:
    blocks.write_block = lambda *_: os._exit(9)
def dies(moment, act):
    def then(*arguments):
        if moment == "before": os._exit(9)
        act(*arguments)
        os._exit(9)
    return then
if n < 0:
    restore._swap = dies("before" if n == -1 else "after", restore._swap)
now = datetime(2026, 11, 28, tzinfo=UTC)
if what == "backup":
    backup.make_backup(source, target, keep=1, now=now)
else:
    restore.restore(source, target, replace=True, now=now)
"""


def killed(*arguments: object) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, check=False)
    assert died.returncode == 9, died.stderr


@pytest.mark.parametrize("step", [2, 0], ids=["a file", "a block"])
def test_a_kill_leaves_the_earlier_backup_and_the_next_one_clears_up(data: Path, tmp_path: Path, step: int):
    good = make_backup(data, tmp_path / "b", keep=1, now=NOW).folder
    save_artifact(data / "artifacts" / "model" / "two", {"weights": np.arange(3.0)}, {"kind": "test"})
    Warehouse(data / STORE).append("alerts", alert("second"))
    killed("backup", data, tmp_path / "b", step)
    assert backups(tmp_path / "b") == [good]
    assert list((tmp_path / "b").glob(".tmp-*"))
    again = make_backup(data, tmp_path / "b", keep=2, now=NOW + timedelta(days=2))
    assert not list((tmp_path / "b").glob(".tmp-*"))
    assert list(problems_of(again.folder)) == []


def test_a_kill_while_restoring_leaves_the_old_state(data: Path, tmp_path: Path):
    made = make_backup(data, tmp_path / "b", keep=1, now=NOW)
    Warehouse(data / STORE).append("alerts", alert("second"))
    killed("restore", made.folder, data, 3)
    assert Warehouse(data / STORE).row_counts() == {"alerts": 2}
    assert list(problems_of(data)) == []


@pytest.mark.parametrize("step", [2, -1, -2], ids=["copying", "before the swap", "after the swap"])
def test_a_killed_restore_leaves_the_old_folder_or_the_new_one_and_the_next_start_says_which(
    data: Path, tmp_path: Path, step: int
):
    made = make_backup(data, tmp_path / "b", keep=1, now=NOW)
    Warehouse(data / STORE).append("alerts", alert("second"))
    neighbour = tmp_path / ".tmp-data-2-abcdefgh"
    neighbour.mkdir()
    killed("restore", made.folder, data, step)
    assert Warehouse(data / STORE).row_counts() == {"alerts": 1 if step == -2 else 2}
    assert list(problems_of(data)) == []
    (said,) = settle_killed_restore(data, now=NOW)
    if step == -2:
        before = tmp_path / "data.before-2026-11-27T23-00-00Z"
        assert said == f"a backup was put in the place of {data}; what was there before is {before}"
        assert Warehouse(before / STORE).row_counts() == {"alerts": 2}
    else:
        assert said.startswith(f"{data} is as it was before a restore that did not end")
    assert list(tmp_path.glob(".tmp-*")) == [neighbour]
    assert settle_killed_restore(data, now=NOW) == []


def test_a_copy_that_is_being_made_is_left_alone(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = make_backup(data, tmp_path / "b", keep=1, now=NOW)
    swap, settled = module._swap, []

    def settle_meanwhile(copy: Path, target: Path) -> None:
        settled.extend(settle_killed_restore(target, now=NOW))
        swap(copy, target)

    monkeypatch.setattr(module, "_swap", settle_meanwhile)
    restore(made.folder, data, replace=True, now=NOW)
    assert settled == []
    assert list(problems_of(data)) == []


@pytest.mark.parametrize("error", [OSError("the disk broke"), KeyboardInterrupt()])
def test_a_restore_that_fails_after_the_swap_loses_neither_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    made = make_backup(data, tmp_path / "b", keep=1, now=NOW)
    Warehouse(data / STORE).append("alerts", alert("second"))

    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(module, "sync", fail)
    with pytest.raises(type(error)):
        restore(made.folder, data, replace=True, now=NOW)
    assert Warehouse(data / STORE).row_counts() == {"alerts": 1}
    settle_killed_restore(data, now=NOW)
    (before,) = tmp_path.glob("data.before-*")
    assert Warehouse(before / STORE).row_counts() == {"alerts": 2}


def test_a_system_that_cannot_swap_folders_changes_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = make_backup(data, tmp_path / "b", keep=1, now=NOW)
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    with pytest.raises(BackupError, match=f"rename {data} yourself"):
        restore(made.folder, data, replace=True, now=NOW)
    assert list(problems_of(data)) == []
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_folder_that_a_server_works_on_is_not_replaced(data: Path, tmp_path: Path):
    import fcntl

    made = make_backup(data, tmp_path / "b", keep=1, now=NOW)
    with (data / "dagster" / "owner.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="a stock-assets run works on"):
            restore(made.folder, data, replace=True, now=NOW)
    assert not list(tmp_path.glob(".tmp-*"))


def test_no_order_is_in_the_account_and_not_in_the_store(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Account and store are copied while nobody can trade, after what may know less and before what may know more."""
    (data / "paper").mkdir()
    with closing(sqlite3.connect(data / "paper" / "long_only.sqlite")) as account:
        account.execute("CREATE TABLE orders (id INTEGER)")
        account.commit()
    (data / "published" / "ledger").mkdir(parents=True)
    (data / "published" / "current.json").write_text("{}")
    taken: dict[str, bool] = {}
    take = module_of_backup.Copying._take

    def watched(copying, name: str) -> None:
        with (data / ACCOUNT_LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken[name] = True
            else:
                taken[name] = False
        take(copying, name)

    monkeypatch.setattr(module_of_backup.Copying, "_take", watched)
    made = make_backup(data, tmp_path / "backups", keep=3, now=NOW)
    assert {name for name, is_locked in taken.items() if is_locked} == {"paper/long_only.sqlite", STORE}
    order = list(taken)
    places = [order.index(name) for name in ("dagster/history/runs.db", "paper/long_only.sqlite", STORE)]
    assert places == sorted(places)
    assert order.index("published/current.json") > order.index(STORE)
    assert set(taken) == set(made.manifest.files)
