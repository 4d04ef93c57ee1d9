import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import BadBarsError
from stock_assets.features.bar_features import BAR_FEATURES, BAR_INPUTS, LOOKBACK_BARS, bar_features
from stock_assets.features.bar_grid import MAX_MISSING, BarGrid, fewest, window_mean, window_sum
from stock_assets.frames import BAR_KEYS
from stock_assets_tests.features.bars import FIRST, always_open, exchange, make_bars

QUICK = settings(derandomize=True, deadline=None, max_examples=12)
MINUTE = timedelta(minutes=1)


def features(bars: pl.DataFrame, first: date = date.min, **options: Any) -> pl.DataFrame:
    return bar_features(bars, first, **({"interval_minutes": 1} | options))


# ---------------------------------------------------------------- an independent answer


def naive_row(bars: pl.DataFrame, expected: list[datetime], step: timedelta, ticker: str, end: datetime) -> dict:
    """The columns of one row, as their texts read: one bar at a time, from a dictionary of the ticker's bars."""
    own = {row["bar_end"]: row for row in bars.filter(pl.col("ticker") == ticker).iter_rows(named=True)}
    place = expected.index(end)

    def window(length: int) -> list[datetime]:
        return expected[max(0, place - length + 1) : place + 1]

    def mean(values: list[float | None], length: int) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if length - len(there) <= MAX_MISSING * length else None

    def number(moment: datetime, name: str) -> float | None:
        return own[moment][name] if moment in own and own[moment]["suspect"] is None else None

    def one_return(moment: datetime) -> float | None:
        """Of a bar from the one before it, where they adjoin."""
        at = expected.index(moment)
        before = expected[at - 1] if at and moment - expected[at - 1] <= step else None
        a, b = number(moment, "close"), before and number(before, "close")
        return math.log(a / b) if a and b else None

    close = number(end, "close")
    row: dict[str, float | None] = {"close": close}
    averages = {n: mean([number(m, "close") for m in window(n)], n) for n in (5, 10, 20, 60)}
    for n, average in averages.items():
        row[f"sma_{n}"] = average
        row[f"gap_{n}"] = None if average is None else close / average - 1
    for a, b in ((5, 10), (10, 20), (20, 60)):
        both = None not in (averages[a], averages[b])
        row[f"sma_diff_{a}_{b}"] = (averages[a] - averages[b]) / close if both else None
    for n in (1, 5, 20, 60):
        before = number(expected[place - n], "close") if place >= n else None
        row[f"return_{n}"] = math.log(close / before) if before else None
    for n in (5, 20, 60, 240):
        squares = [None if r is None else r * r for r in map(one_return, window(n))]
        average = mean([None] * (n - len(squares)) + squares, n)
        row[f"vol_{n}"] = None if average is None else 0.5 * math.log(average + 1e-10)
    for n in (1, 5, 20, 60, 240):
        there = [m if number(m, "close") else None for m in window(n)]
        spans = [m and math.log(own[m]["high"] / own[m]["low"]) ** 2 / (4 * math.log(2)) for m in there]
        average = mean([None] * (n - len(spans)) + spans, n)
        row[f"range_{n}"] = None if average is None else 0.5 * math.log(average + 1e-10)
    usual = mean([number(m, "volume") for m in window(240)], 240)
    for n in (1, 5):
        now = mean([number(m, "volume") for m in window(n)], n)
        row[f"volume_{n}"] = None if None in (usual, now) else math.log((now + 0.01 * usual) / (1.01 * usual))
    return row


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.3])
def test_every_column_is_what_its_text_says(missing: float):
    grid = always_open(500)
    bars = make_bars(grid, 1, missing=missing)
    made = features(bars, expected=grid)
    expected = grid["bar_end"].to_list()
    for row in made.sample(25, seed=0).iter_rows(named=True):
        naive = naive_row(bars, expected, MINUTE, row["ticker"], row["bar_end"])
        assert {name: row[name] for name in naive} == pytest.approx(naive, abs=1e-9)


