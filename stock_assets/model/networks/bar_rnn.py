"""The model `bar_rnn`: forecast how much the next bars will move, and map that to the barriers.

It is the daily model `rnn` (`networks.rnn`) on bars within the session, with the same members, blocks and map:

    features, harmonics of the day  ->  Level       ->  volatility of the next bars, over that of the last 60
    features less the trailing      ->  Members     ->  what the level misses, and a direction
      volatility, without the time
    their sum                       ->  BarrierMap  ->  hold or move
    the direction                   ->  side odds   ->  sell or buy, and the expected return

The level is a ridge regression on volatilities over several lengths (HAR, Corsi 2009) and on the time of day (the
flexible Fourier form, Andersen & Bollerslev 1997). The networks learn what the level misses of blocks that it has not
learned from; they see neither the time nor how wild the day is, which they would memorise. Each member leaves out one
block of time with an embargo of one horizon on either side (`crossfit`), and the map, the odds per unit of direction
and the return per unit are fitted on what members and levels say of the blocks that they have not seen. A direction
that cannot be told from luck there counts as none (`bar_lesson.slope`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from stock_assets.errors import ArtifactError
from stock_assets.frames import surprises
from stock_assets.model.bar_baselines import side_slope
from stock_assets.model.bar_lesson import (
    INPUT_NAMES,
    BarLesson,
    BarRows,
    bar_inputs,
    bar_predictions,
    bar_unit,
    level_and_unseen,
    rows_for,
    shape_of,
    slope,
)
from stock_assets.model.bar_targets import bar_targets
from stock_assets.model.barriers import BarrierMap, fit_barrier_map
from stock_assets.model.config import BarRnnConfig
from stock_assets.model.crossfit import Blocks
from stock_assets.model.linear import Level, mean_and_spread, spread, standard
from stock_assets.model.networks.earlier_rnn import RnnEpoch
from stock_assets.model.networks.inference import answers_at
from stock_assets.model.networks.layers import Members, with_weights
from stock_assets.model.networks.rnn import RnnNetwork
from stock_assets.model.networks.trained import Trained
from stock_assets.model.networks.trainer import descend
from stock_assets.model.targets import TARGETS


def train_bar_rnn(lesson: BarLesson, config: BarRnnConfig | None = None) -> "BarRnn":
    """The model of the best epoch, trained on what was known at the moment `lesson.cutoff`.

    What the members say of their own blocks chooses the epoch. The same seed, rows and kind of processor give the same
    weights, also when an interrupted training resumes from its checkpoint.

    Raises as `BarLesson.rows`, and StockAssetsError for a loss that is not finite.
    """
    config = config or BarRnnConfig()
    rows = lesson.rows
    targets = bar_targets(rows)
    learns = np.asarray(np.isfinite(targets).all(axis=1))
    blocks = Blocks.of(rows.time, learns, count=config.members, horizon=lesson.horizon)
    level, forecast_of_unseen = level_and_unseen(
        rows, targets[:, :3], learns, blocks=blocks, clip=config.input_clip, penalty=config.level_ridge
    )
    residuals = targets - np.column_stack([forecast_of_unseen, np.zeros(len(learns))])
    scale = spread(residuals, learns)
    goals = np.zeros((len(learns) + 1, len(TARGETS)), np.float32)
    goals[:-1][learns] = (residuals / scale)[learns]
    shape = shape_of(rows.inputs)
    mean, deviation = mean_and_spread(shape, np.flatnonzero(learns))
    panel = rows.panel(standard(shape, mean, deviation, clip=config.input_clip)).marked(learns)
    network = RnnNetwork(config, panel, blocks, inputs=panel.values, goals=goals)
    descent = descend(network, lesson)
    model = BarRnn(
        config=config,
        features=INPUT_NAMES,
        weights=descent.weights,
        level=level,
        shape_mean=mean,
        shape_scale=deviation,
        missed_scale=scale,
        barriers=BarrierMap(np.zeros(5), np.zeros(7)),  # until the forecasts are there
        tilt=0.0,
        gain=0.0,
        horizon=lesson.horizon,
        cutoff=lesson.cutoff,
        seed=lesson.seed,
        curve=descent.curve,
        best_epoch=descent.best_epoch,
        validation_log_loss=float("nan"),
    )
    answers = network.of_epoch(descent.best_epoch, model.module())
    return model.completed(rows, learns, forecast_of_unseen=forecast_of_unseen, answers=answers)


@dataclass(frozen=True, kw_only=True)
class BarRnn(Trained[BarRnnConfig, RnnEpoch]):
    """The trained model `bar_rnn`."""

    kind = "bar_volatility_members"
    configuration = BarRnnConfig
    report = RnnEpoch
    moment = datetime

    cutoff: datetime
    level: Level
    """of the volatilities of TARGETS, of INPUT_NAMES"""
    shape_mean: np.ndarray
    """float64 [G]: of SHAPE_NAMES, the inputs of the networks"""
    shape_scale: np.ndarray
    """float64 [G], likewise"""
    missed_scale: np.ndarray
    """float64 [4]: standard deviation of what the level misses, and of the direction"""
    barriers: BarrierMap
    tilt: float
    """ln(P(buy) / P(sell)) per unit of direction"""
    gain: float
    """expected return per unit of direction, in units of the barriers at width 1"""
    horizon: int
    """Bars"""
    validation_log_loss: float
    """Of all training labels, each by members and levels that have not seen its block, with the map of them all."""

    def module(self) -> Members:
        return with_weights(Members(len(self.shape_mean), self.config, len(TARGETS)), self.weights)

    def completed(
        self, rows: BarRows, learns: np.ndarray, *, forecast_of_unseen: np.ndarray, answers: np.ndarray
    ) -> "BarRnn":
        """The model with its map, its tilt and its gain, fitted on forecasts of blocks that were not learned from.

        `forecast_of_unseen` is the level [N, 3] and `answers` what the networks add [N, 4], at the rows that `learns`
        (bool [N]).
        """
        sigma = self._sigma(forecast_of_unseen[learns], answers[learns])
        labels = rows.labels[learns]
        _, sessions = np.unique(rows.frame["session"].to_physical().to_numpy()[learns], return_inverse=True)
        direction = np.zeros(len(learns))
        direction[learns] = answers[learns, 3]
        completed_model = replace(
            self,
            barriers=fit_barrier_map(sigma, labels),
            tilt=side_slope(direction, rows),
            gain=slope(direction[learns], rows.moves[learns], sessions),
        )
        of_labels = surprises(
            labels, completed_model.barriers.probabilities(sigma, completed_model.tilt * direction[learns])
        )
        return replace(completed_model, validation_log_loss=float(of_labels.mean()))

    def predict(self, features: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """`bar_predictions` of the rows of `keys` that `features` have and that are answered; see `rows_for`.

        Each row looks at the last `config.reach` rows of its ticker and at nothing else: give `features` of so many.

        Raises CutoffError for a key that is not after the cutoff, ArtifactError for a column that `features` lack.
        """
        rows, has_answer = rows_for(self.cutoff, features, keys, lookback_rows=self.config.reach)
        inputs, at = bar_inputs(rows), np.flatnonzero(has_answer)
        shape = standard(shape_of(inputs), self.shape_mean, self.shape_scale, clip=self.config.input_clip)
        values = shape.astype(np.float32)
        module, steps, stride = self.module(), self.config.steps, self.config.stride
        answers = answers_at(
            at,
            self.config.reach,
            len(TARGETS),
            answer=lambda places, ends: module.at_windows(
                torch.from_numpy(values[places.numpy()]), ends, steps, stride=stride
            ),
        )
        sigma = self._sigma(self.level.forecast(inputs, at), answers)
        direction = answers[:, 3].astype(np.float64)
        rows = rows.filter(pl.Series(has_answer))
        expected = self.gain * direction * bar_unit(rows) * np.sqrt(self.horizon)
        return bar_predictions(rows, self.barriers.probabilities(sigma, self.tilt * direction), expected)

    def _sigma(self, level: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """float64 [N]: the mean of the three readings of volatility, of the level [N, 3] and the answers [N, 4]."""
        return (level + answers[:, :3] * self.missed_scale[:3]).mean(axis=1)

    def own_tensors(self) -> dict[str, np.ndarray]:
        return {
            "level/mean": self.level.mean,
            "level/scale": self.level.scale,
            "level/weights": self.level.weights,
            **{name: getattr(self, name) for name in _ARRAYS},
            "barriers/knots": self.barriers.knots,
            "barriers/move": self.barriers.move,
        }

    def own_description(self) -> dict[str, Any]:
        return {"outputs": list(TARGETS), **{name: getattr(self, name) for name in _PLAIN}}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        if tuple(description["outputs"]) != TARGETS:
            raise ArtifactError(f"artifact forecasts {description['outputs']}; expected {list(TARGETS)}")
        if tuple(description["features"]) != INPUT_NAMES:
            raise ArtifactError("artifact reads other features of bars than there are; train the model again")
        config = cast(BarRnnConfig, BarRnnConfig.from_dict(description["config"]))
        parts = (tensors[f"level/{part}"] for part in ("mean", "scale", "weights"))
        return {
            "level": Level(*parts, clip=config.input_clip),
            **{name: tensors[name] for name in _ARRAYS},
            "barriers": BarrierMap(tensors["barriers/knots"], tensors["barriers/move"]),
            **{name: description[name] for name in _PLAIN},
        }


#: The fields of `BarRnn` that its tensors, and its description, hold as they are.
_ARRAYS = ("shape_mean", "shape_scale", "missed_scale")
_PLAIN = ("tilt", "gain", "horizon", "validation_log_loss")
