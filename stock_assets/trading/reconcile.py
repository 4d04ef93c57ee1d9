"""The broker's account against the ledger: what differs is a break, and what explains the rest is counted by cause.

The account is carried by the ledger's own step: the fills that the broker showed are booked at the ledger's prices, and
what the broker booked otherwise is a cause. So paper equity less that of the back-test is a sum of causes and 0.00.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import polars as pl

from stock_assets.trading.books import Book
from stock_assets.trading.broker.protocol import Activity, BrokerAccount, CorporateAction, Holding, OrderState
from stock_assets.trading.ledger import Account, Booked, opened, step, total
from stock_assets.trading.panel import Panel
from stock_assets.trading.plan import decided
from stock_assets.trading.tables import BREAKS

#: Differences from these on are breaks: a cent, rounded, and a share's fraction.
CENT, SHARE = 0.005, 1e-6
#: Activities by what they are about; those of no kind named here move cash that no trade of ours explains.
FILL, EVENTS = "FILL", ("DIV", "SPLIT", "REORG", "SPIN", "MA", "NC")
COSTS = ("FEE", "INT", "CFEE", "PTC")


@dataclass(frozen=True)
class Shown:
    """What the broker showed at one moment."""

    account: BrokerAccount
    holdings: Sequence[Holding]
    orders: Sequence[OrderState]
    """since the record before"""
    activities: Sequence[Activity]
    """since the record before"""
    seen_at: datetime
    actions: Sequence[CorporateAction] = ()
    """announced since the record before, and for the next open"""


@dataclass(frozen=True)
class Sent:
    """An order of ours that the broker had accepted."""

    ticker: str
    session: date
    """at whose open it is filled"""


@dataclass(frozen=True)
class Causes:
    """Why the account is worth more than the back-test of the same sessions, in the listing's currency."""

    price: float = 0.0
    quantity: float = 0.0
    cost: float = 0.0
    event: float = 0.0
    revision: float = 0.0

    @property
    def total(self) -> float:
        return self.price + self.quantity + self.cost + self.event + self.revision

    def plus(self, **amounts: float) -> "Causes":
        return replace(self, **{name: getattr(self, name) + value for name, value in amounts.items()})


@dataclass(frozen=True)
class Record:
    """The account as it was reconciled at the close of a session, over the tickers of a panel."""

    session: date
    account: Account
    backtest_equity: float
    """as it was then"""
    causes: Causes
    seen_at: datetime


@dataclass(frozen=True)
class Break:
    """A difference that nothing explains."""

    subject: str
    """cash, a ticker, or an order's client_order_id"""
    ours: float
    theirs: float
    cause: str


@dataclass(frozen=True)
class Reconciled:
    """What an evening's reconciliation gave."""

    record: Record
    equity: float
    """the broker's cash, and its shares at our closes"""
    unexplained: float
    breaks: tuple[Break, ...]


@dataclass(frozen=True)
class Simulated:
    """The back-test of an account from its first session and capital on."""

    panel: Panel
    weights: np.ndarray
    """float64 [T, N]: the targets of the closes"""
    book: Book
    equity: np.ndarray
    """float64 [T]; NaN before the first session"""


@dataclass
class _Spell:
    """The sessions since the record before, as they are booked one by one."""

    account: Account
    modelled: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("fills", "costs", "events", "gain"), 0.0))
    beyond_cash: float = 0.0
    """paid for shares that the ledger would not have filled"""
    beyond_gain: float = 0.0


def backtest(
    panel: Panel,
    weights: np.ndarray,
    book: Book,
    *,
    capital: float,
    first: date,
    left_out: np.ndarray | None = None,
) -> Simulated:
    """The ledger with `capital` at the close of `first`, by the rules of an account at a broker. `weights` are [T, N]
    of the closes, and so is `left_out`: where it is true, the plan of a close had no order because of a split."""
    start = panel.position(first)
    account, equity = _marked(opened(capital, len(panel.tickers)), panel, start), np.full(len(panel.sessions), np.nan)
    equity[start] = float(account.equity)
    for t in range(start, len(panel.sessions) - 1):
        account, orders = decided(account, weights[t], panel.day(t), book=book)
        orders = orders if left_out is None else np.where(left_out[t], 0.0, orders)
        account, _ = step(account, orders, panel.day(t + 1), book=book)
        equity[t + 1] = float(account.equity)
    return Simulated(panel, weights, book, equity)


