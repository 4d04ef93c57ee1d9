"""The model `bar_lstm`: an LSTM reads sell, hold or buy off the last bars' features, as the system for minute bars that
this platform follows did.

features, harmonics of the day, standardised  ->  SegmentLSTM, from the class prior on  ->  log-loss  ->  softmax
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import torch

from stock_assets.errors import ArtifactError
from stock_assets.frames import CLASSES
from stock_assets.model.bar_baselines import class_moves
from stock_assets.model.bar_lesson import (
    INPUT_NAMES,
    BarLesson,
    bar_inputs,
    bar_predictions,
    bar_unit,
    newest_part,
    rows_for,
)
from stock_assets.model.config import BarLstmConfig
from stock_assets.model.linear import mean_and_spread, standard
from stock_assets.model.networks.inference import answers_at
from stock_assets.model.networks.layers import SegmentLSTM, with_weights
from stock_assets.model.networks.rnn_classifier import RnnClassifierNetwork
from stock_assets.model.networks.trained import TrainedClassifier
from stock_assets.model.networks.trainer import descend
from stock_assets.model.probabilities import softmax
from stock_assets.model.windows import IGNORE


def train_bar_lstm(lesson: BarLesson, config: BarLstmConfig | None = None) -> "BarLstm":
    """The network of the best epoch, trained on what was known at the moment `lesson.cutoff`.

    The labels of the newest fifth of the time choose the epoch, from 0 (the class prior) on; scaler and weights come
    from those known a horizon before them. Deterministic as `train_bar_rnn`.

    Raises as `BarLesson.rows` and `newest_part`, and StockAssetsError for a loss that is not finite.
    """
    config = config or BarLstmConfig()
    rows = lesson.rows
    learns, judges = newest_part(rows, lesson.horizon)
    mean, std = mean_and_spread(rows.inputs, np.flatnonzero(learns))
    panel = rows.panel(standard(rows.inputs, mean, std, clip=config.input_clip))
    classes = np.append(rows.labels - CLASSES[0], IGNORE)
    train, validation = (
        replace(panel, labels=np.where(np.append(part, False), classes, IGNORE)) for part in (learns, judges)
    )
    descent = descend(RnnClassifierNetwork(config, train, validation), lesson)
    return BarLstm(
        config=config,
        features=INPUT_NAMES,
        mean=mean,
        std=std,
        weights=descent.weights,
        class_moves=class_moves(rows),
        horizon=lesson.horizon,
        cutoff=lesson.cutoff,
        seed=lesson.seed,
        curve=descent.curve,
        best_epoch=descent.best_epoch,
    )


@dataclass(frozen=True, kw_only=True)
class BarLstm(TrainedClassifier[BarLstmConfig]):
    """The trained model `bar_lstm`."""

    kind = "bar_lstm"
    configuration = BarLstmConfig
    moment = datetime

    cutoff: datetime
    class_moves: np.ndarray
    """float64 [3]: the mean return of each class in the training, in units of its barriers"""
    horizon: int
    """Bars"""

    def module(self) -> SegmentLSTM:
        return with_weights(SegmentLSTM(len(self.features), self.config, len(CLASSES)), self.weights)

    def predict(self, features: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """`bar_predictions`, as `BarRnn.predict`; each row looks at the last `config.context` rows of its ticker."""
        context, module = self.config.context, self.module()
        rows, has_answer = rows_for(self.cutoff, features, keys, lookback_rows=context)
        values = standard(bar_inputs(rows), self.mean, self.std, clip=self.config.input_clip).astype(np.float32)
        logits = answers_at(
            np.flatnonzero(has_answer),
            context,
            len(CLASSES),
            answer=lambda places, ends: module.at_windows(torch.from_numpy(values[places.numpy()]), ends, context),
        )
        probabilities, rows = softmax(logits), rows.filter(pl.Series(has_answer))
        return bar_predictions(
            rows, probabilities, probabilities @ self.class_moves * bar_unit(rows) * np.sqrt(self.horizon)
        )

    def own_tensors(self) -> dict[str, np.ndarray]:
        return super().own_tensors() | {"class_moves": self.class_moves}

    def own_description(self) -> dict[str, Any]:
        return {"horizon": self.horizon}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        if tuple(description["features"]) != INPUT_NAMES:
            raise ArtifactError("artifact reads other features of bars than there are; train the model again")
        own = {"class_moves": tensors["class_moves"], "horizon": description["horizon"]}
        return super().own_fields(tensors, description) | own
