"""The asset of the operations page: how the running platform does."""

from datetime import datetime, timedelta

import dagster as dg
import polars as pl

from stock_assets.defs.alerts import assets_of, partitions_of
from stock_assets.defs.tables import SIMULATED, Clock, picture, preview, table_asset
from stock_assets.lifecycle.materialize.operations import SESSIONS, OperationsData, read_operations, write_operations
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.overview import overview

#: How far back failed runs are listed, and how many at most: reading them must not take longer in bad times.
FAILURES, MOST_FAILURES = timedelta(days=30), 50


def operations_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset `operations`."""

    @table_asset(
        "operations",
        description=(
            f"How the platform does: the last {SESSIONS} predicted sessions, with the skill of each once its labels "
            "are known, and a self-contained HTML page with lag, alarms, models in service, drift, retraining and "
            "promotions." + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=["predictions", "labels", "daily_bars", "drift", "promotions", "orders"],
        kinds=("matplotlib",),
        order="last",
    )
    def operations(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        from stock_assets.evaluation import plots

        now = clock()
        paper = overview(warehouse, settings.paper_book).frames
        data = read_operations(warehouse, settings, failures(context.instance, now), now=now, paper=paper)
        figures = {"live_skill": plots.live_skill(data.skill)} if data.skill.height else {}
        if data.drift is not None and data.drift.height:
            figures["drift"] = plots.drift(data.drift)
        path = write_operations(warehouse, settings, data)
        pictures = {name: picture(png, name.replace("_", " ")) for name, png in figures.items()}
        return dg.MaterializeResult(
            metadata={"page": dg.MetadataValue.path(str(path)), **metadata_of(data), **pictures}
        )

    return operations


def metadata_of(data: OperationsData) -> dict[str, dg.MetadataValue | int | str]:
    """What the UI shows of the page without opening it."""
    failed_runs = data.tables["failures"]
    return {
        "dagster/row_count": data.sessions.height,
        "last_session": str(data.facts.last_session),
        "freshness": data.facts.freshness.reason,
        "sessions_behind": data.facts.freshness.sessions_behind,
        "failed_runs_30_days": 0 if failed_runs is None else failed_runs.height,
        "naive_baseline": str(data.facts.naive),
        "sessions": preview(data.sessions.reverse()),
        **{name: preview(table) for name, table in data.tables.items() if table is not None and table.height},
    }


def failures(instance: dg.DagsterInstance, now: datetime) -> pl.DataFrame:
    """at, what, partitions, run_id of the runs that failed in the last FAILURES, the newest first."""
    filter_of_failures = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=now - FAILURES)
    rows = [
        (
            record.create_timestamp,
            assets_of(record.dagster_run),
            partitions_of(record.dagster_run),
            record.dagster_run.run_id,
        )
        for record in instance.get_run_records(filter_of_failures, limit=MOST_FAILURES)
    ]
    schema = {"at": pl.Datetime("us", "UTC"), "what": pl.String, "partitions": pl.String, "run_id": pl.String}
    return pl.DataFrame(rows, schema, orient="row")
