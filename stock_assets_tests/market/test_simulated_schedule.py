"""Announcements of the simulated market: larger moves, known ahead, and worth what the laws make them worth."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.sources import simulated_laws as laws
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.market.sources.simulated_companies import COMPANIES, DELISTED, LISTED, TICKERS
from stock_assets.market.sources.simulated_schedule import (
    NEVER,
    SETTLED,
    Dates,
    Quarter,
    chances,
    draw_reactions,
    quarter,
    reactions,
    scheduled,
)

SESSIONS = 2011  # to the end of 2025
LABELS = {"horizon": 7, "buy_threshold": 0.027, "sell_threshold": 0.022}


@pytest.fixture(scope="module")
def calendar() -> TradingCalendar:
    return trading_calendar("XNYS", date(2018, 1, 2))


@pytest.fixture(scope="module")
def bars(calendar: TradingCalendar) -> dict[str, np.ndarray]:
    """As traded, [sessions, 60] each, nan while a company is not listed."""
    days = calendar.sessions[:SESSIONS]
    raw = SimulatedSource(calendar).fetch(TICKERS, days[0], days[-1], fetched_at=datetime(2026, 1, 1, 3, tzinfo=UTC))
    p, later = pl.col("close", "high", "low", "dividend"), pl.col("later_splits")
    traded = raw.bars.with_columns(p * later, pl.col("volume") / later)
    names = "close", "high", "low", "dividend", "volume", "split_ratio"
    wide = {name: traded.pivot("ticker", index="session", values=name, sort_columns=True) for name in names}
    return {name: frame.sort("session").drop("session").to_numpy() for name, frame in wide.items()}


@pytest.fixture(scope="module")
def returns(bars: dict[str, np.ndarray]) -> np.ndarray:
    first = np.full((1, COMPANIES), np.nan)
    paid = (bars["close"] + bars["dividend"])[1:] * bars["split_ratio"][1:]
    return np.concatenate([first, paid / bars["close"][:-1] - 1])


@pytest.fixture(scope="module")
def reacts() -> np.ndarray:
    return reactions(0, np.arange(SESSIONS))


def every_quarter(seed: int) -> list[Quarter]:
    return [quarter(seed, k) for k in range(2000 // 63)]


# Larger moves


def test_moves_are_larger_by_the_stated_factor(returns: np.ndarray, reacts: np.ndarray):
    """The squared surprise of a session is β²m² + s² + v², with v = κ·V on a reaction session, as the laws say."""
    states = laws.State(*(field[: SESSIONS - 1] for field in laws.history_to(0, SESSIONS).states))
    market, sector = 0.008 * np.exp(states.market), 0.005 * np.exp(states.market / 2)
    own = laws.OWN_VOLATILITY * np.exp(states.market / 2 + states.own)
    mean = 0.0005 * laws.BETA - 0.06 * own * states.reversal
    surprise, at = returns[1:] - mean, reacts[1:] & np.isfinite(returns[1:])
    announced = laws.REACTION * laws.OWN_VOLATILITY
    for rows, v, tolerance in ((at, announced, 0.15), (~at & np.isfinite(surprise), own, 0.05)):
        expected = ((laws.BETA * market) ** 2 + sector**2 + v**2)[rows].mean()
        assert (surprise[rows] ** 2).mean() / expected == pytest.approx(0.985, abs=tolerance)  # the shocks are clipped
    ratio = np.broadcast_to(announced, own.shape)[at].mean() / own[~at].mean()
    assert ratio == pytest.approx(4, abs=0.15)
    assert 3.5 <= laws.REACTION.min() < laws.REACTION.max() <= 6
    whole = np.abs(returns[1:])
    assert 2.3 < whole[at].mean() / np.nanmean(np.where(at, np.nan, whole)) < 3


def test_ranges_and_turnover_grow_on_reaction_sessions_and_on_no_other(bars: dict[str, np.ndarray], reacts: np.ndarray):
    spans, turnover = np.log(bars["high"] / bars["low"]), bars["volume"] * bars["close"]
    for values in (spans, turnover):
        usual = values / np.nanmedian(values, axis=0)
        before, after = np.roll(reacts, -1, axis=0)[:-1], np.roll(reacts, 1, axis=0)[1:]
        quiet = np.nanmean(usual[~reacts])
        assert np.nanmean(usual[reacts]) > 2 * quiet
        assert np.nanmean(usual[:-1][before & ~reacts[:-1]]) == pytest.approx(quiet, rel=0.1)
        assert np.nanmean(usual[1:][after & ~reacts[1:]]) == pytest.approx(quiet, rel=0.1)


# When they are, and what is known of it


def test_a_company_announces_once_a_quarter_and_seldom_without_notice(reacts: np.ndarray):
    planned = scheduled(0, np.arange(SESSIONS))
    old = LISTED == 0
    assert planned[:, old].sum(axis=0).min() >= 31  # 2,011 sessions are 31.9 quarters, the first of which may not count
    assert planned.sum(axis=0).max() <= 32
    gaps = np.concatenate([np.diff(np.flatnonzero(column)) for column in planned.T])
    assert gaps.mean() == pytest.approx(63, abs=0.3)
    assert 63 - 6 - 7 <= gaps.min() < gaps.max() <= 63 + 6 + 7
    assert (reacts & ~planned).mean() == pytest.approx(1 / 500, rel=0.2)
    # a season: half of the quarter has hardly any, and the other never more than a handful a session
    by_place = np.bincount(np.arange(SESSIONS) % 63, planned.sum(axis=1), minlength=63)
    assert by_place[:12].sum() == 0
    assert by_place[20:50].sum() > 0.9 * planned.sum()


def test_dates_are_published_weeks_ahead_and_a_move_some_sessions_ahead():
    quarters = [q for seed in range(4) for q in every_quarter(seed)]
    first, published, final, moved = (np.array([getattr(q, f) for q in quarters]) for f in Quarter._fields[1:5])
    assert set((first - published).ravel()) == set(range(17, 34))  # 20 to 30 sessions before it is due, ±3
    moves = moved < NEVER
    assert moves.mean() == pytest.approx(0.15, abs=0.01)
    assert set((final - first)[moves]) == {-2, -1, 1, 2, 3, 5}
    assert (final == first)[~moves].all()
    assert set((first - moved)[moves]) == set(range(4, 13))
    assert (moved - published)[moves].min() >= 1
    assert (final - moved)[moves].min() >= 2  # so what the next session holds is certain, but for the unscheduled ones
    position = np.arange(100, 400)
    ahead = chances(0, position)
    assert set(ahead.ravel()) <= {0.0, 1 / 500, 1.0}
    assert ((ahead == 1) == scheduled(0, position + 1)).all()


def test_a_new_listing_starts_later(reacts: np.ndarray):
    at = np.arange(SESSIONS)[:, None]
    assert not reacts[at < LISTED + 35 - 5].any()  # what is due then may come a week earlier
    first = reacts.argmax(axis=0) - LISTED
    assert (first[52:] <= 35 + 63 + 8).all()
    # its dates are published while it is listed
    for q in every_quarter(0):
        counts = q.due >= SETTLED
        assert (q.published >= LISTED)[counts].all()


@settings(derandomize=True, deadline=None, max_examples=20)
@given(seed=st.integers(0, 3), first=st.integers(0, 1500), length=st.integers(1, 300), place=st.integers(0, 299))
def test_a_session_alone_is_a_part_of_a_range(seed: int, first: int, length: int, place: int):
    span, one = np.arange(first, first + length), np.array([first + place % length])
    for law in (reactions, scheduled, chances):
        np.testing.assert_array_equal(law(seed, span)[place % length], law(seed, one)[0])
    assert reactions(seed, np.array([], int)).shape == chances(seed, np.array([], int)).shape == (0, COMPANIES)


def test_what_happens_later_changes_nothing_that_is_known_before():
    """A quarter is drawn by itself: one that comes later, or is asked for first, leaves the others as they are."""
    quarter.cache_clear()
    late = chances(1, np.arange(1900, 2000))
    quarter.cache_clear()
    early = chances(1, np.arange(100, 200))
    quarter.cache_clear()
    np.testing.assert_array_equal(chances(1, np.arange(2000))[100:200], early)
    np.testing.assert_array_equal(chances(1, np.arange(1900, 2000)), late)


# The oracle draws what is known


@pytest.mark.parametrize("dates", ["published", "past"])
def test_drawn_dates_are_as_frequent_as_those_that_follow(dates: Dates):
    """Against brute force: of all markets in which the same is known at a close, how often does which session react?"""
    position, horizon, k = 150, 40, 2
    many = [quarter(seed, k) for seed in range(10, 1010)]
    first, published, final, moved = (np.array([getattr(q, name) for q in many]) for name in Quarter._fields[1:5])
    if dates == "past":
        evidence = np.where(final > position, -1, final)
    else:
        evidence = np.where(moved <= position, 1000 + final, np.where(published <= position, first, -1))
    drawn = draw_reactions(np.random.default_rng(0), position, seed=10, horizon=horizon, paths=4000, dates=dates)
    shares = drawn.mean(axis=1)
    compared = 0
    for company in np.flatnonzero((many[0].due >= SETTLED) & (final[0] > position)):
        follows = final[evidence[:, company] == evidence[0, company], company]
        expected = np.array([(follows == position + ahead).mean() for ahead in range(1, horizon + 1)])
        # an announcement without notice may come on top
        noise = 4.5 * np.sqrt(np.maximum(expected, 0.01) * (1 / len(follows) + 1 / 4000)) + 2 / 500
        np.testing.assert_array_less(np.abs(shares[:, company] - expected), noise)
        compared += len(follows) >= 50
    assert compared > 10


def test_a_date_that_has_not_moved_grows_surer_the_nearer_it_is():
    """Bayes' rule against counting: how often does a date still move that is published and a number of sessions off?"""
    position, k = 150, 2
    many = [quarter(seed, k) for seed in range(1000)]
    first, moved = (np.array([getattr(q, name) for q in many]) for name in ("first", "moved"))
    stands = moved > position
    probabilities = {}
    for company in np.flatnonzero((many[0].due >= SETTLED) & stands[0]):
        left = int(first[0, company]) - position
        if 0 < left <= 14 and left not in probabilities:
            drawn = draw_reactions(np.random.default_rng(left), position, seed=0, horizon=left, paths=4000)
            probabilities[left] = 1 - drawn[left - 1, :, company].mean()
    for left, probability in probabilities.items():
        alike = (first - position == left) & stands
        assert probability == pytest.approx((moved < NEVER)[alike].mean(), abs=0.02), left
        assert (probability == 0) == (left <= 4)
    assert len(probabilities) >= 8


