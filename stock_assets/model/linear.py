"""The linear parts of the model `rnn`: ridge regression, and the forecast of a day's level of volatility."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from stock_assets.model.scaling import zero_where_unknown

#: Rows of one product, so that no large panel is held twice.
_CHUNK_ROWS = 100_000


@dataclass(frozen=True)
class Level:
    """A linear forecast of K numbers from F inputs, standardised and cut. An unknown input (NaN) counts as its mean."""

    mean: np.ndarray
    """float64 [F]"""
    scale: np.ndarray
    """float64 [F]"""
    weights: np.ndarray
    """float64 [F + 1, K]: slopes, then the constant"""
    clip: float
    """Inputs are cut to ± this many standard deviations."""

    def forecast(self, values: np.ndarray) -> np.ndarray:
        """float64 [N, K], of the inputs [N, F]."""
        out = np.zeros((len(values), self.weights.shape[1]))
        for part in np.array_split(np.arange(len(values)), 1 + len(values) // _CHUNK_ROWS):
            standard = _standard(values[part], self.mean, self.scale, clip=self.clip)
            out[part] = standard @ self.weights[:-1] + self.weights[-1]
        return out


def fit_level(values: np.ndarray, targets: np.ndarray, rows: np.ndarray, *, clip: float, penalty: float) -> Level:
    """The `Level` by ridge regression of `targets` [N, K] on `values` [N, F] at `rows` (bool [N])."""
    return fit_levels(values, targets, rows, without=[], clip=clip, penalty=penalty)[0]


def fit_levels(
    values: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    *,
    without: Sequence[np.ndarray],
    clip: float,
    penalty: float,
) -> list[Level]:
    """The `Level` of `targets` [N, K] on `values` [N, F] at `rows` (bool [N]), then one that leaves out each of
    `without` (bool [N]).

    All standardise by the means and deviations of `rows`. One that leaves out every row is that of them all.
    """
    at, mean = np.flatnonzero(rows), values[rows].mean(axis=0, dtype=np.float64)
    for i in np.flatnonzero(np.isnan(mean)):
        present = values[rows, i][~np.isnan(values[rows, i])]
        mean[i] = present.mean(dtype=np.float64) if len(present) else 0.0
    scale = spread(values, rows)

    def moments(at: np.ndarray) -> _Moments:
        total = _Moments.none(values.shape[1] + 1, targets.shape[1])
        for part in np.array_split(at, 1 + len(at) // _CHUNK_ROWS):
            standard = _standard(values[part], mean, scale, clip=clip)
            total += _Moments.of(np.column_stack([standard, np.ones(len(part))]), targets[part])
        return total

    everything = moments(at)
    parts = [everything, *(everything - moments(at[left_out[at]]) for left_out in without)]
    return [Level(mean, scale, (part if part.number else everything).solve(penalty), clip) for part in parts]


class _Moments(NamedTuple):
    """What a ridge regression with a constant, the last input, needs of its rows."""

    scatter: np.ndarray
    moment: np.ndarray
    number: int

    @classmethod
    def none(cls, inputs: int, targets: int) -> Self:
        return cls(np.zeros((inputs, inputs)), np.zeros((inputs, targets)), 0)

    @classmethod
    def of(cls, inputs: np.ndarray, targets: np.ndarray) -> Self:
        return cls(inputs.T @ inputs, inputs.T @ targets, len(inputs))

    def __add__(self, other: "_Moments") -> "_Moments":  # pyright: ignore[reportIncompatibleMethodOverride]: not a tuple's
        return _Moments(self.scatter + other.scatter, self.moment + other.moment, self.number + other.number)

    def __sub__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.scatter - other.scatter, self.moment - other.moment, self.number - other.number)

    def solve(self, penalty: float) -> np.ndarray:
        """float64 [F + 1, K]: the slopes with `penalty` x their squares per row, then the constant."""
        ridge_of = np.append(np.full(len(self.scatter) - 1, penalty), 0.0)
        return np.linalg.solve(self.scatter / self.number + np.diag(ridge_of), self.moment / self.number)


def ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """float64 [F, K]: the slopes of least squares with `penalty` x the squared slopes per row."""
    scatter, moment = penalty * np.eye(inputs.shape[1]), np.zeros((inputs.shape[1], targets.shape[1]))
    for part in np.array_split(np.arange(len(inputs)), 1 + len(inputs) // _CHUNK_ROWS):
        some = inputs[part].astype(np.float64)
        scatter += some.T @ some / len(inputs)
        moment += some.T @ targets[part] / len(inputs)
    return np.linalg.solve(scatter, moment)


def spread(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64 [K]: the standard deviation of each column of `values` at `rows` (bool [N]), 1 where it is constant.

    Unknown values (NaN) do not count.
    """
    # one at a time: a float64 copy of all would take a gigabyte
    out = np.array([_deviation(column[rows]) for column in values.T])
    return np.where(out > 1e-9, out, 1.0)


def _deviation(column: np.ndarray) -> float:
    deviation = column.std(dtype=np.float64)
    if not np.isnan(deviation):
        return deviation
    present = column[~np.isnan(column)]
    return present.std(dtype=np.float64) if len(present) else 0.0


def _standard(values: np.ndarray, mean: np.ndarray, scale: np.ndarray, *, clip: float) -> np.ndarray:
    return zero_where_unknown(np.clip((values - mean) / scale, -clip, clip))
