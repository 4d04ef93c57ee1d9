"""The model `deepar`: the reference study's own network, on the label series.

It is DeepAR (Salinas, Flunkert, Gasthaus & Januschowski 2020). The label, -1, 0 or 1, is taken as a number. An LSTM
meets, at every row of a ticker, the row's inputs, the ticker's embedding and the newest label that may be known, and
answers with a Student-t distribution of the row's own label. The distribution's mass in (-∞, -1/2], (-1/2, 1/2] and
(1/2, ∞) are the probabilities of sell, hold and buy.

Which label may be known is the caller's choice (`splits.label_of_rows_ago`): that of a horizon ago is honest,
yesterday's is what the study took, and what `leakage_audit` shows. The study samples paths step by step; here the
newest known label is a direct input, so that one pass answers for a session.

    row            t-8    t-7    t-6   …   t                       horizon 7, honest
    known label    y-15   y-14   y-13  …   y-7
    answers        y-8    y-7    y-6   …   y        the last one is the prediction
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import expm1, log, pi
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from scipy.special import stdtr
from torch import Tensor, nn
from torch.nn import functional

from stock_assets.errors import BadBarsError
from stock_assets.frames import CLASSES, KEYS, surprises
from stock_assets.model.config import DeepArConfig
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.networks.inference import answers_along, answers_at
from stock_assets.model.networks.layers import (
    EmptyLinear,
    SeededDropout,
    StackedLSTM,
    device_of,
    each_row,
    with_weights,
)
from stock_assets.model.networks.trained import ClassifierEpoch, TrainedClassifier, hits
from stock_assets.model.networks.trainer import best_device, descend
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.scaling import feature_columns, fit_scaler
from stock_assets.model.splits import require_after
from stock_assets.model.windows import IGNORE, Panel, build_panel, predictable_rows, random_segments

#: The scale has no likelihood to bound it where the location hits a label, a whole number, again and again: the
#: density grows without end. A label represents the interval of width one around it, of which this is the deviation.
SMALLEST_SCALE = 12**-0.5
#: Below two a Student-t distribution has no variance.
SMALLEST_DEGREES = 2.0
#: The degrees of freedom before training: close to a normal distribution.
FIRST_DEGREES = 10.0
#: The network's answers, in order; the location is the mean, the point forecast.
DISTRIBUTION = ("location", "scale", "degrees")
_LOCATION, _SCALE, _DEGREES = range(3)


def train_deepar(lesson: Lesson, config: DeepArConfig | None = None) -> "DeepAr":
    """The network of the best epoch, trained on what was known when session `lesson.cutoff` was over.

    It reads the floating-point columns of `inputs.components` and `inputs.known_labels`: ticker, session, known_label,
    the newest label (-1, 0, 1) that may be known there, null for none, as for a row that it lacks. Rows after the
    cutoff are not looked at. The last `config.validation_sessions` sessions of the labels choose the epoch, by the
    log-loss of the class probabilities; scaler, embeddings and weights come from the labels that end before them. The
    same seed, inputs and kind of processor give the same weights, also when an interrupted training resumes from its
    checkpoint; torch's own random state is not used.

    Raises CutoffError for a label that ends after the cutoff, BadBarsError for inputs that are not finite, a
    known label that is none or a row that comes twice, and StockAssetsError for too little history or a loss
    that is not finite.
    """
    config = config or DeepArConfig()
    train, validation = lesson.split(config.validation_sessions)
    past, columns = lesson.past(lesson.inputs.components), feature_columns(lesson.inputs.components)
    rows = lesson.labelled(past, train)
    mean, std = fit_scaler(rows, columns)
    tickers = tuple(rows["ticker"].unique().sort())
    panel = build_panel(past, columns, mean=mean, std=std, clip=config.input_clip)
    series = label_series(panel, lesson.inputs.known_labels, tickers)
    descent = descend(DeepArNetwork(config, series, train, validation=validation, seed=lesson.seed), lesson)
    return DeepAr(
        config=config,
        features=columns,
        tickers=tickers,
        mean=mean,
        std=std,
        weights=descent.weights,
        cutoff=lesson.cutoff,
        seed=lesson.seed,
        curve=descent.curve,
        best_epoch=descent.best_epoch,
    )


# ---------------------------------------------------------------- inputs


class LabelSeries(NamedTuple):
    """What the network reads."""

    panel: Panel
    """Its values [N + 1, F + 2] end with the known label and whether there is one."""
    ticker_of: Tensor
    """int64 [N]: the index of each row's ticker; the number of tickers for one without an embedding of its own"""
    tickers: Sequence[str]