def opening_record(panel: Panel, session: date, broker_view: Shown) -> Record:
    """The record of an account at its first session: the broker's cash, and no shares."""
    account = opened(float(broker_view.account.cash), len(panel.tickers))
    account = _marked(account, panel, panel.position(session))
    return Record(session, account, float(account.equity), Causes(), broker_view.seen_at)


def restored(panel: Panel, session: date, positions: pl.DataFrame, *, cash: float) -> Account:
    """The account at the close of `session` of stored `positions` (ticker, shares, mark, frozen)."""
    account = _marked(opened(cash, len(panel.tickers)), panel, panel.position(session))
    place = {ticker: i for i, ticker in enumerate(panel.tickers)}
    for row in positions.iter_rows(named=True):
        i = place[row["ticker"]]
        account.shares[i], account.marks[i], account.frozen[i] = row["shares"], row["mark"], row["frozen"]
    return account


def reconcile(
    before: Record,
    broker_view: Shown,
    backtest_run: Simulated,
    *,
    sent_orders: Mapping[str, Sent],
    accepted_breaks: Mapping[str, float],
) -> Reconciled:
    """The account at the last session of `backtest_run`, carried from `before`, and what the broker shows otherwise.

    `sent_orders` are the orders of ours by `client_order_id`. `accepted_breaks` are the differences of breaks that a
    person accepted since `before`, by subject: the broker's figure less ours, in shares or money.
    """
    panel, backtest_equity = backtest_run.panel, backtest_run.equity
    activities = list({activity.id: activity for activity in broker_view.activities}.values())  # one may be shown twice
    fills, prices = _fills(broker_view.orders, sent_orders, panel)
    spell = _carried(before, backtest_run, fills=fills, prices=prices)
    flows = {kind: _flow(activities, kind) for kind in ("fills", "costs", "events")}
    expected = float(before.account.cash) + sum(flows.values())
    # where the ledger explains the cash to the cent, its own figure is the one that orders are sized at
    cash = float(spell.account.cash) if abs(float(spell.account.cash) - expected) < CENT else expected
    account = _adjusted(replace(spell.account, cash=np.asarray(cash)), accepted_breaks, panel.tickers)
    adjustment = float(account.equity) - float(replace(spell.account, cash=np.asarray(cash)).equity)
    last, earlier = len(panel.sessions) - 1, panel.position(before.session)
    causes = before.causes.plus(
        price=flows["fills"] - spell.modelled["fills"] - spell.beyond_cash,
        cost=flows["costs"] - spell.modelled["costs"],
        event=flows["events"] - spell.modelled["events"] + adjustment,
        quantity=spell.modelled["gain"] + spell.beyond_gain - float(backtest_equity[last] - backtest_equity[earlier]),
        revision=before.backtest_equity - float(backtest_equity[earlier]),
    )
    record = Record(panel.sessions[last], account, float(backtest_equity[last]), causes, broker_view.seen_at)
    equity = _equity(broker_view, account, panel)
    return Reconciled(
        record,
        equity,
        equity - record.backtest_equity - causes.total,
        tuple(
            _breaks(record, broker_view, panel, sent_orders=sent_orders, activities=activities, after=before.session)
        ),
    )


def held_of(broker_view: Shown) -> dict[str, float]:
    """The broker's shares by ticker."""
    return {holding.ticker: float(holding.shares) for holding in broker_view.holdings if holding.shares}


def _marked(account: Account, panel: Panel, t: int) -> Account:
    """`account`, which holds nothing, at the close of session `t`: `step` marks by the last trusted close."""
    bars = panel.day(t)
    return replace(account, marks=np.where(bars.trusted, bars.close, np.nan))


def _fills(
    orders: Iterable[OrderState], sent_orders: Mapping[str, Sent], panel: Panel
) -> tuple[np.ndarray, np.ndarray]:
    """(signed shares, price), float64 [T, N]: what the broker filled of our orders at the open of each session."""
    fills, prices = np.zeros((2, len(panel.sessions), len(panel.tickers)))
    rows = {session: t for t, session in enumerate(panel.sessions)}
    columns = {ticker: i for i, ticker in enumerate(panel.tickers)}
    for state in orders:
        order = sent_orders.get(state.client_order_id)
        if order is None or not state.filled or order.session not in rows:
            continue
        place = rows[order.session], columns[order.ticker]
        fills[place] = float(state.filled if state.side == "buy" else -state.filled)
        prices[place] = float(state.average_price or 0)
    return fills, prices


