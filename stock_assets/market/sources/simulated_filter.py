"""What prices, ^VIX and published dates say of the state of the simulated market, to a reader who knows its laws.

The state behind the prices is never seen. A filter follows each part of it (Bayes' rule on a grid, Hamilton 1989, and
Kalman 1960), with the laws of `simulated_laws` and what a close shows:

    H, R    ^VIX, which is the volatility of the index with a noise of 4 %
    h_j     v = gap² + ½ Garman-Klass + ½ Parkinson of each bar, given H and whether the session was a reaction
    z_j     the own shock that the returns of all companies make likeliest, u·Σ⁻¹(r - μ)

Hardly any forecast knows more. What lies between it and the oracle is knowledge of the state, which no bar shows: own
volatility is read off ranges with a noise of a third of it. The parts are filtered apart from each other, so a slightly
better filter is possible.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stock_assets.market.sources import simulated_laws as laws
from stock_assets.market.sources.simulated_schedule import reactions

#: The values of h that are weighed.
GRID = np.linspace(*laws.OWN_BOUNDS, 49)
_MARKET_GRID = np.linspace(*laws.MARKET_BOUNDS, 451)
#: Standard deviation of H as it is read off ^VIX, of its own noise and the spread of h.
_VIX_NOISE = 0.05
_FLOOR = 1e-6


class Belief(NamedTuple):
    """What is likely at each of T closes."""

    market: np.ndarray  # [T]: mean of H
    deviation: np.ndarray  # [T]: its standard deviation
    turbulent: np.ndarray  # [T]: probability of R
    own: np.ndarray  # float32 [T, 60, 49]: probabilities of h on GRID
    reversal: np.ndarray  # [T, 60]: mean of z

    def draw(self, rng: np.random.Generator, at: int, paths: int) -> laws.State:
        """States of `paths` worlds that agree in what was seen by the close at `at`."""
        shape = paths, laws.COMPANIES
        cumulated_chances = self.own[at].cumsum(axis=-1)
        place = (rng.random(shape)[..., None] > cumulated_chances).sum(axis=-1).clip(max=len(GRID) - 1)
        within = (rng.random(shape) - 0.5) * (GRID[1] - GRID[0])
        return laws.State(
            rng.random((paths, 1)) < self.turbulent[at],
            self.market[at] + self.deviation[at] * rng.standard_normal((paths, 1)),
            GRID[place] + within,
            np.broadcast_to(self.reversal[at], shape),
        )


@lru_cache(maxsize=2)
def beliefs(seed: int, count: int, vix: tuple[float, ...]) -> Belief:
    """Of the first `count` sessions of the market of `seed`, with the closes of ^VIX. A row looks at no later one."""
    history = laws.history_to(seed, count - 1)
    bars = {name: values[:count] for name, values in history.bars.items()}
    at = np.arange(count)
    before = np.concatenate([laws.FIRST_PRICE[None], bars["close"][:-1]])
    priced = (at[:, None] > laws.LISTED) & (at[:, None] < laws.DELISTED)
    market, deviation, turbulent = _market(np.array(vix), history.chances[:count], priced)
    returns = (bars["close"] + bars["dividend"]) * bars["split_ratio"] / before - 1
    base = before / bars["split_ratio"] - bars["dividend"]
    own, reversal = _companies(
        market, _half_log_variance(base, bars), returns, priced=priced, reacts=reactions(seed, at)
    )
    return Belief(market, deviation, turbulent, own, reversal)


def _half_log_variance(base: np.ndarray, bars: dict[str, np.ndarray]) -> np.ndarray:
    gap, inner = np.log(bars["open"] / base), np.log(bars["close"] / bars["open"])
    span = np.log(bars["high"] / bars["low"]) ** 2
    garman_klass = 0.5 * span - (2 * np.log(2) - 1) * inner**2
    return 0.5 * np.log(gap**2 + 0.5 * garman_klass + 0.5 * span / (4 * np.log(2)) + _FLOOR)


def _market(vix: np.ndarray, chances: np.ndarray, priced: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation of H and the probability of R, [T] each."""
    observations = _read_off(vix, chances, priced)
    estimates = np.zeros((3, len(vix)))
    mean, variance, turbulent = 0.0, 0.1, 0.2
    for t, value in enumerate(observations):
        turbulent = turbulent * (1 - laws.LEAVE_TURBULENCE) + (1 - turbulent) * laws.ENTER_TURBULENCE
        calm, rough = (mean + laws.MARKET_PULL * (level - mean) for level in (0.0, laws.TURBULENCE))
        ahead = variance * (1 - laws.MARKET_PULL) ** 2 + laws.MARKET_NOISE**2 + laws.LEVERAGE**2
        odds = [np.exp(-0.5 * (value - guess) ** 2 / (ahead + _VIX_NOISE**2)) for guess in (calm, rough)]
        turbulent = turbulent * odds[1] / (turbulent * odds[1] + (1 - turbulent) * odds[0])
        guess, gain = turbulent * rough + (1 - turbulent) * calm, ahead / (ahead + _VIX_NOISE**2)
        mean, variance = guess + gain * (value - guess), (1 - gain) * ahead
        estimates[:, t] = mean, np.sqrt(variance), turbulent
    return estimates[0], estimates[1], estimates[2]


