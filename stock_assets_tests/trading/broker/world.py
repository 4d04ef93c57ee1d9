"""A small market, its clock and an account in it, all of which stand still until a test moves them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.trading.books import Costs
from stock_assets.trading.broker.faults import Fault
from stock_assets.trading.broker.orders import SENT_BEFORE, client_order_id
from stock_assets.trading.broker.protocol import Broker, Order
from stock_assets.trading.broker.send import Event, Outcome, send
from stock_assets.trading.broker.simulated import SimulatedBroker
from stock_assets.trading.broker.simulated_file import Opening
from stock_assets.trading.panel import UNKNOWN_ENDING, Bars

TICKERS = ("AAA", "BRK-B", "CCC", "DDD")
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
CALENDAR: TradingCalendar = trading_calendar("XNYS", date(2023, 12, 1), date(2024, 12, 31))
#: The first session that is booked, and the one at whose open orders are filled.
FIRST, FILLED_IN = date(2024, 1, 2), date(2024, 1, 3)


def quiet_bars(session: date, tickers: Iterable[object] = TICKERS, **columns: np.ndarray) -> Bars:
    """A session in which nothing happens: every share opens and closes at 100."""
    n = len(tuple(tickers))
    quiet = {
        "open": np.full(n, 100.0),
        "close": np.full(n, 100.0),
        "dividend": np.zeros(n),
        "split_ratio": np.ones(n),
        "refusal": np.zeros(n, dtype=np.int8),
        "trusted": np.ones(n, dtype=bool),
        "ending": np.full(n, np.nan),
        "adv_before": np.full(n, 1e9),
        "volatility_before": np.full(n, 0.01),
        "fifth_before": np.full(n, 4, dtype=np.int8),
    }
    nights = (session - CALENDAR.before(session, 1)[0]).days
    return replace(Bars(session, nights, **quiet), **columns)


def lively_bars(generator: np.random.Generator, session: date, n: int) -> Bars:
    """A session in which anything may happen to n tickers."""
    close = generator.uniform(5, 500, n)
    return quiet_bars(
        session,
        range(n),
        close=close,
        open=close * generator.uniform(0.9, 1.1, n),
        dividend=np.where(generator.random(n) < 0.2, generator.uniform(0, 2, n), 0.0),
        split_ratio=generator.choice([1.0, 1.0, 1.0, 2.0, 0.1], n),
        refusal=generator.choice([0, 0, 0, 3, 5], n).astype(np.int8),
        ending=np.where(generator.random(n) < 0.1, generator.choice([0.0, -1.0, UNKNOWN_ENDING], n), np.nan),
        adv_before=generator.uniform(1e5, 1e9, n),
        volatility_before=generator.uniform(0.005, 0.05, n),
        fifth_before=generator.integers(0, 5, n).astype(np.int8),
    )


def order_of(ticker: str, shares: int, session: date = FILLED_IN, attempt: int = 1) -> Order:
    """To buy, or to sell where `shares` are negative."""
    name = client_order_id("test", session, ticker, attempt=attempt)
    return Order(name, ticker, "buy" if shares > 0 else "sell", Decimal(abs(shares)), session)


#: The plan of most tests.
PLAN = (order_of("AAA", 10), order_of("BRK-B", 20), order_of("CCC", -5))


class World:
    """The clock stands at 19:05 in New York on the evening of FIRST, which is booked."""

    def __init__(self, folder: Path, *, faults: Iterable[Fault] = (), opening: Opening = Opening()) -> None:  # noqa: B008
        self.file, self.opening = folder / "account.sqlite", opening
        self.now = CALENDAR.closes[FIRST] + timedelta(hours=3, minutes=5)
        self.pauses: list[float] = []
        self.events: list[Event] = []
        self.splits: dict[date, dict[str, float]] = {}  # by session, as they are announced
        self.broker = self.opened(faults)
        if self.broker.last_session is None:
            self.broker.advance(quiet_bars(FIRST), TICKERS)

    def opened(self, faults: Iterable[Fault] = (), costs: Costs = Costs()) -> SimulatedBroker:  # noqa: B008
        """The broker on the same file, as another process opens it."""
        return SimulatedBroker(
            self.file,
            self.opening,
            clock=lambda: self.now,
            calendar=CALENDAR,
            costs=costs,
            faults=faults,
            announced=lambda session: self.splits.get(session, {}),
        )

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += timedelta(seconds=seconds)

    def send(self, broker: Broker | None = None, plan: Iterable[Order] = PLAN) -> list[Outcome]:
        return send(
            broker or self.broker,
            tuple(plan),
            clock=lambda: self.now,
            deadline=CALENDAR.opens[FILLED_IN] - SENT_BEFORE,
            pause=self.pause,
            record=self.events.append,
            first_numbers=lambda name: sum(event.client_order_id == name for event in self.events),
        )

    def booked_orders(self) -> list[tuple[str, str, str, Decimal]]:
        """What the account has, in the order in which it came."""
        orders = self.opened().orders(LONG_AGO)
        return [(one.client_order_id, one.ticker, one.side, one.shares) for one in orders]


def as_booked(plan: Iterable[Order] = PLAN) -> list[tuple[str, str, str, Decimal]]:
    return [(one.client_order_id, one.ticker, one.side, one.shares) for one in plan]
