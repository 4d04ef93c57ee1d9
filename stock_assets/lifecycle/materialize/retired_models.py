"""Saved models that nobody can need any more: those of challengers that lost long ago, and those that no row names.

A loser's row stays in its table, as the history of the trainings; it stops naming the folder, in a transaction, and
only what no row names is removed. A kill in between leaves a folder for the next night, and never a row without one.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.files import TEMPORARY
from stock_assets.lifecycle.materialize.champions import read_promotions, trained_versions
from stock_assets.model.materialize.versions import REFERENCES, TRAINED
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import MODEL
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared


def served_versions(store: Warehouse, registry: Registry) -> set[str]:
    """Every version that serves, served or may serve: of an alias, a base of its year, a champion or one that was
    replaced as such, or named by a prediction. Raises RegistryError where the registry does not answer."""
    trained = trained_versions(store)
    bases = trained.group_by("model", "model_year").agg(pl.col("version").sort_by("trained_through", "version").first())
    served = {version for aliases in registry.aliases().values() for version in aliases.values()}
    champions = read_promotions(store).filter(pl.col("outcome") == "champion")
    served |= {*bases["version"], *champions["version"], *champions["replaced"].drop_nulls()}
    for table in ("predictions", "reference_predictions"):
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
    losers = {*lost["version"]} - {*again["version"], *again["replaced"]} - served_versions(store, registry)
    for table in TRAINED:
        rows = store.read_or(declared(table).empty(), table)
        rows = rows.filter(pl.col("version").is_in(losers) & pl.col("artifact").is_not_null())
        if not rows.is_empty():
            unnamed = rows.with_columns(artifact=pl.lit(None, pl.String))
            store.replace_rows(table, rows.select("model_year", "model", "version"), unnamed)
    removed = [_remove(folder) for folder in _unnamed(store, settings.artifacts, before)]
    return len(removed), sum(removed)


def _unnamed(store: Warehouse, artifacts: Path, before: datetime) -> Iterator[Path]:
    """The folders of saved models from before that no row names."""
    for table in (*TRAINED, REFERENCES):
        rows = store.read_or(declared(table).empty(), table, columns=["artifact"])
        named = set(rows["artifact"].drop_nulls())
        for model in (artifacts / table).glob(f"*/*/{MODEL}"):
            folder, is_old = model.parent, model.stat().st_mtime < before.timestamp()
            if is_old and folder.relative_to(artifacts).as_posix() not in named:
                yield folder


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
