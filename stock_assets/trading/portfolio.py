"""From the scores of a session to what a book wants to hold: pure arrays over N tickers, ascending by name.

A session's own target is made of its scores alone; the target is the mean of the own targets of the last K sessions
(K overlapping sleeves, Jegadeesh & Titman 1993). NaN holds what there is. Sums run over the tickers that count, in
their order, so that tickers without a score change no bit of a target.
"""

from dataclasses import dataclass

import numpy as np

from stock_assets.trading.books import Book, Limits

#: Why a ticker is held as it is, in the order in which one is named; index 0 is a ticker that is traded.
HOLDS = ("", "no bar", "suspect", "no prediction", "too few names")
TRADED, NO_BAR, SUSPECT, NO_PREDICTION, TOO_FEW = range(len(HOLDS))
#: The numbers of sleeves that are tried where a book names none, and the one of the first year, which has no year
#: before it: the default horizon of the labels.
SLEEVES, FIRST_SLEEVES = (1, 3, 7, 14), 7
#: Of a long-only book: one of so many tickers is held.
PART = 10
#: Of a ticker with too few returns.
USUAL_BETA = 1.0
#: Times that a long-short target is capped and made neutral again.
PASSES = 2
#: Sessions of the exponential mean of squared returns, the returns that it reads, and the fewest that it needs.
VOLATILITY_SPAN, VOLATILITY_WINDOW, FEWEST_RETURNS = 60, 300, 20
SESSIONS_OF_A_YEAR = 252


@dataclass(frozen=True)
class Evening:
    """What is there of N tickers after a close: float64 [N] in the listing's currency, unless named otherwise."""

    score: np.ndarray
    """NaN without a prediction"""
    close: np.ndarray
    """NaN without a bar"""
    trusted: np.ndarray
    """bool [N]: there is a bar, and it is not suspect"""
    adv: np.ndarray
    """the mean value traded in the last 20 sessions, that of the close included"""
    beta: np.ndarray
    """to the market over the last 250 sessions; NaN with too few"""
    sector: np.ndarray
    """int [N]: 0 and above"""


@dataclass(frozen=True)
class Target:
    """What one session alone asks for."""

    own: np.ndarray
    """float64 [N]: fractions of equity; NaN holds what there is"""
    reason: np.ndarray
    """int8 [N]: index into HOLDS"""
    eligible: int
    """tickers with a score, a trusted bar, and a price and a traded value above the limits"""


def own_target(evening: Evening, book: Book) -> Target:
    """The target of the session of `evening` alone.

    A ticker below the lowest price or traded value gets 0, one that cannot be judged NaN. With fewer eligible tickers
    than `Limits.fewest_names`, or a long-short target of fewer names, everything is held.

    >>> flat = np.full(4, 100.0)
    >>> bars = Evening(np.array([0.3, 0.1, 0.2, np.nan]), flat, flat > 0, flat * 1e6, flat / 100, np.zeros(4, np.int64))
    >>> one_of_three = Book("one", "long_only", limits=Limits(position=1.0, gross=1.0, fewest_names=1))
    >>> own_target(bars, one_of_three).own
    array([ 1.,  0.,  0., nan])
    """
    limits = book.limits
    has_bar = ~np.isnan(evening.close)
    reasons_to_hold = [~has_bar, ~evening.trusted, np.isnan(evening.score)]
    reason = np.select(reasons_to_hold, [NO_BAR, SUSPECT, NO_PREDICTION], TRADED).astype(np.int8)
    is_judged = reason == TRADED
    liquid = (evening.close >= limits.lowest_price) & (evening.adv >= limits.lowest_adv)
    eligible = np.flatnonzero(is_judged & liquid)
    own = np.where(is_judged, 0.0, np.nan)
    if len(eligible):
        score = evening.score[eligible]
        if book.kind == "long_only":
            own[eligible] = _top(score, limits)
        elif book.kind == "by_sign":
            own[eligible] = np.sign(score) * _equal_part(evening, len(eligible), limits)
        else:
            beta = np.where(np.isnan(evening.beta), USUAL_BETA, evening.beta)[eligible].astype(np.float64)
            own[eligible] = _neutral(score, evening.sector[eligible], beta, limits=limits)
    names = np.count_nonzero(own[eligible])
    flat_scores = names == 0 and len(eligible) >= limits.fewest_names  # no score differs: nothing is wanted
    if len(eligible) < limits.fewest_names or (names < limits.fewest_names and not flat_scores):
        own, reason = np.full_like(own, np.nan), np.where(is_judged, TOO_FEW, reason).astype(np.int8)
    return Target(own, reason, len(eligible))


