"""When the companies of the simulated market announce, and what of it is known at a close. Nothing in it is real.

Company j announces once a quarter of 63 sessions. Its k-th quarter is due at n = phase_j + 63·k; the phases fill 30
sessions of a quarter, so that the market has seasons. In every quarter, independently:

    f = n + J          the date as it is published first              J uniform on -3 … 3
    n - A              the close by which it is published             A uniform on 20 … 30
    f + D              the date after a move, which comes with        D uniform on -2, -1, 1, 2, 3, 5
                       a probability of 0.15, once at most
    f - L              the close by which the move is published       L uniform on 4 … 12

Every company also announces without notice, at a rate of 1/500 a session. Neither that, nor a quarter that is due then,
happens in the first 35 sessions of a listing. The first session whose close can show an announcement is its *reaction
session*; all positions here are of reaction sessions, counted in sessions of the calendar from 0. There the company's
own shock is larger (`simulated_laws`).

At a close the date of a quarter therefore has a distribution, from which `draw_reactions` draws. The last four sessions
before a date it is certain.
"""

from functools import cache, lru_cache
from typing import Literal, NamedTuple

import numpy as np

from stock_assets.market.sources.simulated_companies import COMPANIES, LISTED, PHASE

QUARTER = 63
JITTER, MOVES = np.arange(-3, 4), np.array([-2, -1, 1, 2, 3, 5])  # J, D
NOTICE, WARNING = np.arange(20, 31), np.arange(4, 13)  # A, L
MOVED, UNSCHEDULED = 0.15, 1 / 500
SETTLED = LISTED + 35  # from here on companies announce
MOMENTS, MOMENT_SHARES = ("pre", "during", "post"), (0.45, 0.05, 0.5)
NEVER = np.iinfo(int).max

#: What a forecaster goes by: the published dates, the past announcements alone, or only how frequent they are.
Dates = Literal["published", "past", "none"]

# streams beside those of simulated_laws
_SCHEDULE, ORACLE_SCHEDULE = 4, 5


class Quarter(NamedTuple):
    """One quarter of every company: [60] each, positions as integers; `sudden` is bool [63, 60]."""

    due: np.ndarray  # n
    first: np.ndarray  # f
    published: np.ndarray  # n - A
    final: np.ndarray  # f, or f + D
    moved: np.ndarray  # f - L; NEVER where the date stays
    moment: np.ndarray  # of MOMENTS
    minute: np.ndarray  # from 0 to 59, when within its moment
    sudden: np.ndarray  # whether the session at 63·k + row reacts to an announcement without notice


@lru_cache(maxsize=512)
def quarter(seed: int, k: int) -> Quarter:
    """The quarter `k`, from 0, of the market of `seed`."""
    rng = np.random.default_rng([seed, _SCHEDULE, k])
    due_position = PHASE + QUARTER * k
    first, published_at = due_position + rng.choice(JITTER, COMPANIES), due_position - rng.choice(NOTICE, COMPANIES)
    moves = rng.random(COMPANIES) < MOVED
    final = first + np.where(moves, rng.choice(MOVES, COMPANIES), 0)
    moved_at = np.where(moves, first - rng.choice(WARNING, COMPANIES), NEVER)
    moment = rng.choice(len(MOMENTS), COMPANIES, p=MOMENT_SHARES)
    minute, sudden = rng.integers(0, 60, COMPANIES), rng.random((QUARTER, COMPANIES)) < UNSCHEDULED
    return Quarter(due_position, first, published_at, final, moved_at, moment, minute, sudden)


