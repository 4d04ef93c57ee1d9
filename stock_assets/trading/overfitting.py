"""How much of a Sharpe ratio the best of many trials has by luck.

A Sharpe ratio is that of one session here, never that of a year: mixing an annual one with a number of sessions
multiplies the test statistic by √252.
"""

from itertools import combinations
from typing import Literal

import numpy as np

from stock_assets.errors import StockAssetsError
from stock_assets.trading.statistics import Moments

#: Euler's constant.
_EULER = 0.5772156649015329


def probabilistic_sharpe(moments: Moments, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio exceeds `benchmark` (Bailey & López de Prado 2012).

    Φ((SR - SR*) √(T - 1) / √(1 - γ₃ SR + (γ₄ - 1)/4 SR²)), γ₄ not the excess over 3. Where the variance is not positive
    (possible only for moments that no sample has) it is 0, ½ or 1 by the sign of the difference.

    >>> round(probabilistic_sharpe(Moments(250, 1.14, 0.0, 3.0), 1.0), 5)
    0.95728
    """
    from scipy.special import ndtr

    lead, variance = moments.sharpe - benchmark, moments.variance_factor
    if variance <= 0:
        return float(np.sign(lead) + 1) / 2
    return float(ndtr(lead * (moments.sessions - 1) ** 0.5 / variance**0.5))


def expected_maximum(trials: float) -> float:
    """The expected largest of `trials` independent standard normal values (Bailey & López de Prado 2014).

    (1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e)) with Euler's γ; 0 of one trial. Raises StockAssetsError below one.

    >>> round(expected_maximum(100), 6)
    2.530603
    """
    from scipy.special import ndtri

    if trials < 1:
        raise StockAssetsError(f"the number of trials is {trials}; expected at least 1, the one that is looked at")
    if trials == 1:
        return 0.0
    value = (1 - _EULER) * ndtri(1 - 1 / trials) + _EULER * ndtri(1 - 1 / (trials * np.e))
    return max(float(value), 0.0)


def deflated_sharpe(moments: Moments, *, trials: float, variance: float) -> float:
    """The probability that the true Sharpe ratio exceeds what the best of `trials` worthless ones shows by luck.

    `probabilistic_sharpe` against √V times `expected_maximum` (Bailey & López de Prado 2014); `variance` is that of the
    trials' Sharpe ratios of a session.
    """
    return probabilistic_sharpe(moments, variance**0.5 * expected_maximum(trials))


def effective_trials(correlations: np.ndarray) -> float:
    """ρ̄ + (1 - ρ̄) M: how many independent trials M correlated ones are worth; `correlations` is [M, M].

    ρ̄ is the mean of the pairs, of which those without a value (no variance) count 0; at least 1.

    >>> effective_trials(np.eye(5)), effective_trials(np.ones((5, 5)))
    (5.0, 1.0)
    """
    count = len(correlations)
    if count < 2:
        return 1.0
    pairs = np.nan_to_num(correlations[np.triu_indices(count, 1)])
    return max(float(pairs.mean() + (1 - pairs.mean()) * count), 1.0)


def minimum_track_record(moments: Moments, benchmark: float = 0.0, *, confidence: float = 0.95) -> float | None:
    """The sessions after which `probabilistic_sharpe` reaches `confidence` (Bailey & López de Prado 2012).

    1 + (1 - γ₃ SR + (γ₄ - 1)/4 SR²) (Z / (SR - SR*))²; `observed.sessions` does not matter. None where the Sharpe ratio
    is not above the benchmark: no record is long enough.
    """
    from scipy.special import ndtri

    lead = moments.sharpe - benchmark
    if lead <= 0:
        return None
    return float(1 + moments.variance_factor * (ndtri(confidence) / lead) ** 2)


def minimum_backtest(trials: float, annual_sharpe: float) -> float | None:
    """The years below which the best of `trials` worthless strategies is expected to show `annual_sharpe`.

    (E max_N / SR)² (Bailey, Borwein, López de Prado & Zhu 2014); None unless the Sharpe ratio is positive.
    """
    return (expected_maximum(trials) / annual_sharpe) ** 2 if annual_sharpe > 0 else None


def overfitting_probability(
    returns: np.ndarray, *, blocks: int = 16, metric: Literal["sharpe", "mean"] = "sharpe"
) -> float | None:
    """PBO: how often the best configuration in one half of the sessions is below the median in the other half.

    `returns` is [T, N] without NaN, one column per configuration. Combinatorially symmetric cross-validation (Bailey,
    Borwein, López de Prado & Zhu 2017): T is cut into `blocks` stretches, every half of them is once in sample (16:
    12,870 times); λ = ln(ω / (1 - ω)) with ω = rank out of sample / (N + 1) of the best in sample, ties at their mean
    rank; PBO is the share of λ ≤ 0. `metric` is the Sharpe ratio (ddof 1; -∞ without variance) or the mean.

    None for fewer than two configurations or fewer than two sessions in a block. Raises StockAssetsError where `blocks`
    is odd.
    """
    if blocks % 2 or blocks < 2:
        raise StockAssetsError(f"PBO was asked for {blocks} blocks; expected an even number from 2")
    sessions, configurations = returns.shape
    if configurations < 2 or sessions < 2 * blocks:
        return None
    stretches = np.array_split(returns, blocks)
    sums = np.stack([block.sum(axis=0) for block in stretches])  # [S, N]
    squares = np.stack([(block**2).sum(axis=0) for block in stretches])
    lengths = np.array([len(block) for block in stretches], dtype=float)
    halves = np.zeros((_halves(blocks), blocks))
    for i, half_blocks in enumerate(combinations(range(blocks), blocks // 2)):
        halves[i, list(half_blocks)] = 1.0

    def performance(half: np.ndarray) -> np.ndarray:  # [C, S] -> [C, N]
        count = (half @ lengths)[:, None]
        mean = half @ sums / count
        if metric == "mean":
            return mean
        variance = (half @ squares - count * mean**2) / (count - 1)
        varies = variance > 1e-24 * (half @ squares)
        return np.where(varies, mean / np.sqrt(np.where(varies, variance, 1.0)), -np.inf)

    best = performance(halves).argmax(axis=1)[:, None]
    outside = performance(1 - halves)
    of_best = np.take_along_axis(outside, best, axis=1)
    ranks = (outside < of_best).sum(axis=1) + ((outside == of_best).sum(axis=1) + 1) / 2
    return float((ranks <= (configurations + 1) / 2).mean())


def _halves(blocks: int) -> int:
    from math import comb

    return comb(blocks, blocks // 2)
