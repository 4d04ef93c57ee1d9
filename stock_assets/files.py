"""Files that a reader sees whole or not at all, also after a crash: written aside, synced and renamed."""

import errno
import fcntl
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from glob import escape
from pathlib import Path

from stock_assets.errors import DamagedFileError

#: What the name of a file or folder begins with while it is written.
TEMPORARY = ".tmp-"
#: The file in the data folder whose lock who trades holds, and who copies an account and the store.
ACCOUNT_LOCK = "account.lock"


def first_line(error: BaseException) -> str:
    r"""What an error says, on one line.

    >>> first_line(ValueError("no such file\nand more")), first_line(ValueError())
    ('no such file', 'ValueError()')
    """
    return (str(error).strip() or repr(error)).splitlines()[0]


#: What to do with a file that nothing can make again.
RESTORE = "restore it from a backup: stock-assets restore DIR"
#: What to do about an error of the disk, by its number.
DISK_ERRORS = {
    errno.ENOSPC: "make room on its disk (space, or inodes: df -h, df -i)",
    errno.EDQUOT: "make room within the quota of its disk",
    errno.EROFS: "mount its disk for writing",
    errno.EACCES: "give this user the right to read and write it",
    errno.EPERM: "give this user the right to read and write it",
    errno.EISDIR: "a folder is in the place of the file; move it away",
    errno.ENOTDIR: "a file is in the place of its folder; move it away",
    errno.EEXIST: "a file is in the place of its folder; move it away",
}


def disk_error(path: Path, error: OSError) -> DamagedFileError:
    """What the disk said about the file at `path`, as one line with what to do."""
    way = DISK_ERRORS.get(error.errno or 0, "look at its disk")
    return DamagedFileError(f"{path} cannot be read or written: {error.strerror or error}; {way}")


@contextmanager
def disk_errors_of(path: Path) -> Iterator[None]:
    """An error of the disk inside is a DamagedFileError that names the file; one that a file is absent stays."""
    try:
        yield
    except (FileNotFoundError, DamagedFileError):
        raise
    except OSError as error:
        raise disk_error(path, error) from error


def require_sqlite(file: Path, way_back: str = RESTORE) -> None:
    """Raises DamagedFileError, with the way back, where a file is there and no whole database of SQLite."""
    if not file.exists():
        return
    try:
        size = file.stat().st_size
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            return  # somebody works with it
        raise DamagedFileError(f"{file} cannot be opened: {error}; {way_back}") from error
    except sqlite3.DatabaseError as error:
        raise DamagedFileError(f"{file} is damaged: {error}; {way_back}") from error
    if not size or (size < pages * page and not file.with_name(f"{file.name}-wal").exists()):
        raise DamagedFileError(f"{file} is cut short: {size} bytes, expected {pages * page or 'some'}; {way_back}")


#: What nobody else may do with the files of a process: read, write, run.
PRIVATE = 0o077


def make_folder(folder: Path) -> None:
    """Makes the folder, and those above it that are missing, for their owner alone. Raises OSError where it cannot."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o777 & ~PRIVATE, exist_ok=True)
    folder.mkdir(exist_ok=True)  # raises where a file stands there


def open_to_others(folder: Path) -> str | None:
    """The mode of a folder that other users of the machine can enter or list; None where they cannot."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    return f"{mode:03o}" if mode & PRIVATE else None


def write_file(path: Path, content: bytes) -> None:
    """Puts `content` in the place of the file at `path`, for its owner alone; its folder is made where there is none.

    What a killed process left while it wrote the same file is removed. Raises DamagedFileError where the disk is full
    or may not be written.
    """
    with disk_errors_of(path):
        _write_file(path, content)


def _write_file(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    temporary = aside(path)
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        remove_leftovers(path)
    sync(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process or thread at a time between the lines, by the lock of the file at `path`, which is made.

    The kernel gives the lock back should the process be killed.
    """
    make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def aside(path: Path) -> Path:
    """A new name beside `path`, of this one writer among processes and threads, for the file while it is written."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def remove_leftovers(path: Path) -> None:
    """Removes what killed processes left aside while they wrote the file at `path`."""
    for leftover in path.parent.glob(f"{escape(TEMPORARY)}*-{escape(path.name)}"):
        process = leftover.name.removeprefix(TEMPORARY).partition("-")[0]
        if process.isdigit() and not is_running(int(process)):
            leftover.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    with suppress(PermissionError):  # it runs, as another user
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def write_synced(path: Path, content: bytes) -> None:
    """Writes a new file, for its owner alone, and waits until the disk holds it."""
    with open(path, "wb", opener=partial(os.open, mode=0o666 & ~PRIVATE)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Waits until the disk holds the file, or the names in the folder, at `path`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
