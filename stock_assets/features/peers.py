"""Which tickers move together: peers and common factors of each calendar quarter, from returns before it.

Fixed within a quarter, so that a session's row is the same however it is asked for, and a day costs no
more than two products of matrices.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

#: Sessions before the quarter that decide, or as many as there are.
WINDOW = 250
#: With fewer, every ticker is every other's peer.
SHORTEST = 60
#: Share of the window's sessions that a ticker must have traded on.
COVERAGE = 0.8
PEERS = 15
FACTORS = 12


#: The volatilities that are compared with those of the peers.
VOLATILITIES = ("vol_total_1", "vol_total_5", "vol_total_22")
#: The columns, in order.
NAMES: dict[str, str] = {
    name.replace(
        "vol_total", "peer_vol"
    ): f"Mean {name} of the ticker's peers (features.peers) minus its own; 0 if none"
    for name in VOLATILITIES
} | {
    "peer_return_gap": "r minus the mean r of the ticker's peers (features.peers); 0 if none",
    "factor_residual": f"r minus what {FACTORS} common factors of the standardised returns explain of it that day "
    "(Avellaneda & Lee 2010; features.peers); peer_return_gap where the ticker is new",
}


@dataclass(frozen=True)
class Comovement:
    """What the returns before a quarter say about its N tickers."""

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
    what the first factor, the market, leaves over. A ticker that traded on too few sessions is nobody's peer,
    and all others are its peers.
    """
    sessions, tickers = returns.shape
    seen = np.isfinite(returns)
    count = np.maximum(seen.sum(axis=0), 1)
    filled = np.where(seen, returns, 0.0)
    mean = filled.sum(axis=0) / count
    centred = np.where(seen, returns - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    known = (seen.sum(axis=0) >= COVERAGE * sessions) & (deviation > 1e-6) & (sessions >= SHORTEST)
    peers = np.tile(known if known.any() else np.ones(tickers, bool), (tickers, 1))
    np.fill_diagonal(peers, False)
    loadings, scale = np.zeros((tickers, FACTORS)), np.where(known, deviation, 1.0)
    if known.sum() <= max(PEERS, FACTORS):
        return Comovement(peers, loadings, scale)
    standard = centred[:, known] / deviation[known]  # [T, n]
    variances, scores = np.linalg.eigh(standard @ standard.T)
    variances, scores = variances[::-1][:FACTORS], scores[:, ::-1][:, :FACTORS]
    axes = standard.T @ scores / np.sqrt(np.maximum(variances, 1e-12))  # [n, k]
    loadings[known] = axes
    residual = standard - (standard @ axes[:, :1]) @ axes[:, :1].T
    residual /= np.sqrt((residual**2).sum(axis=0)) + 1e-12
    residual = residual.astype(np.float32)  # enough to rank by
    correlation = residual.T @ residual
    np.fill_diagonal(correlation, -np.inf)
    nearest = np.argpartition(-correlation, PEERS, axis=1)[:, :PEERS]
    among = np.zeros_like(correlation, bool)
    np.put_along_axis(among, nearest, True, axis=1)
    peers[np.ix_(known, known)] = among
    return Comovement(peers, loadings, scale)


def peer_columns(rows: pl.DataFrame, returns: pl.DataFrame) -> list[pl.Series]:
    """NAMES, one value (f64) per row of `rows`, in its order.

    `rows` has ticker, session, suspect, r and VOLATILITIES; `returns` ticker, session, suspect and r of these rows
    and of the WINDOW sessions before the first one's quarter (or all there are). Suspect rows are nobody's peer.
    """
    tickers, days = returns["ticker"].unique().sort(), returns["session"].unique().sort()
    trusted = returns.filter(pl.col("suspect").is_null())
    panel = np.full((len(days), len(tickers)), np.nan)
    panel[days.search_sorted(trusted["session"]).to_numpy(), tickers.search_sorted(trusted["ticker"]).to_numpy()] = (
        trusted["r"].fill_null(np.nan).to_numpy()
    )

    found = np.zeros((rows.height, len(NAMES)))
    session, ticker = rows["session"].to_numpy(), tickers.search_sorted(rows["ticker"]).to_numpy()
    trust = rows["suspect"].is_null().to_numpy()
    values = rows.select(*VOLATILITIES, "r").to_numpy()
    quarter = rows["session"].dt.truncate("1q")
    for begin in quarter.unique().sort():
        asked = np.flatnonzero((quarter == begin).to_numpy())
        before = int(days.search_sorted(begin))
        known = comovement(panel[max(0, before - WINDOW) : before])
        own_days, day = np.unique(session[asked], return_inverse=True)
        cell = day, ticker[asked]
        clean = np.zeros((len(own_days), len(tickers)))
        clean[cell] = trust[asked]
        grids = np.zeros((values.shape[1], *clean.shape))
        grids[:, *cell] = values[asked].T * trust[asked]
        peers = known.peers.T.astype(np.float64)
        number = clean @ peers
        own = values[asked].T
        mean = np.divide(grids @ peers, number, out=np.zeros_like(grids), where=number > 0)[:, *cell]
        gap = np.where(number[cell] > 0, mean - own, 0.0)  # [4, rows]
        common = (grids[-1] / known.scale) @ known.loadings @ known.loadings.T * known.scale
        residual = np.where(np.any(known.loadings, axis=1)[cell[1]], own[-1] - common[cell], -gap[-1])
        found[asked] = np.column_stack([*gap[:-1], -gap[-1], residual])
    return [pl.Series(name, found[:, i]) for i, name in enumerate(NAMES)]
