"""`stock-assets backup`, `restore` and `verify`."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.materialize.backup import back_up as make_backup
from stock_assets.publication.materialize.verify import problems_of as published_problems
from stock_assets.settings import Settings
from stock_assets.storage.backup import SETTINGS, backups
from stock_assets.storage.restore import restore as put_back
from stock_assets.storage.verification import data_folder, problems_of

if TYPE_CHECKING:
    import dagster as dg

    from stock_assets.storage.warehouse import Warehouse


def back_up(settings: Settings, target: Path, *, keep: int, now: datetime, out: Console) -> None:
    """Makes a backup below `target` and says what it holds."""
    made = make_backup(settings, target, keep=keep, now=now)
    rows, tables, files = made.manifest.rows.values(), len(made.manifest.rows), len(made.manifest.files)
    _say(
        out,
        f"{made.folder} holds {sum(rows):,} rows in {tables} tables and {files:,} files, "
        f"{made.new_bytes / 1e6:.1f} MB of them new",
    )
    if registry := registry_elsewhere(settings):
        _say(out, f"not in it: the model registry {registry}, which is not in the data folder")


def registry_elsewhere(settings: Settings) -> str | None:
    """Where the model registry is, if a backup of the data folder leaves it out."""
    uri = settings.mlflow_uri
    if uri is None or uri.startswith(f"sqlite:///{settings.data_dir.absolute()}"):
        return None
    return uri.rpartition("@")[2]  # without a password


def restore(source: Path, target: Path, *, replace: bool, now: datetime, out: Console) -> None:
    """Puts a backup in the place of the data folder `target`, and says which."""
    occupied = target.exists() and any(target.iterdir())
    done = put_back(source, target.absolute(), replace=replace, now=now)
    _say(out, f"{target} is as it was at {done.manifest.made_at}, from {done.folder}")
    if occupied:
        _say(out, f"what was there before is beside it, as {target.name}.before-…; remove it once all is well")
    if done.manifest.settings:
        _say(out, f"the settings file of that moment is {done.folder / SETTINGS}; it was not put anywhere")


def verify(folder: Path, out: Console) -> None:
    """Opens everything in a data folder, a backup or the newest backup of a folder. Raises StockAssetsError with the
    number of problems, after each was printed."""
    if not (folder / "stock_assets.duckdb").exists() and (made := backups(folder)):
        folder = made[-1]
    problems = list(problems_of(folder))
    data = data_folder(folder)
    problems += published_problems(data)
    if data == folder:
        with suppress(StockAssetsError):  # a store that cannot be read is among the problems already
            problems += lost_rows(data)
    for problem in problems:
        _say(out, problem)
    if problems:
        raise StockAssetsError(f"{len(problems)} problem(s) in {folder}")
    _say(out, f"{folder} is sound")


def lost_rows(data: Path) -> Iterator[str]:
    """The assets and partitions of which Dagster remembers rows that the store does not hold, one line per asset."""
    home = data / "dagster"
    if not (home / "history").exists():
        return
    import dagster as dg

    from stock_assets.storage.warehouse import Warehouse
    from stock_assets.tables import TABLES

    store, before = Warehouse(data / "stock_assets.duckdb"), os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            counts, stored = store.row_counts(), stored_partitions(store)
            for name, table in TABLES.items():
                key = dg.AssetKey(name)
                if table.partitions is None:
                    event = instance.get_latest_materialization_event(key)
                    made = event.asset_materialization if event else None
                    if made and _rows(made) and not counts.get(name):
                        yield f"{name}: Dagster remembers {_rows(made)} rows, and the store holds none; materialize it"
                    continue
                remembered = instance.get_materialized_partitions(key)
                lost = [day for day in sorted(remembered - stored[name]) if _rows_remembered(instance, key, day)]
                if lost:
                    span = lost[0] if len(lost) == 1 else f"{lost[0]} to {lost[-1]}"
                    yield (
                        f"{name}: Dagster remembers rows of {len(lost)} {table.partitions}(s), {span}, which the store "
                        f"does not hold; materialize {name} again for them"
                    )
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def stored_partitions(store: "Warehouse") -> dict[str, set[str]]:
    """The partitions of which each table holds rows, as Dagster spells them."""
    from stock_assets.tables import TABLES

    statements = {
        name: f"SELECT DISTINCT {'model_year' if table.partitions == 'model year' else 'session'} FROM {name}"
        for name, table in TABLES.items()
        if table.partitions
    }
    answers = store.read_each(statements)
    return {
        name: set() if rows is None else set(map(str, rows.to_series().to_list())) for name, rows in answers.items()
    }


def _rows_remembered(instance: "dg.DagsterInstance", key: "dg.AssetKey", partition: str) -> bool:
    """Whether the last materialization of the partition had rows; a young market makes some sessions without any."""
    import dagster as dg

    of_partition = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    records = instance.fetch_materializations(of_partition, limit=1).records
    return any(made is not None and _rows(made) for made in (record.asset_materialization for record in records))


def _rows(made: "dg.AssetMaterialization") -> int:
    """The rows that a materialization says it made; one for what says nothing."""
    rows = made.metadata.get("dagster/partition_row_count") or made.metadata.get("dagster/row_count")
    return int(str(rows.value)) if rows else 1


def _say(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
