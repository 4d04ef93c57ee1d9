"""The evaluation group: how good the models honestly are, and what they would score if they cheated."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.tables import SIMULATED, picture, preview, table_asset
from stock_assets.errors import StockAssetsError
from stock_assets.features.materialize import trusted
from stock_assets.features.stationary import STATIONARY
from stock_assets.files import write_file
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of, currency_of
from stock_assets.market.materialize.context import read_context
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.model.materialize.predict import predictions_with_references
from stock_assets.model.materialize.versions import REFERENCES
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import load_artifact
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    from stock_assets.evaluation.leakage import Model

#: So many of the best models are drawn, beside the best naive baseline; the tables hold all.
LEADING = 5
#: Sessions of the charts of one ticker.
CHART_SESSIONS = 252
#: About so many rows compare price and volume with the components: a few seconds of fitting.
COMPARED_ROWS = 50_000
STUDY_COLUMNS = ("ticker", "session", "close", "volume", "split_ratio", "total_return", "is_member", "suspect")

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
        ],
        kinds=("matplotlib",),
        checks=checks.specs("evaluation_report", EVALUATION_CHECKS, blocking=False),
    )
    def evaluation_report(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.evaluation import benchmark, breakdowns, metrics, plots
        from stock_assets.evaluation.leakage import too_good
        from stock_assets.evaluation.report import ReportFacts, render_report
        from stock_assets.evaluation.survivorship import survivors, survivorship
        from stock_assets.model.registry import naive_baselines

        naive_models = naive_baselines()
        predictions = predictions_with_references(warehouse)
        first, last = predictions["session"].min(), predictions["session"].max()
        cutoffs = cutoff_of_years(predictions)
        usable, left_out = usable_between(warehouse, settings, first)  # pyright: ignore[reportArgumentType]
        scored = metrics.scored_rows(predictions, usable)
        del predictions  # a dozen models of ten years are gigabytes
        table = metrics.score_table(scored, seed=settings.seed)
        means = table.filter(pl.col("year").is_null())
        best = means.filter(~pl.col("model").is_in(naive_models)).sort("log_loss").row(0, named=True)
        naive = metrics.best_naive(table, naive_models)
        if naive is None:
            raise StockAssetsError("predictions hold no naive baseline; expected class_prior or ticker_prior")
        leading = scored.filter(pl.col("model").is_in([*means["model"].head(LEADING), best["model"], naive["model"]]))
        confusion = metrics.confusion_table(leading)
        classification = metrics.classification_report(confusion, best["model"])
        spread = breakdowns.decile_spread(scored, seed=settings.seed)
        market = warehouse.read("stationary_features", first, columns=["session", "market_vol_22"]).unique("session")  # pyright: ignore[reportArgumentType]
        regimes = breakdowns.by_regime(scored, market.rename({"market_vol_22": "volatility"}))
        tickers = {model: breakdowns.by_ticker(scored, model) for model in (best["model"], naive["model"])}
        sector_of = sectors(warehouse)
        by_sector = breakdowns.by_sector(scored, best["model"], sector_of)
        audit = warehouse.read("leakage_audit")
        sweep = sweep_of(audit)
        by_year = usable.group_by(pl.col("session").dt.year().alias("year"), "label").agg(rows=pl.len())
        figures = {
            "confusion": plots.confusion(confusion, best["model"]),
            "calibration": plots.calibration(metrics.calibration_table(leading)),
            "rank_ic": plots.rank_ic_through_time(metrics.daily_rank_ic(leading)),
            "accuracy_by_ticker": plots.accuracy_by_ticker(tickers),
            "lag_sweep": plots.lag_sweep(sweep),
            "label_distribution": plots.label_distribution(by_year),
        }
        if by_sector.height:
            dots = tickers[best["model"]].join(sector_of, on="ticker")
            figures["accuracy_by_sector"] = plots.accuracy_by_sector(dots, by_sector)
        bars = warehouse.read("daily_bars", columns=STUDY_COLUMNS)
        survived = survivors(warehouse.read("universe"), bars["session"].max())  # pyright: ignore[reportArgumentType]
        bias = survivorship(scored, bars.filter(pl.col("suspect").is_null()), best["model"], survived, settings.seed)
        series, held = benchmark.market_returns(read_context(warehouse))
        returns = benchmark.daily_returns(scored, best["model"], held)
        beside = benchmark.comparison(returns, settings.seed)
        if beside.height:
            figures["growth"] = plots.growth(benchmark.growth(returns), series)
        compared = compared_inputs(warehouse, settings, cutoffs)
        figures |= study_figures(warehouse, settings, bars, list(cutoffs.values())) | {
            "ablation": plots.ablation(compared)
        }
        page = render_report(
            f"stock_assets: {settings.source} prices, judged {first} to {last}",
            {
                "walk_forward": table,
                "classification": classification,
                "spread": spread,
                "market": beside,
                "survivorship": bias,
                "regimes": regimes,
                "tickers": tickers[best["model"]],
                "sectors": by_sector,
                "ablation": compared,
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
                currency=currency_of(settings),
                market=series,
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
                "scores": preview(means.drop("year"), rows=20),
                "classification_report": preview(classification),
                "decile_spread": preview(spread, rows=20),
                "beside_the_market": preview(beside) if beside.height else "there is no context series",
                "survivorship": preview(bias) if bias.height else "no ticker ever left the universe",
                "regimes": preview(regimes, rows=50),
                "best_tickers": preview(tickers[best["model"]]),
                "worst_tickers": preview(tickers[best["model"]].reverse()),
                "sectors": preview(by_sector, rows=20) if by_sector.height else "the source states none",
                "price_and_volume_against_pca": preview(compared.filter(pl.col("year").is_null())),
                "labels_left_out": left_out,
                **{name: picture(png, name.replace("_", " ")) for name, png in figures.items()},
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


def cutoff_of_years(predictions: pl.DataFrame) -> dict[int, date]:
    """The last session that the models of each predicted year know, by year."""
    years = predictions.group_by(pl.col("session").dt.year().alias("year")).agg(pl.col("trained_through").max())
    return dict(years.sort("year").iter_rows())


def sectors(warehouse: Warehouse) -> pl.DataFrame:
    """ticker, sector: the last one that the universe states of each ticker, which may be none."""
    members = warehouse.read("universe", columns=["ticker", "sector", "from_session"]).sort("from_session")
    return members.group_by("ticker").agg(pl.col("sector").drop_nulls().last()).drop_nulls()


def compared_inputs(warehouse: Warehouse, settings: Settings, cutoffs: Mapping[int, date]) -> pl.DataFrame:
    """`study.ablation_table` of price and volume, with and without the principal components, on COMPARED_ROWS."""
    from stock_assets.evaluation import study

    labels, _ = usable_between(warehouse, settings, date.min)
    one_in = -(-labels.height // COMPARED_ROWS)
    # rows of every session, since those of one move together; drawn by a digest, so that they are always the same
    drawn = "md5_number_lower(concat(ticker, session)) % ? = 0"

    def sample(table: str, columns: str) -> pl.DataFrame:
        statement = f"SELECT ticker, session, COLUMNS('{columns}') FROM features.{table} WHERE {drawn}"
        return warehouse.read_sql(table, statement, [one_in])

    prices = sample("stationary_features", "^(log_return_|volume_ratio)").sort("session", "ticker")
    components = sample("pca_components", "^pc_")
    own, scores = ([name for name in frame.columns if name not in KEYS] for frame in (prices, components))
    sets = {"price and volume": own, "price, volume and components": [*own, *scores]}
    return study.ablation_table(prices.join(components, on=KEYS), labels, cutoffs, sets)


def study_figures(
    warehouse: Warehouse, settings: Settings, bars: pl.DataFrame, cutoffs: Sequence[date]
) -> dict[str, bytes]:
    """What the reference study shows of its target, one ticker and the training; `bars` are all, of STUDY_COLUMNS."""
    from stock_assets.evaluation import plots, study

    thresholds = [(settings.buy_threshold, settings.sell_threshold), study.SYMMETRIC]
    ticker = study.most_traded(bars)
    labels = warehouse.read("labels", columns=["ticker", "session", "label"])
    chart = study.chart(bars.filter(pl.col("ticker") == ticker), labels)
    recent = chart.tail(CHART_SESSIONS)
    figures = {
        "label_thresholds": plots.label_distribution(
            study.label_counts(bars, settings.horizon, thresholds), by="thresholds"
        ),
        "price_and_volume": plots.price_and_volume(chart, cutoffs, ticker),
        "bollinger": plots.bollinger(recent, ticker),
        "rsi_and_momentum": plots.rsi_and_momentum(recent, ticker),
    }
    curves = learning_curves(warehouse, settings)
    return figures if curves.is_empty() else figures | {"epochs": plots.epochs(curves)}


def learning_curves(warehouse: Warehouse, settings: Settings) -> pl.DataFrame:
    """model_year, model, epoch, accuracy, rmse of every saved network that judged its classes after each epoch.

    A network whose folder is gone has no curve; the report is about predictions, which are there.
    """
    schema = {"model_year": pl.Int64, "model": pl.String, "epoch": pl.Int64, "accuracy": pl.Float64, "rmse": pl.Float64}
    rows = []
    columns = ["model_year", "model", "artifact"]
    none = pl.DataFrame(schema={"model_year": pl.Int64, "model": pl.String, "artifact": pl.String})
    tables = [warehouse.read("trained_rnn", columns=columns), warehouse.read_or(none, REFERENCES, columns=columns)]
    for year, model, folder in pl.concat(tables).unique().sort("model_year", "model").iter_rows():
        if (settings.artifacts / folder).is_dir():
            curve = load_artifact(settings.artifacts / folder).description.get("curve", [])
            rows += [
                {"model_year": year, "model": model, **epoch} for epoch in curve if {"accuracy", "rmse"} <= {*epoch}
            ]
    return pl.DataFrame(rows, schema, strict=False)


def sweep_of(audit: pl.DataFrame, model: str = "persistence") -> pl.DataFrame:
    """The rows of the audit that sweep the lag of a label that `model` copies, or reads."""
    swept = pl.col("lag").is_not_null() & (pl.col("model") == model)
    return audit.filter(swept).with_columns(honest=pl.col("protocol") == "honest")


def audit_table(warehouse: Warehouse, settings: Settings) -> pl.DataFrame:
    """Honest and cheating scores of the last test year, and what the lag of a known label is worth."""
    from stock_assets.evaluation import leakage
    from stock_assets.model.config import RnnConfig

    labels = warehouse.read("labels")
    usable, _ = usable_between(warehouse, settings, calendar_of(settings).sessions[0])
    served = usable.filter(pl.col("session").dt.year() >= settings.model_start_year)["session"]
    year = int(served.dt.year().max())  # pyright: ignore[reportArgumentType]
    audit = leakage.Audit(
        components=warehouse.read("pca_components").drop("pca_version"),
        labels=labels,
        usable=usable,
        cutoffs={year: calendar_of(settings).before(date(year, 1, 1), 1)[0]},
        horizon=settings.horizon,
    )
    models = audited_models(settings)
    first, last = date(year, 1, 1), date(year, 12, 31)
    table = audit.table(
        models, predictions_with_references(warehouse, first, last), "logistic", peeking_components(warehouse)
    )
    suspects = warehouse.read("daily_bars", columns=["ticker", "session", "suspect"]).drop_nulls("suspect")
    network = RnnConfig(hidden=32, epochs=2, segments_per_epoch=1024)
    rnn = leakage.of_volatility(network, settings.seed, suspects, settings.horizon)
    features = warehouse.read("stationary_features", columns=[*KEYS, *STATIONARY]).cast({pl.Float64: pl.Float32})
    of_features = replace(audit, components=features)
    copied = leakage.lag_sweep(labels, years=[year], horizon=settings.horizon).select(
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
            table,
            of_features.cheating({"rnn": rnn}, "the stationary features"),
            copied,
            audit.sweep("logistic", models["logistic"]),
        ],
        how="diagonal",
    ).select(list(leakage.SCHEMA))


def audited_models(settings: Settings) -> dict[str, "Model"]:
    """The models that are trained again with yesterday's label. Small networks do, and the baselines take bolder
    settings than their honest ones, which hold a model back from whatever predicts well."""
    from stock_assets.evaluation.leakage import of_deepar, of_recurrent, of_rows
    from stock_assets.model.baselines.linear import fit_logistic
    from stock_assets.model.baselines.mlp import fit_mlp
    from stock_assets.model.baselines.svm import fit_svm
    from stock_assets.model.baselines.trees import fit_trees
    from stock_assets.model.config import DeepArConfig, RnnClassifierConfig

    mlp = partial(fit_mlp, penalty=0.01, passes=8, patience=2)
    trees = partial(fit_trees, share=1.0, leaves=31, rows_per_leaf=100, rounds=200)
    classifier = RnnClassifierConfig(epochs=3, learning_rate=5e-3, segments_per_epoch=512)
    deepar = DeepArConfig(hidden=48, epochs=8, learning_rate=1e-2, batch=32, segments_per_epoch=1024)
    return {
        "logistic": of_rows(fit_logistic, every=3 * settings.horizon),
        "svm": of_rows(fit_svm),
        "mlp": of_rows(mlp),
        "trees": of_rows(trees),
        "rnn_classifier": of_recurrent(classifier, settings.seed),
        "deepar": of_deepar(deepar, settings.seed),
    }


def peeking_components(warehouse: Warehouse) -> pl.DataFrame:
    """Components like `pca_components`, but of a scaler and axes fitted on every session there is."""
    from stock_assets.features import components, stationary

    features = warehouse.read("stationary_features", columns=[*KEYS, *stationary.pca_inputs()])
    last = features["session"].max()
    model = components.fit_pca(trusted(warehouse, features), stationary.pca_inputs(), fit_through=last)  # pyright: ignore[reportArgumentType]
    return components.transform(model, features).drop("pca_version")
