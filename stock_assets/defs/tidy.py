"""The job that tidies up once a day."""

import dagster as dg

from stock_assets.defs.tables import DUCKDB_POOL, Clock, job_of
from stock_assets.lifecycle.materialize.tidy import tidy
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse

#: When: at night, in UTC; a machine that was off then tidies up a day later.
CRON = "30 3 * * *"


def tidy_job(settings: Settings) -> dg.JobDefinition:
    """The job `tidy`."""

    @dg.op(
        name="remove_what_is_old",
        description="Removes what is old, folds in write-ahead logs and compacts the store; reports all of it.",
        pool=DUCKDB_POOL,
    )
    def remove_what_is_old(
        context: dg.OpExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        tidying = tidy(warehouse, settings, registry, now=clock())
        for removal in tidying.removed:
            context.log.info(str(removal))
        for message in tidying.failures:
            context.log.warning(f"left for the next time: {message}")
        context.add_output_metadata({removal.kind: removal.count for removal in tidying.removed})

    return job_of(
        remove_what_is_old,
        "tidy",
        description=(
            "Removes the events of old runs, old pictures, checks, printed lines and checkpoints, and what the model "
            "registry keeps of versions that never served; folds in what was written ahead; compacts the store when a "
            "quarter of it is free. It runs every night; by hand: `stock-assets tidy`. docs/operations.md says how "
            "long what is kept."
        ),
    )


def tidy_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """The schedule of the job, on by default."""
    return dg.ScheduleDefinition(
        name="nightly_tidy",
        job=job,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Tidies up every night, when no market's evening is under way.",
    )
