"""The plan of an evening: whole shares, one order a ticker, flips in two evenings, the same plan for the same facts."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import TradingError
from stock_assets.trading.books import LONG_ONLY
from stock_assets.trading.ledger import Account
from stock_assets.trading.panel import Bars
from stock_assets.trading.plan import Plan, make_plan, opening_orders, require_same

TICKERS = ("A", "B", "C", "D")
SESSION, FILLED, NOW = date(2026, 11, 25), date(2026, 11, 27), datetime(2026, 11, 26, 0, 5, tzinfo=UTC)


def bars_of(**more: Any) -> Bars:
    one, nothing = np.ones(4), np.zeros(4)
    columns = {"open": one * 10, "close": np.array([10.0, 20.0, 30.0, 40.0]), "dividend": nothing, "split_ratio": one}
    columns |= {"refusal": nothing.astype(np.int8), "trusted": one > 0, "ending": one * np.nan, "adv_before": one * 1e8}
    columns |= {"volatility_before": one * 0.02, "fifth_before": nothing.astype(np.int8)}
    return Bars(SESSION, 1, **(columns | more))


def targets_of(weights: dict[str, float | None]) -> pl.DataFrame:
    schema = {"ticker": pl.String, "weight": pl.Float64, "reason": pl.String}
    rows = [(ticker, weight, None if weight is not None else "suspect") for ticker, weight in weights.items()]
    frame = pl.DataFrame(rows, schema, orient="row")
    return frame.with_columns(model_version=pl.lit("v1"), settings=pl.lit("s"))


def plan_of(weights: dict[str, float | None], shares: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0), **more: Any) -> Plan:
    targets, held = targets_of(weights), np.array(shares)
    bars = more.pop("bars", bars_of())
    account = Account(np.asarray(10_000.0), held, np.where(held != 0, bars.close, np.nan), np.zeros(4, np.int64))
    wanted = np.array([np.nan if (weight := weights.get(ticker)) is None else weight for ticker in TICKERS])
    settings = {"book": LONG_ONLY, "tickers": TICKERS, "fill_session": FILLED, "weights": wanted}
    return make_plan(account, targets, bars, **(settings | more))


def test_orders_are_whole_named_by_the_fill_session_and_one_a_ticker():
    plan = plan_of({"B": 0.333, "A": 0.1, "C": None, "D": 0.0}, (50.0, 0.0, 7.0, 3.0))
    assert plan.equity == 10_000 + 500 + 210 + 120
    assert [(o.client_order_id, o.side, o.shares, o.reference_price) for o in plan.orders] == [
        ("sa-long_only-20261127-A-1", "buy", 58, 10.0),
        ("sa-long_only-20261127-B-1", "buy", 180, 20.0),
        ("sa-long_only-20261127-D-1", "sell", 3, 40.0),
    ]
    assert plan.untraded == {"C": "suspect"}
    frame = plan.frame(NOW)
    assert frame["plan"].unique().to_list() == [plan.digest]
    assert frame["fill_session"].unique().to_list() == [FILLED]


def test_without_a_trusted_bar_or_a_target_nothing_is_traded():
    trusted = np.array([True, False, True, True])
    plan = plan_of({"A": None, "B": 0.2, "C": 0.3}, bars=bars_of(trusted=trusted))
    assert [order.ticker for order in plan.orders] == ["C"]


@pytest.mark.parametrize(
    ("ordered", "shares", "sent"),
    [
        (-30.0, 20.0, -20.0),  # to -10: closed first
        (30.0, -20.0, 20.0),
        (-20.0, 20.0, -20.0),
        (-5.0, 20.0, -5.0),
        (10.0, 0.0, 10.0),
        (1.9999999999999996, 0.0, 2.0),  # what a split leaves of a whole number
        (1.6, 0.0, 1.0),
        (-1.6, 0.0, -1.0),
        (0.4, 2.0, 0.0),
    ],
)
def test_a_position_changes_its_sign_in_two_evenings(ordered: float, shares: float, sent: float):
    assert opening_orders(np.array([ordered]), np.array([shares])).tolist() == [sent]


def test_the_same_facts_make_the_same_plan_and_another_one_is_refused():
    weights: dict[str, float | None] = {"A": 0.1, "B": 0.2}
    plan = plan_of(weights)
    assert plan_of(weights).digest == plan.digest == plan_of(dict(reversed(weights.items()))).digest
    require_same(plan.frame(NOW), plan_of(weights))
    require_same(plan.frame(NOW).clear(), plan)
    other = plan_of({"A": 0.1, "B": 0.21})
    with pytest.raises(TradingError, match=f"has the plan {plan.digest} for 2026-11-25.*Nothing is sent"):
        require_same(plan.frame(NOW), other)


@pytest.mark.parametrize(
    ("weights", "bars", "words"),
    [
        ({}, {}, "target_weights has no row of long_only of 2026-11-25"),
        ({"A": 0.1, "ZZZ": 0.1}, {}, "names ZZZ, which has no bars"),
        ({"A": 0.1}, {"adv_before": np.array([1e8, -5.0, 1e8, 1e8])}, "B traded -5 a session .* a volume of 0 or more"),
    ],
)
def test_bad_input_is_one_clear_error_and_nothing_is_ordered(weights, bars: dict[str, Any], words: str):
    with pytest.raises(TradingError, match=words) as error:
        plan_of(weights, bars=bars_of(**bars))
    assert "Nothing is ordered" in str(error.value)
