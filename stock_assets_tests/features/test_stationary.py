from datetime import date
from math import log, sqrt
from statistics import fmean, median, stdev

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import BadBarsError
from stock_assets.features.indicators import classic_indicators
from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets.features.stationary import (
    FEATURES,
    FIRST_BAR,
    STATIONARY,
    pca_inputs,
    stationary_features,
)
from stock_assets_tests.features.generators import add_split, calendar, make_bars, panels

QUICK = settings(derandomize=True, deadline=None, max_examples=12)
KEYS = ["ticker", "session"]


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, check_exact=False, rel_tol=0.0, abs_tol=1e-9)


def naive_market(bars: pl.DataFrame) -> dict[date, float]:
    """The mean log return of each session but the first."""
    returns: dict[date, list[float]] = {}
    for session, total_return, suspect in bars.select("session", "total_return", "suspect").iter_rows():
        if total_return is not None and suspect is None:
            returns.setdefault(session, []).append(max(-0.2, min(0.2, log(1 + total_return))))
    return {session: fmean(of_session) for session, of_session in returns.items()}


def naive_own(bars: pl.DataFrame, ticker: str, session: date, market: dict[date, float]) -> dict[str, float]:
    """The columns of one row that need no other ticker's bars but the market's, as their formulas read."""
    own = bars.filter((pl.col("ticker") == ticker) & (pl.col("session") <= session)).sort("session")
    opened, high, low, close = (own[name].to_list() for name in ("open", "high", "low", "close"))
    r = [log(1 + x) for x in own["total_return"].to_list()[1:]]  # one shorter than the bars, aligned at the end
    gap = [x - log(c / o) for x, c, o in zip(r, close[1:], opened[1:], strict=True)]
    bar = list(zip(opened, high, low, close, strict=True))
    garman_klass = [log(h / lo) ** 2 / 2 - (2 * log(2) - 1) * log(c / o) ** 2 for o, h, lo, c in bar]
    parkinson = [log(h / lo) ** 2 / (4 * log(2)) for _, h, lo, _ in bar]
    rogers = [log(h / c) * log(h / o) + log(lo / c) * log(lo / o) for o, h, lo, c in bar]
    total = [g**2 + k / 2 + p / 2 for g, k, p in zip(gap, garman_klass[1:], parkinson[1:], strict=True)]

    def half_log(numbers: list[float]) -> float:
        return log(fmean(numbers) + 1e-5) / 2

    out = {f"log_return_{k}": sum(r[-k:]) for k in (1, 2, 5, 10, 21, 63)}
    for k in (5, 22, 66):
        out[f"vol_close_{k}"] = half_log([x * x for x in r[-k:]])
        out[f"vol_garman_klass_{k}"] = half_log(garman_klass[-k:])
        out[f"vol_parkinson_{k}"] = half_log(parkinson[-k:])
        out[f"vol_rogers_satchell_{k}"] = half_log(rogers[-k:])
    out["vol_total_1"] = half_log(total[-1:])
    out["vol_gap_22"] = half_log([g * g for g in gap[-22:]])
    out["vol_of_vol_22"] = stdev(half_log([x]) for x in total[-22:])
    out["max_abs_return_22"] = max(abs(x) for x in r[-22:])
    out |= {f"vol_total_{k}": half_log(total[-k:]) for k in (5, 22, 250)}
    out |= {f"vol_log_{k}": fmean(half_log([x]) for x in total[-k:]) for k in (5, 22, 66)}
    down, up = (fmean(max(sign * x, 0.0) ** 2 for x in r[-22:]) for sign in (-1, 1))
    out["semivariance_22"] = log((down + 1e-5) / (up + 1e-5)) / 2
    out["momentum_250_21"] = sum(r[-250:-21])

    volume, basis = [], 1.0  # on the split basis of `session`
    for traded, ratio in reversed(list(zip(own["volume"], own["split_ratio"], strict=True))):
        volume.append(traded * basis)
        basis *= ratio
    volume = volume[::-1]
    last = range(len(volume) - 5, len(volume))
    ratios = [log(volume[t]) - median(map(log, volume[t - 59 : t + 1])) for t in last]
    ratios = [max(-4.0, min(4.0, ratio)) for ratio in ratios]
    out |= {"volume_ratio": ratios[-1], "volume_ratio_5": fmean(ratios)}

    r66, m66 = r[-66:], [market[day] for day in own["session"].to_list()[-66:]]
    r_mean, m_mean = fmean(r66), fmean(m66)
    covariance = fmean((x - r_mean) * (m - m_mean) for x, m in zip(r66, m66, strict=True))
    beta = covariance / fmean((m - m_mean) ** 2 for m in m66)
    rest = [x - beta * m for x, m in zip(r66, m66, strict=True)]
    out["beta_66"] = beta
    out["vol_idiosyncratic_66"] = half_log([(x - fmean(rest)) ** 2 for x in rest])
    return out


