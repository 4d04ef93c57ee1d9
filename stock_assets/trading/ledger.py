"""One session of an account: the same arithmetic is the back-test, the simulated broker and the reconciliation.

The events of a session, in order: borrow and interest of the nights before it; the split, then the dividend per new
share, which a short pays; listings that ended; the fills at the open of the orders that were decided at the close
before; the mark at the close. `decide` then makes the orders of the next session. Nothing sees the open it trades at.

Arrays have the shape [..., N]: N tickers, and before them any number of accounts that are booked at once.
"""

from dataclasses import dataclass, replace

import numpy as np

from stock_assets.trading.books import Book
from stock_assets.trading.costs import borrow_rate, commission, half_spread, impact
from stock_assets.trading.panel import CAPPED, ENDED, FILLED, NO_OPEN, OUTSIDE, UNKNOWN_ENDING, Bars

DAYS_OF_A_YEAR = 360
"""interest and borrow are counted actual/360"""


@dataclass(frozen=True)
class Account:
    """What an account holds at a close."""

    cash: np.ndarray
    """float64 [...], in the listing's currency"""
    shares: np.ndarray
    """float64 [..., N], negative for a short"""
    marks: np.ndarray
    """float64 [..., N]: the last trusted close, after the splits since; NaN where none is held and none was today"""
    frozen: np.ndarray
    """int64 [..., N]: sessions before this one, in a row, in which the position had no trusted bar or no target"""

    @property
    def values(self) -> np.ndarray:
        """float64 [..., N]: the value of every position at its mark."""
        return np.where(self.shares == 0, 0.0, self.shares * self.marks)

    @property
    def equity(self) -> np.ndarray:
        """float64 [...]: cash and positions."""
        return self.cash + total(self.values)


@dataclass(frozen=True)
class Booked:
    """What one session did to an account: float64 [..., N] in the listing's currency, unless named otherwise.

    The change of its equity is the sum of price, dividend, ending and interest less that of the costs.
    """

    ordered: np.ndarray
    """shares, after the split"""
    filled: np.ndarray
    """shares"""
    fill_price: np.ndarray
    """the price of the fill, 0 where nothing was filled"""
    reason: np.ndarray
    """int8: index into `panel.REASONS`, of every order"""
    price: np.ndarray
    """gain of prices: of what was held since the close before, and of the fills since the open"""
    dividend: np.ndarray
    ending: np.ndarray
    """gain or loss of listings that ended"""
    spread: np.ndarray
    """cost"""
    impact: np.ndarray
    """cost"""
    commission: np.ndarray
    """cost, with the fees of sales"""
    borrow: np.ndarray
    """cost"""
    interest: np.ndarray
    """[...]: on cash, negative where it is owed"""


def total(values: np.ndarray) -> np.ndarray:
    """float64 [...]: the sum over the tickers. Of one account it is the same bit for bit whichever tickers that it does
    not hold stand between."""
    return np.asarray(values[values != 0].sum()) if values.ndim == 1 else values.sum(axis=-1)


def opened(capital: float | np.ndarray, tickers: int) -> Account:
    """Accounts of `capital` [...] in cash that may hold `tickers` tickers."""
    cash = np.asarray(capital, dtype=np.float64)
    nothing = np.zeros((*cash.shape, tickers))
    return Account(cash, nothing, np.full_like(nothing, np.nan), nothing.astype(np.int64))


