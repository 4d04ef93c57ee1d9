"""The store without its free space: copied, compared, and put in the place of the old file.

DuckDB uses the space of deleted rows again and never gives it back. A kill at any moment leaves the old file or the new
one, both whole: the name changes hands in one rename, after the copy is on the disk and equals the original.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stock_assets.errors import StockAssetsError
from stock_assets.files import aside, remove_leftovers, sync
from stock_assets.storage.attached import attached, literal

if TYPE_CHECKING:
    import duckdb

#: A store is compacted once so large a share of it, and so many bytes, are free.
FREE_SHARE, FREE_BYTES = 0.25, 16_000_000


class Compacted(NamedTuple):
    """The size of the file in bytes, before and after."""

    before: int
    after: int


def compact(path: Path, wait: float, *, free_share: float = FREE_SHARE, free_bytes: int = FREE_BYTES) -> Compacted:
    """Makes the store at `path` as small as its rows, if more than `free_share` of it and `free_bytes` are free.

    Nobody reads or writes meanwhile. Raises StoreBusyError where somebody does for longer than `wait` seconds, and
    StockAssetsError where the disk has no room for the copy, or the copy differs: then the store is as it was.
    """
    import duckdb

    with attached(path, read_only=False, wait=wait, exclusive=True) as (connection, store):
        # what is still in the write-ahead log, which has the old file's name and would be played into the new one
        connection.execute(f"CHECKPOINT {store}")
        before = path.stat().st_size
        free_bytes_now, used_bytes = _space(connection, store)
        if free_bytes_now < free_bytes or free_bytes_now < free_share * (free_bytes_now + used_bytes):
            return Compacted(before, before)
        if shutil.disk_usage(path.parent).free < used_bytes + free_bytes:
            raise StockAssetsError(_no_room(path, used_bytes + free_bytes))
        copy, database = aside(path), f"{store}_compacted"
        try:
            _copy(connection, copy, store=store, database=database)
            shutil.copymode(path, copy)
            sync(copy)
            copy.replace(path)
            sync(path.parent)
        except (duckdb.Error, OSError) as error:
            line = str(error).splitlines()[0]
            raise StockAssetsError(f"{path.name} was not compacted and is as it was: {line}") from error
        finally:
            connection.execute(f"DETACH DATABASE IF EXISTS {database}")
            for suffix in ("", ".wal"):
                copy.with_name(copy.name + suffix).unlink(missing_ok=True)
                remove_leftovers(path.with_name(path.name + suffix))
        return Compacted(before, path.stat().st_size)


def _copy(connection: "duckdb.DuckDBPyConnection", copy: Path, *, store: str, database: str) -> None:
    """Writes all of `store` to the file `copy`. Raises StockAssetsError where it differs from the original."""
    connection.execute(f"ATTACH {literal(copy)} AS {database}")
    connection.execute(f"COPY FROM DATABASE {store} TO {database}")
    connection.execute(f"CHECKPOINT {database}")
    original_contents, copied_contents = contents(connection, store), contents(connection, database)
    if original_contents != copied_contents:
        differing_tables = sorted(
            name
            for name in original_contents.keys() | copied_contents.keys()
            if original_contents.get(name) != copied_contents.get(name)
        )
        raise StockAssetsError(f"the copy of the store differs in {', '.join(differing_tables)}, so it is thrown away")
    connection.execute(f"DETACH {database}")


def contents(connection: "duckdb.DuckDBPyConnection", database: str) -> dict[str, tuple[object, ...]]:
    """Columns, number of rows and a digest of the rows, in whatever order they stand, of every table."""
    columns: dict[tuple[str, str], list[str]] = {}
    statement = (
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = ? AND NOT internal ORDER BY schema_name, table_name, column_index"
    )
    for room, table, column, dtype in connection.execute(statement, [database]).fetchall():
        columns.setdefault((room, table), []).append(f"{column} {dtype}")
    contents = {}
    for (room, table), table_columns in columns.items():
        place = f'"{room}"."{table}"'
        rows = connection.execute(
            f"SELECT count(*), sum(hash(each)::HUGEINT) FROM {database}.{place} AS each"
        ).fetchone()
        contents[f"{room}.{table}"] = (tuple(table_columns), *(rows or ()))
    return contents


def _space(connection: "duckdb.DuckDBPyConnection", database: str) -> tuple[int, int]:
    """(free, used) bytes of the file."""
    statement = (
        "SELECT block_size * free_blocks, block_size * used_blocks FROM pragma_database_size() WHERE database_name = ?"
    )
    ((free_bytes, used_bytes),) = connection.execute(statement, [database]).fetchall()
    return free_bytes, used_bytes


def _no_room(path: Path, needed_bytes: int) -> str:
    free = shutil.disk_usage(path.parent).free
    return (
        f"{path.name} cannot be compacted: its copy needs {needed_bytes / 1e6:,.0f} MB beside it and {free / 1e6:,.0f} "
        "MB are free; make room, and run `stock-assets tidy` again"
    )