def test_without_any_date_a_reaction_is_as_frequent_as_it_is(reacts: np.ndarray):
    drawn = draw_reactions(np.random.default_rng(0), 900, seed=0, horizon=20, paths=2000, dates="none")
    listed = (SETTLED < 900) & (DELISTED > 900)
    assert drawn[..., listed].mean() == pytest.approx(reacts[200:, LISTED == 0].mean(), rel=0.06)


def test_the_oracle_agrees_with_brute_force_on_a_reaction_session(calendar: TradingCalendar):
    """One session ahead, where a date is certain: the laws as the docstring has them, drawn in plain numpy."""
    source = SimulatedSource(calendar)
    position = next(p for p in range(700, 800) if scheduled(0, np.array([p + 1])).sum() >= 3)
    oracle = source.oracle_probabilities(
        [calendar.sessions[position]], horizon=1, buy_threshold=0.027, sell_threshold=0.022, paths=20_000
    )
    state = laws.State(*(field[position] for field in laws.history_to(0, position).states))
    rng = np.random.default_rng(3)
    t = (rng.standard_t(5, (40_000, 3)) * np.sqrt(3 / 5)).clip(-6, 6)
    m, s = 0.008 * np.exp(state.market[0]), 0.005 * np.exp(state.market[0] / 2)
    for row in oracle.rows(named=True):
        j = TICKERS.index(row["ticker"])
        usual = laws.OWN_VOLATILITY[j] * np.exp(state.market[0] / 2 + state.own[j])
        sure = scheduled(0, np.array([position + 1]))[0, j]
        announced = rng.random(len(t)) < (1.0 if sure else 1 / 500)
        v = np.where(announced, laws.REACTION[j] * laws.OWN_VOLATILITY[j], usual)
        mean = 0.0005 * laws.BETA[j] - 0.06 * usual * state.reversal[j]
        r = mean + laws.BETA[j] * m * t[:, 0] + s * t[:, 1] + v * t[:, 2]
        expected = (r < -0.022).mean(), ((r >= -0.022) & (r <= 0.027)).mean(), (r > 0.027).mean()
        np.testing.assert_allclose([row["p_sell"], row["p_hold"], row["p_buy"]], expected, atol=0.018)


