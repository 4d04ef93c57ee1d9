"""The model `rnn`: forecast the volatility of the horizon and a direction, then map them to the barriers.

Flexible classifiers memorise the regimes of days and lose more than they win. So the networks never see the level
of a day: inputs and targets are differences to the session's mean, and they learn which tickers will move more than
the others, and which way. Two ridge regressions forecast the level of the day (`level`); `barriers` turns the sum into
the probability of a move, `sides` shares it between buy and sell. Splitting level and cross-section follows HAR (Corsi
2009).

    features less their session's mean  ->  Members      ->  volatility against the others, direction
    features, means of the session      ->  MarketLevel  ->  the day's level of volatility
    their sum                           ->  BarrierMap   ->  hold or move
    the day's moves, the direction      ->  Walk         ->  sell or buy

Each member leaves out one block of the training sessions (`crossfit`), and the map is fitted on what the members and
the levels say of the blocks that they have not learned from: there their errors are as large as they will be.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple, Self, cast

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES, surprises
from stock_assets.model.barriers import BarrierMap, fit_barrier_map, of_classes
from stock_assets.model.config import RnnConfig
from stock_assets.model.crossfit import Blocks
from stock_assets.model.history import History
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.level import MarketLevel, OfSessions, fit_market_levels, session_inputs
from stock_assets.model.linear import Rows, products_at, ridge, spread
from stock_assets.model.market_rows import PADDING, MarketRows, Standardised
from stock_assets.model.networks.earlier_rnn import EarlierRnn, RnnEpoch
from stock_assets.model.networks.inference import answers_along, answers_at
from stock_assets.model.networks.layers import Members, device_of, with_weights
from stock_assets.model.networks.trained import Trained
from stock_assets.model.networks.trainer import best_device, descend
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.scaling import feature_columns
from stock_assets.model.sides import Walk, side_odds, stored_walk, walk_between, walk_of_paths
from stock_assets.model.splits import require_after
from stock_assets.model.targets import TARGETS
from stock_assets.model.windows import Panel, predictable_rows

#: Columns that are the same for all tickers of a session and that the networks see as they are: how volatile the market
#: is, and how many report. What moves a ticker against the others depends on them.
SESSION_COLUMNS = ("market_vol_5", "market_vol_22", "vix_level", "market_ahead")
#: Paths of the walk at most: those of one week share its market, so that more of them tell little more.
PATHS = 200_000


def train_rnn(lesson: Lesson, config: RnnConfig | None = None) -> "Rnn":
    """The model of the best epoch, trained on what was known when session `lesson.cutoff` was over.

    It reads the floating-point columns of `inputs.features`; rows after the cutoff are not looked at, and
    `inputs.suspects` count in no mean of a session. What the members say of their own blocks chooses the epoch and
    trains the map; the last `config.validation_sessions` sessions score a map that has not seen them. The same seed,
    inputs and kind of processor give the same weights, also when an interrupted training resumes from its checkpoint.

    Raises CutoffError for a label that ends after the cutoff, BadBarsError for features that are not finite,
    and StockAssetsError for too little history or a loss that is not finite.
    """
    config = config or RnnConfig()
    train, validation = lesson.split(config.validation_sessions)
    columns = feature_columns(lesson.inputs.features)
    history = History.of(lesson, columns)
    market, learnable = history.market, history.complete
    if not history.rows_of(train).any():
        raise StockAssetsError(
            f"none of the {train.height} training label(s) known by {lesson.cutoff} has features over its horizon; "
            "expected rows of the same tickers and sessions"
        )
    del train  # as large as all labels
    blocks = Blocks.of(market.day, learnable, count=config.members, horizon=lesson.horizon)
    target_scale = spread(history.apart()[:, :3], learnable)
    scaling = Scaling.of(market, columns, learnable)
    inputs = scaling.inputs(market, config.input_clip)
    panel = history.panel.marked(learnable)
    network = RnnNetwork(config, panel, blocks, inputs=inputs, goals=history.goals(target_scale))
    descent = descend(network, lesson)
    sessions = session_inputs(market, columns, config.context)
    regular = learnable & market.every(config.every)
    levels = fit_market_levels(market, history.targets[:, :3], regular, blocks=blocks, sessions=sessions, config=config)
    model = Rnn(
        config=config,
        features=columns,
        scaling=scaling,
        target_scale=target_scale,
        weights=descent.weights,
        level=levels[0],
        direction_weights=ridge(inputs, history.targets[:, 3:], learnable, penalty=config.direction_ridge)[:, 0],
        barriers=BarrierMap(np.zeros(5), np.zeros(7)),  # until the forecasts are there
        walk=walk_between(lesson.buy_threshold, lesson.sell_threshold, lesson.horizon),  # as long
        share=float((history.labels[learnable] != 0).mean()),
        buy_threshold=lesson.buy_threshold,
        sell_threshold=lesson.sell_threshold,
        horizon=lesson.horizon,
        cutoff=lesson.cutoff,
        seed=lesson.seed,
        curve=descent.curve,
        best_epoch=descent.best_epoch,
    )
    answers = network.of_epoch(descent.best_epoch, model.module())
    level = _of_blocks(levels[1:], market, regular, blocks=blocks, sessions=sessions)
    forecast = model.forecast(market, inputs, answers, rows=regular, level=level)
    return _with_map(model, forecast, history, rows=regular, judges=regular & history.rows_of(validation))


def load_rnn(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> "Rnn | EarlierRnn":
    """The trained model in an artifact, of today's kind or of the earlier one. Raises ArtifactError for any other."""
    kind = EarlierRnn if description.get("kind") == EarlierRnn.kind else Rnn
    return kind.from_artifact(tensors, description)


