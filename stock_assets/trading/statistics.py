"""What a series of returns is worth, and how sure that is.

Returns are float64 [T], one per session in the order of time, fractions, net of costs and of the interest on cash
unless named otherwise. A session without a return is NaN: nothing changed in it as far as growth is concerned, and
moments leave it out. A figure that does not exist is None: of no session, of one where two are needed, and of returns
without variance where it divides by their deviation.

Deviations divide by T - 1 (ddof 1); skewness, kurtosis and the moments of standard errors divide by T. A year has
SESSIONS_OF_A_YEAR sessions, and an annual Sharpe ratio is that of a session times its square root unless it says
otherwise.
"""

from dataclasses import dataclass

import numpy as np

from stock_assets.evaluation.bootstrap import BLOCK, DRAWS, drawn_sessions, interval

SESSIONS_OF_A_YEAR = 252
ANNUAL = SESSIONS_OF_A_YEAR**0.5
#: The quantile of a two-sided 95 % interval of a normal distribution.
Z_95 = 1.959963984540054
#: A deviation below this share of the largest value is rounding.
_ROUNDING = 1e-12


def present(returns: np.ndarray) -> np.ndarray:
    """The returns that are not NaN."""
    return returns[~np.isnan(returns)]


@dataclass(frozen=True)
class Moments:
    """What the distribution of a Sharpe ratio follows from."""

    sessions: int
    sharpe: float
    """of a session: mean over standard deviation (ddof 1)"""
    skewness: float
    """third central moment over the 3/2 power of the second one"""
    kurtosis: float
    """fourth central moment over the square of the second one: 3 of a normal distribution, not the excess over it"""

    @property
    def variance_factor(self) -> float:
        """1 - skewness * SR + (kurtosis - 1) / 4 * SR²: the variance of the estimate times T (Mertens 2002)."""
        return 1 - self.skewness * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2


def moments(returns: np.ndarray) -> Moments | None:
    """The moments of `returns`; None for fewer than two, or without variance.

    >>> moments(np.array([0.01, -0.01, 0.02])).sessions
    3
    """
    values = present(returns)
    if not _varies(values):
        return None
    centred = values - values.mean()
    variance = (centred**2).mean()
    sharpe = float(values.mean() / values.std(ddof=1))
    skewness, kurtosis = (centred**3).mean() / variance**1.5, (centred**4).mean() / variance**2
    return Moments(len(values), sharpe, float(skewness), float(kurtosis))


def sharpe(returns: np.ndarray) -> float | None:
    """The Sharpe ratio of a session: mean over standard deviation (Sharpe 1994); times ANNUAL it is that of a year.

    >>> round(sharpe(np.array([np.nan, 0.01, 0.10, -0.04, 0.02, 0.03, 0.02, 0.01, -0.10])) * ANNUAL, 4)
    1.7239
    """
    moments_of_returns = moments(returns)
    return None if moments_of_returns is None else moments_of_returns.sharpe


def standard_error_iid(returns: np.ndarray) -> float | None:
    """Standard error of the Sharpe ratio of a session where returns are independent (Lo 2002, Mertens 2002).

    √((1 + SR²/2 - γ₃ SR + (γ₄ - 3)/4 SR²) / T), every moment that of the population (ddof 0).
    """
    moments_of_returns = moments(returns)
    if moments_of_returns is None:
        return None
    of_population = moments_of_returns.sharpe * (moments_of_returns.sessions / (moments_of_returns.sessions - 1)) ** 0.5
    factor = 1 - moments_of_returns.skewness * of_population + (moments_of_returns.kurtosis - 1) / 4 * of_population**2
    return float((max(factor, 0.0) / moments_of_returns.sessions) ** 0.5)


