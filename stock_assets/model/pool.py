"""The best average of several models: a linear opinion pool (Stone 1961) of highest likelihood."""

import numpy as np

#: Weights below this are dropped: they cost a model's answer and move no probability.
SMALLEST = 0.02


def pool_weights(right: np.ndarray) -> np.ndarray:
    """float64 [K], not negative, summing to 1: the weights whose average has the smallest log-loss.

    `right` is float64 [N, K]: the probability that each of K models gave to what came true in each of N rows (at
    least one). The log-loss of an average is convex in its weights, so there is one best average. Weights below
    `SMALLEST` are set to zero, the others scaled up.

    Raises ValueError for no row, and for a probability that is not finite or negative.
    """
    from scipy.optimize import minimize

    if not len(right) or not (np.isfinite(right).all() and (right >= 0).all()):
        raise ValueError(f"probabilities {right.shape}; expected finite numbers, none negative, one row or more")
    right = np.maximum(right, 1e-12)
    models = right.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = right @ weights
        return float(-np.log(mixed).mean()), -(right / mixed[:, None]).mean(axis=0)

    whole = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda _: np.ones(models)}
    start = np.full(models, 1 / models)
    found = minimize(
        loss, start, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * models, constraints=whole, options={"ftol": 1e-9}
    )
    weights = np.where(found.x < SMALLEST, 0.0, found.x)
    return weights / weights.sum()
