"""Files that a reader sees whole or not at all, also after a crash: written aside, synced and renamed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

#: What the name of a file or folder begins with while it is written.
TEMPORARY = ".tmp-"


def write_file(path: Path, content: bytes) -> None:
    """Puts `content` in the place of the file at `path`; its folder is made where there is none.

    What a killed process left while it wrote the same file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of the process's own, so that two writers never share a half-written file
    temporary = aside(path)
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        remove_leftovers(path)
    sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process or thread at a time between the lines, by the lock of the file at `path`, which is made.

    The kernel gives the lock back should the process be killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def aside(path: Path) -> Path:
    """Where this process writes the file at `path` before it is whole."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def remove_leftovers(path: Path) -> None:
    """Removes what killed processes left aside while they wrote the file at `path`."""
    for leftover in path.parent.glob(f"{escape(TEMPORARY)}*-{escape(path.name)}"):
        process = leftover.name.removeprefix(TEMPORARY).partition("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    with suppress(PermissionError):  # it runs, as another user
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def write_synced(path: Path, content: bytes) -> None:
    """Writes a new file and waits until the disk holds it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the disk holds the names in `folder`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
