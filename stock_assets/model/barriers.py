"""From a volatility forecast to the probabilities of the barriers: small, monotone, and readable."""

from dataclasses import dataclass

import numpy as np

from stock_assets.model.config import CLASSES

#: Quantiles of the training forecasts at which the slope may change.
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Penalty on the squared slopes, per row.
RIDGE = 1e-4


@dataclass(frozen=True)
class BarrierMap:
    """P(move) and ln(P(buy) / P(sell)) as piecewise linear functions of a forecast sigma.

    logit P(move) never falls in sigma, and the odds of buy against sell rise by `tilt` per unit of the direction
    score: which barrier is touched, and whether one is, are different questions.
    """

    knots: np.ndarray
    """float64 [5], ascending"""
    move: np.ndarray
    """float64 [7]: constant and slopes between the knots, the slopes not negative"""
    side: np.ndarray
    """float64 [7]: the same for buy against sell"""
    tilt: float

    def probabilities(self, sigma: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """float64 [N, 3] in the order of CLASSES, of sigma and direction, float64 [N] each."""
        ramps = _ramps(sigma, self.knots)
        move = _sigmoid(ramps @ self.move)
        buy = _sigmoid(ramps @ self.side + self.tilt * direction)
        return np.column_stack([move * (1 - buy), 1 - move, move * buy])


def fit_barrier_map(sigma: np.ndarray, labels: np.ndarray, tilt: float) -> BarrierMap:
    """The map of highest likelihood on `sigma`, float64 [N], and `labels`, -1, 0 or 1 [N]."""
    knots = np.quantile(sigma, QUANTILES)
    ramps = _ramps(sigma, knots)
    moved = labels != 0
    move = _fit_logistic(ramps, moved, rising=True)
    side = _fit_logistic(ramps[moved], labels[moved] == CLASSES[2], rising=False)
    return BarrierMap(knots, move, side, tilt)


def _ramps(sigma: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """float64 [N, 7]: ones, then how far sigma has come within each interval between the knots."""
    inner = np.clip(sigma[:, None], knots[:-1], knots[1:]) - knots[:-1]
    below, above = np.minimum(sigma - knots[0], 0.0), np.maximum(sigma - knots[-1], 0.0)
    return np.column_stack([np.ones_like(sigma), below, inner, above])


def _fit_logistic(inputs: np.ndarray, truth: np.ndarray, rising: bool) -> np.ndarray:
    """Coefficients, the constant's first, of a logistic regression; the others not negative where `rising`."""
    from scipy.optimize import minimize

    truth = truth.astype(np.float64)

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs @ coefficients
        slopes = np.append(0.0, coefficients[1:])
        value = np.mean(np.logaddexp(0.0, logits) - truth * logits) + RIDGE / 2 * slopes @ slopes
        return float(value), inputs.T @ (_sigmoid(logits) - truth) / len(truth) + RIDGE * slopes

    if not len(truth):
        return np.zeros(inputs.shape[1])
    # one imaginary row of either class keeps the constant finite when one is absent
    share = (truth.sum() + 1) / (len(truth) + 2)
    start = np.append(np.log(share / (1 - share)), np.zeros(inputs.shape[1] - 1))
    bounds = [(-10.0, 10.0), *[(0.0 if rising else None, None)] * (inputs.shape[1] - 1)]
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100}).x


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))
