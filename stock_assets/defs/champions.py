"""The asset of promotions, and the rollback and `republish` as jobs that the UI starts."""

from collections.abc import Callable, Sequence
from typing import Literal

import dagster as dg
from pydantic import Field

from stock_assets.defs.tables import DUCKDB_POOL, SIMULATED, Clock, job_of, preview, table_asset
from stock_assets.escape import one_line
from stock_assets.lifecycle.champions import MARGIN
from stock_assets.lifecycle.materialize.champions import JudgedChallengers, judge_challengers, read_promotions, rollback
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.versions import TRAINED
from stock_assets.publication.materialize.republish import republish
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse


class RollbackConfig(dg.Config):
    """Which model goes back, and to what; shown in the launchpad."""

    model: str = Field(description="the model that goes back, such as rnn or ensemble")
    version: str | None = Field(
        default=None,
        description="the version to go back to; the one that served before when left out",
    )
    reason: str = Field(default="rolled back in the UI", description="why; kept in the table promotions")


class RepublishConfig(dg.Config):
    """Which decision is brought forward; shown in the launchpad."""

    model: str | None = Field(default=None, description="the model whose decision it is about; every one when left out")


#: Makes the verdicts that are due.
Judge = Callable[..., JudgedChallengers]
_COMPARED = (
    "Which versions became champion, and why. Every version that was trained within a model year is judged "
    "once against the champion of its model, on the sessions after its cutoff whose labels are known."
)


def promotions_asset(
    settings: Settings,
    *,
    deps: Sequence[str] = (*TRAINED, "predictions", "labels"),
    judge: Judge = judge_challengers,
    compared: str = _COMPARED,
    order: Literal["as ready", "beside"] = "as ready",
) -> dg.AssetsDefinition:
    """The asset `promotions`: of a day, unless `judge` makes the verdicts of another market, with what is `compared`
    in words."""

    @table_asset(
        "promotions",
        description=(
            f"{compared} Neither was trained on them. It replaces the champion where its log-loss is lower by "
            f"{MARGIN:g} nats or more and the 95 % interval of the improvement lies above 0; else it stays challenger. "
            "The table also holds every rollback, and every alias that a person moved in the model registry."
            + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=deps,
        order=order,
        kinds=("mlflow",),
    )
    def promotions(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        verdicts = judge(warehouse, settings, registry, now=clock())
        for message in verdicts.messages:
            context.log.info(one_line(message))
        history = read_promotions(warehouse)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": history.height,
                "judged_now": len(verdicts.promotions),
                "promoted_now": ", ".join(p.version for p in verdicts.promotions if p.outcome == "champion") or "none",
                "preview": preview(history.reverse().select("decided_at", "model", "version", "outcome", "reason")),
            }
        )

    return promotions


def rollback_job(settings: Settings) -> dg.JobDefinition:
    """The job `rollback`."""
    calendar = calendar_of(settings)

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
        clock: dg.ResourceParam[Clock],
    ) -> None:
        choice = {"model": config.model, "to": config.version, "reason": config.reason}
        promotion, messages = rollback(warehouse, registry, calendar, now=clock(), **choice)  # pyright: ignore[reportArgumentType]
        for message in messages:
            context.log.warning(one_line(message))
        context.log.info(f"{promotion.version} is the champion of {promotion.model} from {promotion.serves_from} on")
        context.add_output_metadata(
            {
                "model": promotion.model,
                "champion": promotion.version,
                "replaced": promotion.replaced or "",
                "serves_from": str(promotion.serves_from),
                "reason": promotion.reason,
            }
        )

    return job_of(
        set_champion,
        "rollback",
        description=(
            "Makes the version that served before a model's champion its champion again, or any other version of the "
            "running model year. It serves from the first session without predictions on; existing predictions stay, "
            "unless the job `republish` follows. "
            "In the launchpad, under `ops: set_champion: config:`, name the `model` and, if need be, `version` and "
            "`reason`. The same from a shell: `stock-assets rollback MODEL`."
        ),
    )


def republish_job(settings: Settings) -> dg.JobDefinition:
    """The job `republish`."""

    @dg.op(
        name="serve_newest_session",
        description="Predicts the newest predicted session by the version that serves now, and publishes it.",
        pool=DUCKDB_POOL,
    )
    def serve_newest_session(
        context: dg.OpExecutionContext,
        config: RepublishConfig,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        republication = republish(warehouse, settings, registry, now=clock(), model=config.model)
        for note in republication.again.notes:
            context.log.info(one_line(note))
        context.log.info(one_line(republication.text))
        details = {"reason": one_line(republication.text), "entry": republication.published.pointer.entry}
        assets = [*(["predictions"] if republication.again.predictions else []), "publication"]
        for asset in assets:
            context.log_event(
                dg.AssetMaterialization(asset, partition=str(republication.again.session), metadata=details)
            )

    return job_of(
        serve_newest_session,
        "republish",
        description=(
            "Has the version under the alias `champion` of the model registry, or the one that a rollback chose, serve "
            "at once: it predicts the newest predicted session again and publishes it beside what was published "
            "before. Sessions before it keep the versions that predicted them. A version that was trained through the "
            "session is refused. The same from a shell: `stock-assets republish`."
        ),
    )