def naive_from_indicators(row: dict[str, float], p: float) -> dict[str, float]:
    """The columns made of the 25, whose price of the day is `p`."""
    out = {f"ma_gap_{k}": p / row[f"ma_{k}"] - 1 for k in (5, 10, 25, 50)}
    out |= {f"std_ratio_{k}": row[f"std_{k}"] / row[f"ma_{k}"] for k in (10, 25, 50)}
    for k in (25, 50):
        low, high = row[f"bb_lower_{k}"], row[f"bb_upper_{k}"]
        out[f"bb_position_{k}"] = (p - low) / (high - low)
    out |= {f"rsi_share_{k}": row[f"rsi_{k}"] / 100 for k in (5, 10, 25, 50)}
    out |= {f"macd_ratio_{k}": row[f"macd_{k}"] / p for k in ("5_10", "10_25", "25_50")}
    return out | {f"momentum_ratio_{k}": row[f"momentum_{k}"] / p for k in (25, 50)}


@QUICK
@given(seed=st.integers(0, 10_000))
def test_every_formula_equals_its_naive_reading(seed):
    bars = make_bars(seed, tickers=5, sessions=90).with_columns(
        pl.col("volume").clip(lower_bound=1.0),
        suspect=pl.when((pl.col("ticker") == "T4") & (pl.col("session") == calendar(90)[85])).then(pl.lit("odd")),
    )
    session = calendar(90)[85]
    found = stationary_features(bars).filter(pl.col("session") == session)
    classic = classic_indicators(bars).filter(pl.col("session") == session)
    market = naive_market(bars)
    for row, of_25 in zip(found.iter_rows(named=True), classic.iter_rows(named=True), strict=True):
        close = bars.filter((pl.col("ticker") == row["ticker"]) & (pl.col("session") == session))["close"][0]
        expected = naive_own(bars, row["ticker"], session, market) | naive_from_indicators(of_25, close)
        others = [other for other in found.iter_rows(named=True) if other["ticker"] != "T4"]  # that one is suspect
        for k in (1, 5, 22):
            expected[f"market_vol_{k}"] = fmean(other[f"vol_total_{k}"] for other in others)
        expected["market_dispersion"] = stdev(other["log_return_1"] for other in others)
        # with so few tickers every other is a peer, as before a full window
        peers = [other for other in others if other["ticker"] != row["ticker"]]
        for k in (1, 5, 22):
            expected[f"peer_vol_{k}"] = fmean(p[f"vol_total_{k}"] for p in peers) - row[f"vol_total_{k}"]
        expected["peer_return_gap"] = row["log_return_1"] - fmean(p["log_return_1"] for p in peers)
        expected["factor_residual"] = expected["peer_return_gap"]
        elsewhere = ("rank_", "event_")
        assert set(STATIONARY) - set(expected) == {name for name in STATIONARY if name.startswith(elsewhere)}
        for name, value in expected.items():
            cut = min(max(value, FEATURES[name].low), FEATURES[name].high)
            assert row[name] == pytest.approx(cut, rel=1e-9, abs=1e-9), name


@QUICK
@given(seed=st.integers(0, 10_000), tickers=st.integers(1, 8), suspects=st.integers(0, 3))
def test_ranks_are_among_the_sessions_tickers_that_are_not_suspect(seed, tickers, suspects):
    last = calendar(70)[69]
    on = (pl.col("session") == last) & pl.col("ticker").is_in([f"T{i}" for i in range(suspects)])
    bars = make_bars(seed, tickers, 70).with_columns(suspect=pl.when(on).then(pl.lit("odd")))
    found = stationary_features(bars, first=last)
    assert found.height == tickers
    for name, of in (
        ("rank_return_5", "log_return_5"),
        ("rank_return_21", "log_return_21"),
        ("rank_vol_22", "vol_garman_klass_22"),
        ("rank_volume", "volume_ratio"),
    ):
        values = found[of].to_list()
        clean = values[suspects:]
        for i, (value, rank) in enumerate(zip(values, found[name], strict=True)):
            below = sum(other < value for other in clean) + sum(other == value for other in clean) / 2
            assert rank == pytest.approx(0.0 if i < suspects else below / len(clean) - 0.5)


