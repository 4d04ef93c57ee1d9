"""The schema version of a store, and how an older store becomes one of today."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stock_assets.errors import StockAssetsError
from stock_assets.storage.attached import patiently
from stock_assets.storage.partitions import record_older_rows
from stock_assets.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    import duckdb

#: What leads to a schema version from the one before it: statements, or functions of a connection. Version 0 is a store
#: without a version.
MIGRATIONS: dict[int, tuple["str | Callable[[duckdb.DuckDBPyConnection], None]", ...]] = {
    # the horizon is a setting, and the column held the return over all of it
    1: ("ALTER TABLE IF EXISTS features.labels RENAME COLUMN forward_return_7 TO forward_return_horizon",),
    # a partition without a row was the same as one that was never made
    2: (record_older_rows,),
}

#: Seconds that a locked store is waited for.
WAIT = 60.0

#: The files that this process found to be of SCHEMA_VERSION, with the inode: another may take the name of a store.
_CURRENT: set[tuple[Path, int]] = set()


def is_current(connection: "duckdb.DuckDBPyConnection", path: Path) -> bool:
    """Whether the connected store at `path` has SCHEMA_VERSION; it is asked once a process.

    Raises StockAssetsError for a store of a newer version.
    """
    key = path, path.stat().st_ino
    if key not in _CURRENT:
        version = schema_version(connection)
        if version is not None and version > SCHEMA_VERSION:
            raise StockAssetsError(
                f"{path.name} has schema version {version}, and this stock_assets reads up to {SCHEMA_VERSION}; "
                "expected an older store: install the version of stock_assets that wrote it"
            )
        if version != SCHEMA_VERSION:
            return False
        _CURRENT.add(key)
    return True


def migrate(connection: "duckdb.DuckDBPyConnection") -> None:
    """Brings the connected store to SCHEMA_VERSION, in one transaction; a store without a table gets the version."""
    version = schema_version(connection)
    connection.execute("BEGIN TRANSACTION")
    try:
        for number in range(SCHEMA_VERSION if version is None else version, SCHEMA_VERSION):
            for step in MIGRATIONS[number + 1]:
                connection.execute(step) if isinstance(step, str) else step(connection)
        connection.execute("CREATE TABLE IF NOT EXISTS main.schema_version (version INTEGER)")
        connection.execute("INSERT INTO main.schema_version VALUES (?)", [SCHEMA_VERSION])
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def stored_version(path: Path) -> int | None:
    """As `schema_version`, of the store at `path`, which stays as it is. Raises StoreBusyError as `patiently`."""
    import duckdb

    with patiently(lambda: duckdb.connect(path, read_only=True), path, WAIT) as connection:
        return schema_version(connection)


def schema_version(connection: "duckdb.DuckDBPyConnection") -> int | None:
    """The schema version of the connected store: 0 for one from before versions were kept, None without a table."""
    statement = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
    tables = {name for (name,) in connection.execute(statement).fetchall()}
    if not tables:
        return None
    if "schema_version" not in tables:
        return 0
    return connection.execute("SELECT max(version) FROM main.schema_version").fetchall()[0][0]
