"""What a reader of prices who knows the laws of the simulated market can know of its state, and what he cannot."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.sources import simulated_laws as laws
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.simulated_context import context_bars
from stock_assets.market.sources.simulated_filter import GRID, Belief, beliefs

COUNT, RULE = 900, {"horizon": 7, "buy_threshold": 0.027, "sell_threshold": 0.022}
FROM = 300  # by then the filter has seen enough


@pytest.fixture(scope="module")
def calendar() -> TradingCalendar:
    return trading_calendar("XNYS", date(2018, 1, 2))


def belief(count: int) -> Belief:
    bars = context_bars(("^VIX",), np.arange(count), laws.history_to(0, count - 1), seed=0)
    return beliefs(0, count, tuple(bars["close"].to_list()))


@pytest.fixture(scope="module")
def believed() -> Belief:
    return belief(COUNT)


@pytest.fixture(scope="module")
def state() -> laws.State:
    return laws.State(*(field[:COUNT] for field in laws.history_to(0, COUNT).states))


@pytest.fixture(scope="module")
def listed() -> np.ndarray:
    at = np.arange(COUNT)[:, None]
    return (at > laws.LISTED + FROM) & (at < laws.DELISTED) & (at > FROM)


def test_a_close_is_judged_by_what_was_seen_before(believed: Belief):
    for whole, part in zip(believed, belief(400), strict=True):
        np.testing.assert_array_equal(whole[:400], part)


def test_beliefs_are_as_sure_as_they_are_right(believed: Belief, state: laws.State, listed: np.ndarray):
    error = (believed.market - state.market[:, 0])[FROM:] / believed.deviation[FROM:]
    assert 0.6 < error.std() < 1.4
    # the probability that lies below the truth is uniform where the probabilities are those of the truth
    below = ((state.own[..., None] > GRID) * believed.own).sum(axis=-1)[listed]
    assert below.mean() == pytest.approx(0.5, abs=0.05)
    for share in (0.5, 0.8, 0.95):
        assert (np.abs(below - 0.5) < share / 2).mean() == pytest.approx(share, abs=0.06)
    rough = believed.turbulent > 0.5
    assert state.turbulent[rough, 0].mean() > 0.6 > 0.4 > state.turbulent[~rough, 0].mean()


def test_the_state_is_seen_in_part(believed: Belief, state: laws.State, listed: np.ndarray):
    own = believed.own @ GRID
    assert 0.7 < np.corrcoef(own[listed], state.own[listed])[0, 1] < 0.95
    assert 0.7 < np.corrcoef(believed.reversal[listed], state.reversal[listed])[0, 1] < 0.99


def test_its_probabilities_lie_between_those_of_the_oracle_and_of_a_ticker(calendar: TradingCalendar):
    """In log-loss against labels drawn from the oracle's own probabilities, so that chance does not decide."""
    source, asked = SimulatedSource(calendar), calendar.sessions[FROM:COUNT:40]
    oracle, filtered = (
        of(asked, **RULE, paths=500) for of in (source.oracle_probabilities, source.filtered_probabilities)
    )
    assert oracle.select("ticker", "session").equals(filtered.select("ticker", "session"))
    names = ["p_sell", "p_hold", "p_buy"]
    p, q = (frame.select(names).to_numpy() for frame in (oracle, filtered))
    usual = oracle.select(pl.col(names).mean().over("ticker")).to_numpy()
    best, seen, naive = ((-p * np.log(other)).sum(axis=1).mean() for other in (p, q, usual))
    assert best + 0.002 < seen < best + 0.25 * (naive - best)
    one = source.filtered_probabilities(asked[3:4], **RULE, paths=500)
    assert one.equals(filtered.filter(pl.col("session") == asked[3]))
    assert source.filtered_probabilities([], **RULE).is_empty()