def label_series(panel: Panel, known_labels: pl.DataFrame, tickers: Sequence[str]) -> LabelSeries:
    """The rows of `panel` with the newest known label.

    Raises BadBarsError for a known label that is none of -1, 0, 1 and null, and for a row of them that comes twice.
    """
    rows_with_label = panel.keys.join(
        known_labels.select(*KEYS, "known_label"), on=KEYS, how="left", maintain_order="left"
    )
    if rows_with_label.height != panel.keys.height:
        ticker, session = rows_with_label.filter(rows_with_label.select(KEYS).is_duplicated()).select(KEYS).row(0)
        raise BadBarsError(f"known labels hold {ticker} at {session} twice; expected one row per ticker and session")
    label = rows_with_label["known_label"].cast(pl.Float32)
    wrong_rows = rows_with_label.filter(label.is_not_null() & ~label.is_in(list(map(float, CLASSES))))
    if not wrong_rows.is_empty():
        ticker, session, value = wrong_rows.row(0)
        raise BadBarsError(f"the known label of {ticker} at {session} is {value}; expected -1, 0, 1 or null")
    inputs = np.stack([label.fill_null(0.0).to_numpy(), label.is_not_null().to_numpy()], axis=1).astype(np.float32)
    values = np.concatenate([panel.values, np.concatenate([inputs, np.zeros((1, 2), np.float32)])], axis=1)
    index = {ticker: i for i, ticker in enumerate(tickers)}
    of_panel = [index.get(panel.keys["ticker"][int(first)], len(tickers)) for first in panel.starts]
    ticker_of = np.repeat(of_panel, panel.ends - panel.starts).astype(np.int64)
    return LabelSeries(replace(panel, values=values), torch.from_numpy(ticker_of), tickers)


# ---------------------------------------------------------------- network, loss, judge


class StudentLSTM(nn.Module):
    """Location, scale and degrees of freedom of the label at every step, from that step's inputs and those before it.

    Every ticker starts at the same embedding, zero; ticker `tickers` is any unknown one, which has the mean
    of the others. The bias starts at the distribution of all labels, whose mean and deviation are `prior`, every
    other weight from `generator`.
    """

    def __init__(
        self,
        features: int,
        tickers: int,
        config: DeepArConfig,
        *,
        prior: tuple[float, float] = (0.0, 1.0),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(tickers, config.embedding))
        self.lstm = StackedLSTM(features + 2 + config.embedding, config, generator)
        self.dropout = SeededDropout(config.dropout)
        self.head = EmptyLinear(config.hidden, 3)
        nn.init.uniform_(self.head.weight, -(config.hidden**-0.5), config.hidden**-0.5, generator=generator)
        mean, deviation = prior
        scale = deviation * (1 - SMALLEST_DEGREES / FIRST_DEGREES) ** 0.5  # whose distribution has this deviation
        free = max(scale - SMALLEST_SCALE, 0.01), FIRST_DEGREES - SMALLEST_DEGREES
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([mean, *(log(expm1(value)) for value in free)]))

    def forward(self, inputs: Tensor, tickers: Tensor) -> Tensor:
        """[B, L, F + 2] and [B] -> [B, L, 3]."""
        states = self.lstm(self._with_embedding(inputs, tickers[:, None].expand(inputs.shape[:2])))  # [B, L, H]
        return _distribution(self.head(self.dropout(states)))

    def at_windows(self, rows: Tensor, ends: Tensor, steps: int, *, tickers: Tensor) -> Tensor:
        """The answer at the end of each window of `steps` neighbouring rows: [U, F + 2], [W] and [U] -> [W, 3], as
        `StackedLSTM.at_windows`."""
        states = self.lstm.at_windows(self._with_embedding(rows, tickers), ends, steps)
        return _distribution(each_row(self.head.weight, states) + self.head.bias)

    def _with_embedding(self, inputs: Tensor, tickers: Tensor) -> Tensor:
        table = torch.cat([self.embedding, self.embedding.mean(dim=0, keepdim=True)])
        return torch.cat([inputs, table[tickers]], dim=-1)


def _distribution(raw: Tensor) -> Tensor:
    raw = raw.float()  # where the products were made in half precision
    free = functional.softplus(raw[..., _SCALE:])
    return torch.stack([raw[..., _LOCATION], SMALLEST_SCALE + free[..., 0], SMALLEST_DEGREES + free[..., 1]], dim=-1)


def negative_log_density(distributions: Tensor, labels: Tensor) -> Tensor:
    """Of each label (-1, 0, 1) under its Student-t distribution, in nats: [N, 3], [N] -> [N]."""
    location, scale, degrees = distributions.unbind(dim=-1)
    square = ((labels - location) / scale).square()
    return (
        torch.lgamma(degrees / 2)
        - torch.lgamma((degrees + 1) / 2)
        + 0.5 * torch.log(pi * degrees)
        + scale.log()
        + (degrees + 1) / 2 * torch.log1p(square / degrees)
    )


