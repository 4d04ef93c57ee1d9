"""Which barrier is touched, given that one is: the geometry of the two barriers, and a direction score.

The barriers of a label lie at different distances, so a calm walk reaches the nearer one more often, and a wild one
hardly tells them apart. How much follows from the distances and the horizon alone: a driftless walk of `horizon`
steps with fat tails (Student's t with 5 degrees of freedom) has some probability to move, and some odds of up to down
first. Shares fall faster than they rise, and on a calm day a barrier is reached when volatility jumps, which it does
in falls (the leverage effect, Black 1976). So the walk takes the steps of real paths in units of the volatility that
was forecast of them (filtered historical simulation, Barone-Adesi et al. 1999), and of imaginary ones without that
effect. Nothing of it is fitted to labels, which say too little of it: a few years have few independent weeks.

The odds move with the day. Within a day they would rank the tickers by their volatility, which earns nothing: the
part of the day is shared out so that the expected label of a ticker without a direction is the same for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stock_assets.model.market_rows import row_parts

#: Degrees of freedom of a step: daily returns of shares have about so many.
TAIL = 5
#: Cells between the two barriers, and deviations of a step at which the walk is solved.
CELLS, DEVIATIONS = 200, 60
#: Scales at which real paths are tried, and the least share of them that has to touch either barrier.
SCALES, TOUCHED = 16, 0.005
#: Imaginary horizons with the odds of the walk of Student's t. So many: 97 real ones, those known at the end of 2012,
#: tell the odds on wild days less those on calm ones with a standard error of .04, and the effect on them is about .1.
IMAGINARY = 20
#: Largest share by which one side may lead the other for the day's sake.
MOST = 0.5


@dataclass(frozen=True)
class Walk:
    """P(move) of a driftless walk between two barriers, by its scale, against ln(P(up first) / P(down first)).

    >>> walk = walk_between(0.027, 0.022, 7)
    >>> [round(float(odds), 2) for odds in walk.odds(np.array([0.5, 0.8]))]
    [-0.26, -0.16]
    """

    move: np.ndarray
    """float64 [K], ascending"""
    up_to_down: np.ndarray
    """float64 [K]"""

    def odds(self, move: np.ndarray) -> np.ndarray:
        """float64 [N]: ln(P(up first) / P(down first)) of the walk whose P(move) is `move`, float64 [N]."""
        return np.interp(move, self.move, self.up_to_down)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"walk/move": self.move, "walk/odds": self.up_to_down}


def stored_walk(
    tensors: Mapping[str, np.ndarray], *, buy_threshold: float, sell_threshold: float, horizon: int
) -> Walk:
    """What `Walk.tensors` gave; of an artifact from before it held its own, `walk_between`."""
    if "walk/move" in tensors:
        return Walk(tensors["walk/move"], tensors["walk/odds"])
    return walk_between(buy_threshold, sell_threshold, horizon)


@lru_cache(maxsize=8)
def walk_between(buy_threshold: float, sell_threshold: float, steps: int) -> Walk:
    """The walk of `steps` steps between the returns (fractions, both positive) at which a label is buy or sell."""
    up, down = float(np.log1p(buy_threshold)), float(-np.log1p(-sell_threshold))
    # from a walk that hardly ever reaches a barrier to one whose every step is beyond both
    deviations = np.geomspace(0.1 * min(up, down), 3.0 * max(up, down), DEVIATIONS) / np.sqrt(max(steps, 1) / 7)
    chances = np.array([_first_touch(deviation, up, down, steps=max(steps, 1)) for deviation in deviations])
    move = chances.sum(axis=1)
    rises = np.append(True, np.diff(np.maximum.accumulate(move)) > 1e-12)
    return Walk(move[rises], np.log(chances[rises, 0] / chances[rises, 1]))


def walk_of_paths(steps: np.ndarray, horizons: float, *, buy_threshold: float, sell_threshold: float) -> Walk:
    """The walk that takes the `steps` of real paths, float64 [N, H]: log returns by the volatility forecast of them.

    Their mean is taken out step by step. `horizons` says how many of the paths do not overlap in time: IMAGINARY ones
    of `walk_between` stand beside so many. Where hardly a path reaches a barrier at any scale, it is `walk_between`.

    >>> rng = np.random.default_rng(0)
    >>> falls = 1.0 - rng.gamma(1.0, size=(20_000, 7))  # small rises and large falls
    >>> walk = walk_of_paths(falls, 1_000, buy_threshold=0.027, sell_threshold=0.022)
    >>> symmetric = walk_between(0.027, 0.022, 7)
    >>> bool(np.ptp(walk.odds(np.array([0.5, 0.8]))) > np.ptp(symmetric.odds(np.array([0.5, 0.8]))) + 0.1)
    True
    """
    symmetric = walk_between(buy_threshold, sell_threshold, steps.shape[1])
    up, down = float(np.log1p(buy_threshold)), float(-np.log1p(-sell_threshold))
    centred = steps - steps.mean(axis=0)
    deviation = float(centred.std()) * np.sqrt(steps.shape[1] / 7)
    if not deviation > 0:
        return symmetric
    scales = np.geomspace(0.2 * min(up, down), 2.0 * max(up, down), SCALES) / deviation
    chances = np.zeros((SCALES, 2))
    for part in row_parts(len(centred)):
        paths = np.cumsum(centred[part], axis=1)
        highest, lowest = np.maximum.accumulate(paths, axis=1), np.minimum.accumulate(paths, axis=1)
        for i, scale in enumerate(scales):  # the steps before a barrier is passed
            before_up = (highest <= up / scale).sum(axis=1)
            before_down = (lowest >= -down / scale).sum(axis=1)
            chances[i] += (before_up < before_down).sum(), (before_down < before_up).sum()
    chances /= len(centred)
    move = chances.sum(axis=1)
    is_estimated = (chances.min(axis=1) >= TOUCHED) & np.append(True, np.diff(move) > 0)
    if is_estimated.sum() < 2:
        return symmetric
    move, odds = move[is_estimated], np.log(chances[is_estimated, 0] / chances[is_estimated, 1])
    share = horizons / (horizons + IMAGINARY)
    return Walk(move, share * odds + (1 - share) * symmetric.odds(move))


def _first_touch(deviation: float, up: float, down: float, *, steps: int) -> tuple[float, float]:
    """(P(up first), P(down first)) of a walk from 0 whose steps have this standard deviation.

    The density between the barriers is carried from step to step on a grid of CELLS.
    """
    from scipy.special import stdtr

    scale, width = deviation * np.sqrt((TAIL - 2) / TAIL), (up + down) / CELLS
    at = -down + width * (np.arange(CELLS) + 0.5)
    kernel = np.diff(stdtr(TAIL, (np.arange(-CELLS, CELLS + 1) - 0.5) * width / scale))  # by cells moved, from -CELLS
    transitions = kernel[CELLS + np.arange(CELLS)[None, :] - np.arange(CELLS)[:, None]]
    reach_up, reach_down = stdtr(TAIL, (at - up) / scale), stdtr(TAIL, (-down - at) / scale)
    p_up, p_down = float(stdtr(TAIL, -up / scale)), float(stdtr(TAIL, -down / scale))
    density = np.diff(stdtr(TAIL, np.append(at - width / 2, at[-1] + width / 2) / scale))
    for _ in range(steps - 1):
        p_up, p_down = p_up + float(density @ reach_up), p_down + float(density @ reach_down)
        density = density @ transitions
    return p_up, p_down


def side_odds(move: np.ndarray, of_day: np.ndarray, day_odds: np.ndarray, *, tilt: np.ndarray) -> np.ndarray:
    """float64 [N]: ln(P(buy) / P(sell)) of rows with P(move) `move`.

    `of_day` is the mean of P(move) over the row's session and `day_odds` the odds at it; `tilt` is added. All are
    float64 [N].
    """
    lead = np.tanh(day_odds / 2) * of_day / np.maximum(move, 1e-6)
    return 2 * np.arctanh(np.clip(lead, -MOST, MOST)) + tilt