def test_equal_values_share_a_rank_whatever_their_last_bit():
    bars = make_bars(3, tickers=4, sessions=130, events=False)
    own = bars.filter(pl.col("ticker") == "T0").with_columns(ticker=pl.lit("twin"))
    # a split leaves the twin's features alone, but for the rounding of its volumes and ranges
    found = stationary_features(pl.concat([bars, add_split(own, "twin", calendar(130)[40], 1.281)]))
    columns = ["volume_ratio", *(name for name in STATIONARY if name.startswith("rank_"))]
    one, twin = (found.filter(pl.col("ticker") == name).select(columns) for name in ("T0", "twin"))
    assert not one["volume_ratio"].equals(twin["volume_ratio"])
    assert_frame_equal(one.drop("volume_ratio"), twin.drop("volume_ratio"), check_exact=True)


@QUICK
@given(bars=panels(200, gaps=True, wild=True))
def test_every_number_is_finite_and_within_its_bounds_whatever_the_bars(bars):
    found = stationary_features(bars)
    assert found.columns == [*KEYS, *STATIONARY]
    assert found.schema.dtypes()[2:] == [pl.Float64] * len(STATIONARY)
    for name, feature in FEATURES.items():
        assert found[name].is_between(feature.low, feature.high).all(), name
    possible = bars.group_by("ticker").len().filter(pl.col("len") >= FIRST_BAR)
    assert set(found["ticker"].unique()) <= set(possible["ticker"])


def test_a_jump_of_700_times_and_a_frozen_quote_are_cut():
    days = calendar(300)
    change = [0.001 * (-1) ** i for i in range(300)]
    change[100], change[200:] = 699.0, [0.0] * 100
    bars = make_bars(0, tickers=1, sessions=300, events=False).with_columns(
        total_return=pl.Series([None, *change[1:]]), volume=pl.lit(0.0)
    )
    found = stationary_features(bars)
    jump = found.row(by_predicate=pl.col("session") == days[100], named=True)
    assert (jump["log_return_1"], jump["max_abs_return_22"], jump["ma_gap_50"]) == (1.0, 1.0, 2.0)
    last = found.row(-1, named=True)
    assert (last["bb_position_25"], last["rsi_share_5"], last["beta_66"], last["volume_ratio"]) == (
        0.5,
        0.5,
        0.0,
        0.0,
    )
    assert last["vol_close_66"] == pytest.approx(log(sqrt(1e-5)))


