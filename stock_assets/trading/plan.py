"""The orders of an account for the next open, all of them, before the first is sent.

A plan is a pure function of target weights, the account and the closes: made twice, it is the same. Every order is a
market order for the opening auction, in whole shares, and there is at most one per ticker.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import polars as pl

from stock_assets.errors import TradingError
from stock_assets.trading.books import Book
from stock_assets.trading.broker.orders import client_order_id
from stock_assets.trading.broker.protocol import Order, Side
from stock_assets.trading.ledger import Account, decide
from stock_assets.trading.panel import Bars
from stock_assets.trading.tables import ORDERS

#: Decimals of a number of shares that are rounded away before whole shares are counted: splits leave such rests.
_NOISE = 6


@dataclass(frozen=True)
class PlannedOrder:
    """One order of a plan."""

    client_order_id: str
    ticker: str
    side: Side
    shares: int
    """above zero"""
    reference_price: float
    """the close that it was sized at"""
    weight: float
    """the target weight, as a fraction of the equity"""
    model_version: str

    @property
    def signed(self) -> int:
        """Shares, negative for a sale."""
        return self.shares if self.side == "buy" else -self.shares

    @property
    def value(self) -> float:
        """What is traded, in the listing's currency."""
        return self.shares * self.reference_price

    def order(self, session: date) -> Order:
        """As the broker gets it; `session` is the one at whose open it is filled."""
        return Order(self.client_order_id, self.ticker, self.side, Decimal(self.shares), session)


