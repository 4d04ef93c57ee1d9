"""The best Sharpe ratio that the simulated market allows: its laws are written down, so it is known.

The state at a close, and the announcements that are known then, give the mean μ and the covariance Σ of the next
session's returns (`sources.simulated_laws`).
Held from close to close without costs, the weights w = Σ⁻¹μ have the conditional mean and variance θ² = μ'Σ⁻¹μ, hence

    SR    = E θ² / √(E θ² + Var θ²)                 of w = Σ⁻¹μ
    limit = √(E h / (1 - E h)),  h = θ² / (1 + θ²)  of w = Σ⁻¹μ / (1 + θ²), the highest of any weights (Ferson & Siegel
                                                    2001, "The Efficient Use of Conditioning Information in Portfolios")

per session; √252 makes them annual. No strategy that trades at what it has seen has more than the limit on average.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import pi, sqrt

import numpy as np

from stock_assets.errors import TradingError
from stock_assets.market.sources import simulated_laws as laws


@dataclass(frozen=True)
class Attainable:
    """What could be had over T sessions of the simulated market, from the close before each of them."""

    squared: np.ndarray
    """float64 [T]: θ², the best squared Sharpe ratio given the state"""
    weights: np.ndarray
    """float64 [T, 60]: Σ⁻¹μ at the close before; 0 for a company that does not trade at both closes"""

    @property
    def sharpe(self) -> float:
        """Per session, of `weights`."""
        mean = self.squared.mean()
        return float(mean / np.sqrt(mean + self.squared.var()))

    @property
    def limit(self) -> float:
        """Per session: the highest of any weights."""
        share = (self.squared / (1 + self.squared)).mean()
        return float(np.sqrt(share / (1 - share)))


def attainable(seed: int, positions: Sequence[int]) -> Attainable:
    """What could be had in the sessions at `positions` of the market of `seed`, counted from its first one, 0.

    Raises TradingError for a session without one before it.

    >>> round(attainable(0, range(500, 750)).sharpe * 252**0.5, 1)
    6.6
    """
    if not len(positions) or min(positions) < 1:
        raise TradingError(f"sessions of the simulated market: found {list(positions)[:3]}, expected 1 and above")
    before = np.asarray(positions) - 1
    history = laws.history_to(seed, int(before.max()))
    states = laws.State(*(field[before] for field in history.states))
    trades = (before[:, None] >= laws.LISTED) & (before[:, None] + 1 < laws.DELISTED)
    mean = np.where(trades, laws.expected_return(states), 0.0)
    both_trade = trades[:, :, None] & trades[:, None, :]
    among = np.where(both_trade, covariance(states, history.chances[before]), np.eye(laws.COMPANIES))
    weights = np.linalg.solve(among, mean[..., None])[..., 0]
    return Attainable((weights * mean).sum(axis=-1), weights)


def covariance(state: laws.State, chances: np.ndarray | float = 0.0) -> np.ndarray:
    """Σ, float64 [..., 60, 60]: the covariance of the next session's returns at a state.

    `chances` [..., 60]: how probable it is at that close that the next session reacts to an announcement.
    """
    market, sector, _ = laws.volatilities(state)
    exposures, same_sector = laws.BETA * market, laws.SECTOR[:, None] == laws.SECTOR
    common_part = exposures[..., :, None] * exposures[..., None, :] + sector[..., None] ** 2 * same_sector
    return shock_variance() * (common_part + laws.own_variance(state, chances)[..., None] * np.eye(laws.COMPANIES))


@cache
def shock_variance() -> float:
    """The variance of a shock of the laws, which is 1 before it is clipped: that of Student's t by its density."""
    x = np.linspace(-laws.SHOCK_BOUND, laws.SHOCK_BOUND, 200_001)
    scale = sqrt((laws.TAIL - 2) / laws.TAIL)
    density = 8 / (3 * pi * sqrt(5)) / (1 + (x / scale) ** 2 / laws.TAIL) ** 3 / scale  # of 5 degrees of freedom
    inside, inside_squared = np.trapezoid(density, x), np.trapezoid(density * x**2, x)
    return float(inside_squared + (1 - inside) * laws.SHOCK_BOUND**2)
