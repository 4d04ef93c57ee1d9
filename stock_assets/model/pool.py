"""The best average of several models: a linear opinion pool (Stone 1961) of highest likelihood."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from stock_assets.frames import KEYS

#: Weights below this are dropped: they cost a model's answer and move no probability.
SMALLEST = 0.02


def pool_weights(right: np.ndarray) -> np.ndarray:
    """float64 [K], not negative, summing to 1: the weights whose average has the smallest log-loss.

    `right` is float64 [N, K]: the probability that each of K models gave to what came true in each of N rows, one or
    more. The log-loss of an average is convex in its weights, so there is one best average. Weights below
    `SMALLEST` are set to zero, the others scaled up.

    Raises ValueError for no row, and for a probability that is not finite or negative.
    """
    from scipy.optimize import minimize

    if not len(right) or not (np.isfinite(right).all() and (right >= 0).all()):
        raise ValueError(f"probabilities {right.shape}; expected finite numbers, none negative, one row or more")
    right = np.maximum(right, 1e-12)
    models = right.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = right @ weights
        return float(-np.log(mixture).mean()), -(right / mixture[:, None]).mean(axis=0)

    sum_is_one = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda _: np.ones(models)}
    start = np.full(models, 1 / models)
    best = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * models,
        constraints=sum_is_one,
        options={"ftol": 1e-9},
    )
    weights = np.where(best.x < SMALLEST, 0.0, best.x)
    return weights / weights.sum()


def common_members(judged_years: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, int]]:
    """(one f64 column per model that every frame has, the number of frames of each other model).

    Each of `judged_years` has ticker, session and one column per model: the probability it gave to what came true. Rows
    that a common model lacks are left out. Without a frame there is no column.

    >>> first = pl.DataFrame({"ticker": ["A"], "session": [1], "rnn": [0.5], "trees": [0.4]})
    >>> rows, partial = common_members([first, first.drop("trees")])
    >>> rows.columns, partial
    (['rnn'], {'trees': 1})
    """
    names = list(dict.fromkeys(name for frame in judged_years for name in frame.columns if name not in KEYS))
    years = {name: sum(name in frame.columns for frame in judged_years) for name in names}
    common = [name for name in names if years[name] == len(judged_years)]
    rows = pl.concat([frame.select(common).drop_nulls() for frame in judged_years]) if common else pl.DataFrame()
    return rows, {name: count for name, count in years.items() if count < len(judged_years)}
