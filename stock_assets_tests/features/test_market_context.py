from datetime import date
from itertools import pairwise
from math import log, sqrt
from statistics import fmean

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.features.market_context import (
    FEATURES,
    LOOKBACK,
    MARKET_CONTEXT,
    STALE,
    context_features,
    context_gaps,
    context_inputs,
)
from stock_assets_tests.features.generators import calendar

QUICK = settings(derandomize=True, deadline=None, max_examples=25)
DAYS = calendar(90)


def series(seed: int, days: list[date] = DAYS, missing: float = 0.0) -> pl.DataFrame:
    """^VIX and ^GSPC, each without a share of its sessions."""
    rng = np.random.default_rng(seed)
    frames = []
    for name, level, scale in (("^VIX", 20.0, 0.07), ("^GSPC", 2000.0, 0.01)):
        closes = level * np.exp(np.cumsum(scale * rng.standard_normal(len(days))))
        frame = pl.DataFrame({"series": name, "session": days, "close": closes})
        frames.append(frame.filter(pl.Series(rng.random(len(days)) >= missing)))
    return pl.concat(frames)


def test_the_formulas_as_they_read():
    rows = series(1)
    vix, index = (rows.filter(pl.col("series") == name)["close"].to_list() for name in ("^VIX", "^GSPC"))
    x = [log(b / a) for a, b in pairwise(index)]
    level = [log(v / (100 * sqrt(252))) for v in vix]
    expected = {
        "vix_level": level[-1],
        "vix_change_1": log(vix[-1] / vix[-2]),
        "vix_change_5": log(vix[-1] / vix[-6]),
        "vix_gap_22": level[-1] - fmean(level[-22:]),
        "index_return_5": sum(x[-5:]),
        "index_vol_22": log(fmean([r * r for r in x[-22:]]) + 1e-5) / 2,
    }
    made = context_features(rows, DAYS).row(-1, named=True)
    assert made.pop("session") == DAYS[-1]
    assert made == pytest.approx(expected)
    assert tuple(expected) == MARKET_CONTEXT


@QUICK
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 89), missing=st.sampled_from([0.0, 0.1, 0.5]))
def test_later_bars_change_nothing(seed, cut, missing):
    rows = series(seed, missing=missing)
    now = context_features(rows, DAYS).filter(pl.col("session") <= DAYS[cut])
    assert_frame_equal(
        context_features(rows.filter(pl.col("session") <= DAYS[cut]), DAYS[: cut + 1]), now, abs_tol=1e-9
    )


@QUICK
@given(seed=st.integers(0, 10_000), day=st.integers(LOOKBACK, 89), missing=st.sampled_from([0.0, 0.1, 0.5]))
def test_a_session_alone_equals_the_same_session_of_the_whole_history(seed, day, missing):
    rows = series(seed, missing=missing)
    seen = DAYS[day - LOOKBACK : day + 1]
    alone = context_features(rows.filter(pl.col("session").is_in(seen)), seen).tail(1)
    assert_frame_equal(alone, context_features(rows, DAYS).filter(pl.col("session") == DAYS[day]), abs_tol=1e-9)


def test_a_close_is_carried_forward_for_a_week_and_no_longer():
    rows = series(2).filter(pl.col("session") <= DAYS[60])
    made = context_features(rows, DAYS)
    levels = made["vix_level"].to_list()
    assert levels[60 : 60 + STALE + 1] == [levels[60]] * (STALE + 1)
    assert levels[61 + STALE :] == [None] * (len(DAYS) - 61 - STALE)
    assert made["vix_change_1"].to_list()[61 : 61 + STALE] == [0.0] * STALE


def test_columns_are_null_without_their_series_and_stay_within_their_bounds():
    only = series(3).filter(pl.col("series") == "^VIX")
    made = context_features(only, DAYS)
    assert made["index_vol_22"].null_count() == len(DAYS)
    assert made["vix_level"].null_count() == 0
    assert context_features(only.clear(), DAYS).select(pl.exclude("session").is_null().all()).row(0) == (True,) * 6
    wild = series(3).with_columns(pl.col("close") * pl.Series([1e6, 1.0] * len(DAYS)))
    for name, feature in FEATURES.items():
        assert context_features(wild, DAYS)[name].drop_nulls().is_between(feature.low, feature.high).all(), name


