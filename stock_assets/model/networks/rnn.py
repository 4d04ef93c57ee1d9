"""The model `rnn`: forecast the volatility of the horizon and a direction, then map them to the barriers.

Flexible classifiers memorise the regimes of days and lose more than they win. So the network never sees the level
of a day: inputs and targets are differences to the session's mean, and it learns which tickers will move more than
the others, and which way. A ridge regression forecasts the level of the day, corrected by what it missed in the last
sessions; `barriers` turns the sum into probabilities. Splitting level and cross-section follows HAR (Corsi 2009).

    features less their session's mean  ->  SegmentLSTM  ->  volatility against the others, direction
    features                            ->  ridge        ->  the day's level of volatility
    their sum, and the direction        ->  BarrierMap   ->  sell, hold, buy
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES, KEYS, surprises
from stock_assets.model.barriers import BarrierMap, fit_barrier_map
from stock_assets.model.config import RnnConfig
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.linear import Level, fit_level, ridge, spread
from stock_assets.model.market_rows import MarketRows
from stock_assets.model.networks.inference import answers_along, answers_at
from stock_assets.model.networks.layers import SegmentLSTM, device_of, with_weights
from stock_assets.model.networks.trained import Epoch, Trained
from stock_assets.model.networks.trainer import best_device, descend
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.scaling import feature_columns
from stock_assets.model.splits import require_after
from stock_assets.model.targets import TARGETS, volatility_targets
from stock_assets.model.windows import Panel, panel_of, predictable_rows


def train_rnn(lesson: Lesson, config: RnnConfig | None = None) -> "Rnn":
    """The model of the best epoch, trained on what was known when session `lesson.cutoff` was over.

    It reads the floating-point columns of `inputs.features`; rows after the cutoff are not looked at, and
    `inputs.suspects` count in no mean of a session. The last `config.validation_sessions` sessions of the labels choose
    the epoch and train nothing but the map. The same seed, inputs and kind of processor give the same weights, also
    when an interrupted training resumes from its checkpoint.

    Raises CutoffError for a label that ends after the cutoff, BadBarsError for features that are not finite,
    and StockAssetsError for too little history or a loss that is not finite.
    """
    config = config or RnnConfig()
    train, validation = lesson.split(config.validation_sessions)
    columns = feature_columns(lesson.inputs.features)
    history = History.of(lesson, columns)
    market, trains, judges = history.market, history.rows_of(train), history.rows_of(validation)
    if not trains.any():
        raise StockAssetsError(
            f"none of the {train.height} training label(s) known by {lesson.cutoff} has features over its horizon; "
            "expected rows of the same tickers and sessions"
        )
    target_scale = spread(history.apart()[:, :3], trains)
    inputs = market.deviations()
    scale = spread(inputs[:-1], trains)
    standardise(inputs, scale, config.input_clip)
    panel = panel_of(market.keys, inputs)
    network = RnnNetwork(config, panel.marked(trains), panel.marked(judges), goals=history.goals(target_scale))
    descent = descend(network, lesson)
    model = Rnn(
        config=config,
        features=columns,
        scale=scale,
        target_scale=target_scale,
        weights=descent.weights,
        level=level_of(history, trains & market.every(config.every), config),
        direction_weights=ridge(inputs[:-1][trains], history.targets[trains, 3:], config.direction_ridge)[:, 0],
        barriers=BarrierMap(np.zeros(1), np.zeros(3), 0.0, config.tilt),  # until the forecasts are there
        horizon=lesson.horizon,
        cutoff=lesson.cutoff,
        seed=lesson.seed,
        curve=descent.curve,
        best_epoch=descent.best_epoch,
        validation_log_loss=float("nan"),
        validation_accuracy=float("nan"),
    )
    answers = answers_of(model.module(), panel.marked(history.complete), config)
    forecast = model.forecast(market, inputs[:-1], answers, rows=history.complete)
    return _with_map(model, forecast, history, trains=trains, judges=judges)


def _with_map(
    model: "Rnn", forecast: "Forecast", history: "History", *, trains: np.ndarray, judges: np.ndarray
) -> "Rnn":
    """The model with the map of all its labels, and the validation scores of a map that has not seen theirs."""
    tilt, day = model.config.tilt, history.market.day

    def fitted(rows: np.ndarray) -> BarrierMap:
        return fit_barrier_map(forecast.sigma[rows], history.labels[rows], day[rows], tilt=tilt)

    unseen = fitted(trains).probabilities(forecast.sigma[judges], forecast.direction[judges])
    truth = history.labels[judges]
    return replace(
        model,
        barriers=fitted(history.complete),
        validation_log_loss=float(surprises(truth, unseen).mean()),
        validation_accuracy=float((unseen.argmax(axis=1) + CLASSES[0] == truth).mean()),
    )


# ---------------------------------------------------------------- inputs and targets


@dataclass(frozen=True)
class History:
    """The market up to a cutoff, and what came after each of its N rows."""

    market: MarketRows
    targets: np.ndarray
    """float64 [N, 4]: TARGETS, NaN where they are not known"""
    complete: np.ndarray
    """bool [N]: where all of them are"""
    labels: np.ndarray
    """int64 [N]: -1, 0, 1; 0 where there is none"""

    @classmethod
    def of(cls, lesson: Lesson, columns: tuple[str, ...]) -> Self:
        """What `lesson` knows by its cutoff, with `columns` as the inputs."""
        past = lesson.past(lesson.inputs.features)
        market = MarketRows(past, lesson.inputs.suspects, columns, horizon=lesson.horizon)
        targets = volatility_targets(past, lesson.labels, lesson.horizon)
        aligned = market.keys.join(targets, on=KEYS, how="left", maintain_order="left").select(TARGETS).to_numpy()
        complete = np.asarray(np.isfinite(aligned).all(axis=1))
        return cls(market, aligned, complete, market.labels(lesson.labels))

    def rows_of(self, labels: pl.DataFrame) -> np.ndarray:
        """bool [N]: the rows of these labels, where their targets are complete."""
        return self.complete & self.market.among(labels)

    def apart(self) -> np.ndarray:
        """float64 [N, 4]: the targets, the volatilities as differences to their session's mean."""
        volatilities = self.targets[:, :3]
        return np.column_stack([volatilities - self.market.mean(volatilities, self.complete), self.targets[:, 3]])

    def goals(self, target_scale: np.ndarray) -> np.ndarray:
        """float32 [N + 1, 4]: what the network learns, in standard deviations. Nothing reads the padding row."""
        goals = np.zeros((len(self.targets) + 1, len(TARGETS)), np.float32)
        goals[:-1] = self.apart() / np.append(target_scale, 1.0)
        return goals


