"""How sure a mean over sessions is: intervals from blocks of days, and the t-statistic.

Rows of one day move together and labels of neighbouring days overlap, so uncertainty comes from blocks of days, never
from rows.
"""

import numpy as np

#: Sessions of a bootstrap block: a month, three times the overlap of two labels.
BLOCK = 21
#: Samples that an interval is made of.
DRAWS = 1000


def block_bootstrap(
    values_per_session: np.ndarray,
    block: int = BLOCK,
    seed: int = 0,
    *,
    weights: np.ndarray | None = None,
    draws: int = DRAWS,
) -> tuple[float, float] | None:
    """(low, high): the 95 % interval of the mean over sessions, weighted by `weights` where given.

    `values_per_session` is float64 [T], in the order of time. Circular block bootstrap (Politis & Romano 1992):
    sessions are drawn in blocks of `block` neighbours, and the last session adjoins the first.

    NaN handling: sessions without a value are left out before drawing; None when no session is left.

    >>> block_bootstrap(np.full(50, 2.5))
    (2.5, 2.5)
    """
    means = bootstrap_means(values_per_session, weights, np.random.default_rng(seed), block=block, draws=draws)
    return None if means is None else interval(means)


def rolling_bootstrap(values_per_session: np.ndarray, window: int, block: int, *, seed: int = 0) -> np.ndarray:
    """float64 [T - window + 1, 2]: `block_bootstrap` of each `window` of neighbours among `values_per_session`, float64
    [T], none of them NaN; no row where there are fewer than `window`.

    Windows of one length draw the same sessions, so they are drawn once.

    >>> rolling_bootstrap(np.full(5, 2.5), 4, 2).tolist()
    [[2.5, 2.5], [2.5, 2.5]]
    """
    if len(values_per_session) < window:
        return np.empty((0, 2))
    draws_of_sessions = drawn_sessions(np.random.default_rng(seed), window, block, draws=DRAWS)  # [draws, window]
    times = np.apply_along_axis(np.bincount, 1, draws_of_sessions, minlength=window)  # [draws, window]
    means = np.lib.stride_tricks.sliding_window_view(values_per_session, window) @ times.T / window
    return np.quantile(means, [0.025, 0.975], axis=1).T


def bootstrap_means(
    values: np.ndarray,
    weights: np.ndarray | None,
    generator: np.random.Generator,
    *,
    block: int = BLOCK,
    draws: int = DRAWS,
) -> np.ndarray | None:
    """float64 [draws]: the weighted mean of each sample of `block_bootstrap`; None without a value.

    Draws from `generator` only where there is a value.
    """
    present = ~np.isnan(values)
    values, weights = values[present], np.ones(present.sum()) if weights is None else weights[present]
    count = len(values)
    if not count:
        return None
    sample = drawn_sessions(generator, count, block, draws=draws)
    return (values * weights)[sample].sum(axis=1) / weights[sample].sum(axis=1)


def drawn_sessions(generator: np.random.Generator, count: int, block: int, *, draws: int) -> np.ndarray:
    """int64 [draws, count]: the sessions of each sample of the circular block bootstrap, by their index.

    >>> sorted(drawn_sessions(np.random.default_rng(0), 3, 21, draws=1)[0].tolist())
    [0, 1, 2]
    """
    block = min(block, count)
    first = generator.integers(0, count, size=(draws, -(-count // block), 1))
    return ((first + np.arange(block)) % count).reshape(draws, -1)[:, :count]


def interval(means: np.ndarray) -> tuple[float, float]:
    """(low, high): the middle 95 % of `means`, float64 [draws]."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def t_statistic(values: np.ndarray) -> float | None:
    """Mean / (standard deviation / √n) of the values that are not NaN; None for fewer than two or equal ones.

    >>> round(t_statistic(np.array([1.0, 3.0])), 3)
    2.0
    """
    values = values[~np.isnan(values)]
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() / deviation * np.sqrt(len(values))) if deviation > 0 else None
