"""Which version serves: challengers judged against their champions, and the way back, as one action in the UI."""

from datetime import datetime, timedelta

import dagster as dg
import polars as pl
from pydantic import Field

from stock_assets.defs.tables import DUCKDB_POOL, SIMULATED, Clock, preview, table_asset
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.materialize.champions import read_promotions, record, rollback
from stock_assets.lifecycle.promotion import MARGIN, Promotion, judge, serving
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.materialize.inputs import inputs_for, usable_between
from stock_assets.model.materialize.versions import TRAINED, VERSION_COLUMNS, answers_of, registered, usable
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
    reason: str = Field(default="rolled back in the UI", description="why: kept in the table promotions")


def champion_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    calendar = calendar_of(settings)
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        "promotions",
        description=(
            "Who serves, and why: every version that was trained within a model year is judged once against the "
            "champion of its model, on the sessions after its cutoff whose labels are known, which neither has learned "
            f"from. It takes over where its log-loss is lower by {MARGIN:g} nats or more and the 95 % interval of the "
            "improvement lies above 0; else it stays a challenger. Rollbacks and aliases that a person moved in the "
            "model registry stand here too." + note
        ),
        deps=[*TRAINED, "predictions", "labels"],
        kinds=("mlflow",),
    )
    def promotions(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        decided = judge_challengers(context, warehouse, calendar, settings, clock())
        for note in record(warehouse, registry, decided):
            context.log.warning(note)
        history = read_promotions(warehouse)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": history.height,
                "judged_now": len(decided),
                "promoted_now": ", ".join(p.version for p in decided if p.outcome == "champion") or "none",
                "preview": preview(history.reverse().select("decided_at", "model", "version", "outcome", "reason")),
            }
        )

    return [promotions]


def judge_challengers(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    calendar: TradingCalendar,
    settings: Settings,
    now: datetime,
) -> list[Promotion]:
    """The verdict on the newest version of every model that was not judged yet, in the year of the next session."""
    last = warehouse.last_session("predictions")
    if last is None:
        raise StockAssetsError("there are no predictions yet, so nothing serves. Materialize predictions first.")
    session = calendar.shift(last, 1) or last
    history = read_promotions(warehouse)
    versions = pl.concat([warehouse.read(table, columns=VERSION_COLUMNS) for table in TRAINED])
    versions = registered(versions.filter(pl.col("model_year") == session.year)).sort("trained_through")
    pairs = []
    for (model,), of_model in versions.partition_by("model", as_dict=True, maintain_order=True).items():
        champion = serving(history, of_model, str(model), session)
        newest = of_model.row(-1, named=True)
        judged = history.filter(pl.col("version") == newest["version"]).height > 0
        # the base version of the year serves because the year has begun
        if of_model.height > 1 and newest["version"] != champion and not judged:
            pairs.append((of_model.row(by_predicate=pl.col("version") == champion, named=True), newest))
    if not pairs:
        return []
    first = min(newest["trained_through"] for _, newest in pairs)
    labels, _ = usable_between(warehouse, settings, first + timedelta(days=1))
    window = sorted(labels["session"].unique())
    decided = []
    known = inputs_for(warehouse, settings, window, "promotions") if window else None
    for champion, newest in pairs:
        days = [day for day in window if day > newest["trained_through"]]
        if known is None or not days:
            continue  # it is judged once labels after its cutoff are known
        rows = {}
        for row in (champion, newest):
            version = usable(row, days[0], known.pca_version)
            rows[row["version"]] = answers_of([version], settings, known, days)
        verdict = judge(rows[champion["version"]], rows[newest["version"]], labels, seed=settings.seed)
        context.log.info(f"{newest['version']} {verdict.reason}")
        decided.append(
            Promotion(
                newest["model"],
                newest["version"],
                session.year,
                session,
                now,
                "champion" if verdict.promote else "challenger",
                "judged",
                champion["version"],
                verdict.reason,
                verdict,
            )
        )
    return decided


def champion_jobs(settings: Settings) -> list[dg.JobDefinition]:
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