def _carried(before: Record, backtest_run: Simulated, *, fills: np.ndarray, prices: np.ndarray) -> _Spell:
    """The account of `before` through the sessions after it, with the broker's fills at the ledger's prices."""
    panel, weights, book = backtest_run.panel, backtest_run.weights, backtest_run.book
    spell = _Spell(before.account)
    for t in range(panel.position(before.session), len(panel.sessions) - 1):
        counted_account, _ = decided(spell.account, weights[t], panel.day(t), book=book)
        bars = panel.day(t + 1)
        after, booking = step(counted_account, fills[t + 1] / bars.split_ratio, bars, book=book)
        _add(spell.modelled, counted_account, after=after, booking=booking)
        beyond = fills[t + 1] - booking.filled  # more than the ledger fills at such an open, or where it fills nothing
        if beyond.any():
            marks = np.where(np.isnan(after.marks) & (beyond != 0), prices[t + 1], after.marks)
            payment = float(np.sum(beyond * prices[t + 1]))
            after = replace(after, shares=after.shares + beyond, marks=marks, cash=after.cash - payment)
            spell.beyond_cash -= payment
            spell.beyond_gain += float(total(np.where(beyond == 0, 0.0, beyond * marks))) - payment
        spell.account = after
    return spell


def _add(sums: dict[str, float], before: Account, *, after: Account, booking: Booked) -> None:
    """Adds to `sums` what the ledger booked: the cash of fills, costs and events, and the change of equity."""
    fills = -total(booking.filled * booking.fill_price + booking.spread + booking.impact)
    costs = booking.interest - total(booking.commission + booking.borrow)
    sums["fills"] += float(fills)
    sums["costs"] += float(costs)
    sums["events"] += float(after.cash - before.cash - fills - costs)
    sums["gain"] += float(after.equity - before.equity)


def _flow(activities: Iterable[Activity], group: str) -> float:
    """The cash that the activities about fills, costs or events moved."""
    kinds = {"fills": (FILL,), "costs": COSTS, "events": EVENTS}[group]
    amounts = [activity.amount for activity in activities if activity.kind.startswith(kinds)]
    return float(sum(amounts, Decimal(0)))


def _adjusted(account: Account, accepted_breaks: Mapping[str, float], tickers: Sequence[str]) -> Account:
    """`account` with the broker's figures where a person accepted them."""
    shares, cash = account.shares.copy(), account.cash + accepted_breaks.get("cash", 0.0)
    for i, ticker in enumerate(tickers):
        shares[i] += accepted_breaks.get(ticker, 0.0)
    return replace(account, cash=cash, shares=shares) if accepted_breaks else account


def _equity(broker_view: Shown, account: Account, panel: Panel) -> float:
    """The broker's cash, and its shares at our marks; at its own price where we have none.

    Where its shares are ours and the cash agrees to the cent, it is the ledger's own figure.
    """
    broker_shares, cash = held_of(broker_view), float(broker_view.account.cash)
    own_shares = {ticker: account.shares[i] for i, ticker in enumerate(panel.tickers) if account.shares[i]}
    if own_shares == broker_shares and abs(cash - float(account.cash)) < CENT:
        return float(account.equity)
    marks = dict(zip(panel.tickers, account.marks.tolist(), strict=True))
    prices = {holding.ticker: float(holding.price or 0) for holding in broker_view.holdings}
    values = (
        shares * (prices[ticker] if np.isnan(mark := marks.get(ticker, np.nan)) else mark)
        for ticker, shares in broker_shares.items()
    )
    return cash + sum(values)


