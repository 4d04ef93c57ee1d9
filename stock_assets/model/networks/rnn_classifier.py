"""The model `rnn_classifier`: a recurrent network reads sell, hold or buy off the principal components.

components, standardised  ->  SegmentLSTM, from the class prior on  ->  log-loss  ->  softmax
"""

from collections.abc import Collection
from datetime import date

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from stock_assets.frames import CLASSES
from stock_assets.model.config import NetworkConfig, RnnClassifierConfig
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.networks.inference import answers_along, answers_at
from stock_assets.model.networks.layers import SegmentLSTM, device_of, with_weights
from stock_assets.model.networks.trained import ClassifierEpoch, TrainedClassifier, hits
from stock_assets.model.networks.trainer import best_device, descend
from stock_assets.model.probabilities import probability_frame, softmax
from stock_assets.model.scaling import feature_columns, fit_scaler
from stock_assets.model.splits import require_after
from stock_assets.model.windows import IGNORE, Panel, build_panel, predictable_rows


def train_rnn_classifier(lesson: Lesson, config: RnnClassifierConfig | None = None) -> "RnnClassifier":
    """The network of the best epoch, trained on what was known when session `lesson.cutoff` was over.

    It reads the floating-point columns of `inputs.components`; rows after the cutoff are not looked at. The last
    `config.validation_sessions` sessions of the labels choose the epoch, from 0 (the class prior) on, and the scaler
    and the weights come from the labels that end before them. The same seed, inputs and kind of processor give the
    same weights, also when an interrupted training resumes from its checkpoint; torch's own random state is not used.

    Raises CutoffError for a label that ends after the cutoff, BadBarsError for inputs that are not finite, and
    StockAssetsError for too little history or a loss that is not finite.
    """
    config = config or RnnClassifierConfig()
    train, validation = lesson.split(config.validation_sessions)
    past, columns = lesson.past(lesson.inputs.components), feature_columns(lesson.inputs.components)
    mean, std = fit_scaler(lesson.labelled(past, train), columns)
    panel = build_panel(past, columns, mean=mean, std=std, clip=config.input_clip)
    descent = descend(RnnClassifierNetwork(config, panel.labelled(train), panel.labelled(validation)), lesson)
    return RnnClassifier(
        config=config,
        features=columns,
        mean=mean,
        std=std,
        weights=descent.weights,
        cutoff=lesson.cutoff,
        seed=lesson.seed,
        curve=descent.curve,
        best_epoch=descent.best_epoch,
    )


class RnnClassifierNetwork:
    """The classifier on the data of one training, a `trainer.Network`."""

    report = ClassifierEpoch

    def __init__(self, config: NetworkConfig, panel: Panel, validation: Panel) -> None:
        """`panel` and `validation` hold the same rows, with the labels that train and those that judge."""
        self.config, self.panel, self._validation = config, panel, validation
        self._values = torch.from_numpy(panel.values).to(best_device())
        self._labels = torch.from_numpy(panel.labels).to(best_device())

    def build(self, generator: torch.Generator) -> SegmentLSTM:
        """Answers with the class prior of the training labels."""
        # one imaginary row per class keeps the logarithm finite when a class is absent
        labels = self.panel.labels[self.panel.labels != IGNORE]
        counts = torch.from_numpy(np.bincount(labels, minlength=len(CLASSES)) + 1.0)
        prior = (counts / counts.sum()).float()
        return SegmentLSTM(self.panel.values.shape[1], self.config, len(CLASSES), bias=prior.log(), generator=generator)

    def loss(self, module: SegmentLSTM, segments: Tensor) -> tuple[Tensor, int]:
        """The log-loss, in nats."""
        targets = self._labels[segments].flatten()  # [B * L]
        logits = module(self._values[segments]).flatten(0, 1)  # [B * L, 3]
        return functional.cross_entropy(logits, targets, ignore_index=IGNORE), int((targets != IGNORE).sum())

    def judge(self, module: SegmentLSTM, epoch: int, train_loss: float | None) -> ClassifierEpoch:
        """Log-loss, accuracy and distance on the validation labels."""
        if train_loss is None:
            prior = module.head.bias.detach().expand(len(self._labels), -1)
            train_loss = functional.cross_entropy(prior, self._labels, ignore_index=IGNORE).item()
        place = device_of(module)
        module.eval()
        rows, answers = answers_along(
            self._validation, self.config, lambda spans: module(self._values[spans.to(place)])
        )
        truth = self._validation.labels[rows]
        loss = functional.cross_entropy(torch.from_numpy(answers), torch.from_numpy(truth)).item()
        accuracy, rmse = hits(answers.argmax(axis=1), truth)
        return ClassifierEpoch(epoch, self.config.epochs, train_loss, loss, accuracy, rmse)


class RnnClassifier(TrainedClassifier[RnnClassifierConfig]):
    """The trained model `rnn_classifier`."""

    kind = "rnn"  # its name when the first artifacts were stored
    configuration = RnnClassifierConfig

    def module(self) -> SegmentLSTM:
        return with_weights(SegmentLSTM(len(self.features), self.config, len(CLASSES)), self.weights)

    def predict(self, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        """Probabilities of sell, hold, buy for every ticker and session that has enough history.

        Returns ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell (f64), sorted by ticker and session.
        Each row looks at exactly the last `config.context` rows of its ticker, that of the session included; where
        there are fewer there is no row (`windows.missing_history` counts them). Rows after a session never touch it.

        Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
        BadBarsError for inputs that are not finite.
        """
        require_after(self.cutoff, sessions)
        panel = build_panel(inputs.components, self.features, mean=self.mean, std=self.std, clip=self.config.input_clip)
        rows = predictable_rows(panel.keys, sessions, self.config.context)
        values, module = torch.from_numpy(panel.values), self.module()
        logits = answers_at(
            np.flatnonzero(rows.to_numpy()),
            self.config.context,
            len(CLASSES),
            answer=lambda rows, ends: module.at_windows(values[rows], ends, self.config.context),
        )
        return probability_frame(panel.keys.filter(rows), softmax(logits))
