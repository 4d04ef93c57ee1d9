"""Forecast the volatility of the horizon and a direction, then map them to the barriers.

Flexible classifiers memorise the regimes of days and lose more than they win. So the network never sees the level
of a day: inputs and targets are differences to the session's mean, and it learns which tickers will move more than
the others, and which way. A ridge regression forecasts the level of the day, and what it missed in the last sessions
corrects it; `barriers` turns the sum into probabilities. Splitting level and cross-section, and the targets, follow
HAR (Corsi 2009) and range-based volatility (Garman & Klass 1980, Parkinson 1980).
"""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.nn import functional

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.barriers import BarrierMap, fit_barrier_map
from stock_assets.model.config import UpdateConfig, VolatilityConfig
from stock_assets.model.descent import Checkpoint, Descent, best_device, descend, device_of, follow
from stock_assets.model.inference import answers_along, answers_at
from stock_assets.model.probabilities import probability_frame
from stock_assets.model.rnn import SegmentLSTM, network_of, weights_of_tensors, weights_to_tensors
from stock_assets.model.scaling import feature_columns, standardised
from stock_assets.model.splits import labels_since, require_after, require_known, train_validation_split
from stock_assets.model.training import asked_rows
from stock_assets.model.windows import Panel, panel_of

#: What the network forecasts of the horizon: three readings of its volatility, in logs.
VOLATILITIES = ("log_total", "log_close", "log_range")
OUTPUTS = (*VOLATILITIES, "direction")
#: Inputs of the targets, which must be among the features.
_DAILY_VOLATILITY, _DAILY_RETURN = "vol_total_1", "log_return_1"


@dataclass(frozen=True)
class VolatilityEpoch:
    """What one epoch achieved. Epoch 0 forecasts the session's mean for every ticker."""

    epoch: int
    epochs: int
    train_loss: float
    """Smooth L1 of the volatilities and squared error of the direction, in standard deviations, while learning."""
    validation_loss: float
    """The same on the validation labels."""
    r2: float
    """Share of the cross-sectional variance of the volatilities that is forecast, on the validation labels."""


