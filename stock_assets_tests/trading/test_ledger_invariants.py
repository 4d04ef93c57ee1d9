"""What holds of every run, whatever the market does: properties over random markets."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.trading.books import Book
from stock_assets.trading.ledger import Run, opened, run
from stock_assets.trading.panel import LOOKBACK_SESSIONS
from stock_assets_tests.trading.random_market import (
    COSTLY,
    COSTLY_BOOK,
    FREE,
    SESSIONS,
    Frames,
    book,
    panel,
    random_bars,
    random_weights,
)

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=10, deadline=None)
BOOKS = [
    COSTLY_BOOK,
    *(replace(COSTLY_BOOK, whole_shares=False, fill=fill) for fill in ("open", "close", "second open")),
]


def run_of(seed: int, of: Book = COSTLY_BOOK) -> Run:
    whole = panel(random_bars(seed))
    return run(whole, random_weights(seed, whole), of)


def up_to(frames: Frames, session: object) -> Frames:
    return Frames(*(frame.filter(pl.col("session") <= session) for frame in frames))


def assert_same(ours: Frames, theirs: Frames) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert_frame_equal(one, other, check_exact=True)


def test_random_markets_have_what_the_ledger_books():
    frames = Frames.of(run_of(3))
    reasons = set().union(*(Frames.of(run_of(seed)).fills["reason"] for seed in range(12)))
    assert reasons >= {"filled", "no bar", "no open", "no volume", "open outside high and low", "suspect", "capped"}
    for name in ("dividend", "spread", "impact", "commission", "borrow", "interest", "ending"):
        assert (sum(np.abs(run_of(seed).totals[name]).sum() for seed in range(6))) > 0, name
    assert (frames.positions["shares"] < 0).any()


@pytest.mark.parametrize("of", BOOKS, ids=lambda of: f"{of.fill}, {'whole' if of.whole_shares else 'fractional'}")
@FEW
@given(seed=SEEDS)
def test_every_change_of_equity_has_a_cause(seed: int, of: Book):
    fills, positions, equity = Frames.of(run_of(seed, of))
    gain = pl.sum_horizontal("price_gain", "dividend", "ending", "interest")
    cost = pl.sum_horizontal("spread", "impact", "commission", "borrow")
    unexplained = equity.select(pl.col("equity").diff() - gain + cost).to_series().drop_nulls()
    assert unexplained.abs().max() < 1e-6
    held = positions.group_by("session").agg(pl.sum("value", "price_gain", "dividend", "ending", "borrow"))
    together = equity.join(held, on="session", suffix="_of_positions").join(
        fills.group_by("session").agg(pl.sum("spread", "impact", "commission")), on="session", suffix="_of_fills"
    )
    for name in ("price_gain", "dividend", "ending", "borrow"):
        np.testing.assert_allclose(together[name], together[f"{name}_of_positions"], atol=1e-6)
    for name in ("spread", "impact", "commission"):
        np.testing.assert_allclose(together[name], together[f"{name}_of_fills"], atol=1e-6)
    np.testing.assert_allclose(together["equity"], together["cash"] + together["value"], rtol=1e-12)


@FEW
@given(SEEDS)
def test_one_name_without_costs_grows_by_its_total_returns(seed: int):
    generator = np.random.default_rng(seed)
    sessions = 100
    dates = np.arange(sessions) % 5 == 0  # no two of them in a row: what one pays is invested before the next
    split = np.where(generator.random(sessions) < 0.05, generator.choice([2.0, 0.1, 1.5], sessions), 1.0)
    dividend = np.where(dates & (np.arange(sessions) > 1), generator.uniform(0, 0.5, sessions), 0.0)
    close, opened_at = [100.0], [100.0]
    for t in range(1, sessions):
        opened_at.append(
            close[-1] / split[t]
        )  # no price moves overnight, so that an order is worth what it was sized at
        close.append(max(opened_at[-1] * np.exp(generator.normal(0, 0.03)) - dividend[t], 1.0))
    prices = {
        "open": opened_at,
        "close": close,
        "high": np.maximum(opened_at, close),
        "low": np.minimum(opened_at, close),
    }
    bars = pl.DataFrame(
        {
            "session": SESSIONS[:sessions],
            "ticker": ["T00"] * sessions,
            **prices,
            "volume": [1e9] * sessions,
            "dividend": dividend,
            "split_ratio": split,
            "total_return": [0.0, *((np.array(close) + dividend) * split)[1:] / np.array(close)[:-1] - 1],
            "is_member": [True] * sessions,
            "suspect": [None] * sessions,
        },
        schema_overrides={"suspect": pl.String},
    )
    totals = run(panel(bars), np.ones((sessions, 1)), book()).totals
    np.testing.assert_allclose(totals["equity"] / 1e6, np.cumprod(1 + bars["total_return"].to_numpy()), rtol=1e-12)


@FEW
@given(SEEDS)
def test_the_order_of_tickers_changes_nothing(seed: int):
    bars, whole = random_bars(seed), run_of(seed)
    names = whole.panel.tickers
    shuffled = list(np.random.default_rng(seed).permutation(names))
    renamed = panel(bars.with_columns(pl.col("ticker").replace(names, shuffled)))
    weights = random_weights(seed, whole.panel)[:, np.argsort(shuffled)]
    np.testing.assert_allclose(run(renamed, weights, COSTLY_BOOK).totals["equity"], whole.totals["equity"], rtol=1e-12)


@FEW
@given(SEEDS, st.sampled_from([2.0, 0.5, 4.0]))
def test_a_split_in_history_changes_nothing(seed: int, ratio: float):
    of = book(replace(COSTLY, tick=0.0, hard_price=0.0))
    bars, whole = random_bars(seed), run_of(seed, of)
    day = bars.filter(pl.col("ticker") == "T01")["session"][8]
    is_before = (pl.col("ticker") == "T01") & (pl.col("session") < day)
    scale = pl.when(is_before).then(ratio).otherwise(1.0)
    is_day = (pl.col("ticker") == "T01") & (pl.col("session") == day)
    split = bars.with_columns(
        *(pl.col(name) * scale for name in ("open", "high", "low", "close", "dividend")),
        pl.col("volume") / scale,
        pl.when(is_day).then(pl.col("split_ratio") * ratio).otherwise("split_ratio").alias("split_ratio"),
    )
    totals = run(panel(split), random_weights(seed, whole.panel), of).totals
    np.testing.assert_allclose(totals["equity"], whole.totals["equity"], rtol=1e-12)


@FEW
@given(SEEDS, st.floats(0.01, 1e6))
def test_without_impact_k_times_the_capital_is_k_times_the_equity(seed: int, k: float):
    of = book(replace(COSTLY, impact=0.0, commission_minimum=0.0, participation=1e9))
    once, more = run_of(seed, of).totals["equity"], run_of(seed, replace(of, capital=of.capital * k)).totals["equity"]
    np.testing.assert_allclose(more, once * k, rtol=1e-11)


@pytest.mark.parametrize("of", BOOKS[::3], ids=lambda of: f"{of.fill}, {'whole' if of.whole_shares else 'fractional'}")
@FEW
@given(seed=SEEDS, cut=st.integers(3, 29))
def test_the_future_cut_off_changes_no_bit(seed: int, cut: int, of: Book):
    bars, whole = random_bars(seed), run_of(seed, of)
    last = whole.panel.sessions[cut - 1]
    shorter = panel(bars.filter(pl.col("session") <= last), whole.panel.sessions[:cut])
    weights = random_weights(seed, whole.panel)[:cut][:, [whole.panel.tickers.index(name) for name in shorter.tickers]]
    assert_same(Frames.of(run(shorter, weights, of)), up_to(Frames.of(whole), last))


@pytest.mark.parametrize("of", BOOKS[:3], ids=lambda of: f"{of.fill}, {'whole' if of.whole_shares else 'fractional'}")
@FEW
@given(seed=SEEDS, t=st.integers(1, 28))
def test_a_session_alone_is_the_session_of_the_range_bit_for_bit(seed: int, t: int, of: Book):
    bars, whole = random_bars(seed), run_of(seed, of)
    frames, sessions = Frames.of(whole), whole.panel.sessions
    reach = sessions[max(0, t - LOOKBACK_SESSIONS) : t + 2]
    # tickers that are neither held nor ordered do not have to be there
    needed = set(frames.positions.filter(pl.col("session") == sessions[t])["ticker"])
    needed |= set(frames.fills.filter(pl.col("session") == sessions[t + 1])["ticker"])
    if not needed:
        return
    few = panel(bars.filter(pl.col("session").is_in(reach)), sessions[t : t + 2])
    account = frames.account(sessions[t], few)
    places = [whole.panel.tickers.index(name) for name in few.tickers]
    weights = random_weights(seed, whole.panel)[t : t + 2][:, places]
    alone = Frames.of(run(few, weights, of, account=account))
    of_range = Frames(*(frame.filter(pl.col("session") == sessions[t + 1]) for frame in frames))
    assert_same(alone, of_range)


@FEW
@given(SEEDS)
def test_accounts_that_are_booked_at_once_are_those_booked_alone(seed: int):
    whole = panel(random_bars(seed))
    weights = random_weights(seed, whole)
    capitals, scales = np.array([1e4, 1e6, 1e8]), np.array([0.0, 1.0, 4.0])
    grid = np.broadcast_to(capitals[:, None], (3, 3))
    both = run(
        whole, weights, COSTLY_BOOK, account=opened(grid, len(whole.tickers)), spread_scale=scales[None, :, None]
    )
    for i, capital in enumerate(capitals):
        for j, scale in enumerate(scales):
            of = replace(COSTLY_BOOK, capital=float(capital), costs=replace(COSTLY, spread_scale=float(scale)))
            alone = run(whole, weights, of).totals
            for name in ("equity", "turnover", "spread", "unfilled", "net_return"):
                np.testing.assert_allclose(both.totals[name][:, i, j], alone[name][1:], rtol=1e-9, atol=1e-9)


def test_without_costs_nothing_is_charged():
    totals = run_of(4, book(FREE)).totals
    for name in ("spread", "impact", "commission", "borrow"):
        assert not totals[name].any()
    np.testing.assert_array_equal(totals["net_return"], totals["gross_return"])
