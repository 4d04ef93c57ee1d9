"""A broker without a network: the ledger's step on a file of its own, with the answers of Alpaca's opening orders.

Its account follows the back-test to the last bit, as both call `ledger.step` with the same bars, orders and costs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5
from zoneinfo import ZoneInfo

import numpy as np

from stock_assets.errors import BrokerError, TradingError
from stock_assets.market.calendar import TradingCalendar
from stock_assets.trading.books import Costs
from stock_assets.trading.broker.booking import booked_session
from stock_assets.trading.broker.faults import Fault, Faults
from stock_assets.trading.broker.orders import ACCEPTED_BEFORE, require_order
from stock_assets.trading.broker.protocol import (
    Accepted,
    Activity,
    BrokerAccount,
    Clock,
    CorporateAction,
    Holding,
    Order,
    OrderState,
    Refused,
    Tradable,
    Unknown,
)
from stock_assets.trading.broker.simulated_file import Opening, Rows, Standing, StoredOrder, exact, transaction
from stock_assets.trading.panel import Bars

NEW_YORK = ZoneInfo("America/New_York")
#: From when on orders for the next opening auction are taken, in New York.
ACCEPTED_FROM = time(19)
#: Codes of Alpaca: a wrong value, what its rules forbid, and what the account may not do.
WRONG_VALUE, UNPROCESSABLE, FORBIDDEN = "40010001", "42210000", "40310000"
#: A short counts more than it is worth until it is filled.
SHORT_MARGIN = 1.03


class SimulatedBroker:
    """An account whose orders are filled at the opens that `advance` is given.

    The listing is that of the last session that was booked: before the first there is nothing to trade. `clock` is
    asked for the time, UTC. Every call is one transaction of `file`.
    """

    name = "simulated"

    def __init__(
        self,
        file: Path,
        opening: Opening,
        *,
        clock: Callable[[], datetime],
        calendar: TradingCalendar,
        costs: Costs,
        faults: Iterable[Fault] = (),
        announced: Callable[[date], Mapping[str, float]] = lambda _: {},
    ) -> None:
        """`announced` gives the splits of a session that are known before it, by ticker: new shares for an old one."""
        self.file, self.opening, self.costs = file, opening, costs
        self._clock, self._calendar, self._faults = clock, calendar, Faults(faults)
        self._announced = announced

    def _rows(self) -> AbstractContextManager[Rows]:
        return transaction(self.file, self.opening)

    def _read(self) -> AbstractContextManager[Rows]:
        if self._faults.take("no answer"):
            raise BrokerError("the simulated broker does not answer")
        return transaction(self.file, self.opening, writes=False)

    @property
    def last_session(self) -> date | None:
        """The last session that was booked; None before the first."""
        with transaction(self.file, self.opening, writes=False) as rows:
            return rows.standing().session

    def clock(self) -> Clock:
        if self._faults.take("no answer"):
            raise BrokerError("the simulated broker does not answer")
        now = self._clock()
        opens, closes = self._calendar.opens, self._calendar.closes
        sessions_from_month = self._calendar.between((now.date()).replace(day=1), self._calendar.sessions[-1])
        ahead = [session for session in sessions_from_month if closes[session] > now]
        if not ahead:
            raise BrokerError(f"the calendar of the simulated broker ends on {self._calendar.sessions[-1]}")
        is_open = opens[ahead[0]] <= now
        if is_open and len(ahead) == 1:
            raise BrokerError(f"the calendar of the simulated broker ends on {self._calendar.sessions[-1]}")
        return Clock(now, is_open, opens[ahead[1 if is_open else 0]], closes[ahead[0]])

    def calendar(self, first: date, last: date) -> Mapping[date, tuple[datetime, datetime]]:
        sessions = self._calendar.between(first, last)
        return {session: (self._calendar.opens[session], self._calendar.closes[session]) for session in sessions}

    def account(self) -> BrokerAccount:
        with self._read() as rows:
            standing = rows.standing()
            used_power = _used_power(standing, rows.open_orders())
        return BrokerAccount(
            number=standing.number,
            currency=standing.currency,
            cash=exact(float(standing.ledger.cash)),
            equity=exact(standing.equity),
            last_equity=exact(standing.last_equity),
            buying_power=exact(max(0.0, self.opening.multiplier * standing.equity - used_power)),
            status=standing.status,
            blocked=standing.blocked,
            may_short=self.opening.may_short,
            is_paper=True,
        )

    def positions(self) -> Sequence[Holding]:
        with self._read() as rows:
            standing = rows.standing()
        ledger = standing.ledger
        return [
            Holding(ticker, exact(shares), None if np.isnan(mark) else exact(mark))
            for ticker, shares, mark in zip(standing.tickers, ledger.shares, ledger.marks, strict=True)
            if shares != 0
        ]

    def tradable(self, tickers: Iterable[str]) -> Mapping[str, Tradable]:
        with self._read() as rows:
            standing = rows.standing()
        is_tradable = dict(zip(standing.tickers, standing.tradable.tolist(), strict=True))
        return {
            ticker: Tradable(ticker, is_tradable[ticker], self._may_be_short(ticker), fractionable=False)
            for ticker in tickers
            if ticker in is_tradable
        }

    def actions(self, first: date, last: date) -> Sequence[CorporateAction]:
        return [
            CorporateAction(ticker, session, "forward_splits" if ratio > 1 else "reverse_splits", exact(ratio))
            for session in self._calendar.between(first, last)
            for ticker, ratio in self._announced(session).items()
        ]

    def listed(self) -> Sequence[str]:
        """Every ticker of the last session that was booked."""
        with self._read() as rows:
            return rows.standing().tickers

    def _may_be_short(self, ticker: str) -> bool:
        return self.opening.may_short and ticker not in self.opening.not_shortable

    def submit(self, order: Order) -> Accepted | Refused | Unknown:
        """As Alpaca answers. Raises TradingError where `order` is none."""
        require_order(order)
        if self._faults.take("order lost", order.ticker):
            return Unknown("the order was lost on its way")
        now = self._clock()
        stored_order = StoredOrder(
            client_order_id=order.client_order_id,
            broker_id=str(uuid5(NAMESPACE_OID, f"{self.opening.number}/{order.client_order_id}")),
            ticker=order.ticker,
            side=order.side,
            shares=order.shares,
            session=order.session,
            status="accepted",
            filled=0.0,
            average_price=None,
            reason=None,
            submitted_at=now,
            updated_at=now,
        )
        with self._rows() as rows:
            if refusal := self._refusal(order, rows):
                return refusal
            rows.add_order(stored_order)
        if self._faults.take("answer lost", order.ticker):
            return Unknown("the answer was lost on its way")
        return Accepted(stored_order.state)

    def _refusal(self, order: Order, rows: Rows) -> Refused | None:
        """Why the order is not taken, in the order in which Alpaca looks."""
        if rows.orders("client_order_id = ?", (order.client_order_id,)):
            return Refused(WRONG_VALUE, "client_order_id must be unique")
        standing = rows.standing()
        if standing.blocked:
            return Refused(FORBIDDEN, "new orders are rejected by user request")
        if standing.status != "ACTIVE":
            return Refused(FORBIDDEN, f"account is {standing.status}")
        if order.ticker not in standing.tickers:
            return Refused(WRONG_VALUE, f'could not find asset "{order.ticker}"')
        place = standing.tickers.index(order.ticker)
        if not standing.tradable[place]:
            return Refused(UNPROCESSABLE, f'asset "{order.ticker}" is not active')
        if (session := self.auction()) is None:
            return Refused(UNPROCESSABLE, "opg orders must be submitted after 7:00pm and before 9:28am")
        if session != order.session:
            return Refused(UNPROCESSABLE, f"the next opening auction is that of {session}, not of {order.session}")
        opposite = "sell" if order.side == "buy" else "buy"
        open_orders = rows.open_orders()
        if any(other.ticker == order.ticker and other.side == opposite for other in open_orders):
            return Refused(FORBIDDEN, "potential wash trade detected. use complex orders")
        return self._beyond_its_means(order, standing, open_orders)

    def _beyond_its_means(self, order: Order, standing: Standing, open_orders: Sequence[StoredOrder]) -> Refused | None:
        place = standing.tickers.index(order.ticker)
        shares_held = float(standing.ledger.shares[place])
        after = shares_held + sum(other.signed for other in open_orders if other.ticker == order.ticker)
        signed = float(order.shares if order.side == "buy" else -order.shares)
        if after * (after + signed) < 0:  # a position is closed first, and opened the other way the evening after
            text = f"insufficient qty available for order (requested: {order.shares}, available: {exact(abs(after))})"
            return Refused(FORBIDDEN, text)
        if after + signed < 0 and signed < 0 and not self._may_be_short(order.ticker):
            return Refused(FORBIDDEN, f'asset "{order.ticker}" cannot be sold short')
        further_exposure = max(0.0, _exposure(after + signed) - _exposure(after)) * float(
            np.nan_to_num(standing.ledger.marks[place])
        )
        if further_exposure > max(0.0, self.opening.multiplier * standing.equity - _used_power(standing, open_orders)):
            return Refused(FORBIDDEN, "insufficient buying power")
        return None

    def auction(self) -> date | None:
        """The session whose opening auction takes orders now; None between 9:28 and 19:00 in New York."""
        now = self._clock()
        ahead = (
            session
            for session in self._calendar.between(now.date(), self._calendar.sessions[-1])
            if self._calendar.opens[session] - ACCEPTED_BEFORE > now
        )
        session = next(ahead, None)
        if session is None:
            return None
        local = now.astimezone(NEW_YORK).time()
        until = (self._calendar.opens[session] - ACCEPTED_BEFORE).astimezone(NEW_YORK).time()
        return session if local < until or local >= ACCEPTED_FROM else None

    def order(self, client_order_id: str) -> OrderState | None:
        with self._read() as rows:
            stored_orders = rows.orders("client_order_id = ?", (client_order_id,))
        return stored_orders[0].state if stored_orders else None

    def orders(self, since: datetime) -> Sequence[OrderState]:
        return [order.state for order in self.stored_orders(since)]

    def stored_orders(self, since: datetime) -> Sequence[StoredOrder]:
        """The orders that were sent at `since` or later."""
        with self._read() as rows:
            return [order for order in rows.orders() if order.submitted_at >= since]

    def activities(self, since: datetime) -> Sequence[Activity]:
        with self._read() as rows:
            return rows.activities(since)

    def cancel_all(self) -> int:
        """Cancels every open order; one whose auction has begun is past that."""
        now = self._clock()
        with self._rows() as rows:
            open_orders = [
                order for order in rows.open_orders() if self._calendar.opens[order.session] - ACCEPTED_BEFORE > now
            ]
            for order in open_orders:
                rows.keep_order(replace(order, status="canceled", reason="cancelled by request", updated_at=now))
        return len(open_orders)

    def set_state(self, *, blocked: bool = False, status: str = "ACTIVE") -> None:
        """Blocks the account, or gives it another status, as a broker may."""
        with self._rows() as rows:
            rows.keep_state(status=status, blocked=blocked)

    def advance(self, bars: Bars, tickers: Sequence[str]) -> None:
        """Books the session of `bars`, whose arrays are in the order of `tickers`: all of it, or nothing after a crash.

        Its orders are filled or expire with their reason; dividends, splits, borrow, interest and endings are booked;
        each is an activity. Raises TradingError, and books nothing, where it is not the session after the last one or
        lacks a ticker that the account holds.
        """
        with self._rows() as rows:
            standing = rows.standing()
            self._require_next(standing.session, bars.session)
            opens = self._calendar.opens[bars.session]
            booked_session(rows, bars, tickers, costs=self.costs, opens=opens.astimezone(UTC), faults=self._faults)

    def _require_next(self, last: date | None, session: date) -> None:
        if not self._calendar.is_session(session):
            raise TradingError(f"{session} is no session of {self._calendar.name}, which the account trades by")
        if last is not None and (after := self._calendar.shift(last, 1)) != session:
            raise TradingError(
                f"the account {self.opening.number} is booked through {last}; expected {after} next, found {session}"
            )


def _exposure(shares: float) -> float:
    """Shares as they count against the buying power."""
    return shares if shares >= 0 else -shares * SHORT_MARGIN


def _used_power(standing: Standing, open_orders: Iterable[StoredOrder]) -> float:
    """Value of the positions, and of what the open orders add to them."""
    marks = dict(zip(standing.tickers, np.nan_to_num(standing.ledger.marks).tolist(), strict=True))
    shares = dict(zip(standing.tickers, standing.ledger.shares.tolist(), strict=True))
    used_power = sum(abs(number) * marks[ticker] for ticker, number in shares.items())
    for order in open_orders:
        before = shares.get(order.ticker, 0.0)
        shares[order.ticker] = before + order.signed
        used_power += max(0.0, _exposure(before + order.signed) - _exposure(before)) * marks.get(order.ticker, 0.0)
    return used_power
