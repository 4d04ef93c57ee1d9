"""The data files at a path."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from stock_assets.errors import EmptySourceError, SourceError

PARQUET, CSV = (".parquet", ".pq"), (".csv", ".txt")


class DataFile(NamedTuple):
    """A file with modification time and size: its identity, by which a load is kept."""

    path: Path
    modified: int
    """nanoseconds since 1970"""
    size: int
    """bytes"""


def list_files(path: Path) -> tuple[DataFile, ...]:
    """The data files at `path`, a file or a folder with all folders inside it, sorted by name.

    Raises SourceError where it cannot be read, EmptySourceError where it holds none.
    """
    try:
        status = path.stat()
        if S_ISREG(status.st_mode):
            data_files = [(path, status)]
        elif S_ISDIR(status.st_mode):
            inside = sorted(Path(folder, name) for folder, _, names in _walk(path) for name in names)
            # hidden files are what editors and archives leave behind
            data = [p for p in inside if p.suffix.lower() in PARQUET + CSV and not p.name.startswith(".")]
            data_files = [(p, p.stat()) for p in data if p.is_file()]
        else:
            raise SourceError(f"{path} is neither a file nor a folder; expected Parquet, CSV or a folder")
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise SourceError(f"{path} cannot be read ({error}); expected Parquet, CSV or a folder") from error
    if not data_files:
        raise EmptySourceError(f"{path} holds no file named {', '.join(PARQUET + CSV)}")
    return tuple(DataFile(p, s.st_mtime_ns, s.st_size) for p, s in data_files)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> None:  # by default os.walk passes over folders that it cannot read
        raise error

    return os.walk(folder, onerror=refuse)