@dataclass(frozen=True)
class Plan:
    """All orders of a book that were decided at the close of a session."""

    book: str
    session: date
    fill_session: date
    orders: tuple[PlannedOrder, ...]
    """by ticker"""
    equity: float
    """that the orders were sized at"""
    settings: str
    """the digest of the book's configuration"""
    untraded: Mapping[str, str]
    """by ticker, why nothing is traded"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """by ticker of an order that is not sent, what changes its shares at the open"""

    @property
    def digest(self) -> str:
        """Two plans with one digest send the same orders for the same reasons."""
        rows = [
            (o.client_order_id, o.side, o.shares, o.weight, o.reference_price, o.model_version) for o in self.orders
        ]
        content = [self.book, str(self.session), str(self.fill_session), self.equity, self.settings, rows]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:16]

    def without(self, changes: Mapping[str, str]) -> "Plan":
        """The plan with no order of the tickers that `changes` names with what changes at the open.

        An order is in the shares of the evening. Whether a broker turns it over in a split, cancels it or fills it as
        it is, differs by split and broker, and new shares cannot be sold before they are booked.
        """
        orders = tuple(order for order in self.orders if order.ticker not in changes)
        left_out = {order.ticker: changes[order.ticker] for order in self.orders if order.ticker in changes}
        return replace(self, orders=orders, left_out=left_out)

    def frame(self, decided_at: datetime) -> pl.DataFrame:
        """The rows of the table `orders`."""
        rows = [
            (
                self.book,
                self.session,
                order.ticker,
                self.fill_session,
                order.client_order_id,
                order.side,
                float(order.shares),
                order.reference_price,
                order.weight,
                self.equity,
                order.model_version,
                self.digest,
                decided_at,
            )
            for order in self.orders
        ]
        return pl.DataFrame(rows, ORDERS.schema, orient="row")


def opening_orders(ordered_shares: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """float64 [..., N]: what of `ordered_shares` may be sent to an opening auction by an account that holds
    `shares`.

    Orders are in whole shares. A position that would change its sign is closed first and opened the evening after:
    a broker refuses two opposite orders of one ticker, and a short is another kind of sale.
    """
    after = shares + ordered_shares
    flips = shares * after < 0
    return np.trunc(np.round(np.where(flips, -shares, ordered_shares), _NOISE)) + 0.0


def decided(account: Account, weights: np.ndarray, bars: Bars, *, book: Book) -> tuple[Account, np.ndarray]:
    """`ledger.decide`, with orders [..., N] that may be sent: in whole shares and by the rules of `opening_orders`."""
    counted_account, orders = decide(account, weights, bars, book=book)
    return counted_account, opening_orders(orders, account.shares)


def make_plan(
    account: Account,
    targets: pl.DataFrame,
    bars: Bars,
    *,
    weights: np.ndarray,
    book: Book,
    tickers: Sequence[str],
    fill_session: date,
) -> Plan:
    """The plan that brings `account` to `weights` at the open of `fill_session`.

    `account`, `weights` (NaN holds what there is) and `bars`, the session of the decision, are over `tickers`;
    `targets` are the rows of `target_weights` of the book and the session. A ticker without a weight or without a
    trusted bar is not traded; it is held, and sold after `Limits.frozen_sessions` sessions.

    Raises TradingError for a session without targets, for a target of an unknown ticker, and for a volume below zero.

    >>> from stock_assets.trading.books import LONG_ONLY
    >>> one, nothing = np.ones(1), np.zeros(1)
    >>> bars = Bars(date(2026, 11, 27), 1, one * 99, one * 100, nothing, one, nothing, one > 0, one * np.nan, one * 1e9,
    ...             one * 0.02, one * 0)
    >>> rows = {"ticker": ["A"], "weight": [0.05], "model_version": ["v1"], "reason": [None], "settings": ["x"]}
    >>> account = Account(np.asarray(1e6), nothing, one * np.nan, nothing)
    >>> plan = make_plan(account, pl.DataFrame(rows), bars, weights=one * 0.05, book=LONG_ONLY, tickers=["A"],
    ...                  fill_session=date(2026, 11, 30))
    >>> [(order.client_order_id, order.side, order.shares) for order in plan.orders]
    [('sa-long_only-20261130-A-1', 'buy', 500)]
    """
    _require_orderable(targets, bars, book=book, tickers=tickers)
    rows = {row["ticker"]: row for row in targets.iter_rows(named=True)}
    _, ordered_shares = decided(account, weights, bars, book=book)
    orders = tuple(
        PlannedOrder(
            client_order_id(book.name, fill_session, tickers[i]),
            tickers[i],
            "buy" if ordered_shares[i] > 0 else "sell",
            int(abs(ordered_shares[i])),
            float(bars.close[i]),
            0.0 if np.isnan(weights[i]) else float(weights[i]),
            str(rows.get(tickers[i], {}).get("model_version") or ""),
        )
        for i in sorted(np.flatnonzero(ordered_shares).tolist(), key=lambda i: tickers[i])
    )
    untraded = {ticker: row["reason"] for ticker, row in sorted(rows.items()) if row["reason"] is not None}
    digests = targets["settings"].drop_nulls()
    settings = str(digests[0]) if len(digests) else ""
    return Plan(book.name, bars.session, fill_session, orders, float(account.equity), settings, untraded)


def _require_orderable(targets: pl.DataFrame, bars: Bars, *, book: Book, tickers: Sequence[str]) -> None:
    if targets.is_empty():
        raise TradingError(
            f"target_weights has no row of {book.name} of {bars.session}; expected one per ticker. Nothing is "
            "ordered: materialize predictions and target_weights of that session first"
        )
    if unknown := sorted({*targets["ticker"]} - {*tickers}):
        raise TradingError(
            f"target_weights of {bars.session} names {unknown[0]}, which has no bars; expected tickers of daily_bars. "
            "Nothing is ordered"
        )
    if negative := np.flatnonzero(np.nan_to_num(bars.adv_before) < 0).tolist():
        raise TradingError(
            f"{tickers[negative[0]]} traded {bars.adv_before[negative[0]]:,.0f} a session before {bars.session}; "
            "expected a volume of 0 or more. Nothing is ordered: correct the bars and make daily_bars again"
        )


def require_same(stored_plan: pl.DataFrame, plan: Plan) -> None:
    """Raises TradingError where `stored_plan`, the rows of `orders` of the plan's book and session, are of another
    plan."""
    digests = stored_plan["plan"].unique().to_list()
    if stored_plan.is_empty() or digests == [plan.digest]:
        return
    at = stored_plan["decided_at"].min()
    raise TradingError(
        f"{plan.book} has the plan {digests[0]} for {plan.session}, stored at {at:%Y-%m-%d %H:%M} UTC, and a second "
        f"one would be {plan.digest}; expected the same. Nothing is sent: the predictions, the bars or the account "
        "changed since. The next session has a plan of its own"
    )
