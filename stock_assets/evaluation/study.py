"""The reference study's figures on these prices: its target, the chart of one ticker, its inputs compared."""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.features.indicators import classic_indicators
from stock_assets.features.labels import barrier_labels
from stock_assets.frames import KEYS, PROBABILITIES
from stock_assets.model.baselines.linear import fit_logistic
from stock_assets.model.splits import training_rows
from stock_assets.setting_values import LabelRule

#: The symmetric thresholds that the study shows beside its own, as (buy, sell).
SYMMETRIC = (0.025, 0.025)


def label_counts(bars: pl.DataFrame, horizon: int, thresholds: Sequence[tuple[float, float]]) -> pl.DataFrame:
    """thresholds, label, rows: how often each label comes at each pair of (buy, sell) thresholds.

    `bars` are rows of `daily_bars` (ticker, session, total_return), suspect ones too; horizons are complete.
    Thresholds are fractions; pairs that come twice are counted once. Raises as `features.labels.barrier_labels`.
    """
    counts = [
        barrier_labels(bars, LabelRule(horizon, buy, sell))
        .group_by("label")
        .agg(rows=pl.len().cast(pl.Int64))
        .select(pl.lit(f"+{buy:.1%} / −{sell:.1%}").alias("thresholds"), "label", "rows")
        for buy, sell in dict.fromkeys(thresholds)
    ]
    return pl.concat(counts).sort("thresholds", "label")


def most_traded(bars: pl.DataFrame) -> str:
    """The ticker with the most money traded among those with the most bars: one that a reader knows, without gaps.

    `bars` has ticker, close and volume. Raises StockAssetsError for no bar.
    """
    if bars.is_empty():
        raise StockAssetsError("there is no bar to draw; expected rows of daily_bars")
    turnover_by_ticker = bars.group_by("ticker").agg(bars=pl.len(), traded=(pl.col("close") * pl.col("volume")).sum())
    return turnover_by_ticker.sort("bars", "traded", "ticker", descending=[True, True, False])["ticker"][0]


def chart(bars: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """One ticker's session, close, volume, ma, Bollinger bands, RSI, momentum and label, on one price basis.

    `bars` are all rows of `daily_bars` of one ticker, `labels` have ticker, session and label. Prices are
    adjusted for later dividends and splits, volumes for splits; momentum_k is a fraction of the close. The
    indicators are null for the first bars of a history, label where it is not known yet. Sorted by session.
    """
    rows = bars.sort("session")
    growth = (1 + pl.col("total_return").fill_null(0.0)).cum_prod()
    later_splits = pl.col("split_ratio").fill_null(1.0).shift(-1, fill_value=1.0).cum_prod(reverse=True)
    adjusted_close = pl.col("close").last() * growth / growth.last()
    rows = rows.with_columns(adjusted=adjusted_close, volume=pl.col("volume") * later_splits)
    of_ticker = classic_indicators(rows)
    prices = [name for name in of_ticker.columns if name.startswith(("ma_", "bb_"))]
    momenta = [name for name in of_ticker.columns if name.startswith("momentum_")]
    return (
        rows.select("ticker", "session", "close", "adjusted", "volume")
        .join(of_ticker, on=KEYS, how="left")
        .join(labels.select(*KEYS, "label"), on=KEYS, how="left")
        .select(
            "session",
            pl.col("adjusted").alias("close"),
            "volume",
            *(pl.col(name) * pl.col("adjusted") / pl.col("close") for name in prices),
            *(pl.col(name) / pl.col("close") for name in momenta),
            *(name for name in of_ticker.columns if name.startswith("rsi_")),
            "label",
        )
        .sort("session")
    )


def ablation_table(
    features: pl.DataFrame, labels: pl.DataFrame, *, cutoffs: Mapping[int, date], inputs: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """inputs, year, columns, rows, accuracy, log_loss: a logistic regression on each set of columns, walk-forward.

    `features` has ticker, session and every column of `inputs`; `labels` are usable ones; `cutoffs` maps each
    test year to the last session that its models may know. All sets train and score on the same rows. The
    row with year null holds the means of the yearly scores. In the order of `inputs`, then by year. Rows
    without features, or without a label, are left out: a sample of the features is a sample of everything.

    Raises StockAssetsError for a year without a row to score, and as `fit_logistic`.
    """
    rows = labels.join(features.select(KEYS), on=KEYS, how="semi")
    table = []
    for name, columns in inputs.items():
        frame, scores = features.select(*KEYS, *columns), []
        for year, cutoff in sorted(cutoffs.items()):
            test = rows.filter(pl.col("session").dt.year() == year).sort(KEYS)
            if test.is_empty():
                raise StockAssetsError(f"the comparison of inputs has no row to score in {year}; expected features")
            model = fit_logistic(frame, training_rows(rows, cutoff), cutoff)
            answer = model.predict(frame.join(test, on=KEYS, how="semi")).select(PROBABILITIES).to_numpy()
            truth = test["label"].cast(pl.Int64).to_numpy()
            scores.append((test.height, metrics.accuracy(truth, answer), metrics.log_loss(truth, answer)))
            table.append((name, year, len(columns), *scores[-1]))
        total, right, loss = np.transpose(scores)
        table.append((name, None, len(columns), int(total.sum()), float(right.mean()), float(loss.mean())))
    schema = {"inputs": pl.String, "year": pl.Int32, "columns": pl.Int64, "rows": pl.Int64}
    return pl.DataFrame(table, schema | {"accuracy": pl.Float64, "log_loss": pl.Float64}, orient="row")
