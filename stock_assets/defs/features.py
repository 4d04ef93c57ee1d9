"""The features group: indicators, stationary inputs, labels and principal components, all from `daily_bars`."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import date

import dagster as dg
import polars as pl

from stock_assets.defs import checks
from stock_assets.defs.partitions import labelled_days, trading_days
from stock_assets.defs.tables import SIMULATED, chosen_sessions, picture, preview, report_sessions, table_asset
from stock_assets.errors import MissingTableError
from stock_assets.features import components, indicators, labels, stationary
from stock_assets.features import context as market_context
from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets.features.materialize import MADE_BEFORE_PCA, trusted
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.context import read_context
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Sessions of the sample chart.
CHART_SESSIONS = 90
#: Share of every class among the labels of a year; outside, the thresholds do not fit the market.
LABEL_SHARES = (0.10, 0.70)
LABEL_WINDOW = 252
#: Share of the standardised variance that the components must still hold on sessions after their fit.
EXPLAINED_OUT_OF_SAMPLE = 0.85

SAMPLE_ROWS = 100_000
PCA_COLUMNS = ("ticker", "session", *stationary.CLASSIC)

_FINITE = {"finite": "no number is null, NaN or infinite"}


def feature_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    calendar = calendar_of(settings)
    days = trading_days(settings)
    note = SIMULATED if settings.source == "simulated" else ""

    def bars_with_lookback(
        warehouse: Warehouse, sessions: list[date], needed_by: str, columns: Sequence[str]
    ) -> tuple[pl.DataFrame, list[date]]:
        lookback = calendar.before(sessions[0], LOOKBACK_SESSIONS - 1)
        warehouse.require(
            ["raw_ohlcv", "daily_bars"],
            [*lookback, *sessions],
            needed_by,
            f"{LOOKBACK_SESSIONS} sessions of look-back",
        )
        first, last = (lookback or sessions)[0], sessions[-1]
        bars = warehouse.read("daily_bars", first, last, ["ticker", "session", "total_return", *columns])
        return bars, list(calendar.between(first, last))

    def context_of(warehouse: Warehouse, sessions: list[date]) -> pl.DataFrame:
        lookback = calendar.before(sessions[0], market_context.LOOKBACK)
        known = calendar.between((*lookback, sessions[0])[0], sessions[-1])
        return market_context.context_features(read_context(warehouse, known[0], known[-1]), known)

    def store_daily(
        warehouse: Warehouse, table: str, sessions: list[date], rows: pl.DataFrame, columns: Sequence[str]
    ) -> tuple[pl.DataFrame, dg.AssetCheckResult]:
        """(the rows that were written, whether every number of them is finite)"""
        rows = rows.filter(pl.col("session").is_in(sessions))
        warehouse.replace_sessions(table, sessions, rows)
        return rows, checks.finite_result(table, rows, columns)

    @table_asset(
        "indicators",
        description=(
            "The 25 classic columns of technical analysis, in the price basis of their day. RSI and MACD are the "
            "reference study's own, not Wilder's." + note
        ),
        deps=["daily_bars"],
        partitions=days,
        checks=checks.specs("indicators", _FINITE),
        last=True,
    )
    def indicators_asset(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        bars, known = bars_with_lookback(warehouse, sessions, "indicators", ["close"])
        rows = indicators.indicators(bars, sessions[0], known)
        rows, finite = store_daily(warehouse, "indicators", sessions, rows, indicators.INDICATORS)
        return report_sessions(context, rows, sessions, [finite], sample_chart(warehouse, sessions[-1], settings))

    @table_asset(
        "stationary_features",
        description=(
            "The scale-free inputs of the models: normalised indicators, volatilities, volume, beta, ranks within the "
            "session, the volatility of the market and of each ticker's peers, past earnings days replayed. Every "
            "column is the same for a share before and after a split." + note
        ),
        deps=["daily_bars", "context_series"],
        partitions=days,
        checks=checks.specs("stationary_features", _FINITE),
    )
    def stationary_features(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        bars, known = bars_with_lookback(warehouse, sessions, "stationary_features", stationary.BAR_COLUMNS)
        rows = stationary.stationary_features(bars, sessions[0], known)
        rows = rows.join(context_of(warehouse, sessions), on="session", how="left", maintain_order="left")
        rows, finite = store_daily(warehouse, "stationary_features", sessions, rows, stationary.STATIONARY)
        return report_sessions(context, rows, sessions, [finite])

    @table_asset(
        "labels",
        description=(
            f"Buy, sell or hold: which barrier, +{settings.buy_threshold:.1%} or -{settings.sell_threshold:.1%}, the "
            f"total return touches first within {settings.horizon} bars (triple barrier, López de Prado 2018). A label "
            "looks ahead, so it is late: its partitions end one horizon before the others." + note
        ),
        deps=["daily_bars"],
        partitions=labelled_days(settings),
        checks=checks.specs(
            "labels",
            {
                "label_distribution": f"every class is {LABEL_SHARES[0]:.0%} to {LABEL_SHARES[1]:.0%} of the labels of "
                f"the last {LABEL_WINDOW} sessions"
            },
            blocking=False,
        ),
    )
    def labels_asset(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        ahead = [later for step in range(1, settings.horizon + 1) if (later := calendar.shift(sessions[-1], step))]
        warehouse.require(
            ["raw_ohlcv", "daily_bars"],
            [*sessions, *ahead],
            "labels",
            f"a horizon of {settings.horizon} sessions",
        )
        rows = labels.labels(
            # a ticker with gaps finds its seventh bar later than the others: everything after is read
            warehouse.read("daily_bars", sessions[0], columns=["ticker", "session", "close", "total_return"]),
            horizon=settings.horizon,
            buy_threshold=settings.buy_threshold,
            sell_threshold=settings.sell_threshold,
            first=sessions[0],
            last=sessions[-1],
        ).filter(pl.col("session").is_in(sessions))
        warehouse.replace_sessions("labels", sessions, rows)
        recent = warehouse.read(
            "labels",
            (*calendar.before(sessions[-1], LABEL_WINDOW - 1), sessions[0])[0],
            sessions[-1],
            ["session", "label"],
        )
        return report_sessions(
            context,
            rows,
            sessions,
            [label_distribution(recent)],
            {**label_picture(recent), **sample_chart(warehouse, sessions[-1], settings)},
        )

    @table_asset(
        "pca_model",
        description=(
            "Scaler and principal components that hold 95 % of the variance of the classic indicators, fitted on the "
            f"sessions before {settings.model_start_year}, the first model year, and on nothing later. Refitted only "
            "on purpose." + note
        ),
        deps=["stationary_features"],
        kinds=("scikitlearn",),
    )
    def pca_model(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        from stock_assets.evaluation import plots

        fit_through = calendar.before(date(settings.model_start_year, 1, 1), 1)[0]
        window = calendar.between(calendar.sessions[stationary.FIRST_BAR - 1], fit_through)
        warehouse.require(MADE_BEFORE_PCA, window, "pca_model", "the fit window")
        model = components.fit_pca(
            trusted(warehouse, warehouse.read("stationary_features", window[0], fit_through, PCA_COLUMNS)),
            stationary.CLASSIC,
            fit_through=fit_through,
        )
        table = components.to_frame(model)
        warehouse.replace_table("pca_model", table)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": table.height,
                "pca_version": model.version,
                "components": len(model.explained_variance_ratio),
                "features": len(model.columns),
                "fit_from": str(model.fit_from),
                "fit_through": str(model.fit_through),
                "fit_rows": model.n_rows,
                "explained_variance": picture(
                    plots.explained_variance(model.explained_variance_ratio.tolist()), "explained variance"
                ),
                "preview": preview(
                    table.filter(pl.col("component") == 1).sort(pl.col("loading").abs(), descending=True)
                ),
            }
        )

    @table_asset(
        "pca_components",
        description="The scores of every (ticker, session) on the principal components of `pca_model`." + note,
        deps=["stationary_features", "pca_model"],
        partitions=days,
        checks=[
            *checks.specs("pca_components", _FINITE),
            *checks.specs(
                "pca_components",
                {
                    "explained_out_of_sample": f"the components still hold {EXPLAINED_OUT_OF_SAMPLE:.0%} of variance "
                    "on the sessions of this run; below, refit pca_model"
                },
                blocking=False,
            ),
        ],
    )
    def pca_components(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        featured = [session for session in sessions if calendar.position(session) >= stationary.FIRST_BAR - 1]
        warehouse.require(MADE_BEFORE_PCA, featured, "pca_components")
        model = components.from_frame(warehouse.read("pca_model"))
        features = read_sessions(warehouse, "stationary_features", sessions, PCA_COLUMNS)
        rows = components.transform(model, features)
        names = [name for name in rows.columns if name.startswith("pc_")]
        rows, finite = store_daily(warehouse, "pca_components", sessions, rows, names)
        # a tenth of a million rows tells the share as well as ten years do
        sample = features.gather_every(features.height // SAMPLE_ROWS + 1)
        explained = components.explained_out_of_sample(model, sample) if sample.height else None
        held = explained is None or explained >= EXPLAINED_OUT_OF_SAMPLE
        return report_sessions(
            context,
            rows,
            sessions,
            [
                finite,
                dg.AssetCheckResult(
                    check_name="explained_out_of_sample",
                    passed=held,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={
                        "explained": explained if explained is not None else "no feature row yet",
                        "threshold": EXPLAINED_OUT_OF_SAMPLE,
                        "pca_version": model.version,
                    },
                ),
            ],
        )

    return [indicators_asset, stationary_features, labels_asset, pca_model, pca_components]


def read_sessions(warehouse: Warehouse, table: str, sessions: list[date], columns: Sequence[str]) -> pl.DataFrame:
    """`columns` of the rows of exactly `sessions`."""
    return warehouse.read(table, sessions[0], sessions[-1], columns).filter(pl.col("session").is_in(sessions))


def label_distribution(recent: pl.DataFrame) -> dg.AssetCheckResult:
    """Warns when a class is rarer or more frequent among `recent` labels than `LABEL_SHARES`."""
    total = max(recent.height, 1)
    shares = {
        name: int((recent["label"] == label).sum()) / total for label, name in ((-1, "sell"), (0, "hold"), (1, "buy"))
    }
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


def label_picture(recent: pl.DataFrame) -> dict[str, dg.MetadataValue]:
    from stock_assets.evaluation import plots

    counts = recent.group_by("label").agg(rows=pl.len())
    return {"label_distribution": picture(plots.label_distribution(counts), "label distribution")}


def sample_chart(warehouse: Warehouse, last: date, settings: Settings) -> dict[str, dg.MetadataValue]:
    """A candlestick chart of one trusted ticker up to `last`, with its Bollinger bands and label colours."""
    from stock_assets.evaluation import plots

    first = (*calendar_of(settings).before(last, CHART_SESSIONS - 1), last)[0]
    bars = warehouse.read("daily_bars", first, last)
    candidates = (
        bars.group_by("ticker")
        # one price basis: no split within the chart
        .agg(trusted=(pl.col("suspect").is_null() & (pl.col("split_ratio").fill_null(1) == 1)).all(), bars=pl.len())
        .filter("trusted")
        .sort("bars", "ticker", descending=[True, False])["ticker"]
    )
    if candidates.is_empty():
        return {}
    ticker = candidates[0]
    chart = bars.filter(pl.col("ticker") == ticker).sort("session")
    for table, columns in (("indicators", ["ma_25", "bb_upper_25", "bb_lower_25"]), ("labels", ["label"])):
        with suppress(MissingTableError):  # the chart shows what there is: labels come after indicators
            rows = warehouse.read(table, first, last, ["ticker", "session", *columns])
            chart = chart.join(rows, on=["ticker", "session"], how="left")
    return {"sample_chart": picture(plots.candlestick(chart, title=ticker), f"candlestick of {ticker}")}
