"""What has to hold before orders are sent: one pure function over the facts of an evening, one row per condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from stock_assets.trading.books import Book
from stock_assets.trading.broker.protocol import BrokerAccount
from stock_assets.trading.plan import Plan
from stock_assets.trading.tables import ORDER_GATES

PERCENT = ".1%"
#: The gate about changes at the next open, and what it shows where no order was left out for one.
SPLITS, NONE = "splits", "none at the next open"


@dataclass(frozen=True)
class GateLimits:
    """The limits of the gates. Fractions of the equity, unless named otherwise."""

    predicted: float = 0.95
    """the least share of the tickers with a bar that is predicted"""
    clock: timedelta = timedelta(minutes=2)
    """the most that two clocks may differ"""
    order: float = 2.0
    """the largest order, as a multiple of the position limit of the book"""
    order_adv: float = 0.01
    """the largest order, as a fraction of `adv`"""
    traded: float = 0.60
    """all orders of an evening; a book of few sleeves turns over more, see `most_traded`"""
    slack: float = 1.25
    """what prices may do to a limit that the targets keep"""
    orders: int = 300
    price: float = 0.20
    """how far the broker's price of a position may lie from the last close"""
    day_drop: float = 0.05
    """of the equity since the session before"""
    peak_drop: float = 0.15
    """of the equity from its highest close"""


@dataclass(frozen=True)
class Facts:
    """Everything that the gates look at."""

    plan: Plan
    book: Book
    sleeves: int
    account: BrokerAccount
    now: datetime
    currency: str | None
    """of the prices"""
    halted: str | None
    """why and by whom trading is halted; None where it is not"""
    breaks: Sequence[str]
    """what differs from the broker's account, by subject"""
    last_closed: date | None
    """the last session of our calendar that is over"""
    broker_now: datetime
    broker_last_closed: date | None
    broker_next_open: datetime
    opens_at: datetime
    """the open of the fill session by our calendar"""
    calendar: str | None
    """the first session near the plan's of which the two calendars differ; None where they agree"""
    predicted_through: date | None
    predicted: int
    """tickers of the session that the model in service predicted"""
    expected: int
    """tickers of the session with a trusted bar of a member"""
    version: str | None
    """that made the predictions"""
    champion: str | None
    """that serves by the history of promotions"""
    fetched_at: datetime | None
    """when the newest bar of the session was fetched"""
    closed_at: datetime
    """the close of the session"""
    alarms: Sequence[str]
    """drift and leakage alarms that are open"""
    positions: Mapping[str, float]
    """by ticker, the value after the orders"""
    adv: Mapping[str, float]
    """by ticker of an order"""
    prices: Mapping[str, tuple[float, float]]
    """by ticker of a position or an order: the broker's price and the last close"""
    untradable: Sequence[str]
    """tickers of orders that the broker does not trade, or does not lend"""
    actions: Sequence[str]
    """tickers of orders whose listing ended, or that get another name at the next open"""
    changes: Mapping[str, str]
    """by ticker, what the broker announces for the next open: a split, or another change of its shares"""
    held: int
    """positions before the orders"""
    equity_before: float | None
    """at the session before; None on the first"""
    equity_peak: float | None
    open_orders: int
    """earlier orders that the broker still holds open"""
    live: bool
    """whether the settings ask for a live account"""
    stated_number: str | None
    """the account's number as the settings spell it out"""


@dataclass(frozen=True)
class Gate:
    """One condition, and whether it holds."""

    name: str
    passed: bool
    value: str
    limit: str

    @property
    def reason(self) -> str:
        return f"{self.name.replace('_', ' ')}: {self.value}; expected {self.limit}"


def check_gates(facts: Facts, limits: GateLimits | None = None) -> tuple[Gate, ...]:
    """Every gate, whatever the others say: orders are sent only where all have passed."""
    limits = limits or GateLimits()
    return (*_permission(facts), *_data(facts, limits), *_orders(facts, limits), *_losses(facts, limits))


