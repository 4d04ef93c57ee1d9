"""One session of an account: the same arithmetic is the back-test, the simulated broker and the reconciliation.

The events of a session, in order: borrow and interest of the nights before it; the split, then the dividend per new
share, which a short pays; listings that ended; the fills at the open of the orders that were decided at the close
before; the mark at the close. `decide` then makes the orders of the next session. Nothing sees the open it trades at.

Arrays have the shape [..., N]: N tickers, and before them any number of accounts that are booked at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from stock_assets.errors import TradingError
from stock_assets.trading.books import Book
from stock_assets.trading.costs import borrow_rate, commission, half_spread, impact
from stock_assets.trading.panel import CAPPED, ENDED, FILLED, NO_OPEN, OUTSIDE, UNKNOWN_ENDING, Bars, Panel

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
    zeros = np.zeros((*cash.shape, tickers))
    return Account(cash, zeros, np.full_like(zeros, np.nan), zeros.astype(np.int64))


def step(
    account: Account, orders: np.ndarray, bars: Bars, *, book: Book, spread_scale: float | np.ndarray | None = None
) -> tuple[Account, Booked]:
    """The account after the session of `bars`, and what the session did to it.

    `orders` are shares [..., N] that were decided at the close before, in shares of before a split of the session. The
    book gives the costs, whether shares are whole and which price fills. `spread_scale` [..., 1] stands for that of
    the book's costs where accounts that are booked at once have each their own.
    """
    costs = book.costs
    balance, values = account.cash, account.values
    rate = np.where(balance < 0, costs.debit, costs.credit)
    interest = balance * rate * bars.nights / DAYS_OF_A_YEAR
    borrow = np.zeros_like(values)
    if (values < 0).any():
        short = np.maximum(-values, 0.0) * bars.nights / DAYS_OF_A_YEAR
        borrow = short * borrow_rate(account.marks, bars.adv_before, costs)

    shares, ordered, marks, paid_out = account.shares, orders, account.marks, 0.0
    if (bars.split_ratio != 1).any():
        shares, ordered, marks = shares * bars.split_ratio, ordered * bars.split_ratio, marks / bars.split_ratio
        if book.whole_shares:  # a fraction that a split leaves is paid out at the mark
            whole, ordered = _whole(shares), _whole(ordered)
            paid_out = np.where(shares == whole, 0.0, (shares - whole) * marks)
            shares = whole
    dividend = shares * bars.dividend
    is_ended, ending = ~np.isnan(bars.ending), np.zeros_like(values)
    if is_ended.any():
        held = np.where(is_ended & (shares != 0), shares * marks, 0.0)
        ending = held * np.where(bars.ending == UNKNOWN_ENDING, costs.ending, np.where(is_ended, bars.ending, 0.0))
        paid_out = paid_out + held + ending
        shares = np.where(is_ended, 0.0, shares)

    price = bars.close if book.fill == "close" else bars.open
    reference = np.where(marks > 0, marks, price)  # a ticker that the account has not seen has no mark
    filled, reason = _filled(ordered, reference, bars, book=book, ended=is_ended)
    is_filled = filled != 0
    price = np.where(is_filled, price, 0.0)
    paid = filled * price
    value = np.abs(paid)
    scale = costs.spread_scale if spread_scale is None else spread_scale
    factor = scale * (costs.open_factor if bars.opening and book.fill != "close" else 1.0)
    spread = np.where(is_filled, value * half_spread(reference, bars.fifth_before, costs) * factor, 0.0)
    moved = value * impact(value, bars.adv_before, bars.volatility_before) * costs.impact
    fees = commission(filled, value, costs)

    after = shares + filled
    is_held = after != 0
    new_marks = np.where(bars.trusted, bars.close, np.where(is_held, marks, np.nan))
    gain = np.where(shares == 0, 0.0, shares * (new_marks - marks))
    gain += np.where(is_filled, filled * (new_marks - price), 0.0)
    cash = balance + interest + total(dividend + paid_out - borrow - paid - spread - moved - fees)
    booked = Booked(
        ordered, filled, price, reason, gain, dividend, ending, spread, moved, fees, borrow, np.asarray(interest)
    )
    return Account(cash, after, new_marks, np.where(is_held, account.frozen, 0)), booked


def _whole(shares: np.ndarray) -> np.ndarray:
    """The whole shares of `shares`; a ratio such as 1/3 is rounded in its last digits."""
    return np.trunc(np.round(shares, 6))


def _filled(
    ordered: np.ndarray, price: np.ndarray, bars: Bars, *, book: Book, ended: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(shares filled, index into REASONS) of every order; how much may be filled was known the evening before."""
    refusal = np.where(ended, ENDED, bars.refusal)
    if book.fill == "close":  # the open does not matter
        refusal = np.where((refusal == NO_OPEN) | (refusal == OUTSIDE), FILLED, refusal)
    adv = np.where(bars.adv_before > 0, bars.adv_before, 0.0)
    most = book.costs.participation * adv / np.where(price > 0, price, np.inf)
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
    has_no_target = np.isnan(weights)
    frozen = np.where((account.shares != 0) & (has_no_target | ~bars.trusted), account.frozen + 1, 0)
    is_forced = has_no_target & (frozen > book.limits.frozen_sessions)
    orderable = bars.trusted & (~has_no_target | is_forced)
    target_value = np.where(orderable & ~is_forced, weights, 0.0) * np.maximum(account.equity, 0.0)[..., None]
    target = target_value / np.where(orderable, bars.close, 1.0)
    target = np.trunc(target) if book.whole_shares else target
    marks = np.where(bars.trusted, bars.close, account.marks)
    return replace(account, frozen=frozen, marks=marks), np.where(orderable, target - account.shares, 0.0)


