"""What is known of a ticker at a close: value traded, volatility, beta. Arrays [T, N] over sessions and tickers.

Every figure reads a window of sessions up to its own. Windows are summed as integers, which is exact in any order, so
that a figure is the same bit for bit wherever the array begins before the window. Below a day the rows are bars, and
`per_session` is how many of them a session has: windows are as long, and figures are those of a session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

ADV_SESSIONS, VOLATILITY_SESSIONS, BETA_SESSIONS = 20, 60, 250
FEWEST_FOR_VOLATILITY, FEWEST_FOR_BETA = 20, 60
FIFTHS = 5
#: Returns and their products are counted in parts of it: 1e-12 of the price, and 250 returns of 1,000 do not overflow.
_UNIT = 2.0**40


@dataclass(frozen=True)
class BarTimes:
    """What the T bars of a panel below a day are, and the E expected bars before them; they take the place of sessions,
    and the end of a bar (UTC) that of the session's date."""

    earlier: Sequence[datetime]
    """the ends of the E bars before the first one, ascending"""
    session: np.ndarray
    """datetime64[D] [E + T]: the session that each lies in"""
    opening: np.ndarray
    """bool [E + T]: whether the exchange was closed before it"""
    per_session: int
    """bars of an ordinary session"""
    beta_sessions: int = VOLATILITY_SESSIONS
    """sessions that a beta is of: those that are read"""

    @classmethod
    def of_days(cls, sessions: Sequence[date]) -> "BarTimes":
        """A day is the case of one bar a session, of which `sessions` has those before as well."""
        return cls((), np.array(sessions, "datetime64[D]"), np.ones(len(sessions), bool), 1, BETA_SESSIONS)

    @property
    def nights(self) -> np.ndarray:
        """int64 [E + T]: calendar days since the session of the bar before; 1 at the first one."""
        days = self.session.astype(np.int64)
        return np.diff(days, prepend=days[0] - 1)

    @property
    def beta_rows(self) -> int:
        """Bars that a beta is of."""
        return self.beta_sessions * self.per_session


def mean_of_members(returns: np.ndarray, member: np.ndarray) -> np.ndarray:
    """float64 [T]: the mean return of the members of the session before; NaN without one.

    `returns` is float64 [T, N], NaN where there is none; `member` is bool [T, N].
    """
    is_counted = np.concatenate([np.zeros((1, member.shape[1]), bool), member[:-1]]) & ~np.isnan(returns)
    return np.array(
        [
            row[is_counted_on_day].mean() if is_counted_on_day.any() else np.nan
            for row, is_counted_on_day in zip(returns, is_counted, strict=True)
        ]
    )


def adv_of(value: np.ndarray, per_session: int = 1) -> np.ndarray:
    """float32 [T, N]: the mean of the last 20 sessions of the value traded, float64 [T, N], 0 without a bar."""
    return (_windows(np.rint(value).astype(np.int64), ADV_SESSIONS * per_session) / ADV_SESSIONS).astype(np.float32)


def volatilities(returns: np.ndarray, per_session: int = 1) -> np.ndarray:
    """float32 [T, N]: the standard deviation (ddof 1) of the returns of the last 60 sessions; NaN below 20 of them.

    That of bars is multiplied by the root of their number in a session.
    """
    is_number, length = ~np.isnan(returns), VOLATILITY_SESSIONS * per_session
    number = _windows(is_number.astype(np.int64), length)
    values = np.where(is_number, returns, 0.0)
    mean, square = (_windows(_units(part), length) / _UNIT for part in (values, values**2))
    is_enough = number >= FEWEST_FOR_VOLATILITY
    number = np.where(is_enough, number, 2)
    variance = np.maximum(square - mean**2 / number, 0.0) / (number - 1)
    return np.where(is_enough, np.sqrt(variance * per_session), np.nan).astype(np.float32)


def betas(returns: np.ndarray, market: np.ndarray, window: int = BETA_SESSIONS) -> np.ndarray:
    """float32 [T, N]: the slope of the returns on those of the market, float64 [T], over the last `window` rows.

    NaN below 60 rows that have both.
    """
    pairs = ~np.isnan(returns) & ~np.isnan(market)[:, None]
    own, of_market = np.where(pairs, returns, 0.0), np.where(pairs, np.nan_to_num(market)[:, None], 0.0)
    number = _windows(pairs.astype(np.int64), window)
    products = own, of_market, own * of_market, of_market**2
    x, m, xm, mm = (_windows(_units(part), window) / _UNIT for part in products)
    is_enough = number >= FEWEST_FOR_BETA
    number = np.where(is_enough, number, 1)
    spread = mm - m * m / number
    is_enough &= spread > 0
    return np.where(is_enough, (xm - x * m / number) / np.where(is_enough, spread, 1.0), np.nan).astype(np.float32)


def fifths(adv: np.ndarray, member: np.ndarray) -> np.ndarray:
    """int8 [T, N]: the fifth of the members by `adv` that every ticker is in, 0 the least traded.

    Members without any value traded do not count; without members, all tickers are in the least traded fifth.
    """
    ranked = np.sort(np.where(member & (adv > 0), adv, np.float32(np.inf)), axis=1)
    number = np.isfinite(ranked).sum(axis=1)
    among = np.zeros(adv.shape, np.int8)
    for k in range(1, FIFTHS):
        cut = ranked[np.arange(len(adv)), np.minimum(number * k // FIFTHS, adv.shape[1] - 1)] if adv.size else number
        among += (adv >= np.where(number > 0, cut, np.inf)[:, None]).astype(np.int8)
    return among


def _units(values: np.ndarray) -> np.ndarray:
    """int64: `values` in parts of `_UNIT`."""
    return np.rint(values * _UNIT).astype(np.int64)


def _windows(values: np.ndarray, length: int) -> np.ndarray:
    """int64 [T, N]: the sum of the last `length` rows up to each row."""
    sums = np.cumsum(values, axis=0)
    sums[length:] -= sums[:-length].copy()
    return sums
