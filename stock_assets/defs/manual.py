"""What was made without Dagster, told to Dagster."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import dagster as dg

from stock_assets.tables import declared


def report_materialization(home: Path, table: str, sessions: Sequence[date], *, rows: int, made_by: str) -> None:
    """Records in the instance of `home` that the partitions of `table` that hold `sessions` were made, by whom.

    Each is a materialization without a run: the asset's page shows it and a backfill finds nothing missing.
    """
    partitions = declared(table).partitions
    keys = [str(day) for day in sessions] if partitions != "model year" else sorted({str(day.year) for day in sessions})
    metadata = {"made_by": made_by, "rows_in_all": rows}
    with _instance_of(home) as instance:
        for key in keys if partitions else [None]:
            instance.report_runless_asset_event(dg.AssetMaterialization(table, partition=key, metadata=metadata))


@contextmanager
def _instance_of(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of `home`, whose dagster.yaml reads DAGSTER_HOME."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before
