"""What a broker is asked, and what it answers. Money is Decimal, times are UTC, and nothing here knows Dagster.

A broker never guesses: where it is unknown whether an order arrived, `submit` returns `Unknown`, and the caller looks
the order up by its `client_order_id` until the broker knows it or says that it does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Protocol

Side = Literal["buy", "sell"]
#: No further fill comes in one of these; any other state, an unknown one too, is open.
TERMINAL = frozenset({"filled", "canceled", "expired", "rejected", "replaced"})


@dataclass(frozen=True)
class Clock:
    """The broker's own time, and the next session as it has it."""

    now: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime


@dataclass(frozen=True)
class BrokerAccount:
    """An account as the broker has it."""

    number: str
    currency: str
    cash: Decimal
    equity: Decimal
    last_equity: Decimal
    """at the close before"""
    buying_power: Decimal
    status: str
    """ACTIVE where it may trade"""
    blocked: bool
    """whether trading, or the account, is blocked or suspended"""
    may_short: bool
    is_paper: bool


@dataclass(frozen=True)
class Holding:
    """A position as the broker has it."""

    ticker: str
    shares: Decimal
    """negative for a short"""
    price: Decimal | None
    """the broker's last price"""


@dataclass(frozen=True)
class Tradable:
    """What may be done with a ticker."""

    ticker: str
    tradable: bool
    shortable: bool
    """and easy to borrow"""
    fractionable: bool


@dataclass(frozen=True)
class Order:
    """A market order for the next opening auction."""

    client_order_id: str
    ticker: str
    side: Side
    shares: Decimal
    """above zero"""
    session: date
    """the session at whose open it is filled"""


@dataclass(frozen=True)
class OrderState:
    """What the broker says of an order."""

    client_order_id: str
    broker_id: str
    ticker: str
    side: Side
    shares: Decimal
    status: str
    """in the broker's own word"""
    filled: Decimal
    average_price: Decimal | None
    updated_at: datetime
    reason: str | None = None
    """why it was not filled whole, where the broker says so"""

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True)
class Accepted:
    """The broker has the order."""

    state: OrderState


@dataclass(frozen=True)
class Refused:
    """The broker has the order not, and says why."""

    code: str
    reason: str


@dataclass(frozen=True)
class Unknown:
    """The broker may have the order: it is to be looked up, and not to be sent again before."""

    reason: str


@dataclass(frozen=True)
class Activity:
    """Something that the broker booked."""

    id: str
    kind: str
    """FILL, DIV, FEE, INT, SPLIT or another word of the broker"""
    at: datetime
    ticker: str | None
    shares: Decimal
    """signed; 0 where none moved"""
    price: Decimal | None
    amount: Decimal
    """signed change of the cash"""
    client_order_id: str | None = None


@dataclass(frozen=True)
class CorporateAction:
    """A split, or another change of what a share or a ticker is, as it was announced."""

    ticker: str
    day: date
    """the first on which the share is another"""
    kind: str
    """forward_splits, reverse_splits, name_changes or another word of the broker"""
    ratio: Decimal | None
    """new shares for an old one; None where that is not stated"""

    def __str__(self) -> str:
        kind = self.kind.replace("_", " ").removesuffix("s")
        return f"{kind}{'' if self.ratio is None else f' of {float(self.ratio):g} for 1'} on {self.day}"


class Broker(Protocol):
    """Where orders are sent. Every method but `submit` raises BrokerError where the broker does not answer."""

    name: str

    def clock(self) -> Clock: ...

    def calendar(self, first: date, last: date) -> Mapping[date, tuple[datetime, datetime]]:
        """The sessions from `first` to `last` with open and close, UTC."""
        ...

    def account(self) -> BrokerAccount: ...

    def positions(self) -> Sequence[Holding]: ...

    def tradable(self, tickers: Iterable[str]) -> Mapping[str, Tradable]:
        """By ticker; one that the broker does not have is missing."""
        ...

    def actions(self, first: date, last: date) -> Sequence[CorporateAction]:
        """What is announced from `first` to `last`, days to come included, of any ticker; those of bars are not."""
        ...

    def submit(self, order: Order) -> Accepted | Refused | Unknown: ...

    def order(self, client_order_id: str) -> OrderState | None:
        """None where the broker says that it has no such order."""
        ...

    def orders(self, since: datetime) -> Sequence[OrderState]:
        """All of them, whatever their number and state, in the order in which they came."""
        ...

    def activities(self, since: datetime) -> Sequence[Activity]:
        """Those at `since` and later. One may come twice, under the same id."""
        ...

    def cancel_all(self) -> int:
        """The number of orders whose cancellation the broker took."""
        ...
