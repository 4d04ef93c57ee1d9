"""Files that a reader sees whole or not at all, also after a crash: written aside, synced and renamed."""

import os
from pathlib import Path

#: What the name of a file or folder begins with while it is written.
TEMPORARY = ".tmp-"


def write_file(path: Path, content: bytes) -> None:
    """Puts `content` in the place of the file at `path`; its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of the process's own, so that two writers never share a half-written file
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


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
