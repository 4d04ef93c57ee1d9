"""The store as a lake: the tests of the file's store on it, and what only a lake has."""

from pathlib import Path

import pytest

from stock_assets.storage.lake import Lake
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.storage import test_warehouse
from stock_assets_tests.storage.test_warehouse import *  # noqa: F403

_N = iter(range(100000))

@pytest.fixture
def warehouse(tmp_path: Path, postgres) -> Warehouse:
    (tmp_path/"store").mkdir()
    return Warehouse(tmp_path / "store" / "test.duckdb", wait=10, lake=Lake(postgres.database(f"lake_{next(_N)}"), str(tmp_path / "lake")))
