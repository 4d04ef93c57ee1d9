"""What a group of inputs is worth: scores with it less scores without it, on the same rows, with paired intervals.

Three ways to be without a group. *left_out*: the model is trained and asked without its columns; this is what the group
holds that no other input does. *permuted*: the trained model is asked with its columns shuffled; this is how much the
model leans on them (Breiman 2001), which is more, since shuffled rows are like none that it has learned from (Hooker,
Mentch & Zhou 2021). *added*: a group that the model does not read, trained and asked with it.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.bootstrap import DRAWS, bootstrap_means, interval
from stock_assets.evaluation.metrics import Scored, daily_rank_ic, scored_rows
from stock_assets.model.targets import DAILY_RETURN, DAILY_VOLATILITY, OUTCOME

LEFT_OUT, PERMUTED, ADDED = "left_out", "permuted", "added"
#: The ways in the order of the table.
WAYS: Mapping[str, str] = {
    LEFT_OUT: "trained and asked without the group",
    PERMUTED: "asked with the group shuffled among the session's tickers, or among sessions where all share a value",
    ADDED: "not read by the model: trained and asked with the group",
}
#: The scores that are compared, and their titles.
COMPARED = {"log_loss": "log-loss", "accuracy": "accuracy", "rank_ic": "next-day rank IC"}
#: The score by which a group is judged; lower is better.
JUDGED_BY = "log_loss"
#: Columns of the scores of sessions.
SESSION_SCORES = {"session": pl.Date, "rows": pl.Int64, **dict.fromkeys(COMPARED, pl.Float64)}


class Variant(NamedTuple):
    """One way to be with or without a group."""

    group: str
    way: str


#: The model as it is.
FULL = Variant("", "full")


def without(features: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """`features` without `columns`. Those that targets are made of stay for the targets alone."""
    outcome_columns = [f"{OUTCOME}{name}" for name in (DAILY_VOLATILITY, DAILY_RETURN) if name in columns]
    outcomes = [features[name.removeprefix(OUTCOME)].alias(name) for name in outcome_columns]
    return features.drop(columns).with_columns(outcomes)


def permuted(features: pl.DataFrame, columns: Sequence[str], *, seed: int | Sequence[int]) -> pl.DataFrame:
    """`features` with `columns` shuffled, all of them alike: rows of a session exchange them.

    A column that all tickers of each session share is shuffled among the sessions instead. Those that targets are made
    of stay for the targets alone, too. The order of the rows stays.
    """
    if not columns:
        return features
    rng = np.random.default_rng(seed)
    session_columns = _shared(features, columns)
    own = [name for name in columns if name not in session_columns]
    new_features = without(features, columns)
    if own:
        source = _within_sessions(features["session"].to_physical().to_numpy(), rng)
        new_features = new_features.with_columns(features.select(own)[source])
    if session_columns:
        values = features.group_by("session").agg(pl.col(session_columns).first()).sort("session")
        permuted_values = values.select(session_columns)[rng.permutation(values.height)].with_columns(values["session"])
        new_features = new_features.join(permuted_values, on="session", maintain_order="left")
    return new_features.select(*features.columns, *(name for name in new_features.columns if name.startswith(OUTCOME)))


def _shared(features: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """Those of `columns` that hold one value in each session."""
    several = [(pl.col(name).n_unique() > 1).alias(name) for name in columns]
    differ = features.group_by("session").agg(several).select(pl.col(name).any() for name in columns).row(0)
    return [name for name, differs in zip(columns, differ, strict=True) if not differs]


def _within_sessions(day: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64 [N]: for each row another one of its `day` (int [N]), each taken once."""
    source = np.empty(len(day), np.int64)
    source[np.argsort(day, kind="stable")] = np.lexsort((rng.random(len(day)), day))
    return source


def session_scores(answers: pl.DataFrame, labels: pl.DataFrame, *, cutoff: date) -> pl.DataFrame:
    """SESSION_SCORES of what a model trained through `cutoff` predicted, ascending; rank_ic may be null.

    `answers` has ticker, session, probabilities and score; `labels` are the usable ones that count.
    """
    rows = scored_rows(answers.with_columns(model=pl.lit(""), trained_through=pl.lit(cutoff, pl.Date)), labels)
    by_session = Scored(rows).by_session.join(daily_rank_ic(rows).drop("rows"), on="session", how="left")
    return by_session.select(
        "session", pl.col("rows").cast(pl.Int64), log_loss="surprise", accuracy="hit", rank_ic="rank_ic"
    ).sort("session")


