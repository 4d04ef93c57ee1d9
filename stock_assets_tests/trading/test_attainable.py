"""The best Sharpe ratio of the simulated market is known: the ledger reproduces it, and no strategy passes it."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import TradingError
from stock_assets.market.sources import simulated_laws as laws
from stock_assets.trading.attainable import (
    Attainable,
    attainable,
    covariance,
    shock_variance,
)
from stock_assets.trading.books import Costs, Limits
from stock_assets.trading.ledger import opened, run
from stock_assets.trading.panel import Panel, panel_of
from stock_assets.trading.statistics import Z_95, sharpe, standard_error_hac
from stock_assets_tests.trading.random_market import FREE, book

SEED, FIRST, LAST = 0, 800, 2000
#: The last price of a company that leaves this market is what it is worth.
NOTHING = replace(FREE, ending=0.0)


@pytest.fixture(scope="module")
def market() -> Panel:
    """The simulated market, with opens at the closes before: who decides at a close, trades at it."""
    span = slice(FIRST, LAST)
    bars = laws.history_to(SEED, LAST).bars
    shape = LAST - FIRST, laws.COMPANIES
    at = np.arange(FIRST, LAST)[:, None]
    close, ratio, dividend = (bars[name][span] for name in ("close", "split_ratio", "dividend"))
    before = bars["close"][FIRST - 1 : LAST - 1]
    sessions = [date(2000, 1, 1) + timedelta(t) for t in range(shape[0])]
    figures = {
        "open": before / ratio - dividend,
        "close": close,
        "high": np.full(shape, 1e9),
        "low": np.full(shape, 1e-9),
        "volume": bars["volume"][span],
        "dividend": dividend,
        "split_ratio": ratio,
        "total_return": (close + dividend) * ratio / before - 1,
        "listed": (at >= laws.LISTED) & (at < laws.DELISTED),
    }
    frame = pl.DataFrame(
        {
            "session": np.repeat(np.array(sessions, dtype="datetime64[D]"), shape[1]),
            "ticker": list(laws.TICKERS) * shape[0],
            **{name: values.ravel() for name, values in figures.items()},
            "is_member": True,
            "suspect": pl.Series([None], dtype=pl.String).extend_constant(None, shape[0] * shape[1] - 1),
        }
    )
    context = pl.DataFrame(schema={"series": pl.String, "session": pl.Date, "total_return": pl.Float64})
    universe = pl.DataFrame({"ticker": laws.TICKERS, "sector": [laws.SECTORS[i] for i in laws.SECTOR]})
    bars = frame.with_columns(pl.col("session").cast(pl.Date)).filter("listed")
    return panel_of(bars, universe, context, sessions=sessions, limits=Limits())


@pytest.fixture(scope="module")
def best() -> Attainable:
    """What could be had from the close of each session of the market but the last one."""
    return attainable(SEED, range(FIRST + 1, LAST))


def net_returns(market: Panel, weights: np.ndarray, costs: Costs = NOTHING) -> np.ndarray:
    """float64 [T - 1]: those of `weights` [T - 1, 60] decided at each close but the last one."""
    places = [laws.TICKERS.index(name) for name in market.tickers]
    every = np.concatenate([weights[:, places], np.zeros((1, len(places)))])
    return run(market, every, book(costs), details=False).totals["net_return"][1:]


def laws_returns() -> np.ndarray:
    """float64 [T - 1, 60]: total returns from each close to the next."""
    close, dividend, ratio = (laws.history_to(SEED, LAST).bars[name] for name in ("close", "dividend", "split_ratio"))
    after = slice(FIRST + 1, LAST)
    return (close[after] + dividend[after]) * ratio[after] / close[FIRST : LAST - 1] - 1


def test_the_ledger_reproduces_it_within_its_interval(market: Panel, best: Attainable):
    returns = net_returns(market, best.weights * 0.02)
    margin = Z_95 * standard_error_hac(returns)
    assert abs(sharpe(returns) - best.sharpe) < margin
    assert margin < 0.2 * best.sharpe, "an interval that wide would hold anything"
    # each session by itself is what the weights and the laws' returns come to
    np.testing.assert_allclose(returns, (best.weights * 0.02 * laws_returns()).sum(axis=1), atol=1e-12)


def share(returns: np.ndarray, best: Attainable) -> float:
    """The Sharpe ratio of `returns` over the limit of their sessions."""
    reached = sharpe(returns)
    assert reached is not None
    return reached / best.limit


def test_no_strategy_passes_it(market: Panel, best: Attainable):
    states = laws.State(*(field[FIRST : LAST - 1] for field in laws.history_to(SEED, LAST).states))
    expected, volatility = laws.expected_return(states), laws.total_volatility(states)
    listed = best.weights != 0
    efficient = best.weights / (1 + best.squared[:, None])
    signals = {
        "efficient": efficient * 0.02,
        "mean": expected * 20,
        "mean over variance": expected / volatility**2 * 0.02,
        "reversal": -states.reversal / 100,
        "sign": np.sign(expected) / 60,
        "late": np.concatenate([np.zeros((1, 60)), best.weights[:-1]]) * 0.02,
        "everything": np.full_like(expected, 1 / 60),
    }
    shares = {}
    for name, weights in signals.items():
        returns = net_returns(market, np.where(listed, weights, 0.0))
        shares[name] = share(returns, best)
        assert sharpe(returns) < best.limit + Z_95 * standard_error_hac(returns), name
    assert max(shares, key=lambda name: shares[name]) == "efficient"
    assert shares["everything"] < shares["sign"] < shares["reversal"] < 0.8
    # the control: what has seen the next close passes it by far
    leaked = net_returns(market, np.where(listed, np.sign(laws_returns()), 0.0) / 60)
    assert share(leaked, best) > 1.5


def test_without_a_signal_the_loss_is_turnover_times_cost(market: Panel):
    accounts, number = 24, len(market.tickers)
    weights = np.random.default_rng(7).normal(0, 1 / 60, (LAST - FIRST, accounts, number))
    charged = replace(NOTHING, commission=0.0004, half_spreads=(0.0003,) * 5, open_factor=2.0, spread_scale=1.0)
    totals = run(market, weights, book(charged), account=opened(np.full(accounts, 1e6), number)).totals
    gross, net = totals["gross_return"], totals["net_return"]
    np.testing.assert_allclose(gross - net, totals["turnover"] * 0.001, rtol=1e-9)
    means = gross.mean(axis=0)
    assert abs(means.mean()) < 3 * means.std(ddof=1) / accounts**0.5
    assert (net.mean(axis=0) < -0.0005).all()


def test_the_covariance_is_that_of_the_laws():
    state = laws.State(*(field[FIRST] for field in laws.history_to(SEED, FIRST).states))
    generator = np.random.default_rng(1)
    shocks = laws.draw_shocks(generator, (40_000,))
    surprises = laws.step(state, shocks)[0] - laws.expected_return(state)
    expected = covariance(state)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(np.cov(surprises.T) / scale, expected / scale, atol=0.05)
    assert shock_variance() == pytest.approx(np.mean([field.var() for field in (shocks.market, shocks.own)]), abs=0.02)


def test_the_limit_is_the_highest_and_the_page_is_reproduced():
    constant = Attainable(np.full(100, 0.2), np.zeros((100, 60)))
    assert constant.sharpe == pytest.approx(0.2**0.5)
    assert constant.limit == pytest.approx(0.2**0.5)
    varied = Attainable(np.array([0.1, 0.3]), np.zeros((2, 60)))
    assert varied.sharpe == pytest.approx(0.2 / (0.2 + 0.01) ** 0.5)
    assert varied.limit > varied.sharpe


def test_a_session_without_one_before_it_is_refused():
    with pytest.raises(TradingError, match=r"found \[0, 1\], expected 1 and above"):
        attainable(0, [0, 1])
