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


def served_versions(store: Warehouse, registry: Registry, kept: Kept = DAYS) -> set[str]:
    """Every version that serves, served or may serve: of an alias, a base of its year, a champion or one that was
    replaced as such, or named by a prediction. Raises RegistryError where the registry does not answer."""
    trained = trained_versions(store, kept)
    bases = trained.group_by("model", "model_year").agg(pl.col("version").sort_by("trained_through", "version").first())
    served = {version for aliases in registry.aliases().values() for version in aliases.values()}
    champions = read_promotions(store).filter(pl.col("outcome") == "champion")
    served |= {*bases["version"], *champions["version"], *champions["replaced"].drop_nulls()}
    for table in (kept.predictions, "reference_predictions"):
        try:
            served |= set(store.read_sql(table, f"SELECT DISTINCT model_version FROM model.{table}")["model_version"])
        except MissingTableError:
            continue
    return served


def remove_losers(store: Warehouse, settings: Settings, registry: Registry, *, before: datetime) -> tuple[int, int]:
    """(number, bytes) of the saved models that are removed: of challengers that lost before and never served, and of
    those older than that which no row names, as a killed training or tidying leaves. Raises as `served_versions`."""
    promotions = read_promotions(store)
    lost = promotions.filter(pl.col("outcome") == "challenger", pl.col("decided_at") < before)
    again = promotions.filter(pl.col("decided_at") >= before)
    kept = kept_of(settings)
    losers = {*lost["version"]} - {*again["version"], *again["replaced"]} - served_versions(store, registry, kept)
    trained, span = (TRAINED, "model_year") if kept is DAYS else (tuple(kept.versions), "session")
    for table in trained:
        rows = store.read_or(declared(table).empty(), table)
        rows = rows.filter(pl.col("version").is_in(losers) & pl.col("artifact").is_not_null())
        if not rows.is_empty():
            unnamed = rows.with_columns(artifact=pl.lit(None, pl.String))
            store.replace_rows(table, rows.select(span, "model", "version"), unnamed)
    artifacts, tables = settings.artifacts, (*trained, REFERENCES) if kept is DAYS else trained
    if isinstance(artifacts, Path):
        removed = [_remove(folder) for folder in _unnamed(store, artifacts, before, tables=tables)]
    else:
        removed = [_remove_objects(found) for found in _unnamed_objects(store, artifacts, before, tables=tables)]
    return len(removed), sum(removed)


def _unnamed(store: Warehouse, artifacts: Path, before: datetime, *, tables: Sequence[str]) -> Iterator[Path]:
    """The folders of saved models of `tables` from before that no row names."""
    for table in tables:
        named = _named(store, table)
        for model in (artifacts / table).glob(f"*/*/{MODEL}"):
            folder, is_old = model.parent, model.stat().st_mtime < before.timestamp()
            if is_old and folder.relative_to(artifacts).as_posix() not in named:
                yield folder


def _unnamed_objects(
    store: Warehouse, artifacts: ObjectPath, before: datetime, *, tables: Sequence[str]
) -> Iterator[list[Found]]:
    """The objects of each saved model of `tables` in a bucket, none of which is from later, that no row names."""
    for table in tables:
        named = _named(store, table)
        of_version: dict[str, list[Found]] = {}
        for found in found_below(artifacts / table):
            version, separator, _file = name_below(found.place, artifacts).rpartition("/")
            if separator and version.count("/") == 2:  # a checkpoint lies one level higher
                of_version.setdefault(version, []).append(found)
        for version, objects in of_version.items():
            if version not in named and max(found.changed_at for found in objects) < before:
                yield objects


def _named(store: Warehouse, table: str) -> set[str]:
    rows = store.read_or(declared(table).empty(), table, columns=["artifact"])
    return set(rows["artifact"].drop_nulls())


def _remove_objects(objects: list[Found]) -> int:
    """The bytes of a saved model in a bucket that is removed: no reader finds it once its MODEL is gone, and what a
    killed removal leaves no row names."""
    for found in sorted(objects, key=lambda found: found.place.name != MODEL):
        delete(found.place)
    return sum(found.size for found in objects)


def _remove(folder: Path) -> int:
    """The bytes of a folder that is removed: whole as long as it has its name, and found again, by the file that goes
    last, should this process be killed."""
    aside = folder if folder.name.startswith(TEMPORARY) else folder.rename(folder.with_name(TEMPORARY + folder.name))
    files = sorted(aside.iterdir(), key=lambda file: file.name == MODEL)
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    aside.rmdir()
    return size
