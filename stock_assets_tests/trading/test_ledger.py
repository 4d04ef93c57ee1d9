"""The ledger of one session: every event in its order, by figures that are computed by hand."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from stock_assets.errors import TradingError
from stock_assets.trading.books import LONG_SHORT, Limits
from stock_assets.trading.costs import UNKNOWN_VOLATILITY, impact
from stock_assets.trading.ledger import Account, Booked, decide, opened, run, step
from stock_assets.trading.panel import REASONS, UNKNOWN_ENDING, Bars
from stock_assets_tests.trading.random_market import FREE, book, panel, random_bars

N = 3


def bars_of(nights: int = 1, **columns: object) -> Bars:
    """A session of three tickers at 100 on which nothing happens but what `columns` say."""
    usual = {
        "open": 100.0,
        "close": 100.0,
        "dividend": 0.0,
        "split_ratio": 1.0,
        "refusal": 0,
        "trusted": True,
        "ending": np.nan,
        "adv_before": 1e9,
        "volatility_before": 0.02,
        "fifth_before": 4,
    }
    values = {name: np.broadcast_to(np.asarray(value), N) for name, value in (usual | columns).items()}
    return Bars(date(2024, 1, 2), nights, **values)


def account_of(shares: list[float], cash: float = 0.0, mark: float = 100.0) -> Account:
    return Account(np.asarray(cash), np.array(shares, float), np.full(N, mark), np.zeros(N, np.int64))


NONE = np.zeros(N)


def booked_of(account: Account, orders: object, bars: Bars, **costs: float) -> tuple[Account, Booked]:
    return step(account, np.asarray(orders, float), bars, book=book(replace(FREE, **costs)))


def test_the_nights_are_paid_for_on_what_stood_at_the_close_before():
    account = account_of([-10, 0, 0], cash=5000.0)
    costs = {"borrow": 0.05, "borrow_hard": 0.10, "credit": 0.02, "debit": 0.06}
    after, booked = booked_of(account, NONE, bars_of(nights=3, close=200.0), **costs)
    assert booked.borrow[0] == pytest.approx(1000 * 0.05 * 3 / 360)
    assert booked.interest == pytest.approx(5000 * 0.02 * 3 / 360)
    assert after.equity == pytest.approx(5000 - 2000 - booked.borrow[0] + booked.interest)
    _, hard = booked_of(account, NONE, bars_of(adv_before=1e6), **costs, hard_adv=20e6)
    assert hard.borrow[0] == pytest.approx(1000 * 0.10 / 360)
    _, owing = booked_of(account_of([0, 0, 0], cash=-5000.0), NONE, bars_of(), **costs)
    assert owing.interest == pytest.approx(-5000 * 0.06 / 360)


def test_the_split_comes_before_the_dividend_which_a_short_pays():
    account = account_of([10, -10, 0], cash=1000.0)
    after, booked = booked_of(account, NONE, bars_of(split_ratio=2.0, dividend=1.5, open=48.5, close=48.5))
    assert list(after.shares) == [20, -20, 0]
    assert list(booked.dividend) == [30, -30, 0]
    assert after.cash == 1000.0
    assert list(booked.price) == [-30, 30, 0]


def test_an_order_is_split_and_does_not_earn_the_dividend_of_the_session_it_is_filled_in():
    after, booked = booked_of(
        account_of([0, 0, 0], cash=1000.0), [5, 0, 0], bars_of(split_ratio=2.0, dividend=1.0, open=50.0)
    )
    assert (booked.filled[0], booked.dividend[0], after.cash) == (10, 0, 500)


def test_a_listing_that_ended_is_paid_out_and_takes_no_order():
    account = account_of([10, -10, 4], cash=0.0)
    ending = np.array([-0.25, UNKNOWN_ENDING, np.nan])
    gone = bars_of(ending=ending, close=[np.nan, np.nan, 100.0], trusted=ending != ending, refusal=[1, 1, 0])
    after, booked = booked_of(account, [5, 5, 5], gone, ending=-0.3)
    assert list(booked.ending) == [-250, 300, 0]
    assert list(after.shares) == [0, 0, 9]
    assert after.cash == pytest.approx(750 - 700 - 500)
    assert [REASONS[code] for code in booked.reason] == ["ended", "ended", "filled"]


def test_a_refused_order_expires_with_its_reason_and_a_large_one_is_capped():
    _, booked = booked_of(
        account_of([0, 0, 0], cash=1e6), [50, 50, 50], bars_of(refusal=[0, 4, 5], adv_before=1e5), participation=0.025
    )
    assert list(booked.filled) == [25, 0, 0]
    assert [REASONS[code] for code in booked.reason] == ["capped", "open outside high and low", "suspect"]
    _, unknown = booked_of(account_of([0, 0, 0], cash=1e6), [50, 0, 0], bars_of(adv_before=np.nan), participation=0.025)
    assert unknown.filled[0] == 0


def test_what_a_fill_costs():
    costs = {"commission": 0.0001, "commission_minimum": 2.0, "sale_fee": 0.00003, "spread_scale": 1.0, "impact": 1.0}
    bars = bars_of(open=110.0, close=110.0, fifth_before=[4, 0, 4], adv_before=1e8)
    after, booked = booked_of(account_of([0, 300, 0], cash=1e5), [100, -300, 0], bars, **costs, tick=0.0)
    np.testing.assert_allclose(booked.spread, [11000 * 0.00007 * 2, 33000 * 0.0003 * 2, 0])
    np.testing.assert_allclose(
        booked.impact, [11000 * 0.02 * (11000 / 1e8) ** 0.5, 33000 * 0.02 * (33000 / 1e8) ** 0.5, 0]
    )
    np.testing.assert_allclose(booked.commission, [2.0, 33000 * 0.00013, 0])
    assert after.cash == pytest.approx(
        1e5 + 22000 - booked.spread.sum() - booked.impact.sum() - booked.commission.sum()
    )
    _, penny = booked_of(
        account_of([0, 0, 0], cash=1e5, mark=2.0), [100, 0, 0], bars_of(open=2.0), spread_scale=1.0, tick=0.01
    )
    assert penny.spread[0] == pytest.approx(200 * 0.0025 * 2)
    assert impact(np.array([1e6]), np.array([1e8]), np.array([np.nan]))[0] == pytest.approx(UNKNOWN_VOLATILITY * 0.1)


def test_a_position_without_a_trusted_bar_keeps_its_mark():
    after, booked = booked_of(
        account_of([10, 10, 0], cash=0.0), NONE, bars_of(close=[150.0, 120.0, 100.0], trusted=[False, True, True])
    )
    assert list(after.marks) == [100, 120, 100]
    assert list(booked.price) == [0, 200, 0]


def test_the_close_can_fill_and_has_the_spread_of_the_day():
    of = replace(book(replace(FREE, spread_scale=1.0)), fill="close")
    bars = bars_of(open=np.nan, close=120.0, refusal=2)
    after, booked = step(account_of([0, 0, 0], cash=1e4), np.array([10.0, 0, 0]), bars, book=of)
    assert after.cash == pytest.approx(1e4 - 1200 - 1200 * 0.00007)
    assert (booked.price[0], booked.fill_price[0]) == (0, 120)


def test_whole_shares_stay_whole_and_a_split_pays_out_the_fraction():
    whole = replace(LONG_SHORT, costs=FREE)
    after, booked = step(
        account_of([15, -15, 30], cash=0.0),
        np.array([7.0, 0, 0]),
        bars_of(split_ratio=0.1, open=1000.0, close=1000.0),
        book=whole,
    )
    assert list(after.shares) == [1, -1, 3]
    assert (after.cash, after.equity, booked.filled[0]) == (0, 3000, 0)
    _, capped = step(
        account_of([0, 0, 0], cash=1e6),
        np.array([50.0, 0, 0]),
        bars_of(adv_before=1010.0),
        book=replace(whole, costs=replace(FREE, participation=0.95)),
    )
    assert capped.filled[0] == 9
    _, orders = decide(account_of([0, 3, 0], cash=1e4), np.array([0.101, 0.0, -0.101]), bars_of(), book=whole)
    assert list(orders) == [10, -3, -10]


def test_orders_are_sized_at_the_close_and_nothing_is_ordered_without_a_bar_or_a_target():
    account = account_of([10, 10, 0], cash=8000.0)
    decided, orders = decide(
        account, np.array([0.5, np.nan, 0.25]), bars_of(close=100.0, trusted=[True, True, False]), book=book()
    )
    assert list(orders) == [40, 0, 0]
    assert list(decided.frozen) == [0, 1, 0]
    _, ruined = decide(account_of([10, 0, 0], cash=-2000.0), np.array([0.5, 0.5, np.nan]), bars_of(), book=book())
    assert list(ruined) == [-10, 0, 0]


def test_a_position_without_a_target_is_sold_after_so_many_sessions_at_the_next_bar():
    of = book(limits=Limits(frozen_sessions=2))
    account, hold = account_of([10, 10, 0], cash=0.0), np.full(N, np.nan)
    seen = []
    for trusted in ([True, True, True], [False, True, True], [False, True, True], [True, True, True]):
        account, orders = decide(account, hold, bars_of(trusted=trusted), book=of)
        seen.append(list(orders))
        account, _ = step(account, orders, bars_of(), book=of)
    assert seen == [[0, 0, 0], [0, 0, 0], [0, -10, 0], [-10, 0, 0]]


def test_the_first_orders_of_an_account_are_filled_and_its_first_row_has_no_return():
    whole = panel(random_bars(1))
    result = run(whole, np.full((30, len(whole.tickers)), 0.1), book())
    assert (result.first, result.totals["equity"][0], result.totals["names"][0]) == (0, 1e6, 0)
    assert np.isnan(result.totals["net_return"][0])
    assert result.totals["names"][1] > 0
    assert result.orders.shape == (len(whole.tickers),)


def test_weights_of_another_shape_are_refused():
    whole = panel(random_bars(1))
    with pytest.raises(TradingError, match=r"weights of the book long_short: found \(29, 8\) .* 30 sessions"):
        run(whole, np.zeros((29, len(whole.tickers))), book())
    with pytest.raises(TradingError, match="with 240 infinite ones"):
        run(whole, np.full((30, len(whole.tickers)), np.inf), book())


def test_capital_of_several_accounts_is_opened_at_once():
    accounts = opened(np.array([1.0, 2.0]), N)
    assert accounts.shares.shape == (2, N)
    assert list(accounts.equity) == [1.0, 2.0]
