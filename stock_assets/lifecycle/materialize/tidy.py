"""The step that removes what nobody needs any more, and gives its space back."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from stock_assets.errors import MissingTableError, StockAssetsError
from stock_assets.files import TEMPORARY
from stock_assets.lifecycle.materialize.champions import trained_versions
from stock_assets.lifecycle.materialize.kept import Kept, kept_of
from stock_assets.lifecycle.materialize.retired_models import remove_losers, served_versions
from stock_assets.lifecycle.retention import Removed, Retention
from stock_assets.market.calendar import calendar_of
from stock_assets.market.outcomes import without_old_reasons
from stock_assets.objects import Place, delete, found_below
from stock_assets.settings import Settings
from stock_assets.storage.changes import ALL_ROWS, Change
from stock_assets.storage.compaction import compact
from stock_assets.storage.dagster_files import DagsterFiles
from stock_assets.storage.lake import merge_files
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse


class Tidying(NamedTuple):
    """What went, by kind, and what could not be done, in words."""

    removed: list[Removed]
    failures: list[str]


def tidy(
    store: Warehouse, settings: Settings, registry: Registry, *, now: datetime, keep: Retention | None = None
) -> Tidying:
    """Removes what is older than `keep` at `now` (the defaults of `Retention` when None), folds in write-ahead logs
    and compacts the store where it pays. Twice is as good as once.

    It never removes rows of a table, the materialization of a partition, a version that serves or served with its saved
    model, or anything of a run that is under way. A part that cannot be done, because somebody holds the file or the
    disk is full, is left for the next time, and the others go on.
    """
    keep = keep or Retention()
    files = DagsterFiles(settings.dagster_home)
    moment = now.astimezone(UTC).replace(tzinfo=None)  # as Dagster's files have it

    def shards() -> tuple[int, int]:
        return files.remove_shards(ended_before=moment - keep.events, failed_before=moment - keep.events_of_failures)

    steps: dict[str, Callable[[], int | tuple[int, int]]] = {
        "write-ahead logs folded in": files.fold_in,
        "event files of runs": shards,
        "runs": lambda: files.remove_runs(moment - keep.runs),
        "old pictures and previews": lambda: files.thin_materializations(moment - keep.pictures),
        "old checks": lambda: files.remove_checks(moment - keep.checks),
        "files that steps and ticks printed": lambda: files.remove_printed(now - keep.printed),
        "Dagster's files written anew": files.shrink,
        "checkpoints of trainings": lambda: _remove_checkpoints(settings.artifacts, now - keep.checkpoints),
        "leftovers of killed publishers": lambda: _remove_leftovers(settings.published, now - keep.leftovers),
        "registered versions that never served": lambda: registry.remove(
            _never_served(store, registry, now - keep.unserved, model_tables=kept_of(settings))
        ),
        "saved models of challengers that lost": lambda: remove_losers(
            store, settings, registry, before=now - keep.unserved
        ),
        "reasons of fetch_outcomes": lambda: _fold_outcomes(store, settings, now - keep.reasons),
        "store compacted": lambda: _compacted(store),
    }
    removals, failures = [], []
    for kind, step in steps.items():
        try:
            count_and_bytes = step()
        except (StockAssetsError, sqlite3.OperationalError, OSError) as error:
            failures.append(f"{kind}: {error}")
            continue
        removals.append(Removed(kind, *(count_and_bytes if isinstance(count_and_bytes, tuple) else (count_and_bytes,))))
    return Tidying(removals, failures)


def _remove_checkpoints(artifacts: Place, before: datetime) -> tuple[int, int]:
    checkpoints = [file for file in found_below(artifacts) if file.place.name.startswith(".checkpoint-")]
    old = [checkpoint for checkpoint in checkpoints if checkpoint.changed_at < before]
    for checkpoint in old:
        delete(checkpoint.place)
    return len(old), sum(checkpoint.size for checkpoint in old)


def _remove_leftovers(publication_folder: Place, before: datetime) -> tuple[int, int]:
    """Files that were being written when their writer was killed: they never got the name that the ledger names. In a
    bucket there are none: a put that is cut off leaves nothing."""
    if not isinstance(publication_folder, Path):
        return 0, 0
    old = [file for file in publication_folder.rglob(f"{TEMPORARY}*") if file.stat().st_mtime < before.timestamp()]
    freed_bytes = sum(file.stat().st_size for file in old)
    for file in old:
        file.unlink(missing_ok=True)
    return len(old), freed_bytes


def _never_served(store: Warehouse, registry: Registry, before: datetime, *, model_tables: Kept) -> list[str]:
    """The versions that were registered before, and that nothing names but the table of trained models."""
    # one that no table of trained models has is an unfinished training's, or another market's
    removable = {*trained_versions(store, model_tables)["version"]} - served_versions(store, registry, model_tables)
    return sorted(name for name, at in registry.versions().items() if at < before and name in removable)


def _fold_outcomes(store: Warehouse, settings: Settings, before: datetime) -> int:
    try:
        stored_outcomes = store.read("fetch_outcomes")
    except MissingTableError:
        return 0
    folded_outcomes = without_old_reasons(stored_outcomes, before.date(), calendar_of(settings))
    if (fewer := stored_outcomes.height - folded_outcomes.height) > 0:
        store.write([Change("fetch_outcomes", folded_outcomes, ALL_ROWS)])
    return fewer


def _compacted(store: Warehouse) -> tuple[int, int]:
    if not store.exists():
        return 0, 0
    if store.lake is not None:
        with store.connect(read_only=False) as connection:
            return merge_files(connection), 0
    before, after = compact(store.path, store.wait)
    return int(after < before), before - after
