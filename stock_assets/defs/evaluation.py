"""The evaluation group: how good the models honestly are, and what they would score if they cheated."""

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.features import PCA_COLUMNS, trusted
from stock_assets.defs.market import SIMULATED
from stock_assets.defs.tables import picture, preview, table_asset
from stock_assets.errors import StockAssetsError
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import write_file
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from stock_assets.evaluation.leakage import Model

#: The audit trains on every label again, honestly and cheating: two test years tell enough.
AUDITED_YEARS = 2

EVALUATION_CHECKS = {
    "leak_alarm": "no model's walk-forward mean is too good to be honest: accuracy up to .485, log-loss from .995 on; "
    "judges real prices and two test years or more"
}


def evaluation_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    simulated = settings.source == "simulated"
    note = SIMULATED if simulated else ""

    @table_asset(
        "evaluation_report",
        description=(
            "Walk-forward scores of every model beside the naive baselines, with 95 % intervals, and a self-contained "
            "HTML report. Only labels fully known are scored; suspect rows are left out and counted." + note
        ),
        deps=["predictions", "labels", "stationary_features", "daily_bars", "leakage_audit"],
        kinds=("matplotlib",),
        checks=checks.specs("evaluation_report", EVALUATION_CHECKS, blocking=False),
    )
    def evaluation_report(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.evaluation import breakdowns, metrics, plots
        from stock_assets.evaluation.leakage import too_good
        from stock_assets.evaluation.report import ReportFacts, render_report
        from stock_assets.model.baselines import NAIVE

        predictions = warehouse.read("predictions")
        first = predictions["session"].min()
        usable, left_out = usable_since(warehouse, first)  # pyright: ignore[reportArgumentType]
        table = metrics.walk_forward_table(predictions, usable, seed=settings.seed)
        means = table.filter(pl.col("year").is_null())
        best = means.filter(~pl.col("model").is_in(list(NAIVE))).sort("log_loss").row(0, named=True)
        naive = metrics.best_naive(table, NAIVE)
        if naive is None:
            raise StockAssetsError("predictions hold no naive baseline; expected class_prior or ticker_prior")
        confusion = metrics.confusion_table(predictions, usable)
        scored = metrics.scored_rows(predictions, usable)
        by_year = usable.group_by(pl.col("session").dt.year().alias("year"), "label").agg(rows=pl.len())
        figures = {
            "label_distribution": plots.label_distribution(by_year),
            "calibration": plots.calibration(metrics.calibration_table(predictions, usable)),
            "confusion": plots.confusion(confusion, best["model"]),
            "rank_ic": plots.rank_ic_through_time(metrics.daily_rank_ic(scored)),
        }
        spread = breakdowns.decile_spread(scored, seed=settings.seed)
        market = warehouse.read("stationary_features", first, columns=["session", "market_vol_22"]).unique("session")  # pyright: ignore[reportArgumentType]
        regimes = breakdowns.by_regime(scored, market.rename({"market_vol_22": "volatility"}))
        audit = warehouse.read("leakage_audit")
        sweep = sweep_of(audit)
        figures["lag_sweep"] = plots.lag_sweep(sweep)
        bars = warehouse.read("daily_bars", columns=["ticker", "session"])
        page = render_report(
            f"stock_assets: {settings.source} prices, judged {first} to {predictions['session'].max()}",
            {
                "walk_forward": table,
                "spread": spread,
                "regimes": regimes,
                "tickers": breakdowns.by_ticker(scored, best["model"]),
                "leakage": audit.filter(pl.col("lag").is_null()),
                "lag_sweep": sweep,
                "suspects": pl.DataFrame(list(left_out.items()), {"reason": pl.String, "rows": pl.Int64}, orient="row"),
            },
            figures,
            ReportFacts(
                source=settings.source,
                tickers=bars["ticker"].n_unique(),
                first_session=bars["session"].min(),  # pyright: ignore[reportArgumentType]
                last_session=bars["session"].max(),  # pyright: ignore[reportArgumentType]
                horizon=settings.horizon,
                buy_threshold=settings.buy_threshold,
                sell_threshold=settings.sell_threshold,
            ),
        )
        path = settings.artifacts / "evaluation_report" / "report.html"
        write_file(path, page.encode())
        warehouse.replace_table("evaluation_report", table)
        # the made-up market has a signal of a size of its own
        alarming = table.clear() if simulated else too_good(table)
        return dg.MaterializeResult(
            check_results=[checks.result("evaluation_report", "leak_alarm", alarming, blocking=True)],
            metadata={
                "report": dg.MetadataValue.path(str(path)),
                "dagster/row_count": table.height,
                "best_model": best["model"],
                "log_loss": best["log_loss"],
                "best_naive_baseline": naive["model"],
                "log_loss_of_naive": naive["log_loss"],
                "accuracy": best["accuracy"],
                "accuracy_of_naive": naive["accuracy"],
                "scores": preview(means.drop("year"), rows=10),
                "decile_spread": preview(spread, rows=10),
                "regimes": preview(regimes, rows=20),
                "labels_left_out": left_out,
                **{name: picture(png, name) for name, png in figures.items()},
            },
        )

    @table_asset(
        "leakage_audit",
        description=(
            "The honest protocol and the cheating one side by side: copying yesterday's label, which already contains "
            "six days of the answer, scores what most studies report. Each model with yesterday's label beside its "
            "walk-forward predictions, components fitted with the test years, and the accuracy against the label's lag."
            + note
        ),
        deps=["predictions", "labels", "stationary_features", "pca_components", "daily_bars"],
        kinds=("scikitlearn", "pytorch"),
    )
    def leakage_audit(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.evaluation import plots

        table = audit_table(warehouse, settings)
        warehouse.replace_table("leakage_audit", table)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": table.height,
                "lag_sweep": picture(plots.lag_sweep(sweep_of(table)), "accuracy against the lag of a copied label"),
                "audit": preview(table, rows=20),
            }
        )

    return [evaluation_report, leakage_audit]


