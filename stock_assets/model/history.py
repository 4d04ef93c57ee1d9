"""What one training of the model `rnn` learns from: the rows of its market, and what came after each of them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from stock_assets.model.lesson import Lesson
from stock_assets.model.market_rows import MarketRows
from stock_assets.model.targets import TARGETS, volatility_targets
from stock_assets.model.windows import IGNORE, Panel


@dataclass(frozen=True)
class History:
    """The N rows of a market, and what came after each of those that a cutoff knows."""

    market: MarketRows
    panel: Panel
    """The rows up to the cutoff"""
    targets: np.ndarray
    """float64 [N, 4]: TARGETS, NaN where they are not known"""
    complete: np.ndarray
    """bool [N]: where all of them are"""
    labels: np.ndarray
    """int8 [N]: -1, 0, 1; 0 where there is none"""

    @classmethod
    def of(cls, lesson: Lesson, columns: tuple[str, ...]) -> Self:
        """What `lesson` knows by its cutoff, with `columns` as the inputs."""
        market = lesson.inputs.market(columns, lesson.horizon)
        starts, ends = market.spans((market.keys["session"] <= lesson.cutoff).to_numpy())
        no_label = np.full(len(market.padded), IGNORE, np.int8)
        panel = Panel(market.keys, market.padded, no_label, starts, ends, name=market.digest)
        targets = volatility_targets(lesson.inputs.features, lesson.labels, lesson.horizon)
        aligned_targets = market.numbers(targets, TARGETS)
        del targets
        complete = np.asarray(np.isfinite(aligned_targets).all(axis=1))
        return cls(market, panel, aligned_targets, complete, market.labels(lesson.labels))

    def rows_of(self, labels: pl.DataFrame) -> np.ndarray:
        """bool [N]: the rows of these labels, where their targets are complete."""
        return self.complete & self.market.among(labels)

    def apart(self) -> np.ndarray:
        """float64 [N, 4]: the targets, the volatilities as differences to their session's mean."""
        volatilities = self.targets[:, :3]
        return np.column_stack([volatilities - self.market.mean(volatilities, self.complete), self.targets[:, 3]])

    def goals(self, target_scale: np.ndarray) -> np.ndarray:
        """float32 [N + 1, 4]: what the networks learn, in standard deviations; 0 where unknown and for the padding."""
        goals = np.zeros((len(self.targets) + 1, len(TARGETS)), np.float32)
        goals[:-1] = np.nan_to_num(self.apart() / np.append(target_scale, 1.0))
        return goals