def standard_error_hac(returns: np.ndarray, *, sleeves: int = 1, lag: int | None = None) -> float | None:
    """Standard error of the Sharpe ratio of a session, autocorrelation allowed for (Ledoit & Wolf 2008).

    √(∇'Ψ∇ / T) with γ = E r², ∇ = (γ, -μ/2) / (γ - μ²)^1.5 and Ψ the Newey-West covariance of (r - μ, r² - γ). `lag`
    is the greater of `sleeves` and ⌊4 (T/100)^(2/9)⌋ unless it is given. At lag 0 it is `standard_error_iid`.
    """
    values = present(returns)
    if not _varies(values):
        return None
    lag = newey_west_lag(len(values), sleeves) if lag is None else lag
    mean, square = values.mean(), (values**2).mean()
    variance = square - mean**2
    gradient = np.array([square, -mean / 2]) / variance**1.5
    covariance = newey_west(np.stack([values - mean, values**2 - square], axis=1), lag)
    return float(max(gradient @ covariance @ gradient / len(values), 0.0) ** 0.5)


def newey_west_lag(sessions: int, sleeves: int = 1) -> int:
    """The greater of `sleeves` and ⌊4 (T/100)^(2/9)⌋ (Newey & West 1994), below the number of sessions.

    >>> newey_west_lag(1500), newey_west_lag(1500, sleeves=14), newey_west_lag(3, sleeves=14)
    (7, 14, 2)
    """
    return min(max(sleeves, int(4 * (sessions / 100) ** (2 / 9))), max(sessions - 1, 0))


def newey_west(values: np.ndarray, lag: int) -> np.ndarray:
    """[k, k]: the long-run covariance of `values` [T, k], of mean 0, with Bartlett's weights (Newey & West 1987)."""
    total = values.T @ values / len(values)
    for j in range(1, lag + 1):
        cross = values[j:].T @ values[:-j] / len(values)
        total = total + (1 - j / (lag + 1)) * (cross + cross.T)
    return total


def annual_factor(autocorrelations: np.ndarray, periods: int) -> float:
    """η(q) = q / √(q + 2 Σ_{k<q} (q - k) ρ_k): what a Sharpe ratio of one period is multiplied with to become that of
    q `periods`, where `autocorrelations` are ρ_1 … ρ_{q-1} (Lo 2002); those that are missing count 0.

    It is √q without autocorrelation. Infinite where the sum of the periods has no variance.

    >>> round(annual_factor(0.5 ** np.arange(1, 12), 12), 2)
    2.12
    """
    rho = np.asarray(autocorrelations, dtype=float)[: periods - 1]
    variance = periods + 2 * float(((periods - np.arange(1, len(rho) + 1)) * rho).sum())
    return periods / variance**0.5 if variance > 0 else float("inf")


def autocorrelations(returns: np.ndarray, lags: int) -> np.ndarray:
    """float64 [lags]: the autocorrelation of `returns` at lags 1 to `lags`; 0 beyond their number or without
    variance."""
    values = present(returns)
    correlations = np.zeros(lags)
    if not _varies(values):
        return correlations
    centred = values - values.mean()
    for lag in range(1, min(lags, len(values) - 1) + 1):
        correlations[lag - 1] = (centred[lag:] * centred[:-lag]).sum() / (centred**2).sum()
    return correlations


def annual_sharpe_lo(returns: np.ndarray, *, lags: int = 21) -> float | None:
    """The annual Sharpe ratio with η(SESSIONS_OF_A_YEAR) of the first `lags` autocorrelations (Lo 2002)."""
    daily = sharpe(returns)
    factor = annual_factor(autocorrelations(returns, lags), SESSIONS_OF_A_YEAR)
    return None if daily is None or not np.isfinite(factor) else daily * factor


# ---------------------------------------------------------------- growth and falls


def total_return(returns: np.ndarray) -> float:
    """What 1 has grown by, compounded; 0 of no session."""
    return float(np.prod(1 + np.nan_to_num(returns)) - 1)


def annual_return(returns: np.ndarray) -> float | None:
    """The compounded return a year: (1 + total)^(SESSIONS_OF_A_YEAR / T) - 1, T with the sessions that are NaN; None of
    no session, and -1 where everything was lost."""
    if not len(returns):
        return None
    total = total_return(returns)
    return -1.0 if total <= -1 else float((1 + total) ** (SESSIONS_OF_A_YEAR / len(returns)) - 1)