def test_a_column_is_an_input_where_it_is_known_on_the_first_session():
    made = context_features(series(4), DAYS)
    assert context_inputs(made.slice(30)) == list(MARKET_CONTEXT)
    assert context_inputs(made) == ["vix_level"]
    assert context_inputs(made.slice(5)) == ["vix_level", "vix_change_1", "vix_change_5", "index_return_5"]
    assert context_inputs(made.select("session", "index_vol_22").slice(22)) == ["index_vol_22"]
    assert context_inputs(made.select("session")) == []
    assert context_inputs(made.clear()) == []


@pytest.mark.parametrize("gap", [STALE + 1, 30])
def test_a_gap_takes_no_column_away_from_the_inputs(gap):
    days = calendar(200)
    silent = days[50 : 50 + gap]
    rows = series(5, days).filter((pl.col("series") != "^VIX") | ~pl.col("session").is_in(silent))
    made = context_features(rows, days)
    assert made.filter(pl.col("session") == silent[-1])["vix_level"].item() is None
    assert context_inputs(made.slice(30)) == list(MARKET_CONTEXT)
    # rows of several tickers in any order are the same sessions
    several = pl.concat([made.slice(30).with_columns(ticker=pl.lit(name)) for name in "AB"])
    assert context_inputs(several.sample(fraction=1, shuffle=True, seed=0)) == list(MARKET_CONTEXT)


def test_a_series_that_began_late_or_is_there_on_few_sessions_is_no_input():
    late = series(6).filter((pl.col("series") != "^VIX") | (pl.col("session") >= DAYS[45]))
    without_vix = ["index_return_5", "index_vol_22"]
    assert context_inputs(context_features(late, DAYS).slice(30)) == without_vix
    few = series(6).filter((pl.col("series") != "^VIX") | (pl.col("session") < DAYS[50]))
    assert context_inputs(context_features(few, DAYS).slice(30)) == without_vix
    assert context_inputs(context_features(series(6).clear(), DAYS)) == []


@pytest.mark.parametrize("gap", [1, STALE, STALE + 1, 30])
def test_the_sessions_without_a_series_that_has_begun_are_named(gap):
    rows = series(7).filter((pl.col("series") != "^VIX") | ~pl.col("session").is_in(DAYS[50 : 50 + gap]))
    begins = {"^VIX": DAYS[0], "^GSPC": DAYS[0], "SPY": DAYS[0]}
    gaps = context_gaps(context_features(rows, DAYS), begins, DAYS)
    # the mean over 22 sessions is null for as long after a gap as a null is among them
    refilled = min(50 + gap + 21, len(DAYS)) if gap > STALE else 0
    assert gaps["session"].to_list() == DAYS[50 + STALE : refilled]
    silent = gaps.filter(pl.col("session") < DAYS[50 + gap])["columns"].unique().to_list()
    assert silent == (["vix_level, vix_change_1, vix_change_5, vix_gap_22"] if gap > STALE else [])
    asked = DAYS[56:58]
    assert context_gaps(context_features(rows, DAYS), begins, asked)["session"].to_list() == (
        asked if gap > STALE else []
    )


def test_a_series_is_missed_only_where_its_windows_could_be_full():
    rows = series(8).filter((pl.col("series") != "^VIX") | (pl.col("session") >= DAYS[40]))
    context = context_features(rows, DAYS)
    assert context_gaps(context, {"^VIX": DAYS[40], "^GSPC": DAYS[0]}, DAYS).is_empty()
    assert context_gaps(context_features(rows.clear(), DAYS), {}, DAYS).is_empty()
    # the same session, judged alone
    gone = rows.filter((pl.col("series") != "^VIX") | (pl.col("session") < DAYS[70]))
    seen = DAYS[80 - LOOKBACK : 81]
    alone = context_features(gone.filter(pl.col("session").is_in(seen)), seen)
    named = context_gaps(alone, {"^VIX": DAYS[40], "^GSPC": DAYS[0]}, [DAYS[80]])
    assert named.rows() == [(DAYS[80], "vix_level, vix_change_1, vix_change_5, vix_gap_22")]
