"""How good predictions were: scores of a year, and how sure one can be of them.

Labels are -1 sell, 0 hold, 1 buy; probabilities are float64 [N, 3] in that order; the predicted class is
the most probable one, the first of equals. Rows of one day move together and labels of neighbouring days
overlap, so uncertainty comes from blocks of days, never from rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.frames import CLASSES, PROBABILITIES

#: Sessions of a bootstrap block: a month, three times the overlap of two labels.
BLOCK = 21
#: Probabilities are cut at this from below before their logarithm, so that one certain miss costs 34.5 at
#: most.
SMALLEST = 1e-15
#: A session with fewer rows than this has no rank correlation.
SMALLEST_CROSS_SECTION = 3
NAMES = {-1: "sell", 0: "hold", 1: "buy"}


def predicted(probabilities: np.ndarray) -> np.ndarray:
    """The predicted labels, int64 [N]."""
    return np.asarray(CLASSES)[probabilities.argmax(axis=1)]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose predicted class is their label."""
    return float((predicted(probabilities) == labels).mean())


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur among the labels of the share of their rows that is hit."""
    hit = predicted(probabilities) == labels
    return float(np.mean([hit[labels == c].mean() for c in CLASSES if (labels == c).any()]))


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur among labels or predictions of 2 hits / (rows labelled + rows predicted)."""
    guess = predicted(probabilities)
    scores = []
    for c in CLASSES:
        rows = (labels == c).sum() + (guess == c).sum()
        if rows:
            scores.append(2 * ((labels == c) & (guess == c)).sum() / rows)
    return float(np.mean(scores))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln p(label), in nats; p is cut at SMALLEST from below."""
    return float(_surprise(labels, probabilities).mean())


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over rows of the sum over classes of (p - 1[label])², from 0 to 2 (Brier 1950)."""
    return float(((probabilities - (labels[:, None] == np.asarray(CLASSES))) ** 2).sum(axis=1).mean())


def rmse(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Root mean squared difference of predicted class and label, both as -1, 0, 1: what the reference study reports."""
    return float(np.sqrt(((predicted(probabilities) - labels) ** 2).mean()))


def ordinal_rmse(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Root mean squared difference of the expected label, p_buy - p_sell, and the label."""
    return float(np.sqrt(((probabilities @ np.asarray(CLASSES) - labels) ** 2).mean()))


def t_statistic(values: np.ndarray) -> float | None:
    """Mean / (standard deviation / √n) of the values that are not NaN; None for fewer than two or equal ones."""
    values = values[~np.isnan(values)]
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() / deviation * np.sqrt(len(values))) if deviation > 0 else None


def block_bootstrap(
    values_per_session: np.ndarray,
    block: int = BLOCK,
    seed: int = 0,
    weights: np.ndarray | None = None,
    draws: int = 1000,
) -> tuple[float, float] | None:
    """(low, high): the 95 % interval of the mean over sessions, weighted by `weights` when given.

    Circular block bootstrap (Politis & Romano 1992): sessions are drawn in blocks of `block` neighbours,
    the last one adjoining the first. NaN handling: sessions without a value are left out before; None when
    none is left.
    """
    means = _bootstrap_means(values_per_session, weights, block, draws, np.random.default_rng(seed))
    return None if means is None else _interval(means)


