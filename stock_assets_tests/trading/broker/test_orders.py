"""Before anything is sent: orders that are none, another clock, calendar or account, each one clear error."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from stock_assets.errors import TradingError
from stock_assets.trading.broker.faults import Fault
from stock_assets.trading.broker.orders import (
    account_problem,
    calendar_problem,
    clock_problem,
    require_orders,
)
from stock_assets.trading.broker.protocol import Order
from stock_assets.trading.broker.send import Event, send, settle
from stock_assets.trading.broker.simulated_file import Opening
from stock_assets_tests.trading.broker.conftest import Line
from stock_assets_tests.trading.broker.world import (
    CALENDAR,
    FILLED_IN,
    FIRST,
    PLAN,
    TICKERS,
    World,
    as_booked,
    order_of,
    quiet_bars,
)

AAA = PLAN[0]
WRONG: list[tuple[Order, str]] = [
    (replace(AAA, shares=Decimal(-3)), "-3 shares of AAA; expected a number above zero: a sale is named by its side"),
    (replace(AAA, shares=Decimal(0)), "0 shares of AAA; expected a number above zero"),
    (replace(AAA, shares=Decimal("NaN")), "NaN shares"),
    (replace(AAA, shares=Decimal("Infinity")), "Infinity shares"),
    (replace(AAA, shares=Decimal("1.5")), "1.5 shares of AAA; expected a whole number"),
    (replace(AAA, shares=10.0), "10.0 shares"),  # type: ignore[arg-type]
    (replace(AAA, ticker="A B"), "for the ticker 'A B'; expected 1 to 32 letters"),
    (replace(AAA, ticker="\x1b[2J"), "ticker"),
    (replace(AAA, side="short"), "the side 'short'; expected buy or sell"),  # type: ignore[arg-type]
    (replace(AAA, client_order_id=""), "expected 1 to 48 printable ASCII"),
    (replace(AAA, client_order_id="x" * 49), "expected 1 to 48 printable ASCII"),
    (replace(AAA, client_order_id="a\nb"), "expected 1 to 48 printable ASCII"),
    (order_of("ZZZ", 1), "no order was sent: ZZZ is unknown to the broker"),
    (replace(order_of("AAA", 2), client_order_id="sa-second"), "2 orders have the ticker AAA, expected one"),
    (replace(order_of("DDD", 2), client_order_id=AAA.client_order_id), "2 orders have the client_order_id"),
]


@pytest.mark.parametrize(("order", "message"), WRONG, ids=range(len(WRONG)))
def test_one_wrong_order_keeps_the_whole_plan_from_being_sent(world: World, order: Order, message: str):
    with pytest.raises(TradingError) as error:
        world.send(plan=[*PLAN, order])
    assert message in str(error.value)
    assert "\x1b" not in str(error.value)
    assert world.booked_orders() == []
    assert world.events == []


def test_the_same_through_the_real_client(line: Line):
    with pytest.raises(TradingError, match="ZZZ is unknown to the broker"):
        line.world.send(line.broker, [*PLAN, order_of("ZZZ", 1)])
    for order, _ in WRONG[:4]:
        with pytest.raises(TradingError):
            line.broker.submit(order)
    assert ("POST", "/v2/orders") not in line.middle.requests


def test_a_short_of_what_cannot_be_borrowed_is_one_error(tmp_path: Path):
    world = World(tmp_path, opening=Opening(not_shortable=frozenset({"CCC"})))
    with pytest.raises(TradingError, match="CCC cannot be sold short at the broker: 5 shares to sell, 0 held"):
        world.send()
    assert world.booked_orders() == []


@pytest.mark.parametrize("session", [date(2024, 1, 4), date(2024, 1, 6), FIRST])
def test_an_order_of_another_open_is_one_error(line: Line, session: date):
    """Alpaca is not told the session of an order: it would fill this one at its next open."""
    orders = [order_of("AAA", 1, session)]
    with pytest.raises(TradingError, match=f"no order was sent: the orders are for the open of {session}"):
        line.world.send(line.broker, orders)
    assert ("POST", "/v2/orders") not in line.middle.requests


def test_an_order_that_would_turn_a_position_around_is_one_error(world: World):
    world.send(plan=PLAN[:1])
    world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    held = {one.ticker: one.shares for one in world.broker.positions()}
    order = order_of("AAA", -11, date(2024, 1, 4))
    with pytest.raises(TradingError, match="sell 11 AAA would turn a position of 10 shares around"):
        require_orders([order], world.broker.tradable(["AAA"]), held)


@pytest.mark.parametrize(
    "fault", [Fault("answer lost"), Fault("order lost"), Fault("no answer"), Fault("no answer", times=4)], ids=str
)
def test_a_fault_of_the_simulated_broker_leaves_each_order_there_once(tmp_path: Path, fault: Fault):
    world = World(tmp_path)
    broker = world.opened([fault])
    for order in PLAN:
        outcome = settle(
            broker,
            order,
            clock=lambda: world.now,
            deadline=CALENDAR.opens[FILLED_IN],
            pause=world.pause,
            record=world.events.append,
        )
        assert outcome.kind == "accepted"
    assert world.booked_orders() == as_booked()
    assert len(world.pauses) >= fault.times


def test_clocks_that_disagree(world: World):
    theirs = world.broker.clock()
    assert clock_problem(theirs, world.now) is None
    assert clock_problem(theirs, world.now + timedelta(seconds=30)) is None
    problem = clock_problem(theirs, world.now - timedelta(minutes=7))
    assert problem == (
        "the broker's clock is at 2024-01-03 00:05:00 UTC and ours at 2024-01-02 23:58:00 UTC; expected at most 30 s "
        "between them: set the clock of this machine"
    )
    stale = replace(theirs, next_open=world.now - timedelta(hours=1))
    assert "next open is 2024-01-02 23:05 UTC, which is over" in str(clock_problem(stale, world.now))


def test_nothing_is_sent_by_a_clock_that_disagrees(line: Line):
    now = line.world.now
    with pytest.raises(TradingError, match="no order was sent: the broker's clock is at 2024-01-03 00:05:00 UTC and"):
        send(
            line.broker,
            PLAN,
            clock=lambda: now - timedelta(hours=1),
            deadline=CALENDAR.opens[FILLED_IN],
            pause=line.world.pause,
            record=line.world.events.append,
        )
    assert ("POST", "/v2/orders") not in line.middle.requests


def test_calendars_that_disagree(world: World):
    ours = {day: (CALENDAR.opens[day], CALENDAR.closes[day]) for day in (FIRST, FILLED_IN)}
    assert calendar_problem(world.broker.calendar(FIRST, FILLED_IN), ours) is None
    assert calendar_problem({FIRST: ours[FIRST]}, ours) == (
        "2024-01-03: closed by the broker's calendar, and from 14:30 to 21:00 UTC by the exchange's"
    )
    early = {**ours, FILLED_IN: (ours[FILLED_IN][0], ours[FILLED_IN][1] - timedelta(hours=3))}
    assert "from 14:30 to 18:00 UTC by the broker's" in str(calendar_problem(early, ours))


def test_accounts_that_may_not_be_traded(world: World):
    account = world.broker.account()
    assert account_problem(account, currency="USD", number=None) is None
    assert account_problem(account, currency="USD", number=account.number) is None
    euro = replace(account, currency="EUR")
    assert account_problem(euro, currency="USD", number=None) == (
        "the account PA-SIMULATED is in EUR, expected USD as the prices are"
    )
    assert "expected PA-MINE" in str(account_problem(account, currency="USD", number="PA-MINE"))
    assert "blocked" in str(account_problem(replace(account, blocked=True), currency="USD", number=None))
    assert "APPROVAL_PENDING, expected ACTIVE" in str(
        account_problem(replace(account, status="APPROVAL_PENDING"), currency="USD", number=None)
    )


def test_nothing_is_sent_that_is_not_on_record(world: World):
    """Where the event `sent` cannot be stored, the order stays here; and the events of an order are numbered on."""

    class Full:
        def append(self, event: Event) -> None:
            if event.event == "sent":
                raise TradingError("the store is full")

    kept, world.events = world.events, Full()  # type: ignore[assignment]
    settled = partial(
        settle,
        world.broker,
        AAA,
        clock=lambda: world.now,
        deadline=CALENDAR.opens[FILLED_IN],
        pause=world.pause,
    )
    with pytest.raises(TradingError, match="the store is full"):
        settled(record=world.events.append)
    assert world.booked_orders() == []
    settled(record=kept.append, number=7)
    assert [(event.number, event.event, event.status) for event in kept] == [
        (7, "looked_up", None),
        (8, "sent", None),
        (9, "accepted", "accepted"),
    ]
    settled(record=kept.append, number=10)
    assert [(event.number, event.event, event.status) for event in kept[3:]] == [(10, "state", "accepted")]
