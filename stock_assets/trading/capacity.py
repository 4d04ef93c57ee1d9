"""How much capital a strategy carries: the square-root law's capacity, and the impact that Almgren measured."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Capacity:
    """Net return of a session at capital A: edge - slope * √A."""

    edge: float
    """mean return of a session before impact, after every other cost (fraction)"""
    slope: float
    """k: impact of a session over √A"""

    @property
    def exhausted(self) -> float | None:
        """A₀ = (edge / k)²: the capital at which nothing is left; None without an edge or an impact."""
        return (self.edge / self.slope) ** 2 if self.edge > 0 and self.slope > 0 else None

    @property
    def best(self) -> float | None:
        """A* = 4/9 A₀: the capital at which the net gain in money, A * (edge - k√A), is largest.

        >>> round(Capacity(edge=0.0003, slope=1e-8).best)
        400000000
        """
        return None if self.exhausted is None else 4 / 9 * self.exhausted

    def gain(self, capital: float) -> float:
        """The mean net gain of a session in money."""
        return capital * (self.edge - self.slope * capital**0.5)


def fitted_capacity(edge: float, capitals: np.ndarray, impacts: np.ndarray) -> Capacity:
    """The capacity of a strategy whose mean impact a session was `impacts` (fractions) at each of `capitals`.

    k is that of least squares through the origin: Σ √A · impact / Σ A.
    """
    return Capacity(edge, float((np.sqrt(capitals) * impacts).sum() / capitals.sum()))


@dataclass(frozen=True)
class Impact:
    """What an order moves the price by, as fractions of it."""

    permanent: float
    temporary: float

    @property
    def realised(self) -> float:
        """What the order costs: half of the permanent impact and the temporary one."""
        return self.permanent / 2 + self.temporary


def almgren(shares: float, *, volume: float, outstanding: float, volatility: float, days: float) -> Impact:
    """The impact of an order of `shares` over `days` days of trading (Almgren, Thum, Hauptmann & Li 2005).

    permanent γ σ (X/V) (Θ/V)^(1/4) with γ = .314, temporary η σ (X/(V T))^(3/5) with η = .142; V is the mean `volume`
    of a day, Θ the shares `outstanding`, σ the daily `volatility`.

    >>> round(10_000 * almgren(0.1, volume=1, outstanding=263.374, volatility=0.0157, days=1).permanent, 2)
    19.86
    """
    share = shares / volume
    permanent = 0.314 * volatility * share * (outstanding / volume) ** 0.25
    return Impact(permanent, 0.142 * volatility * (share / days) ** 0.6)
