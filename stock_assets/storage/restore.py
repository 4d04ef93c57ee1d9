"""Putting a backup in the place of a data folder: all of it or nothing, after a check of every file.

The copy is made beside the data folder and swapped with it in one call of the system, so that a kill leaves the old
state or the new one. A file MARK lies in the copy, locked as long as its process lives, and comes along with it: where
it lies tells the next start, or the next restore, which of the two folders is the copy (`settle_killed_restore`).
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stock_assets.errors import BackupError
from stock_assets.files import TEMPORARY, sync
from stock_assets.storage.backup import NAME
from stock_assets.storage.manifest import MANIFEST, Backup, check_files, newest_backup, put_file, read_manifest
from stock_assets.tables import SCHEMA_VERSION

#: A file in a copy that is being made, and in a data folder until its restore is over; no backup takes it along.
MARK = "restore.lock"


def restore(folder: Path, target: Path, *, replace: bool = False, now: datetime) -> Backup:
    """Puts the backup `folder`, or the newest below it, in the place of the data folder `target`.

    A kill leaves what was there before. With `replace` the earlier content stays beside it, as
    `<target>.before-<moment>`.

    Raises BackupError for a backup that is damaged or of a newer version, and for a `target` with something in it
    unless `replace`.
    """
    backup = Backup(folder, read_manifest(folder)) if (folder / MANIFEST).exists() else newest_backup(folder)
    if backup is None:
        raise BackupError(f"there is no backup in {folder}; expected a folder that `stock-assets backup` has written")
    if problems := check_files(backup):
        raise BackupError(f"{problems[0]}; {len(problems)} file(s) in all. Nothing was restored; take another backup")
    if (backup.manifest.schema_version or 0) > SCHEMA_VERSION:
        raise BackupError(
            f"{backup.folder} has schema version {backup.manifest.schema_version}, and this stock_assets reads up to "
            f"{SCHEMA_VERSION}; install version {backup.manifest.package} of stock_assets, which made it"
        )
    settle_killed_restore(target, now=now)
    is_occupied = target.exists() and any(target.iterdir())
    if is_occupied and not replace:
        raise BackupError(
            f"{target} is not empty; expected an empty folder. --to names another, and --replace puts the backup in "
            "its place and keeps what is there beside it"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary_folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{target.name}-", dir=target.parent))
    with (temporary_folder / MARK).open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        try:
            for name in backup.manifest.files:
                put_file(backup, name, temporary_folder / name)
            os.sync()
            if is_occupied:
                with _unused(target):
                    _swap(temporary_folder, target)
            else:
                temporary_folder.rename(target)  # over the empty folder
            sync(target.parent)
        except BaseException:
            if (temporary_folder / MARK).exists():  # else it holds what was there before
                shutil.rmtree(temporary_folder)
            raise
    settle_killed_restore(target, now=now)
    return backup


def settle_killed_restore(target: Path, *, now: datetime) -> list[str]:
    """Tidies up beside the data folder `target` after a restore, also one that was killed; what was done, in words.

    A copy that was not put in its place is removed; what was there before it gets its name, `<target>.before-<moment>`.
    """
    messages = []
    # as mkdtemp names them, and none of a neighbour whose name begins alike
    of_target = re.compile(re.escape(f"{TEMPORARY}{target.name}-") + "[a-z0-9_]{8}")
    for folder in sorted(target.parent.glob(f"{TEMPORARY}*")):
        if not of_target.fullmatch(folder.name):
            continue
        if not any(folder.iterdir()):
            folder.rmdir()
        elif not (folder / MARK).exists():
            before = folder.rename(target.with_name(f"{target.name}.before-{now.astimezone(UTC):{NAME}}"))
            messages.append(f"a backup was put in the place of {target}; what was there before is {before}")
        elif not _is_locked(folder / MARK):
            shutil.rmtree(folder)
            messages.append(f"{target} is as it was before a restore that did not end; its half of a copy is removed")
    (target / MARK).unlink(missing_ok=True)
    return messages


def _is_locked(file: Path) -> bool:
    with file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _unused(data_dir: Path) -> Iterator[None]:
    """Nobody works on the data folder. Raises BackupError where a server does."""
    owner = data_dir / "dagster" / "owner.lock"
    if not owner.exists():
        yield
        return
    with owner.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(
                f"a stock-assets run works on {data_dir}; stop it before you replace the folder"
            ) from error
        yield


def _swap(path: Path, other: Path) -> None:
    """The two folders change names, in one step. Raises BackupError where the system cannot: two renames would leave no
    data folder at all in between."""
    import ctypes

    at_here, exchange = -100, 2
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None or swap(at_here, bytes(path), at_here, bytes(other), exchange) != 0:
        raise BackupError(
            f"this system cannot put one folder in the place of another in one step: rename {other} yourself, and "
            "restore again without --replace. Nothing was changed"
        )