@dataclass(frozen=True)
class Run:
    """What the sessions of a panel did to accounts of one book."""

    panel: Panel
    book: Book
    first: int
    """the position in the panel of the session of the first row"""
    totals: Mapping[str, np.ndarray]
    """float64 [sessions, ...]: the money columns, ratios and counts of the table equity, by name"""
    positions: Mapping[str, np.ndarray]
    """[rows]: t, ticker (positions in the panel) and the figures of the table positions; empty without details"""
    fills: Mapping[str, np.ndarray]
    """the same of the table fills"""
    account: Account
    """at the close of the last session, before its orders are decided"""
    orders: np.ndarray
    """float64 [..., N]: shares for the session after the last one"""


def run(
    panel: Panel,
    weights: np.ndarray,
    book: Book,
    *,
    account: Account | None = None,
    after: int = 0,
    details: bool = True,
    spread_scale: np.ndarray | None = None,
) -> Run:
    """Every session of `panel` after that at position `after`, booked to `account`, which stands at its close.

    Without an account, one is opened at that close with the capital of the book, and its session has the first row.
    `weights` are [T, ..., N]: the target of each close, NaN where a position is held as it is. With `second open` as
    the book's fill, a target is acted upon one close later. `details` keeps positions and fills, of one account alone.
    To book many accounts at once, give an account whose cash is [...], and weights and `spread_scale` ([..., 1]) that
    broadcast to it.

    Raises TradingError where the shapes do not fit or a weight is infinite.
    """
    number = len(panel.tickers)
    if weights.shape[0] != len(panel.sessions) or weights.shape[-1] != number or np.isinf(weights).any():
        raise TradingError(
            f"weights of the book {book.name}: found {weights.shape} with {np.isinf(weights).sum()} infinite ones, "
            f"expected finite ones of {len(panel.sessions)} sessions and {number} tickers"
        )
    is_new, first = account is None, after + (account is not None)
    account = opened(book.capital, number) if account is None else account
    rows = _Rows(panel, account, first=first, details=details and account.cash.ndim == 0)
    if is_new:
        rows.opening(account)
    delay = 1 if book.fill == "second open" else 0
    no_weights = np.full(number, np.nan)
    bars = panel.day(after)
    for t in range(after + 1, len(panel.sessions)):
        decided, orders = decide(account, weights[t - 1 - delay] if t > delay else no_weights, bars, book=book)
        bars = panel.day(t)
        at = np.flatnonzero(((decided.shares != 0) | (orders != 0)).reshape(-1, number).any(axis=0))
        before = _part(decided, at)
        booked_account, booked = step(before, orders[..., at], bars.of(at), book=book, spread_scale=spread_scale)
        rows.add(t, at, before, after=booked_account, booked=booked)
        account = _whole_account(booked_account, at, number)
    last = len(panel.sessions) - 1
    decided, orders = decide(account, weights[last - delay] if last >= delay else no_weights, bars, book=book)
    account = replace(decided, frozen=account.frozen)
    return Run(panel, book, first, rows.totals(), *rows.details(), account, orders)


