"""The model group: networks and baselines per model year, and what they predict per trading day."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from stock_assets.defs import checks
from stock_assets.defs.partitions import LEARNS_FROM_THE_YEAR_BEFORE, model_years, predicted_days
from stock_assets.defs.tables import SIMULATED, Clock, chosen_sessions, picture, preview, report_sessions, table_asset
from stock_assets.features.materialize import feature_tables
from stock_assets.frames import improper
from stock_assets.lifecycle.materialize.serving import serving_versions
from stock_assets.market.calendar import calendar_of
from stock_assets.model.cutoffs import cutoffs_of
from stock_assets.model.materialize.ensemble import WEIGHED_YEARS, weigh_ensembles
from stock_assets.model.materialize.predict import Predictions, make_predictions, make_reference_predictions
from stock_assets.model.materialize.train import Tracking, TrainedModels, train_models
from stock_assets.model.registry import IN_SERVICE, described, models_into
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

PREDICTION_CHECKS = {
    "probabilities": "p_sell, p_hold and p_buy are finite, not negative, and sum to 1",
    "cutoff_before_session": "every row comes from a model trained through an earlier session",
}


def learns_from(settings: Settings) -> list[dg.AssetDep]:
    """What every model learns from: all model years before its own."""
    tables = ["pca_components", *feature_tables(settings), "labels", "daily_bars"]
    return [dg.AssetDep(table, partition_mapping=LEARNS_FROM_THE_YEAR_BEFORE) for table in tables]


class TrainingConfig(dg.Config):
    """Through which session to learn; shown in the launchpad."""

    cutoff: str | None = Field(
        default=None,
        description=(
            "the last session to learn from, YYYY-MM-DD, for a retraining within one model year: it adds a version "
            "beside the first one; unset: the last session before the year"
        ),
    )


def model_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the room, in flow order."""
    return [
        trained_rnn_asset(settings),
        trained_baselines_asset(settings),
        trained_references_asset(settings),
        trained_ensemble_asset(settings),
        predictions_asset(settings),
        reference_predictions_asset(settings),
    ]


def model_asset(
    settings: Settings, table: str, *, description: str, **options: Any
) -> Callable[[Callable[..., object]], dg.AssetsDefinition]:
    """`table_asset` with the partitions of `table`, and a note where prices are simulated."""
    by_year = declared(table).partitions == "model year"
    note = SIMULATED if settings.source == "simulated" else ""
    partitions = model_years(settings) if by_year else predicted_days(settings)
    return table_asset(table, description=description + note, partitions=partitions, **options)