def rows_of_gates(gates: Sequence[Gate], plan: Plan, decided_at: datetime) -> pl.DataFrame:
    """The rows of the table `order_gates`."""
    rows = [
        (plan.book, plan.session, decided_at, gate.name, gate.passed, gate.value, gate.limit, gate.reason)
        for gate in gates
    ]
    return pl.DataFrame(rows, ORDER_GATES.schema, orient="row")


def most_traded(facts: Facts, limits: GateLimits) -> float:
    """The most that may be traded in an evening, over the equity: K sleeves turn over twice the gross limit over K, and
    the first evening builds the whole book."""
    gross = facts.book.limits.gross
    if not facts.held:
        return limits.slack * gross
    return max(limits.traded, limits.slack * 2 * gross / max(facts.sleeves, 1))


def _permission(facts: Facts) -> tuple[Gate, ...]:
    """Whether this account may trade at all."""
    account = facts.account
    is_stated = facts.stated_number is None or facts.stated_number == account.number
    is_allowed = account.is_paper or (facts.live and facts.stated_number == account.number)
    may_short = account.may_short or all(value >= 0 for value in facts.positions.values())
    return (
        Gate("kill_switch", facts.halted is None, facts.halted or "off", "off"),
        Gate("breaks", not facts.breaks, _names(facts.breaks), "none open"),
        Gate(
            "account",
            account.status == "ACTIVE" and not account.blocked,
            f"{account.status}{', blocked' if account.blocked else ''}",
            "ACTIVE and not blocked",
        ),
        Gate("currency", account.currency == facts.currency, account.currency, f"{facts.currency}, as the prices"),
        Gate("account_number", is_stated, account.number, facts.stated_number or "any, as none is set"),
        Gate(
            "paper",
            is_allowed,
            "paper" if account.is_paper else "a live account",
            "paper, or the settings trading=live and account_number",
        ),
        Gate("shorts", may_short, "allowed" if account.may_short else "not allowed", "allowed where the book is short"),
    )


def _data(facts: Facts, limits: GateLimits) -> tuple[Gate, ...]:
    """Whether the predictions are of the last session, whole, of the version that serves, and made of fresh bars."""
    session, clock_difference = facts.plan.session, abs(facts.broker_now - facts.now)
    share = facts.predicted / facts.expected if facts.expected else 0.0
    sessions = {str(facts.last_closed), str(facts.broker_last_closed), str(facts.predicted_through)}
    fetched_at = facts.fetched_at
    # until the next open there are no newer ones, so their age says nothing more
    fresh = fetched_at is not None and facts.closed_at <= fetched_at <= facts.now
    return (
        Gate(
            "clock",
            clock_difference <= limits.clock,
            f"{clock_difference.total_seconds():.0f} s apart",
            f"{limits.clock.seconds} s or less",
        ),
        Gate(
            "next_open",
            facts.now < facts.opens_at == facts.broker_next_open,
            f"{facts.broker_next_open:%Y-%m-%d %H:%M} UTC by the broker",
            f"{facts.opens_at:%Y-%m-%d %H:%M} UTC, ahead of now",
        ),
        Gate("calendar", facts.calendar is None, facts.calendar or "one calendar", "the broker's to be the exchange's"),
        Gate(
            "session",
            sessions == {str(session)},
            f"{facts.last_closed} closed last by our calendar, {facts.broker_last_closed} by the broker's, and "
            f"{facts.predicted_through} is predicted",
            f"{session} in all three",
        ),
        Gate(
            "predicted",
            share >= limits.predicted,
            f"{facts.predicted} of {facts.expected} tickers",
            f"{limits.predicted:.0%} or more",
        ),
        Gate(
            "version",
            facts.version is not None and facts.version == facts.champion,
            f"predicted by {facts.version}",
            f"{facts.champion}, which serves",
        ),
        Gate(
            "fresh_bars",
            fresh,
            f"fetched at {fetched_at:%Y-%m-%d %H:%M} UTC" if fetched_at else "never fetched",
            f"after the close at {facts.closed_at:%Y-%m-%d %H:%M} UTC, and before now",
        ),
        Gate("alarms", not facts.alarms, _names(facts.alarms), "no alarm of drift or leakage"),
    )


