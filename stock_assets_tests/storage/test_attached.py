"""A file is given back, whatever goes wrong when it is."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from stock_assets.errors import MemoryBudgetError
from stock_assets.memory import Memory
from stock_assets.storage import attached
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of


class FailsToDetach:
    """A DuckDB that cannot write the file back, as on a full disk."""

    def __init__(self, engine: "duckdb.DuckDBPyConnection") -> None:
        self.engine = engine

    def execute(self, statement: str) -> Any:
        if statement.startswith("DETACH"):
            raise duckdb.OutOfMemoryException("could not be written back")
        return self.engine.execute(statement)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def test_a_file_that_cannot_be_detached_is_locked_no_longer_than_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Warehouse(tmp_path / "store.duckdb", wait=0.5)
    engine = attached.engine_beside
    with monkeypatch.context() as patch:
        patch.setattr(attached, "engine_beside", lambda path: FailsToDetach(engine(path)))
        with pytest.raises(MemoryBudgetError):
            store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["a"]})))
    with duckdb.connect(store.path) as other:
        assert other.execute("SELECT key FROM lifecycle.alerts").fetchall() == [("a",)]
    store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["b"]})))
    assert sorted(store.read("alerts")["key"]) == ["a", "b"]


def test_a_file_that_could_not_be_detached_beside_another_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """This DuckDB cannot be stopped while another file is open in it."""
    store, other = (Warehouse(tmp_path / f"{name}.duckdb", wait=0.5) for name in ("store", "other"))
    engine = attached.engine_beside
    with other.connect(read_only=False):
        with monkeypatch.context() as patch:
            patch.setattr(attached, "engine_beside", lambda path: FailsToDetach(engine(path)))
            with pytest.raises(MemoryBudgetError):
                store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["a"]})))
        assert store.read("alerts")["key"].to_list() == ["a"]
    with duckdb.connect(store.path) as reader:
        assert reader.execute("SELECT key FROM lifecycle.alerts").fetchall() == [("a",)]


def test_many_reads_open_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Warehouse(tmp_path / "store.duckdb")
    with store.reading():  # nor is there anything to open
        assert store.row_counts() == {}
    store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["first"]})))
    closed: list[Path] = []
    let_go = attached._let_go

    def counted(engine, path: Path, attachment) -> None:
        closed.append(path)
        let_go(engine, path, attachment)

    monkeypatch.setattr(attached, "_let_go", counted)
    with store.reading():
        for _ in range(3):
            assert store.read("alerts")["key"].to_list() == ["first"]
        assert not closed
    assert closed == [store.path]
    store.append("alerts", rows_of("alerts", pl.DataFrame({"key": ["second"]})))
    assert store.read("alerts").height == 2


def test_each_store_has_its_own_memory_limit(tmp_path: Path):
    small, large = (Warehouse(tmp_path / f"{limit}.duckdb", memory=Memory(limit << 30)) for limit in (4, 8))
    for store in (small, large, large, small):
        with store.connect(read_only=False) as connection:
            (limit,) = connection.execute("SELECT current_setting('memory_limit')").fetchall()[0]
        assert limit == f"{store.memory.total >> 32}.0 GiB"
