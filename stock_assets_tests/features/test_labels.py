from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import BadBarsError
from stock_assets.features.labels import barrier_labels
from stock_assets.features.tables import LABELS
from stock_assets.setting_values import LabelRule
from stock_assets_tests.features.generators import add_split, calendar, make_bars, panels

QUICK = settings(derandomize=True, deadline=None, max_examples=20)
DAYS = calendar(40)
RULE = LabelRule()


def bars_of(returns: list[float | None], ticker: str = "A") -> pl.DataFrame:
    return pl.DataFrame({"ticker": ticker, "session": DAYS[: len(returns)], "total_return": returns})


def naive_labels(bars: pl.DataFrame, horizon: int, buy: float, sell: float) -> list[tuple]:
    """One session and one day ahead at a time, as the definition reads."""
    rows = []
    for (ticker,), own in bars.sort("session").group_by("ticker", maintain_order=True):
        sessions, returns = own["session"].to_list(), own["total_return"].to_list()
        for t in range(len(sessions) - horizon):
            price, prices = 1.0, []
            for i in range(1, horizon + 1):
                price *= 1 + returns[t + i]
                prices.append(price)
            label, touch = 0, None
            for i, price in enumerate(prices, start=1):
                if price - 1 > buy or price - 1 < -sell:
                    label, touch = (1 if price > 1 else -1), sessions[t + i]
                    break
            rows.append((sessions[t], ticker, label, touch, sessions[t + horizon], prices[0] - 1, prices[-1] - 1))
    return sorted(rows, key=lambda row: row[:2])


def test_a_label_is_the_first_threshold_that_the_return_since_this_close_crosses():
    # closes 100, 101, 98, 99, 103, 103, 103, 100, 100 and so on: first -2 %, then +3 %
    closes = [100, 101, 98, 99, 103, 103, 103, 100, 100, 100, 100]
    returns = [None, *(after / before - 1 for before, after in pairwise(closes))]
    found = barrier_labels(bars_of(returns), LabelRule(4, 0.015, 0.019))
    assert found.columns == LABELS.names
    assert found["label"].dtype == pl.Int8
    assert found["label"].to_list() == [-1, -1, 1, 1, -1, -1, -1]
    touched = [2, 2, 4, 4, 7, 7, 7]
    assert found["touch_session"].to_list() == [DAYS[i] for i in touched]
    assert found["horizon_end"].to_list() == DAYS[4:11]
    assert found["forward_return_1"].to_list() == pytest.approx(returns[1:8])
    assert found["forward_return_horizon"][0] == pytest.approx(0.03)


def test_both_thresholds_are_strict():
    # 0.5 and -0.5 are exact in binary
    found = barrier_labels(bars_of([None, 0.5, -0.5, 0.0]), LabelRule(1, 0.5, 0.5))
    assert found["label"].to_list() == [0, 0, 0]
    assert found["touch_session"].to_list() == [None] * 3
    just_inside = barrier_labels(bars_of([None, 0.5, -0.5, 0.0]), LabelRule(1, 0.499, 0.499))
    assert just_inside["label"].to_list() == [1, -1, 0]


@QUICK
@given(
    bars=panels(40, gaps=True),
    horizon=st.integers(1, 9),
    buy=st.sampled_from([0.01, 0.027]),
    sell=st.sampled_from([0.01, 0.022]),
)
def test_equal_to_one_day_ahead_at_a_time(bars, horizon, buy, sell):
    found = barrier_labels(bars, LabelRule(horizon, buy, sell))
    columns = ["session", "ticker", *LABELS.names[2:]]
    assert found.select(columns).rows() == naive_labels(bars, horizon, buy, sell)


@QUICK
@given(bars=panels(80, gaps=True, wild=True), cut=st.integers(20, 79))
def test_a_label_needs_no_bar_after_its_horizon(bars, cut):
    until = calendar(80)[cut]
    known = barrier_labels(bars, RULE).filter(pl.col("horizon_end") <= until)
    assert_frame_equal(barrier_labels(bars.filter(pl.col("session") <= until), RULE), known, check_exact=True)


