"""What an order must be before a broker sees it, and what a broker must agree with: pure checks, one sentence each."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from stock_assets.errors import TradingError
from stock_assets.escape import one_line, shortened
from stock_assets.tickers import EXPECTED, no_tickers
from stock_assets.trading.broker.protocol import BrokerAccount, Clock, Order, OrderState, Tradable

#: Brokers take longer ones; an id of ours never needs more.
LONGEST_ID = 48
#: How far the broker's clock may lie from ours.
CLOCK_TOLERANCE = timedelta(seconds=30)
#: Before the open: the last moment at which an order for it is sent, and the last at which it is accepted.
SENT_BEFORE, ACCEPTED_BEFORE = timedelta(minutes=5), timedelta(minutes=2)


def client_order_id(book: str, session: date, ticker: str, *, attempt: int = 1) -> str:
    """The name of an order at the broker, which follows from the plan alone. `session` is the one it is filled in.

    Raises TradingError where it is longer than `LONGEST_ID` or of characters that a broker may change.

    >>> client_order_id("long_only", date(2024, 1, 3), "BRK-B")
    'sa-long_only-20240103-BRK-B-1'
    """
    name = f"sa-{book}-{session:%Y%m%d}-{ticker}-{attempt}"
    _require_id(name)
    return name


def _require_id(name: str) -> None:
    if not (name.isascii() and name.isprintable() and " " not in name and 0 < len(name) <= LONGEST_ID):
        id_text = shortened(one_line(name), 80)
        raise TradingError(
            f"an order has the id {id_text!r}; expected 1 to {LONGEST_ID} printable ASCII characters without spaces: "
            "give the book a shorter name"
        )


def require_order(order: Order) -> None:
    """Raises TradingError where no broker may be sent `order`: an id, a ticker, a side or a number that is none."""
    _require_id(order.client_order_id)
    name = shortened(one_line(order.client_order_id), 80)
    if no_tickers((order.ticker,)):
        ticker_text = shortened(one_line(order.ticker), 80)
        raise TradingError(f"the order {name} is for the ticker {ticker_text!r}; expected {EXPECTED}")
    if order.side not in ("buy", "sell"):
        raise TradingError(f"the order {name} has the side {one_line(order.side)!r}; expected buy or sell")
    if not (isinstance(order.shares, Decimal) and order.shares.is_finite() and order.shares > 0):
        raise TradingError(
            f"the order {name} is for {one_line(order.shares)} shares of {order.ticker}; expected a number above zero: "
            "a sale is named by its side"
        )
    if order.shares != order.shares.to_integral_value():
        raise TradingError(
            f"the order {name} is for {order.shares} shares of {order.ticker}; expected a whole number, as an opening "
            "auction takes no other: set whole_shares of the book"
        )


def require_orders(
    orders: Sequence[Order], tradable: Mapping[str, Tradable], shares_held: Mapping[str, Decimal]
) -> None:
    """Raises TradingError, which names every trouble, where one of `orders` may not be sent; then none is.

    `tradable` is the broker's answer for their tickers, and `shares_held` the shares of every position by ticker.
    """
    for order in orders:
        require_order(order)
    problems = [
        *_repeated(orders),
        *(text for order in orders if (text := _not_tradable(order, tradable, shares_held))),
    ]
    if problems:
        further_problems = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise TradingError(f"no order was sent: {'; '.join(problems[:5])}{further_problems}")


def _repeated(orders: Sequence[Order]) -> Iterable[str]:
    """A second order of the same id or ticker: one net order a ticker, so that no two of ours ever meet."""
    for name in ("client_order_id", "ticker"):
        values = [getattr(order, name) for order in orders]
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield f"{values.count(value)} orders have the {name} {value}, expected one"


def _not_tradable(order: Order, tradable: Mapping[str, Tradable], shares_held: Mapping[str, Decimal]) -> str | None:
    """Why the broker would not take `order`; None where it would."""
    asset = tradable.get(order.ticker)
    if asset is None:
        return f"{order.ticker} is unknown to the broker (order {order.client_order_id})"
    if not asset.tradable:
        return f"{order.ticker} is not tradable at the broker (order {order.client_order_id})"
    shares = shares_held.get(order.ticker, Decimal(0))
    after = shares + (order.shares if order.side == "buy" else -order.shares)
    if shares * after < 0:
        return (
            f"{order.side} {order.shares} {order.ticker} would turn a position of {shares} shares around, expected an "
            f"order that closes it and one of the evening after (order {order.client_order_id})"
        )
    if order.side == "sell" and after < 0 and not asset.shortable:
        return (
            f"{order.ticker} cannot be sold short at the broker: {order.shares} shares to sell, {shares} held "
            f"(order {order.client_order_id})"
        )
    return None


def auction_problem(broker_clock: Clock, hours: Mapping[date, tuple[datetime, datetime]], session: date) -> str | None:
    """Why orders of `session` would be filled at another open; None where it is the broker's next one.

    An order says that it is for the next opening auction, not for which. `hours` are those of the broker's calendar.
    """
    if session not in hours:
        return f"the orders are for the open of {session}, on which the broker's exchange stays closed"
    if broker_clock.next_open != hours[session][0]:
        return (
            f"the orders are for the open of {session}, and the broker's next open is "
            f"{broker_clock.next_open:%Y-%m-%d %H:%M} UTC"
        )
    return None


def another_order(order: Order, state: OrderState) -> str | None:
    """What of the order that a broker has under this id differs from `order`; None where it is that order.

    A split overnight changes the shares of an order that was filled: those of one that is over are not compared.
    """
    own_side, broker_side = (order.ticker, order.side), (state.ticker, state.side)
    if own_side == broker_side and (state.is_terminal or order.shares == state.shares):
        return None
    return (
        f"the broker has {order.client_order_id} as {state.side} {state.shares} {state.ticker}, expected {order.side} "
        f"{order.shares} {order.ticker}: an id is spent once and for ever"
    )


def clock_problem(broker_clock: Clock, now: datetime, tolerance: timedelta = CLOCK_TOLERANCE) -> str | None:
    """Why the broker's clock cannot be traded by; None where it agrees with ours at `now`."""
    if abs(broker_clock.now - now) > tolerance:
        return (
            f"the broker's clock is at {broker_clock.now:%Y-%m-%d %H:%M:%S} UTC and ours at {now:%Y-%m-%d %H:%M:%S} "
            f"UTC; expected at most {tolerance.total_seconds():g} s between them: set the clock of this machine"
        )
    if broker_clock.next_open <= now:
        return (
            f"the broker's next open is {broker_clock.next_open:%Y-%m-%d %H:%M} UTC, which is over at {now:%H:%M} UTC"
        )
    return None


