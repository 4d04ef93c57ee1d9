"""The tables that say whether the predictions are still good: how they did, how sure that is, and what has changed."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from stock_assets.evaluation.bootstrap import rolling_bootstrap
from stock_assets.evaluation.metrics import SMALLEST_CROSS_SECTION, best_naive
from stock_assets.frames import CLASSES, KEYS, PROBABILITIES, SMALLEST_PROBABILITY
from stock_assets.lifecycle.drift import BINS, INPUT
from stock_assets.lifecycle.operations import WINDOW, live_skill
from stock_assets.publication.tables import MONITORING

#: Blocks that a window of WINDOW sessions is drawn in: as long as a label looks ahead by default.
BLOCKS = 3
#: Columns whose histograms are published.
WORST = 10


def session_rows(
    operations: pl.DataFrame, predictions: pl.DataFrame, labels: pl.DataFrame, *, left_out: pl.DataFrame
) -> pl.DataFrame:
    """`MONITORING["sessions"]`: the rows of the table operations, and what was expected of each session.

    `predictions` are rows of the model in service (ticker, session, p_sell, p_hold, p_buy, score), `labels` the usable
    labels (ticker, session, forward_return_horizon), `left_out` has ticker and session.
    """
    entropy = -pl.sum_horizontal(
        pl.col(p) * pl.col(p).clip(lower_bound=SMALLEST_PROBABILITY).log() for p in PROBABILITIES
    )
    has_variation = (
        (pl.len() >= SMALLEST_CROSS_SECTION)
        & (pl.col("score").n_unique() > 1)
        & (pl.col("forward_return_horizon").n_unique() > 1)
    )
    ic = pl.when(has_variation).then(pl.corr("score", "forward_return_horizon", method="spearman"))
    labelled_predictions = predictions.join(labels.drop_nulls("forward_return_horizon"), on=KEYS)
    rows = (
        operations.join(left_out.group_by("session").agg(left_out=pl.len()), on="session", how="left")
        .join(predictions.group_by("session").agg(expected_log_loss=entropy.mean()), on="session", how="left")
        .join(labelled_predictions.group_by("session").agg(rank_ic=ic), on="session", how="left")
        .with_columns(pl.col("left_out").fill_null(0))
    )
    return fitted("sessions", rows)


def rolling_skill(operations: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """`MONITORING["rolling_skill"]` of the rows of the table operations.

    The interval is that of `block_bootstrap` over the window's WINDOW sessions, null where there are fewer.
    """
    lines = live_skill(operations)
    daily = operations.drop_nulls(["log_loss", "naive_log_loss"]).sort("session")
    columns = ("log_loss", "ensemble_log_loss", "naive_log_loss")
    parts = []
    for (_, line), column in zip(
        lines.partition_by("model", as_dict=True, maintain_order=True).items(), columns, strict=False
    ):
        losses = daily.select("session", column).drop_nulls()
        ends = rolling_bootstrap(losses[column].to_numpy(), WINDOW, WINDOW // BLOCKS, seed=seed)
        bounds = losses.tail(len(ends)).select("session", low=pl.Series(ends[:, 0]), high=pl.Series(ends[:, 1]))
        parts.append(line.join(bounds, on="session", how="left"))
    return fitted("rolling_skill", pl.concat(parts)) if parts else MONITORING["rolling_skill"].empty()


def reliability(scored_rows: pl.DataFrame) -> pl.DataFrame:
    """`MONITORING["reliability"]` of `scored_rows` (p_sell, p_hold, p_buy and label of the model in service): each
    class in ten bins of as many rows, by its probability; equal probabilities are in one bin."""
    parts = [MONITORING["reliability"].empty()]
    for label, name in zip(CLASSES, PROBABILITIES, strict=True):
        place = (pl.col(name).rank("max") * BINS / pl.len()).ceil().cast(pl.Int32)
        rows = scored_rows.group_by(bin=place).agg(
            probability=pl.col(name).mean(), frequency=(pl.col("label") == label).mean(), rows=pl.len()
        )
        parts.append(fitted("reliability", rows.with_columns(pl.lit(name.removeprefix("p_")).alias("class"))))
    return pl.concat(parts)


def score_rows(report: pl.DataFrame, naive: Sequence[str]) -> pl.DataFrame:
    """`MONITORING["score"]`: the rows of all years of `evaluation_report`, best first; `naive` names the baselines."""
    means = report.filter(pl.col("year").is_null())
    best = best_naive(means, naive)
    rows = means.with_columns(naive=pl.col("model") == (best["model"] if best else ""))
    return fitted("score", rows.rename({"log_loss_low": "low", "log_loss_high": "high"}), "log_loss", "model")


def worst_columns(drift: pl.DataFrame, session: date) -> list[str]:
    """The WORST inputs by Kolmogorov-Smirnov distance at `session`, the worst first."""
    of_session = drift.filter(pl.col("session") == session, pl.col("kind") == INPUT)
    return of_session.sort("ks", "column", descending=[True, False]).head(WORST)["column"].to_list()


def histograms(reference: pl.DataFrame, recent: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """`MONITORING["histograms"]`: the shares of the rows of `reference` and of `recent` in the deciles of `reference`,
    fewer where deciles coincide. Both hold `columns`, finite numbers."""
    rows = []
    for column in columns:
        reference_values, recent_values = reference[column].to_numpy(), recent[column].to_numpy()
        ends = np.unique(np.quantile(reference_values, np.arange(1, BINS) / BINS)).astype(float)
        shares = [
            np.bincount(np.searchsorted(ends, values), minlength=len(ends) + 1)
            for values in (reference_values, recent_values)
        ]
        low, high = [None, *ends.tolist()], [*ends.tolist(), None]
        for i, (a, b) in enumerate(zip(low, high, strict=True)):
            rows.append((column, i + 1, a, b, shares[0][i] / len(reference_values), shares[1][i] / len(recent_values)))
    return pl.DataFrame(rows, MONITORING["histograms"].schema, orient="row")


def fitted(name: str, rows: pl.DataFrame, *order: str) -> pl.DataFrame:
    """`rows` with the columns of `MONITORING[name]` in their types, sorted by `order` or else by its keys; a figure
    that is not finite is null."""
    table = MONITORING[name]
    columns = [
        pl.when(pl.col(column).is_finite()).then(pl.col(column)).cast(dtype).alias(column)
        if dtype.is_float()
        else pl.col(column).cast(dtype)
        for column, dtype in table.schema.items()
    ]
    return rows.select(columns).sort(*(order or table.keys))