def step(
    account: Account, orders: np.ndarray, bars: Bars, *, book: Book, spread_scale: float | np.ndarray | None = None
) -> tuple[Account, Booked]:
    """The account after the session of `bars`, and what the session did to it.

    `orders` are shares [..., N] that were decided at the close before, in shares of before a split of the session. The
    book gives the costs, whether shares are whole and which price fills. `spread_scale` [..., 1] stands for that of
    the book's costs where accounts that are booked at once have each their own.
    """
    costs = book.costs
    balance = account.cash
    rate = np.where(balance < 0, costs.debit, costs.credit)
    interest = balance * rate * bars.nights / DAYS_OF_A_YEAR
    short = np.maximum(-account.values, 0.0)
    borrow = short * borrow_rate(account.marks, bars.adv_before, costs) * bars.nights / DAYS_OF_A_YEAR

    shares, ordered = account.shares * bars.split_ratio, orders * bars.split_ratio
    marks = account.marks / bars.split_ratio
    paid_out = np.zeros_like(shares)
    if book.whole_shares:  # a fraction that a split leaves is paid out at the mark
        whole, ordered = _whole(shares), _whole(ordered)
        paid_out = np.where(shares == whole, 0.0, (shares - whole) * marks)
        shares = whole
    dividend = shares * bars.dividend

    is_ended = ~np.isnan(bars.ending)
    held = np.where(shares == 0, 0.0, shares * marks)
    ending = np.where(is_ended, held * np.where(bars.ending == UNKNOWN_ENDING, costs.ending, bars.ending), 0.0)
    paid_out = paid_out + np.where(is_ended, held + ending, 0.0)
    shares = np.where(is_ended, 0.0, shares)

    filled, reason = _filled(ordered, marks, bars, book=book, ended=is_ended)
    is_filled = filled != 0
    price = np.where(is_filled, bars.close if book.fill == "close" else bars.open, 0.0)
    value = np.abs(filled) * price
    scale = costs.spread_scale if spread_scale is None else spread_scale
    factor = scale * (1.0 if book.fill == "close" else costs.open_factor)
    spread = np.where(is_filled, value * half_spread(marks, bars.fifth_before, costs) * factor, 0.0)
    moved = value * impact(value, bars.adv_before, bars.volatility_before) * costs.impact
    fees = commission(filled, value, costs)

    after = shares + filled
    new_marks = np.where(bars.trusted, bars.close, np.where(after == 0, np.nan, marks))
    gain = np.where(shares == 0, 0.0, shares * (new_marks - marks))
    gain = gain + np.where(is_filled, filled * (new_marks - price), 0.0)
    cash = balance + interest + total(dividend + paid_out - borrow - filled * price - spread - moved - fees)
    booked = Booked(
        ordered, filled, price, reason, gain, dividend, ending, spread, moved, fees, borrow, np.asarray(interest)
    )
    return Account(cash, after, new_marks, np.where(after == 0, 0, account.frozen)), booked


def _whole(shares: np.ndarray) -> np.ndarray:
    """The whole shares of `shares`; a ratio such as 1/3 is rounded in its last digits."""
    return np.trunc(np.round(shares, 6))


def _filled(
    ordered: np.ndarray, marks: np.ndarray, bars: Bars, *, book: Book, ended: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(shares filled, index into REASONS) of every order; how much may be filled was known the evening before."""
    refusal = np.where(ended, ENDED, bars.refusal)
    if book.fill == "close":  # the open does not matter
        refusal = np.where((refusal == NO_OPEN) | (refusal == OUTSIDE), FILLED, refusal)
    most = book.costs.participation * np.nan_to_num(bars.adv_before) / np.where(marks > 0, marks, np.inf)
    allowed = np.where(refusal == FILLED, np.minimum(np.abs(ordered), most), 0.0)
    if book.whole_shares:
        allowed = np.trunc(allowed)
    capped = (refusal == FILLED) & (allowed < np.abs(ordered))
    return np.sign(ordered) * allowed, np.where(capped, CAPPED, refusal).astype(np.int8)


def decide(account: Account, weights: np.ndarray, bars: Bars, *, book: Book) -> tuple[Account, np.ndarray]:
    """(account, orders): the orders for the next session, in shares [..., N], that bring `account` to `weights`.

    `weights` are [..., N], of the equity at the close of `bars`; NaN holds what there is. Without a trusted bar nothing
    is ordered. The account comes back with the sessions counted that a position had no trusted bar or no target; after
    `Limits.frozen_sessions` of them it is sold at the next bar. An account without equity is closed.
    """
    untargeted = np.isnan(weights)
    frozen = np.where((account.shares != 0) & (untargeted | ~bars.trusted), account.frozen + 1, 0)
    forced = untargeted & (frozen > book.limits.frozen_sessions)
    orderable = bars.trusted & (~untargeted | forced)
    wanted = np.where(orderable & ~forced, weights, 0.0) * np.maximum(account.equity, 0.0)[..., None]
    target = wanted / np.where(orderable, bars.close, 1.0)
    target = np.trunc(target) if book.whole_shares else target
    return replace(account, frozen=frozen), np.where(orderable, target - account.shares, 0.0)
