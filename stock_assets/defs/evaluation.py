"""The evaluation group: how good the models honestly are, and what they would score if they cheated."""

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.tables import SIMULATED, picture, preview, table_asset
from stock_assets.evaluation.leakage import LIMITS
from stock_assets.evaluation.materialize.evaluation_report import MadeReport, make_evaluation_report
from stock_assets.evaluation.materialize.leakage_audit import make_leakage_audit
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

EVALUATION_CHECKS = {"leak_alarm": str(LIMITS)}


def evaluation_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    return [evaluation_report_asset(settings), leakage_audit_asset(settings)]


def evaluation_report_asset(settings: Settings) -> dg.AssetsDefinition:
    @table_asset(
        "evaluation_report",
        description=(
            "Walk-forward scores of every model and of the naive baselines, with 95 % intervals, and a self-contained "
            "HTML report. Only labels whose horizon is over are scored; suspect rows are left out and counted."
            + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=[
            "universe",
            "daily_bars",
            "context_series",
            "stationary_features",
            "labels",
            "pca_components",
            "trained_rnn",
            "trained_references",
            "predictions",
            "reference_predictions",
            "leakage_audit",
            "input_value",
        ],
        kinds=("matplotlib",),
        checks=checks.specs("evaluation_report", EVALUATION_CHECKS, blocking=False),
    )
    def evaluation_report(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        evaluation = make_evaluation_report(warehouse, settings)
        alarm = checks.result("evaluation_report", "leak_alarm", evaluation.alarming, blocking=True)
        return dg.MaterializeResult(check_results=[alarm], metadata=report_metadata(evaluation))

    return evaluation_report


def leakage_audit_asset(settings: Settings) -> dg.AssetsDefinition:
    @table_asset(
        "leakage_audit",
        description=(
            "The honest protocol and the cheating one compared: copying yesterday's label, which already contains "
            f"{settings.horizon - 1} of the {settings.horizon} days to be predicted, scores what most studies report. "
            "Each model with yesterday's label and its walk-forward predictions, components fitted with the test "
            "years, and the accuracy against the label's lag." + (SIMULATED if settings.source == "simulated" else "")
        ),
        deps=[
            "predictions",
            "reference_predictions",
            "labels",
            "stationary_features",
            "pca_components",
            "daily_bars",
        ],
        kinds=("scikitlearn", "pytorch"),
    )
    def leakage_audit(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.evaluation import plots

        audit = make_leakage_audit(warehouse, settings)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": audit.table.height,
                "lag_sweep": picture(plots.lag_sweep(audit.sweep), "accuracy against the lag of a copied label"),
                "audit": preview(audit.table, rows=20),
            }
        )

    return leakage_audit


def report_metadata(evaluation: MadeReport) -> dict[str, dg.MetadataValue | str | int | float]:
    """What the page of the asset shows: the best scores, the tables and every figure."""
    report = evaluation.report
    best, naive, tables = report.best, report.naive or {}, report.tables
    ablation = tables["ablation"]
    return {
        "report": dg.MetadataValue.path(str(evaluation.page)),
        "dagster/row_count": evaluation.table.height,
        "best_model": best["model"],
        "log_loss": best["log_loss"],
        "best_naive_baseline": naive["model"],
        "log_loss_of_naive": naive["log_loss"],
        "accuracy": best["accuracy"],
        "accuracy_of_naive": naive["accuracy"],
        "scores": preview(report.means.drop("year"), rows=20),
        "classification_report": preview(tables["classification"]),
        "decile_spread": preview(tables["spread"], rows=20),
        "compared_with_the_market": shown(tables["market"], "there is no context series"),
        "survivorship": shown(tables["survivorship"], "no ticker ever left the universe"),
        "regimes": preview(tables["regimes"], rows=50),
        "best_tickers": preview(tables["tickers"]),
        "worst_tickers": preview(tables["tickers"].reverse()),
        "sectors": shown(tables["sectors"], "the source states none", rows=20),
        "price_and_volume_against_pca": preview(ablation.filter(pl.col("year").is_null())),
        "labels_left_out": dg.MetadataValue.json(dict(tables["suspects"].iter_rows())),
        **{name: picture(png, name.replace("_", " ")) for name, png in report.figures.items()},
    }


def shown(table: pl.DataFrame, otherwise: str, rows: int = 8) -> dg.MetadataValue | str:
    """A preview of `table`, or the words `otherwise` where it has no row."""
    return preview(table, rows) if table.height else otherwise
