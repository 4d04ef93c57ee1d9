"""How good predictions were: the scores of a model in a year, and the table of all models and years.

Labels are -1 sell, 0 hold, 1 buy; probabilities are float64 [N, 3] in that order; the predicted class is the most
probable one, the first of equals.

METRICS is the list of all scores. The columns of the table `evaluation_report`, their texts in the UI and the report's
table of scores follow from it: a new score is one function and one entry here, or `tables.add_metric` from outside.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.evaluation.bootstrap import bootstrap_means, interval, t_statistic
from stock_assets.frames import CLASSES, KEYS, PROBABILITIES, SMALLEST_PROBABILITY, improper, repeated, surprise

#: A session with fewer rows than this has no rank correlation.
SMALLEST_CROSS_SECTION = 3
#: The score by which models are ranked, lowest first.
RANKED_BY = "log_loss"


def predicted(probabilities: np.ndarray) -> np.ndarray:
    """int64 [N]: the most probable class of each row of `probabilities`, the first of equals."""
    return np.asarray(CLASSES)[probabilities.argmax(axis=1)]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of rows whose predicted class is their label."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predicted(probabilities)))


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur among the labels of the share of their rows that is predicted as the class."""
    from sklearn.metrics import recall_score

    return float(recall_score(labels, predicted(probabilities), labels=np.unique(labels), average="macro"))


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur among labels or predictions of 2 hits / (rows labelled + rows predicted)."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted(probabilities), average="macro"))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln p(label), in nats; p is cut at SMALLEST_PROBABILITY from below.

    >>> round(log_loss(np.array([1, 0]), np.array([[0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])), 6)
    0.346574
    """
    from sklearn.metrics import log_loss as score

    return float(score(labels, _summing_to_one(np.maximum(probabilities, SMALLEST_PROBABILITY)), labels=list(CLASSES)))


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over rows of the sum over classes of (p - 1[label])², from 0 to 2 (Brier 1950)."""
    from sklearn.metrics import brier_score_loss

    whole = _summing_to_one(probabilities)
    return float(brier_score_loss(labels, whole, labels=list(CLASSES), scale_by_half=False))  # pyright: ignore[reportArgumentType]


def rmse(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Root mean squared difference of predicted class and label, both as -1, 0, 1: what the reference study reports."""
    return float(np.sqrt(((predicted(probabilities) - labels) ** 2).mean()))


def ordinal_rmse(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Root mean squared difference of the expected label, p_buy - p_sell, and the label."""
    return float(np.sqrt(((probabilities @ np.asarray(CLASSES) - labels) ** 2).mean()))


def _summing_to_one(probabilities: np.ndarray) -> np.ndarray:
    """`probabilities` over their sum: scikit-learn warns of sums that single precision leaves 1e-7 beside 1."""
    return probabilities / probabilities.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Scored:
    """The rows of `scored_rows` of one model, of one year or of all, and what most scores are made of."""

    rows: pl.DataFrame

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [N]"""
        return self.rows["label"].cast(pl.Int64).to_numpy()

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float64 [N, 3] in the order of CLASSES"""
        return self.rows.select(PROBABILITIES).to_numpy()

    @cached_property
    def by_session(self) -> pl.DataFrame:
        """session, hit (share of the rows whose predicted class is their label), surprise (mean), rows; ascending"""
        hit = (pl.col("predicted") == pl.col("label")).mean()
        per_session = self.rows.group_by("session", maintain_order=True)
        return per_session.agg(hit=hit, surprise=pl.col("surprise").mean(), rows=pl.len().cast(pl.Float64))

    @cached_property
    def daily_rank_ic(self) -> np.ndarray:
        """float64 [T]: the rank IC of the sessions that have one, in the order of time"""
        return daily_rank_ic(self.rows)["rank_ic"].drop_nulls().to_numpy()

    def of_session(self, column: str) -> "Daily":
        """A column of `by_session`, weighted by the rows of each session."""
        return self.by_session[column].to_numpy(), self.by_session["rows"].to_numpy()


#: What a score of single sessions is: values float64 [T] in the order of time, and weights [T] or None.
Daily = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Metric:
    """One score of the report's table.

    `name` is its column, `text` what the column holds, in the words of the UI, and `title` its head in the report,
    where it is shown with so many `digits`. `score` makes it of rows of one model; None where they have no such score.
    Where `daily` is given, `<name>_low` and `<name>_high` are the 95 % interval of the daily values' mean, from blocks
    of days.

    The row of all years holds the mean of the yearly scores, or, where the score is `pooled`, that of all rows
    together. A score that stands `below` another has no column of its own in the report: it is shown as `title = score`
    in the cell of that one.
    """

    name: str
    text: str
    title: str
    score: Callable[[Scored], float | None]
    digits: int = 4
    daily: Callable[[Scored], Daily] | None = None
    pooled: bool = False
    below: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the score: its name and, where it has an interval, the two ends."""
        return (self.name, f"{self.name}_low", f"{self.name}_high") if self.daily else (self.name,)


def of_arrays(function: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Scored], float]:
    """The `Metric.score` that calls `function` with labels [N] and probabilities [N, 3]."""
    return lambda scored_predictions: function(scored_predictions.labels, scored_predictions.probabilities)


def mean_rank_ic(scored_predictions: Scored) -> float | None:
    """Mean of the daily rank IC; None where no session has one."""
    return float(scored_predictions.daily_rank_ic.mean()) if len(scored_predictions.daily_rank_ic) else None


#: Every score by name, in the order of the table. Intervals draw from one generator in this order: put new ones last.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "accuracy",
            "share of rows whose most probable class came true",
            "accuracy",
            of_arrays(accuracy),
            daily=lambda scored: scored.of_session("hit"),
        ),
        Metric(
            "log_loss",
            "mean negative log-probability of what came true, in nats; lower is better",
            "log-loss",
            of_arrays(log_loss),
            daily=lambda scored: scored.of_session("surprise"),
        ),
        Metric(
            "rank_ic",
            "mean daily rank correlation of the score with the next session's return",
            "next-day rank IC",
            mean_rank_ic,
            daily=lambda scored: (scored.daily_rank_ic, None),
        ),
        Metric(
            "rank_ic_t",
            "t-statistic of the daily rank IC",
            "t",
            lambda scored: t_statistic(scored.daily_rank_ic),
            digits=1,
            pooled=True,
            below="rank_ic",
        ),
        Metric(
            "balanced_accuracy",
            "mean over the classes of the share of their rows that is predicted as the class",
            "balanced accuracy",
            of_arrays(balanced_accuracy),
        ),
        Metric("macro_f1", "mean F1 over the classes", "macro F1", of_arrays(macro_f1)),
        Metric("brier", "mean squared error of the probabilities, summed over the classes", "Brier", of_arrays(brier)),
        Metric("rmse", "root mean squared error of the class taken as -1, 0, 1", "RMSE", of_arrays(rmse)),
        Metric(
            "ordinal_rmse",
            "root mean squared error of p_buy - p_sell against the label",
            "ordinal RMSE",
            of_arrays(ordinal_rmse),
        ),
    )
}


def scored_rows(predictions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Each prediction that has a label, with `label`, `forward_return_1`, `predicted` (int8, the most probable class)
    and `surprise` (-ln p(label), in nats, as in `log_loss`); sorted by model, session, ticker.

    `predictions` has model, trained_through, ticker, session, p_sell, p_hold, p_buy and score. `labels` are the usable
    ones: predictions without a label, because it is too recent or left out as suspect, are dropped. Every table of this
    room is made of these rows.

    Raises StockAssetsError for probabilities that are not finite or do not sum to 1 and for a row that comes twice,
    CutoffError for a prediction made by a model trained through its session or later.
    """
    _check_predictions(predictions)
    return (
        predictions.join(labels.select(*KEYS, "label", "forward_return_1"), on=KEYS, how="inner")
        .with_columns(predicted=most_probable(), surprise=surprise())
        .sort("model", "session", "ticker")
    )


def most_probable() -> pl.Expr:
    """The most probable class (int8) of a row of PROBABILITIES, the first of equals."""
    p_sell, p_hold, p_buy = (pl.col(name) for name in PROBABILITIES)
    guess = pl.when((p_sell >= p_hold) & (p_sell >= p_buy)).then(-1).when(p_hold >= p_buy).then(0).otherwise(1)
    return guess.cast(pl.Int8)


def require_proper(predictions: pl.DataFrame, keys: Sequence[str]) -> None:
    """Raises StockAssetsError for probabilities that are not finite or do not sum to 1, and for a row of model and
    `keys` (ticker first, the moment last) that comes twice."""
    if not (improper_rows := improper(predictions)).is_empty():
        row = improper_rows.row(0, named=True)
        probabilities = ", ".join(f"{p} {row[p]}" for p in PROBABILITIES)
        raise StockAssetsError(
            f"prediction of {row['model']} for {row['ticker']} at {row[keys[-1]]}: {probabilities}, as are "
            f"{improper_rows.height - 1} more; expected finite probabilities that sum to 1"
        )
    if not (twice := repeated(predictions, ["model", *keys])).is_empty():
        row = twice.row(0, named=True)
        raise StockAssetsError(
            f"{row['rows']} predictions of {row['model']} for {row['ticker']} at {row[keys[-1]]}; expected one per "
            f"model, ticker and {keys[-1]}"
        )


def _check_predictions(predictions: pl.DataFrame) -> None:
    require_proper(predictions, KEYS)
    late_predictions = predictions.filter(pl.col("trained_through") >= pl.col("session"))
    if not late_predictions.is_empty():
        row = late_predictions.row(0, named=True)
        raise CutoffError(
            f"{row['model']} predicted {row['ticker']} at {row['session']} though trained through "
            f"{row['trained_through']}; expected a cutoff before the session"
        )


def daily_rank_ic(scored_predictions: pl.DataFrame) -> pl.DataFrame:
    """model, session, rows, rank_ic: Spearman's correlation of score and next day's return over the day's tickers.

    NaN handling: rows without forward_return_1 do not count; rank_ic is null where fewer than SMALLEST_CROSS_SECTION
    rows are left or where the score, or the return, is the same for all of them.
    """
    ic = pl.corr("score", "forward_return_1", method="spearman")
    return (
        scored_predictions.filter(pl.col("forward_return_1").is_finite())
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


def score_table(
    scored_predictions: pl.DataFrame, seed: int = 0, metrics: Iterable[Metric] | None = None
) -> pl.DataFrame:
    """One row per model and year, and one with year null: the mean of the yearly scores.

    `scored_predictions` is that of `scored_rows`. Columns: model, year, sessions, rows, then the columns of each of
    `metrics` (of METRICS where None). Sorted by the mean log-loss, best model first.

    NaN handling: a score that a year does not have is null; a mean leaves such years out.

    Raises StockAssetsError for no row.
    """
    metrics = list(METRICS.values() if metrics is None else metrics)
    if scored_predictions.is_empty():
        raise StockAssetsError("no prediction has a usable label; expected predicted sessions whose horizon is over")
    table = []
    for (model,), of_model in scored_predictions.partition_by("model", as_dict=True, maintain_order=True).items():
        by_year = of_model.with_columns(year=pl.col("session").dt.year()).partition_by(
            "year", as_dict=True, maintain_order=True
        )
        years = [_year(Scored(rows), metrics, seed + int(year)) for (year,), rows in by_year.items()]
        table += [{"model": model, "year": year} | row for (year,), (row, _) in zip(by_year, years, strict=True)]
        table.append({"model": model, "year": None} | _all_years(Scored(of_model), metrics, years))
    frame = pl.DataFrame(table, schema=_schema(metrics))
    mean_loss = pl.col(RANKED_BY).filter(pl.col("year").is_null()).first().over("model")
    return frame.sort(mean_loss, "model", "year", nulls_last=True)


def best_naive(means: pl.DataFrame, naive: Sequence[str]) -> dict[str, Any] | None:
    """The row of the `naive` baseline with the lowest log-loss, the first by name of equals; None where there is none.

    `means` has model and log_loss, one row per model: which baseline is the best depends on the rows that are scored,
    so a page names the one of its own rows. Raises ValueError for a model that comes twice.
    """
    rows = means.filter(pl.col("model").is_in(list(naive))).sort(RANKED_BY, "model")
    if rows["model"].is_duplicated().any():
        raise ValueError(f"{rows.height} rows of {rows['model'].n_unique()} baseline(s); expected one row per model")
    return None if rows.is_empty() else rows.row(0, named=True)


#: The scores of a year, and the bootstrap means of those that have an interval.
_Year = tuple[dict[str, Any], dict[str, np.ndarray | None]]


def _year(scored_predictions: Scored, metrics: Sequence[Metric], seed: int) -> _Year:
    generator = np.random.default_rng(seed)
    draws = {
        metric.name: bootstrap_means(*metric.daily(scored_predictions), generator) for metric in metrics if metric.daily
    }
    scores = {metric.name: metric.score(scored_predictions) for metric in metrics}
    return {
        "sessions": scored_predictions.by_session.height,
        "rows": scored_predictions.rows.height,
    } | scores | _intervals(draws), draws


def _all_years(scored_predictions: Scored, metrics: Sequence[Metric], years: Sequence[_Year]) -> dict[str, Any]:
    means: dict[str, Any] = {count: sum(scores[count] for scores, _ in years) for count in ("sessions", "rows")}
    draws: dict[str, np.ndarray | None] = {}
    for metric in metrics:
        values = [scores[metric.name] for scores, _ in years if scores[metric.name] is not None]
        means[metric.name] = float(np.mean(values)) if values else None
        if metric.pooled:
            means[metric.name] = metric.score(scored_predictions)
        if metric.daily:  # years are drawn apart, as the mean of years weighs them alike
            of_years = [year_draws for _, of_year in years if (year_draws := of_year[metric.name]) is not None]
            draws[metric.name] = np.mean(of_years, axis=0) if of_years else None
    return means | _intervals(draws)


def _intervals(draws: dict[str, np.ndarray | None]) -> dict[str, float | None]:
    ends: dict[str, float | None] = {}
    for name, means in draws.items():
        ends[f"{name}_low"], ends[f"{name}_high"] = (None, None) if means is None else interval(means)
    return ends


def _schema(metrics: Iterable[Metric]) -> dict[str, Any]:
    counts = {"model": pl.String, "year": pl.Int32, "sessions": pl.Int64, "rows": pl.Int64}
    return counts | {column: pl.Float64 for metric in metrics for column in metric.columns}