def test_on_an_exchange_means_cross_the_night_and_volatility_does_not():
    grid = exchange([date(2025, 3, 6), date(2025, 3, 7), date(2025, 3, 10), date(2025, 3, 11)])
    bars = make_bars(grid, 2)
    # a night that doubles the price
    later = pl.col("session") >= date(2025, 3, 10)
    bars = bars.with_columns(
        pl.when(later).then(2 * pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    made = features(bars, interval_minutes=5, expected=grid)
    expected = grid["bar_end"].to_list()
    mornings = made.filter(pl.col("session") == date(2025, 3, 10)).group_by("ticker", maintain_order=True).head(30)
    for row in mornings.iter_rows(named=True):
        naive = naive_row(bars, expected, timedelta(minutes=5), row["ticker"], row["bar_end"])
        assert {name: row[name] for name in naive} == pytest.approx(naive, abs=1e-9)
    fifth = mornings.group_by("ticker", maintain_order=True).agg(pl.all().get(4))
    assert (fifth["return_5"] > 0.6).all()  # from yesterday's last bar
    assert (fifth["vol_5"] < math.log(0.05)).all()
    assert (made.filter(pl.col("session") == date(2025, 3, 10))["vol_240"].drop_nulls() < math.log(0.05)).all()


def test_time_of_day_is_the_exchanges_own_across_daylight_saving():
    # New York turns its clocks between these sessions
    grid = exchange([date(2025, 3, 7), date(2025, 3, 10)])
    made = features(make_bars(grid, 3), interval_minutes=5, expected=grid, time_zone="America/New_York")
    before, after = (made.filter(pl.col("session") == day) for day in (date(2025, 3, 7), date(2025, 3, 10)))
    assert before["minute_of_day"].to_list() == after["minute_of_day"].to_list()
    assert before["time_sin"].to_list() == after["time_sin"].to_list()
    assert before["minute_of_day"][0] == 9 * 60 + 35
    assert (before["bar_end"].dt.hour() != after["bar_end"].dt.hour()).all()
    assert before["day_of_week"].unique().to_list() == [5]
    assert after["day_of_week"].unique().to_list() == [1]


# ---------------------------------------------------------------- rules of time


@QUICK
@given(st.integers(0, 10_000), st.integers(260, 420), st.sampled_from([0.0, 0.05, 0.25]))
def test_a_row_uses_nothing_that_comes_later(seed: int, cut: int, missing: float):
    grid = always_open(450)
    bars = make_bars(grid, seed, missing=missing)
    moment = grid["bar_end"][cut]
    past = bars.filter(pl.col("bar_end") <= moment)
    for expected in (None, grid):
        whole = features(bars, expected=expected).filter(pl.col("bar_end") <= moment)
        assert_frame_equal(features(past, expected=expected), whole, check_exact=True)


@QUICK
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1]))
def test_a_session_alone_equals_the_range_to_the_last_bit(seed: int, missing: float):
    grid = always_open(3 * 1440, step=5)
    bars = make_bars(grid, seed, missing=missing)
    day = grid["session"].unique().sort()[-2]
    whole = features(bars, interval_minutes=5, expected=grid).filter(pl.col("session") == day)
    first = grid.with_row_index().filter(pl.col("session") == day)["index"][0]
    since = grid["bar_end"][first - LOOKBACK_BARS]
    near = bars.filter((pl.col("bar_end") >= since) & (pl.col("session") <= day))
    assert_frame_equal(features(near, day, interval_minutes=5, expected=grid), whole, check_exact=True)


def test_bar_by_bar_equals_the_day_in_one_go():
    grid = always_open(300)
    bars = make_bars(grid, 5, missing=0.05)
    ends = grid["bar_end"].to_list()
    whole = features(bars, expected=grid)
    for place in range(250, 300):
        seen = bars.filter(pl.col("bar_end").is_between(ends[place - LOOKBACK_BARS], ends[place]))
        newest = features(seen, expected=grid).filter(pl.col("bar_end") == ends[place])
        assert_frame_equal(newest, whole.filter(pl.col("bar_end") == ends[place]), check_exact=True)


def test_one_bar_less_of_look_back_is_seen():
    grid = always_open(300)
    bars = make_bars(grid, 6)
    ends = grid["bar_end"].to_list()
    whole = features(bars).filter(pl.col("bar_end") == ends[-1])
    short = features(bars.filter(pl.col("bar_end") > ends[-1 - LOOKBACK_BARS])).filter(pl.col("bar_end") == ends[-1])
    assert not short.equals(whole)


def test_another_ticker_and_another_order_change_nothing():
    grid = always_open(320)
    bars = make_bars(grid, 7, tickers=3, missing=0.1)
    alone = features(bars.filter(pl.col("ticker") == "C1"), expected=grid)
    assert_frame_equal(
        features(bars.sample(fraction=1.0, shuffle=True, seed=0), expected=grid), features(bars, expected=grid)
    )
    assert_frame_equal(features(bars, expected=grid).filter(pl.col("ticker") == "C1"), alone, check_exact=True)


def test_the_inputs_of_models_do_not_grow_with_the_price():
    bars = make_bars(always_open(320), 8)
    dear = bars.with_columns(pl.col("open", "high", "low", "close") * 1000.0, pl.col("volume") * 7.0)
    assert_frame_equal(features(bars).select(BAR_INPUTS), features(dear).select(BAR_INPUTS), rel_tol=1e-9, abs_tol=1e-9)


