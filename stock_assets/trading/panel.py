"""The bars of a market as the ledger reads them: one `Bars` per session, arrays over the tickers of a `Panel`."""

from dataclasses import dataclass
from datetime import date

import numpy as np


@dataclass(frozen=True)
class Bars:
    """One session of the N tickers of a panel: float64 [N] in the listing's currency as traded, unless named otherwise.

    Those called `…_before` were known at the close before the session.
    """

    session: date
    nights: int
    """calendar days since the session before"""
    open: np.ndarray
    """NaN without a bar"""
    close: np.ndarray
    """NaN without a bar"""
    dividend: np.ndarray
    """per share of after the split; 0 on ordinary days"""
    split_ratio: np.ndarray
    """new shares per old one; 1 on ordinary days"""
    refusal: np.ndarray
    """int8 [N]: why no order is filled at the open, an index into `ledger.REASONS`; 0 where it is"""
    trusted: np.ndarray
    """bool [N]: there is a bar, and it is not suspect"""
    ending: np.ndarray
    """the return of a listing that ended, booked on this session; NaN where none did, and `UNKNOWN_ENDING` where it is
    unknown"""
    adv_before: np.ndarray
    """the mean value traded in the last 20 sessions"""
    volatility_before: np.ndarray
    """standard deviation of the daily total return over the last 60 sessions, as a fraction"""
    half_spread_before: np.ndarray
    """as a fraction of the price, of the day, before `open_factor` and `spread_scale`"""
    hard_to_borrow_before: np.ndarray
    """bool [N]"""


#: `Bars.ending` of a listing whose return is unknown: `Costs.ending` stands for it.
UNKNOWN_ENDING = np.inf
