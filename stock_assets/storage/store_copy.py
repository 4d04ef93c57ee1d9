"""A store copied as a whole: from a file to a lake, and back."""

from typing import TYPE_CHECKING

from stock_assets.errors import StockAssetsError
from stock_assets.storage.attached import database_of, quoted
from stock_assets.storage.compaction import contents
from stock_assets.storage.lake import require_lock
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    import duckdb


def copy_store(source: Warehouse, target: Warehouse) -> dict[str, int]:
    """Writes every table of `source` to `target` in one transaction, and the number of rows of each, by room.table.

    The copy is compared with the original: columns, rows and a digest of all rows. Where the target holds the same
    already, it stays as it is. Raises StockAssetsError where it holds anything else, or the copy differs: then nothing
    is written.
    """
    with target.connect(read_only=False) as writing, source.connect(read_only=True) as reading:
        source_contents, target_contents = _of(reading), _of(writing)
        if target_contents != source_contents:
            # a new store has its schema's version alone
            if stray := sorted(target_contents.keys() - {"main.schema_version"}):
                raise StockAssetsError(
                    f"the store {target.place.name} holds {stray[0]}, and other tables or rows than "
                    f"{source.place.name}; expected an empty store, or the same tables"
                )
            _copy(writing, source=database_of(reading), target=target, original=source_contents)
    return {name: rows for name, (_, rows, _) in source_contents.items()}


def _copy(
    connection: "duckdb.DuckDBPyConnection", *, source: str, target: Warehouse, original: dict[str, tuple]
) -> None:
    connection.execute("BEGIN TRANSACTION")
    try:
        for name in original:
            room, table = map(quoted, name.split("."))
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {room}")
            rows = f"SELECT * FROM {quoted(source)}.{room}.{table}"
            connection.execute(f"CREATE OR REPLACE TABLE {room}.{table} AS {rows}")
        copied_contents = _of(connection)
        if differing_tables := [name for name in original if copied_contents.get(name) != original[name]]:
            raise StockAssetsError(
                f"the copy differs from the store in {', '.join(differing_tables)}, so it is thrown away"
            )
        if target.lake is not None:
            require_lock(target.lake)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _of(connection: "duckdb.DuckDBPyConnection") -> dict[str, tuple]:
    return contents(connection, database_of(connection))
