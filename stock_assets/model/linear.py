"""The linear parts of the model `rnn`: ridge regression, and the forecast of a day's level of volatility."""

from dataclasses import dataclass

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
    inputs, at_rows = values[rows], targets[rows]
    mean, scale = inputs.mean(axis=0, dtype=np.float64), spread(values, rows)
    for i in np.flatnonzero(np.isnan(mean)):
        present = inputs[~np.isnan(inputs[:, i]), i]
        mean[i] = present.mean(dtype=np.float64) if len(present) else 0.0
    constant = at_rows.mean(axis=0)
    slopes = ridge(_standard(inputs, mean, scale, clip=clip), at_rows - constant, penalty)
    return Level(mean, scale, np.vstack([slopes, constant]), clip)


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
