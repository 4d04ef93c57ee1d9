"""Stores that tests fill by hand: each is filled once in a process, which takes as long as many tests, and copied from
then on, which takes milliseconds."""

from collections.abc import Callable, Hashable
from pathlib import Path
from tempfile import TemporaryDirectory

from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES

_FILES: dict[Hashable, bytes] = {}


def filled_store(path: Path, key: Hashable, fill: Callable[[Warehouse], object]) -> Warehouse:
    """A new store at `path`, filled by `fill`; stores of one `key` hold the same."""
    # tests of extensions declare more tables and columns
    whole_key = key, tuple((table.name, *table.names) for table in TABLES.values())
    if whole_key not in _FILES:
        with TemporaryDirectory() as folder:
            first = Warehouse(Path(folder) / "filled.duckdb")
            fill(first)
            _FILES[whole_key] = first.path.read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_FILES[whole_key])
    return Warehouse(path)
