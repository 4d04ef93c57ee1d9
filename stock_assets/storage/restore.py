"""Putting a backup in the place of a data folder: all of it or nothing, after a check of every file."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stock_assets.errors import BackupError
from stock_assets.files import TEMPORARY, sync_folder
from stock_assets.storage.backup import (
    DATA,
    MANIFEST,
    NAME,
    Backup,
    check_files,
    copy_file,
    newest_backup,
    read_manifest,
)
from stock_assets.tables import SCHEMA_VERSION


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
    occupied = target.exists() and any(target.iterdir())
    if occupied and not replace:
        raise BackupError(
            f"{target} is not empty; expected an empty folder. --to names another, and --replace puts the backup in "
            "its place and keeps what is there beside it"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{target.name}-", dir=target.parent))
    try:
        for name in backup.manifest.files:
            copy_file(backup.folder / DATA / name, aside / name)
        os.sync()
        if occupied:
            with _unused(target):
                _exchange(aside, target, target.with_name(f"{target.name}.before-{now.astimezone(UTC):{NAME}}"))
        else:
            aside.rename(target)  # over the empty folder
        sync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return backup


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


def _exchange(new: Path, target: Path, before: Path) -> None:
    """`new` becomes `target`, whose content becomes `before`: at once where Linux can swap two folders, else by two
    renames."""
    import ctypes

    at_here, exchange = -100, 2
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap and swap(at_here, bytes(new), at_here, bytes(target), exchange) == 0:
        new.rename(before)
        return
    target.rename(before)
    try:
        new.rename(target)
    except OSError:
        before.rename(target)
        raise