@QUICK
@given(bars=panels(80, wild=True), day=st.integers(0, 72))
def test_a_session_alone_equals_the_same_session_of_the_whole_history(bars, day):
    days = calendar(80)
    ahead = bars.filter(pl.col("session").is_between(days[day], days[day + 7]))
    whole = barrier_labels(bars, RULE)
    alone = whole.filter(pl.col("session") == days[day])
    assert alone.height == bars["ticker"].n_unique()
    assert_frame_equal(barrier_labels(ahead, RULE, first=days[day], last=days[day]), alone, check_exact=True)
    assert_frame_equal(barrier_labels(bars, RULE, first=days[day], last=days[day]), alone, check_exact=True)


@QUICK
@given(bars=panels(40, gaps=True), seed=st.integers(0, 100))
def test_order_and_other_tickers_and_price_levels_do_not_matter(bars, seed):
    found = barrier_labels(bars, RULE)
    assert_frame_equal(barrier_labels(bars.sample(fraction=1, shuffle=True, seed=seed), RULE), found, check_exact=True)
    alone = barrier_labels(bars.filter(pl.col("ticker") == "T0"), RULE)
    assert_frame_equal(alone, found.filter(pl.col("ticker") == "T0"), check_exact=True)
    scaled = bars.with_columns(pl.col("open", "high", "low", "close") * 3)
    assert_frame_equal(barrier_labels(add_split(scaled, "T0", DAYS[20], 4.0), RULE), found, check_exact=True)


def test_the_last_seven_sessions_of_a_ticker_have_no_label():
    bars = pl.concat([bars_of([None] + [0.01] * 20), bars_of([None] + [0.01] * 10, "B")])
    last = barrier_labels(bars, RULE).group_by("ticker").agg(pl.col("session").max()).sort("ticker")
    assert last.rows() == [("A", DAYS[13]), ("B", DAYS[3])]
    assert barrier_labels(bars_of([None] + [0.01] * 6), RULE).is_empty()


@pytest.mark.parametrize("unknown", [None, float("nan"), float("inf"), -1.5])
def test_no_label_reaches_over_a_return_that_is_not_known(unknown):
    found = barrier_labels(bars_of([None, *[0.01] * 9, unknown, *[0.01] * 9]), RULE)
    # bar 10 lies in the horizon of bars 3 to 9
    assert found["session"].to_list() == DAYS[:3] + DAYS[10:13]


def test_a_horizon_counts_the_bars_of_the_ticker_also_over_a_gap():
    bars = bars_of([None] + [0.01] * 30).filter(~pl.col("session").is_between(DAYS[5], DAYS[14]))
    assert barrier_labels(bars, RULE)["horizon_end"][0] == DAYS[17]


def test_input_that_makes_no_sense_is_refused():
    with pytest.raises(BadBarsError, match="bars lack total_return"):
        barrier_labels(bars_of([None, 0.1]).drop("total_return"), RULE)
    with pytest.raises(BadBarsError, match="one bar per ticker and session"):
        barrier_labels(pl.concat([bars_of([None, 0.1])] * 2), RULE)
    with pytest.raises(ValueError, match="horizon is 0; expected at least 1"):
        barrier_labels(bars_of([None, 0.1]), LabelRule(0))


def test_no_bars_have_no_labels():
    found = barrier_labels(make_bars(0).clear(), RULE)
    assert found.is_empty()
    assert found.schema == barrier_labels(make_bars(0), RULE).schema


@pytest.mark.real_data
def test_the_golden_counts_of_the_reference_study(real_data):
    prices = pl.read_parquet(real_data("yahoo_sp500_2010_2019.parquet")).sort("ticker", "date")
    bars = prices.filter(~pl.col("ticker").is_in(["AGN", "BRK", "CPRI", "HP"])).select(
        "ticker",
        pl.col("date").cast(pl.Date).alias("session"),
        (pl.col("adj_close") / pl.col("adj_close").shift(1).over("ticker") - 1).alias("total_return"),
    )
    assert bars["ticker"].n_unique() == 498
    first = date(2010, 3, 16)
    assert bars.filter(pl.col("session") >= first).height == 1_177_323
    for thresholds, golden in (
        ((0.027, 0.022), (390_643, 385_769, 397_425)),
        ((0.025, 0.025), (345_642, 393_589, 434_606)),
    ):
        found = barrier_labels(bars, LabelRule(7, *thresholds), first=first)
        assert found.height == 1_173_837
        counts = found["label"].value_counts().sort("label")["count"].to_list()
        assert counts == pytest.approx(golden, abs=10), "sell, hold, buy; a float tie may move a handful"
    assert found.filter(pl.col("horizon_end") - pl.col("session") < timedelta(days=9)).is_empty()