def _part(account: Account, tickers: np.ndarray) -> Account:
    """The account with the tickers at the positions `tickers` alone."""
    return Account(account.cash, *(column[..., tickers] for column in (account.shares, account.marks, account.frozen)))


def _whole_account(part: Account, tickers: np.ndarray, number: int) -> Account:
    """The account of which `part` has the `tickers`, and which holds no other of its `number`."""
    shape = *part.cash.shape, number
    shares, marks, frozen = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape, np.int64)
    shares[..., tickers], marks[..., tickers], frozen[..., tickers] = part.shares, part.marks, part.frozen
    return Account(part.cash, shares, marks, frozen)


#: What a run keeps of every session, by the names of the table equity: first what is a sum over the tickers.
_COSTS = ("spread", "impact", "commission", "borrow")
_SUMS = (
    "price_gain",
    "dividend",
    "ending",
    *_COSTS,
    "turnover",
    "long",
    "short",
    "beta",
    "names",
    "ordered",
    "unfilled",
)
_TOTALS = (*_SUMS, "interest", "cash", "equity")
#: What it keeps of every position and of every order, by the names of the tables.
_POSITIONS = ("shares", "mark", "frozen", "price_gain", "dividend", "ending", "borrow")
_FILLS = ("ordered", "filled", "price", "spread", "impact", "commission", "reason")
#: Sessions are summed together, and kept or forgotten, when so many positions of accounts have come together.
_TOGETHER = 100_000


