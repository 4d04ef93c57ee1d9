"""Files that a reader sees whole or not at all, also after a crash: written aside, synced and renamed."""

import os
import stat
from contextlib import suppress
from functools import partial
from glob import escape
from pathlib import Path

#: What the name of a file or folder begins with while it is written.
TEMPORARY = ".tmp-"


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

    What a killed process left while it wrote the same file is removed.
    """
    make_folder(path.parent)
    # a name of the process's own, so that two writers never share a half-written file
    temporary = aside(path)
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        remove_leftovers(path)
    sync_folder(path.parent)


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
    """Writes a new file, for its owner alone, and waits until the disk holds it."""
    with open(path, "wb", opener=partial(os.open, mode=0o666 & ~PRIVATE)) as file:
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