def value_table(
    scores: Mapping[Variant, pl.DataFrame], columns: Mapping[str, int], *, model: str, seed: int = 0
) -> pl.DataFrame:
    """The columns of the table `input_value` but its note, for every variant but FULL and each of COMPARED.

    `scores` are SESSION_SCORES with `model_year` and `seed`, of FULL and of variants on the same rows; `columns` are
    the numbers of columns by group. A score of a session is the mean over the seeds. `difference` is the mean of the
    yearly differences: the score with the group less that without it. Its 95 % interval draws blocks of sessions
    within each year, and, where there are several seeds and both sides are trained apart, the luck of the trainings:
    normal, with the variance that the yearly scores of one variant have among seeds, pooled over years and variants.

    Raises StockAssetsError where there is no variant, and where one was scored on other rows.
    """
    full, variants = _by_session(scores[FULL]), [variant for variant in scores if variant != FULL]
    if not variants:
        raise StockAssetsError("there is nothing to compare: no chosen group is left out, permuted or added")
    years, seeds = full["model_year"].unique().sort().to_list(), scores[FULL]["seed"].n_unique()
    luck = _luck_of_trainings([rows for variant, rows in scores.items() if variant.way != PERMUTED])
    table = []
    for variant in variants:
        other = _by_session(scores[variant])
        if not full.select("session", "rows").equals(other.select("session", "rows")):
            raise StockAssetsError(
                f"{variant.way} {variant.group} was scored on {other['rows'].sum()} rows, {model} on "
                f"{full['rows'].sum()}; expected the same"
            )
        sign, has_own_training = 1 if variant.way == ADDED else -1, variant.way != PERMUTED
        row_names = {"model": model, "group": variant.group, "way": variant.way, "columns": columns[variant.group]}
        for metric in COMPARED:
            rows = full.select(
                "model_year", d=sign * (other[metric] - full[metric]), score=metric, weight=_weight(metric)
            )
            table.append(
                row_names | {"metric": metric} | _paired(rows, luck[metric] if has_own_training else 0.0, seed)
            )
    totals = {"rows": int(full["rows"].sum()), "years": ", ".join(map(str, years)), "variants": len(variants)}
    return pl.DataFrame([row | totals | {"seeds": seeds} for row in table])


def _weight(metric: str) -> pl.Expr:
    """What a session counts in the mean of a year: its rows, but 1 for a rank IC."""
    return pl.lit(1.0) if metric == "rank_ic" else pl.col("rows").cast(pl.Float64)


def _by_session(scores: pl.DataFrame) -> pl.DataFrame:
    """The mean over the seeds: model_year, session, rows and COMPARED; NaN where a seed has no rank IC."""
    scores_without_nulls = scores.with_columns(pl.col(list(COMPARED)).fill_null(float("nan")))
    means = (pl.col("rows").first(), pl.col(list(COMPARED)).mean())
    return scores_without_nulls.group_by("model_year", "session").agg(means).sort("session")


def _luck_of_trainings(scores_of_trainings: Sequence[pl.DataFrame]) -> dict[str, float]:
    """By metric the standard error that a difference of two variants of `scores_of_trainings` has from their seeds; 0
    for one seed."""

    def mean(metric: str) -> pl.Expr:
        weight = pl.when(pl.col(metric).is_not_null()).then(_weight(metric))
        return ((pl.col(metric) * weight).sum() / weight.sum()).alias(metric)

    yearly = [rows.group_by("model_year", "seed").agg(map(mean, COMPARED)) for rows in scores_of_trainings]
    among_seeds = pl.concat([rows.group_by("model_year").agg(pl.col(list(COMPARED)).var()) for rows in yearly])
    variances = among_seeds.fill_null(0.0).fill_nan(0.0).select(list(COMPARED)).mean().row(0, named=True)
    trainings = yearly[0].height  # years times seeds
    return {metric: float(np.sqrt(2 * variance / trainings)) for metric, variance in variances.items()}


def _paired(rows: pl.DataFrame, luck: float, seed: int) -> dict[str, float | None]:
    """difference, low, high, score: means over the years of `d` and `score`, weighted in each year."""
    drawn_means, means, full = [], [], []
    for (year,), of_year in rows.partition_by("model_year", as_dict=True, maintain_order=True).items():
        paired_rows = of_year.filter(pl.col("d").is_not_nan())
        if paired_rows.is_empty():
            continue
        values, weights = paired_rows["d"].to_numpy(), paired_rows["weight"].to_numpy()
        means.append(np.average(values, weights=weights))
        full.append(np.average(paired_rows["score"].to_numpy(), weights=weights))
        drawn_means.append(bootstrap_means(values, weights, np.random.default_rng(seed + int(year))))
    if not means:
        return dict.fromkeys(("difference", "low", "high", "score"))
    low, high = interval(np.mean(drawn_means, axis=0) + luck * np.random.default_rng(seed).standard_normal(DRAWS))
    return {"difference": float(np.mean(means)), "low": low, "high": high, "score": float(np.mean(full))}


def verdicts(table: pl.DataFrame) -> pl.DataFrame:
    """group, way, difference, low, high, verdict by the log-loss of `value_table`, the most helpful first.

    A group helps where the interval lies below 0 and hurts where it lies above; else nothing is told from luck.
    """
    rows = table.filter(pl.col("metric") == JUDGED_BY, pl.col("difference").is_not_null())
    verdict = pl.when(pl.col("high") < 0).then(pl.lit("helps")).when(pl.col("low") > 0).then(pl.lit("hurts"))
    rows_with_verdict = rows.with_columns(verdict=verdict.otherwise(pl.lit("not told from luck")))
    return rows_with_verdict.select("group", "way", "difference", "low", "high", "verdict").sort(
        "difference", "group", "way"
    )


def reading(table: pl.DataFrame) -> str:
    """How sure the verdicts of a `value_table` are, in a few sentences.

    >>> reading(pl.DataFrame({"variants": [20], "seeds": [1]}))[:85]
    'Of 20 comparisons the intervals of about 1 miss 0 by luck. Of one training each, they'
    """
    count, seeds = table["variants"].max(), table["seeds"].max()
    return (
        f"Of {count} comparisons the intervals of about {0.05 * int(count):.2g} miss 0 by luck. "  # pyright: ignore[reportArgumentType]
        + (
            "Of one training each, they lack the luck of trainings: read them against the group of noise. "
            if seeds == 1
            else ""
        )
        + "What inputs are worth is mostly volatility known in advance."
    )
