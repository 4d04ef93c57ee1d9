"""An older store becomes one of today at the first look; a newer one is refused."""

import os
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from stock_assets.errors import DamagedFileError, StockAssetsError
from stock_assets.storage import migrations
from stock_assets.storage.migrations import MIGRATIONS, schema_version
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import SCHEMA_VERSION
from stock_assets_tests.tables import rows_of

#: The labels as a store held them before it kept a version.
OLD_LABELS = """
CREATE SCHEMA features;
CREATE TABLE features.labels (ticker VARCHAR, session DATE, label TINYINT, touch_session DATE, horizon_end DATE,
    forward_return_1 DOUBLE, forward_return_7 DOUBLE);
INSERT INTO features.labels VALUES ('A', DATE '2020-01-02', 1, NULL, DATE '2020-01-13', 0.01, 0.07);
"""


@pytest.fixture
def old_store(tmp_path: Path) -> Warehouse:
    with duckdb.connect(tmp_path / "old.duckdb") as connection:
        connection.execute(OLD_LABELS)
    return Warehouse(tmp_path / "old.duckdb", wait=1)


def version_of(store: Warehouse) -> int | None:
    with duckdb.connect(store.path) as connection:
        return schema_version(connection)


def test_every_version_has_its_migration():
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION + 1))


def test_a_reader_finds_the_rows_of_an_older_store_under_their_new_names(old_store: Warehouse):
    assert version_of(old_store) == 0
    assert old_store.read("labels")["forward_return_horizon"].to_list() == [0.07]
    assert version_of(old_store) == SCHEMA_VERSION


def test_a_writer_migrates_before_it_writes(old_store: Warehouse):
    rows = rows_of("labels", old_store.read("labels").select("ticker", "session", "label").clear())
    old_store.replace_sessions("labels", [date(2020, 1, 3)], rows)
    assert old_store.read("labels")["forward_return_horizon"].to_list() == [0.07]


def test_a_migration_that_fails_changes_nothing(old_store: Warehouse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MIGRATIONS, SCHEMA_VERSION, (*MIGRATIONS[SCHEMA_VERSION], "SELECT * FROM no_such_table"))
    with pytest.raises(duckdb.CatalogException):
        old_store.read("labels")
    assert version_of(old_store) == 0
    with duckdb.connect(old_store.path) as connection:
        assert connection.execute("SELECT forward_return_7 FROM features.labels").fetchall() == [(0.07,)]


def test_a_new_store_has_todays_version(tmp_path: Path):
    store = Warehouse(tmp_path / "new.duckdb")
    store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["a"]})))
    assert version_of(store) == SCHEMA_VERSION


def test_a_newer_store_is_refused(old_store: Warehouse):
    old_store.read("labels")
    with duckdb.connect(old_store.path) as connection:
        connection.execute("INSERT INTO main.schema_version VALUES (?)", [SCHEMA_VERSION + 1])
    migrations._CURRENT.clear()
    newer = f"old.duckdb has schema version {SCHEMA_VERSION + 1}, and this stock_assets reads up to {SCHEMA_VERSION}"
    with pytest.raises(StockAssetsError, match=newer):
        old_store.read("labels")


def test_an_older_store_is_copied_before_it_is_migrated(old_store: Warehouse):
    old_store.path.with_name("old.duckdb.v0-2001-01-01T00-00-00Z").write_bytes(b"of an earlier migration")
    old_store.read("labels")
    (copy,) = old_store.path.parent.glob("old.duckdb.v*")
    with duckdb.connect(copy) as connection:
        assert schema_version(connection) == 0
        assert connection.execute("SELECT forward_return_7 FROM features.labels").fetchall() == [(0.07,)]
    assert not list(old_store.path.parent.glob(".tmp-*"))


def test_without_room_for_the_copy_nothing_is_migrated(old_store: Warehouse):
    os.utime(old_store.path, (0, 0))
    (old_store.path.parent / ".tmp-old.duckdb.v0-1970-01-01T00-00-00Z").mkdir()  # in the way of the copy
    with pytest.raises(DamagedFileError, match="is to be copied before it is migrated") as refused:
        old_store.read("labels")
    assert "\n" not in str(refused.value)
    assert version_of(old_store) == 0


def test_sessions_that_were_recorded_without_their_rows_are_counted_again(tmp_path: Path):
    store = Warehouse(tmp_path / "store.duckdb")
    days = [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)]
    rows = pl.DataFrame({"ticker": ["A", "B", "A"], "session": [days[0], days[0], days[1]]})
    store.replace_sessions("indicators", days, rows_of("indicators", rows))
    records = dict.fromkeys(map(str, days), 0)
    with duckdb.connect(store.path) as connection:
        connection.execute("UPDATE lifecycle.stored_partitions SET rows = 0")
        connection.execute("UPDATE main.schema_version SET version = 2")
    migrations._CURRENT.clear()

    stored_records = store.read("stored_partitions")
    assert dict(stored_records.select("partition", "rows").iter_rows()) == records | {str(days[0]): 2, str(days[1]): 1}


def test_a_store_of_histories_alone_is_migrated(tmp_path: Path):
    store = Warehouse(tmp_path / "store.duckdb")
    store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["a"]})))
    with duckdb.connect(store.path) as connection:
        connection.execute("DROP TABLE IF EXISTS lifecycle.stored_partitions")
        connection.execute("UPDATE main.schema_version SET version = 2")
    migrations._CURRENT.clear()
    assert store.read("alerts")["key"].to_list() == ["a"]
    assert version_of(store) == SCHEMA_VERSION
