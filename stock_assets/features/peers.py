"""Which tickers move together: peers and common factors of each calendar quarter, from returns before it.

Peers are fixed within a quarter: a session computed alone has the same row as in a range, and a day costs no more
than two products of matrices.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from stock_assets.features.formulas import Feature

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

    peers: np.ndarray
    """bool [N, N]: column j is a peer of row i"""
    loadings: np.ndarray
    """float64 [N, k] orthonormal axes of the standardised returns; zero for a ticker that the window lacks"""
    scale: np.ndarray
    """float64 [N] standard deviation of the daily return; 1 where the window lacks the ticker"""


def comovement(returns: np.ndarray) -> Comovement:
    """Peers and factors of `returns`, float64 [T, N] with NaN where a ticker did not trade.

    Factors are the first FACTORS principal components of the standardised returns (Avellaneda & Lee 2010,
    Statistical arbitrage in the US equities market); peers the PEERS tickers of the highest correlation of
    what the first factor, the market, leaves over. A ticker that traded on too few sessions is no peer of another,
    and all others are its peers.
    """
    sessions, tickers = returns.shape
    seen = np.isfinite(returns)
    count = np.maximum(seen.sum(axis=0), 1)
    filled = np.where(seen, returns, 0.0)
    mean = filled.sum(axis=0) / count
    centred = np.where(seen, returns - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    covered = (seen.sum(axis=0) >= COVERAGE * sessions) & (deviation > 1e-6) & (sessions >= SHORTEST)
    peers = np.tile(covered if covered.any() else np.ones(tickers, bool), (tickers, 1))
    np.fill_diagonal(peers, False)
    loadings, scale = np.zeros((tickers, FACTORS)), np.where(covered, deviation, 1.0)
    if covered.sum() <= max(PEERS, FACTORS):
        return Comovement(peers, loadings, scale)
    standard = centred[:, covered] / deviation[covered]  # [T, n]
    variances, scores = np.linalg.eigh(standard @ standard.T)
    variances, scores = variances[::-1][:FACTORS], scores[:, ::-1][:, :FACTORS]
    axes = standard.T @ scores / np.sqrt(np.maximum(variances, 1e-12))  # [n, k]
    residual = standard - (standard @ axes[:, :1]) @ axes[:, :1].T
    residual /= np.sqrt((residual**2).sum(axis=0)) + 1e-12
    loadings[covered] = axes
    is_peer = np.zeros((residual.shape[1], residual.shape[1]), bool)
    np.put_along_axis(is_peer, _nearest(residual.astype(np.float32)), True, axis=1)  # enough to rank by
    peers[np.ix_(covered, covered)] = is_peer
    return Comovement(peers, loadings, scale)


def _nearest(residual: np.ndarray) -> np.ndarray:
    """int64 [n, PEERS]: the columns of the highest correlation with each of `residual` [T, n], itself apart."""
    nearest = np.empty((residual.shape[1], PEERS), np.int64)
    for begin in range(0, len(nearest), _ROWS):  # the correlations of a whole market are as many as its square
        own = slice(begin, min(begin + _ROWS, len(nearest)))
        distance = -(residual.T[own] @ residual)
        distance[np.arange(own.stop - begin), np.arange(begin, own.stop)] = np.inf
        nearest[own] = np.argpartition(distance, PEERS, axis=1)[:, :PEERS]
    return nearest


def sum_of_peers(values: np.ndarray, peers: np.ndarray) -> np.ndarray:
    """float64 [..., N]: `values` [..., N] of all peers of each ticker together; `peers` as in `Comovement`.

    Most tickers have PEERS peers of thousands, so that no product with the whole matrix is made.
    """
    by_ticker = np.ascontiguousarray(values.reshape(-1, len(peers)).T)
    out, number = np.zeros_like(by_ticker), peers.sum(axis=1)
    few = np.flatnonzero(number == PEERS)
    if len(few):
        for nearest in np.nonzero(peers[few])[1].reshape(-1, PEERS).T:
            out[few] += by_ticker[nearest]
    others = number != PEERS
    if others.any():
        out[others] = peers[others].astype(np.float64) @ by_ticker
    return out.T.reshape(values.shape)


# by one thread: matrices of this size take several threads fifty times as long while others compute beside them
@threadpool_limits.wrap(limits=1, user_api="blas")
def peer_columns(rows: pl.DataFrame, returns: pl.DataFrame) -> list[pl.Series]:
    """The columns of FEATURES, one value (f64) per row of `rows`, in its order.

    `rows` has ticker, session, suspect, r and VOLATILITIES; `returns` ticker, session, suspect and r of these rows
    and of the WINDOW sessions before the first one's quarter (or all there are). A suspect row is left out of the
    means of its peers.
    """
    tickers, days = returns["ticker"].unique().sort(), returns["session"].unique().sort()
    trusted = returns.filter(pl.col("suspect").is_null())
    panel = np.full((len(days), len(tickers)), np.nan)
    panel[days.search_sorted(trusted["session"]).to_numpy(), tickers.search_sorted(trusted["ticker"]).to_numpy()] = (
        trusted["r"].fill_null(np.nan).to_numpy()
    )

    columns = np.zeros((rows.height, len(FEATURES)))
    session, ticker = rows["session"].to_numpy(), tickers.search_sorted(rows["ticker"]).to_numpy()
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
        number, own = sum_of_peers(clean, comoving.peers), values[in_quarter].T
        total = sum_of_peers(grids, comoving.peers)
        mean = np.divide(total, number, out=np.zeros_like(grids), where=number > 0)[:, *cell]
        gap = np.where(number[cell] > 0, mean - own, 0.0)  # [4, rows]
        common = (grids[-1] / comoving.scale) @ comoving.loadings @ comoving.loadings.T * comoving.scale
        residual = np.where(np.any(comoving.loadings, axis=1)[cell[1]], own[-1] - common[cell], -gap[-1])
        columns[in_quarter] = np.column_stack([*gap[:-1], -gap[-1], residual])
    return [pl.Series(name, columns[:, i]) for i, name in enumerate(FEATURES)]
