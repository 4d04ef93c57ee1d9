"""Where the seconds of one session's run go: what each step reads, computes, writes and leaves to Dagster, in this
process, and beside it the least that they could take."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg

from benchmarks.backfill import OWNER, Stopwatch
from benchmarks.common import table, use
from stock_assets.definitions import build_definitions
from stock_assets.private.dagster import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    IMPLICIT_ASSET_JOB_NAME,
)
from stock_assets.settings import Settings
from stock_assets.storage.partitions import partition_column
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES

KINDS = ("source", "read", "compute", "describe", "write", "event log")


@contextmanager
def copy_of(config: Settings) -> Iterator[Settings]:
    """The store as it is now, in a folder of its own; the environment names the first one again afterwards."""
    with tempfile.TemporaryDirectory(dir=config.data_dir.parent) as folder:
        yield use(shutil.copytree(config.data_dir, Path(folder, "copy")))
    use(config.data_dir)


def split(config: Settings, assets: Sequence[str], session: date) -> str:
    """Makes `assets` of `session` in one run in this process: a table of its steps, and of what they move."""
    definitions, watch, read_bytes = build_definitions(config), Stopwatch(), [0.0]
    repository = definitions.get_repository_def()
    keys = {dg.AssetKey(asset) for asset in assets}
    job = repository.get_maybe_subset_job_def(IMPLICIT_ASSET_JOB_NAME, asset_selection=keys)
    select = Warehouse._select

    def counted(self: Warehouse, *arguments: Any) -> Any:
        rows = select(self, *arguments)
        read_bytes[0] += rows.estimated_size()
        return rows

    day = str(session)
    with dg.DagsterInstance.get() as instance, patch.object(Warehouse, "_select", counted), watch.running(config):
        start = time.perf_counter()
        run = job.execute_in_process(
            instance=instance,
            tags={ASSET_PARTITION_RANGE_START_TAG: day, ASSET_PARTITION_RANGE_END_TAG: day},
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
        )
        seconds = time.perf_counter() - start
        steps = {step.step_key: step for step in instance.get_run_step_stats(run.run_id)}
    rows = []
    for name, step in sorted(steps.items(), key=lambda named_step: named_step[1].start_time or 0.0):
        parts = [watch.seconds[name, kind] for kind in KINDS]
        whole = (step.end_time or 0.0) - (step.start_time or 0.0)
        rows.append([name, *parts, max(0.0, whole - sum(parts)), whole])
    together = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
    outside = sum(watch.seconds[OWNER, kind] for kind in KINDS)
    least = _least(Warehouse(config.database), session, read_bytes[0])
    return (
        table(("step, s", *KINDS, "Dagster", "whole"), [*rows, ["together", *together]])
        + f"\nThe run took {seconds:.2f} s in this process: {seconds - together[-1]:.2f} s are outside the steps, "
        f"{outside:.2f} of them in the store and the event log. {least}\n"
    )


def _least(store: Warehouse, session: date, read_bytes: float) -> str:
    """What no store of these rows could do without, in a sentence."""
    import duckdb

    names = [declared_table.name for declared_table in TABLES.values() if partition_column(declared_table) == "session"]
    frames = [(name, store.read(name, session, session)) for name in names if session in store.sessions(name)]
    path = store.path.with_name(f"least-{os.getpid()}.duckdb")
    with duckdb.connect(path) as connection:
        for name, rows in frames:
            connection.register(f"rows_of_{name}", rows.to_arrow())
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM rows_of_{name} LIMIT 0")
        start = time.perf_counter()
        connection.execute("BEGIN")
        for name, _ in frames:
            connection.execute(f"INSERT INTO {name} SELECT * FROM rows_of_{name}")
        connection.execute("COMMIT")
        seconds = time.perf_counter() - start
    path.unlink()
    rows = sum(frame.height for _, frame in frames)
    return (
        f"The steps read {read_bytes / 1e6:,.0f} MB of columns; DuckDB's own insert of the {rows:,} rows of the "
        f"session in {len(frames)} tables takes {seconds:.3f} s."
    )
