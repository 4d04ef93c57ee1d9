"""Saved models that nobody can need any more: those of challengers that lost long ago, and those that no row names.

A loser's row stays in its table, as the history of the trainings; it stops naming the folder, in a transaction, and
only what no row names is removed. A kill in between leaves a folder for the next night, and never a row without one.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.files import TEMPORARY
from stock_assets.lifecycle.materialize.champions import read_promotions, trained_versions
from stock_assets.lifecycle.materialize.kept import DAYS, Kept, kept_of
from stock_assets.model.materialize.versions import REFERENCES, TRAINED
from stock_assets.objects import Found, ObjectPath, delete, found_below, name_below
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import MODEL
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared


def served_versions(store: Warehouse, registry: Registry, model_tables: Kept = DAYS) -> set[str]:
    """Every version that serves, served or may serve: of an alias, a base of its year, a champion or one that was
    replaced as such, or named by a prediction. Raises RegistryError where the registry does not answer."""
    all_versions = trained_versions(store, model_tables)
    bases = all_versions.group_by("model", "model_year").agg(
        pl.col("version").sort_by("trained_through", "version").first()
    )
    version_names = {version for aliases in registry.aliases().values() for version in aliases.values()}
    champions = read_promotions(store).filter(pl.col("outcome") == "champion")
    version_names |= {*bases["version"], *champions["version"], *champions["replaced"].drop_nulls()}
    for table in (model_tables.predictions, "reference_predictions"):
        try:
            version_names |= set(
                store.read_sql(table, f"SELECT DISTINCT model_version FROM model.{table}")["model_version"]
            )
        except MissingTableError:
            continue
    return version_names


def remove_losers(store: Warehouse, settings: Settings, registry: Registry, *, before: datetime) -> tuple[int, int]:
    """(number, bytes) of the saved models that are removed: of challengers that lost before and never served, and of
    those older than that which no row names, as a killed training or tidying leaves. Raises as `served_versions`."""
    promotions = read_promotions(store)
    lost_challenges = promotions.filter(pl.col("outcome") == "challenger", pl.col("decided_at") < before)
    later_decisions = promotions.filter(pl.col("decided_at") >= before)
    model_tables = kept_of(settings)
    losers = (
        {*lost_challenges["version"]}
        - {*later_decisions["version"], *later_decisions["replaced"]}
        - served_versions(store, registry, model_tables)
    )
    tables, span = (TRAINED, "model_year") if model_tables is DAYS else (tuple(model_tables.versions), "session")
    for table in tables:
        rows = store.read_or(declared(table).empty(), table)
        rows = rows.filter(pl.col("version").is_in(losers) & pl.col("artifact").is_not_null())
        if not rows.is_empty():
            rows_without_artifact = rows.with_columns(artifact=pl.lit(None, pl.String))
            store.replace_rows(table, rows.select(span, "model", "version"), rows_without_artifact)
    artifacts, all_tables = settings.artifacts, (*tables, REFERENCES) if model_tables is DAYS else tables
    if isinstance(artifacts, Path):
        removed_bytes = [_remove(folder) for folder in _unnamed_folders(store, artifacts, before, tables=all_tables)]
    else:
        unnamed = _unnamed_objects(store, artifacts, before, tables=all_tables)
        removed_bytes = [_remove_objects(objects) for objects in unnamed]
    return len(removed_bytes), sum(removed_bytes)


def _unnamed_folders(store: Warehouse, artifacts: Path, before: datetime, *, tables: Sequence[str]) -> Iterator[Path]:
    """The folders of saved models of `tables` from before that no row names."""
    for table in tables:
        named_folders = _named_folders(store, table)
        for model in (artifacts / table).glob(f"*/*/{MODEL}"):
            folder, is_old = model.parent, model.stat().st_mtime < before.timestamp()
            if is_old and folder.relative_to(artifacts).as_posix() not in named_folders:
                yield folder


def _unnamed_objects(
    store: Warehouse, artifacts: ObjectPath, before: datetime, *, tables: Sequence[str]
) -> Iterator[list[Found]]:
    """The objects of each saved model of `tables` in a bucket, none of which is from later, that no row names."""
    for table in tables:
        named_folders = _named_folders(store, table)
        of_version: dict[str, list[Found]] = {}
        for file in found_below(artifacts / table):
            version, separator, _file = name_below(file.place, artifacts).rpartition("/")
            if separator and version.count("/") == 2:  # a checkpoint lies one level higher
                of_version.setdefault(version, []).append(file)
        for version, objects in of_version.items():
            if version not in named_folders and max(file.changed_at for file in objects) < before:
                yield objects


def _named_folders(store: Warehouse, table: str) -> set[str]:
    rows = store.read_or(declared(table).empty(), table, columns=["artifact"])
    return set(rows["artifact"].drop_nulls())


def _remove_objects(objects: list[Found]) -> int:
    """The bytes of a saved model in a bucket that is removed: no reader finds it once its MODEL is gone, and what a
    killed removal leaves no row names."""
    for file in sorted(objects, key=lambda file: file.place.name != MODEL):
        delete(file.place)
    return sum(file.size for file in objects)


def _remove(folder: Path) -> int:
    """The bytes of a folder that is removed: whole as long as it has its name, and found again, by the file that goes
    last, should this process be killed."""
    renamed_folder = (
        folder if folder.name.startswith(TEMPORARY) else folder.rename(folder.with_name(TEMPORARY + folder.name))
    )
    files = sorted(renamed_folder.iterdir(), key=lambda file: file.name == MODEL)
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    renamed_folder.rmdir()
    return size
