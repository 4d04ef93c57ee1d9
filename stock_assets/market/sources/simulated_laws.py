"""The laws of the simulated market, and its history by them. No price, name or event in it is real.

Sixty invented companies, SIM01 to SIM60, trade on the sessions of a calendar, from its first one to any date.
The market has what makes real prices hard (fat tails, volatility that clusters, sectors, splits, dividends,
listings, delistings, announcements) and what no real one has: laws that are written down, so that the best score
anybody could reach is known (`simulated.oracle_probabilities`, `.expected_next_return`).

The laws. The state at one close fixes the volatilities and the mean of the next session:

    r_j = μ_j + β_j·m·ε_market + s·ε_sector(j) + v_j·ε_j      total return of company j, a fraction
    m   = 0.008·exp(H)                                        volatility of the market factor
    s   = 0.005·exp(H/2)                                      volatility of each sector factor
    u_j = V_j·exp(H/2 + h_j)                                  the company's own volatility
    v_j = u_j, or κ_j·V_j on a reaction session               volatility of the company's own part
    μ_j = 0.0005·β_j - 0.06·u_j·z_j                           risk premium, and the planted reversal

and the session moves the state on:

    R'   = R, or the other regime                             calm to turbulent 1/250, back 1/60 a session
    H'   = H + 0.06·(0.8·R' - H) + 0.06·η - 0.03·ε_market     market log-volatility; falls raise it (leverage)
    h_j' = 0.98·h_j + 0.09·η_j                                own log-volatility, long-run deviation 0.45
    z_j' = 0.6·z_j + 0.8·ε_j                                  the last few own surprises, unit variance

A reaction session is the first that can show an announcement. Announcements have laws of their own, and most are known
weeks ahead (`simulated_schedule`); they move nothing but v. κ_j lies between 3.5 and 6, so that the own part of a
reaction session is four times as large as usual, and the total return two to three times.

All ε and η are independent: ε Student-t with 5 degrees of freedom, scaled to unit variance, clipped to ±6;
η standard normal. H is kept within [-1, 1.25] and h within [-1.2, 1.2], so that no return comes below -0.92
and prices stay positive.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stock_assets.market.sources.simulated_companies import (
    BETA,
    COMPANIES,
    DELISTED,
    DIVIDEND_YIELD,
    FIRST_PRICE,
    LISTED,
    OWN_VOLATILITY,
    REACTION,
    SECTOR,
    SECTORS,
    SPECIAL_DIVIDEND,
    TURNOVER,
)
from stock_assets.market.sources.simulated_companies import TICKERS as TICKERS
from stock_assets.market.sources.simulated_schedule import chances, reactions

# the constants of the laws above
MARKET_VOLATILITY, SECTOR_VOLATILITY, MARKET_SHARE = 0.008, 0.005, 0.5
RISK_PREMIUM, REVERSAL, REVERSAL_MEMORY = 0.0005, 0.06, 0.6
ENTER_TURBULENCE, LEAVE_TURBULENCE, TURBULENCE = 1 / 250, 1 / 60, 0.8
MARKET_PULL, MARKET_NOISE, LEVERAGE, MARKET_BOUNDS = 0.06, 0.06, 0.03, (-1.0, 1.25)
OWN_MEMORY, OWN_NOISE, OWN_BOUNDS = 0.98, 0.09, (-1.2, 1.2)
TAIL, SHOCK_BOUND = 5, 6.0

SPLIT_REVIEW, QUARTER = 126, 63

# Each random stream is named by (seed, purpose, session), so no draw depends on what was drawn before; 4 and 5 are of
# simulated_schedule.
_BIRTH, _SESSION, ORACLE_STREAM, CONTEXT_STREAM = range(4)
FILTER_STREAM = 6
_BLOCK = 256  # sessions that are simulated, and kept, together


class State(NamedTuple):
    """What is true at a close and decides the next session; shapes (…, 1), (…, 1), (…, 60), (…, 60)."""

    turbulent: np.ndarray  # R
    market: np.ndarray  # H
    own: np.ndarray  # h
    reversal: np.ndarray  # z


class Shocks(NamedTuple):
    """What chance adds in one session; last axes 1, 6, 60 (ε), 1 (uniform), 1, 60 (η)."""

    market: np.ndarray
    sector: np.ndarray
    own: np.ndarray
    regime: np.ndarray
    market_volatility: np.ndarray
    own_volatility: np.ndarray


def draw_shocks(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> Shocks:
    """The shocks of one session, for as many parallel worlds as `shape` says."""
    factors = 1 + len(SECTORS)
    tails = rng.standard_t(TAIL, (*shape, factors + COMPANIES)) * np.sqrt((TAIL - 2) / TAIL)
    market, sector, own = np.split(tails.clip(-SHOCK_BOUND, SHOCK_BOUND), [1, factors], axis=-1)
    market_volatility, own_volatility = np.split(rng.standard_normal((*shape, 1 + COMPANIES)), [1], axis=-1)
    return Shocks(market, sector, own, rng.random((*shape, 1)), market_volatility, own_volatility)


def volatilities(state: State, reacts: np.ndarray | bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """m, s and v of the next session, as fractions a session; `reacts` (…, 60): whether it is a reaction session."""
    common_factor = np.exp(MARKET_SHARE * state.market)
    own = np.where(reacts, REACTION * OWN_VOLATILITY, OWN_VOLATILITY * common_factor * np.exp(state.own))
    return MARKET_VOLATILITY * np.exp(state.market), SECTOR_VOLATILITY * common_factor, own


def own_variance(state: State, chance: np.ndarray | float) -> np.ndarray:
    """The mean of v² in the next session, which is a reaction session with a probability of `chance` (…, 60)."""
    return (1 - chance) * volatilities(state)[2] ** 2 + chance * (REACTION * OWN_VOLATILITY) ** 2


def total_volatility(state: State, reacts: np.ndarray | bool = False) -> np.ndarray:
    """The standard deviation of the next session's total return, a fraction, per company."""
    market, sector, own = volatilities(state, reacts)
    return np.sqrt((BETA * market) ** 2 + sector**2 + own**2)


