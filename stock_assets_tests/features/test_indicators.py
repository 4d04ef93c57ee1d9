from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import BadBarsError
from stock_assets.features.indicators import FIRST_BAR, INDICATORS, classic_indicators
from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets_tests.features.generators import add_split, calendar, make_bars, panels

PRICES = [name for name, indicator in INDICATORS.items() if indicator.in_price]
QUICK = settings(derandomize=True, deadline=None, max_examples=15)


def pandas_indicators(p: pd.Series) -> pd.DataFrame:
    """The definitions of the reference study in pandas, on an adjusted close."""
    out: dict[str, Any] = {f"ma_{k}": p.rolling(k).mean() for k in (5, 10, 25, 50)}
    out |= {f"std_{k}": p.rolling(k).std(ddof=1) for k in (10, 25, 50)}
    for k in (25, 50):
        out[f"bb_upper_{k}"] = out[f"ma_{k}"] + out[f"std_{k}"] * 2
        out[f"bb_lower_{k}"] = out[f"ma_{k}"] - out[f"std_{k}"] * 2
    change = p.diff()
    for k in (5, 10, 25, 50):
        up = change.clip(lower=0).ewm(span=k, adjust=True).mean()
        down = (-change.clip(upper=0)).ewm(span=k, adjust=True).mean()
        out[f"rsi_{k}"] = 100 - 100 / (1 + up / down)
    for a, b in ((5, 10), (5, 25), (5, 50), (10, 25), (10, 50), (25, 50)):
        fast, slow = p.ewm(span=a, adjust=False).mean(), p.ewm(span=b, adjust=False).mean()
        out[f"macd_{a}_{b}"] = fast - slow
    out |= {f"momentum_{k}": p - p.shift(k) for k in (5, 10, 25, 50)}
    return pd.DataFrame(out)


def assert_equals_pandas(bars: pl.DataFrame, adjusted: pl.Series) -> None:
    """Every row from the 51st on: to 1e-9 of the day's price, RSI to 1e-9 of its range."""
    expected = pandas_indicators(adjusted.to_pandas())
    close = bars["close"].to_numpy()
    found = classic_indicators(bars)
    assert found["session"].to_list() == bars["session"].to_list()[FIRST_BAR - 1 :]
    for name in INDICATORS:
        is_price = name in PRICES
        scale = close / adjusted.to_numpy() if is_price else 1.0
        tolerance = 1e-9 * (close if is_price else np.full(len(close), 100.0))
        error = np.abs(found[name].to_numpy() - (expected[name] * scale).to_numpy()[FIRST_BAR - 1 :])
        assert (error <= tolerance[FIRST_BAR - 1 :]).all(), f"{name} is off by {error.max()}"


def assert_same(found: pl.DataFrame, expected: pl.DataFrame, close: pl.DataFrame) -> None:
    """Equal to 1e-9 of the price of the day, RSI to 1e-9 of its range; the same rows in the same order."""
    keys = ["ticker", "session"]
    assert_frame_equal(found.select(keys), expected.select(keys))
    price = found.join(close.select(*keys, "close"), on=keys, how="left", maintain_order="left")["close"]
    for name in INDICATORS:
        scale = price.to_numpy() if name in PRICES else 100.0
        assert (np.abs(found[name].to_numpy() - expected[name].to_numpy()) <= 1e-9 * scale).all(), name


def test_the_25_have_names_and_descriptions():
    assert len(INDICATORS) == 25
    assert set(INDICATORS) == set(pandas_indicators(pd.Series([1.0])))
    assert all(indicator.text for indicator in INDICATORS.values())
    assert [name for name in INDICATORS if name not in PRICES] == ["rsi_5", "rsi_10", "rsi_25", "rsi_50"]


@QUICK
@given(seed=st.integers(0, 10_000))
def test_equal_to_pandas_on_generated_bars(seed):
    bars = make_bars(seed, tickers=1, sessions=400)
    assert_equals_pandas(bars, (1 + bars["total_return"].fill_null(0.0)).cum_prod())


@pytest.mark.real_data
def test_equal_to_pandas_on_twenty_real_tickers_over_ten_years(real_data):
    prices = pl.read_parquet(real_data("yahoo_sp500_2010_2019.parquet")).sort("ticker", "date")
    whole = prices.group_by("ticker", maintain_order=True).len().filter(pl.col("len") == 2516)["ticker"]
    chosen = [*whole.gather_every(24)[:17], "AAPL", "AMD", "NFLX"]
    assert len(set(chosen)) == 20
    for ticker in chosen:
        own = prices.filter(pl.col("ticker") == ticker)
        bars = own.select(
            "ticker",
            pl.col("date").cast(pl.Date).alias("session"),
            "close",
            (pl.col("adj_close") / pl.col("adj_close").shift(1) - 1).alias("total_return"),
        )
        assert_equals_pandas(bars, own["adj_close"])


def test_rsi_is_100_without_losses_0_without_gains_and_50_where_the_quote_is_frozen():
    for change, expected in ((0.01, 100.0), (-0.01, 0.0), (0.0, 50.0)):
        bars = make_bars(0, tickers=1, sessions=60).with_columns(
            total_return=pl.when(pl.col("total_return").is_not_null()).then(change)
        )
        assert classic_indicators(bars).select("rsi_5", "rsi_50").row(-1) == (expected, expected)