def test_a_quote_that_moves_by_rounding_alone_is_frozen():
    jitter = pl.Series([None, *[1e-12 * (-1) ** (i // 3) for i in range(99)]])
    bars = make_bars(0, tickers=1, sessions=100, events=False).with_columns(total_return=jitter)
    last = stationary_features(bars).row(-1, named=True)
    assert last["std_ratio_25"] > 0
    assert (last["bb_position_25"], last["bb_position_50"], last["rsi_share_50"]) == (0.5, 0.5, 0.5)


def test_a_suspect_return_is_not_the_markets():
    days = calendar(80)
    bars = make_bars(5, tickers=4, sessions=80)
    on = (pl.col("ticker") == "T0") & (pl.col("session") == days[60])
    absurd = bars.with_columns(
        total_return=pl.when(on).then(699.0).otherwise(pl.col("total_return")),
        suspect=pl.when(on).then(pl.lit("absurd return")),
    )
    clean = bars.with_columns(suspect=pl.when(on).then(pl.lit("absurd return")))
    others = pl.col("ticker") != "T0"
    columns = [name for name in STATIONARY if not name.startswith(("rank_", "event_", "market_", "peer_"))]
    assert_same(
        stationary_features(absurd).filter(others).select(columns),
        stationary_features(clean).filter(others).select(columns),
    )


@QUICK
@given(bars=panels(200, gaps=True, wild=True), cut=st.integers(80, 199))
def test_later_bars_change_nothing(bars, cut):
    days = calendar(200)
    truncated = bars.filter(pl.col("session") <= days[cut])
    now = stationary_features(bars, sessions=days).filter(pl.col("session") <= days[cut])
    # the rest is exact; sums over tickers depend on how many there will ever be, in their last bit
    assert_same(stationary_features(truncated, sessions=days[: cut + 1]), now)


@QUICK
@given(bars=panels(1300, gaps=True, wild=True), day=st.integers(70, 1299), asked=st.integers(1, 40))
def test_a_session_alone_equals_the_same_session_of_the_whole_history(bars, day, asked):
    days = calendar(1300)
    first = max(0, day + 1 - asked)
    seen = days[max(0, first + 1 - LOOKBACK_SESSIONS) : day + 1]
    alone = stationary_features(bars.filter(pl.col("session").is_in(seen)), first=days[first], sessions=seen)
    of_history = stationary_features(bars, sessions=days).filter(pl.col("session").is_in(days[first : day + 1]))
    assert_same(alone, of_history)


@QUICK
@given(bars=panels(130, gaps=True), seed=st.integers(0, 100))
def test_the_order_of_bars_does_not_matter(bars, seed):
    shuffled = bars.sample(fraction=1, shuffle=True, seed=seed)
    assert_frame_equal(stationary_features(shuffled), stationary_features(bars), check_exact=True)


@QUICK
@given(bars=panels(130, gaps=True, wild=True), factor=st.sampled_from([0.01, 3.0, 1e4]))
def test_the_level_of_prices_and_volumes_does_not_matter(bars, factor):
    scaled = bars.with_columns(pl.col("open", "high", "low", "close", "dividend", "volume") * factor)
    assert_same(stationary_features(scaled), stationary_features(bars))


@QUICK
@given(seed=st.integers(0, 10_000), at=st.integers(1, 129), ratio=st.sampled_from([2.0, 1.281, 0.1]))
def test_a_split_changes_nothing(seed, at, ratio):
    bars = make_bars(seed, tickers=3, sessions=130)
    split = add_split(bars, "T0", calendar(130)[at], ratio)
    assert_same(stationary_features(split), stationary_features(bars))


@QUICK
@given(seed=st.integers(0, 10_000))
def test_the_names_of_tickers_do_not_matter(seed):
    bars = make_bars(seed, tickers=3, sessions=130, gaps=True)
    names = {"T0": "C", "T1": "A", "T2": "B"}
    renamed = stationary_features(bars).with_columns(pl.col("ticker").replace_strict(names))
    found = stationary_features(bars.with_columns(pl.col("ticker").replace_strict(names)))
    assert_same(found, renamed.sort("session", "ticker"))


def test_rows_begin_with_the_67th_bar_and_are_sorted_by_session_and_ticker():
    days = calendar(75)
    bars = make_bars(1, tickers=3, sessions=75)
    found = stationary_features(bars)
    assert found.select(KEYS).rows() == [(f"T{i}", day) for day in days[66:] for i in range(3)]
    assert_frame_equal(stationary_features(bars, first=days[73]), found.tail(6), check_exact=True)
    assert stationary_features(bars.clear()).schema == found.schema


def test_every_column_is_described_with_its_bounds():
    assert len(STATIONARY) == len(set(STATIONARY)) == 70
    assert FEATURES["vol_parkinson_5"].description == (
        "½ ln(1e-5 + mean of ln(H/L)² / (4 ln 2), Parkinson 1980, over 5 bars); cut at -6 and 1"
    )


def test_the_principal_components_are_those_of_what_the_classic_indicators_and_a_tickers_own_bars_say():
    inputs = pca_inputs()
    assert len(inputs) == 48
    assert inputs == [name for name in STATIONARY if name in inputs]
    outside = ("vol_total_5", "vol_log_22", "market_vol_1", "peer_vol_5", "factor_residual", "event_91")
    assert {"ma_gap_5", "vol_total_1", "rank_volume"} < set(inputs)
    assert not set(outside) & set(inputs)


@pytest.mark.parametrize("ratio", [0.0, -2.0, float("nan"), float("inf")])
def test_a_split_ratio_that_is_none_is_refused(ratio):
    with pytest.raises(BadBarsError, match=f"split_ratio is {ratio}; expected a positive ratio, or null"):
        stationary_features(make_bars(0).with_columns(split_ratio=pl.lit(ratio)))


@pytest.mark.real_data
def test_ten_real_years_stay_finite_with_the_absurd_returns_of_tt(real_data):
    prices = pl.read_parquet(real_data("yahoo_sp500_2010_2019.parquet")).sort("ticker", "date")
    chosen = ["AAPL", "AMCR", "AMD", "BRK", "HWM", "NFLX", "NLOK", "TT", "UA"]
    bars = prices.filter(pl.col("ticker").is_in(chosen)).select(
        "ticker",
        pl.col("date").cast(pl.Date).alias("session"),
        *("open", "high", "low", "close", "volume"),
        pl.lit(1.0).alias("split_ratio"),
        (pl.col("adj_close") / pl.col("adj_close").shift(1).over("ticker") - 1).alias("total_return"),
        pl.lit(None, pl.String).alias("suspect"),
    )
    assert bars.filter(pl.col("total_return") > 100).height > 0
    found = stationary_features(bars)
    for name, feature in FEATURES.items():
        assert found[name].is_between(feature.low, feature.high).all(), name
    day = date(2018, 7, 2)
    days = bars["session"].unique().sort()
    seen = days.filter(days <= day).tail(LOOKBACK_SESSIONS)
    alone = stationary_features(bars.filter(pl.col("session").is_in(seen.implode())), first=day)
    of_day = found.filter(pl.col("session") == day)
    assert alone.filter(pl.col("session") == day).height == of_day.height >= 6
    assert_same(alone.filter(pl.col("session") == day), of_day)
