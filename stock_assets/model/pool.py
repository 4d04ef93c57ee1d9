"""The best average of several models: a linear opinion pool (Stone 1961) of highest likelihood."""

import numpy as np

#: Weights below this are dropped: they cost a model's answer and move no probability.
SMALLEST = 0.02


def pool_weights(right: np.ndarray, steps: int = 200) -> np.ndarray:
    """float64 [K], not negative, summing to 1: the weights whose average has the smallest log-loss.

    `right` is float64 [N, K]: the probability that each of K models gave to what came true in each of N rows (at
    least one). The log-loss of an average is convex in its weights, and expectation maximisation (Dempster, Laird &
    Rubin 1977) climbs from equal ones to the best. Weights below `SMALLEST` are set to zero, the others scaled up.

    Raises ValueError for no row, and for a probability that is not finite or negative.
    """
    if not len(right) or not (np.isfinite(right).all() and (right >= 0).all()):
        raise ValueError(
            f"probabilities of shape {right.shape}; expected finite numbers, none negative, one row or more"
        )
    right = np.maximum(right, 1e-12)
    weights = np.full(right.shape[1], 1 / right.shape[1])
    for _ in range(steps):
        weights = weights * (right / (right @ weights)[:, None]).mean(axis=0)
    weights = np.where(weights < SMALLEST, 0.0, weights)
    return weights / weights.sum()