def annual_volatility(returns: np.ndarray) -> float | None:
    """Standard deviation (ddof 1) of a session times ANNUAL; None for fewer than two returns."""
    values = present(returns)
    return float(values.std(ddof=1) * ANNUAL) if len(values) > 1 else None


def sortino(returns: np.ndarray) -> float | None:
    """Mean over the root of the mean of min(r, 0)², a year (Sortino & Price 1994, target 0); None without a loss."""
    values = present(returns)
    below = float((np.minimum(values, 0.0) ** 2).mean() ** 0.5) if len(values) else 0.0
    return float(values.mean() / below * ANNUAL) if below > 0 else None


def drawdowns(returns: np.ndarray) -> np.ndarray:
    """float64 [..., T]: equity over its highest value so far, the start included, less 1; sessions are the last axis.

    >>> drawdowns(np.array([0.1, -0.5, 0.2])).round(2).tolist()
    [0.0, -0.5, -0.4]
    """
    path = np.cumprod(1 + np.nan_to_num(returns), axis=-1)
    return path / np.maximum.accumulate(np.maximum(path, 1.0), axis=-1) - 1


def deepest_drawdown(returns: np.ndarray) -> float | None:
    """The deepest fall from a peak, a fraction not above 0; None of no session."""
    return float(drawdowns(returns).min()) if len(returns) else None


def calmar(returns: np.ndarray) -> float | None:
    """The annual return over the depth of the deepest drawdown (Young 1991); None without one."""
    yearly, deepest = annual_return(returns), deepest_drawdown(returns)
    return None if yearly is None or not deepest else yearly / -deepest


@dataclass(frozen=True)
class Fall:
    """One fall from a peak: indices of its sessions; `peak` is -1 for the start."""

    depth: float
    peak: int
    valley: int
    recovery: int | None
    """the session in which the peak was reached again; None where it was not yet"""


def worst_falls(returns: np.ndarray, count: int = 5) -> list[Fall]:
    """The deepest falls from a peak, deepest first: stretches below the peak, each between two peaks."""
    depth = drawdowns(returns)
    falls, start = [], None
    for i, value in enumerate([*depth, 0.0]):
        if value < 0 and start is None:
            start = i
        elif value >= 0 and start is not None:
            valley = start + int(depth[start:i].argmin())
            falls.append(Fall(float(depth[valley]), start - 1, valley, i if i < len(depth) else None))
            start = None
    return sorted(falls, key=lambda fall: fall.depth)[:count]


def stability(returns: np.ndarray) -> float | None:
    """R² of a straight line through the cumulated log returns; None for fewer than two, a total loss or a flat line."""
    values = present(returns)
    if len(values) < 2 or values.min() <= -1:
        return None
    path = np.cumsum(np.log1p(values))
    return None if not _varies(path) else float(np.corrcoef(np.arange(len(path)), path)[0, 1] ** 2)


# ---------------------------------------------------------------- against the market


@dataclass(frozen=True)
class Line:
    """The regression of returns on those of the market."""

    alpha: float
    """a year: the intercept of a session, compounded"""
    beta: float
    alpha_t: float | None
    """t-statistic of the intercept, Newey-West; None where the residuals are 0"""