def standardise(deviations: np.ndarray, scale: np.ndarray, clip: float) -> None:
    """In place, since a whole market takes half a gigabyte."""
    deviations /= scale.astype(np.float32)
    np.clip(deviations, -clip, clip, out=deviations)


def level_of(history: History, rows: np.ndarray, config: RnnConfig) -> Level:
    """The ridge regression of the volatilities at `rows` (bool [N]) on the features as they are."""
    return fit_level(
        history.market.values, history.targets[:, :3], rows, clip=config.input_clip, penalty=config.level_ridge
    )


# ---------------------------------------------------------------- network, loss, judge


@dataclass(frozen=True)
class RnnEpoch(Epoch):
    """An epoch of the model `rnn`. Epoch 0 forecasts the session's mean for every ticker.

    The losses are the smooth L1 of the volatilities and the weighted squared error of the direction, both in standard
    deviations.
    """

    r2: float | None
    """Share of the cross-sectional variance of the volatilities that is forecast, on the validation labels; None where
    there is none, as of a single ticker."""


class RnnNetwork:
    """The network on the data of one training, a `trainer.Network`."""

    report = RnnEpoch

    def __init__(self, config: RnnConfig, panel: Panel, validation: Panel, *, goals: np.ndarray) -> None:
        """`panel` and `validation` hold the same rows, those that train and those that judge marked as labelled.

        `goals` is float32 [N + 1, 4], TARGETS in standard deviations.
        """
        self.config, self.panel, self._validation, self._goals = config, panel, validation, goals
        place = best_device()
        self._values, self._goals_there = torch.from_numpy(panel.values).to(place), torch.from_numpy(goals).to(place)
        self._trains = torch.from_numpy(panel.has_label()).to(place)

    def build(self, generator: torch.Generator) -> SegmentLSTM:
        """Answers with 0, the session's mean."""
        return SegmentLSTM(self.panel.values.shape[1], self.config, len(TARGETS), generator=generator)

    def loss(self, module: SegmentLSTM, segments: Tensor) -> tuple[Tensor, int]:
        trains = self._trains[segments]
        answers, goals = module(self._values[segments])[trains], self._goals_there[segments][trains]
        return self._mean_loss(answers, goals), int(trains.sum())

    def judge(self, module: SegmentLSTM, epoch: int, train_loss: float | None) -> RnnEpoch:
        rows = self._validation.has_label()
        answers = torch.from_numpy(answers_of(module, self._validation, self.config)[rows[:-1]])
        goals = torch.from_numpy(self._goals[rows])
        variance = goals[:, :3].square().sum().item()
        r2 = 1 - (answers - goals)[:, :3].square().sum().item() / variance if variance else None
        if train_loss is None:
            at_start = torch.from_numpy(self._goals[self.panel.has_label()])
            train_loss = self._mean_loss(torch.zeros_like(at_start), at_start).item()
        loss = self._mean_loss(answers, goals).item()
        return RnnEpoch(epoch, self.config.epochs, train_loss, loss, r2)

    def _mean_loss(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Of TARGETS, [R, 4] each."""
        direction = functional.mse_loss(answers[:, 3], goals[:, 3])
        volatility = functional.smooth_l1_loss(answers[:, :3], goals[:, :3])
        return volatility + self.config.direction_weight * direction


def answers_of(module: SegmentLSTM, panel: Panel, config: RnnConfig) -> np.ndarray:
    """float32 [N, 4]: the module's answers at the labelled rows of `panel`, in one pass along each ticker; else 0."""
    out = np.zeros((len(panel.values), len(TARGETS)), np.float32)
    place = device_of(module)
    values = torch.from_numpy(panel.values).to(place)
    module.eval()
    rows, answers = answers_along(panel, config, lambda spans: module(values[spans.to(place)]))
    out[rows] = answers
    return out[:-1]


# ---------------------------------------------------------------- forecast


class Forecast(NamedTuple):
    """float64 [N] each, meaningful at the rows of the request."""

    sigma: np.ndarray
    """The mean of the three readings of volatility, in logs."""
    direction: np.ndarray
    """A score in standard deviations of the session."""


@dataclass(frozen=True, kw_only=True)
class Rnn(Trained[RnnConfig, RnnEpoch]):
    """The trained model `rnn`."""

    kind = "volatility"  # its name when the first artifacts were stored
    configuration = RnnConfig
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
    horizon: int
    """Sessions"""
    validation_log_loss: float
    """Of the validation labels, by a map that has not seen them."""
    validation_accuracy: float

    def module(self) -> SegmentLSTM:
        return with_weights(SegmentLSTM(len(self.features), self.config, len(TARGETS)), self.weights)

    def predict(self, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        """Probabilities of sell, hold, buy for every ticker and session that has enough history.

        Returns ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell (f64), sorted by ticker and session. Each
        row looks at the last `config.context` rows of its ticker, and through their sessions' means at all tickers:
        give `inputs.features` of all of them. Rows after a session never touch it.

        Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
        BadBarsError for features that are not finite.
        """
        require_after(self.cutoff, sessions)
        market = MarketRows(inputs.features, inputs.suspects, self.features, horizon=self.horizon)
        rows = predictable_rows(market.keys, sessions, self.config.context).to_numpy()
        deviations = market.deviations()
        standardise(deviations, self.scale, self.config.input_clip)
        values, module, last_rows = torch.from_numpy(deviations), self.module(), np.flatnonzero(rows)
        answers = np.zeros((len(rows), len(TARGETS)), np.float32)
        answers[last_rows] = answers_at(
            last_rows, self.config.context, len(TARGETS), answer=lambda windows: module.at_last_step(values[windows])
        )
        forecast = self.forecast(market, deviations[:-1], answers, rows=rows)
        probabilities = self.barriers.probabilities(forecast.sigma[rows], forecast.direction[rows])
        return probability_frame(market.keys.filter(pl.Series(rows)), probabilities)

    def forecast(self, market: MarketRows, inputs: np.ndarray, answers: np.ndarray, *, rows: np.ndarray) -> Forecast:
        """The forecast at `rows` (bool [N]): level and cross-section added, and the direction of both of its parts.

        `inputs` are the standardised deviations [N, F], `answers` the network's outputs [N, 4].
        """
        apart = answers[:, :3] * self.target_scale
        apart -= market.mean(apart, rows)
        level = market.mean(self.level.forecast(market.values), np.ones(len(rows), bool))
        level += self.config.level_memory * market.recent_error(level, self.config.context)
        linear = market.scores(inputs @ self.direction_weights, rows)
        direction = market.scores(market.scores(answers[:, 3].astype(np.float64), rows) + linear, rows)
        return Forecast((level + apart).mean(axis=1), direction)

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
        return {"outputs": list(TARGETS), "side": self.barriers.side, **{name: getattr(self, name) for name in _PLAIN}}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        if tuple(description["outputs"]) != TARGETS:
            raise ArtifactError(f"artifact forecasts {description['outputs']}; expected {list(TARGETS)}")
        config = RnnConfig.from_dict(description["config"])
        level = Level(tensors["level_mean"], tensors["level_scale"], tensors["level_weights"], config.input_clip)
        return {
            "level": level,
            "barriers": BarrierMap(
                tensors["barriers/knots"], tensors["barriers/move"], description["side"], config.tilt
            ),
            **{name: tensors[name] for name in ("scale", "target_scale", "direction_weights")},
            **{name: description[name] for name in _PLAIN},
        }


#: The fields of `Rnn` that its description holds as they are.
_PLAIN = ("horizon", "validation_log_loss", "validation_accuracy")