def calendar_problem(
    broker_hours: Mapping[date, tuple[datetime, datetime]], own_hours: Mapping[date, tuple[datetime, datetime]]
) -> str | None:
    """The first session of which broker and exchange calendar differ; None where all are equal, to the minute."""
    for session in sorted({*broker_hours, *own_hours}):
        if broker_hours.get(session) != own_hours.get(session):
            hours_texts = [
                f"from {hours[0]:%H:%M} to {hours[1]:%H:%M} UTC" if (hours := calendar.get(session)) else "closed"
                for calendar in (broker_hours, own_hours)
            ]
            return f"{session}: {hours_texts[0]} by the broker's calendar, and {hours_texts[1]} by the exchange's"
    return None


def account_problem(account: BrokerAccount, *, currency: str, number: str | None) -> str | None:
    """Why nothing can be traded on `account`; None where it can. `number` is the account that is configured, if any."""
    if number is not None and account.number != number:
        return f"the broker's account is {account.number}, expected {number} as configured"
    if account.currency != currency:
        return f"the account {account.number} is in {account.currency}, expected {currency} as the prices are"
    if account.blocked:
        return f"trading on the account {account.number} is blocked or suspended at the broker"
    if account.status != "ACTIVE":
        return f"the account {account.number} is {account.status}, expected ACTIVE"
    return None
