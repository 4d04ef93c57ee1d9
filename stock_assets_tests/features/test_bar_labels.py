import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import SettingsError
from stock_assets.features.bar_features import bar_features
from stock_assets.features.bar_labels import BarLabelRule, bar_labels
from stock_assets.features.bar_tables import BAR_LABELS
from stock_assets.frames import BAR_KEYS
from stock_assets_tests.features.bars import always_open, exchange, make_bars

QUICK = settings(derandomize=True, deadline=None, max_examples=12)
RULE = BarLabelRule(horizon_bars=6, width=0.8)
WEEK = [date(2025, 3, 6), date(2025, 3, 7), date(2025, 3, 10), date(2025, 3, 11)]


def labels(bars: pl.DataFrame, rule: BarLabelRule = RULE, *, step: int = 1, expected: pl.DataFrame | None = None):
    return bar_labels(bars, rule, interval_minutes=step, expected=expected)


def naive_labels(
    bars: pl.DataFrame, expected: list[datetime], step: timedelta, rule: BarLabelRule
) -> dict[tuple, tuple]:
    """(ticker, bar_end) → (known_at, future_return, label), one bar at a time, as the definition reads."""
    minutes = step // timedelta(minutes=1)
    grid = pl.DataFrame({"session": date.min, "bar_end": expected})
    volatility = bar_features(bars, date.min, interval_minutes=minutes, expected=grid).select(
        "ticker", "bar_end", pl.col("vol_60").exp()
    )
    trailing = {(ticker, end): value for ticker, end, value in volatility.iter_rows()}
    closes = {(row["ticker"], row["bar_end"]): row["close"] for row in bars.iter_rows(named=True) if not row["suspect"]}
    answers = {}
    for ticker, end in bars.select("ticker", "bar_end").iter_rows():
        path, at = [], expected.index(end)
        while len(path) < rule.horizon_bars and at + 1 < len(expected) and expected[at + 1] - expected[at] <= step:
            path.append(expected[at := at + 1])
        closed = at + 1 < len(expected) and expected[at + 1] - expected[at] > step
        now, moves = closes.get((ticker, end)), [closes.get((ticker, moment)) for moment in path]
        complete = len(path) == rule.horizon_bars or (closed and path)
        if now is None or not complete or moves[-1] is None or moves.count(None) > 0.2 * len(moves):
            answers[ticker, end] = (None, None, None)
            continue
        sigma, label = trailing[ticker, end], 0
        for close in moves:
            barrier = rule.width * (sigma or math.nan) * math.sqrt(len(path))
            if close is not None and abs(close / now - 1) > barrier:
                label = 1 if close > now else -1
                break
        answers[ticker, end] = (path[-1], moves[-1] / now - 1, label if sigma else None)
    return answers


def compared(made: pl.DataFrame, naive: dict[tuple, tuple]) -> None:
    assert made.height == len(naive)
    for row in made.iter_rows(named=True):
        known_at, future_return, label = naive[row["ticker"], row["bar_end"]]
        assert (row["known_at"], row["label"]) == (known_at, label)
        assert row["future_return"] == pytest.approx(future_return, abs=1e-12)
        direction = None if future_return is None else (future_return > 0) - (future_return < 0)
        assert row["direction"] == direction


@pytest.mark.parametrize("missing", [0.0, 0.08])
def test_labels_are_those_of_a_loop_on_a_market_that_never_closes(missing: float):
    grid = always_open(320)  # over midnight
    bars = make_bars(grid, 1, missing=missing)
    made = labels(bars, expected=grid)
    compared(made, naive_labels(bars, grid["bar_end"].to_list(), timedelta(minutes=1), RULE))
    assert set(made["label"].drop_nulls()) == {-1, 0, 1}
    over = made.filter(
        (pl.col("known_at") > pl.col("bar_end").dt.date() + pl.duration(days=1)) & pl.col("label").is_not_null()
    )
    assert over.height  # a label crosses midnight


@pytest.mark.parametrize("missing", [0.0, 0.08])
def test_labels_are_those_of_a_loop_on_an_exchange_that_closes(missing: float):
    grid = exchange(WEEK)
    bars = make_bars(grid, 2, missing=missing)
    made = labels(bars, step=5, expected=grid)
    compared(made, naive_labels(bars, grid["bar_end"].to_list(), timedelta(minutes=5), RULE))


def test_on_an_exchange_a_label_ends_with_the_session():
    grid = exchange(WEEK)
    bars = make_bars(grid, 3, tickers=1)
    made = labels(bars, step=5, expected=grid)
    day = made.filter(pl.col("session") == WEEK[1])
    close = day["bar_end"].max()
    assert day["known_at"].max() == close
    assert day["label"].null_count() == 1  # of the last bar
    assert day["future_return"][-2] == pytest.approx(
        bars.filter(pl.col("session") == WEEK[1])["close"][-1] / bars.filter(pl.col("session") == WEEK[1])["close"][-2]
        - 1
    )
    # of the last session the calendar does not show yet that it ends: the full horizon alone counts
    last = made.filter(pl.col("session") == WEEK[-1])
    assert last["label"].null_count() == RULE.horizon_bars
    beyond = exchange([*WEEK, date(2025, 3, 12)])
    assert labels(bars, step=5, expected=beyond).filter(pl.col("session") == WEEK[-1])["label"].null_count() == 1


