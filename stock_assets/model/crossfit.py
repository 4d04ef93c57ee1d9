"""Forecasts of past sessions by models that have not learned from them, at the cost of one training.

The training sessions fall into as many blocks of time as an ensemble has members, and each member leaves one block
out. Together the members are the model; each by itself answers for its own block (cross-fitting, Chernozhukov et al.
2018, Double/debiased machine learning; purged as in López de Prado 2018, chapter 7).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """Blocks of neighbouring sessions of N rows."""

    day: np.ndarray
    """int64 [N]: the number of the row's session"""
    edges: np.ndarray
    """int64 [K + 1]: block k holds the sessions from edges[k] to edges[k + 1], that one not included"""
    horizon: int

    @classmethod
    def of(cls, day: np.ndarray, rows: np.ndarray, *, count: int, horizon: int) -> Self:
        """`count` blocks of about as many sessions each, of those of `rows` (bool [N], at least one)."""
        first, last = int(day[rows].min()), int(day[rows].max()) + 1
        return cls(day, np.linspace(first, last, count + 1).astype(np.int64), horizon)

    def inside(self, k: int) -> np.ndarray:
        """bool [N]: the rows of block `k`."""
        return (self.day >= self.edges[k]) & (self.day < self.edges[k + 1])

    def touching(self, k: int) -> np.ndarray:
        """bool [N]: the rows of block `k` and those within a horizon of it, whose labels share sessions with its."""
        return (self.day >= self.edges[k] - self.horizon) & (self.day < self.edges[k + 1] + self.horizon)