def test_what_announcements_are_worth(calendar: TradingCalendar):
    """The expected gain in log-loss of who knows the dates, by session: the divergence of the true probabilities from
    those without them. Published dates against none are worth .0046, and .0009 more than past ones."""
    source, asked = SimulatedSource(calendar), calendar.sessions[500:2000:29]
    published, past, none = (
        source.oracle_probabilities(asked, **LABELS, paths=300, dates=dates) for dates in ("published", "past", "none")
    )
    p = published.select("p_sell", "p_hold", "p_buy").to_numpy()
    worth = {}
    for name, other in (("past", past), ("none", none)):
        q = other.select("p_sell", "p_hold", "p_buy").to_numpy()
        divergence = published.select("ticker", "session", worth=(p * np.log(p / q)).sum(axis=1))
        daily = divergence.group_by("session").agg(pl.col("worth").mean())["worth"].to_numpy()
        worth[name] = daily.mean(), 1.96 * daily.std(ddof=1) / np.sqrt(len(daily))
    assert 0.002 < worth["none"][0] - worth["none"][1] < worth["none"][0] + worth["none"][1] < 0.008, worth
    assert worth["past"][0] - worth["past"][1] > 0, worth
    assert worth["past"][0] + worth["past"][1] < worth["none"][0], worth
    # it is where a reaction session lies within the horizon: there a label that is no hold is likelier
    soon = np.array([scheduled(0, np.arange(p + 1, p + 8)).any(axis=0) for p in map(calendar.position, asked)])
    every = [day for day in asked for _ in TICKERS]
    grid = pl.DataFrame({"session": every, "ticker": TICKERS * len(asked), "soon": soon.ravel()})
    rows = published.join(grid, on=["ticker", "session"]).join(none, on=["ticker", "session"], suffix="_none")
    change = dict(rows.group_by("soon").agg((pl.col("p_hold_none") - pl.col("p_hold")).mean()).iter_rows())
    assert change[True] > 0.08
    assert abs(change[False]) < 0.03