def quarters(first: int, last: int) -> range:
    """The quarters that have a date, or the publication of one, from position `first` to `last`."""
    earliest_offset, latest_offset = PHASE.min() - NOTICE.max(), PHASE.max() + JITTER.max() + MOVES.max()
    return range(max(0, (first - int(latest_offset)) // QUARTER), max(0, (last - int(earliest_offset)) // QUARTER + 1))


def scheduled(seed: int, positions: np.ndarray) -> np.ndarray:
    """Bool [T, 60]: whether the session is the reaction session of a quarter, which is known at the close before it."""
    at = np.asarray(positions, int)[:, None]
    if not at.size:
        return np.zeros((0, COMPANIES), bool)
    quarters_near = [quarter(seed, k) for k in quarters(int(at.min()), int(at.max()))]
    return np.any([(at == q.final) & (q.due >= SETTLED) for q in quarters_near], axis=0) & (at >= 0)


def reactions(seed: int, positions: np.ndarray) -> np.ndarray:
    """Bool [T, 60]: whether the session at each of `positions` is a reaction session of each company."""
    at = np.asarray(positions, int)
    sudden = [quarter(seed, p // QUARTER).sudden[p % QUARTER] & (p >= SETTLED) for p in at.tolist()]
    return scheduled(seed, at) | np.array(sudden, bool).reshape(-1, COMPANIES)


def chances(seed: int, positions: np.ndarray) -> np.ndarray:
    """Float64 [T, 60]: how probable it is, at the close at each of `positions`, that the next session is one."""
    following = np.asarray(positions, int) + 1
    unscheduled = np.where(following[:, None] >= SETTLED, UNSCHEDULED, 0.0)
    return np.where(scheduled(seed, following), 1.0, unscheduled)


def draw_reactions(
    rng: np.random.Generator, position: int, *, seed: int, horizon: int, paths: int, dates: Dates = "published"
) -> np.ndarray:
    """Bool [horizon, paths, 60]: which of the next sessions react, in worlds that agree in what is known at `position`.

    The worlds are as probable as what `dates` names makes them.
    """
    ahead = position + np.arange(1, horizon + 1)[:, None, None]
    rate = UNSCHEDULED + (1 / QUARTER if dates == "none" else 0)
    reacts = (rng.random((horizon, paths, COMPANIES)) < rate) & (ahead >= SETTLED)
    if dates != "none":
        draw = _by_publication if dates == "published" else _by_the_past
        for k in quarters(position, position + horizon):
            q = quarter(seed, k)
            reacts |= (ahead == draw(rng, q, position=position, paths=paths)) & (q.due >= SETTLED)
    return reacts


def _by_publication(rng: np.random.Generator, q: Quarter, *, position: int, paths: int) -> np.ndarray:
    """Dates [paths, 60] of a quarter given what is published by the close at `position`."""
    shape = paths, COMPANIES
    first = np.where(q.published > position, q.due + rng.choice(JITTER, shape), q.first)
    # the share of the warnings L that would come after this close, and Bayes' rule: none has come so far
    later = ((first - position)[..., None] > WARNING).mean(axis=-1)
    moves = rng.random(shape) < MOVED * later / (1 - MOVED * (1 - later))
    return np.where(q.moved <= position, q.final, first + np.where(moves, rng.choice(MOVES, shape), 0))


def _by_the_past(rng: np.random.Generator, q: Quarter, *, position: int, paths: int) -> np.ndarray:
    """The same given whether the quarter's announcement has happened by the close at `position`, and nothing else."""
    offsets, shares = _offsets()
    remaining_shares = np.where(q.due[:, None] + offsets > position, shares, 0.0)
    cumulated_shares = remaining_shares.cumsum(axis=1)  # [60, offsets]
    draws = rng.random((paths, COMPANIES)) * cumulated_shares[:, -1]
    drawn_positions = q.due + offsets[np.minimum((draws[..., None] >= cumulated_shares).sum(axis=-1), len(offsets) - 1)]
    return np.where(q.final <= position, q.final, drawn_positions)


@cache
def _offsets() -> tuple[np.ndarray, np.ndarray]:
    """The sessions that a reaction session can lie after its quarter is due, and how probable each is."""
    stays, goes = JITTER, (JITTER[:, None] + MOVES).ravel()
    offsets = np.unique([*stays, *goes])
    counts = [(values[:, None] == offsets).mean(axis=0) for values in (stays, goes)]
    return offsets, (1 - MOVED) * counts[0] + MOVED * counts[1]