def scored_rows(predictions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Each prediction that has a label, with `label`, `forward_return_1`, `predicted` (int8, the most probable
    class) and `surprise` (-ln p(label), as in `log_loss`); sorted by model, session, ticker.

    Predictions without a label (too recent, or left out as suspect) are dropped; `labels` are the usable
    ones. Every table below and of `breakdowns` is made of these rows.

    Raises StockAssetsError for probabilities that are not finite or do not sum to 1 and for a row that
    comes twice, CutoffError for a prediction made by a model trained through its session or later.
    """
    _check_predictions(predictions)
    p_sell, p_hold, p_buy = (pl.col(name) for name in PROBABILITIES)
    label = pl.col("label")
    of_label = pl.when(label == -1).then(p_sell).when(label == 0).then(p_hold).otherwise(p_buy)
    guess = pl.when((p_sell >= p_hold) & (p_sell >= p_buy)).then(-1).when(p_hold >= p_buy).then(0).otherwise(1)
    return (
        predictions.join(
            labels.select("ticker", "session", "label", "forward_return_1"), on=["ticker", "session"], how="inner"
        )
        .with_columns(predicted=guess.cast(pl.Int8), surprise=-of_label.clip(lower_bound=SMALLEST).log())
        .sort("model", "session", "ticker")
    )


def daily_rank_ic(scored: pl.DataFrame) -> pl.DataFrame:
    """model, session, rows, rank_ic: Spearman's correlation of score and next day's return over the day's
    tickers.

    NaN handling: rows without forward_return_1 do not count; rank_ic is null where fewer than
    SMALLEST_CROSS_SECTION rows are left or where the score, or the return, is the same for all of them.
    """
    ic = pl.corr("score", "forward_return_1", method="spearman")
    return (
        scored.filter(pl.col("forward_return_1").is_finite())
        .group_by("model", "session")
        .agg(
            rows=pl.len(),
            rank_ic=pl.when(
                (pl.len() >= SMALLEST_CROSS_SECTION)
                & (pl.col("score").n_unique() > 1)
                & (pl.col("forward_return_1").n_unique() > 1)
            ).then(ic),
        )
        .sort("model", "session")
    )


def walk_forward_table(predictions: pl.DataFrame, labels: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """`score_table` of `predictions` (model, trained_through, ticker, session, p_sell, p_hold, p_buy, score).

    `labels` are usable ones. Raises as `scored_rows`, and StockAssetsError when no prediction has a label.
    """
    scored = scored_rows(predictions, labels)
    if scored.is_empty():
        raise StockAssetsError(
            f"none of the {predictions.height} prediction(s) has a usable label; expected sessions whose "
            "horizon is over"
        )
    return score_table(scored, seed)


def score_table(scored: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """One row per model and year, and one with year null: the mean of the yearly scores.

    `scored` is that of `scored_rows`. Columns: model, year, sessions, rows, then accuracy, log_loss and rank_ic
    each with their 95 % interval (`_low`, `_high`, day-block bootstrap), balanced_accuracy, macro_f1, brier,
    rmse, ordinal_rmse, rank_ic_t (over sessions; for the mean row over all sessions of all years). Sorted by the
    mean log-loss, best model first.

    NaN handling: rank_ic and its companions are null for a model whose score never tells two tickers apart.
    """
    ic = daily_rank_ic(scored)
    table = []
    for (model,), of_model in scored.partition_by("model", as_dict=True, maintain_order=True).items():
        ic_of_model = ic.filter(pl.col("model") == model)
        years, draws = [], []
        by_year = of_model.with_columns(year=pl.col("session").dt.year()).partition_by(
            "year", as_dict=True, maintain_order=True
        )
        for (year,), rows in by_year.items():
            ic_of_year = ic_of_model.filter(pl.col("session").dt.year() == year)
            row, drawn = _scores_of_year(rows, ic_of_year, seed + int(year))
            years.append({"model": model, "year": year} | row | _intervals(drawn))
            draws.append(drawn)
        table += [*years, {"model": model, "year": None} | _mean_of_years(years, draws, ic_of_model)]
    frame = pl.DataFrame(table, schema=_TABLE_SCHEMA)
    mean_loss = pl.col("log_loss").filter(pl.col("year").is_null()).first().over("model")
    return frame.sort(mean_loss, "model", "year", nulls_last=True)


def confusion_table(scored: pl.DataFrame) -> pl.DataFrame:
    """model, label, predicted, rows, share: all nine pairs per model; share is of the label's rows."""
    counted = scored.group_by("model", "label", "predicted").len("rows")
    classes = pl.DataFrame({"label": CLASSES}, schema={"label": pl.Int8})
    pairs = counted.select("model").unique().join(classes, how="cross")
    return (
        pairs.join(classes.rename({"label": "predicted"}), how="cross")
        .join(counted, on=["model", "label", "predicted"], how="left")
        .with_columns(pl.col("rows").fill_null(0))
        .with_columns(share=_share("rows", ["model", "label"]))
        .sort("model", "label", "predicted")
    )


def classification_report(confusion: pl.DataFrame, model: str) -> pl.DataFrame:
    """class, precision, recall, f1, support of one model: sell, hold, buy, their plain and their weighted mean.

    `confusion` is that of `confusion_table`. Of the rows predicted as the class, `precision` is the share that
    was one; of the `support` rows of the class, `recall` the share predicted as one; `f1` their harmonic mean
    (scikit-learn's `classification_report`). Null where there is nothing to divide by; means leave nulls out.
    """
    cells = confusion.filter(pl.col("model") == model)
    hits = pl.col("rows").filter(pl.col("label") == pl.col("predicted")).sum()
    labelled = cells.group_by(pl.col("label").alias("c")).agg(support=pl.col("rows").sum(), hits=hits)
    guessed = cells.group_by(pl.col("predicted").alias("c")).agg(guessed=pl.col("rows").sum())

    def ratio(above: pl.Expr, below: pl.Expr) -> pl.Expr:
        return pl.when(below > 0).then(above / below)

    found, support, said = pl.col("hits"), pl.col("support"), pl.col("guessed")
    by_class = (
        labelled.join(guessed, on="c")
        .sort("c")
        .select(
            pl.col("c").replace_strict(NAMES, return_dtype=pl.String).alias("class"),
            precision=ratio(found, said),
            recall=ratio(found, support),
            f1=ratio(2 * found, said + support),
            support=support.cast(pl.Int64),
        )
    )
    scores = ("precision", "recall", "f1")

    def weighted(name: str) -> pl.Expr:
        weight = pl.when(pl.col(name).is_not_null()).then(pl.col("support"))
        return ratio((pl.col(name) * weight).sum(), weight.sum())

    rows = pl.col("support").sum()
    plain_mean = by_class.select(pl.lit("mean").alias("class"), pl.col(*scores).mean(), rows)
    weighted_mean = by_class.select(pl.lit("weighted mean").alias("class"), *map(weighted, scores), rows)
    return pl.concat([by_class, plain_mean, weighted_mean])


def calibration_table(scored: pl.DataFrame, bins: int = 20) -> pl.DataFrame:
    """model, class, bin, rows, forecast, observed: does a class come as often as its probability says?

    Probabilities are sorted into `bins` equal intervals of [0, 1]; `forecast` is their mean within the bin,
    `observed` the share of its rows with that label. Empty bins have no row.
    """
    parts = [
        scored.select(
            "model",
            pl.lit(c, pl.Int8).alias("class"),
            (pl.col(column) * bins).floor().clip(0, bins - 1).cast(pl.Int32).alias("bin"),
            pl.col(column).alias("forecast"),
            (pl.col("label") == c).cast(pl.Float64).alias("observed"),
        )
        for c, column in zip(CLASSES, PROBABILITIES, strict=True)
    ]
    return (
        pl.concat(parts)
        .group_by("model", "class", "bin")
        .agg(pl.len().alias("rows"), pl.col("forecast", "observed").mean())
        .sort("model", "class", "bin")
    )


def best_naive(table: pl.DataFrame, naive: Sequence[str]) -> dict | None:
    """The mean-of-years row of the `naive` model with the lowest log-loss, None where there is none."""
    rows = table.filter(pl.col("year").is_null() & pl.col("model").is_in(list(naive))).sort("log_loss", "model")
    return None if rows.is_empty() else rows.row(0, named=True)


_INTERVAL_OF = ("accuracy", "log_loss", "rank_ic")
_TABLE_SCHEMA: dict[str, Any] = {
    "model": pl.String,
    "year": pl.Int32,
    "sessions": pl.Int64,
    "rows": pl.Int64,
} | dict.fromkeys(
    (
        *(f"{metric}{end}" for metric in _INTERVAL_OF for end in ("", "_low", "_high")),
        "rank_ic_t",
        "balanced_accuracy",
        "macro_f1",
        "brier",
        "rmse",
        "ordinal_rmse",
    ),
    pl.Float64,
)


def _scores_of_year(rows: pl.DataFrame, ic: pl.DataFrame, seed: int) -> tuple[dict, dict[str, np.ndarray | None]]:
    """(scores, bootstrap means of those that get an interval)."""
    labels = rows["label"].cast(pl.Int64).to_numpy()
    probabilities = rows.select(PROBABILITIES).to_numpy()
    daily_ic = ic["rank_ic"].drop_nulls().to_numpy()
    by_session = rows.group_by("session", maintain_order=True).agg(
        hit=(pl.col("predicted") == pl.col("label")).mean(),
        surprise=pl.col("surprise").mean(),
        rows=pl.len().cast(pl.Float64),
    )
    scores = {
        "sessions": by_session.height,
        "rows": rows.height,
        "accuracy": accuracy(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "rank_ic": float(daily_ic.mean()) if len(daily_ic) else None,
        "rank_ic_t": t_statistic(daily_ic),
        "balanced_accuracy": balanced_accuracy(labels, probabilities),
        "macro_f1": macro_f1(labels, probabilities),
        "brier": brier(labels, probabilities),
        "rmse": rmse(labels, probabilities),
        "ordinal_rmse": ordinal_rmse(labels, probabilities),
    }
    rng = np.random.default_rng(seed)
    weights = by_session["rows"].to_numpy()
    drawn = {
        "accuracy": _bootstrap_means(by_session["hit"].to_numpy(), weights, BLOCK, 1000, rng),
        "log_loss": _bootstrap_means(by_session["surprise"].to_numpy(), weights, BLOCK, 1000, rng),
        "rank_ic": _bootstrap_means(daily_ic, None, BLOCK, 1000, rng),
    }
    return scores, drawn


def _mean_of_years(years: list[dict], draws: list[dict[str, np.ndarray | None]], ic: pl.DataFrame) -> dict:
    means: dict[str, Any] = {
        "sessions": sum(y["sessions"] for y in years),
        "rows": sum(y["rows"] for y in years),
    }
    for name in (
        "accuracy",
        "log_loss",
        "rank_ic",
        "balanced_accuracy",
        "macro_f1",
        "brier",
        "rmse",
        "ordinal_rmse",
    ):
        known = [y[name] for y in years if y[name] is not None]
        means[name] = float(np.mean(known)) if known else None
    means["rank_ic_t"] = t_statistic(ic["rank_ic"].drop_nulls().to_numpy())
    drawn: dict[str, np.ndarray | None] = {}
    for name in _INTERVAL_OF:  # years are drawn apart, as the mean of years weighs them alike
        known = [d for d in (of_year[name] for of_year in draws) if d is not None]
        drawn[name] = np.mean(known, axis=0) if known else None
    return means | _intervals(drawn)


def _intervals(drawn: dict[str, np.ndarray | None]) -> dict[str, float | None]:
    ends: dict[str, float | None] = {}
    for name, means in drawn.items():
        ends[f"{name}_low"], ends[f"{name}_high"] = (None, None) if means is None else _interval(means)
    return ends


def _interval(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _bootstrap_means(
    values: np.ndarray, weights: np.ndarray | None, block: int, draws: int, rng: np.random.Generator
) -> np.ndarray | None:
    """The means of `draws` samples, float64 [draws]; None without a value."""
    known = ~np.isnan(values)
    values, weights = values[known], np.ones(known.sum()) if weights is None else weights[known]
    count = len(values)
    if not count:
        return None
    block = min(block, count)
    first = rng.integers(0, count, size=(draws, -(-count // block), 1))
    sample = ((first + np.arange(block)) % count).reshape(draws, -1)[:, :count]  # [draws, count]
    return (values * weights)[sample].sum(axis=1) / weights[sample].sum(axis=1)


def _surprise(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    of_label = probabilities[np.arange(len(labels)), np.asarray(labels, np.int64) - CLASSES[0]]
    return -np.log(np.maximum(of_label, SMALLEST))


def _share(column: str, of: list[str]) -> pl.Expr:
    total = pl.col(column).sum().over(of)
    return pl.when(total > 0).then(pl.col(column) / total)


def _check_predictions(predictions: pl.DataFrame) -> None:
    total = pl.sum_horizontal(PROBABILITIES)
    wrong = predictions.filter(
        ~pl.all_horizontal(pl.col(p).is_finite() & (pl.col(p) >= 0) for p in PROBABILITIES).fill_null(False)
        | ((total - 1).abs() > 1e-6)
    )
    if not wrong.is_empty():
        row = wrong.row(0, named=True)
        shown = ", ".join(f"{p} {row[p]}" for p in PROBABILITIES)
        raise StockAssetsError(
            f"prediction of {row['model']} for {row['ticker']} at {row['session']}: {shown}, as are "
            f"{wrong.height - 1} more; expected finite probabilities that sum to 1"
        )
    twice = predictions.group_by("model", "ticker", "session").len().filter(pl.col("len") > 1)
    if not twice.is_empty():
        model, ticker, session, times = twice.sort("model", "ticker", "session").row(0)
        raise StockAssetsError(
            f"{times} predictions of {model} for {ticker} at {session}; expected one per model, ticker and session"
        )
    late = predictions.filter(pl.col("trained_through") >= pl.col("session"))
    if not late.is_empty():
        row = late.row(0, named=True)
        raise CutoffError(
            f"{row['model']} predicted {row['ticker']} at {row['session']} though trained through "
            f"{row['trained_through']}; expected a cutoff before the session"
        )
