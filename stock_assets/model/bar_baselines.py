"""Models of bars without a network: the naive ones, a linear regression of the return, and boosted trees.

None of the naive ones expects the price to change: that of every one of them is the yardstick "no change" of the
squared errors, while the best of their probabilities is that of the log-loss.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import polars as pl

from stock_assets.frames import CLASSES
from stock_assets.model.bar_lesson import (
    BarLesson,
    BarRows,
    bar_inputs,
    bar_predictions,
    bar_unit,
    level_and_unseen,
    newest_part,
    rows_for,
    slope,
)
from stock_assets.model.barriers import of_classes
from stock_assets.model.baselines.base import PlainModel
from stock_assets.model.baselines.samples import EVERY, MOST_ROWS
from stock_assets.model.baselines.trees import booster_of, grown
from stock_assets.model.crossfit import Blocks
from stock_assets.model.linear import Level

if TYPE_CHECKING:
    from lightgbm import Booster

#: Blocks of time of which each is forecast by a regression that has not seen it.
BLOCKS = 4
#: Inputs are cut to ± this many standard deviations; the squared slopes are penalised by so much per row, for inputs
#: that are sums of each other.
CLIP, PENALTY = 5.0, 1e-4
#: Labels that the shares of all rows count for, in horizons: neighbours share all but one of their bars.
PSEUDO_HORIZONS = 20
#: Minutes of a part of the day that has shares of its own.
PART_OF_DAY = 30


@dataclass(frozen=True)
class BarModel(PlainModel):
    """A model of bars of plain values. `cutoff` is the last moment that the training has seen."""

    moment = datetime
    cutoff: datetime

    @classmethod
    def fit(cls, lesson: BarLesson) -> Self:
        """The model that learned from `lesson`. Raises as `BarLesson.rows`."""
        raise NotImplementedError

    def answer(self, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities [N, 3] in the order of CLASSES, expected return [N]) of feature rows, float64."""
        raise NotImplementedError

    def predict(self, features: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """`bar_predictions` of the rows of `keys` that `features` have and that are answered; see `rows_for`.

        Raises CutoffError for a key that is not after the cutoff, ArtifactError for a column that `features` lack.
        """
        rows, has_answer = rows_for(self.cutoff, features, keys)
        rows = rows.filter(pl.Series(has_answer))
        return bar_predictions(rows, *self.answer(rows))


# ---------------------------------------------------------------- naive


@dataclass(frozen=True)
class SharePrior(BarModel):
    """The shares of the classes among the training labels, of all rows or of each group, which are shrunk to them."""

    role, naive = "naive", True
    by: ClassVar[Literal["none", "ticker", "part of day"]]
    groups: tuple[str, ...]
    shares: np.ndarray
    """float64 [G + 1, 3]: of each of `groups`, then of all rows"""

    @classmethod
    def fit(cls, lesson: BarLesson) -> Self:
        rows = lesson.rows
        labels, group = rows.labels[rows.learnable], cls._group(rows.frame).to_numpy()[rows.learnable]
        groups = np.unique(group[:0] if cls.by == "none" else group)
        classes = labels[:, None] == np.asarray(CLASSES)
        counts = (group[:, None] == groups).T.astype(np.float64) @ classes
        whole = classes.sum(axis=0) + 1.0  # so that a class never seen does not cost an infinite log-loss
        whole /= whole.sum()
        counts += PSEUDO_HORIZONS * lesson.horizon * whole
        shares = np.vstack([counts / counts.sum(axis=1, keepdims=True), whole])
        return cls(lesson.cutoff, tuple(groups.tolist()), shares)

    def answer(self, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        place = {group: i for i, group in enumerate(self.groups)}
        return self.shares[[place.get(group, -1) for group in self._group(rows)]], np.zeros(rows.height)

    @classmethod
    def _group(cls, rows: pl.DataFrame) -> pl.Series:
        """String [N]: the group of each row"""
        part = (pl.col("minute_of_day") // PART_OF_DAY).cast(pl.String)
        columns = {"none": pl.col("ticker").str.head(0), "ticker": pl.col("ticker"), "part of day": part}
        return rows.select(columns[cls.by]).to_series()


class BarClassPrior(SharePrior):
    """The same shares for every row."""

    name, by = "class_prior", "none"
    title = "no change of the price, and the class frequencies"


class BarTickerPrior(SharePrior):
    """Those of the row's ticker."""

    name, by = "ticker_prior", "ticker"
    title = "no change of the price, and the class frequencies of each ticker"


class BarTimePrior(SharePrior):
    """Those of the row's part of the day."""

    name, by = "time_prior", "part of day"
    title = f"no change of the price, and the class frequencies of each {PART_OF_DAY} minutes of the day"


# ---------------------------------------------------------------- linear


@dataclass(frozen=True)
class BarLinear(BarModel):
    """Least squares of the return of the next bars, in units of its barriers, on all inputs.

    The probability of a move is that of the training labels; the forecast moves the odds of up to down by a slope that
    is fitted on forecasts of blocks that the regression had not seen.
    """

    name, role = "linear", "reference"
    title = "linear regression of the next bars' return"
    mean: np.ndarray
    """float64 [F], as the next two are those of a `Level`"""
    scale: np.ndarray
    weights: np.ndarray
    """float64 [F + 1, 1]"""
    move: float
    """share of the training labels that moved"""
    odds: float
    """ln of the training labels up over those down"""
    tilt: float
    """ln of the odds per unit of the forecast"""
    horizon: int

    @classmethod
    def fit(cls, lesson: BarLesson) -> Self:
        rows = lesson.rows
        blocks = Blocks.of(rows.time, rows.learnable, count=BLOCKS, horizon=lesson.horizon)
        targets = rows.moves[:, None]
        level, forecast_of_unseen = level_and_unseen(
            rows, targets, rows.learnable, blocks=blocks, clip=CLIP, penalty=PENALTY
        )
        up, down = ((rows.labels[rows.learnable] == side).sum() + 1.0 for side in (1, -1))
        return cls(
            lesson.cutoff,
            level.mean,
            level.scale,
            level.weights,
            move=float((rows.labels[rows.learnable] != 0).mean()),
            odds=float(np.log(up / down)),
            tilt=side_slope(forecast_of_unseen[:, 0], rows),
            horizon=lesson.horizon,
        )

    def answer(self, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        level = Level(self.mean, self.scale, self.weights, CLIP)
        forecast = level.forecast(bar_inputs(rows))[:, 0]
        probabilities = of_classes(np.full(rows.height, self.move), self.odds + self.tilt * forecast)
        return probabilities, forecast * bar_unit(rows) * np.sqrt(self.horizon)


def side_slope(forecast: np.ndarray, rows: BarRows) -> float:
    """What `forecast` [N] adds to ln(P(buy) / P(sell)), per unit, of forecasts that have not seen their labels.

    Near even odds the logarithm is four times the probability's distance from ½, which `slope` estimates.
    """
    has_move = rows.learnable & (rows.labels != 0)
    _, sessions = np.unique(rows.frame["session"].to_physical().to_numpy()[has_move], return_inverse=True)
    return 4 * slope(forecast[has_move], rows.labels[has_move] / 2.0, sessions)


# ---------------------------------------------------------------- trees


@dataclass(frozen=True)
class BarTrees(BarModel):
    """Gradient-boosted trees of LightGBM on all inputs; an unknown one is missing."""

    name, role = "trees", "reference"
    title = "gradient-boosted trees"
    text: str
    """the model in LightGBM's own text format"""
    class_moves: np.ndarray
    """float64 [3]: the mean return of each class in the training, in units of its barriers"""
    horizon: int

    @classmethod
    def fit(cls, lesson: BarLesson) -> Self:
        rows = lesson.rows
        step = max(EVERY, -(-int(rows.learnable.sum()) // MOST_ROWS))
        learns, judges = (np.flatnonzero(part)[::step] for part in newest_part(rows, lesson.horizon))
        learns_and_judges = np.concatenate([learns, judges])
        parameters = {"num_leaves": 15, "min_data_in_leaf": 200, "feature_fraction": 0.3, "learning_rate": 0.05}
        text = grown(
            rows.inputs[learns_and_judges].astype(np.float32),
            rows.labels[learns_and_judges] - CLASSES[0],
            len(learns),
            parameters=parameters | {"seed": lesson.seed},
            rounds=200,
            patience=20,
        )
        return cls(lesson.cutoff, text, class_moves(rows), lesson.horizon)

    @cached_property
    def _booster(self) -> "Booster":
        return booster_of(self.text)

    def answer(self, rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        if rows.is_empty():
            return np.zeros((0, 3)), np.zeros(0)
        inputs = bar_inputs(rows).astype(np.float32)
        probabilities = np.asarray(self._booster.predict(inputs, num_threads=1))
        return probabilities, probabilities @ self.class_moves * bar_unit(rows) * np.sqrt(self.horizon)


def class_moves(rows: BarRows) -> np.ndarray:
    """float64 [3]: the mean of `rows.moves` of each class among the labels; 0 for a class without one."""
    return np.array(
        [rows.moves[own].mean() if (own := rows.learnable & (rows.labels == c)).any() else 0.0 for c in CLASSES]
    )