@dataclass(frozen=True)
class TrainedVolatility:
    """Everything that inference needs, as plain values."""

    config: VolatilityConfig
    features: tuple[str, ...]
    scale: np.ndarray
    """float64 [F]: standard deviation of the inputs about their session's mean"""
    target_scale: np.ndarray
    """float64 [3]: standard deviation of the volatilities about their session's mean"""
    weights: dict[str, np.ndarray]
    """float32, the state of `SegmentLSTM` after the best epoch"""
    level_mean: np.ndarray
    """float64 [F]"""
    level_scale: np.ndarray
    """float64 [F]"""
    level_weights: np.ndarray
    """float64 [F + 1, 3]: slopes, then the constant"""
    direction_weights: np.ndarray
    """float64 [F]"""
    barriers: BarrierMap
    horizon: int
    """Sessions"""
    cutoff: date
    seed: int
    curve: tuple[VolatilityEpoch, ...]
    best_epoch: int
    validation_log_loss: float
    """Of the validation labels, by a map that has not seen them."""
    validation_accuracy: float

    def network(self) -> SegmentLSTM:
        """The network in evaluation mode. Raises ArtifactError when the weights do not fit the configuration."""
        return network_of(len(self.features), self.config, len(OUTPUTS), self.weights)

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for `storage.artifacts.save_artifact`."""
        tensors = weights_to_tensors(self.weights) | {name: getattr(self, name) for name in _ARRAYS}
        tensors |= {f"barriers/{name}": getattr(self.barriers, name) for name in ("knots", "move")}
        return tensors, {
            "kind": "volatility",
            "classes": list(CLASSES),
            "outputs": list(OUTPUTS),
            "config": self.config.to_dict(),
            "features": list(self.features),
            "side": self.barriers.side,
            "horizon": self.horizon,
            "cutoff": self.cutoff.isoformat(),
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "curve": [asdict(report) for report in self.curve],
            "validation_log_loss": self.validation_log_loss,
            "validation_accuracy": self.validation_accuracy,
        }

    @classmethod
    def from_artifact(cls, tensors: dict[str, np.ndarray], description: dict[str, Any]) -> "TrainedVolatility":
        """The model that `to_artifact` described. Raises ArtifactError when something is missing or unknown."""
        try:
            found = description["kind"], tuple(description["classes"]), tuple(description["outputs"])
            if found != ("volatility", CLASSES, OUTPUTS):
                raise ArtifactError(f"artifact is {found}; expected {('volatility', CLASSES, OUTPUTS)}")
            config = VolatilityConfig.from_dict(description["config"])
            trained = cls(
                config=config,
                features=tuple(description["features"]),
                weights=weights_of_tensors(tensors),
                barriers=BarrierMap(
                    tensors["barriers/knots"], tensors["barriers/move"], description["side"], config.tilt
                ),
                cutoff=date.fromisoformat(description["cutoff"]),
                curve=tuple(VolatilityEpoch(**report) for report in description["curve"]),
                **{name: tensors[name] for name in _ARRAYS},
                **{name: description[name] for name in _PLAIN},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"artifact of a volatility network is incomplete: {error!r}") from error
        trained.network()  # so that weights of another shape are refused here, not at the first prediction
        return trained


_ARRAYS = ("scale", "target_scale", "level_mean", "level_scale", "level_weights", "direction_weights")
_PLAIN = ("horizon", "seed", "best_epoch", "validation_log_loss", "validation_accuracy")


def volatility_targets(features: pl.DataFrame, labels: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """ticker, session and OUTPUTS (f64) of the labels whose horizon is whole among the feature rows.

    With v and r the daily total variance and log return of the `horizon` rows after the session:
    - log_total: ½ ln(mean v + 1e-5), log_close: ½ ln(mean r² + 1e-5);
    - log_range: ln(highest - lowest cumulative sum of r, 0 among them, + 0.002), the range of the closes;
    - direction: forward_return_1 as a normal score, Φ⁻¹((rank - ½) / count) among the session's labels.
    """
    rank = (pl.col("forward_return_1").rank() - 0.5) / pl.len()
    return (
        _ahead(features.select(*KEYS, _DAILY_VOLATILITY, _DAILY_RETURN).sort(KEYS), horizon)
        .join(labels.select(*KEYS, "horizon_end", "forward_return_1"), on=KEYS)
        .filter(pl.col("_end") == pl.col("horizon_end"))
        .with_columns(rank.over("session").map_batches(_normal_score, pl.Float64).alias("direction"))
        .select(*KEYS, *OUTPUTS)
        .sort(KEYS)
    )


def _ahead(rows: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Sorted `rows` with VOLATILITIES of the ticker's next `horizon` rows, and `_end`, the last one's session."""
    variance = (2 * pl.col(_DAILY_VOLATILITY)).exp() - 1e-5
    steps = range(1, horizon + 1)

    def ahead(column: pl.Expr) -> list[pl.Expr]:
        return [column.shift(-step).over("ticker") for step in steps]

    returns = ahead(pl.col(_DAILY_RETURN))
    paths = [pl.sum_horizontal(returns[:step]) for step in steps]
    return rows.with_columns(
        pl.col("session").shift(-horizon).over("ticker").alias("_end"),
        (0.5 * (pl.mean_horizontal(ahead(variance)) + 1e-5).log()).alias("log_total"),
        (0.5 * (pl.mean_horizontal([r**2 for r in returns]) + 1e-5).log()).alias("log_close"),
        (pl.max_horizontal(*paths, 0.0) - pl.min_horizontal(*paths, 0.0) + 0.002).log().alias("log_range"),
    )