# ---------------------------------------------------------------- holes


def test_a_missing_bar_is_a_hole_and_not_bridged():
    grid = always_open(300)
    bars = make_bars(grid, 9, tickers=1)
    ends = grid["bar_end"].to_list()
    holed = features(bars.filter(pl.col("bar_end") != ends[280]), expected=grid)
    after = {row["bar_end"]: row for row in holed.iter_rows(named=True)}
    whole = {row["bar_end"]: row for row in features(bars).iter_rows(named=True)}
    assert ends[280] not in after
    # no return over the hole; a mean of five has four; a return of five lacks its own beginning alone
    assert after[ends[281]]["return_1"] is None
    assert after[ends[285]]["return_5"] is None
    assert after[ends[286]]["return_5"] == whole[ends[286]]["return_5"]
    closes = dict(bars.select("bar_end", "close").iter_rows())
    assert after[ends[282]]["sma_5"] == pytest.approx(np.mean([closes[ends[i]] for i in (278, 279, 281, 282)]))


def test_null_where_more_than_the_stated_share_is_missing():
    grid = always_open(300)
    bars, ends = make_bars(grid, 10, tickers=1), grid["bar_end"].to_list()
    for holes, there in ((4, True), (5, False)):
        made = features(bars.filter(~pl.col("bar_end").is_in(ends[281 : 281 + holes])), expected=grid)
        last = made.filter(pl.col("bar_end") == ends[299]).row(0, named=True)
        assert (last["sma_20"] is not None) == there


def test_after_an_outage_the_slow_columns_come_back_last():
    grid = always_open(700)
    bars = make_bars(grid, 11, outage=(300, 400))
    for expected in (grid, None):
        made = features(bars, expected=expected).filter(
            pl.col("ticker") == "C0", pl.col("bar_end") > grid["bar_end"][399]
        )
        back = {
            name: made.filter(pl.col(name).is_not_null())["bar_end"][0] for name in ("return_1", "vol_20", "vol_240")
        }
        # a hundred bars of the 240 are missing; 48 may be
        assert back["return_1"] == grid["bar_end"][401]
        assert back["vol_20"] == grid["bar_end"][400 + fewest(20)]
        assert back["vol_240"] > grid["bar_end"][400 + 150]


def test_a_symbol_listed_at_noon_has_each_column_once_its_window_is_filled():
    grid = always_open(600, start=datetime(2025, 6, 7, 6, 0, tzinfo=UTC))
    bars = make_bars(grid, 12)
    noon = datetime(2025, 6, 7, 12, 0, tzinfo=UTC)
    listed = bars.filter((pl.col("ticker") == "C0") | (pl.col("bar_end") > noon))
    made = features(listed, expected=grid).filter(pl.col("ticker") == "C1")
    assert made.height == 240
    for name, after in (("sma_5", 4), ("vol_20", 17), ("sma_60", 48), ("range_240", 192)):
        assert made.filter(pl.col(name).is_not_null())["bar_end"][0] == noon + after * MINUTE


def test_a_suspect_bar_counts_as_missing_and_has_no_numbers():
    grid = always_open(300)
    bars, ends = make_bars(grid, 13, tickers=1), grid["bar_end"].to_list()
    marked = bars.with_columns(
        suspect=pl.when(pl.col("bar_end") == ends[280]).then(pl.lit("jump")),
        close=pl.when(pl.col("bar_end") == ends[280]).then(1e9).otherwise("close"),
    )
    made, without = (
        features(marked, expected=grid),
        features(bars.filter(pl.col("bar_end") != ends[280]), expected=grid),
    )
    assert_frame_equal(made.filter(pl.col("bar_end") != ends[280]), without, check_exact=True)
    own = made.filter(pl.col("bar_end") == ends[280]).row(0, named=True)
    timed = {"minute_of_day", "day_of_week", "time_sin", "time_cos", "week_sin", "week_cos"}
    assert {name for name in own if own[name] is not None} == {*BAR_KEYS, *timed}


def test_the_short_last_bar_of_an_hourly_session_adjoins():
    ends = [datetime(2025, 6, 9, 10 + i, 30, tzinfo=UTC) for i in range(6)] + [datetime(2025, 6, 9, 16, 0, tzinfo=UTC)]
    grid = pl.DataFrame(
        {"session": date(2025, 6, 9), "bar_end": ends}, schema_overrides={"bar_end": pl.Datetime("us", "UTC")}
    )
    bars = make_bars(grid, 14, tickers=1)
    for expected in (grid, None):
        assert features(bars, interval_minutes=60, expected=expected)["return_1"].null_count() == 1