def _of_blocks(
    levels: list[MarketLevel], market: MarketRows, rows: np.ndarray, *, blocks: Blocks, sessions: OfSessions
) -> np.ndarray:
    """float64 [N, 3]: at `rows` (bool [N]) the level of the regression that has not learned from the row's block."""
    forecasts = np.zeros((len(rows), 3))
    for k, level in enumerate(levels):
        own = rows & blocks.inside(k)
        forecasts[own] = level.forecast(market, own, sessions)[own]
    return forecasts


def _with_map(model: "Rnn", forecast: "Forecast", history: "History", *, rows: np.ndarray, judges: np.ndarray) -> "Rnn":
    """The model with the map and the walk of all its labels, and the validation scores of those that have not seen
    theirs."""
    day = history.market.day

    def mapped(own: np.ndarray) -> "Rnn":
        barriers = fit_barrier_map(forecast.sigma[own], history.labels[own])
        return replace(model, barriers=barriers, walk=_walk_of(model, forecast, market=history.market, rows=own))

    before = rows & (day < day[judges].min() - model.horizon) if judges.any() else rows
    if before.any() and judges.any():
        probabilities = mapped(before).probabilities(history.market, forecast, judges)
        truth = history.labels[judges]
        model = replace(
            model,
            validation_log_loss=float(surprises(truth, probabilities).mean()),
            validation_accuracy=float((probabilities.argmax(axis=1) + CLASSES[0] == truth).mean()),
        )
    return mapped(rows)


def _walk_of(model: "Rnn", forecast: "Forecast", *, market: MarketRows, rows: np.ndarray) -> Walk:
    """The walk with the steps of what came after `rows` (bool [N]), in units of the volatility forecast of them."""
    at = np.flatnonzero(rows)
    horizons = len(np.unique(market.day[at])) * model.config.every / model.horizon
    at = at[np.linspace(0, len(at) - 1, min(len(at), PATHS)).astype(np.int64)]
    steps = market.returns_ahead(at) / np.exp(forecast.sigma[at])[:, None]
    return walk_of_paths(steps, horizons, buy_threshold=model.buy_threshold, sell_threshold=model.sell_threshold)


# ---------------------------------------------------------------- inputs


class Scaling(NamedTuple):
    """How the inputs of the networks are standardised: most as differences to their session's mean."""

    scale: np.ndarray
    """float64 [F]: standard deviation about the session's mean; of SESSION_COLUMNS that of the column itself"""
    of_session: np.ndarray
    """int64 [S]: the places of SESSION_COLUMNS among the columns"""
    mean: np.ndarray
    """float64 [S]: their means"""

    @classmethod
    def of(cls, market: MarketRows, columns: tuple[str, ...], rows: np.ndarray) -> Self:
        """From `rows` (bool [N]) of `market`."""
        scale = spread(Standardised(market, np.ones(len(columns))), rows)
        places = np.array([i for i, name in enumerate(columns) if name in SESSION_COLUMNS], np.int64)
        one_each = market.first_of_session(rows)
        mean = np.zeros(len(places))
        for j, i in enumerate(places):
            of_sessions = market.session_mean(i)[market.day[one_each]]
            present = of_sessions[~np.isnan(of_sessions)]
            mean[j], scale[i] = (present.mean(), present.std() or 1.0) if len(present) else (0.0, 1.0)
        return cls(scale, places, mean)

    def inputs(self, market: MarketRows, clip: float) -> Standardised:
        """Those of the networks at the rows of `market`, cut to ± `clip`."""
        of_session = {
            int(place): np.nan_to_num(market.session_mean(place) - mean).astype(np.float32)
            for place, mean in zip(self.of_session, self.mean, strict=True)
        }
        return Standardised(market, self.scale, clip, of_session)


# ---------------------------------------------------------------- network, loss, judge


