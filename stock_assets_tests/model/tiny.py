"""Networks that train in about a second, and lessons of plain frames."""

from collections.abc import Callable
from datetime import date
from typing import Any

import polars as pl

from stock_assets.model.config import DeepArConfig, NetworkConfig, RnnClassifierConfig, RnnConfig
from stock_assets.model.lesson import Checkpoint, InputFrames, Lesson
from stock_assets.model.networks.deepar import DeepAr, train_deepar
from stock_assets.model.networks.rnn import Rnn, train_rnn
from stock_assets.model.networks.rnn_classifier import RnnClassifier, train_rnn_classifier
from stock_assets_tests.model.synthetic import HORIZON

_TINY: dict[str, Any] = {
    "hidden": 8,
    "dropout": 0.1,
    "learning_rate": 2e-3,
    "segment": 32,
    "context": 12,
    "epochs": 2,
    "segments_per_epoch": 64,
    "validation_sessions": 20,
}


def tiny_classifier(**changes: Any) -> RnnClassifierConfig:
    return RnnClassifierConfig(**(_TINY | changes))


def tiny_rnn(**changes: Any) -> RnnConfig:
    tiny = NetworkConfig().to_dict() | _TINY
    tiny |= {"context": 8, "steps": 3, "stride": 3, "segment": 11, "members": 3, "projection": 8}
    return RnnConfig(**(tiny | changes))


def tiny_deepar(**changes: Any) -> DeepArConfig:
    tiny = NetworkConfig().to_dict() | _TINY
    tiny |= {"segment": 12, "batch": 16, "weight_decay": 0.0, "embedding": 2}
    return DeepArConfig(**(tiny | changes))


def lesson(
    inputs: InputFrames,
    labels: pl.DataFrame,
    cutoff: date,
    seed: int = 0,
    on_epoch: Callable[[Any], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Lesson:
    return Lesson(inputs, labels, cutoff, seed, HORIZON, on_epoch, checkpoint)


def teach_classifier(
    components: pl.DataFrame, labels: pl.DataFrame, config: RnnClassifierConfig, cutoff: date, *rest: Any, **named: Any
) -> RnnClassifier:
    """`rest` and `named` as for `lesson`."""
    return train_rnn_classifier(lesson(InputFrames(components=components), labels, cutoff, *rest, **named), config)


def teach_deepar(
    components: pl.DataFrame,
    labels: pl.DataFrame,
    known_labels: pl.DataFrame,
    config: DeepArConfig,
    cutoff: date,
    *rest: Any,
    **named: Any,
) -> DeepAr:
    inputs = InputFrames(components=components, known_labels=known_labels)
    return train_deepar(lesson(inputs, labels, cutoff, *rest, **named), config)


def teach_rnn(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    suspects: pl.DataFrame,
    config: RnnConfig,
    cutoff: date,
    *rest: Any,
    **named: Any,
) -> Rnn:
    return train_rnn(lesson(InputFrames(features=features, suspects=suspects), labels, cutoff, *rest, **named), config)