def expected_return(state: State) -> np.ndarray:
    """μ, the mean of the next session's total return, a fraction, per company: the same on reaction sessions."""
    return RISK_PREMIUM * BETA - REVERSAL * volatilities(state)[2] * state.reversal


def step(state: State, shocks: Shocks, reacts: np.ndarray | bool = False) -> tuple[np.ndarray, State]:
    """One session: the total returns of all companies, and the state at its close; `reacts` as in `volatilities`.

    Nothing else moves the market: its history and the oracle's paths both come from here.
    """
    market, sector, own = volatilities(state, reacts)
    surprise = BETA * market * shocks.market + sector * shocks.sector[..., SECTOR] + own * shocks.own
    turbulent = state.turbulent ^ (shocks.regime < np.where(state.turbulent, LEAVE_TURBULENCE, ENTER_TURBULENCE))
    pull = MARKET_PULL * (TURBULENCE * turbulent - state.market)
    next_market = state.market + pull + MARKET_NOISE * shocks.market_volatility - LEVERAGE * shocks.market
    next_own = OWN_MEMORY * state.own + OWN_NOISE * shocks.own_volatility
    reversal = REVERSAL_MEMORY * state.reversal + np.sqrt(1 - REVERSAL_MEMORY**2) * shocks.own
    following = State(turbulent, next_market.clip(*MARKET_BOUNDS), next_own.clip(*OWN_BOUNDS), reversal)
    return expected_return(state) + surprise, following


