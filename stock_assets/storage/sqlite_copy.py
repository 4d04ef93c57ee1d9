"""A copy of a database of SQLite, made while it is written to."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from stock_assets.errors import BackupError

_SQLITE = b"SQLite format 3\0"
#: Seconds that a locked file is waited for.
PATIENCE = 60.0


def is_sqlite(file: Path) -> bool:
    """Whether the file is a database of SQLite. Raises OSError where it cannot be read."""
    with file.open("rb") as content:
        return content.read(len(_SQLITE)) == _SQLITE


def copy_sqlite(source: Path, copy: Path) -> None:
    """The database as of one moment, with what its journal holds. Raises BackupError where it is damaged or locked."""
    deadline = time.monotonic() + PATIENCE

    def patience(*_: int) -> None:
        if time.monotonic() > deadline:
            raise BackupError(f"{source} was locked for more than {PATIENCE:g} s; try again when its run is over")

    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
            closing(sqlite3.connect(copy)) as target,
        ):
            original.backup(target, progress=patience)
    except sqlite3.Error as error:
        if not source.exists():
            raise FileNotFoundError(source) from error
        raise BackupError(
            f"{source} cannot be copied: {error}; restore it from a backup: stock-assets restore DIR"
        ) from error