def test_a_jump_of_700_times_and_back_leaves_nothing_behind():
    rng = np.random.default_rng(0)
    change = rng.normal(0, 0.01, 700)
    change[200], change[203] = 699.0, 1 / 700 - 1
    change[400:] = 0.0
    price = np.cumprod(1 + change)
    days = calendar(700)
    bars = pl.DataFrame({"ticker": "A", "session": days, "close": price, "total_return": [None, *change[1:].tolist()]})
    found = classic_indicators(bars).filter(pl.col("session") >= days[260])
    windows = np.lib.stride_tricks.sliding_window_view(price, 50)[260 - 49 :]
    now = price[260:]
    assert (np.abs(found["std_50"].to_numpy() - windows.std(axis=1, ddof=1)) <= 1e-13 * now).all()
    assert (np.abs(found["ma_50"].to_numpy() - windows.mean(axis=1)) <= 1e-13 * now).all()


@QUICK
@given(bars=panels(200, gaps=True, wild=True), cut=st.integers(60, 199))
def test_later_bars_change_nothing(bars, cut):
    days = calendar(200)
    truncated = bars.filter(pl.col("session") <= days[cut])
    now = classic_indicators(bars, sessions=days).filter(pl.col("session") <= days[cut])
    assert_frame_equal(classic_indicators(truncated, sessions=days[: cut + 1]), now, check_exact=True)


@QUICK
@given(bars=panels(1300, gaps=True, wild=True), day=st.integers(LOOKBACK_SESSIONS, 1299))
def test_a_session_alone_equals_the_same_session_of_the_whole_history(bars, day):
    days = calendar(1300)
    seen = days[day + 1 - LOOKBACK_SESSIONS : day + 1]
    alone = classic_indicators(bars.filter(pl.col("session").is_in(seen)), first=days[day], sessions=seen)
    of_history = classic_indicators(bars, sessions=days).filter(pl.col("session") == days[day])
    assert_same(alone, of_history, bars)


@QUICK
@given(bars=panels(130, gaps=True), seed=st.integers(0, 100))
def test_the_order_of_bars_does_not_matter(bars, seed):
    shuffled = bars.sample(fraction=1, shuffle=True, seed=seed)
    assert_frame_equal(classic_indicators(shuffled), classic_indicators(bars), check_exact=True)


@QUICK
@given(seed=st.integers(0, 10_000), tickers=st.integers(1, 3))
def test_another_ticker_changes_nothing(seed, tickers):
    days = calendar(130)
    more = make_bars(seed, tickers + 1, 130, gaps=True, wild=True)
    some = more.filter(pl.col("ticker") != f"T{tickers}")
    found = classic_indicators(more, sessions=days).filter(pl.col("ticker") != f"T{tickers}")
    assert_frame_equal(found, classic_indicators(some, sessions=days), check_exact=True)


@QUICK
@given(bars=panels(130), factor=st.sampled_from([0.01, 3.0, 1e4]))
def test_prices_scale_and_rsi_does_not(bars, factor):
    scaled = bars.with_columns(pl.col("open", "high", "low", "close", "dividend") * factor)
    expected = classic_indicators(bars).with_columns(pl.col(PRICES) * factor)
    assert_same(classic_indicators(scaled), expected, scaled)


@QUICK
@given(seed=st.integers(0, 10_000), at=st.integers(1, 129), ratio=st.sampled_from([2.0, 1.281, 0.1]))
def test_a_split_moves_rows_to_the_new_price_basis_from_its_ex_date_on(seed, at, ratio):
    ex_date = calendar(130)[at]
    bars = make_bars(seed, tickers=2, sessions=130)
    split = add_split(bars, "T0", ex_date, ratio)
    after = (pl.col("ticker") == "T0") & (pl.col("session") >= ex_date)
    expected = classic_indicators(bars).with_columns(
        pl.when(after).then(pl.col(PRICES) / ratio).otherwise(pl.col(PRICES))
    )
    assert_same(classic_indicators(split), expected, split)


def test_rows_begin_with_the_51st_bar_and_are_sorted_by_session_and_ticker():
    bars = make_bars(1, tickers=3, sessions=60)
    found = classic_indicators(bars)
    assert found.columns == ["ticker", "session", *INDICATORS]
    assert found.schema.dtypes()[2:] == [pl.Float64] * 25
    expected = [(f"T{i}", day) for day in calendar(60)[50:] for i in range(3)]
    assert found.select("ticker", "session").rows() == expected
    assert_same(classic_indicators(bars, first=calendar(60)[58]), found.tail(6), bars)
    assert classic_indicators(bars.clear()).schema == found.schema


def test_no_row_where_the_ticker_missed_too_much_of_the_look_back():
    days = calendar(300)
    bars = make_bars(1, tickers=2, sessions=300)
    missing = days[100:202:2]  # the 51st is days[200]
    found = classic_indicators(bars.filter((pl.col("ticker") != "T0") | ~pl.col("session").is_in(missing)))
    assert found.filter(pl.col("ticker") == "T0")["session"].max() == days[199]
    assert found.filter(pl.col("ticker") == "T1")["session"].max() == days[299]


def test_many_histories_are_computed_in_parts(monkeypatch):
    bars = make_bars(2, tickers=4, sessions=120, gaps=True)
    whole = classic_indicators(bars)
    monkeypatch.setattr("stock_assets.features.lookback._PART_ROWS", 50)
    assert_frame_equal(classic_indicators(bars), whole, check_exact=True)


@pytest.mark.parametrize("close", [0.0, -3.0, float("nan"), None])
def test_a_close_that_is_no_price_is_refused(close):
    bars = make_bars(0).with_columns(
        close=pl.when(pl.col("ticker") == "T1").then(pl.lit(close, pl.Float64)).otherwise(pl.col("close"))
    )
    with pytest.raises(BadBarsError, match=rf"T1 2015-01-01: close is .*{'None' if close is None else close}"):
        classic_indicators(bars)