def _breaks(
    record: Record,
    broker_view: Shown,
    panel: Panel,
    *,
    sent_orders: Mapping[str, Sent],
    activities: Sequence[Activity],
    after: date,
) -> Iterable[Break]:
    """Every difference between the account as it is carried and what the broker shows of the sessions `after` one."""
    account = record.account
    cash, broker_shares = float(broker_view.account.cash), held_of(broker_view)
    if abs(cash - float(account.cash)) >= CENT:
        yield Break("cash", float(account.cash), cash, _cause_of_cash(activities))
    own_shares = {ticker: float(account.shares[i]) for i, ticker in enumerate(panel.tickers)}
    for ticker in sorted({*(ticker for ticker, shares in own_shares.items() if shares), *broker_shares}):
        expected, actual = own_shares.get(ticker, 0.0), broker_shares.get(ticker, 0.0)
        if abs(expected - actual) >= SHARE:
            cause = _of_a_split(broker_view.actions, ticker, own_shares=expected, broker_shares=actual)
            yield Break(ticker, expected, actual, cause or _cause_of_shares(ticker, expected, actual, panel=panel))
    states = {state.client_order_id: state for state in broker_view.orders}
    last = panel.sessions[-1]
    for name, state in states.items():
        if name not in sent_orders:
            yield Break(name, 0.0, float(state.shares), f"a foreign order: {state.side} {state.ticker}, {state.status}")
        elif not state.is_terminal and sent_orders[name].session <= last:
            yield Break(name, 0.0, float(state.shares - state.filled), f"still {state.status} after its session")
    for name, order in sent_orders.items():
        if name not in states and after < order.session <= last:
            yield Break(
                name, 1.0, 0.0, f"the broker no longer has the order, which it had accepted for {order.session}"
            )


def _cause_of_cash(activities: Sequence[Activity]) -> str:
    strange = [
        activity for activity in activities if not activity.kind.startswith((FILL, *COSTS, *EVENTS)) and activity.amount
    ]
    if strange:
        return ", ".join(f"{activity.kind} of {activity.amount:.2f}" for activity in strange[:3])
    return "no activity that the broker shows explains it"


def _of_a_split(
    actions: Sequence[CorporateAction], ticker: str, *, own_shares: float, broker_shares: float
) -> str | None:
    """The split that the broker has booked and the bars do not show; None where none explains the shares."""
    own = (action for action in actions if action.ticker == ticker and action.ratio is not None)
    split = next((action for action in own if abs(own_shares * float(action.ratio or 1) - broker_shares) < 1), None)
    return split and f"the broker has booked the {split}, which the bars do not show"


def _cause_of_shares(ticker: str, own_shares: float, broker_shares: float, *, panel: Panel) -> str:
    """What explains another number of shares, as far as is known."""
    if ticker not in panel.tickers:
        return "a foreign share: no bar of it is stored"
    i = panel.tickers.index(ticker)
    ratio = panel.day(len(panel.sessions) - 1).split_ratio[i]
    if ratio != 1 and abs(broker_shares * ratio - own_shares) < 1:
        return f"the broker has not booked the split of {ratio:g} for 1"
    if any(not np.isnan(panel.day(t).ending[i]) for t in range(1, len(panel.sessions))) and own_shares == 0:
        return "the listing ended, and the broker still holds it"
    if own_shares == 0:
        return "a foreign share: no order of ours bought it"
    return "shares are missing" if abs(broker_shares) < abs(own_shares) else "more shares than were ordered"


def break_rows(
    stored_breaks: pl.DataFrame, breaks: Sequence[Break], *, book: str, session: date, now: datetime
) -> pl.DataFrame:
    """The rows of `breaks` that change: new ones, open ones that go on with new figures, and those that are gone.

    `stored_breaks` are the rows of the book. A break that a person accepted stays so.
    """
    current = {new_break.subject: new_break for new_break in breaks}
    rows = []
    for row in stored_breaks.filter(pl.col("resolved_at").is_null()).iter_rows(named=True):
        new_break = current.pop(row["subject"], None)
        if new_break is None:
            rows.append(row | {"resolved_at": now, "resolved_by": "reconciliation: it is gone"})
        else:
            rows.append(row | {"ours": new_break.ours, "theirs": new_break.theirs, "cause": new_break.cause})
    rows += [
        {
            "book": book,
            "session": session,
            "subject": new_break.subject,
            "ours": new_break.ours,
            "theirs": new_break.theirs,
            "cause": new_break.cause,
            "seen_at": now,
            "resolved_at": None,
            "resolved_by": None,
        }
        for new_break in current.values()
    ]
    return pl.DataFrame(rows, BREAKS.schema, orient="row")