def usable_since(warehouse: Warehouse, first: date) -> tuple[pl.DataFrame, dict[str, int]]:
    """The labels since `first` that may be scored, and the rows left out by reason."""
    from stock_assets.model.splits import usable_labels

    return usable_labels(
        warehouse.read("labels", first),
        warehouse.read("daily_bars", first, columns=["ticker", "session", "suspect"]),
    )


def sweep_of(audit: pl.DataFrame, model: str = "persistence") -> pl.DataFrame:
    """The rows of the audit that sweep the lag of a label that `model` copies, or reads."""
    swept = pl.col("lag").is_not_null() & (pl.col("model") == model)
    return audit.filter(swept).with_columns(honest=pl.col("protocol") == "honest")


def audit_table(warehouse: Warehouse, settings: Settings) -> pl.DataFrame:
    """Honest and cheating scores on the last test years, and what the lag of a known label is worth."""
    from stock_assets.evaluation.leakage import SCHEMA, Audit, lag_sweep

    labels = warehouse.read("labels")
    usable, _ = usable_since(warehouse, settings.calendar.sessions[0])
    served = usable.filter(pl.col("session").dt.year() >= settings.model_start_year)["session"].dt.year()
    years = served.unique().sort().to_list()[-AUDITED_YEARS:]
    audit = Audit(
        components=warehouse.read("pca_components").drop("pca_version"),
        labels=labels,
        usable=usable,
        cutoffs={year: settings.calendar.before(date(year, 1, 1), 1)[0] for year in years},
        horizon=settings.horizon,
    )
    of_last_year = replace(audit, cutoffs={year: audit.cutoffs[year] for year in years[-1:]})
    models = audited_models(settings)
    copied = lag_sweep(labels, years=years, horizon=settings.horizon).select(
        protocol=pl.when("honest").then(pl.lit("honest")).otherwise(pl.lit("cheating")),
        model=pl.lit("persistence"),
        lag=pl.col("lag").cast(pl.Int32),
        rows="rows",
        accuracy="accuracy",
        rmse="rmse",
        note=pl.format("copies the label of {} rows ago", "lag"),
    )
    return pl.concat(
        [
            audit.table(models, warehouse.read("predictions"), "logistic", peeking_components(warehouse)),
            copied,
            of_last_year.sweep("logistic", models["logistic"]),
        ],
        how="diagonal",
    ).select(list(SCHEMA))


def audited_models(settings: Settings) -> dict[str, "Model"]:
    """The models that are trained again with yesterday's label. Small networks do: such a label is quickly learned."""
    from stock_assets.evaluation.leakage import of_deepar, of_rows
    from stock_assets.model.baselines import fit_logistic
    from stock_assets.model.config import DeepArConfig

    deepar = DeepArConfig(hidden=48, epochs=10, learning_rate=1e-2, batch=32, segments_per_epoch=1536)
    return {"logistic": of_rows(fit_logistic, every=settings.horizon), "deepar": of_deepar(deepar, settings.seed)}


def peeking_components(warehouse: Warehouse) -> pl.DataFrame:
    """Components like `pca_components`, but of a scaler and axes fitted on every session there is."""
    from stock_assets.features import components, stationary

    features = warehouse.read("stationary_features", columns=PCA_COLUMNS)
    last = features["session"].max()
    model = components.fit_pca(trusted(warehouse, features), stationary.CLASSIC, fit_through=last)  # pyright: ignore[reportArgumentType]
    return components.transform(model, features).drop("pca_version")
