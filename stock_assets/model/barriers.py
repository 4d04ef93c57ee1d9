"""From a volatility forecast to the probabilities of the barriers: small, monotone, and readable."""

from dataclasses import dataclass

import numpy as np

from stock_assets.frames import CLASSES

#: Quantiles of the training forecasts at which the slope may change.
QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Penalty on the squared slopes, per row.
RIDGE = 1e-4
#: Sessions whose labels count as one observation of buy against sell: their horizons overlap.
BLOCK = 7


@dataclass(frozen=True)
class BarrierMap:
    """logit P(move) as a piecewise linear function of a forecast sigma that never falls, and the odds of buy to sell.

    Whether a barrier is touched depends on sigma. Which one is touched does not: ln(P(buy) / P(sell)) is one number for
    all rows, plus `tilt` per unit of the direction score. If it depended on sigma, volatility would rank the tickers.
    """

    knots: np.ndarray
    """float64 [5], ascending"""
    move: np.ndarray
    """float64 [7]: constant and slopes between the knots, the slopes not negative"""
    side: float
    """ln(P(buy) / P(sell)) without a direction"""
    tilt: float

    def probabilities(self, sigma: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """float64 [N, 3] in the order of CLASSES, of sigma and direction, float64 [N] each."""
        move = _sigmoid(_ramps(sigma, self.knots) @ self.move)
        buy = _sigmoid(self.side + self.tilt * direction)
        return np.column_stack([move * (1 - buy), 1 - move, move * buy])


def fit_barrier_map(sigma: np.ndarray, labels: np.ndarray, days: np.ndarray, *, tilt: float) -> BarrierMap:
    """The map of highest likelihood on `sigma`, float64 [N], and `labels`, -1, 0 or 1 [N].

    `days` are the numbers of their sessions, int64 [N]: the odds of buy to sell are trusted as far as weeks agree.
    """
    knots = np.quantile(sigma, QUANTILES)
    moved = labels != 0
    move = _fit_logistic(_ramps(sigma, knots), moved)
    return BarrierMap(knots, move, _side(labels[moved] == CLASSES[2], days[moved]), tilt)


def _side(buy: np.ndarray, days: np.ndarray) -> float:
    """Log odds of `buy`, bool [N], shrunk towards 0 by the share of their square that may be chance.

    A few years have few independent weeks, and one rising market must not make every prediction a buy.
    """
    share = (buy.sum() + 1) / (len(buy) + 2)  # one imaginary row of either side
    odds = float(np.log(share / (1 - share)))
    error = np.sqrt((np.bincount(days // BLOCK, buy - share) ** 2).sum()) / ((len(buy) + 2) * share * (1 - share))
    return odds * max(0.0, 1 - float(error / odds) ** 2) if odds else 0.0


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
        value = np.mean(np.logaddexp(0.0, logits) - truth * logits) + RIDGE / 2 * slopes @ slopes
        return float(value), inputs.T @ (_sigmoid(logits) - truth) / len(truth) + RIDGE * slopes

    # one imaginary row of either class keeps the constant finite when one is absent
    share = (truth.sum() + 1) / (len(truth) + 2)
    start = np.append(np.log(share / (1 - share)), np.zeros(inputs.shape[1] - 1))
    bounds = [(-10.0, 10.0), *[(0.0, None)] * (inputs.shape[1] - 1)]
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100}).x


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))
