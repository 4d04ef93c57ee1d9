"""Going back to an earlier champion, as one action in the UI."""

from collections.abc import Callable
from datetime import datetime

import dagster as dg
from pydantic import Field

from stock_assets.defs.tables import DUCKDB_POOL
from stock_assets.settings import Settings
from stock_assets.storage.champions import rollback
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse


class RollbackConfig(dg.Config):
    """Which model goes back, and to what; shown in the launchpad."""

    model: str = Field(description="the model that goes back, such as rnn or ensemble")
    version: str | None = Field(
        default=None,
        description="the version to go back to; the one that served before when left out",
    )
    reason: str = Field(default="rolled back in the UI", description="why: kept in the table promotions")


def champion_jobs(settings: Settings) -> list[dg.JobDefinition]:
    calendar = settings.calendar

    @dg.op(
        name="set_champion",
        description="Adds a row to the table promotions, then sets the aliases of the model registry.",
        pool=DUCKDB_POOL,
    )
    def set_champion(
        context: dg.OpExecutionContext,
        config: RollbackConfig,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Callable[[], datetime]],
    ) -> None:
        done, notes = rollback(warehouse, registry, calendar, config.model, config.version, clock(), config.reason)
        for note in notes:
            context.log.warning(note)
        context.log.info(f"{done.version} is the champion of {done.model} from {done.serves_from} on")
        context.add_output_metadata(
            {
                "model": done.model,
                "champion": done.version,
                "replaced": done.replaced or "",
                "serves_from": str(done.serves_from),
                "reason": done.reason,
            }
        )

    @dg.job(
        name="rollback",
        description=(
            "Makes the version that served before a model's champion its champion again, or any other version of the "
            "running model year. It serves from the first session without predictions on; those that are there stay. "
            "In the launchpad, under `ops: set_champion: config:`, name the `model` and, if need be, `version` and "
            "`reason`. The same from a shell: `stock-assets rollback MODEL`."
        ),
    )
    def rollback_job() -> None:
        set_champion()

    return [rollback_job]
