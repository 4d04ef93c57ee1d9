"""The intervals against those of arch, an independent implementation of the same bootstrap."""

import numpy as np
import pytest
from arch.bootstrap import CircularBlockBootstrap

from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap, rolling_bootstrap


def daily_values(days: int, seed: int = 0) -> np.ndarray:
    """Days that remember the last one."""
    values = np.random.default_rng(seed).normal(size=days)
    for day in range(1, days):
        values[day] += 0.6 * values[day - 1]
    return values


@pytest.mark.parametrize("days", [252, 260])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_interval_is_that_of_arch(days: int, weighted: bool):
    values = daily_values(days)
    weights = np.random.default_rng(1).integers(50, 100, days).astype(float) if weighted else np.ones(days)
    theirs = CircularBlockBootstrap(BLOCK, values, weights, seed=np.random.default_rng(2))
    low, high = theirs.conf_int(lambda v, w: np.average(v, weights=w), reps=8000, method="percentile").ravel()
    ours = block_bootstrap(values, weights=weights if weighted else None, draws=8000, seed=3)
    assert ours == pytest.approx((low, high), abs=0.06 * (high - low))


def test_the_intervals_of_all_windows_are_those_of_each_alone():
    values = daily_values(60)
    rolling = rolling_bootstrap(values, 21, 7, seed=3)
    assert rolling.shape == (40, 2)
    for i, (low, high) in enumerate(rolling):
        assert (low, high) == pytest.approx(block_bootstrap(values[i : i + 21], 7, seed=3))
    assert rolling_bootstrap(values[:20], 21, 7).shape == (0, 2)
