"""The linear parts of the model `rnn`: ridge regression, and the forecast of a day's level of volatility."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from stock_assets.model.market_rows import row_parts
from stock_assets.model.scaling import zero_where_unknown


class Rows(Protocol):
    """Inputs of N rows, float [N, F], of which some are read at a time: an array, or what is made where it is read."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


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

    def forecast(self, values: Rows, at: np.ndarray | None = None) -> np.ndarray:
        """float64 [N, K], of the inputs [N, F] or of those in the places `at` alone."""
        places = np.arange(values.shape[0]) if at is None else at
        forecasts = np.zeros((len(places), self.weights.shape[1]))
        for part in row_parts(len(places)):
            inputs = standard(values[places[part]], self.mean, self.scale, clip=self.clip)
            forecasts[part] = inputs @ self.weights[:-1] + self.weights[-1]
        return forecasts


def fit_level(values: Rows, targets: np.ndarray, rows: np.ndarray, *, clip: float, penalty: float) -> Level:
    """The `Level` by ridge regression of `targets` [N, K] on `values` [N, F] at `rows` (bool [N])."""
    return fit_levels(values, targets, rows, without=[], clip=clip, penalty=penalty)[0]


def fit_levels(
    values: Rows,
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
    at = np.flatnonzero(rows)
    mean, scale = mean_and_spread(values, at)
    # rows that the same ones leave out have their moments in common
    leaves = sum(
        (left_out[at].astype(np.int64) << k for k, left_out in enumerate(without)), np.zeros(len(at), np.int64)
    )
    groups = {}
    for mask in np.unique(leaves):
        own, total = at[leaves == mask], _Moments.none(values.shape[1] + 1, targets.shape[1])
        for part in row_parts(len(own)):
            inputs = standard(values[own[part]], mean, scale, clip=clip)
            total += _Moments.of(np.column_stack([inputs, np.ones(len(inputs))]), targets[own[part]])
        groups[int(mask)] = total
    no_moments = _Moments.none(values.shape[1] + 1, targets.shape[1])
    everything = sum(groups.values(), no_moments)
    parts = [
        sum((total for mask, total in groups.items() if not mask >> k & 1), no_moments) for k in range(len(without))
    ]
    return [
        Level(mean, scale, (part if part.number else everything).solve(penalty), clip) for part in (everything, *parts)
    ]


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

    def solve(self, penalty: float) -> np.ndarray:
        """float64 [F + 1, K]: the slopes with `penalty` x their squares per row, then the constant."""
        ridge_of = np.append(np.full(len(self.scatter) - 1, penalty), 0.0)
        return np.linalg.solve(self.scatter / self.number + np.diag(ridge_of), self.moment / self.number)


def ridge(inputs: Rows, targets: np.ndarray, rows: np.ndarray, *, penalty: float) -> np.ndarray:
    """float64 [F, K]: the slopes of `targets` [N, K] on `inputs` at `rows` (bool [N]) by least squares with `penalty` x
    the squared slopes per row."""
    at, count = np.flatnonzero(rows), inputs.shape[1]
    scatter, moment = penalty * np.eye(count), np.zeros((count, targets.shape[1]))
    for part in row_parts(len(at)):
        inputs_of_part = inputs[at[part]].astype(np.float64)
        scatter += inputs_of_part.T @ inputs_of_part / len(at)
        moment += inputs_of_part.T @ targets[at[part]] / len(at)
    return np.linalg.solve(scatter, moment)


def products_at(inputs: Rows, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64 [N]: `inputs` times `weights` [F] at `rows` (bool [N]); else 0."""
    at, products = np.flatnonzero(rows), np.zeros(len(rows))
    for part in row_parts(len(at)):
        products[at[part]] = inputs[at[part]] @ weights
    return products


def spread(values: Rows, rows: np.ndarray) -> np.ndarray:
    """float64 [K]: the standard deviation of each column of `values` at `rows` (bool [N]), 1 where it is constant.

    Unknown values (NaN) do not count.
    """
    return mean_and_spread(values, np.flatnonzero(rows))[1]


def mean_and_spread(values: Rows, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [K] each: of the known values of each column of `values` at the rows `at`; 0 and 1 where none is."""
    number, mean, squares = (np.zeros(values.shape[1]) for _ in range(3))
    parts = row_parts(len(at))
    for part in parts:
        values_of_part = values[at[part]].astype(np.float64)
        number += (~np.isnan(values_of_part)).sum(axis=0)
        mean += zero_where_unknown(values_of_part).sum(axis=0)
    mean /= np.maximum(number, 1)
    for part in parts:
        squares += (zero_where_unknown(values[at[part]] - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / np.maximum(number, 1))
    return mean, np.where(deviation > 1e-9, deviation, 1.0)


def standard(values: np.ndarray, mean: np.ndarray, scale: np.ndarray, *, clip: float) -> np.ndarray:
    """(values - mean) / scale cut to ± clip, [N, F]; 0 where a value is unknown (NaN)."""
    return zero_where_unknown(np.clip((values - mean) / scale, -clip, clip))