def trained_models_asset(settings: Settings, table: str, *, text: str, **options: Any) -> dg.AssetsDefinition:
    """The asset that trains the models whose versions are rows of `table`."""

    @model_asset(
        settings,
        table,
        description=f"{text} {described(models_into(table).values())}.",
        deps=learns_from(settings),
        **options,
    )
    def trained_models(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        return train(context, settings, warehouse, registry=registry, clock=clock, cutoff=config.cutoff)

    return trained_models


def trained_rnn_asset(settings: Settings) -> dg.AssetsDefinition:
    """The networks that may serve."""
    text = (
        "The recurrent networks that serve a model year, trained on labels fully known by the last session of the year "
        "before."
    )
    return trained_models_asset(settings, "trained_rnn", text=text, kinds=("pytorch",))


def trained_baselines_asset(settings: Settings) -> dg.AssetsDefinition:
    """The models that a network has to beat."""
    text = "What a network has to beat, trained on the same labels through the same cutoff."
    return trained_models_asset(settings, "trained_baselines", text=text, kinds=("scikitlearn",))


def trained_references_asset(settings: Settings) -> dg.AssetsDefinition:
    """The models that never serve."""
    text = (
        "Models that never serve, trained on the same labels through the same cutoff: the report and the leakage audit "
        "compare the others with them."
    )
    kinds = ("pytorch", "scikitlearn")
    return trained_models_asset(settings, "trained_references", text=text, kinds=kinds, order="last")


def trained_ensemble_asset(settings: Settings) -> dg.AssetsDefinition:
    """The weights of the average of models."""

    @model_asset(
        settings,
        "trained_ensemble",
        description=(
            "The average of models that serves a model year: the weights that would have had the smallest log-loss in "
            f"the (at most {WEIGHED_YEARS}) model years before it, walk-forward, each judged by the models that served "
            f"it. Where no earlier model year is there, `{IN_SERVICE}` alone."
        ),
        deps=["trained_rnn", "trained_baselines", *learns_from(settings)],
    )
    def trained_ensemble(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
    ) -> dg.MaterializeResult:
        years = chosen_years(context)
        ensemble_weights = weigh_ensembles(warehouse, settings, years, registry=registry)
        log_notes(context, ensemble_weights.notes)
        for year in years:
            members = ensemble_weights.rows.filter((pl.col("model_year") == year) & (pl.col("weight") > 0))
            weights = dict(members.select("member", "weight").iter_rows())
            context.add_asset_metadata({"weights": weights}, partition_key=str(year))
        context.add_asset_metadata({"preview": preview(ensemble_weights.rows)}, partition_key=str(years[-1]))
        return dg.MaterializeResult()

    return trained_ensemble


def predictions_asset(settings: Settings) -> dg.AssetsDefinition:
    """What the models that serve predict."""

    @model_asset(
        settings,
        "predictions",
        description=(
            "Probabilities of sell, hold and buy for every trusted member on every session, from each model of the "
            "session's year that may serve, and from their ensemble. A model trained through the session or later is "
            "refused, with both dates."
        ),
        deps=[
            *feature_tables(settings),
            "pca_components",
            "trained_rnn",
            "trained_baselines",
            "trained_ensemble",
            "daily_bars",
        ],
        checks=checks.specs("predictions", PREDICTION_CHECKS),
        kinds=("pytorch",),
    )
    def predictions(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions, now = chosen_sessions(context), clock()
        new_predictions = make_predictions(
            warehouse,
            settings,
            sessions,
            assign=lambda pca: serving_versions(warehouse, registry, sessions, pca_version=pca, now=now),
        )
        return report_predictions(context, "predictions", new_predictions)

    return predictions


def reference_predictions_asset(settings: Settings) -> dg.AssetsDefinition:
    """What the models that never serve would have predicted."""

    @model_asset(
        settings,
        "reference_predictions",
        description=(
            "Probabilities of sell, hold and buy from the models of `trained_references`, for the report and the "
            "leakage audit: made when these are, not every evening. Each session is predicted by the first version of "
            "its year."
        ),
        deps=[*feature_tables(settings), "pca_components", "trained_references", "daily_bars"],
        checks=checks.specs("reference_predictions", PREDICTION_CHECKS),
        kinds=("pytorch", "scikitlearn"),
        order="last",
    )
    def reference_predictions(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        predictions = make_reference_predictions(warehouse, settings, chosen_sessions(context))
        return report_predictions(context, "reference_predictions", predictions)

    return reference_predictions


def chosen_years(context: dg.AssetExecutionContext) -> list[int]:
    """The model years of this run's partitions, ascending."""
    return sorted(map(int, context.partition_keys))


def log_notes(context: dg.AssetExecutionContext, notes: list[str]) -> None:
    """Each of a step's sentences as a line in the log of the run."""
    for note in notes:
        context.log.info(note)


def train(
    context: dg.AssetExecutionContext,
    settings: Settings,
    warehouse: Warehouse,
    *,
    registry: Registry,
    clock: Clock,
    cutoff: str | None = None,
) -> dg.MaterializeResult:
    """Trains the models of the asset's own table, and shows their rows and learning curves."""
    from stock_assets.evaluation import plots

    table = context.asset_key.to_user_string()
    cutoffs = cutoffs_of(calendar_of(settings), chosen_years(context), cutoff)
    trained_models = train_models(
        warehouse,
        settings,
        cutoffs,
        table=table,
        tracking=Tracking(registry, plots.learning_curve),
        now=clock(),
        say=context.log.info,
    )
    for year, through in cutoffs.items():
        metadata = training_metadata(trained_models, year) | {"trained_through": str(through)}
        context.add_asset_metadata(metadata, partition_key=str(year))
    pictures = {
        f"learning_curve_{model}": picture(plots.learning_curve(*curve), f"learning curve of {model}")
        for model, curve in trained_models.curves.items()
    }
    context.add_asset_metadata({"preview": preview(trained_models.rows), **pictures}, partition_key=str(max(cutoffs)))
    return dg.MaterializeResult()


def training_metadata(trained_models: TrainedModels, year: int) -> dict[str, dg.MetadataValue | str | int]:
    """What the UI shows of one model year."""
    return {
        "models": trained_models.rows.filter(pl.col("model_year") == year).height,
        "context_columns": ", ".join(trained_models.context_columns) or "none",
        "labels_left_out": dg.MetadataValue.json(dict(trained_models.labels_left_out[year])),
    }


def report_predictions(context: dg.AssetExecutionContext, table: str, predictions: Predictions) -> dg.MaterializeResult:
    """The rows per session, the checks, and what was left out."""
    log_notes(context, predictions.notes)
    metadata: Mapping[str, dg.MetadataValue] = {"rows_left_out": dg.MetadataValue.json(predictions.left_out)}
    results = prediction_results(table, predictions.rows)
    return report_sessions(context, predictions.rows, chosen_sessions(context), checks=results, about_last=metadata)


def prediction_results(table: str, rows: pl.DataFrame) -> list[dg.AssetCheckResult]:
    """All of `PREDICTION_CHECKS` on the rows just written."""
    shown_columns = ["model", "ticker", "session", "p_sell", "p_hold", "p_buy", "trained_through"]
    late_predictions = rows.filter(pl.col("trained_through") >= pl.col("session"))
    return [
        checks.result(table, "probabilities", improper(rows).select(shown_columns), blocking=True),
        checks.result(table, "cutoff_before_session", late_predictions.select(shown_columns), blocking=True),
    ]