def _orders(facts: Facts, limits: GateLimits) -> tuple[Gate, ...]:
    """Whether the orders are such as the book may send, and the account it leads to is within its limits."""
    plan, equity, book = facts.plan, facts.plan.equity, facts.book.limits
    largest, largest_ticker = max(
        ((order.value / equity, order.ticker) for order in plan.orders), default=(0.0, "none")
    )
    thinnest, thin = max(
        ((order.value / (facts.adv.get(order.ticker) or 1e-9), order.ticker) for order in plan.orders),
        default=(0.0, "none"),
    )
    turnover = sum(order.value for order in plan.orders) / equity
    bought = sum(order.value for order in plan.orders if order.side == "buy")
    values = facts.positions
    heaviest, position = max(((abs(value) / equity, ticker) for ticker, value in values.items()), default=(0.0, "none"))
    gross, net = sum(map(abs, values.values())) / equity, sum(values.values()) / equity
    off, priced = max(
        ((abs(broker_price / own_price - 1), ticker) for ticker, (broker_price, own_price) in facts.prices.items()),
        default=(0.0, "none"),
    )
    order_limit, cap = most_traded(facts, limits), limits.order * book.position
    changing_tickers = [order.ticker for order in plan.orders if order.ticker in facts.changes]
    net_limit = limits.slack * (book.gross if facts.book.kind == "long_only" else book.position * 10)
    return (
        _bound("orders", len(plan.orders), limits.orders, form="d"),
        _bound("largest_order", largest, cap, subject=largest_ticker),
        _bound("order_of_adv", thinnest, limits.order_adv, subject=thin),
        _bound("all_orders", turnover, order_limit),
        _bound("largest_position", heaviest, limits.slack * book.position, subject=position),
        _bound("gross", gross, limits.slack * book.gross),
        _bound("net", abs(net), net_limit),
        _bound("price", off, limits.price, subject=priced),
        _bound("buying_power", bought, max(float(facts.account.buying_power), 0.0), form=",.0f"),
        Gate("tradable", not facts.untradable, _names(facts.untradable), "every order, and every short lent"),
        Gate("corporate_actions", not facts.actions, _names(facts.actions), "none at the next open"),
        Gate(
            SPLITS,
            not changing_tickers,
            _names(changing_tickers) if changing_tickers else _left_out(plan),
            "no order of what changes then",
        ),
        Gate("open_orders", not facts.open_orders, str(facts.open_orders), "none of an earlier session"),
    )


def _losses(facts: Facts, limits: GateLimits) -> tuple[Gate, ...]:
    """Whether the account has lost more than is expected of the book."""
    drops = (
        ("day_drop", facts.equity_before, limits.day_drop),
        ("peak_drop", facts.equity_peak, limits.peak_drop),
    )
    return tuple(
        _bound(name, 1 - facts.plan.equity / before if before else 0.0, limit) for name, before, limit in drops
    )


def _bound(name: str, value: float, limit: float, *, subject: str = "", form: str = PERCENT) -> Gate:
    return Gate(name, value <= limit, f"{value:{form}}{f' ({subject})' if subject else ''}", f"{limit:{form}} or less")


def _left_out(plan: Plan) -> str:
    return "; ".join(f"{ticker} is not traded, {text}" for ticker, text in sorted(plan.left_out.items())) or NONE


def _names(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` of `names`, and how many there are more."""
    first_names = ", ".join(sorted(names)[:limit])
    return (first_names + (f" and {len(names) - limit} more" if len(names) > limit else "")) or "none"