class _Rows:
    """What a run keeps. Sessions are put aside, and summed many at once: one after the other would take longer than
    to book them."""

    def __init__(self, panel: Panel, account: Account, *, first: int, details: bool) -> None:
        self._first, self._panel, self._keeps_details = first, panel, details
        sessions = max(len(panel.sessions) - first, 0)
        self._table = np.full((len(_TOTALS), *account.cash.shape, sessions), np.nan)
        self._opening = account.equity
        self._aside: list[tuple[int, np.ndarray, Account, Account, Booked]] = []
        self._positions: dict[str, list[np.ndarray]] = {name: [] for name in ("t", "ticker", *_POSITIONS)}
        self._fills: dict[str, list[np.ndarray]] = {name: [] for name in ("t", "ticker", *_FILLS)}
        self._size = 0

    def opening(self, account: Account) -> None:
        """Keeps the session at whose close the account was opened."""
        self._opening = np.full_like(self._opening, np.nan)  # it has no return
        self._table[..., 0] = 0.0
        self._table[_TOTALS.index("cash"), ..., 0] = self._table[_TOTALS.index("equity"), ..., 0] = account.cash

    def add(self, t: int, tickers: np.ndarray, before: Account, *, after: Account, booked: Booked) -> None:
        """Keeps what session t made of the account `before`, of the tickers at the positions `tickers` alone."""
        self._aside.append((t, tickers, before, after, booked))
        self._size += booked.filled.size
        if self._size > _TOGETHER:
            self._sum()

    def _sum(self) -> None:
        """Sums the sessions that were put aside."""
        rows_aside, self._aside, self._size = self._aside, [], 0
        if not rows_aside:
            return
        sessions, tickers, befores, afters, books = zip(*rows_aside, strict=True)
        lengths = np.array([len(at) for at in tickers])
        at, t = np.concatenate(tickers).astype(np.int32), np.repeat(np.array(sessions, np.int32), lengths)

        def together(objects: Sequence[object], name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in objects], axis=-1)

        columns = {field.name: together(books, field.name) for field in fields(Booked) if field.name != "interest"}
        columns |= {name: together(afters, name) for name in ("shares", "marks")}
        values = np.where(columns["shares"] == 0, 0.0, columns["shares"] * columns["marks"])
        betas = np.nan_to_num(self._panel.beta[t, at], nan=1.0)
        summands = {
            "price_gain": columns["price"],
            **{name: columns[name] for name in ("dividend", "ending", *_COSTS)},
            "turnover": np.abs(columns["filled"] * columns["fill_price"]),
            "long": np.maximum(values, 0.0),
            "short": np.maximum(-values, 0.0),
            "beta": values * betas,
            "names": (columns["shares"] != 0).astype(np.float64),
            "ordered": (columns["ordered"] != 0).astype(np.float64),
            "unfilled": (columns["filled"] != columns["ordered"]).astype(np.float64),
        }
        span = slice(sessions[0] - self._first, sessions[-1] - self._first + 1)
        starts = np.cumsum(lengths) - lengths
        for name, summand in summands.items():
            sums = np.zeros((*summand.shape[:-1], len(sessions)))
            sums[..., lengths > 0] = np.add.reduceat(summand, starts[lengths > 0], axis=-1) if len(at) else 0.0
            self._table[_TOTALS.index(name), ..., span] = sums
        others = [part.interest for part in books], [part.cash for part in afters], [part.equity for part in afters]
        for i, figures in enumerate(others, len(_SUMS)):
            self._table[i, ..., span] = np.stack(figures, axis=-1)
        if self._keeps_details:
            column_names = {"mark": "marks", "price_gain": "price"}
            columns |= {"frozen": together(afters, "frozen"), "t": t, "ticker": at}
            is_held = (together(befores, "shares") != 0) | (columns["shares"] != 0)
            for name, parts in self._positions.items():
                parts.append(columns[column_names.get(name, name)][is_held])
            is_sent = columns["ordered"] != 0
            for name, parts in self._fills.items():
                parts.append(columns["fill_price" if name == "price" else name][is_sent])

    def totals(self) -> dict[str, np.ndarray]:
        """float64 [sessions, ...]: the figures of the table equity, by name."""
        self._sum()
        totals = {name: np.moveaxis(column, -1, 0) for name, column in zip(_TOTALS, self._table, strict=True)}
        equity = totals["equity"]
        before = np.concatenate([np.broadcast_to(self._opening, (1, *equity.shape[1:])), equity[:-1]])[: len(equity)]
        change, costs = equity - before, sum(totals[name] for name in _COSTS)
        of_equity = {name: _over(totals[name], equity) for name in ("long", "short", "beta")}
        returns = {"net_return": _over(change, before), "gross_return": _over(change + costs, before)}
        return totals | of_equity | returns | {"turnover": _over(totals["turnover"], before)}

    def details(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(positions, fills): one array per column."""
        self._sum()
        return _columns(self._positions), _columns(self._fills)


def _columns(parts: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """The parts of every column end to end; they are given free one by one."""
    return {name: np.concatenate(parts.pop(name) or [np.empty(0)]) for name in list(parts)}


def _over(figure: np.ndarray, equity: np.ndarray) -> np.ndarray:
    """`figure` as a fraction of the equity; NaN where there is none."""
    return np.where(equity > 0, figure / np.where(equity > 0, equity, 1.0), np.nan)
