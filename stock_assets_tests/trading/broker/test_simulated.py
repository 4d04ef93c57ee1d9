"""The simulated broker: the ledger to the last bit, Alpaca's refusals, and a file that survives."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stock_assets.errors import BrokerError, DamagedFileError, TradingError
from stock_assets.trading.books import LONG_ONLY, Costs
from stock_assets.trading.broker.faults import Fault
from stock_assets.trading.broker.orders import client_order_id
from stock_assets.trading.broker.protocol import Accepted, Order, Refused, Unknown
from stock_assets.trading.broker.simulated import SimulatedBroker
from stock_assets.trading.broker.simulated_file import Opening
from stock_assets.trading.ledger import opened, step
from stock_assets.trading.plan import decided
from stock_assets_tests.trading.broker.world import (
    CALENDAR,
    FILLED_IN,
    FIRST,
    LONG_AGO,
    TICKERS,
    World,
    lively_bars,
    order_of,
    quiet_bars,
)

NEXT = date(2024, 1, 4)


def statuses(world: World) -> dict[str, tuple[str, Decimal, str | None]]:
    return {one.ticker: (one.status, one.filled, one.reason) for one in world.broker.orders(LONG_AGO)}


def test_evenings_with_splits_dividends_endings_and_shorts_equal_the_back_test_bit_for_bit(tmp_path: Path):
    generator = np.random.default_rng(0)
    costs = Costs(credit=0.02, debit=0.05, sale_fee=0.0001, commission_minimum=1.0)
    world = World(tmp_path, opening=Opening(multiplier=100))
    world.file.unlink()
    broker, tickers = world.opened(costs=costs), tuple("ABCDE")
    account, orders = opened(1e6, len(tickers)), np.zeros(len(tickers))
    book = replace(LONG_ONLY, costs=costs)
    sessions = CALENDAR.between(FIRST, date(2024, 2, 16))
    for session, following in pairwise(sessions):
        bars = lively_bars(generator, session, len(tickers))
        account, _ = step(account, orders, bars, book=book)
        broker.advance(bars, tickers)
        assert float(broker.account().equity) == float(account.equity)
        assert [float(one.shares) for one in broker.positions()] == account.shares[account.shares != 0].tolist()
        weights = np.where(np.isnan(bars.ending), generator.uniform(-0.002, 0.003, len(tickers)), np.nan)
        account, orders = decided(account, weights, bars, book=book)
        world.now = CALENDAR.closes[session] + timedelta(hours=4)
        for ticker, shares in zip(tickers, orders.tolist(), strict=True):
            if shares:
                assert isinstance(broker.submit(order_of(ticker, int(shares), following)), Accepted)
    # the activities explain the cash and the shares to the cent
    activities = broker.activities(LONG_AGO)
    assert {one.kind for one in activities} == {"FILL", "FEE", "DIV", "SPLIT", "REORG", "INT"}
    assert abs(sum(one.amount for one in activities) - (broker.account().cash - 1_000_000)) < Decimal("0.005")
    for holding in broker.positions():
        moved = sum((one.shares for one in activities if one.ticker == holding.ticker), Decimal(0))
        assert abs(moved - holding.shares) < Decimal("1e-6")
    assert {one.reason for one in broker.orders(LONG_AGO)} >= {None, "no volume", "suspect"}


def test_what_becomes_of_orders_at_the_open(world: World):
    for order in (order_of("AAA", 10), order_of("BRK-B", 20), order_of("CCC", -5), order_of("DDD", 1_000_000)):
        world.broker.submit(order)
    refusal = np.array([0, 3, 0, 0], dtype=np.int8)
    # a quarter of a million shares is the most of 1e9 traded at 100
    world.broker.opening = Opening(multiplier=1000)
    world.broker.advance(quiet_bars(FILLED_IN, refusal=refusal), TICKERS)
    assert statuses(world) == {
        "AAA": ("filled", Decimal(10), None),
        "BRK-B": ("expired", Decimal(0), "no volume"),
        "CCC": ("filled", Decimal(5), None),
    }
    assert {one.ticker: one.shares for one in world.broker.positions()} == {"AAA": 10, "CCC": -5}
    order = world.broker.order("sa-test-20240103-AAA-1")
    assert order is not None
    assert order.average_price is not None
    assert 100 < order.average_price < Decimal("100.1")  # half the spread and the impact


def test_an_order_above_what_may_be_filled_expires_with_its_rest(tmp_path: Path):
    world = World(tmp_path, opening=Opening(multiplier=1000))
    assert isinstance(world.broker.submit(order_of("AAA", 300_000)), Accepted)
    world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    assert statuses(world) == {"AAA": ("expired", Decimal(250_000), "capped")}


def test_an_order_over_a_split_is_in_new_shares(world: World):
    world.broker.submit(order_of("AAA", 10))
    split = np.array([2.0, 1.0, 1.0, 1.0])
    halved = np.array([50.0, 100.0, 100.0, 100.0])
    world.broker.advance(quiet_bars(FILLED_IN, split_ratio=split, open=halved, close=halved), TICKERS)
    (state,) = world.broker.orders(LONG_AGO)
    assert (state.status, state.shares, state.filled) == ("filled", 20, 20)


@pytest.mark.parametrize(
    ("order", "code", "reason"),
    [
        (order_of("ZZZ", 1), "40010001", "could not find asset"),
        (order_of("AAA", 10), "40010001", "client_order_id must be unique"),
        (replace(order_of("AAA", -10), client_order_id="sa-other"), "40310000", "potential wash trade"),
        (order_of("DDD", -1), "40310000", "cannot be sold short"),
        (order_of("CCC", 50_000), "40310000", "insufficient buying power"),
        (order_of("CCC", 1, NEXT), "42210000", "the next opening auction is that of 2024-01-03"),
    ],
    ids=lambda value: value.client_order_id if isinstance(value, Order) else None,
)
def test_refusals_are_alpacas(tmp_path: Path, order: Order, code: str, reason: str):
    world = World(tmp_path, opening=Opening(not_shortable=frozenset({"DDD"})))
    world.broker.submit(order_of("AAA", 10))
    answer = world.broker.submit(order)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert reason in answer.reason
    assert len(world.booked_orders()) == 1


@pytest.mark.parametrize(
    ("local", "accepted"),
    [
        ("2024-01-02 16:00", False),
        ("2024-01-02 18:59", False),
        ("2024-01-02 19:00", True),
        ("2024-01-02 23:59", True),
        ("2024-01-03 09:27", True),
        ("2024-01-03 09:28", False),
        ("2024-01-03 12:00", False),
    ],
)
def test_orders_of_the_open_are_taken_from_seven_in_the_evening(world: World, local: str, accepted: bool):
    world.now = (datetime.fromisoformat(local) + timedelta(hours=5)).replace(tzinfo=UTC)  # New York in January
    session = FILLED_IN if world.now < CALENDAR.opens[FILLED_IN] else NEXT
    answer = world.broker.submit(order_of("AAA", 1, session))
    assert isinstance(answer, Accepted) is accepted
    if isinstance(answer, Refused):
        assert "after 7:00pm and before 9:28am" in answer.reason or "auction is that of" in answer.reason


def test_a_blocked_account_and_one_that_is_not_active_take_no_order(world: World):
    world.broker.set_state(blocked=True)
    assert world.broker.account().blocked
    assert world.broker.submit(order_of("AAA", 1)) == Refused("40310000", "new orders are rejected by user request")
    world.broker.set_state(status="ACCOUNT_CLOSED")
    assert world.broker.submit(order_of("AAA", 1)) == Refused("40310000", "account is ACCOUNT_CLOSED")
    world.broker.set_state()
    assert isinstance(world.broker.submit(order_of("AAA", 1)), Accepted)


def test_faults_come_on_request(tmp_path: Path):
    faults = [
        Fault("order lost", "AAA"),
        Fault("answer lost", "BRK-B"),
        Fault("late rejection", "CCC"),
        Fault("partial fill", "DDD"),
        Fault("duplicate event", "DDD"),
    ]
    world = World(tmp_path, faults=faults)
    answers = [world.broker.submit(order_of(ticker, 10)) for ticker in TICKERS]
    assert [type(answer) for answer in answers] == [Unknown, Unknown, Accepted, Accepted]
    assert isinstance(world.broker.submit(order_of("AAA", 10)), Accepted)
    world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    assert statuses(world) == {
        "BRK-B": ("filled", Decimal(10), None),
        "CCC": ("rejected", Decimal(0), "rejected by the exchange"),
        "DDD": ("expired", Decimal(5), "partial fill"),
        "AAA": ("filled", Decimal(10), None),
    }
    fills = [one.id for one in world.broker.activities(LONG_AGO) if one.kind == "FILL"]
    assert (len(fills), len(set(fills))) == (4, 3)


def test_a_halt_and_a_broker_that_does_not_answer(tmp_path: Path):
    world = World(tmp_path, faults=[Fault("halt", "AAA"), Fault("no answer", times=2)])
    for ask in (world.broker.positions, world.broker.clock):
        with pytest.raises(BrokerError, match="does not answer"):
            ask()
    world.broker.submit(order_of("AAA", 10))
    world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    assert statuses(world) == {"AAA": ("expired", Decimal(0), "halt")}


def test_all_open_orders_are_cancelled_until_the_auction_and_none_after(world: World):
    world.broker.submit(order_of("AAA", 10))
    world.now = CALENDAR.opens[FILLED_IN] - timedelta(minutes=1)
    assert world.broker.cancel_all() == 0
    world.now = CALENDAR.opens[FILLED_IN] - timedelta(hours=1)
    assert world.broker.cancel_all() == 1
    assert statuses(world) == {"AAA": ("canceled", Decimal(0), "cancelled by request")}
    # the id is spent for ever
    assert world.broker.submit(order_of("AAA", 10)) == Refused("40010001", "client_order_id must be unique")


def test_a_position_is_closed_before_it_is_opened_the_other_way(world: World):
    world.broker.submit(order_of("AAA", 10))
    world.broker.submit(order_of("CCC", -5))
    world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    world.now = CALENDAR.closes[FILLED_IN] + timedelta(hours=4)
    text = "insufficient qty available for order (requested: {}, available: {})"
    assert world.broker.submit(order_of("AAA", -11, NEXT)) == Refused("40310000", text.format(11, 10))
    assert world.broker.submit(order_of("CCC", 6, NEXT)) == Refused("40310000", text.format(6, 5))
    assert isinstance(world.broker.submit(order_of("AAA", -10, NEXT, attempt=2)), Accepted)


def test_an_order_whose_auction_was_missed_expires(world: World):
    world.broker.submit(order_of("AAA", 10))
    with pytest.raises(TradingError, match="booked through 2024-01-02; expected 2024-01-03 next, found 2024-01-04"):
        world.broker.advance(quiet_bars(NEXT), TICKERS)
    assert world.broker.last_session == FIRST
    with pytest.raises(TradingError, match="2024-01-06 is no session"):
        world.broker.advance(quiet_bars(date(2024, 1, 6)), TICKERS)


def test_a_position_without_a_bar_is_an_error_and_nothing_is_booked(world: World):
    world.broker.submit(order_of("CCC", 10))
    world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    before = world.file.read_bytes()
    with pytest.raises(TradingError, match="the bars of 2024-01-04 lack, such as CCC"):
        world.broker.advance(quiet_bars(NEXT, TICKERS[:2]), TICKERS[:2])
    assert world.file.read_bytes() == before
    # in another order, with one more
    tickers = ("EEE", *reversed(TICKERS))
    world.broker.advance(quiet_bars(NEXT, tickers), tickers)
    assert {one.ticker: one.shares for one in world.broker.positions()} == {"CCC": 10}


def test_an_ended_listing_takes_no_order(world: World):
    ending = np.array([-1.0, np.nan, np.nan, np.nan])
    world.broker.advance(quiet_bars(FILLED_IN, ending=ending), TICKERS)
    world.now = CALENDAR.closes[FILLED_IN] + timedelta(hours=4)
    assert not world.broker.tradable(["AAA"])["AAA"].tradable
    assert world.broker.submit(order_of("AAA", 1, NEXT)) == Refused("42210000", 'asset "AAA" is not active')


def test_the_clock_is_that_of_the_exchange(world: World):
    clock = world.broker.clock()
    assert (clock.now, clock.is_open) == (world.now, False)
    assert (clock.next_open, clock.next_close) == (CALENDAR.opens[FILLED_IN], CALENDAR.closes[FILLED_IN])
    world.now = CALENDAR.opens[FILLED_IN]
    clock = world.broker.clock()
    assert clock.is_open
    assert (clock.next_open, clock.next_close) == (CALENDAR.opens[NEXT], CALENDAR.closes[FILLED_IN])


def test_a_session_is_booked_whole_or_not_at_all(world: World, monkeypatch: pytest.MonkeyPatch):
    world.broker.submit(order_of("AAA", 10))
    before = (world.broker.account(), world.broker.orders(LONG_AGO))

    def full_disk(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("stock_assets.trading.broker.simulated_file.Rows.add_activities", full_disk)
        with pytest.raises(DamagedFileError, match=r"account\.sqlite cannot be .*: database or disk is full"):
            world.broker.advance(quiet_bars(FILLED_IN), TICKERS)
    assert (world.broker.account(), world.broker.orders(LONG_AGO)) == before
    assert world.broker.last_session == FIRST


#: Writes half of a change into the file itself, with a journal of what was there, and is killed.
HALF_WRITTEN = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE account SET cash = -1")
for number in range(2000):
    connection.execute("INSERT INTO activities (id, kind) VALUES (?, 'half')", (str(number) * 20,))
os._exit(9)
"""


