"""The level of a session, and what is forecast of blocks that were left out."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stock_assets.model import market_rows
from stock_assets.model.config import RnnConfig
from stock_assets.model.crossfit import Blocks
from stock_assets.model.lesson import InputFrames
from stock_assets.model.level import MarketLevel, fit_market_levels, session_inputs
from stock_assets.model.linear import fit_level, fit_levels
from stock_assets.model.market_rows import PADDING, MarketRows, Standardised
from stock_assets_tests.model.synthetic import sessions_of
from stock_assets_tests.model.test_rnn import FEATURES, NONE_SUSPECT

COLUMNS = ("vol_total_1", "hint", "noise")


def market(features: pl.DataFrame = FEATURES, suspects: pl.DataFrame = NONE_SUSPECT) -> MarketRows:
    return MarketRows(features, suspects, COLUMNS, horizon=7)


def test_no_label_of_a_learned_row_shares_a_session_with_a_block_that_is_left_out():
    day = np.tile(np.arange(100), 3)
    rows = (day >= 5) & (day < 90)
    blocks = Blocks.of(day, rows, count=4, horizon=7)
    assert (blocks.edges[0], blocks.edges[-1]) == (5, 90)
    inside = np.array([blocks.inside(k) for k in range(4)])
    np.testing.assert_array_equal(inside.sum(axis=0), rows)
    for k in range(4):
        own = set(day[inside[k]])
        learned = set(day[rows & ~blocks.touching(k)])
        touched = {d + step for d in own for step in range(8)}
        assert learned
        assert not any({d + step for step in range(1, 8)} & own or d in touched for d in learned)


def test_a_level_without_some_rows_is_that_of_the_others():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 4)).astype(np.float32)
    targets = values[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(600, 3))
    rows, left_out = rng.random(600) < 0.9, np.arange(600) < 200
    whole, without, empty = fit_levels(
        values, targets, rows, without=[left_out, np.ones(600, bool)], clip=9.0, penalty=0.0
    )
    other = fit_level(values, targets, rows & ~left_out, clip=9.0, penalty=0.0)
    np.testing.assert_allclose(without.forecast(values), other.forecast(values), atol=1e-6)  # without a penalty
    assert np.abs(whole.forecast(values) - other.forecast(values)).max() > 0.01
    np.testing.assert_array_equal(empty.weights, whole.weights)  # nothing is left to learn from


def test_a_penalty_shrinks_the_slopes_and_not_the_constant():
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 2.0, (500, 1)).astype(np.float32)
    targets = 5.0 + values.astype(float)
    level = fit_level(values, targets, np.ones(500, bool), clip=9.0, penalty=1.0)
    assert level.weights[-1, 0] == pytest.approx(float(targets.mean()))
    assert level.weights[0, 0] == pytest.approx(values.std() / 2, rel=1e-4)


def test_the_inputs_of_a_session_are_means_of_its_tickers_and_of_the_last_sessions():
    rows = market(suspects=FEATURES.filter(pl.col("ticker") == "T05").select("ticker", "session"))
    inputs = session_inputs(rows, COLUMNS, 5)
    trusted = FEATURES.filter(pl.col("ticker") != "T05")
    means = trusted.group_by("session").agg(pl.col("vol_total_1").mean()).sort("session")["vol_total_1"].to_numpy()
    weights = 0.5 ** (np.arange(5) / 3.0)
    smoothed = (weights * means[200:195:-1]).sum() / weights.sum()
    np.testing.assert_allclose(inputs[rows.day == 200][:, 0], means[200], atol=1e-6)
    np.testing.assert_allclose(inputs[rows.day == 200][:, 1], smoothed, atol=1e-6)
    assert inputs.shape[1] == 3  # the mean and two half-lives; there is neither dispersion nor ^VIX


def test_the_slow_level_reaches_beyond_the_context():
    """A market that was loud 70 sessions ago and has been even since: only means over 66 bars still tell."""
    columns, days = ("vol_total_1", "vol_log_66"), sessions_of(400)
    loud = pl.col("session").is_between(days[100], days[130])
    rows = FEATURES.with_columns(vol_total_1=pl.when(loud).then(-3.0).otherwise(-4.0)).with_columns(
        vol_log_66=pl.col("vol_total_1").rolling_mean(66, min_samples=1).over("ticker", order_by="session")
    )
    here = MarketRows(rows, NONE_SUSPECT, columns, horizon=7)
    now, later = (session_inputs(here, columns, 64)[here.day == at][0] for at in (200, 330))
    np.testing.assert_allclose(now[:-1], later[:-1], atol=1e-6)  # the session and means of it and of 66 bars
    weights = 0.5 ** (np.arange(64) / 60.0)
    means = rows.filter(pl.col("ticker") == "T00").sort("session")["vol_log_66"].to_numpy()
    assert now[-1] == pytest.approx((weights * means[200:136:-1]).sum() / weights.sum(), abs=1e-6)
    assert now[-1] > later[-1] + 0.05


def test_the_returns_ahead_are_those_of_the_rows_that_follow_as_the_targets_read_them():
    at = np.array([0, 150, 4_700])  # of 12 tickers with 400 rows each
    returns = FEATURES["log_return_1"].to_numpy()
    expected = [returns[place + 1 : place + 8] for place in at]
    np.testing.assert_array_equal(market().returns_ahead(at), expected)
    changed = FEATURES.with_columns(log_return_1=0.0, outcome_log_return_1="log_return_1")
    np.testing.assert_array_equal(market(changed).returns_ahead(at), expected)


def test_a_session_reads_the_last_sessions_of_the_context_and_none_after_it():
    whole, days = market(), sessions_of(400)
    part = market(FEATURES.filter(pl.col("session").is_between(days[290], days[300])))
    alone = session_inputs(part, COLUMNS, 11)[part.day == 10]
    np.testing.assert_allclose(alone, session_inputs(whole, COLUMNS, 11)[whole.day == 300], atol=1e-12)


def test_a_block_is_forecast_by_a_level_that_has_not_seen_its_targets():
    rows, config = market(), RnnConfig()
    every = np.ones(len(rows.day), bool)
    blocks = Blocks.of(rows.day, every, count=4, horizon=7)
    targets, sessions = np.tile(rows.values[:, :1], 3).astype(float), session_inputs(rows, COLUMNS, 16)

    def levels(targets: np.ndarray) -> list[MarketLevel]:
        return fit_market_levels(rows, targets, every, blocks=blocks, sessions=sessions, config=config)

    shifted = np.where(blocks.inside(2)[:, None], targets + 5.0, targets)
    before, after = levels(targets), levels(shifted)
    own = blocks.inside(2)
    kept, again = (level.forecast(rows, own, sessions)[own] for level in (before[3], after[3]))
    np.testing.assert_allclose(again, kept, atol=1e-9)
    assert np.abs(before[0].forecast(rows, own, sessions) - after[0].forecast(rows, own, sessions))[own].max() > 0.5


def test_a_large_market_lies_in_a_file_without_a_name_and_holds_the_same(tmp_path, monkeypatch: pytest.MonkeyPatch):
    small = market()
    monkeypatch.setattr(market_rows, "IN_MEMORY", 0)
    large = MarketRows(FEATURES, NONE_SUSPECT, COLUMNS, horizon=7, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []
    large.release()
    np.testing.assert_array_equal(large.padded, small.padded)
    assert (large.digest, large.values.shape) == (small.digest, (FEATURES.height, len(COLUMNS)))
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert len(mapped) == 1
    assert mapped[0].endswith("(deleted)")


def test_inputs_of_a_network_are_made_where_they_are_read():
    inputs = Standardised(market(), np.array([0.5, 1.0, 2.0]), clip=1.5, of_session={2: np.full(400, 3.0, np.float32)})
    trusted = FEATURES.with_columns(mean=pl.col("vol_total_1").mean().over("session")).sort("ticker", "session")
    expected = ((trusted["vol_total_1"] - trusted["mean"]) / 0.5).clip(-1.5, 1.5).to_numpy()
    places = np.array([[0, 17], [4_799, PADDING]])
    found = inputs[places]
    np.testing.assert_allclose(found[..., 0].ravel()[:3], expected[[0, 17, 4_799]], atol=1e-5)
    np.testing.assert_array_equal(found[..., 2], [[1.5, 1.5], [1.5, 0.0]])
    assert (found[1, 1] == 0).all()


def test_a_market_is_made_once_and_its_spans_end_with_what_is_known():
    inputs = InputFrames(features=FEATURES.reverse(), suspects=NONE_SUSPECT)
    made = inputs.market(COLUMNS, 7)
    assert inputs.market(COLUMNS, 7) is made
    assert inputs.market(COLUMNS[:1], 7) is not made
    past = (made.keys["session"] <= sessions_of(400)[299]) & (made.keys["ticker"] != "T04")
    starts, ends = made.spans(past.to_numpy())
    assert starts.tolist() == [400 * i for i in range(12) if i != 4]
    assert (ends - starts == 300).all()
