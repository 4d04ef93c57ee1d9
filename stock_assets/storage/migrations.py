"""The schema version of a store, and how an older store becomes one of today."""

from collections.abc import Callable
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from stock_assets.errors import DamagedFileError, StockAssetsError
from stock_assets.files import TEMPORARY, first_line, sync
from stock_assets.lakes import Lake
from stock_assets.storage.attached import database_of, literal, opened, quoted
from stock_assets.storage.partitions import record_older_rows, recount_empty_records
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
    # a long range that was made again recorded none of its rows (decision 0316)
    3: (recount_empty_records,),
}

#: Seconds that a locked store is waited for.
WAIT = 60.0

#: The stores that this process found to be of SCHEMA_VERSION, with the inode: another may take the name of a file.
_CURRENT: set[tuple[Path | Lake, int]] = set()


def is_current(connection: "duckdb.DuckDBPyConnection", path: Path | Lake) -> bool:
    """Whether the connected store at `path` has SCHEMA_VERSION; it is asked once a process.

    Raises StockAssetsError for a store of a newer version.
    """
    key = path, path.stat().st_ino if isinstance(path, Path) else 0
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


def migrate(connection: "duckdb.DuckDBPyConnection", path: Path | Lake) -> None:
    """Brings the connected store at `path` to SCHEMA_VERSION, in one transaction; a store without a table gets the
    version. An older file is copied before (`keep_copy`); a lake keeps the snapshot before."""
    version = schema_version(connection)
    if version is not None and isinstance(path, Path):
        keep_copy(connection, path, version)
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


def keep_copy(connection: "duckdb.DuckDBPyConnection", path: Path, version: int) -> Path:
    """The copy of the connected store beside it, named by its version and the time of its last change; those of
    earlier migrations are removed. It is whole or not there.

    Raises DamagedFileError where there is no room for it: nothing is migrated then.
    """
    import duckdb

    changed_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    copy = path.with_name(f"{path.name}.v{version}-{changed_at:%Y-%m-%dT%H-%M-%SZ}")
    temporary_file = copy.with_name(f"{TEMPORARY}{copy.name}")
    try:
        temporary_file.unlink(missing_ok=True)  # of a killed migration
        # by DuckDB: opening the file ourselves would give back its lock
        connection.execute(f"ATTACH {literal(temporary_file)} AS before_migration")
        try:
            connection.execute(f"COPY FROM DATABASE {quoted(database_of(connection))} TO before_migration")
        finally:
            connection.execute("DETACH before_migration")
    except (duckdb.IOException, OSError) as error:
        raise DamagedFileError(
            f"{path} has schema version {version} and is to be copied before it is migrated to {SCHEMA_VERSION}, which "
            f"failed: {first_line(error)}. Nothing was changed; make room in {path.parent}"
        ) from error
    temporary_file.replace(copy)
    sync(copy.parent)
    for older in path.parent.glob(f"{escape(path.name)}.v*"):
        if older != copy:
            older.unlink()
    return copy


def stored_version(path: Path) -> int | None:
    """As `schema_version`, of the store at `path`, which stays as it is. Raises StoreBusyError as `patiently`."""
    with opened(path, WAIT) as connection:
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
