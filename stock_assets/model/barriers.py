"""From a volatility forecast to the probabilities of the barriers: small, monotone, and readable."""

from dataclasses import dataclass

import numpy as np

#: Quantiles of the training forecasts at which the slope may change.
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Penalty on the squared slopes, per row.
RIDGE = 1e-4


@dataclass(frozen=True)
class BarrierMap:
    """logit P(move) as a piecewise linear function of a forecast sigma that never falls.

    Whether a barrier is touched depends on sigma; which one is touched is the matter of `sides`.
    """

    knots: np.ndarray
    """float64 [5], ascending"""
    move: np.ndarray
    """float64 [7]: constant and slopes between the knots, the slopes not negative"""

    def moves(self, sigma: np.ndarray) -> np.ndarray:
        """float64 [N]: P(move) of `sigma`, float64 [N]."""
        return sigmoid(_ramps(sigma, self.knots) @ self.move)

    def probabilities(self, sigma: np.ndarray, odds: np.ndarray) -> np.ndarray:
        """float64 [N, 3] in the order of CLASSES, of sigma and of ln(P(buy) / P(sell)), float64 [N] each."""
        return of_classes(self.moves(sigma), odds)


def of_classes(move: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """float64 [N, 3] in the order of CLASSES, of P(move) and of ln(P(buy) / P(sell)), float64 [N] each."""
    buy = sigmoid(odds)
    return np.column_stack([move * (1 - buy), 1 - move, move * buy])


def fit_barrier_map(sigma: np.ndarray, labels: np.ndarray) -> BarrierMap:
    """The map of highest likelihood on `sigma`, float64 [N], and `labels`, -1, 0 or 1 [N].

    The forecasts should be of sessions that their model has not learned from: on those that it has they are better
    than they will be, and the map would trust them too much.
    """
    knots = np.quantile(sigma, QUANTILES)
    return BarrierMap(knots, _fit_logistic(_ramps(sigma, knots), labels != 0))


def _ramps(sigma: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """float64 [N, 7]: ones, then how far sigma has come within each interval between the knots."""
    inner = np.clip(sigma[:, None], knots[:-1], knots[1:]) - knots[:-1]
    below, above = np.minimum(sigma - knots[0], 0.0), np.maximum(sigma - knots[-1], 0.0)
    return np.column_stack([np.ones_like(sigma), below, inner, above])


def _fit_logistic(inputs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Coefficients, the constant's first, of a logistic regression; the others not negative."""
    from scipy.optimize import minimize

    truth = truth.astype(np.float64)

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs @ coefficients
        slopes = np.append(0.0, coefficients[1:])
        # ln(1 + exp(x)), of which numpy's own logaddexp takes ten times as long
        losses = np.maximum(logits, 0.0) + np.log1p(np.exp(-np.abs(logits))) - truth * logits
        value = losses.mean() + RIDGE / 2 * slopes @ slopes
        return float(value), inputs.T @ (sigmoid(logits) - truth) / len(truth) + RIDGE * slopes

    # one imaginary row of either class keeps the constant finite when one is absent
    share = (truth.sum() + 1) / (len(truth) + 2)
    start = np.append(np.log(share / (1 - share)), np.zeros(inputs.shape[1] - 1))
    bounds = [(-10.0, 10.0), *[(0.0, None)] * (inputs.shape[1] - 1)]
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100}).x


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))
