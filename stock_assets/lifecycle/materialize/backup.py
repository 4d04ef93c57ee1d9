"""When a backup is due by itself, and the step that makes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from stock_assets.errors import BackupError
from stock_assets.files import TEMPORARY
from stock_assets.lifecycle.evening import State, Work
from stock_assets.objects import Place
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.settings_file import settings_file
from stock_assets.storage.backup import STORE, make_backup
from stock_assets.storage.bucket_backup import AnyBackup, make_bucket_backup, newest_backup_in
from stock_assets.storage.elsewhere import Elsewhere
from stock_assets.storage.store_copy import copy_store
from stock_assets.storage.warehouse import Warehouse

#: The name of the work, the same every evening: a backup that succeeds ends the alarm of one that failed.
WORK = "backup"


def backup_due(target: Place, state: State) -> Work | str:
    """A backup below `target` once the newest session is predicted that it lacks; else why there is none, in words.

    A folder of backups that cannot be read is due: its run fails, and a person hears of it.
    """
    if state.under_way:
        return f"{state.under_way} is under way"
    if state.predicted_through is None:
        return "nothing is predicted yet"
    through = str(state.predicted_through)
    try:
        newest = newest_backup_in(target)
    except (BackupError, OSError) as error:
        return Work(WORK, (), None, None, f"the newest backup cannot be read: {error}")
    if newest and newest.manifest.predicted_through == through:
        return f"{newest.folder.name} holds everything up to {through}"
    return Work(WORK, (), None, None, f"{through} is predicted, and no backup holds it")


def back_up(settings: Settings, target: Place, *, keep: int, now: datetime) -> AnyBackup:
    """Copies the data folder, what is kept elsewhere of it, and the settings file to a new folder below `target`.
    Raises as `make_backup`, BucketError."""
    elsewhere, file = elsewhere_of(settings), settings_file(PROJECT_DIR)
    with _with_file_of_lake(settings, elsewhere) as whole:
        if isinstance(target, Path):
            return make_backup(settings.data_dir, target, keep=keep, now=now, settings=file, elsewhere=whole)
        return make_bucket_backup(settings.data_dir, target, keep=keep, now=now, settings=file, elsewhere=whole)


@contextmanager
def _with_file_of_lake(settings: Settings, elsewhere: Elsewhere) -> Iterator[Elsewhere]:
    """`elsewhere`, where a lake is a file as long as it is copied: a backup can be restored without the lake."""
    if settings.lake is None:
        yield elsewhere
        return
    with TemporaryDirectory(prefix=TEMPORARY, dir=settings.data_dir) as folder:
        file = Path(folder, STORE)
        copy_store(Warehouse.of(settings), Warehouse(file, memory=settings.memory_budget))
        yield replace(elsewhere, paths={**elsewhere.paths, STORE: file})


def elsewhere_of(settings: Settings) -> Elsewhere:
    """What of a platform is not in its data folder."""
    paths = {STORE: settings.database, "dagster": settings.dagster_home}
    outside = {name: path for name, path in paths.items() if path.resolve() != (settings.data_dir / name).resolve()}
    return Elsewhere(places_beside(settings), outside, settings.dagster_postgres)


def places_beside(settings: Settings) -> dict[str, Place]:
    """What would be in the data folder and is elsewhere, by the folder that it would be; the pointer of what is
    published is copied before the ledger and the files."""
    places = {"published": settings.published, "artifacts": settings.artifacts}
    return {folder: place for folder, place in places.items() if place != settings.data_dir / folder}