# ---------------------------------------------------------------- form and bad input


def test_columns_are_as_declared():
    made = features(make_bars(always_open(10), 15))
    assert made.columns == [*BAR_KEYS, *(column.name for column in BAR_FEATURES)]
    assert [made.schema[column.name] for column in BAR_FEATURES] == [column.dtype for column in BAR_FEATURES]
    assert made.select(BAR_KEYS).equals(made.select(BAR_KEYS).sort(BAR_KEYS))
    assert features(make_bars(always_open(10), 15).clear()).schema == made.schema


def test_only_sessions_from_the_first_on_have_rows():
    bars = make_bars(always_open(400), 16)
    made = features(bars, FIRST + timedelta(days=1))
    assert made["session"].unique().to_list() == [FIRST + timedelta(days=1)]
    assert made["vol_60"].null_count() == 0  # it looks back over the midnight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bars: bars.drop("volume"), "bars lack volume"),
        (lambda bars: pl.concat([bars, bars.tail(1)]), "expected one bar per ticker and bar_end"),
        (
            lambda bars: bars.with_columns(close=pl.lit(-1.0)),
            "C0 2025-06-06: close is -1.0; expected a finite number above 0",
        ),
        (lambda bars: bars.with_columns(high=pl.lit(None, pl.Float64)), "high is None"),
        (
            lambda bars: bars.with_columns(volume=pl.lit(float("nan"))),
            "volume is nan; expected a finite number, 0 or more",
        ),
        (
            lambda bars: bars.with_columns(pl.col("bar_end") + pl.duration(seconds=7)),
            "expected the end of a bar of 1 minute",
        ),
        (lambda bars: bars.with_columns(session=pl.lit(None, pl.Date)), "expected a ticker, a session and a bar_end"),
    ],
)
def test_bad_bars_are_refused_by_name(change: Any, message: str):
    grid = always_open(20)
    with pytest.raises(BadBarsError, match=message.replace("(", r"\(")):
        features(change(make_bars(grid, 17, tickers=1)), expected=grid)


def test_a_bar_between_two_expected_ones_is_refused_without_a_calendar_too():
    bars = make_bars(always_open(20), 18, tickers=1)
    late = bars.with_columns(
        bar_end=pl.when(pl.int_range(pl.len()) == 5)
        .then(pl.col("bar_end") + pl.duration(seconds=20))
        .otherwise("bar_end")
    )
    with pytest.raises(BadBarsError, match="expected the end of a bar"):
        features(late)


# ---------------------------------------------------------------- windows


@QUICK
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 10_000))
def test_window_sums_are_those_of_a_loop(length: int, count: int, seed: int):
    values = np.random.default_rng(seed).integers(-9, 9, (2, count)).astype(float)
    naive = [[row[max(0, i - length + 1) : i + 1].sum() for i in range(count)] for row in values]
    assert window_sum(values, length).tolist() == naive


def test_window_means_equal_those_of_polars():
    values = np.random.default_rng(0).normal(size=(3, 200))
    values[np.random.default_rng(1).random(values.shape) < 0.15] = np.nan
    for length in (1, 5, 60):
        theirs = [
            pl.Series(row).fill_nan(None).rolling_mean(length, min_samples=fewest(length)).fill_null(np.nan).to_numpy()
            for row in values
        ]
        np.testing.assert_allclose(window_mean(values, length), theirs, atol=1e-12)


def test_a_wild_past_leaves_no_trace_in_a_window_that_does_not_hold_it():
    values = np.full((1, 300), 1e-9)
    wild = values.copy()
    wild[0, 10] = 1e12
    assert (window_sum(wild, 60)[0, 80:] == window_sum(values, 60)[0, 80:]).all()


def test_the_grid_keeps_lunch_as_closed_where_the_calendar_says_so():
    ends = [datetime(2025, 6, 9, 3, minute, tzinfo=UTC) for minute in range(1, 31)]
    ends += [datetime(2025, 6, 9, 5, minute, tzinfo=UTC) for minute in range(1, 31)]
    grid = pl.DataFrame(
        {"session": date(2025, 6, 9), "bar_end": ends}, schema_overrides={"bar_end": pl.Datetime("us", "UTC")}
    )
    bars = make_bars(grid, 19, tickers=1)
    with_lunch = BarGrid.of(bars, 1, grid)
    assert with_lunch.adjoins.sum() == 58
    assert len(with_lunch.ends) == 60
    assert features(bars, expected=grid)["sma_20"].null_count() == fewest(20) - 1
    assert features(bars)["sma_20"].null_count() > fewest(20)