@QUICK
@given(st.integers(0, 10_000), st.integers(100, 300), st.sampled_from([0.0, 0.1]))
def test_what_was_known_at_a_moment_does_not_change_later(seed: int, cut: int, missing: float):
    for grid, step in ((always_open(320), 1), (exchange(WEEK), 5)):
        bars = make_bars(grid, seed, missing=missing)
        moment = grid["bar_end"][cut]
        now = labels(bars.filter(pl.col("bar_end") <= moment), step=step, expected=grid)
        later = labels(bars, step=step, expected=grid).filter(pl.col("bar_end") <= moment)
        assert_frame_equal(now.filter(pl.col("known_at").is_not_null()), later.filter(pl.col("known_at") <= moment))
        assert now.filter(pl.col("known_at") > moment).is_empty()
        assert now.filter(pl.col("known_at").is_null()).select(pl.col("label", "future_return").is_null().all()).row(
            0
        ) == (True, True)


def test_a_session_alone_equals_the_range():
    grid = always_open(3 * 288, step=5)
    bars = make_bars(grid, 4, missing=0.05)
    day = grid["session"].unique().sort()[2]
    places = grid.with_row_index().filter(pl.col("session") == day)["index"]
    ends = grid["bar_end"]
    near = bars.filter(pl.col("bar_end").is_between(ends[places[0] - 60], ends[places[-1] + RULE.horizon_bars]))
    ours = labels(near, step=5, expected=grid).filter(pl.col("session") == day)
    assert_frame_equal(ours, labels(bars, step=5, expected=grid).filter(pl.col("session") == day), check_exact=True)


def test_the_barrier_reached_first_wins_and_touching_is_not_passing():
    grid = always_open(70)
    ends = grid["bar_end"].to_list()
    bars = make_bars(grid, 5, tickers=1)
    sigma = math.exp(
        bar_features(bars, date.min, interval_minutes=1).filter(pl.col("bar_end") == ends[62])["vol_60"].item()
    )
    barrier, now = sigma * math.sqrt(3), bars["close"][62]

    def label(*moves: float) -> int:
        closes = [*bars["close"][:63], *(now * (1 + move) for move in moves), *bars["close"][66:]]
        changed = bars.with_columns(close=pl.Series(closes), high=pl.Series(closes), low=pl.Series(closes))
        made = labels(changed, BarLabelRule(horizon_bars=3, width=1.0))
        return made.filter(pl.col("bar_end") == ends[62])["label"].item()

    assert label(1.01 * barrier, -2 * barrier, 0.0) == 1
    assert label(0.0, -1.01 * barrier, 2 * barrier) == -1
    assert label(0.99 * barrier, -0.99 * barrier, 0.5 * barrier) == 0


def test_a_bar_that_comes_late_completes_the_labels_that_waited_for_it():
    grid = always_open(120)
    bars, ends = make_bars(grid, 6, tickers=1), grid["bar_end"].to_list()
    holed = labels(bars.filter(pl.col("bar_end") != ends[100]), expected=grid)
    waits = holed.filter(pl.col("bar_end") == ends[100 - RULE.horizon_bars])
    assert waits.select("known_at", "future_return", "label").row(0) == (None, None, None)
    assert (
        labels(bars, expected=grid).filter(pl.col("bar_end") == ends[100 - RULE.horizon_bars])["label"].null_count()
        == 0
    )
    # a hole on the way is passed over
    assert holed.filter(pl.col("bar_end") == ends[98])["known_at"].item() == ends[98 + RULE.horizon_bars]


def test_a_suspect_bar_neither_has_a_label_nor_ends_one():
    grid = always_open(120)
    bars, ends = make_bars(grid, 7, tickers=1), grid["bar_end"].to_list()
    marked = bars.with_columns(suspect=pl.when(pl.col("bar_end") == ends[100]).then(pl.lit("jump")))
    made = labels(marked, expected=grid)
    for end in (ends[100], ends[100 - RULE.horizon_bars]):
        assert made.filter(pl.col("bar_end") == end)["known_at"].item() is None
    assert made.height == bars.height


def test_labels_have_the_columns_of_their_table():
    bars = make_bars(always_open(100), 8)
    for rows in (bars, bars.clear()):
        made = labels(rows)
        assert BAR_LABELS.fit(made).schema == BAR_LABELS.schema
        assert made.schema == BAR_LABELS.schema
        assert made.select(BAR_KEYS).equals(made.select(BAR_KEYS).sort(BAR_KEYS))


def test_without_enough_bars_for_the_volatility_there_is_a_return_and_no_label():
    made = labels(make_bars(always_open(100), 9, tickers=1))
    first = made.row(0, named=True)
    assert first["label"] is None
    assert first["future_return"] is not None
    assert first["known_at"] == first["bar_end"] + timedelta(minutes=RULE.horizon_bars)
    assert made["label"].is_not_null().to_list().index(True) == 48  # 48 returns of the 60


def test_wider_barriers_are_passed_by_fewer():
    bars = make_bars(always_open(600), 10)
    moved = [np.abs(labels(bars, BarLabelRule(10, width))["label"].drop_nulls()).sum() for width in (0.3, 1.0, 3.0)]
    assert moved[0] > moved[1] > moved[2]


@pytest.mark.parametrize(("horizon", "width"), [(0, 1.0), (5, 0.0), (5, -1.0), (5, float("nan"))])
def test_rules_that_ask_for_nothing_are_refused(horizon: int, width: float):
    with pytest.raises(SettingsError, match="expected"):
        BarLabelRule(horizon, width)


def test_moments_are_utc():
    assert labels(make_bars(always_open(80), 11))["known_at"].drop_nulls()[0].tzinfo is not None
    assert labels(make_bars(always_open(80, start=datetime(2025, 1, 1, tzinfo=UTC)), 12)).height == 160
