"""`stock-assets backup`, `restore` and `verify`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from rich.console import Console

from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.materialize.backup import back_up as make_backup
from stock_assets.lifecycle.materialize.partitions import stored_partitions
from stock_assets.lifecycle.partitions import compared
from stock_assets.objects import Place
from stock_assets.publication.materialize.verify import problems_of as published_problems
from stock_assets.settings import Settings
from stock_assets.storage.backup import STORE
from stock_assets.storage.bucket_backup import local_backup
from stock_assets.storage.bucket_backup import put_back as move_beside
from stock_assets.storage.elsewhere import DATABASE, Elsewhere, put_elsewhere, require_free
from stock_assets.storage.manifest import DATA, MANIFEST, SETTINGS, backups
from stock_assets.storage.restore import restore as put_back
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared


def back_up(settings: Settings, target: Place, *, keep: int, now: datetime, out: Console) -> None:
    """Makes a backup below `target` and says what it holds."""
    backup = make_backup(settings, target, keep=keep, now=now)
    rows, tables, files = backup.manifest.rows.values(), len(backup.manifest.rows), len(backup.manifest.files)
    _say(
        out,
        f"{backup.folder} holds {sum(rows):,} rows in {tables} tables and {files:,} files, "
        f"{backup.new_bytes / 1e6:.1f} MB of them new",
    )
    if registry := registry_elsewhere(settings):
        _say(out, f"not in it: the model registry {registry}, which is not in the data folder")


def registry_elsewhere(settings: Settings) -> str | None:
    """Where the model registry is, if a backup of the data folder leaves it out."""
    uri = settings.mlflow_uri
    if uri is None or uri.startswith(f"sqlite:///{settings.data_dir.absolute()}"):
        return None
    return uri.rpartition("@")[2]  # without a password


def restore(
    source: Place,
    target: Path,
    *,
    replace: bool,
    now: datetime,
    out: Console,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Puts a backup in the place of the data folder `target`, and what is `elsewhere` in its own place; says which.

    Raises BackupError before anything is written where something is in the way; StockAssetsError where a server works
    there; MoveError for a database of Dagster's that is not empty, SettingsError for that of another platform.
    """
    elsewhere = elsewhere or Elsewhere()
    is_occupied = target.exists() and any(target.iterdir())
    with local_backup(source) as folder:
        require_free(elsewhere, replace=replace)
        if "dagster" in elsewhere.paths:
            from stock_assets.cli.home import require_no_owner

            require_no_owner(elsewhere.paths["dagster"])
        if elsewhere.database is not None:
            require_free_database(folder, elsewhere.database, now=now)
        backup = put_back(folder, target.absolute(), replace=replace, now=now)
    came_from = backup.folder if isinstance(source, Path) else source
    _say(out, f"{target} is as it was at {backup.manifest.made_at}, from {came_from}")
    if memory := put_memory(target, elsewhere.database):
        _say(out, memory)
    for moved_text in (*put_elsewhere(target, elsewhere, now=now), *move_beside(target, elsewhere.objects)):
        _say(out, moved_text)
    if is_occupied:
        _say(out, f"what was there before is beside it, as {target.name}.before-…; remove it once all is well")
    if backup.manifest.settings:
        settings_place = (
            backup.folder / SETTINGS if isinstance(source, Path) else f"the object {backup.manifest.settings.sha256}"
        )
        _say(out, f"the settings file of that moment is {settings_place}; it was not put anywhere")


def require_free_database(folder: Path, address: str, *, now: datetime) -> None:
    """Raises MoveError where the database at `address` is not empty and a backup below `folder` is to be restored to
    it, and SettingsError where it is another platform's."""
    from stock_assets.storage.dagster_restore import require_room_in
    from stock_assets.storage.platform_row import Platform, require_no_other_platform

    backup_folder = folder if (folder / MANIFEST).exists() else next(iter(backups(folder)[::-1]), None)
    if backup_folder is None:
        return  # what restores it says so
    data = backup_folder / DATA
    require_no_other_platform(address, Platform(data, data / STORE), now=now)
    if (data / DATABASE).is_dir():
        require_room_in(data / DATABASE, address)


def put_memory(target: Path, address: str | None) -> str | None:
    """Puts what a backup holds of a database of Dagster's into the database at `address`, or into the folder of Dagster
    in the data folder `target`, where it lies; what was done, in words."""
    if not (target / DATABASE).is_dir():
        if address is not None:
            return (
                "the backup is of a single machine: move its runs and events to the database with stock-assets migrate"
            )
        return None
    from stock_assets.storage.dagster_restore import restore_database, restore_to_folder

    if address is not None:
        summary = restore_database(target / DATABASE, address)
    else:
        summary = restore_to_folder(target / DATABASE, target / "dagster")
    shutil.rmtree(target / DATABASE)
    return summary


def verify(place: Place, out: Console, *, settings: Settings | None = None) -> None:
    """Opens everything in a data folder, a backup or the newest backup of a folder; `settings` are those of the data
    folder, whose artifacts may be elsewhere. Raises StockAssetsError with the number of problems, after each was
    printed."""
    with local_backup(place) as folder:
        _verify(folder, out, settings)


def _verify(folder: Path, out: Console, settings: Settings | None) -> None:
    if settings is None and not (folder / STORE).exists() and (backup_folders := backups(folder)):
        folder = backup_folders[-1]
    publication_folder, artifacts = (settings.published, settings.artifacts) if settings else (None, None)
    home, store = (settings.dagster_home, settings.database) if settings else (folder / "dagster", folder / STORE)
    problems_found = problems_of(
        folder,
        lambda data: published_problems(data, publication_folder),
        artifacts=artifacts,
        store=store,
        other_folder=home,
    )
    problems = list(problems_found)
    if not (folder / MANIFEST).exists():
        with suppress(StockAssetsError):  # a store that cannot be read is among the problems already
            problems += lost_rows(
                folder, file=store, home=home, in_database=bool(settings and settings.dagster_postgres)
            )
    for problem in problems:
        _say(out, problem)
    if problems:
        raise StockAssetsError(f"{len(problems)} problem(s) in {folder}")
    _say(out, f"{folder} is sound")


def lost_rows(
    data: Path, *, file: Path | None = None, home: Path | None = None, in_database: bool = False
) -> Iterator[str]:
    """The assets and partitions of which Dagster remembers rows that the store does not hold, one line per asset. The
    store is `file`, and Dagster's memory is in the folder `home`, those of the data folder when None, or in the
    database that the dagster.yaml of `home` names."""
    file, home = file or data / STORE, home or data / "dagster"
    if not (home / ("dagster.yaml" if in_database else "history")).exists():
        return
    import dagster as dg

    from stock_assets.definitions import comparison

    store, before = Warehouse(file), os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            partitions_of = stored_partitions(store)
            partitioned_tables = {name for name in partitions_of if declared(name).partitions}
            materialized_keys = comparison.materialized(
                instance, {name: [] if name in partitioned_tables else None for name in partitions_of}
            )
            keys = {
                name: sorted(materialized_keys[name]) if name in partitioned_tables else None for name in partitions_of
            }
            for name, lost_keys in compared(keys, materialized_keys, partitions_of).lost.items():
                span = lost_keys[0] if len(lost_keys) == 1 else f"{lost_keys[0]} to {lost_keys[-1]}"
                partitions = (
                    f"{len(lost_keys)} {declared(name).partitions}(s), {span}," if name in partitioned_tables else "it"
                )
                yield f"{name}: Dagster remembers rows of {partitions} which the store lacks; materialize {name} again"
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def _say(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