class RnnNetwork:
    """The members on the data of one training, a `trainer.Network`."""

    report = RnnEpoch

    def __init__(self, config: RnnConfig, panel: Panel, blocks: Blocks, *, inputs: Rows, goals: np.ndarray) -> None:
        """`panel` holds all rows, those with targets marked as labelled; `inputs` are float32 [N + 1, F] and `goals`
        [N + 1, 4], TARGETS in standard deviations; the last row of both is the padding."""
        self.config, self.panel = config, replace(panel, stride=config.stride)
        self._goals, self._judged = goals, (-1, goals)
        labelled, self._count = panel.has_label(), config.members
        inside = [blocks.inside(k) for k in range(self._count)]
        self._own = [self.panel.marked(labelled[:-1] & own) for own in inside]
        learns = [labelled & np.append(~blocks.touching(k), False) for k in range(self._count)]
        # with too few sessions for blocks and the horizons beside them, all members learn from all rows
        learns = [rows if rows.any() else labelled for rows in learns]
        place = best_device()
        self._goals_there = torch.from_numpy(goals).to(place)
        # a GPU holds them all, since every transfer costs it more than a step
        rows = np.append(np.arange(len(goals) - 1), PADDING)
        self._inputs = inputs if place.type == "cpu" else torch.from_numpy(inputs[rows]).to(place)
        self._learns = torch.from_numpy(np.array(learns)).to(place)

    def build(self, generator: torch.Generator) -> Members:
        """Answers with 0, the session's mean."""
        return Members(self.panel.values.shape[1], self.config, len(TARGETS), generator=generator)

    def loss(self, module: Members, segments: Tensor) -> tuple[Tensor, int]:
        learns = self._learns[:, segments]  # [K, B, L]
        answers, goals = module(self._inputs_at(segments)), self._goals_there[segments]
        errors = self._errors(answers, goals.expand_as(answers)) * learns
        return errors.sum() / learns.sum().clamp(min=1), int(learns.sum())

    def judge(self, module: Members, epoch: int, train_loss: float | None) -> RnnEpoch:
        rows = self.panel.has_label()
        # every answer of epoch 0 is 0 (`SegmentLSTM`)
        self._judged = epoch, self.of_own_blocks(module) if epoch else np.zeros_like(self._goals[:-1])
        answers = torch.from_numpy(self._judged[1][rows[:-1]])
        goals = torch.from_numpy(self._goals[rows])
        variance = goals[:, :3].square().sum().item()
        r2 = 1 - (answers - goals)[:, :3].square().sum().item() / variance if variance else None
        loss = self._errors(answers, goals).mean().item()
        return RnnEpoch(epoch, self.config.epochs, loss if train_loss is None else train_loss, loss, r2)

    def of_epoch(self, epoch: int, module: Members) -> np.ndarray:
        """`of_own_blocks` of the `module` of epoch number `epoch`: as judged, where that epoch was the last."""
        return self._judged[1] if self._judged[0] == epoch else self.of_own_blocks(module.to(best_device()))

    def of_own_blocks(self, module: Members) -> np.ndarray:
        """float32 [N, 4]: at each labelled row the answer of the member that has not learned from its block."""
        answers_of_rows, place = np.zeros((len(self.panel.values), len(TARGETS)), np.float32), device_of(module)
        module.eval()
        for member, own in zip(module.members, self._own, strict=True):
            if own.has_label().any():
                rows, answers = answers_along(
                    own, self.config, lambda spans, of=member: of(self._inputs_at(spans.to(place)))
                )
                answers_of_rows[rows] = answers
        return answers_of_rows[:-1]

    def _inputs_at(self, rows: Tensor) -> Tensor:
        """float32 [*, F] at `rows` (int64 [*]), on their device."""
        inputs = self._inputs
        return inputs[rows] if isinstance(inputs, Tensor) else torch.from_numpy(inputs[rows.numpy()])

    def _errors(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Of TARGETS, [..., 4] each, by row."""
        direction = functional.mse_loss(answers[..., 3], goals[..., 3], reduction="none")
        volatility = functional.smooth_l1_loss(answers[..., :3], goals[..., :3], reduction="none").mean(dim=-1)
        return volatility + self.config.direction_weight * direction


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

    kind = "volatility_members"
    configuration = RnnConfig
    report = RnnEpoch

    scaling: Scaling
    target_scale: np.ndarray
    """float64 [3]: standard deviation of the volatilities about their session's mean"""
    level: MarketLevel
    direction_weights: np.ndarray
    """float64 [F]"""
    barriers: BarrierMap
    walk: Walk
    share: float
    """of the training labels that moved; there the walk favours neither side"""
    buy_threshold: float
    sell_threshold: float
    horizon: int
    """Sessions"""
    validation_log_loss: float = float("nan")
    """Of the validation labels, by a map that has not seen them; NaN where too few labels come before."""
    validation_accuracy: float = float("nan")

    def module(self) -> Members:
        return with_weights(Members(len(self.features), self.config, len(TARGETS)), self.weights)

    def predict(self, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
        """Probabilities of sell, hold, buy for every ticker and session that has enough history.

        Returns ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell (f64), sorted by ticker and session. Each
        row looks at the last `config.context` rows of its ticker, and through their sessions' means at all tickers:
        give `inputs.features` of all of them. Rows after a session never touch it.

        Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
        BadBarsError for features that are not finite.
        """
        require_after(self.cutoff, sessions)
        market = inputs.market(self.features, self.horizon)
        rows = predictable_rows(market.keys, sessions, self.config.context).to_numpy()
        standard = self.scaling.inputs(market, self.config.input_clip)
        module, last_rows = self.module(), np.flatnonzero(rows)
        answers = np.zeros((len(rows), len(TARGETS)), np.float32)
        answers[last_rows] = answers_at(
            last_rows,
            self.config.reach,
            len(TARGETS),
            answer=lambda rows, ends: module.at_windows(
                torch.from_numpy(standard[rows.numpy()]), ends, self.config.steps, stride=self.config.stride
            ),
        )
        of_sessions = np.isin(market.day, np.unique(market.day[rows]))
        level = self.level.forecast(market, of_sessions, self.level.inputs(market, self.features))
        forecast = self.forecast(market, standard, answers, rows=rows, level=level)
        return probability_frame(market.keys.filter(pl.Series(rows)), self.probabilities(market, forecast, rows))

    def forecast(
        self, market: MarketRows, inputs: Standardised, answers: np.ndarray, *, rows: np.ndarray, level: np.ndarray
    ) -> Forecast:
        """The forecast at `rows` (bool [N]): level and cross-section added, and the direction of both of its parts.

        `inputs` are those of the networks, `answers` the networks' outputs [N, 4], `level` is [N, 3].
        """
        own_part = answers[:, :3] * self.target_scale
        own_part -= market.mean(own_part, rows)
        linear = market.scores(products_at(inputs, self.direction_weights, rows), rows)
        direction = market.scores(market.scores(answers[:, 3].astype(np.float64), rows) + linear, rows)
        return Forecast((level + own_part).mean(axis=1), direction)

    def probabilities(self, market: MarketRows, forecast: Forecast, rows: np.ndarray) -> np.ndarray:
        """float64 [R, 3] in the order of CLASSES, at `rows` (bool [N]), which hold whole sessions."""
        move = self.barriers.moves(forecast.sigma)
        of_day = market.mean(move[:, None], rows)[:, 0]
        day_odds = self.walk.odds(of_day) - self.walk.odds(np.array([self.share]))
        odds = side_odds(move, of_day, day_odds, tilt=self.config.tilt * forecast.direction)
        return of_classes(move[rows], odds[rows])

    def own_tensors(self) -> dict[str, np.ndarray]:
        return {
            "scale": self.scaling.scale,
            "of_session": self.scaling.of_session,
            "session_mean": self.scaling.mean,
            "target_scale": self.target_scale,
            "direction_weights": self.direction_weights,
            "barriers/knots": self.barriers.knots,
            "barriers/move": self.barriers.move,
            **self.walk.tensors(),
            **self.level.tensors(),
        }

    def own_description(self) -> dict[str, Any]:
        smoothed = [list(name_and_days) for name_and_days in self.level.smoothed]
        return {"outputs": list(TARGETS), "smoothed": smoothed, **{name: getattr(self, name) for name in _PLAIN}}

    @classmethod
    def own_fields(cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, Any]:
        if tuple(description["outputs"]) != TARGETS:
            raise ArtifactError(f"artifact forecasts {description['outputs']}; expected {list(TARGETS)}")
        config = cast(RnnConfig, RnnConfig.from_dict(description["config"]))
        return {
            "scaling": Scaling(tensors["scale"], tensors["of_session"], tensors["session_mean"]),
            "level": MarketLevel.of_tensors(
                tensors, clip=config.input_clip, context=config.context, smoothed=description.get("smoothed")
            ),
            "barriers": BarrierMap(tensors["barriers/knots"], tensors["barriers/move"]),
            "walk": stored_walk(
                tensors, **{name: description[name] for name in ("buy_threshold", "sell_threshold", "horizon")}
            ),
            **{name: tensors[name] for name in ("target_scale", "direction_weights")},
            **{name: description[name] for name in _PLAIN},
        }


#: The fields of `Rnn` that its description holds as they are.
_PLAIN = ("share", "buy_threshold", "sell_threshold", "horizon", "validation_log_loss", "validation_accuracy")
