"""The files of a snapshot: those to be read, and those that are passed over."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from stock_assets.errors import EmptySourceError, SourceError

TEXT = (".csv", ".txt", ".tsv")
PARQUET = (".parquet", ".pq")
ARROW = (".feather", ".arrow", ".ipc")
EXCEL = (".xlsx", ".xlsm", ".xls")
TABLES = (*PARQUET, *TEXT, *ARROW, *EXCEL)
#: Around one file of text; .zip around several files.
PACKED = (".gz", ".bz2", ".xz")
ZIP = ".zip"
_NO_TABLES = ("readme", "license", "licence", "changelog", "notice")
_EXPECTED = "expected Parquet, CSV, Feather or Excel, or a folder"


class DataFile(NamedTuple):
    """A file with modification time and size: its identity, by which a load is kept."""

    path: Path
    modified: int
    """nanoseconds since 1970"""
    size: int
    """bytes"""


class PassedOver(NamedTuple):
    """A file that is not read, and why."""

    path: Path
    reason: str


class Listing(NamedTuple):
    """Every file at a path."""

    files: tuple[DataFile, ...]
    passed_over: tuple[PassedOver, ...]


def list_files(path: Path) -> Listing:
    """The files at `path`, a file or a folder with all folders inside it, sorted by name.

    Raises SourceError where it cannot be read, EmptySourceError where no file is named as one that holds a table.
    """
    try:
        status = path.stat()
        if S_ISREG(status.st_mode):
            return Listing((DataFile(path, status.st_mtime_ns, status.st_size),), ())
        if not S_ISDIR(status.st_mode):
            raise SourceError(f"{path} is neither a file nor a folder; {_EXPECTED}")
        files, passed_over = [], []
        for inside in sorted(Path(folder, name) for folder, _, names in _walk(path) for name in names):
            if reason := reason_to_pass_over(inside.name) or ("no file" if not inside.is_file() else None):
                passed_over.append(PassedOver(inside, reason))
            else:
                status = inside.stat()
                files.append(DataFile(inside, status.st_mtime_ns, status.st_size))
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise SourceError(f"{path} cannot be read ({error}); {_EXPECTED}") from error
    if not files:
        raise EmptySourceError(f"{path} holds no file named {', '.join(TABLES)}, or one of these packed as .gz or .zip")
    return Listing(tuple(files), tuple(passed_over))


def reason_to_pass_over(name: str) -> str | None:
    """Why a file of this name in a folder is not read; None where it is.

    >>> reason_to_pass_over("AAPL.csv.gz"), reason_to_pass_over("notes.md")
    (None, 'its name ends in .md')
    """
    if name.startswith((".", "~$")):
        return "hidden"  # what editors and archives leave behind
    if name.lower().startswith(_NO_TABLES):
        return "a text about the files"
    if ending(name) in TABLES or name.lower().endswith(ZIP):
        return None
    suffix = Path(name).suffix
    return f"its name ends in {suffix}" if suffix else "its name has no ending"


def ending(name: str) -> str:
    """What kind of table a name is of, in small letters, without the ending of what it is packed in.

    >>> ending("AAPL.CSV.gz")
    '.csv'
    """
    path = Path(name)
    if path.suffix.lower() in PACKED:
        path = Path(path.stem)
    return path.suffix.lower()


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> None:  # by default os.walk passes over folders that it cannot read
        raise error

    return os.walk(folder, onerror=refuse)
