"""Every gate holds on an ordinary evening, and each fails for its own fact alone."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from stock_assets.trading.books import LONG_ONLY
from stock_assets.trading.broker.protocol import BrokerAccount
from stock_assets.trading.gates import Facts, GateLimits, check_gates, most_traded, rows_of_gates
from stock_assets.trading.plan import Plan, PlannedOrder

SESSION, FILLED = date(2026, 11, 24), date(2026, 11, 25)
CLOSED, NOW, OPENS = (
    datetime(2026, 11, 24, 21, tzinfo=UTC),
    datetime(2026, 11, 25, 0, 5, tzinfo=UTC),
    datetime(2026, 11, 25, 14, 30, tzinfo=UTC),
)
ORDERS = (
    PlannedOrder("sa-long_only-20261125-A-1", "A", "buy", 200, 100.0, 0.05, "v1"),
    PlannedOrder("sa-long_only-20261125-B-1", "B", "sell", 100, 50.0, 0.0, "v1"),
)
ACCOUNT = BrokerAccount(
    "PA1",
    "USD",
    Decimal(500_000),
    Decimal(1_000_000),
    Decimal(1_000_000),
    Decimal(2_000_000),
    "ACTIVE",
    False,
    True,
    True,
)
ORDINARY = Facts(
    plan=Plan("long_only", SESSION, FILLED, ORDERS, 1_000_000.0, "s", {}),
    book=replace(LONG_ONLY, limits=replace(LONG_ONLY.limits, position=0.05)),
    sleeves=7,
    account=ACCOUNT,
    now=NOW,
    currency="USD",
    halted=None,
    breaks=(),
    last_closed=SESSION,
    broker_now=NOW,
    broker_last_closed=SESSION,
    broker_next_open=OPENS,
    opens_at=OPENS,
    calendar=None,
    predicted_through=SESSION,
    predicted=95,
    expected=100,
    version="v1",
    champion="v1",
    fetched_at=CLOSED + timedelta(hours=1),
    closed_at=CLOSED,
    alarms=(),
    positions={"A": 50_000.0},
    adv={"A": 1e8, "B": 1e7},
    prices={"A": (101.0, 100.0)},
    untradable=(),
    actions=(),
    changes={},
    held=1,
    equity_before=1_010_000.0,
    equity_peak=1_100_000.0,
    open_orders=0,
    live=False,
    stated_number=None,
)


def failed(facts: Facts) -> set[str]:
    return {gate.name for gate in check_gates(facts) if not gate.passed}


def test_an_ordinary_evening_passes_them_all():
    gates = check_gates(ORDINARY)
    assert failed(ORDINARY) == set()
    rows = rows_of_gates(gates, ORDINARY.plan, NOW)
    assert rows.height == len({gate.name for gate in gates}) == 30
    assert rows["passed"].all()
    assert all(rows["reason"].str.contains("; expected "))


def order(**more: Any) -> Plan:
    return replace(ORDINARY.plan, orders=(replace(ORDERS[0], **more),))


@pytest.mark.parametrize(
    ("change", "gates"),
    [
        ({"halted": "halted by ada"}, {"kill_switch"}),
        ({"breaks": ("cash",)}, {"breaks"}),
        ({"account": replace(ACCOUNT, blocked=True)}, {"account"}),
        ({"account": replace(ACCOUNT, status="INACTIVE")}, {"account"}),
        ({"account": replace(ACCOUNT, currency="EUR")}, {"currency"}),
        ({"stated_number": "PA2"}, {"account_number"}),
        ({"account": replace(ACCOUNT, is_paper=False)}, {"paper"}),
        ({"account": replace(ACCOUNT, is_paper=False), "live": True}, {"paper"}),
        ({"account": replace(ACCOUNT, is_paper=False), "live": True, "stated_number": "PA1"}, set()),
        ({"account": replace(ACCOUNT, may_short=False), "positions": {"A": -10_000.0}}, {"shorts"}),
        ({"broker_now": NOW + timedelta(minutes=3)}, {"clock"}),
        ({"broker_next_open": OPENS + timedelta(days=1)}, {"next_open"}),
        ({"now": OPENS, "broker_now": OPENS}, {"next_open"}),
        ({"calendar": "2026-11-27: closed by the broker's calendar"}, {"calendar"}),
        ({"broker_last_closed": date(2026, 11, 23)}, {"session"}),
        ({"predicted_through": date(2026, 11, 23)}, {"session"}),
        ({"predicted": 94}, {"predicted"}),
        ({"expected": 0}, {"predicted"}),
        ({"version": "v0"}, {"version"}),
        ({"version": None, "champion": None}, {"version"}),
        ({"fetched_at": CLOSED - timedelta(minutes=1)}, {"fresh_bars"}),
        ({"fetched_at": None}, {"fresh_bars"}),
        ({"alarms": ("drift",)}, {"alarms"}),
        ({"plan": order(shares=1_001)}, {"largest_order"}),
        ({"adv": {"A": 1.9e6, "B": 1e7}}, {"order_of_adv"}),
        ({"adv": {"B": 1e7}}, {"order_of_adv"}),
        ({"positions": {"A": 62_600.0}}, {"largest_position"}),
        ({"prices": {"A": (125.0, 100.0)}}, {"price"}),
        ({"account": replace(ACCOUNT, buying_power=Decimal(19_999))}, {"buying_power"}),
        ({"untradable": ("A",)}, {"tradable"}),
        ({"actions": ("A",)}, {"corporate_actions"}),
        ({"changes": {"A": "forward split of 2 for 1 on 2026-11-25"}}, {"splits"}),
        ({"changes": {"C": "forward split of 2 for 1 on 2026-11-25"}}, set()),
        ({"open_orders": 1}, {"open_orders"}),
        ({"equity_before": 1_053_000.0}, {"day_drop"}),
        ({"equity_peak": 1_180_000.0}, {"peak_drop"}),
        ({"equity_before": None, "equity_peak": None}, set()),
    ],
)
def test_each_fails_for_its_own_fact(change: dict[str, Any], gates: set[str]):
    assert failed(replace(ORDINARY, **change)) == gates


def test_an_evening_trades_what_its_sleeves_can_turn_over_and_the_first_one_builds_the_book():
    limits = GateLimits()
    assert most_traded(ORDINARY, limits) == 0.60
    assert most_traded(replace(ORDINARY, sleeves=1), limits) == 2.5
    assert most_traded(replace(ORDINARY, held=0), limits) == 1.25
    many = replace(ORDINARY.plan, orders=tuple(replace(ORDERS[0], ticker=f"T{i}", shares=900) for i in range(7)))
    adv = {f"T{i}": 1e8 for i in range(7)}
    assert failed(replace(ORDINARY, plan=many, adv=adv)) == {"all_orders"}
    assert failed(replace(ORDINARY, plan=replace(many, orders=ORDERS[:1] * 301), adv={"A": 1e8})) >= {"orders"}
