"""The index, the fund and the volatility index of the simulated market. Nothing in them is real.

With r_j the returns of the n companies that trade, and m, s, v of the state at a close (`simulated_laws`):

    ^GSPC   1000 · Π (1 + mean r_j), without dividends
    SPY     a tenth of it; its total return is the mean with dividends
    ^VIX    100 · √252 · 1.1 · σ · exp(0.04·η)      σ² = (mean β_j · m)² + s² / 6 + Σ E v_j² / n²

σ is the true volatility of the index in the next session: what option prices know at the close, the announcements of
that session among it. η is standard
normal, and a stream of its own, so that the prices of the companies do not depend on whether an index is asked for.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.context import FUND, INDEX, SERIES, VOLATILITY
from stock_assets.market.sources import simulated_laws as laws

FIRST_LEVEL, FUND_SHARE, PREMIUM, NOISE = 1000.0, 0.1, 1.1, 0.04


def context_bars(series: Sequence[str], positions: np.ndarray, history: laws.History, *, seed: int) -> pl.DataFrame:
    """ticker, position, open, high, low, close, total_return of `series` at consecutive `positions` of `history`.

    A row depends on the sessions up to its own. Raises SourceError for a series that the market does not have.
    """
    if unknown := sorted(set(series) - set(SERIES)):
        raise SourceError(f"the simulated market has no series {', '.join(unknown)}; it has {', '.join(SERIES)}")
    count = int(positions[-1]) + 1
    close, dividend, ratio = (history.bars[name][:count] for name in ("close", "dividend", "split_ratio"))
    at = np.arange(count)[:, None]
    priced = (at > laws.LISTED) & (at < laws.DELISTED)  # bars that have one before them
    before = np.concatenate([laws.FIRST_PRICE[None], close[:-1]])

    def mean(returns: np.ndarray) -> np.ndarray:
        return np.where(priced, returns, 0.0).sum(axis=1) / np.maximum(priced.sum(axis=1), 1)

    price_return, total_return = mean(close * ratio / before - 1), mean((close + dividend) * ratio / before - 1)
    level = FIRST_LEVEL * np.cumprod(1 + price_return)
    states = laws.State(*(field[:count] for field in history.states))
    sigma = _index_volatility(states, history.chances[:count], priced)

    # of the session before the first one too, from whose close it starts
    reach = np.arange(max(0, positions[0] - 1), count)
    rngs = {i: np.random.default_rng([seed, laws.CONTEXT_STREAM, i]) for i in reach.tolist()}
    noise = np.array([rngs[i].standard_normal() for i in reach.tolist()])
    vix = np.zeros(count)
    vix[reach] = 100 * np.sqrt(252) * PREMIUM * sigma[reach] * np.exp(NOISE * noise)
    draws = np.array([(rngs[i].standard_normal(2), rngs[i].standard_exponential(2), rngs[i].standard_exponential(2))
                      for i in positions.tolist()])  # fmt: skip
    previous = np.maximum(positions - 1, 0)
    of_series = {
        VOLATILITY: (vix, np.full(len(positions), 1.5 * NOISE), vix[positions] / vix[previous] - 1),
        INDEX: (level, sigma[previous], price_return[positions]),
        FUND: (FUND_SHARE * level, sigma[previous], total_return[positions]),
    }
    frames = []
    for name in sorted(set(series)):
        path, volatility, returns = of_series[name]
        row = int(name == VOLATILITY)  # the fund moves as the index does
        gap, up, down = draws[:, :, row].T
        open_price, high, low = laws.bridge(path[previous], path[positions], volatility, gap=gap, up=up, down=down)
        bars = {"open": open_price, "high": high, "low": low, "close": path[positions]}
        total_returns = pl.Series(np.where(positions > 0, returns, np.nan)).fill_nan(None)
        frames.append(pl.DataFrame({"ticker": name, "position": positions, **bars, "total_return": total_returns}))
    return pl.concat(frames) if frames else pl.DataFrame()


def _index_volatility(state: laws.State, chances: np.ndarray, is_listed: np.ndarray) -> np.ndarray:
    """σ of the next session, float64 [T], at each state [T, …]; `chances` as in `History`, `is_listed` bool [T, 60]."""
    market, sector, _ = laws.volatilities(state)
    number = np.maximum(is_listed.sum(axis=1), 1)
    beta = np.where(is_listed, laws.BETA, 0.0).sum(axis=1) / number
    own_part = np.where(is_listed, laws.own_variance(state, chances), 0.0).sum(axis=1) / number**2
    return np.sqrt((beta * market[:, 0]) ** 2 + sector[:, 0] ** 2 / len(laws.SECTORS) + own_part)
