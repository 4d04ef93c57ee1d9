"""The model group: networks and baselines per model year, and what they predict per trading day."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import date
from functools import cached_property
from pathlib import Path

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.features import MADE_BEFORE_PCA
from stock_assets.defs.market import SIMULATED
from stock_assets.defs.partitions import LEARNS_FROM_THE_YEAR_BEFORE, model_years, predicted_days
from stock_assets.defs.tables import chosen_sessions, picture, preview, report_sessions, table_asset
from stock_assets.errors import ArtifactError, CutoffError
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.features.stationary import FIRST_BAR, STATIONARY
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import MissingTableError, Warehouse

MADE_BEFORE_MODELS = (*MADE_BEFORE_PCA, "pca_components")

PREDICTION_CHECKS = {
    "probabilities": "p_sell, p_hold and p_buy are finite, not negative, and sum to 1",
    "cutoff_before_session": "every row comes from a model trained through an earlier session",
}


def model_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    calendar = settings.calendar
    years = model_years(settings)
    note = SIMULATED if settings.source == "simulated" else ""
    learns_from = [
        dg.AssetDep(table, partition_mapping=LEARNS_FROM_THE_YEAR_BEFORE)
        for table in ("pca_components", "labels", "daily_bars")
    ]
    learns_from_features = dg.AssetDep("stationary_features", partition_mapping=LEARNS_FROM_THE_YEAR_BEFORE)

    def cutoff_of(year: int) -> date:
        """The last session before the year: what is known later must not have trained its model."""
        return calendar.before(date(year, 1, 1), 1)[0]

    def known_by(warehouse: Warehouse, last_year: int, needed_by: str) -> "Learnable":
        """Everything there is to learn from for the model years up to `last_year`."""
        cutoff = cutoff_of(last_year)
        sessions = calendar.between(calendar.sessions[0], cutoff)
        why = f"every session up to the cutoff {cutoff}"
        warehouse.require(MADE_BEFORE_MODELS, sessions[FIRST_BAR - 1 :], needed_by, why)
        warehouse.require(["labels"], sessions[: -settings.horizon], needed_by, why)
        return Learnable(warehouse, sessions[0], cutoff)

    @table_asset(
        "trained_rnn",
        description=(
            "The recurrent networks that serve a model year, trained on labels fully known by the last session of the "
            "year before. `rnn` forecasts the volatility of the horizon and a direction from the stationary features, "
            "and maps them to the barriers; `rnn_classifier` reads the classes off the principal components." + note
        ),
        deps=[*learns_from, learns_from_features],
        partitions=years,
        kinds=("pytorch",),
    )
    def trained_rnn(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.evaluation import plots
        from stock_assets.model.config import RnnConfig, VolatilityConfig
        from stock_assets.model.training import EpochReport, train_rnn
        from stock_assets.model.volatility import VolatilityEpoch, train_volatility

        def say(report: EpochReport | VolatilityEpoch) -> None:
            context.log.info(
                f"{year} {model}: epoch {report.epoch}/{report.epochs}, loss {report.train_loss:.4f} train, "
                f"{report.validation_loss:.4f} validation"
            )

        wanted = sorted(map(int, context.partition_keys))
        known = known_by(warehouse, wanted[-1], "trained_rnn")
        rows, curves = [], {"rnn": [], "rnn_classifier": []}
        for year in wanted:
            cutoff = cutoff_of(year)
            labels, excluded = known.labels_at(cutoff)
            for model in curves:
                if model == "rnn":
                    config = VolatilityConfig()
                    trained = train_volatility(
                        known.features, labels, known.suspects, config, cutoff, settings.seed, settings.horizon, say
                    )
                    judged = trained.validation_accuracy, trained.validation_log_loss
                    curves[model] += [{"model_year": year, "skill": e.r2, **asdict(e)} for e in trained.curve]
                else:
                    trained = train_rnn(known.components, labels, RnnConfig(), cutoff, settings.seed, say)
                    best = trained.curve[trained.best_epoch]
                    judged = best.accuracy, best.validation_loss
                    curves[model] += [{"model_year": year, "skill": e.accuracy, **asdict(e)} for e in trained.curve]
                version, folder = save(settings, "trained_rnn", year, model, cutoff, *trained.to_artifact())
                rows.append(
                    {
                        "model_year": year,
                        "model": model,
                        "version": version,
                        "trained_through": cutoff,
                        "training_rows": labels.height,
                        "best_epoch": trained.best_epoch,
                        "validation_accuracy": judged[0],
                        "validation_log_loss": judged[1],
                        "pca_version": known.pca_version,
                        "artifact": folder,
                    }
                )
            describe_year(context, year, rows[-len(curves)], excluded)
        frame = pl.DataFrame(rows)
        warehouse.replace_rows("trained_rnn", "model_year", wanted, frame)
        titles = {
            "rnn": ("smooth L1 + squared error", "validation R², volatility across tickers"),
            "rnn_classifier": ("log-loss", "validation accuracy"),
        }
        context.add_asset_metadata(
            {
                "preview": preview(frame),
                **{
                    f"learning_curve_{model}": picture(
                        plots.learning_curve(pl.DataFrame(curve), *titles[model]), f"learning curve of {model}"
                    )
                    for model, curve in curves.items()
                },
            },
            partition_key=str(wanted[-1]),
        )
        return dg.MaterializeResult()

    @table_asset(
        "trained_baselines",
        description=(
            "What any network has to beat: the class prior, the prior of each ticker, and a logistic regression on the "
            "principal components. Trained on the same labels, through the same cutoff." + note
        ),
        deps=learns_from,
        partitions=years,
        kinds=("scikitlearn",),
    )
    def trained_baselines(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        from stock_assets.model import baselines

        wanted = sorted(map(int, context.partition_keys))
        known = known_by(warehouse, wanted[-1], "trained_baselines")
        rows = []
        for year in wanted:
            cutoff = cutoff_of(year)
            labels, excluded = known.labels_at(cutoff)
            features = known.components
            fitted = [
                baselines.fit_class_prior(labels, cutoff),
                baselines.fit_ticker_prior(labels, cutoff),
                baselines.fit_logistic(features, labels, cutoff),
            ]
            for baseline in fitted:
                version, folder = save(
                    settings,
                    "trained_baselines",
                    year,
                    baseline.name,
                    cutoff,
                    *baselines.baselines_to_artifact([baseline]),
                )
                rows.append(
                    {
                        "model_year": year,
                        "model": baseline.name,
                        "version": version,
                        "trained_through": cutoff,
                        "training_rows": labels.height,
                        "pca_version": known.pca_version,
                        "artifact": folder,
                    }
                )
            describe_year(context, year, rows[-1], excluded)
        frame = pl.DataFrame(rows)
        warehouse.replace_rows("trained_baselines", "model_year", wanted, frame)
        context.add_asset_metadata({"preview": preview(frame)}, partition_key=str(wanted[-1]))
        return dg.MaterializeResult()

    @table_asset(
        "predictions",
        description=(
            "Probabilities of sell, hold and buy for every trusted ticker on every session, from each model of the "
            "session's year. A model trained through the session or later is refused, with both dates." + note
        ),
        deps=["stationary_features", "pca_components", "trained_rnn", "trained_baselines", "daily_bars"],
        partitions=predicted_days(settings),
        checks=checks.specs("predictions", PREDICTION_CHECKS),
        kinds=("pytorch",),
    )
    def predictions(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.model.config import RnnConfig
        from stock_assets.model.training import missing_history

        sessions = chosen_sessions(context)
        # every ticker that has features missed at most MAX_MISSED sessions, so this holds its whole context
        reach = RnnConfig().context - 1 + MAX_MISSED
        lookback = [day for day in calendar.before(sessions[0], reach) if calendar.position(day) >= FIRST_BAR - 1]
        warehouse.require(
            MADE_BEFORE_MODELS, [*lookback, *sessions], "predictions", "features of the day and its context"
        )
        first, last = (*lookback, sessions[0])[0], sessions[-1]
        known = Learnable(warehouse, first, last)
        parts = []
        for year, days in by_year(sessions):
            for version in serving_versions(warehouse, settings, year, days[0], known.pca_version):
                answer = version.predict(known, days)
                parts.append(
                    answer.with_columns(
                        model=pl.lit(version.model),
                        model_version=pl.lit(version.version),
                        trained_through=pl.lit(version.cutoff),
                    )
                )
        rows = (
            pl.concat([*parts, ensemble(pl.concat(parts))], how="diagonal")
            .join(known.suspects, on=["ticker", "session"], how="anti")
            .select(
                "model",
                "model_version",
                "trained_through",
                "ticker",
                "session",
                "p_sell",
                "p_hold",
                "p_buy",
                "score",
            )
            .sort("session", "ticker", "model")
        )
        warehouse.replace_sessions("predictions", sessions, rows)
        of_range = known.suspects.filter(pl.col("session").is_in(sessions))
        left_out = {
            **dict(of_range["suspect"].value_counts().sort("suspect").iter_rows()),
            **missing_history(known.components, sessions, RnnConfig().context),
        }
        return report_sessions(
            context,
            rows,
            sessions,
            prediction_results(rows),
            {"rows_left_out": dg.MetadataValue.json(left_out)},
        )

    return [trained_rnn, trained_baselines, predictions]


class Learnable:
    """Model inputs and usable labels of the sessions from `first` to `last`, read once for several cutoffs."""

    def __init__(self, warehouse: Warehouse, first: date, last: date) -> None:
        self._read = lambda table, columns=None: warehouse.read(table, first, last, columns)
        components = self._read("pca_components")
        versions = components["pca_version"].unique().to_list()
        if len(versions) != 1:
            raise ArtifactError(
                f"pca_components mixes the fits {', '.join(sorted(versions))}; expected one: materialize "
                "pca_components again for every session"
            )
        self.pca_version: str = versions[0]
        self.components = components.drop("pca_version")
        bars = self._read("daily_bars", ["ticker", "session", "suspect"])
        self.suspects = bars.filter(pl.col("suspect").is_not_null())
        """ticker, session, suspect of the rows that neither train nor score"""

    @cached_property
    def features(self) -> pl.DataFrame:
        # single precision is what the network computes in, and half the memory
        return self._read("stationary_features", ["ticker", "session", *STATIONARY]).cast({pl.Float64: pl.Float32})

    @cached_property
    def _labels(self) -> pl.DataFrame:
        return self._read("labels")

    def labels_at(self, cutoff: date) -> tuple[pl.DataFrame, dict[str, int]]:
        """(usable labels known by `cutoff`, rows left out by reason)."""
        from stock_assets.model.splits import training_rows, usable_labels

        return usable_labels(training_rows(self._labels, cutoff), self.suspects)


class ServingVersion:
    """One saved model, ready to predict."""

    def __init__(self, row: dict[str, object], folder: Path) -> None:
        self.model, self.version = str(row["model"]), str(row["version"])
        self.cutoff = row["trained_through"]
        self._folder = folder

    def predict(self, known: Learnable, sessions: Sequence[date]) -> pl.DataFrame:
        from stock_assets.storage.artifacts import load_artifact

        artifact = load_artifact(self._folder)
        if self.model == "rnn":
            from stock_assets.model.volatility import TrainedVolatility, predict_volatility

            volatility = TrainedVolatility.from_artifact(artifact.tensors, artifact.description)
            return predict_volatility(volatility, known.features, known.suspects, sessions)
        if self.model == "rnn_classifier":
            from stock_assets.model.training import TrainedRnn, predict

            trained: TrainedRnn = TrainedRnn.from_artifact(artifact.tensors, artifact.description)
            return predict(trained, known.components, sessions)
        from stock_assets.model.baselines import baselines_from_artifact

        (baseline,) = baselines_from_artifact(artifact.tensors, artifact.description)
        return baseline.predict(known.components, sessions)


def ensemble(answers: pl.DataFrame) -> pl.DataFrame:
    """The mean of the models that look at features, where all of them answer, as a model of its own."""
    from stock_assets.model.baselines import NAIVE

    skilled = answers.filter(~pl.col("model").is_in(list(NAIVE)))
    return (
        skilled.group_by("ticker", "session")
        .agg(
            pl.col("p_sell", "p_hold", "p_buy", "score").mean(),
            pl.col("trained_through").max(),
            model_version=pl.col("model_version").sort().str.join("+"),
            models=pl.len(),
        )
        .filter(pl.col("models") == skilled["model"].n_unique())
        .with_columns(model=pl.lit("ensemble"))
        .drop("models")
    )


def serving_versions(
    warehouse: Warehouse, settings: Settings, year: int, first: date, pca_version: str
) -> list[ServingVersion]:
    """The newest version of every model of `year` whose cutoff lies before session `first`.

    Raises ArtifactError when a table has none, CutoffError when there are only later ones.
    """
    versions = []
    for table in ("trained_rnn", "trained_baselines"):
        try:
            rows = warehouse.read(table).filter(pl.col("model_year") == year)
        except MissingTableError:
            rows = pl.DataFrame()
        if rows.is_empty():
            raise ArtifactError(
                f"predictions of {first} need {table} of model year {year}. Materialize {table} {year} first."
            )
        before = rows.filter(pl.col("trained_through") < first)
        if before.is_empty():
            raise CutoffError(
                f"{table} {year} was trained through {rows['trained_through'].min()}, which is not before the session "
                f"{first} it should predict"
            )
        newest = before.sort("trained_through").unique("model", keep="last").sort("model")
        if pca_version not in newest["pca_version"]:
            raise ArtifactError(
                f"{table} {year} reads principal components {newest['pca_version'][0]}, found {pca_version} in "
                f"pca_components. Materialize {table} {year} again."
            )
        versions += [ServingVersion(row, settings.artifacts / row["artifact"]) for row in newest.iter_rows(named=True)]
    return versions


def save(
    settings: Settings, table: str, year: int, model: str, cutoff: date, tensors: dict, description: dict
) -> tuple[str, str]:
    """(version, folder below the artifacts folder) of a model, saved under a name made of its content."""
    from stock_assets.storage.artifacts import artifact_version, save_artifact

    version = f"{model}-{cutoff}-{artifact_version(tensors, description)}"
    folder = f"{table}/{year}/{version}"
    save_artifact(settings.artifacts / folder, tensors, description)
    return version, folder


def describe_year(
    context: dg.AssetExecutionContext, year: int, row: dict[str, object], excluded: dict[str, int]
) -> None:
    shown = {name: str(value) if isinstance(value, date) else value for name, value in row.items()}
    context.add_asset_metadata({**shown, "labels_left_out": excluded}, partition_key=str(year))


def by_year(sessions: Iterable[date]) -> list[tuple[int, list[date]]]:
    years: dict[int, list[date]] = {}
    for session in sessions:
        years.setdefault(session.year, []).append(session)
    return sorted(years.items())


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