def _top(score: np.ndarray, limits: Limits) -> np.ndarray:
    """Equal weights of the top tenth by score, `fewest_names` at least; scores that tie at the edge share its places.

    So neither the order of the tickers nor a model with one score for all of them picks names by chance.
    """
    places = min(max(-(-len(score) // PART), limits.fewest_names), len(score))
    edge = np.sort(score)[-places]
    above, at_edge = score > edge, score == edge
    share = (places - np.count_nonzero(above)) / np.count_nonzero(at_edge)
    weight = min(limits.gross / places, limits.position)
    return np.where(above, weight, np.where(at_edge, weight * share, 0.0))


def _equal_part(evening: Evening, eligible: int, limits: Limits) -> float:
    """The part of each ticker that is traded, also of one without a bar or a prediction now: it may be held."""
    traded = np.count_nonzero((evening.adv > 0) & (evening.adv >= limits.lowest_adv))
    return min(limits.gross / max(traded, eligible), limits.position)


def _neutral(score: np.ndarray, sector: np.ndarray, beta: np.ndarray, *, limits: Limits) -> np.ndarray:
    """Ranks without what sectors and beta explain, at the gross, capped, and both once more.

    The last step scales all weights alike, so that they stay neutral and within every limit.
    """
    weights = residual(_ranks(score), sector, beta)
    for _ in range(PASSES):
        weights = np.clip(_at_gross(weights, limits.gross), -limits.position, limits.position)
        weights = residual(weights, sector, beta)
    if not weights.any():
        return weights
    net = np.abs(np.bincount(sector, weights)).max()
    excess = (np.abs(weights).max() / limits.position, _sum(np.abs(weights)) / limits.gross)
    scale = max(1.0, *excess, net / limits.sector_net if limits.sector_net > 0 else 0.0)
    return weights / scale


def residual(values: np.ndarray, sector: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """float64 [M]: what least squares on a constant per sector and on `beta` leaves of `values` [M].

    e = s - X (X'X)⁻¹ X's, in two steps: deviations from the means of the sectors, then from their line on those of
    beta (Frisch & Waugh 1933). What is left of rounding is 0, such as the only name of a sector.
    """
    deviation, slope = _within_sector(values, sector), _within_sector(beta, sector)
    square = _sum(slope * slope)
    if square > 1e-12 * len(slope):
        deviation = deviation - slope * (_sum(slope * deviation) / square)
    noise = 1e-12 * max(float(np.abs(values).max(initial=0.0)), 1e-300)
    return np.where(np.abs(deviation) < noise, 0.0, deviation)


def _within_sector(values: np.ndarray, sector: np.ndarray) -> np.ndarray:
    means = np.bincount(sector, values) / np.maximum(np.bincount(sector), 1)
    return values - means[sector]


def _ranks(score: np.ndarray) -> np.ndarray:
    """The ranks of the scores, ties at their mean, from -1 to 1."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = last - (counts - 1) / 2
    return (2 * mean[place] - len(score) - 1) / max(len(score) - 1, 1)


def _at_gross(weights: np.ndarray, gross: float) -> np.ndarray:
    gross_now = _sum(np.abs(weights))
    return weights * (gross / gross_now) if gross_now > 0 else weights


def _sum(values: np.ndarray) -> float:
    """The sum from the first to the last: numpy's own depends on the place of a value among the others."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def sleeved(own: np.ndarray, sleeves: int) -> np.ndarray:
    """float64 [T, N]: the mean of the last `sleeves` own targets [T, N] at each of T sessions.

    Sessions before the first ask for nothing, so that a book builds up over `sleeves` sessions; so does a session that
    held a ticker. Where the newest session holds, the target does. A mean of targets within limits is within them.

    >>> sleeved(np.array([[0.2], [0.4], [np.nan]]), 2)
    array([[0.1],
           [0.3],
           [nan]])
    """
    own_targets = np.nan_to_num(own)
    total = np.zeros_like(own_targets)
    for back in range(min(sleeves, len(own))):
        total[back:] += own_targets[: len(own) - back]
    return np.where(np.isnan(own), np.nan, total / sleeves)


def best_sleeves(net_returns: np.ndarray) -> int:
    """The number of SLEEVES with the highest mean net return a session; `net_returns` are [T, len(SLEEVES)] of the
    years before. FIRST_SLEEVES without a session.

    >>> best_sleeves(np.array([[0.01, 0.02, 0.0, 0.0]])), best_sleeves(np.empty((0, 4)))
    (3, 7)
    """
    return SLEEVES[int(np.argmax(net_returns.mean(axis=0)))] if len(net_returns) else FIRST_SLEEVES


def volatility_scale(net_returns: np.ndarray, target: float | None) -> float:
    """What the weights are multiplied by, at most 1, to bring a book to the volatility `target` of a year.

    `net_returns` [T] are those of the unscaled book through the session, the newest last; their exponential mean square
    has a span of VOLATILITY_SPAN sessions. 1 without a target, or with fewer than FEWEST_RETURNS returns.

    >>> volatility_scale(np.full(100, 0.02), 0.1) < 0.4 < volatility_scale(np.full(100, 0.001), 0.1)
    True
    """
    recent = net_returns[-VOLATILITY_WINDOW:]
    if target is None or len(recent) < FEWEST_RETURNS:
        return 1.0
    decay = (VOLATILITY_SPAN - 1) / (VOLATILITY_SPAN + 1)
    weights = decay ** np.arange(len(recent) - 1, -1, -1)
    variance = _sum(weights * recent**2) / _sum(weights)
    return float(min(1.0, target / np.sqrt(variance * SESSIONS_OF_A_YEAR))) if variance > 0 else 1.0
