"""The assets of the features room: indicators, inputs of the models, labels and principal components."""

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.partitions import labelled_days, trading_days
from stock_assets.defs.tables import SIMULATED, chosen_sessions, picture, preview, report_sessions, table_asset
from stock_assets.features import materialize
from stock_assets.features.components import PcaModel, component_names, to_frame
from stock_assets.features.indicators import INDICATORS
from stock_assets.features.labels import class_shares
from stock_assets.features.side_features import SIDE_FEATURES, side_columns
from stock_assets.features.stationary import STATIONARY, pca_inputs
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Share of every class among the labels of a year; outside, the thresholds do not fit the market.
LABEL_SHARES = (0.10, 0.70)
#: Share of the standardised variance that the components must still hold on sessions after their fit.
EXPLAINED_OUT_OF_SAMPLE = 0.85

_FINITE = {"finite": "no number is null, NaN or infinite"}


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    return [
        indicators_asset(settings),
        stationary_features_asset(settings),
        *side_features_assets(settings),
        labels_asset(settings),
        pca_model_asset(settings),
        pca_components_asset(settings),
    ]


def indicators_asset(settings: Settings) -> dg.AssetsDefinition:
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        "indicators",
        description=(
            f"The {len(INDICATORS)} classic columns of technical analysis, in the price basis of their day. RSI and "
            "MACD are the reference study's own, not Wilder's." + note
        ),
        deps=["daily_bars"],
        partitions=trading_days(settings),
        checks=checks.specs("indicators", _FINITE),
        order="last",
    )
    def indicators(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        rows = materialize.make_indicators(warehouse, settings, sessions).rows
        finite = checks.finite_result("indicators", rows, list(INDICATORS))
        chart = _sample_chart(materialize.sample_chart(warehouse, settings, sessions[-1]))
        return report_sessions(context, rows, sessions, checks=[finite], about_last=chart)

    return indicators


def stationary_features_asset(settings: Settings) -> dg.AssetsDefinition:
    note = SIMULATED if settings.source == "simulated" else ""
    finite_check = "no number is NaN or infinite, and none but those of the market context is null"
    context_check = (
        "every session has the columns of the market context whose series has begun, and real prices have ^VIX; a "
        "model reads the mean of its training in the place of a missing one"
    )

    @table_asset(
        "stationary_features",
        description=(
            "The scale-free inputs of the models: normalised indicators, volatilities, volume, beta, ranks within the "
            "session, the volatility of the market and of each ticker's peers, past earnings days found by their "
            "bursts of volume. Every column is the same for a share before and after a split." + note
        ),
        deps=["daily_bars", "context_series"],
        partitions=trading_days(settings),
        checks=[
            *checks.specs("stationary_features", {"finite": finite_check}),
            *checks.specs("stationary_features", {"market_context": context_check}, blocking=False),
        ],
    )
    def stationary_features(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        features = materialize.make_stationary_features(warehouse, settings, sessions)
        results = [
            checks.finite_result("stationary_features", features.rows, list(STATIONARY)),
            checks.context_result(features.without_context, features.absent),
        ]
        return report_sessions(context, features.rows, sessions, checks=results)

    return stationary_features


def side_features_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The asset `side_features`; none where no side input is on that models read."""
    groups = materialize.side_groups(settings)
    if not groups:
        return []
    note = SIMULATED if settings.source == "simulated" else ""
    finite_check = "no number is NaN or infinite; null where it is unknown"

    @table_asset(
        SIDE_FEATURES,
        description=(
            "The inputs of the models from what is known beside prices, as of the close of each session: "
            f"{', '.join(group.name for group in groups)}. A model reads the mean of its training in the place of a "
            "null." + note
        ),
        deps=["daily_bars", *sorted({name for group in groups for name in group.reads})],
        partitions=trading_days(settings),
        checks=checks.specs(SIDE_FEATURES, {"finite": finite_check}),
    )
    def side_features(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        rows = materialize.make_side_features(warehouse, settings, sessions).rows
        numbers = rows.fill_null(0.0) if isinstance(rows, pl.DataFrame) else rows
        finite = checks.finite_result(SIDE_FEATURES, numbers, side_columns())
        return report_sessions(context, rows, sessions, checks=[finite])

    return [side_features]


def labels_asset(settings: Settings) -> dg.AssetsDefinition:
    note = SIMULATED if settings.source == "simulated" else ""
    low, high = LABEL_SHARES
    shares_check = (
        f"every class is {low:.0%} to {high:.0%} of the labels of the last {materialize.LABEL_WINDOW} sessions"
    )

    @table_asset(
        "labels",
        description=(
            f"Buy, sell or hold: which threshold, +{settings.buy_threshold:.1%} or -{settings.sell_threshold:.1%}, the "
            f"total return crosses first within {settings.horizon} bars (triple barrier, López de Prado 2018). A label "
            "looks ahead, so it is late: its partitions end one horizon before the others." + note
        ),
        deps=["daily_bars"],
        partitions=labelled_days(settings),
        checks=checks.specs("labels", {"label_distribution": shares_check}, blocking=False),
    )
    def labels(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        new = materialize.make_labels(warehouse, settings, sessions)
        about_last = {
            "late_labels": dg.MetadataValue.int(new.late.height),
            **_label_picture(new.recent),
            **_sample_chart(materialize.sample_chart(warehouse, settings, sessions[-1])),
        }
        return report_sessions(
            context, new.rows, sessions, checks=[label_distribution(new.recent)], about_last=about_last
        )

    return labels


def pca_model_asset(settings: Settings) -> dg.AssetsDefinition:
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        "pca_model",
        description=(
            f"Scaler and principal components that hold 95 % of the variance of {len(pca_inputs())} inputs of the "
            f"models, fitted on the sessions before {settings.model_start_year}, the first model year, and on nothing "
            "later. Refitted only on purpose." + note
        ),
        deps=["stationary_features"],
        kinds=("scikitlearn",),
    )
    def pca_model(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_about_fit(materialize.make_pca_model(warehouse, settings)))

    return pca_model


def pca_components_asset(settings: Settings) -> dg.AssetsDefinition:
    note = SIMULATED if settings.source == "simulated" else ""
    explained_check = (
        f"the components still hold {EXPLAINED_OUT_OF_SAMPLE:.0%} of variance on the sessions of this run; below, "
        "refit pca_model"
    )

    @table_asset(
        "pca_components",
        description="The scores of every (ticker, session) on the principal components of `pca_model`." + note,
        deps=["stationary_features", "pca_model"],
        partitions=trading_days(settings),
        checks=[
            *checks.specs("pca_components", _FINITE),
            *checks.specs("pca_components", {"explained_out_of_sample": explained_check}, blocking=False),
        ],
    )
    def pca_components(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        scores = materialize.make_pca_components(warehouse, settings, sessions)
        finite = checks.finite_result("pca_components", scores.rows, component_names(scores.model))
        results = [finite, explained_out_of_sample(scores)]
        return report_sessions(context, scores.rows, sessions, checks=results)

    return pca_components


def label_distribution(recent: pl.DataFrame) -> dg.AssetCheckResult:
    """Warns when a class is rarer or more frequent among `recent` labels than LABEL_SHARES."""
    shares = class_shares(recent)
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey("labels"),
        check_name="label_distribution",
        passed=all(LABEL_SHARES[0] <= share <= LABEL_SHARES[1] for share in shares.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            **shares,
            "lowest_allowed": LABEL_SHARES[0],
            "highest_allowed": LABEL_SHARES[1],
            "labels": recent.height,
        },
    )


def explained_out_of_sample(scores: materialize.MadeComponents) -> dg.AssetCheckResult:
    """Warns when the components hold less of the variance of the rows than EXPLAINED_OUT_OF_SAMPLE."""
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey("pca_components"),
        check_name="explained_out_of_sample",
        passed=scores.explained is None or scores.explained >= EXPLAINED_OUT_OF_SAMPLE,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "explained": "no feature row yet" if scores.explained is None else scores.explained,
            "threshold": EXPLAINED_OUT_OF_SAMPLE,
            "pca_version": scores.model.version,
        },
    )


def _about_fit(model: PcaModel) -> dict[str, dg.MetadataValue]:
    """The size and window of a fit, its explained variance and its first component, largest loading first."""
    from stock_assets.evaluation import plots

    variance = plots.explained_variance(model.explained_variance_ratio.tolist())
    first = to_frame(model).filter(pl.col("component") == 1).sort(pl.col("loading").abs(), descending=True)
    return {
        "dagster/row_count": dg.MetadataValue.int(model.components.size),
        "pca_version": dg.MetadataValue.text(model.version),
        "components": dg.MetadataValue.int(len(model.components)),
        "features": dg.MetadataValue.int(len(model.columns)),
        "fit_from": dg.MetadataValue.text(str(model.fit_from)),
        "fit_through": dg.MetadataValue.text(str(model.fit_through)),
        "fit_rows": dg.MetadataValue.int(model.n_rows),
        "explained_variance": picture(variance, "explained variance"),
        "preview": preview(first),
    }


def _label_picture(recent: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    from stock_assets.evaluation import plots

    counts = recent.group_by("label").agg(rows=pl.len())
    return {"label_distribution": picture(plots.label_distribution(counts), "label distribution")}


def _sample_chart(chart: materialize.SampleChart | None) -> dict[str, dg.MetadataValue]:
    """A candlestick chart with Bollinger bands and labels."""
    from stock_assets.evaluation import plots

    if chart is None:
        return {}
    candles = plots.candlestick(chart.bars, title=chart.ticker)
    return {"sample_chart": picture(candles, f"candlestick of {chart.ticker}")}