def corporate_actions(i: int, previous_close: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split ratios (1 on ordinary days) and dividends (per new share, whole cents) of the session at `i`.

    Every 126 sessions a company looks at its price and splits 4 for 1 above 240, 2 for 1 above 120, 1 for 10
    below 4. Every 63 sessions a payer pays a quarter of its yearly yield. A company's first bar has neither.
    """
    company = np.arange(COMPANIES)
    trades = (i > LISTED) & (i < DELISTED)
    review = trades & ((i - 11 * company) % SPLIT_REVIEW == 0)
    levels = previous_close > 240, previous_close > 120, previous_close < 4
    ratio = np.select([review & level for level in levels], [4.0, 2.0, 0.1], 1.0)
    payout = np.where((i - 5 * company) % QUARTER == 0, DIVIDEND_YIELD / 4, 0.0)
    special, when, size = SPECIAL_DIVIDEND
    payout[special] += size * (i == when)
    return ratio, np.where(trades, np.round(payout * previous_close / ratio, 2), 0.0)


def announced_splits(seed: int, position: int) -> dict[str, float]:
    """New shares for an old one by ticker, of the session at `position`: they follow from the close before it."""
    if position == 0:
        return {}
    ratio, _ = corporate_actions(position, history_to(seed, position - 1).bars["close"][position - 1])
    return {TICKERS[j]: float(ratio[j]) for j in np.flatnonzero(ratio != 1)}


def intraday(
    base: np.ndarray, close: np.ndarray, volatility: np.ndarray, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Open, high, low and volume, as traded, of one session whose closes are known.

    The log price walks from `base`, the previous close corrected for the day's split and dividend, to the
    close as a Brownian bridge of the session's own variance, a quarter of it overnight. The maximum of a
    bridge from 0 to y with variance v is (y + sqrt(y² + 2·v·E)) / 2, E standard exponential; the minimum
    mirrors it. So ranges show the volatility that the closes were drawn with. Turnover grows with that
    volatility against its usual level, and with the size of the day's move.
    """
    gap_noise, turnover_noise = rng.standard_normal((2, COMPANIES))
    up_noise, down_noise = rng.standard_exponential((2, COMPANIES))
    open_price, high, low = bridge(base, close, volatility, gap=gap_noise, up=up_noise, down=down_noise)
    surprise = np.abs(np.log(close / base)) / volatility - 0.8  # 0.8 is what a normal move comes to on average
    turnover = TURNOVER * volatility / USUAL_VOLATILITY * np.exp(0.4 * surprise + 0.25 * turnover_noise)
    return open_price, high, low, np.maximum(np.round(turnover / close), 1.0)


def bridge(
    base: np.ndarray, close: np.ndarray, volatility: np.ndarray, *, gap: np.ndarray, up: np.ndarray, down: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Open, high and low of the bridge that `intraday` describes; `gap` standard normal, `up`, `down` exponential."""
    move = np.log(close / base)
    overnight = 0.25 * move + np.sqrt(0.25 * 0.75) * volatility * gap
    intraday_move, variance = move - overnight, 0.75 * volatility**2
    open_price = base * np.exp(overnight)
    high = open_price * np.exp((intraday_move + np.sqrt(intraday_move**2 + 2 * variance * up)) / 2)
    low = open_price * np.exp((intraday_move - np.sqrt(intraday_move**2 + 2 * variance * down)) / 2)
    # log and exp may lose the last bit, which would leave the close outside its own range
    return open_price, np.maximum(high, np.maximum(open_price, close)), np.minimum(low, np.minimum(open_price, close))


USUAL_VOLATILITY = total_volatility(State(*np.zeros((2, 1)), *np.zeros((2, COMPANIES))))


class History(NamedTuple):
    """Consecutive sessions of the market: the first axis of every array."""

    states: State  # at each close
    chances: np.ndarray  # at each close, that the next session is a reaction session
    bars: dict[str, np.ndarray]  # as traded; companies outside their listing included


def _birth(seed: int) -> State:
    """The state before the first session: a calm market, own volatilities drawn from their long run."""
    deviation = OWN_NOISE / np.sqrt(1 - OWN_MEMORY**2)
    own = np.random.default_rng([seed, _BIRTH, 0]).normal(0, deviation, COMPANIES)
    return State(np.zeros(1, bool), np.zeros(1), own.clip(*OWN_BOUNDS), np.zeros(COMPANIES))


@lru_cache(maxsize=64)  # of sixty years; several seeds do not add up
def _block(seed: int, k: int) -> History:
    """The sessions at positions 256·k to 256·k + 255, continuing where block k - 1 ended."""
    if k == 0:
        state, close = _birth(seed), FIRST_PRICE
    else:
        before = _block(seed, k - 1)
        state, close = State(*(field[-1] for field in before.states)), before.bars["close"][-1]
    states, bars = [], []
    positions = np.arange(k * _BLOCK, (k + 1) * _BLOCK)
    for i, reacts in zip(positions.tolist(), reactions(seed, positions), strict=True):
        rng = np.random.default_rng([seed, _SESSION, i])
        volatility = total_volatility(state, reacts)
        returns, state = step(state, draw_shocks(rng), reacts)
        ratio, dividend = corporate_actions(i, close)
        base = close / ratio - dividend
        close = close * (1 + returns) / ratio - dividend  # (close + dividend) · ratio / previous close = 1 + r
        open_price, high, low, volume = intraday(base, close, volatility, rng=rng)
        states.append(state)
        bars.append((open_price, high, low, close, volume, dividend, ratio))
    columns = "open", "high", "low", "close", "volume", "dividend", "split_ratio"
    arrays = map(np.stack, zip(*bars, strict=True))
    return History(
        State(*map(np.stack, zip(*states, strict=True))),
        chances(seed, positions),
        dict(zip(columns, arrays, strict=True)),
    )


@lru_cache(maxsize=2)
def _history(seed: int, blocks: int) -> History:
    """The first `blocks` blocks end to end."""
    parts = [_block(seed, k) for k in range(blocks)]
    return History(
        State(*map(np.concatenate, zip(*(part.states for part in parts), strict=True))),
        np.concatenate([part.chances for part in parts]),
        {name: np.concatenate([part.bars[name] for part in parts]) for name in parts[0].bars},
    )


def as_quoted(bars: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Traded bars the way a vendor shows them after the last one, with all their splits and dividends known.

    `later_splits` multiplies the ratios after the bar; `adj_close` also carries 1 - dividend / previous close
    for each later ex-date (Yahoo's and CRSP's rule, both amounts in the shares of the ex-date).
    """

    def product_of_later(factors: np.ndarray) -> np.ndarray:
        following = np.concatenate([factors[1:], np.ones((1, COMPANIES))])
        return np.cumprod(following[::-1], axis=0)[::-1]

    previous_close = np.concatenate([FIRST_PRICE[None], bars["close"][:-1]])
    later = product_of_later(bars["split_ratio"])
    kept_share = product_of_later(1 - bars["dividend"] * bars["split_ratio"] / previous_close)
    quoted_bars = {name: bars[name] / later for name in ("open", "high", "low", "close", "dividend")}
    adjusted_close = quoted_bars["close"] * kept_share
    previous = np.concatenate([np.full((1, COMPANIES), np.nan), adjusted_close[:-1]])
    first_bar = np.arange(len(later))[:, None] == LISTED
    return quoted_bars | {
        "adj_close": adjusted_close,
        "volume": bars["volume"] * later,
        "split_ratio": bars["split_ratio"],
        "later_splits": later,
        "previous_adj_close": np.where(first_bar, np.nan, previous),
    }


def history_to(seed: int, position: int) -> History:
    """The sessions from the first to that at `position` at least; the same `seed` gives the same ones."""
    return _history(seed, position // _BLOCK + 1)
