"""One session of an account: the same arithmetic is the back-test, the simulated broker and the reconciliation.

The events of a session, in order: borrow and interest of the nights before it; the split, then the dividend per new
share, which a short pays; listings that ended; the fills at the open of the orders that were decided at the close
before; the mark at the close. `decide` then makes the orders of the next session. Nothing sees the open it trades at.

Arrays have the shape [..., N]: N tickers, and before them any number of accounts that are booked at once.
"""

from dataclasses import dataclass

import numpy as np

from stock_assets.trading.books import Book, Costs
from stock_assets.trading.panel import UNKNOWN_ENDING, Bars

#: What became of an order, by `Bars.refusal`; the rest of an order that is not filled expires.
REASONS = ("filled", "no bar", "no open", "no volume", "open outside high and low", "suspect", "ended", "capped")
FILLED, NO_BAR, NO_OPEN, NO_VOLUME, OUTSIDE, SUSPECT, ENDED, CAPPED = range(len(REASONS))
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
    """float64 [..., N]: the last trusted close, after the splits since; NaN where there was none"""
    frozen: np.ndarray
    """int64 [..., N]: sessions in a row without a trusted bar or without a target"""

    @property
    def values(self) -> np.ndarray:
        """float64 [..., N]: the value of every position at its mark."""
        return np.where(self.shares == 0, 0.0, self.shares * np.where(np.isnan(self.marks), 0.0, self.marks))

    @property
    def equity(self) -> np.ndarray:
        """float64 [...]: cash and positions."""
        return self.cash + self.values.sum(axis=-1)


@dataclass(frozen=True)
class Booked:
    """What one session did to an account: float64 [..., N] in the listing's currency, unless named otherwise.

    The change of its equity is the sum of price, dividend, ending and interest less that of the costs.
    """

    ordered: np.ndarray
    """shares, after the split"""
    filled: np.ndarray
    """shares"""
    reason: np.ndarray
    """int8: index into REASONS, of every order"""
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


def opened(capital: float, tickers: int) -> Account:
    """An account of `capital` in cash that may hold `tickers` tickers."""
    nothing = np.zeros(tickers)
    return Account(np.asarray(float(capital)), nothing, np.full(tickers, np.nan), nothing.astype(np.int64))


def step(account: Account, orders: np.ndarray, bars: Bars, *, costs: Costs) -> tuple[Account, Booked]:
    """The account after the session of `bars`, and what the session did to it.

    `orders` are shares [..., N] that were decided at the close before, in shares of before a split of the session.
    """
    balance = account.cash
    owed = np.where(balance < 0, costs.debit, costs.credit)
    interest = balance * owed * bars.nights / DAYS_OF_A_YEAR
    rate = np.where(bars.hard_to_borrow_before, costs.borrow_hard, costs.borrow)
    borrow = np.maximum(-account.values, 0.0) * rate * bars.nights / DAYS_OF_A_YEAR

    shares, ordered = account.shares * bars.split_ratio, orders * bars.split_ratio
    marks = account.marks / bars.split_ratio
    dividend = shares * bars.dividend

    is_ended = ~np.isnan(bars.ending)
    returned = np.where(bars.ending == UNKNOWN_ENDING, costs.ending, bars.ending)
    held = np.where(shares == 0, 0.0, shares * np.where(np.isnan(marks), 0.0, marks))
    paid = np.where(is_ended, held * (1 + np.where(is_ended, returned, 0.0)), 0.0)
    ending = np.where(is_ended, paid - held, 0.0)
    shares = np.where(is_ended, 0.0, shares)

    filled, reason = _filled(ordered, marks, bars, costs=costs, ended=is_ended)
    is_filled = filled != 0
    price = np.where(is_filled, bars.open, 0.0)
    value = np.abs(filled) * price
    spread = value * np.where(is_filled, bars.half_spread_before, 0.0) * costs.open_factor * costs.spread_scale
    impact = value * costs.impact * _impact(value, bars)
    fees = np.where(is_filled, np.maximum(value * costs.commission, costs.commission_minimum), 0.0)
    fees = fees + np.where(filled < 0, value * costs.sale_fee, 0.0)

    new_marks = np.where(bars.trusted, bars.close, np.where(is_filled & np.isnan(marks), bars.open, marks))
    gain = np.where(shares == 0, 0.0, shares * (new_marks - marks))
    gain = gain + np.where(is_filled, filled * (new_marks - price), 0.0)
    cash = balance + interest + (dividend + paid - borrow - filled * price - spread - impact - fees).sum(axis=-1)
    after = Account(cash, shares + filled, new_marks, np.where(bars.trusted, 0, account.frozen + 1))
    return after, Booked(ordered, filled, reason, gain, dividend, ending, spread, impact, fees, borrow, interest)


def _filled(
    ordered: np.ndarray, marks: np.ndarray, bars: Bars, *, costs: Costs, ended: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(shares filled, index into REASONS) of every order; what may be filled follows from the evening before."""
    refusal = np.where(ended, ENDED, bars.refusal)
    most = costs.participation * np.nan_to_num(bars.adv_before) / np.where(marks > 0, marks, np.inf)
    allowed = np.where(refusal == FILLED, np.minimum(np.abs(ordered), most), 0.0)
    filled = np.sign(ordered) * allowed
    capped = (refusal == FILLED) & (np.abs(filled) < np.abs(ordered))
    return filled, np.where(capped, CAPPED, refusal).astype(np.int8)


def _impact(value: np.ndarray, bars: Bars) -> np.ndarray:
    """The square-root law, as a fraction of the price: volatility * sqrt(value / adv)."""
    adv = np.nan_to_num(bars.adv_before)
    return np.where(
        value > 0, np.nan_to_num(bars.volatility_before) * np.sqrt(value / np.where(adv > 0, adv, 1.0)), 0.0
    )


def decide(account: Account, weights: np.ndarray, bars: Bars, *, book: Book) -> np.ndarray:
    """float64 [..., N]: the orders for the next session, in shares, that bring `account` to `weights` of its equity.

    `weights` are [..., N]; NaN holds what there is. Without a trusted bar nothing is ordered. A position that was
    frozen for `Limits.frozen_sessions` is sold as soon as there is a bar.
    """
    forced = np.isnan(weights) & (account.frozen >= book.limits.frozen_sessions)
    weights = np.where(forced, 0.0, weights)
    orderable = bars.trusted & ~np.isnan(weights)
    close = np.where(orderable, bars.close, 1.0)
    target = np.where(orderable, weights, 0.0) * account.equity[..., None] / close
    target = np.trunc(target) if book.whole_shares else target
    return np.where(orderable, target - account.shares, 0.0)