class DeepArNetwork:
    """The network on the data of one training, a `trainer.Network`."""

    report = ClassifierEpoch

    def __init__(
        self, config: DeepArConfig, series: LabelSeries, train: pl.DataFrame, *, validation: pl.DataFrame, seed: int
    ) -> None:
        self.config, self.panel, self._validation = (
            config,
            series.panel.labelled(train),
            series.panel.labelled(validation),
        )
        self._tickers, self._seed = len(series.tickers), seed
        place = best_device()
        self._values, self._ticker_of = torch.from_numpy(self.panel.values).to(place), series.ticker_of.to(place)
        self._labels = torch.from_numpy(self.panel.labels).to(place)

    def build(self, generator: torch.Generator) -> StudentLSTM:
        """Answers near the distribution of all training labels."""
        labels = self.panel.labels[self.panel.has_label()] + float(CLASSES[0])
        prior = float(labels.mean()), float(labels.std())
        return StudentLSTM(self.panel.values.shape[1] - 2, self._tickers, self.config, prior=prior, generator=generator)

    def loss(self, module: StudentLSTM, segments: Tensor) -> tuple[Tensor, int]:
        """The negative log density of the labels, in nats."""
        has_label = self._labels[segments] != IGNORE  # [B, L]
        labels = (self._labels[segments][has_label] + CLASSES[0]).float()  # [K]
        answers = self._answer(module, segments)[has_label]  # [K, 3]
        return negative_log_density(answers, labels).mean(), len(labels)

    def judge(self, module: StudentLSTM, epoch: int, train_loss: float | None) -> ClassifierEpoch:
        """Log-loss, accuracy and distance of the class probabilities on the validation labels."""
        place = device_of(module)
        module.eval()
        if train_loss is None:
            rng = np.random.default_rng(self._seed)
            first = random_segments(self.panel, self.config.segment, rng)[: self.config.batch]
            with torch.inference_mode():
                train_loss = self.loss(module, torch.from_numpy(first).to(place))[0].item()
        rows, answers = answers_along(
            self._validation, self.config, lambda spans: self._answer(module, spans.to(place))
        )
        probabilities, truth = class_probabilities(answers), self._validation.labels[rows]  # [V, 3], [V]
        loss = float(surprises(truth + CLASSES[0], probabilities).mean())
        accuracy, rmse = hits(probabilities.argmax(axis=1), truth)
        return ClassifierEpoch(epoch, self.config.epochs, train_loss, loss, accuracy, rmse)

    def _answer(self, module: StudentLSTM, spans: Tensor) -> Tensor:
        return module(self._values[spans], self._ticker_of[spans[:, 0]])


# ---------------------------------------------------------------- forecast


@dataclass(frozen=True, kw_only=True)
class DeepAr(TrainedClassifier[DeepArConfig]):
    """The trained model `deepar`. `train_loss` of its curve is the negative log density of a label, in nats."""

    kind = "deepar"
    configuration = DeepArConfig

    tickers: tuple[str, ...]
    """Those with an embedding of their own, in order."""

    def module(self) -> StudentLSTM:
        return with_weights(StudentLSTM(len(self.features), len(self.tickers), self.config), self.weights)

    def predict(self, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        """ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell (f64) of `forecast`. Raises likewise."""
        return forecast_to_probabilities(self.forecast(inputs, sessions))

    def forecast(self, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        """The Student-t distribution of the label for every ticker and session that has enough history.

        Returns ticker, session and DISTRIBUTION (f64), sorted by ticker and session. Each row looks at exactly the last
        `config.context` rows of its ticker, that of the session included; where there are fewer there is no row
        (`windows.missing_history` counts them). Rows after a session never touch it. A ticker unknown to the training
        has the mean embedding.

        Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
        BadBarsError as `train_deepar`.
        """
        require_after(self.cutoff, sessions)
        config = self.config
        panel = build_panel(inputs.components, self.features, mean=self.mean, std=self.std, clip=config.input_clip)
        panel, ticker_of, _ = label_series(panel, inputs.known_labels, self.tickers)
        rows = predictable_rows(panel.keys, sessions, config.context)
        values, module = torch.from_numpy(panel.values), self.module()
        answers = answers_at(
            np.flatnonzero(rows.to_numpy()),
            config.context,
            len(DISTRIBUTION),
            answer=lambda rows, ends: module.at_windows(values[rows], ends, config.context, tickers=ticker_of[rows]),
        )
        columns = zip(DISTRIBUTION, answers.astype(np.float64).T, strict=True)
        return panel.keys.filter(rows).with_columns(pl.Series(name, column) for name, column in columns)

    def own_description(self) -> dict[str, Any]:
        return {"tickers": list(self.tickers)}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        return super().own_fields(tensors, description) | {"tickers": tuple(description["tickers"])}


def forecast_to_probabilities(forecast: pl.DataFrame) -> pl.DataFrame:
    """The frame of every model, ticker, session, p_sell, p_hold, p_buy, score, of `DeepAr.forecast`."""
    return probability_frame(forecast.select(KEYS), class_probabilities(forecast.select(DISTRIBUTION).to_numpy()))


def class_probabilities(distributions: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: the mass below -1/2, between and above 1/2 of N × DISTRIBUTION.

    >>> class_probabilities(np.array([[0.0, 1e-3, 5.0]])).round(6).tolist()
    [[0.0, 1.0, 0.0]]
    """
    location, scale, degrees = np.asarray(distributions, np.float64).T
    sell = stdtr(degrees, (-0.5 - location) / scale)
    buy = stdtr(degrees, (location - 0.5) / scale)  # the upper tail: the distribution is symmetric
    return np.stack([sell, np.maximum(1 - sell - buy, 0.0), buy], axis=1)
