"""Putting Dagster's memory of a database back from a backup: into an empty database, or into a folder.

In a database every row and event has the id that it had. It is written in one transaction.
"""

from pathlib import Path

from stock_assets.errors import MoveError
from stock_assets.storage.dagster_folder import PARTS, FolderRows, put_in_place, written_aside
from stock_assets.storage.dagster_parquet import ParquetRows
from stock_assets.storage.dagster_rows import contents_of, require_revision, require_room, require_same


def require_room_in(folder: Path, address: str) -> None:
    """Raises MoveError where the database at `address` holds anything but what `folder` does."""
    from stock_assets.storage.dagster_database import database_rows

    source = ParquetRows(folder)
    require_revision(source)
    with database_rows(address) as target:
        require_room(source, contents_of(source), target=target.name, target_contents=contents_of(target))


def restore_database(folder: Path, address: str) -> str:
    """Writes what `folder` of a backup holds to the database at `address`, which is empty; what was done, in words.
    Raises MoveError, BackupError."""
    from stock_assets.storage.dagster_database import write_database, written_database

    source = ParquetRows(folder)
    contents = contents_of(source)
    require_revision(source)
    with written_database(address) as target:
        if not require_room(source, contents, target=target.name, target_contents=contents_of(target)):
            write_database(source, target)
            require_same(source, contents, target)
        return f"{sum(table.rows for table in contents.values()):,} rows of Dagster's are in {target.name}"


def restore_to_folder(folder: Path, home: Path) -> str:
    """Writes what `folder` of a backup holds below the DAGSTER_HOME `home`, which has no storage; what was done, in
    words. Raises MoveError, BackupError."""
    source = ParquetRows(folder)
    contents = contents_of(source)
    require_revision(source)
    if any((home / part).exists() for part in PARTS):
        raise MoveError(f"{home} has a storage of Dagster's already; expected none beside {folder}")
    with written_aside(source, home) as temporary_folder:
        require_same(source, contents, FolderRows(temporary_folder))
        put_in_place(temporary_folder, home, PARTS)
    return f"{sum(table.rows for table in contents.values()):,} rows of Dagster's are in {home}"
