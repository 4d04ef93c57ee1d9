"""Sends an order so that it is at the broker once: looked up before and after, never guessed, every step on record."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from stock_assets.errors import BrokerError, TradingError
from stock_assets.escape import one_line, shortened
from stock_assets.trading.broker.orders import (
    another_order,
    auction_problem,
    clock_problem,
    require_order,
    require_orders,
)
from stock_assets.trading.broker.protocol import Accepted, Broker, Order, OrderState, Refused, Unknown

#: Seconds between two looks for an order whose arrival is unknown: five minutes in all, then the next run goes on.
PAUSES = (1, 2, 4, 4, 8, 15, 15, 30, 30, 30, 60, 60, 60)
#: Looks that find nothing before the same id is sent again: a broker may take a moment to show what it accepted.
LOOKS = 3
#: A broker's answer to an id that it has seen already.
DUPLICATE = "40010001"

Step = Literal["looked_up", "sent", "accepted", "refused", "unknown", "state"]


@dataclass(frozen=True)
class Event:
    """One step of sending an order: a row of `order_events`."""

    client_order_id: str
    at: datetime
    number: int
    event: Step
    status: str | None = None
    filled: Decimal | None = None
    average_price: Decimal | None = None
    text: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of an order that was to be sent.

    - accepted: the broker has it, and `state` is what it says of it
    - refused: the broker does not take it, or has another order under its id
    - late: the broker does not have it, and the deadline was over before it was sent
    - unknown: it may be there; nothing more was done, and the next run looks it up again
    - unsent: it was not tried, as the broker had stopped answering
    """

    order: Order
    kind: Literal["accepted", "refused", "late", "unknown", "unsent"]
    state: OrderState | None = None
    text: str = ""


@dataclass(frozen=True)
class _Record:
    """Numbers the events of one order, and hands each over before the next step is taken."""

    order: Order
    clock: Callable[[], datetime]
    keep: Callable[[Event], None]
    numbers: Iterator[int]

    def __call__(self, event: Step, state: OrderState | None = None, text: str | None = None) -> None:
        facts = (state.status, state.filled, state.average_price) if state else (None, None, None)
        line = None if text is None else shortened(one_line(text), 500)
        self.keep(Event(self.order.client_order_id, self.clock(), next(self.numbers), event, *facts, line))


def settle(
    broker: Broker,
    order: Order,
    *,
    clock: Callable[[], datetime],
    deadline: datetime,
    pause: Callable[[float], None],
    record: Callable[[Event], None],
    number: int = 0,
) -> Outcome:
    """Brings `order` to the broker once, whatever was done about it before: a second call finds it and sends nothing.

    Look up; what the broker has is adopted, what it has not is sent. Where the answer is ambiguous it is looked up
    again after growing pauses (`pause` gets seconds), and sent under the same id only where the broker goes on to say
    that it has no such order and `deadline` lies ahead. `record` gets every event before the next step is taken, from
    `number` on, and has stored it when it returns. Raises TradingError, with nothing sent, where the order is none.
    """
    require_order(order)
    keep = _Record(order, clock, record, iter(range(number, 2**31)))
    pauses, looks_without_order, was_sent = iter(PAUSES), LOOKS, False
    while True:
        try:
            state = broker.order(order.client_order_id)
        except BrokerError as error:
            keep("unknown", text=f"not looked up: {error}")
            looks_without_order = 0 if was_sent else LOOKS
        else:
            if state is not None:
                return _adopt(order, state, keep)
            keep("looked_up", text="the broker has no such order")
            looks_without_order += 1
            if clock() >= deadline:
                text = f"not sent before {deadline:%Y-%m-%d %H:%M} UTC"
                return Outcome(order, "unknown" if was_sent else "late", text=text)
            if looks_without_order >= LOOKS:
                keep("sent")
                was_sent, looks_without_order = True, 0
                outcome = _answer(order, broker.submit(order), keep)
                if outcome is not None:
                    return outcome
        seconds = next(pauses, None)
        if seconds is None:
            return Outcome(order, "unknown", text="the broker gave no answer that is certain")
        pause(seconds)


def _adopt(order: Order, state: OrderState, keep: _Record) -> Outcome:
    """The outcome of an order that the broker has."""
    if text := another_order(order, state):
        keep("refused", state, text)
        return Outcome(order, "refused", state, text)
    keep("state", state)
    return Outcome(order, "accepted", state)


def _answer(order: Order, answer: Accepted | Refused | Unknown, keep: _Record) -> Outcome | None:
    """The outcome of an order by the answer to it; None where it has to be looked up."""
    match answer:
        case Accepted(state) if another_order(order, state) is None:
            keep("accepted", state)
            return Outcome(order, "accepted", state)
        case Accepted(state):
            return _adopt(order, state, keep)
        case Refused(code, reason) if code != DUPLICATE:
            keep("refused", text=f"{code} {reason}")
            return Outcome(order, "refused", text=f"{code} {reason}")
        case _:
            keep("unknown", text=answer.reason)
            return None


def send(
    broker: Broker,
    orders: Sequence[Order],
    *,
    clock: Callable[[], datetime],
    deadline: datetime,
    pause: Callable[[float], None],
    record: Callable[[Event], None],
    first_numbers: Callable[[str], int] = lambda _: 0,
) -> list[Outcome]:
    """The outcome of every one of `orders`, each settled in turn.

    All are checked first, and none is sent where one may not be. After an order of which nothing certain is known the
    rest stays unsent: the broker does not answer, and the next run goes on. `first_numbers` gives the number of events
    that are stored of an order already. Raises TradingError where an order is none or is for another open than the
    broker's next one, or where its clock disagrees; BrokerError where the broker does not say what can be traded.
    """
    for order in orders:
        require_order(order)
    if clock() < deadline:
        _require_auction(broker, orders, clock)
    shares_held = {holding.ticker: holding.shares for holding in broker.positions()}
    require_orders(orders, broker.tradable([order.ticker for order in orders]), shares_held)
    outcomes: list[Outcome] = []
    for order in orders:
        if outcomes and outcomes[-1].kind in ("unknown", "unsent"):
            outcomes.append(Outcome(order, "unsent", text="the broker had stopped answering"))
            continue
        outcomes.append(
            settle(
                broker,
                order,
                clock=clock,
                deadline=deadline,
                pause=pause,
                record=record,
                number=first_numbers(order.client_order_id),
            )
        )
    return outcomes


def _require_auction(broker: Broker, orders: Sequence[Order], clock: Callable[[], datetime]) -> None:
    """Raises TradingError where the broker would fill `orders` at another open, or has another time than `clock`."""
    broker_clock = broker.clock()
    problems = [clock_problem(broker_clock, clock())]
    for session in sorted({order.session for order in orders}):
        problems.append(auction_problem(broker_clock, broker.calendar(session, session), session))
    if problem := next(filter(None, problems), None):
        raise TradingError(f"no order was sent: {problem}")
