"""The model group: networks and baselines per model year, and what they predict per trading day."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
from pydantic import Field

from stock_assets.defs import checks
from stock_assets.defs.market import SIMULATED, Clock
from stock_assets.defs.partitions import LEARNS_FROM_THE_YEAR_BEFORE, model_years, predicted_days
from stock_assets.defs.tables import chosen_sessions, picture, preview, report_sessions, table_asset
from stock_assets.errors import CutoffError
from stock_assets.features.market_context import MARKET_CONTEXT
from stock_assets.features.stationary import FIRST_BAR
from stock_assets.lifecycle.materialize.champions import champions_of, follow_aliases
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import MADE_BEFORE_MODELS, Learnable, inputs_for, usable_between
from stock_assets.model.materialize.versions import (
    ENSEMBLE,
    TRAINED,
    answers_of,
    base_versions,
    by_year,
    ensemble,
    save,
    serving_weights,
)
from stock_assets.model.progress import Progress, Say, side_by_side
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.registry import Registry, Training, read_code_version
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

if TYPE_CHECKING:
    from stock_assets.model.recipes import Recipe

PREDICTION_CHECKS = {
    "probabilities": "p_sell, p_hold and p_buy are finite, not negative, and sum to 1",
    "cutoff_before_session": "every row comes from a model trained through an earlier session",
}

#: The ensemble's weights are chosen on what its members said in so many model years before, each that far apart:
#: neighbouring sessions share six of their seven days.
WEIGHED_YEARS, WEIGHED_EVERY = 3, 7
#: The whole ensemble of a first model year, before which no model has served.
ALONE = "rnn"


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
    calendar = calendar_of(settings)
    years = model_years(settings)
    note = SIMULATED if settings.source == "simulated" else ""
    learns_from = [
        dg.AssetDep(table, partition_mapping=LEARNS_FROM_THE_YEAR_BEFORE)
        for table in ("pca_components", "stationary_features", "labels", "daily_bars")
    ]

    def cutoff_of(year: int) -> date:
        """The last session before the year: what is known later must not have trained its model."""
        return calendar.before(date(year, 1, 1), 1)[0]

    def cutoff_within(year: int, wanted: str) -> date:
        """The chosen cutoff of a retraining. Raises CutoffError unless it lies within the model year."""
        try:
            cutoff = date.fromisoformat(wanted)
        except ValueError:
            raise CutoffError(f"cutoff {wanted!r} of model year {year} is no date; expected YYYY-MM-DD") from None
        first, last = cutoff_of(year), calendar.between(date(year, 1, 1), date(year, 12, 31))[-1]
        if not first < cutoff < last or not calendar.is_session(cutoff):
            raise CutoffError(
                f"cutoff {cutoff} of model year {year}; expected a session after {first}, the cutoff of its first "
                f"version, and before {last}, the last session that it serves"
            )
        return cutoff

    def known_by(warehouse: Warehouse, cutoff: date, needed_by: str) -> Learnable:
        """Everything there is to learn from for cutoffs up to `cutoff`."""
        sessions = calendar.between(calendar.sessions[0], cutoff)
        why = f"every session up to the cutoff {cutoff}"
        warehouse.require(MADE_BEFORE_MODELS, sessions[FIRST_BAR - 1 :], needed_by, why)
        warehouse.require(["labels"], sessions[: -settings.horizon], needed_by, why)
        return Learnable(warehouse, settings, sessions[0], cutoff)

    def train_all(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        warehouse: Warehouse,
        registry: Registry,
        now: datetime,
        table: str,
        recipes: dict[str, "Recipe"],
    ) -> tuple[pl.DataFrame, dict[str, list[dict[str, Any]]]]:
        """(the rows of `table`, the epochs of each network) of every recipe and model year of the run.

        A network that was cut off goes on from its last epoch; those that were done are done. Only once the rows are
        written are the checkpoints removed.
        """
        from stock_assets.model.recipes import Lesson
        from stock_assets.storage.artifacts import CheckpointFile

        wanted = sorted(map(int, context.partition_keys))
        cutoffs = {year: cutoff_within(year, config.cutoff) if config.cutoff else cutoff_of(year) for year in wanted}
        known = known_by(warehouse, cutoffs[wanted[-1]], table)
        code = read_code_version(PROJECT_DIR)
        # read before the threads start, which would each read them
        _ = known.features, known.known_labels
        left_out: dict[int, dict[str, int]] = {}
        curves: dict[str, list[dict[str, Any]]] = {}
        checkpoints = []
        trainings: list[tuple[dict[str, Any], Any, list[dict[str, Any]]]] = []

        def job(year: int, model: str, recipe: "Recipe", labels: pl.DataFrame) -> Callable[[Say], dict[str, Any]]:
            name = f".checkpoint-{model}-{cutoffs[year]}"
            checkpoint = CheckpointFile(settings.artifacts / table / str(year) / name)
            checkpoints.append(checkpoint)

            def run(say: Say) -> dict[str, Any]:
                hear = Progress(f"{year} {model}", say)
                lesson = Lesson(
                    known,  # pyright: ignore[reportArgumentType]: its properties are cached
                    labels,
                    cutoffs[year],
                    settings.seed,
                    settings.horizon,
                    hear,
                    checkpoint,
                )
                trained = recipe.train(lesson)
                version, folder = save(settings, table, year, model, recipe, trained, known)
                row = {
                    "model_year": year,
                    "model": model,
                    "version": version,
                    "trained_through": trained.cutoff,
                    "trained_at": now,
                    "training_rows": labels.height,
                    "pca_version": known.pca_version,
                    "artifact": folder,
                }
                curve: list[dict[str, Any]] = []
                if hasattr(trained, "curve"):
                    row |= {
                        "best_epoch": trained.best_epoch,
                        "validation_accuracy": trained.validation_accuracy,
                        "validation_log_loss": trained.validation_log_loss,
                    }
                    curve = [asdict(epoch) for epoch in trained.curve]
                    curves.setdefault(model, []).extend({"model_year": year, **epoch} for epoch in curve)
                trainings.append((row, trained, curve))
                return row

            return run

        jobs = []
        for year in wanted:
            labels, left_out[year] = known.labels_at(cutoffs[year])
            jobs += [job(year, model, recipe, labels) for model, recipe in recipes.items()]
        # the longest first, which are the last ones of the latest year, so that no core waits for one at the end
        rows = side_by_side(jobs[::-1], context.log.info)[::-1]
        frame = pl.DataFrame(rows).select(declared(table).names)
        # before the rows: a version that serves is one that was tracked
        for row, trained, curve in trainings:
            registry.track(training_of(settings, row, trained, curve, code))
        warehouse.replace_rows(table, frame.select("model_year", "trained_through").unique(), frame)
        for checkpoint in checkpoints:
            checkpoint.clear()
        for year in wanted:
            of_year = frame.filter(pl.col("model_year") == year)
            shown = {"models": of_year.height, "trained_through": str(cutoffs[year])}
            shown["context_columns"] = ", ".join(c for c in known.features.columns if c in MARKET_CONTEXT) or "none"
            context.add_asset_metadata({**shown, "labels_left_out": left_out[year]}, partition_key=str(year))
        context.add_asset_metadata({"preview": preview(frame)}, partition_key=str(wanted[-1]))
        return frame, curves

    @table_asset(
        "trained_rnn",
        description=(
            "The recurrent networks that serve a model year, trained on labels fully known by the last session of the "
            "year before. `rnn` forecasts the volatility of the horizon and a direction from the stationary features, "
            "and maps them to the barriers; `rnn_classifier` reads the classes off the principal components; `deepar` "
            "is the reference study's network, which also reads the newest label that is known." + note
        ),
        deps=learns_from,
        partitions=years,
        kinds=("pytorch",),
    )
    def trained_rnn(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        from stock_assets.model.recipes import NETWORKS

        frame, curves = train_all(context, config, warehouse, registry, clock(), "trained_rnn", NETWORKS)
        pictures = {
            f"learning_curve_{model}": picture(curve_picture(model, epochs), f"learning curve of {model}")
            for model, epochs in curves.items()
        }
        context.add_asset_metadata(pictures, partition_key=str(frame["model_year"].max()))
        return dg.MaterializeResult()

    @table_asset(
        "trained_baselines",
        description=(
            "What any network has to beat: the priors of the classes and of each ticker, persistence of the newest "
            "known label, logistic regression, a support vector machine and a perceptron on the principal components, "
            "boosted trees on the stationary features. Trained on the same labels, through the same cutoff." + note
        ),
        deps=learns_from,
        partitions=years,
        kinds=("scikitlearn",),
    )
    def trained_baselines(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        from stock_assets.model.recipes import BASELINES

        train_all(context, config, warehouse, registry, clock(), "trained_baselines", BASELINES)
        return dg.MaterializeResult()

    @table_asset(
        "trained_ensemble",
        description=(
            "The average of models that serves a model year: the weights that would have had the smallest log-loss in "
            f"the (at most {WEIGHED_YEARS}) model years before it, walk-forward, each judged by the models that served "
            "it. Where no earlier model year is there, `rnn` alone." + note
        ),
        deps=["trained_rnn", "trained_baselines", *learns_from],
        partitions=years,
        kinds=("polars",),
    )
    def trained_ensemble(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
    ) -> dg.MaterializeResult:
        wanted = sorted(map(int, context.partition_keys))
        trained = [set(warehouse.read(table)["model_year"]) for table in TRAINED]
        judged: dict[int, pl.DataFrame] = {}
        rows = []
        for year in wanted:
            earlier = [y for y in range(year - WEIGHED_YEARS, year) if all(y in years for years in trained)]
            for y in earlier:
                if y not in judged:
                    judged[y] = judge_year(warehouse, y)
            rows += weigh(year, cutoff_of(year), [judged[y] for y in earlier])
        frame = pl.DataFrame(rows, schema_overrides={"log_loss": pl.Float64, "rows": pl.Int64})
        frame = frame.select(declared("trained_ensemble").names)
        code = read_code_version(PROJECT_DIR)
        for (year,), of_year in frame.partition_by("model_year", as_dict=True, maintain_order=True).items():
            version, cutoff = of_year["version"][0], of_year["trained_through"][0]
            weights = {f"weight/{member}": weight for member, weight in of_year.select("member", "weight").rows()}
            registry.track(Training(ENSEMBLE, version, int(str(year)), cutoff, weights, {}, code))
        warehouse.replace_rows("trained_ensemble", frame.select("model_year").unique(), frame)
        for year in wanted:
            of_year = frame.filter((pl.col("model_year") == year) & (pl.col("weight") > 0))
            weights = dict(of_year.select("member", "weight").iter_rows())
            context.add_asset_metadata({"weights": weights}, partition_key=str(year))
        context.add_asset_metadata({"preview": preview(frame)}, partition_key=str(wanted[-1]))
        return dg.MaterializeResult()

    def judge_year(warehouse: Warehouse, year: int) -> pl.DataFrame:
        """ticker, session and, per model, the probability it gave to what came true: on some sessions of `year`."""
        cutoff = cutoff_of(year + 1)
        sessions = calendar.between(date(year, 1, 1), cutoff)[: -settings.horizon : WEIGHED_EVERY]
        known = inputs_for(warehouse, settings, sessions, "trained_ensemble")
        labels, _ = usable_between(warehouse, sessions[0], sessions[-1])
        right = pl.concat_list("p_sell", "p_hold", "p_buy").list.get(pl.col("label").cast(pl.Int64) + 1)
        versions = base_versions(warehouse, year, sessions[0], known.pca_version)
        return (
            answers_of(versions, settings, known, sessions)
            .join(labels.select("ticker", "session", "label"), on=["ticker", "session"])
            .with_columns(right=right)
            .pivot("model", index=["ticker", "session"], values="right")
            .drop_nulls()
            .sort("session", "ticker")
        )

    @table_asset(
        "predictions",
        description=(
            "Probabilities of sell, hold and buy for every trusted member on every session, from each model of the "
            "session's year. A model trained through the session or later is refused, with both dates." + note
        ),
        deps=[
            "stationary_features",
            "pca_components",
            "trained_rnn",
            "trained_baselines",
            "trained_ensemble",
            "daily_bars",
        ],
        partitions=predicted_days(settings),
        checks=checks.specs("predictions", PREDICTION_CHECKS),
        kinds=("pytorch",),
    )
    def predictions(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        from stock_assets.model.recipes import CONTEXT, RECIPES
        from stock_assets.model.training import missing_history

        sessions = chosen_sessions(context)
        known = inputs_for(warehouse, settings, sessions, "predictions")
        # what is predicted already keeps the versions that predicted it; new sessions follow the registry
        done = warehouse.last_session("predictions")
        if new := [session for session in sessions if done is None or session > done]:
            year, days = by_year(new)[-1]
            base_versions(warehouse, year, days[0], known.pca_version)
            for note in follow_aliases(warehouse, registry, (*RECIPES, ENSEMBLE), days[0], clock()):
                context.log.info(note)
        parts = []
        for year, days in by_year(sessions):
            weights = serving_weights(warehouse, year, days[0])
            for versions, span in champions_of(warehouse, year, days, known.pca_version):
                answers = answers_of(versions, settings, known, span)
                parts += [answers, ensemble(answers, weights).select(answers.columns)]
        rows = (
            pl.concat(parts)
            .join(known.suspects, on=["ticker", "session"], how="anti")
            .select(declared("predictions").names)
            .sort("session", "ticker", "model")
        )
        warehouse.replace_sessions("predictions", sessions, rows)
        of_range = known.suspects.filter(pl.col("session").is_in(sessions))
        left_out = {
            **dict(of_range["suspect"].value_counts().sort("suspect").iter_rows()),
            **missing_history(known.components, sessions, CONTEXT),
        }
        return report_sessions(
            context,
            rows,
            sessions,
            prediction_results(rows),
            {"rows_left_out": dg.MetadataValue.json(left_out)},
        )

    return [trained_rnn, trained_baselines, trained_ensemble, predictions]


def training_of(
    settings: Settings, row: Mapping[str, Any], trained: Any, curve: list[dict[str, Any]], code: str
) -> Training:
    """What the registry keeps of a training: `row` of its table, and the epochs of a network."""
    params = getattr(trained, "config", None)
    epochs = [{"model_year": row["model_year"], **epoch} for epoch in curve]
    figures = {"learning_curve": curve_picture(row["model"], epochs)} if epochs else {}
    scores = ("training_rows", "best_epoch", "validation_accuracy", "validation_log_loss")
    return Training(
        row["model"],
        row["version"],
        row["model_year"],
        row["trained_through"],
        params=(params.to_dict() if params else {}) | {"seed": settings.seed},
        metrics={name: row.get(name) for name in scores},
        code_version=code,
        curve=curve,
        figures=figures,
        pca_version=row["pca_version"],
        folder=settings.artifacts / row["artifact"],
    )


def curve_picture(model: str, epochs: list[dict[str, Any]]) -> bytes:
    """The learning curves of the model years in `epochs`, as a PNG."""
    from stock_assets.evaluation import plots

    titles = {"rnn": ("smooth L1 + squared error", "validation R², volatility across tickers", "r2")}
    loss, skill, column = titles.get(model, ("log-loss", "validation accuracy", "accuracy"))
    return plots.learning_curve(pl.DataFrame(epochs).with_columns(skill=column), loss, skill)


def weigh(year: int, cutoff: date, judged: list[pl.DataFrame]) -> list[dict[str, Any]]:
    """The rows of `trained_ensemble` of one model year, from what each member said in the years before."""
    from stock_assets.model.pool import pool_weights
    from stock_assets.storage.artifacts import artifact_version

    together = pl.concat(judged, how="diagonal") if judged else pl.DataFrame({"ticker": [], "session": [], ALONE: []})
    members = together.drop("ticker", "session")
    right = members.to_numpy()
    weights = pool_weights(right) if len(right) else [1.0]
    losses = members.select(-pl.all().clip(1e-12).log().mean()).row(0) if len(right) else [None]
    found = dict(zip(members.columns, map(float, weights), strict=True))
    version = f"{ENSEMBLE}-{cutoff}-{artifact_version({}, {'weights': found, 'year': year})}"
    return [
        {
            "model_year": year,
            "member": member,
            "weight": found[member],
            "log_loss": loss,
            "rows": members.height,
            "version": version,
            "trained_through": cutoff,
        }
        for member, loss in zip(members.columns, losses, strict=True)
    ]


def prediction_results(rows: pl.DataFrame) -> list[dg.AssetCheckResult]:
    """All of `PREDICTION_CHECKS` on the rows just written."""
    probabilities = pl.col("p_sell", "p_hold", "p_buy")
    total = pl.sum_horizontal("p_sell", "p_hold", "p_buy")
    proper = pl.all_horizontal(probabilities.is_finite() & (probabilities >= 0)) & ((total - 1).abs() < 1e-6)
    shown = ["model", "ticker", "session", "p_sell", "p_hold", "p_buy", "trained_through"]
    return [
        checks.result("predictions", "probabilities", rows.filter(~proper).select(shown), blocking=True),
        checks.result(
            "predictions",
            "cutoff_before_session",
            rows.filter(pl.col("trained_through") >= pl.col("session")).select(shown),
            blocking=True,
        ),
    ]
