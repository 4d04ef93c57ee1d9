"""What a model would score if it were allowed to cheat.

The label of session t is known only once its horizon is over. Feeding yesterday's label to a prediction of
today hands over six of the seven days to be predicted: most published accuracies on this task come from
there.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.model.baselines import fit_logistic
from stock_assets.model.config import CLASSES, PROBABILITIES
from stock_assets.model.splits import KEYS, training_rows

#: Means of the yearly scores that no honest model of this task has come near on real prices: a volatility forecast
#: far beyond the best known one would be needed. One calm year reaches them by itself, so two are asked for.
TOO_ACCURATE, TOO_SMALL_A_LOSS, YEARS_NEEDED = 0.485, 0.995, 2


def too_good(scores: pl.DataFrame) -> pl.DataFrame:
    """The mean-of-years rows of `metrics.walk_forward_table` that suggest a leak: model, accuracy, log_loss.

    Empty as well where fewer than YEARS_NEEDED years were scored.
    """
    if scores["year"].drop_nulls().n_unique() < YEARS_NEEDED:
        return scores.clear().select("model", "accuracy", "log_loss")
    suspicious = (pl.col("accuracy") > TOO_ACCURATE) | (pl.col("log_loss") < TOO_SMALL_A_LOSS)
    return scores.filter(pl.col("year").is_null() & suspicious).select("model", "accuracy", "log_loss")


def lag_sweep(
    labels: pl.DataFrame,
    lags: Iterable[int] = range(1, 11),
    years: Sequence[int] | None = None,
    horizon: int = 7,
) -> pl.DataFrame:
    """lag, honest, rows, accuracy, rmse of copying the label of `lag` rows ago, over the sessions of
    `years` (all when None).

    Lags count the ticker's own rows. `honest` says whether the copied label is known at the session's
    close: from `horizon` on, where the accuracy falls off a cliff. Give all labels, the suspect ones too: a
    row left out would shift the lags.
    """
    rows = labels.sort(KEYS)
    in_years = pl.lit(True) if years is None else pl.col("session").dt.year().is_in(list(years))
    table = []
    for lag in lags:
        pairs = rows.select("session", "label", _lagged(lag)).filter(in_years).drop_nulls("lagged")
        distance = (pairs["lagged"].cast(pl.Float64) - pairs["label"].cast(pl.Float64)).to_numpy()
        scores = (
            (float((distance == 0).mean()), float(np.sqrt((distance**2).mean()))) if len(distance) else (None, None)
        )
        table.append((lag, lag >= horizon, len(distance), *scores))
    schema = {
        "lag": pl.Int64,
        "honest": pl.Boolean,
        "rows": pl.Int64,
        "accuracy": pl.Float64,
        "rmse": pl.Float64,
    }
    return pl.DataFrame(table, schema=schema, orient="row")


def leakage_table(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    usable: pl.DataFrame,
    cutoffs: Mapping[int, date],
    horizon: int = 7,
) -> pl.DataFrame:
    """protocol, model, accuracy, rmse, log_loss, note: honest and cheating models side by side, on the same
    rows.

    `labels` are all labels, `usable` those that may train and score. `cutoffs` maps each test year to the
    last session that its models may know. Scores are means of the yearly scores; log_loss is null for
    persistence, which states no probability.

    Raises StockAssetsError when a year has no row to score, or nothing to learn from.
    """
    lagged = labels.sort(KEYS).select(*KEYS, _lagged(1).alias("yesterday"), _lagged(horizon).alias("known"))
    rows = usable.join(lagged.drop_nulls(), on=KEYS).join(features.select(KEYS), on=KEYS)
    cheating = features.join(
        lagged.drop_nulls().select(
            *KEYS, *((pl.col("yesterday") == c).cast(pl.Float64).alias(f"yesterday_{c}") for c in CLASSES)
        ),
        on=KEYS,
    )
    scores: dict[str, list[list[float]]] = {name: [] for name in _AUDITED}
    for year, cutoff in cutoffs.items():
        train, test = training_rows(rows, cutoff), rows.filter(pl.col("session").dt.year() == year).sort(KEYS)
        if test.is_empty():
            raise StockAssetsError(f"the leakage audit has no row to score in {year}; expected features and labels")
        answers = {name: (test[name].to_numpy()[:, None] == np.asarray(CLASSES)).astype(float) for name in _COPIED}
        for name, inputs in (("logistic", features), ("logistic_cheating", cheating)):
            asked = inputs.join(test.select(KEYS), on=KEYS, how="semi")
            answers[name] = fit_logistic(inputs, train, cutoff).predict(asked).select(PROBABILITIES).to_numpy()
        truth = test["label"].cast(pl.Int64).to_numpy()
        for name, answer in answers.items():
            scores[name].append([score(truth, answer) for score in _SCORES])
    table = []
    for name, (protocol, model, note) in _AUDITED.items():
        right, distance, loss = np.mean(scores[name], axis=0).tolist()
        table.append((protocol, model, right, distance, None if name in _COPIED else loss, note.format(horizon)))
    schema = {"protocol": pl.String, "model": pl.String, "accuracy": pl.Float64, "rmse": pl.Float64}
    return pl.DataFrame(table, schema | {"log_loss": pl.Float64, "note": pl.String}, orient="row")


_SCORES = (metrics.accuracy, metrics.rmse, metrics.log_loss)
_COPIED = ("known", "yesterday")
_AUDITED = {
    "known": ("honest", "persistence", "copies the label of {} rows ago, known at the close"),
    "logistic": ("honest", "logistic", "the features of the session"),
    "yesterday": (
        "cheating",
        "persistence",
        "copies yesterday's label: all but one of its days are in the future",
    ),
    "logistic_cheating": ("cheating", "logistic", "the features of the session and yesterday's label"),
}


def _lagged(lag: int) -> pl.Expr:
    return pl.col("label").shift(lag).over("ticker").alias("lagged")