def train_volatility(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    suspects: pl.DataFrame,
    config: VolatilityConfig,
    cutoff: date,
    seed: int,
    horizon: int,
    on_epoch: Callable[[VolatilityEpoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedVolatility:
    """The model of the best epoch, trained on what was known when session `cutoff` was over.

    `features` has ticker, session and the inputs, which are its columns of floating-point numbers; rows after
    `cutoff` are not looked at. `labels` are usable and purged, `suspects` the ticker and session of rows that
    count in no mean of a session. The last `config.validation_sessions` sessions of the labels choose the epoch and
    train nothing but the map. The same seed, inputs and kind of processor give the same weights, also when a training
    that was interrupted goes on from `checkpoint`.

    Raises CutoffError for a label that ends after `cutoff`, BadBarsError for features that are not finite,
    and StockAssetsError for too little history or a loss that is not finite.
    """
    require_known(labels, cutoff)
    train, validation = train_validation_split(labels, cutoff, config.validation_sessions)
    columns = feature_columns(features)
    market, wanted, known = _known_by(cutoff, features, labels, suspects, columns, horizon)
    trains = known & _among(market.keys, train)
    if not trains.any():
        raise StockAssetsError(
            f"none of the {train.height} training label(s) known by {cutoff} has features over its horizon; expected "
            "rows of the same tickers and sessions"
        )
    centred = _centred(market, wanted, known)
    target_scale = _spread(centred[:, :3], trains)
    inputs = market.deviations()
    scale = _spread(inputs[:-1], trains)
    _standardise(inputs, scale, config.input_clip)

    panel = panel_of(market.keys, inputs)
    judged = known & _among(market.keys, validation)
    goal = _goal(centred, target_scale)
    network = SegmentLSTM(len(columns), config, len(OUTPUTS), generator=torch.Generator().manual_seed(seed))
    network = network.to(best_device())
    found = _descend(network, panel, goal, trains, judged, config, seed, on_epoch or (lambda _: None), checkpoint)
    network = network_of(len(columns), config, len(OUTPUTS), found.weights)

    direction_weights = _ridge(inputs[:-1][trains], wanted[trains, 3:], config.direction_ridge)[:, 0]

    answers = _answers(network, panel.marked(known), config)
    model = TrainedVolatility(
        config=config,
        features=columns,
        scale=scale,
        target_scale=target_scale,
        weights=found.weights,
        **_fit_level(market, wanted, trains & _apart(market, config), config),
        direction_weights=direction_weights,
        barriers=BarrierMap(np.zeros(1), np.zeros(3), 0.0, config.tilt),
        horizon=horizon,
        cutoff=cutoff,
        seed=seed,
        curve=found.curve,
        best_epoch=found.best_epoch,
        validation_log_loss=float("nan"),
        validation_accuracy=float("nan"),
    )
    sigma, direction = _forecast(model, market, inputs[:-1], answers, known)
    truth = _truth(market, labels)
    unseen = fit_barrier_map(sigma[trains], truth[trains], market.day[trains], config.tilt)
    unseen = unseen.probabilities(sigma[judged], direction[judged])
    right = unseen[np.arange(len(unseen)), truth[judged] - CLASSES[0]]
    return replace(
        model,
        barriers=fit_barrier_map(sigma[known], truth[known], market.day[known], config.tilt),
        validation_log_loss=float(-np.log(right).mean()),
        validation_accuracy=float((unseen.argmax(axis=1) + CLASSES[0] == truth[judged]).mean()),
    )


def update_volatility(
    trained: TrainedVolatility,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    suspects: pl.DataFrame,
    cutoff: date,
    update: UpdateConfig,
) -> TrainedVolatility:
    """`trained` after a few steps on the labels that became known since its cutoff, with the new `cutoff`.

    `features`, `labels` and `suspects` are as for `train_volatility`: all there are, as segments of older labels stand
    beside the new ones, and the level and the map are fitted again, on all that is known by `cutoff`, on the sessions
    that the level learns from. Scales, the linear direction, seed, curve and validation scores stay those of the
    training. The same arguments give the same model.

    Raises CutoffError for a cutoff that is not later or a label that ends after it, ArtifactError for a column that
    `features` lack, BadBarsError for features that are not finite, and StockAssetsError where no label became known.
    """
    fresh = labels_since(labels, trained.cutoff, cutoff)
    config = trained.config
    market, wanted, known = _known_by(cutoff, features, labels, suspects, trained.features, trained.horizon)
    inputs = market.deviations()
    _standardise(inputs, trained.scale, config.input_clip)
    panel = panel_of(market.keys, inputs).marked(known)
    newest = panel.marked(known & _among(market.keys, fresh))
    network = trained.network().to(best_device())
    loss_of = _loss_of(network, panel, _goal(_centred(market, wanted, known), trained.target_scale), known, config)
    weights = follow(network, panel, newest, config, update, trained.seed + cutoff.toordinal(), loss_of)
    apart = known & _apart(market, config)
    model = replace(trained, weights=weights, cutoff=cutoff, **_fit_level(market, wanted, apart, config))
    sigma, _ = _forecast(model, market, inputs[:-1], _answers(model.network(), panel, config), known)
    barriers = fit_barrier_map(sigma[apart], _truth(market, labels)[apart], market.day[apart], config.tilt)
    return replace(model, barriers=barriers)


def predict_volatility(
    trained: TrainedVolatility, features: pl.DataFrame, suspects: pl.DataFrame, sessions: Collection[date]
) -> pl.DataFrame:
    """Probabilities of sell, hold, buy for every ticker and session that has enough history.

    Returns ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell, sorted by ticker and session. Each row
    looks at the last `config.context` rows of its ticker, and through their sessions' means at all tickers: give
    `features` of all of them. Rows after a session never touch it.

    Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
    BadBarsError for features that are not finite.
    """
    require_after(trained.cutoff, sessions)
    market = _Market(features.sort(KEYS), suspects, trained.features, trained.horizon)
    asked = asked_rows(market.keys, sessions, trained.config.context).to_numpy()
    inputs = market.deviations()
    _standardise(inputs, trained.scale, trained.config.input_clip)
    values, network = torch.from_numpy(inputs), trained.network()
    last_rows = np.flatnonzero(asked)
    answers = np.zeros((len(asked), len(OUTPUTS)), np.float32)
    answers[last_rows] = answers_at(
        last_rows, trained.config.context, len(OUTPUTS), lambda windows: network.at_last_step(values[windows])
    )
    sigma, direction = _forecast(trained, market, inputs[:-1], answers, asked)
    return probability_frame(
        market.keys.filter(pl.Series(asked)), trained.barriers.probabilities(sigma[asked], direction[asked])
    )


def _known_by(
    cutoff: date,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    suspects: pl.DataFrame,
    columns: tuple[str, ...],
    horizon: int,
) -> tuple["_Market", np.ndarray, np.ndarray]:
    """(the market up to `cutoff`, OUTPUTS [N, 4] with NaN where nothing is known, where all of them are: bool [N])."""
    past = features.filter(pl.col("session") <= cutoff).sort(KEYS)
    market = _Market(past, suspects, columns, horizon)
    targets = volatility_targets(past, labels, horizon)
    wanted = market.keys.join(targets, on=KEYS, how="left", maintain_order="left").select(OUTPUTS).to_numpy()
    return market, wanted, np.asarray(np.isfinite(wanted).all(axis=1))


class _Market:
    """Feature rows of all tickers, and the means of their sessions."""

    def __init__(self, rows: pl.DataFrame, suspects: pl.DataFrame, columns: tuple[str, ...], horizon: int) -> None:
        self.keys = rows.select(KEYS)
        zero, one = np.zeros(len(columns)), np.ones(len(columns))
        self.values = standardised(rows, columns, zero, one, dtype=np.float32)  # [N, F] as they are
        self.day = rows["session"].rank("dense").cast(pl.Int64).to_numpy() - 1
        self._trusted = ~_among(self.keys, suspects)
        self._horizon = horizon
        ahead = _ahead(rows.select(*KEYS, _DAILY_VOLATILITY, _DAILY_RETURN), horizon)
        self._realised = ahead.select(VOLATILITIES).to_numpy()  # [N, 3], read where _over
        # a horizon with a missing row ends later than its session's others: it would be known too early
        sessions = rows["session"].unique().sort()
        end = sessions.search_sorted(ahead["_end"].fill_null(date.max)).to_numpy()
        self._over = (end == self.day + horizon) & ahead["_end"].is_not_null().to_numpy()
        distrusted = np.cumsum(~self._trusted)  # equal at both ends of a horizon without a suspect row inside
        self._over &= self._trusted & (np.roll(distrusted, -horizon) == distrusted)

    def mean(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 [N, K]: of `values` [N, K] over the session's trusted ones of `rows` (bool [N]); 0 where none is."""
        counted = self._trusted & rows
        day, days = self.day[counted], int(self.day.max()) + 1 if len(self.day) else 0
        number = np.maximum(np.bincount(day, minlength=days), 1)
        sums = [np.bincount(day, column[counted], minlength=days) for column in values.T]
        return (np.column_stack(sums) / number[:, None])[self.day]

    def recent_error(self, forecast: np.ndarray, sessions: int) -> np.ndarray:
        """float64 [N, 3]: VOLATILITIES as they came less `forecast` [N, 3], the same for all rows of a session.

        The mean over those of the last `sessions` sessions whose horizon is over, of the mean of their tickers; 0
        where there is none.
        """
        errors = self.mean(np.where(self._over[:, None], self._realised, 0.0), self._over)
        errors -= self.mean(forecast, self._over)
        first = np.unique(self.day, return_index=True)[1]  # one row of each session
        by_session, there = errors[first], np.bincount(self.day[self._over], minlength=len(first)) > 0
        total, number = np.zeros_like(by_session), np.zeros(len(first))
        for back in range(self._horizon, min(sessions, len(first))):
            total[back:] += by_session[:-back]
            number[back:] += there[:-back]
        return (total / np.maximum(number, 1.0)[:, None])[self.day]

    def deviations(self) -> np.ndarray:
        """float32 [N + 1, F]: the values less their session's mean; the last row is padding."""
        out = np.zeros((len(self.values) + 1, self.values.shape[1]), np.float32)
        everything = np.ones(len(self.values), bool)
        for i in range(self.values.shape[1]):  # one at a time, as in _spread
            column = self.values[:, i : i + 1]
            out[:-1, i] = (column - self.mean(column, everything))[:, 0]
        return out

    def scores(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 [N]: `values` [N] in standard deviations about their mean over the session's trusted `rows`."""
        centred = values[:, None] - self.mean(values[:, None], rows)
        deviation = np.sqrt(self.mean(centred**2, rows))
        return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12)[:, 0]


def _centred(market: _Market, wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`wanted` [N, 4] with the volatilities as differences to their session's mean."""
    return np.column_stack([wanted[:, :3] - market.mean(wanted[:, :3], known), wanted[:, 3]])


def _goal(centred: np.ndarray, target_scale: np.ndarray) -> np.ndarray:
    """float32 [N + 1, 4]: what the network learns, in standard deviations. The padding row is never looked at."""
    goal = np.zeros((len(centred) + 1, len(OUTPUTS)), np.float32)
    goal[:-1] = centred / np.append(target_scale, 1.0)
    return goal


def _truth(market: _Market, labels: pl.DataFrame) -> np.ndarray:
    """int64 [N]: the labels, 0 where there is none."""
    rows = market.keys.join(labels.select(*KEYS, "label"), on=KEYS, how="left", maintain_order="left")
    return rows["label"].fill_null(0).cast(pl.Int64).to_numpy()


def _apart(market: _Market, config: VolatilityConfig) -> np.ndarray:
    """bool [N]: the rows of every `config.every`-th session."""
    return market.day % config.every == 0


def _fit_level(
    market: _Market, wanted: np.ndarray, rows: np.ndarray, config: VolatilityConfig
) -> dict[str, np.ndarray]:
    """The level's fields of `TrainedVolatility`, by ridge regression on `rows` (bool [N])."""
    values, level = market.values[rows], wanted[rows, :3]
    mean, scale = values.mean(axis=0, dtype=np.float64), _spread(market.values, rows)
    standard = np.clip((values - mean) / scale, -config.input_clip, config.input_clip)
    constant = level.mean(axis=0)
    weights = np.vstack([_ridge(standard, level - constant, config.level_ridge), constant])
    return {"level_mean": mean, "level_scale": scale, "level_weights": weights}


def _forecast(
    model: TrainedVolatility, market: _Market, inputs: np.ndarray, answers: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(sigma, direction), float64 [N] each, that mean something at `rows` (bool [N]).

    `inputs` are the standardised deviations [N, F], `answers` the network's outputs [N, 4].
    """
    apart = answers[:, :3] * model.target_scale
    apart -= market.mean(apart, rows)
    level = np.zeros((len(rows), 3))
    clip = model.config.input_clip
    for part in np.array_split(np.arange(len(rows)), 1 + len(rows) // _CHUNK_ROWS):
        standard = np.clip((market.values[part] - model.level_mean) / model.level_scale, -clip, clip)
        level[part] = standard @ model.level_weights[:-1] + model.level_weights[-1]
    level = market.mean(level, np.ones(len(rows), bool))
    level += model.config.level_memory * market.recent_error(level, model.config.context)
    sigma = (level + apart).mean(axis=1)
    linear = market.scores(inputs @ model.direction_weights, rows)
    return sigma, market.scores(market.scores(answers[:, 3].astype(np.float64), rows) + linear, rows)


def _descend(
    network: SegmentLSTM,
    panel: Panel,
    goal: np.ndarray,
    trains: np.ndarray,
    judged: np.ndarray,
    config: VolatilityConfig,
    seed: int,
    on_epoch: Callable[[VolatilityEpoch], None],
    checkpoint: Checkpoint | None,
) -> Descent[VolatilityEpoch]:
    if not judged.any():
        raise StockAssetsError("no label of the validation sessions has features; expected rows of the same sessions")

    def judge(epoch: int, train_loss: float | None) -> VolatilityEpoch:
        found = torch.from_numpy(_answers(network, panel.marked(judged), config)[judged])
        wanted = torch.from_numpy(goal[:-1][judged])
        missed = (found - wanted)[:, :3].square().sum() / wanted[:, :3].square().sum()
        if train_loss is None:
            at_start = torch.from_numpy(goal[:-1][trains])
            train_loss = _loss(torch.zeros_like(at_start), at_start, config).item()
        loss = _loss(found, wanted, config).item()
        return VolatilityEpoch(epoch, config.epochs, train_loss, loss, 1 - missed.item())

    loss_of = _loss_of(network, panel, goal, trains, config)
    return descend(network, panel.marked(trains), config, seed, loss_of, judge, VolatilityEpoch, on_epoch, checkpoint)


def _loss(found: torch.Tensor, wanted: torch.Tensor, config: VolatilityConfig) -> torch.Tensor:
    """The mean loss of OUTPUTS, [R, 4] each."""
    direction = functional.mse_loss(found[:, 3], wanted[:, 3])
    return functional.smooth_l1_loss(found[:, :3], wanted[:, :3]) + config.direction_weight * direction


def _loss_of(
    network: SegmentLSTM, panel: Panel, goal: np.ndarray, learns: np.ndarray, config: VolatilityConfig
) -> Callable[[torch.Tensor], tuple[torch.Tensor, int]]:
    """The loss of segments at the rows that the network `learns` (bool [N]), and how many these are."""
    place = device_of(network)
    values, goals = torch.from_numpy(panel.values).to(place), torch.from_numpy(goal).to(place)
    learnt = torch.from_numpy(np.append(learns, False)).to(place)

    def loss_of(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        known = learnt[rows]
        return _loss(network(values[rows])[known], goals[rows][known], config), int(known.sum())

    return loss_of


def _answers(network: SegmentLSTM, panel: Panel, config: VolatilityConfig) -> np.ndarray:
    """float32 [N, 4]: the network's answers at the known rows of `panel`, in one pass along each ticker."""
    out = np.zeros((len(panel.values), len(OUTPUTS)), np.float32)
    place = device_of(network)
    values = torch.from_numpy(panel.values).to(place)
    network.eval()
    rows, answers = answers_along(panel, config, len(OUTPUTS), lambda spans: network(values[spans.to(place)]))
    out[rows] = answers
    return out[:-1]


def _ridge(inputs: np.ndarray, wanted: np.ndarray, penalty: float) -> np.ndarray:
    """float64 [F, K]: the slopes of least squares with `penalty` x the squared slopes per row."""
    scatter, moment = penalty * np.eye(inputs.shape[1]), np.zeros((inputs.shape[1], wanted.shape[1]))
    for part in np.array_split(np.arange(len(inputs)), 1 + len(inputs) // _CHUNK_ROWS):
        some = inputs[part].astype(np.float64)
        scatter += some.T @ some / len(inputs)
        moment += some.T @ wanted[part] / len(inputs)
    return np.linalg.solve(scatter, moment)


def _spread(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64 [K]: the standard deviation of each column of `values` at `rows` (bool [N]), 1 where it is constant."""
    # one at a time: a float64 copy of all would take a gigabyte
    spread = np.array([column[rows].std(dtype=np.float64) for column in values.T])
    return np.where(spread > 1e-9, spread, 1.0)


def _standardise(deviations: np.ndarray, scale: np.ndarray, clip: float) -> None:
    """In place, since a whole market takes half a gigabyte."""
    deviations /= scale.astype(np.float32)
    np.clip(deviations, -clip, clip, out=deviations)


def _among(keys: pl.DataFrame, rows: pl.DataFrame) -> np.ndarray:
    """bool [N]: which of `keys` are among `rows`."""
    marked = rows.select(KEYS).unique().with_columns(_there=pl.lit(True))
    return keys.join(marked, on=KEYS, how="left", maintain_order="left")["_there"].is_not_null().to_numpy()


def _normal_score(share: pl.Series) -> pl.Series:
    from scipy.special import ndtri

    return pl.Series(ndtri(share.to_numpy()))


#: Rows of one product of the level.
_CHUNK_ROWS = 100_000