def test_what_a_killed_process_wrote_by_half_is_undone(world: World):
    world.broker.submit(order_of("AAA", 10))
    before = (world.broker.account(), world.broker.orders(LONG_AGO))
    whole = world.file.read_bytes()
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, world.file], check=False)
    assert world.file.with_name(f"{world.file.name}-journal").exists()
    assert world.file.read_bytes() != whole
    assert (world.opened().account(), world.opened().orders(LONG_AGO)) == before
    assert world.broker.activities(LONG_AGO) == []


def test_one_of_many_who_send_an_order_at_once_is_accepted(world: World):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: world.opened().submit(order_of("AAA", 10)), range(16)))
    assert sum(isinstance(answer, Accepted) for answer in answers) == 1
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"40010001"}
    assert len(world.booked_orders()) == 1


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten", "foreign", "value"])
def test_a_damaged_file_is_one_error_and_stays_as_it_is(world: World, damage: str):
    content = world.file.read_bytes()
    if damage == "value":
        with sqlite3.connect(world.file) as connection:
            connection.execute("UPDATE account SET session = 'yesterday'")
        connection.close()
    else:
        broken = {"cut": content[: len(content) // 2], "emptied": b"", "overwritten": b"\0" * 8192, "foreign": b"no"}
        world.file.write_bytes(broken[damage])
    damaged = world.file.read_bytes()
    for ask in (world.broker.account, world.opened().positions, lambda: world.broker.submit(order_of("AAA", 1))):
        with pytest.raises(DamagedFileError, match=r"account\.sqlite .*restore it from a backup"):
            ask()
    assert world.file.read_bytes() == damaged


def test_a_file_is_one_account(world: World):
    other = SimulatedBroker(
        world.file, Opening(number="PA-OTHER"), clock=lambda: world.now, calendar=CALENDAR, costs=Costs()
    )
    with pytest.raises(TradingError, match="is the account PA-SIMULATED in USD, expected PA-OTHER in USD: a book"):
        other.account()


def test_a_file_of_another_version_is_one_error(world: World):
    with sqlite3.connect(world.file) as connection:
        connection.execute("UPDATE account SET form = 2")
    connection.close()
    with pytest.raises(TradingError, match=r"account\.sqlite has form 2, and this version reads 1"):
        world.broker.account()


def test_nobody_else_reads_the_file(world: World):
    assert world.file.stat().st_mode & 0o077 == 0
    assert [path.name for path in world.file.parent.iterdir()] == [world.file.name]


def test_an_id_follows_from_the_plan():
    assert client_order_id("long_only", date(2024, 1, 3), "BRK-B") == "sa-long_only-20240103-BRK-B-1"
    assert client_order_id("long_only", date(2024, 1, 3), "BRK-B", attempt=2).endswith("-2")
    with pytest.raises(TradingError, match="expected 1 to 48 printable"):
        client_order_id("a" * 40, date(2024, 1, 3), "BRK-B")