def regression(returns: np.ndarray, market: np.ndarray, *, sleeves: int = 1) -> Line | None:
    """Ordinary least squares of `returns` on `market`, both [T] and excess; sessions where one is NaN are left out.

    The covariance of the coefficients is that of Newey and West with `newey_west_lag`. None for fewer than three
    sessions, or a market without variance.
    """
    has_both = ~np.isnan(returns) & ~np.isnan(market)
    y, x = returns[has_both], market[has_both]
    if len(y) < 3 or not _varies(x):
        return None
    design = np.stack([np.ones(len(x)), x], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    alpha, beta = inverse @ design.T @ y
    scores = design * (y - design @ np.array([alpha, beta]))[:, None]
    covariance = inverse @ (newey_west(scores, newey_west_lag(len(y), sleeves)) * len(y)) @ inverse
    error = max(covariance[0, 0], 0.0) ** 0.5
    is_exact = error <= _ROUNDING * max(abs(alpha), _ROUNDING)
    yearly = float((1 + alpha) ** SESSIONS_OF_A_YEAR - 1)
    return Line(yearly, float(beta), None if is_exact else float(alpha / error))


# ---------------------------------------------------------------- intervals by blocks of sessions


def sharpe_intervals(returns: np.ndarray, *, block: int = BLOCK, seed: int = 0) -> np.ndarray:
    """float64 [k, 2]: 95 % intervals of the annual Sharpe ratios of k series, `returns` [T, k] without NaN.

    Circular block bootstrap of `evaluation.bootstrap`; all series draw the same sessions. NaN where a series has fewer
    than two sessions or no variance.
    """
    sessions, series = returns.shape
    intervals = np.full((series, 2), np.nan)
    varies = [i for i in range(series) if _varies(returns[:, i])]
    if not varies:
        return intervals
    times = _times(sessions, block=block, seed=seed)  # [draws, T]
    mean = times @ returns[:, varies] / sessions
    square = times @ returns[:, varies] ** 2 / sessions
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0) * sessions / (sessions - 1))
    drawn_ratios = np.divide(mean, deviation, out=np.full_like(mean, np.nan), where=deviation > 0) * ANNUAL
    intervals[varies] = np.nanquantile(drawn_ratios, [0.025, 0.975], axis=0).T
    return intervals


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, *, block: int = BLOCK, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of mean `numerator` over mean `denominator`, both [T]: of one ratio, not of two means.

    The break-even cost is that of gross return to turnover. None where the denominator is 0 in all sessions.
    """
    has_both = ~np.isnan(numerator) & ~np.isnan(denominator)
    ends = ratio_intervals(numerator[has_both][:, None], denominator[has_both][:, None], block=block, seed=seed)[0]
    return None if np.isnan(ends).any() else (float(ends[0]), float(ends[1]))


def ratio_intervals(
    numerators: np.ndarray, denominators: np.ndarray, *, block: int = BLOCK, seed: int = 0
) -> np.ndarray:
    """float64 [k, 2]: `ratio_interval` of each of k columns, [T, k] without NaN; NaN where there is none.

    All columns draw the same sessions.
    """
    sessions, columns = numerators.shape
    intervals = np.full((columns, 2), np.nan)
    used_columns = [i for i in range(columns) if denominators[:, i].any()]
    if not used_columns:
        return intervals
    times = _times(sessions, block=block, seed=seed)
    top, bottom = times @ numerators[:, used_columns], times @ denominators[:, used_columns]
    ratios = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0)
    intervals[used_columns] = np.nanquantile(ratios, [0.025, 0.975], axis=0).T
    return intervals


def drawdown_interval(returns: np.ndarray, *, block: int = BLOCK, seed: int = 0) -> tuple[float, float] | None:
    """The middle 95 % of the deepest drawdown over resampled histories of the same length; None of no session."""
    if not len(returns):
        return None
    sample = drawn_sessions(np.random.default_rng(seed), len(returns), block, draws=DRAWS)
    return interval(drawdowns(returns[sample]).min(axis=1))


def _times(sessions: int, *, block: int, seed: int) -> np.ndarray:
    """float64 [draws, T]: how often each session is in each sample."""
    sample = drawn_sessions(np.random.default_rng(seed), sessions, block, draws=DRAWS)
    flat = sample + np.arange(DRAWS)[:, None] * sessions
    return np.bincount(flat.ravel(), minlength=DRAWS * sessions).reshape(DRAWS, sessions).astype(float)


def _varies(values: np.ndarray) -> bool:
    return len(values) > 1 and values.std() > _ROUNDING * np.abs(values).max()
