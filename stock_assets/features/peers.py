"""Which tickers move together: peers and common factors of each calendar quarter, from returns before it.

Peers are fixed within a quarter: a session computed alone has the same row as in a range, and a day costs no more
than two products of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from stock_assets.features.formulas import Feature
from stock_assets.features.panels import filled, places

#: Sessions before the quarter whose returns decide, or as many as there are.
WINDOW = 250
#: With fewer, every ticker is every other's peer.
SHORTEST = 60
#: Share of the window's sessions that a ticker must have traded on.
COVERAGE = 0.8
PEERS = 15
FACTORS = 12
#: Tickers whose correlations with all others are computed at once.
_ROWS = 512
#: Tickers whose peers are added up at once: what they read lies in the cache of a core.
_CACHED = 32
#: Groups of columns that `largest` makes, as a multiple of how many it looks for.
_GROUPS = 16

#: The volatilities that are compared with those of the peers.
VOLATILITIES = ("vol_total_1", "vol_total_5", "vol_total_22")
_PEERS_OF = "the ticker's peers (features.peers)"

#: The columns of `peer_columns`, in order.
FEATURES: dict[str, Feature] = {
    **{
        name: Feature(f"Mean {volatility} of {_PEERS_OF} minus its own; 0 if none", -4.0, 4.0, pl.col(name), "session")
        for name, volatility in zip(("peer_vol_1", "peer_vol_5", "peer_vol_22"), VOLATILITIES, strict=True)
    },
    "peer_return_gap": Feature(
        f"r minus the mean r of {_PEERS_OF}; 0 if none", -0.5, 0.5, pl.col("peer_return_gap"), "session"
    ),
    "factor_residual": Feature(
        f"r minus what {FACTORS} common factors of the standardised returns explain of it that day "
        "(Avellaneda & Lee 2010; features.peers); peer_return_gap where the ticker is new",
        -0.5,
        0.5,
        pl.col("factor_residual"),
        "session",
    ),
}


@dataclass(frozen=True)
class Comovement:
    """Peers and common factors of N tickers."""

    ranked: np.ndarray
    """bool [N]: has the peers of `nearest`; the peers of the others are all of `common`, itself apart"""
    nearest: np.ndarray
    """int64 [N, PEERS] places of the peers, of those that are `ranked`"""
    common: np.ndarray
    """bool [N]"""
    loadings: np.ndarray
    """float64 [N, k] orthonormal axes of the standardised returns; zero for a ticker that the window lacks"""
    scale: np.ndarray
    """float64 [N] standard deviation of the daily return; 1 where the window lacks the ticker"""

    @property
    def peers(self) -> np.ndarray:
        """bool [N, N]: column j is a peer of row i."""
        peers = np.tile(self.common, (len(self.common), 1))
        np.fill_diagonal(peers, False)
        peers[self.ranked] = False
        ranked = np.flatnonzero(self.ranked)[:, None]
        peers[ranked, self.nearest[self.ranked]] = True
        return peers

    def sums(self, values: np.ndarray) -> np.ndarray:
        """float64 [..., N]: `values` [..., N] of all peers of each ticker together."""
        by_ticker = np.ascontiguousarray(values.reshape(-1, len(self.common)).T)
        sums_of_peers = by_ticker[self.common].sum(axis=0) - np.where(self.common[:, None], by_ticker, 0.0)
        for part_of_tickers in np.split(np.flatnonzero(self.ranked), np.arange(_CACHED, self.ranked.sum(), _CACHED)):
            sums_of_peers[part_of_tickers] = by_ticker[self.nearest[part_of_tickers]].sum(axis=1)
        return sums_of_peers.T.reshape(values.shape)


def comovement(returns: np.ndarray) -> Comovement:
    """Peers and factors of `returns`, float64 [T, N] with NaN where a ticker did not trade.

    Factors are the first FACTORS principal components of the standardised returns (Avellaneda & Lee 2010,
    Statistical arbitrage in the US equities market); peers the PEERS tickers of the highest correlation of
    what the first factor, the market, leaves over. A ticker that traded on too few sessions is no peer of another,
    and all others are its peers.
    """
    sessions, tickers = returns.shape
    is_number = np.isfinite(returns)
    count = np.maximum(is_number.sum(axis=0), 1)
    filled_returns = np.where(is_number, returns, 0.0)
    mean = filled_returns.sum(axis=0) / count
    centred = np.where(is_number, returns - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    is_covered = (is_number.sum(axis=0) >= COVERAGE * sessions) & (deviation > 1e-6) & (sessions >= SHORTEST)
    common = is_covered if is_covered.any() else np.ones(tickers, bool)
    loadings, scale = np.zeros((tickers, FACTORS)), np.where(is_covered, deviation, 1.0)
    nearest = np.zeros((tickers, PEERS), np.int64)
    if is_covered.sum() <= max(PEERS, FACTORS):
        return Comovement(np.zeros(tickers, bool), nearest, common, loadings, scale)
    standard = centred[:, is_covered] / deviation[is_covered]  # [T, n]
    variances, scores = np.linalg.eigh(standard @ standard.T)
    variances, scores = variances[::-1][:FACTORS], scores[:, ::-1][:, :FACTORS]
    axes = standard.T @ scores / np.sqrt(np.maximum(variances, 1e-12))  # [n, k]
    residual = standard - (standard @ axes[:, :1]) @ axes[:, :1].T
    residual /= np.sqrt((residual**2).sum(axis=0)) + 1e-12
    loadings[is_covered] = axes
    nearest[is_covered] = np.flatnonzero(is_covered)[_nearest(residual.astype(np.float32))]  # enough to rank by
    return Comovement(is_covered, nearest, common, loadings, scale)


def _nearest(residual: np.ndarray) -> np.ndarray:
    """int64 [n, PEERS]: the columns of the highest correlation with each of `residual` [T, n], itself apart."""
    nearest = np.empty((residual.shape[1], PEERS), np.int64)
    for begin in range(0, len(nearest), _ROWS):  # the correlations of a whole market are as many as its square
        own = slice(begin, min(begin + _ROWS, len(nearest)))
        correlation = residual.T[own] @ residual
        correlation[np.arange(own.stop - begin), np.arange(begin, own.stop)] = -np.inf
        nearest[own] = largest(correlation, PEERS)
    return nearest


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """int64 [m, count]: the columns of the `count` largest of each row of `values` [m, n], n > count, the largest first
    and of equal ones the first.

    The columns are put into groups. As many groups as `count` have a largest value that is no less than the
    `count`-th of these, so that whatever is less is not among the largest: few of thousands are sorted.

    >>> largest(np.array([[1.0, 3.0, 2.0, 3.0]]), 2)
    array([[1, 3]])
    """
    rows, columns = values.shape
    size = max(1, columns // (_GROUPS * count))
    whole = columns // size * size
    tops = values[:, :whole].reshape(rows, size, -1).max(axis=1)
    at_least = np.partition(tops, -count, axis=1)[:, -count, None]
    row, column = np.nonzero(values >= at_least)
    begins = np.searchsorted(row, np.arange(rows))
    place = np.arange(len(row)) - begins[row]
    candidates, column_numbers = (
        np.full((rows, place.max() + 1), -np.inf, values.dtype),
        np.zeros((rows, place.max() + 1), int),
    )
    candidates[row, place], column_numbers[row, place] = values[row, column], column
    order = np.argsort(-candidates, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(column_numbers, order, axis=1)


class Returns(NamedTuple):
    """r of the trusted bars of N tickers."""

    days: pl.Series
    """the T sessions that have a bar, ascending"""
    tickers: pl.Series
    """ascending"""
    panel: np.ndarray
    """float64 [T, N], NaN where a bar is absent or suspect"""

    @classmethod
    def empty(cls, days: Sequence[date], tickers: Sequence[str], folder: Path | None = None) -> Self:
        """Without a bar; in a file of `folder` where it is one."""
        panel = filled((len(days), len(tickers)), np.nan, folder)
        return cls(pl.Series(days, dtype=pl.Date), pl.Series(tickers, dtype=pl.String), panel)

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Self:
        """All of `rows` (ticker, session, suspect, r)."""
        returns = cls.empty(rows["session"].unique().sort().to_list(), rows["ticker"].unique().sort().to_list())
        returns.add(rows)
        return returns

    def add(self, rows: pl.DataFrame) -> None:
        """Adds `rows` (ticker, session, suspect, r)."""
        trusted = rows.filter(pl.col("suspect").is_null())
        cell = self.days.search_sorted(trusted["session"]).to_numpy(), places(self.tickers, trusted["ticker"])
        self.panel[cell] = trusted["r"].fill_null(np.nan).to_numpy()


# by one thread: matrices of this size take several threads fifty times as long while others compute beside them
@threadpool_limits.wrap(limits=1, user_api="blas")
def peer_columns(rows: pl.DataFrame, returns: Returns) -> list[pl.Series]:
    """The columns of FEATURES, one value (f64) per row of `rows`, in its order.

    `rows` has ticker, session, suspect, r and VOLATILITIES; `returns` holds these rows and those of the WINDOW sessions
    before the first one's quarter (or all there are). A suspect row is left out of the means of its peers.
    """
    days, tickers, panel = returns
    columns = np.zeros((rows.height, len(FEATURES)))
    session, ticker = rows["session"].to_numpy(), places(tickers, rows["ticker"])
    trust = rows["suspect"].is_null().to_numpy()
    values = rows.select(*VOLATILITIES, "r").to_numpy()
    quarter = rows["session"].dt.truncate("1q")
    for begin in quarter.unique().sort():
        in_quarter = np.flatnonzero((quarter == begin).to_numpy())
        before = int(days.search_sorted(begin))
        comoving = comovement(panel[max(0, before - WINDOW) : before])
        own_days, day = np.unique(session[in_quarter], return_inverse=True)
        cell = day, ticker[in_quarter]
        clean = np.zeros((len(own_days), len(tickers)))
        clean[cell] = trust[in_quarter]
        grids = np.zeros((values.shape[1], *clean.shape))
        grids[:, *cell] = values[in_quarter].T * trust[in_quarter]
        number, own = comoving.sums(clean), values[in_quarter].T
        total = comoving.sums(grids)
        mean = np.divide(total, number, out=np.zeros_like(grids), where=number > 0)[:, *cell]
        gap = np.where(number[cell] > 0, mean - own, 0.0)  # [4, rows]
        common = (grids[-1] / comoving.scale) @ comoving.loadings @ comoving.loadings.T * comoving.scale
        residual = np.where(np.any(comoving.loadings, axis=1)[cell[1]], own[-1] - common[cell], -gap[-1])
        columns[in_quarter] = np.column_stack([*gap[:-1], -gap[-1], residual])
    return [pl.Series(name, columns[:, i]) for i, name in enumerate(FEATURES)]
