"""The model `rnn` as it was trained until November 2026: versions that serve today go on serving.

One network, one ridge regression for the day's level that corrects what it missed lately, and one number for the odds
of buy to sell. None is trained any more.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import torch

from stock_assets.errors import ArtifactError
from stock_assets.model.barriers import BarrierMap
from stock_assets.model.config import EarlierRnnConfig
from stock_assets.model.lesson import Inputs
from stock_assets.model.linear import Level, products_at
from stock_assets.model.market_rows import Standardised
from stock_assets.model.networks.inference import answers_at
from stock_assets.model.networks.layers import SegmentLSTM, with_weights
from stock_assets.model.networks.trained import Epoch, Trained
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.splits import require_after
from stock_assets.model.targets import TARGETS
from stock_assets.model.windows import predictable_rows


@dataclass(frozen=True)
class RnnEpoch(Epoch):
    """An epoch of the model `rnn`. Epoch 0 forecasts the session's mean for every ticker.

    The losses are the smooth L1 of the volatilities and the weighted squared error of the direction, both in standard
    deviations.
    """

    r2: float | None
    """Share of the cross-sectional variance of the volatilities that is forecast, on the validation labels; None where
    there is none, as of a single ticker."""


@dataclass(frozen=True, kw_only=True)
class EarlierRnn(Trained[EarlierRnnConfig, RnnEpoch]):
    """A stored version of that kind."""

    kind = "volatility"
    configuration = EarlierRnnConfig
    report = RnnEpoch

    scale: np.ndarray
    """float64 [F]: standard deviation of the inputs about their session's mean"""
    target_scale: np.ndarray
    """float64 [3]: standard deviation of the volatilities about their session's mean"""
    level: Level
    """Of VOLATILITIES"""
    direction_weights: np.ndarray
    """float64 [F]"""
    barriers: BarrierMap
    side: float
    """ln(P(buy) / P(sell)) without a direction"""
    horizon: int
    """Sessions"""
    validation_log_loss: float
    validation_accuracy: float

    def module(self) -> SegmentLSTM:
        return with_weights(SegmentLSTM(len(self.features), self.config, len(TARGETS)), self.weights)

    def predict(self, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        """As `rnn.Rnn.predict`."""
        require_after(self.cutoff, sessions)
        market = inputs.market(self.features, self.horizon)
        rows = predictable_rows(market.keys, sessions, self.config.context).to_numpy()
        standard = Standardised(market, self.scale, self.config.input_clip)
        module, last_rows = self.module(), np.flatnonzero(rows)
        answers = np.zeros((len(rows), len(TARGETS)), np.float32)
        answers[last_rows] = answers_at(
            last_rows,
            self.config.context,
            len(TARGETS),
            answer=lambda rows, ends: module.at_windows(
                torch.from_numpy(standard[rows.numpy()]), ends, self.config.context
            ),
        )
        own_part = answers[:, :3] * self.target_scale
        own_part -= market.mean(own_part, rows)
        level = market.mean(self.level.forecast(market.values), np.ones(len(rows), bool))
        level += self.config.level_memory * market.recent_error(level, self.config.context)
        linear = market.scores(products_at(standard, self.direction_weights, rows), rows)
        direction = market.scores(market.scores(answers[:, 3].astype(np.float64), rows) + linear, rows)[rows]
        odds = self.side + self.config.tilt * direction
        probabilities = self.barriers.probabilities((level + own_part).mean(axis=1)[rows], odds)
        return probability_frame(market.keys.filter(pl.Series(rows)), probabilities)

    def own_tensors(self) -> dict[str, np.ndarray]:
        return {
            "scale": self.scale,
            "target_scale": self.target_scale,
            "level_mean": self.level.mean,
            "level_scale": self.level.scale,
            "level_weights": self.level.weights,
            "direction_weights": self.direction_weights,
            "barriers/knots": self.barriers.knots,
            "barriers/move": self.barriers.move,
        }

    def own_description(self) -> dict[str, Any]:
        return {"outputs": list(TARGETS), **{name: getattr(self, name) for name in _PLAIN}}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        if tuple(description["outputs"]) != TARGETS:
            raise ArtifactError(f"artifact forecasts {description['outputs']}; expected {list(TARGETS)}")
        config = EarlierRnnConfig.from_dict(description["config"])
        level = Level(tensors["level_mean"], tensors["level_scale"], tensors["level_weights"], config.input_clip)
        return {
            "level": level,
            "barriers": BarrierMap(tensors["barriers/knots"], tensors["barriers/move"]),
            **{name: tensors[name] for name in ("scale", "target_scale", "direction_weights")},
            **{name: description[name] for name in _PLAIN},
        }


_PLAIN = ("side", "horizon", "validation_log_loss", "validation_accuracy")
