"""DuckDB's write-ahead log, cut, damaged or another store's: whole transactions or one line, and records with rows."""

import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import DamagedFileError
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.storage.test_partitions import rows

STORE, LOG = "stock_assets.duckdb", "stock_assets.duckdb.wal"
IN_FILE, IN_LOG = [date(2026, 1, 5), date(2026, 1, 6)], [date(2026, 1, 7), date(2026, 1, 8), date(2026, 1, 9)]

#: Writes sessions, of which those of the second list stay in the log: the process dies before it is folded in.
WRITER = """
import os, sys
from datetime import date
from pathlib import Path
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.storage.test_torn_log import labels_of
for place in sys.argv[3:]:
    store = Warehouse(Path(place))
    for day in sys.argv[1].split():
        store.replace_sessions("labels", [date.fromisoformat(day)], labels_of(date.fromisoformat(day)))
kept = [Warehouse(Path(place)).connect(read_only=False) for place in sys.argv[3:]]
for connection in kept:
    connection.__enter__().execute("SET wal_autocheckpoint = '1TB'")
for place in sys.argv[3:]:
    for day in sys.argv[2].split():
        labels = labels_of(date.fromisoformat(day))
        Warehouse(Path(place)).replace_sessions("labels", [date.fromisoformat(day)], labels)
os._exit(9)
"""


def labels_of(day: date) -> pl.DataFrame:
    return rows("labels", *((f"SIM{number:02d}", day) for number in range(20)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and its log, and the log of another store."""
    folder = tmp_path_factory.mktemp("torn")
    days = [" ".join(map(str, days)) for days in (IN_FILE, IN_LOG)]
    places = [str(folder / STORE), str(folder / "other.duckdb")]
    assert subprocess.run([sys.executable, "-c", WRITER, *days, *places], check=False).returncode == 9
    assert (folder / LOG).stat().st_size > 1000
    return folder


@pytest.fixture
def store(written: Path, tmp_path: Path) -> Warehouse:
    for name in (STORE, LOG):
        shutil.copy(written / name, tmp_path / name)
    return Warehouse(tmp_path / STORE, wait=0)


def tear(store: Warehouse, content: bytes) -> None:
    store.path.with_name(LOG).write_bytes(content)


def require_whole_sessions(store: Warehouse, *later: date) -> int:
    """The sessions of the log that are there: the first ones, whole, each with its record."""
    there = store.sessions("labels")
    count = len(there & {*IN_LOG})
    assert there == {*IN_FILE, *IN_LOG[:count], *later}
    counted = store.read_sql("labels", "SELECT CAST(session AS VARCHAR), count(*) FROM labels GROUP BY ALL").rows()
    recorded = store.read_sql("stored_partitions", "SELECT partition, rows FROM lifecycle.stored_partitions").rows()
    assert sorted(counted) == sorted(recorded)
    return count


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.2, 0.4, 0.6, 0.8, 0.999, 1])
def test_a_log_that_is_cut_off_keeps_whole_sessions_and_takes_new_ones(store: Warehouse, share: float):
    content = store.path.with_name(LOG).read_bytes()
    tear(store, content[: int(share * len(content))])
    count = require_whole_sessions(store)
    assert count == int(share * len(IN_LOG)) or share in (0.4, 0.8)
    store.replace_sessions("labels", [date(2026, 1, 12)], labels_of(date(2026, 1, 12)))
    assert require_whole_sessions(store, date(2026, 1, 12)) == count
    assert list(problems_of(store.path.parent)) == []


def test_a_log_that_is_damaged_in_the_middle_is_one_line(store: Warehouse):
    content = bytearray(store.path.with_name(LOG).read_bytes())
    content[len(content) // 2] ^= 255
    tear(store, bytes(content))
    with pytest.raises(DamagedFileError, match=r"cannot be read: .*WAL.*restore it from a backup") as raised:
        store.read("labels")
    assert "\n" not in str(raised.value)


def test_the_log_of_another_store_is_one_line(store: Warehouse, written: Path):
    tear(store, (written / "other.duckdb.wal").read_bytes())
    with pytest.raises(DamagedFileError, match=r"WAL does not match database file; restore it from a backup"):
        store.read("labels")