def _read_off(vix: np.ndarray, chances: np.ndarray, priced: np.ndarray) -> np.ndarray:
    """H [T] for which the volatility of the index is that of ^VIX, at the usual own volatilities."""
    from stock_assets.market.sources.simulated_context import PREMIUM

    spread = laws.OWN_NOISE**2 / (1 - laws.OWN_MEMORY**2)
    usual = np.exp(2 * spread) * np.exp(_MARKET_GRID)[:, None] * laws.OWN_VOLATILITY**2
    announcement_variance = (laws.REACTION * laws.OWN_VOLATILITY) ** 2
    market = (laws.MARKET_VOLATILITY * np.exp(_MARKET_GRID)) ** 2
    sector = (laws.SECTOR_VOLATILITY * np.exp(laws.MARKET_SHARE * _MARKET_GRID)) ** 2 / len(laws.SECTORS)
    observations = np.zeros(len(vix))
    for t, is_listed in enumerate(priced):
        n = max(int(is_listed.sum()), 1)
        own_part = ((1 - chances[t]) * usual + chances[t] * announcement_variance) @ is_listed / n**2
        total = (laws.BETA @ is_listed / n) ** 2 * market + sector + own_part
        observations[t] = np.interp(np.log(vix[t] / (100 * np.sqrt(252) * PREMIUM)), 0.5 * np.log(total), _MARKET_GRID)
    return observations


def _companies(
    market: np.ndarray, observations: np.ndarray, returns: np.ndarray, *, priced: np.ndarray, reacts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of h, float32 [T, 60, 49], and the mean of z, [T, 60]; `observations` is ½ ln v of each bar."""
    noise, at_noise = _range_noise()
    moves = np.exp(-0.5 * ((GRID - laws.OWN_MEMORY * GRID[:, None]) / laws.OWN_NOISE) ** 2)
    moves /= moves.sum(axis=1, keepdims=True)
    spread = laws.OWN_NOISE**2 / (1 - laws.OWN_MEMORY**2)
    start = np.exp(-0.5 * GRID**2 / spread)
    chance = np.tile(start / start.sum(), (laws.COMPANIES, 1))
    reversal, announcement_volatility = np.zeros(laws.COMPANIES), laws.REACTION * laws.OWN_VOLATILITY
    own, estimates = np.zeros((*observations.shape, len(GRID)), np.float32), np.zeros(observations.shape)
    own[0], same_sector = chance, laws.SECTOR[:, None] == laws.SECTOR
    for t in range(1, len(observations)):
        state = laws.State(np.zeros(1, bool), market[t - 1 : t], chance @ GRID, reversal)
        m, s, usual = laws.volatilities(state)
        of_grid = laws.OWN_VOLATILITY[:, None] * np.exp(laws.MARKET_SHARE * market[t - 1] + GRID)
        v = np.where(reacts[t][:, None], announcement_volatility[:, None], of_grid)
        total = 0.5 * np.log((laws.BETA[:, None] * m) ** 2 + s**2 + v**2)
        likelihood = np.interp(observations[t][:, None] - total, at_noise, noise)
        chance = chance * np.where(priced[t][:, None], likelihood, 1.0)
        chance = chance / chance.sum(axis=1, keepdims=True) @ moves
        v_now = np.where(
            priced[t], np.where(reacts[t], announcement_volatility, usual), 1.0
        )  # one without a price says nothing
        covariance = np.outer(laws.BETA * m, laws.BETA * m) + s**2 * same_sector + np.diag(v_now**2)
        surprise = np.where(priced[t], returns[t] - laws.expected_return(state), 0.0)
        shock = v_now * np.linalg.solve(covariance, surprise)
        reversal = laws.REVERSAL_MEMORY * reversal + np.sqrt(1 - laws.REVERSAL_MEMORY**2) * shock
        own[t], estimates[t] = chance, reversal
    return own, estimates


@lru_cache(maxsize=1)
def _range_noise() -> tuple[np.ndarray, np.ndarray]:
    """(density, its values): how ½ ln v of a bar lies about ln of the volatility that it was drawn with."""
    rng = np.random.default_rng(0)
    volatility, many = 0.015, (2000, laws.COMPANIES)
    tails = rng.standard_t(laws.TAIL, (3, *many)) * np.sqrt((laws.TAIL - 2) / laws.TAIL)
    # a return is the sum of three shocks: a bit less fat-tailed than one
    move = volatility * (0.55 * tails[0] + 0.35 * tails[1] + np.sqrt(1 - 0.55**2 - 0.35**2) * tails[2])
    base = np.ones(many)
    up, down = rng.standard_exponential((2, *many))
    close = np.exp(move.clip(-0.5, 0.5))
    open_price, high, low = laws.bridge(
        base, close, np.full(many, volatility), gap=rng.standard_normal(many), up=up, down=down
    )
    deviations = _half_log_variance(base, {"open": open_price, "high": high, "low": low, "close": close}) - np.log(
        volatility
    )
    counts, edges = np.histogram(deviations, 200, (-3, 2), density=True)
    return np.convolve(counts, np.ones(5) / 5, "same") + 1e-4, (edges[1:] + edges[:-1]) / 2
