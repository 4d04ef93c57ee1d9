"""Versions of a bar: provisional, confirmed, restated, and what was known when."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.lifecycle.restatements import stale_bars
from stock_assets.market.adjustments import (
    SETTLING,
    as_of,
    clean_bars,
    confirmed,
    latest_versions,
    new_versions,
    restatements,
)
from stock_assets.market.calendar import trading_calendar
from stock_assets_tests.market.generators import FETCHED, raw_answer, universe_of

XNYS = trading_calendar("XNYS", date(2015, 1, 2), date(2026, 12, 31))
DAYS = XNYS.sessions[:120]
CLOSES = {day: XNYS.closes[day] for day in DAYS}
EVENING, NEXT_EVENING = timedelta(hours=1), timedelta(hours=25)


def at(moment: datetime) -> pl.Expr:
    return pl.lit(moment, pl.Datetime("us", "UTC")).alias("fetched_at")


def bars_of(raw: pl.DataFrame) -> pl.DataFrame:
    return clean_bars(raw, universe_of(raw), DAYS, closes=CLOSES)


def evening(day: date) -> datetime:
    return CLOSES[day] + EVENING


def test_a_bar_is_provisional_until_half_a_day_after_the_close():
    raw = raw_answer(DAYS[:3], [10.0, 11.0, 12.0])
    for wait, expected in ((EVENING, True), (SETTLING - timedelta(seconds=1), True), (SETTLING, False)):
        last = bars_of(raw.with_columns(at(CLOSES[DAYS[2]] + wait))).sort("session").row(-1, named=True)
        assert last["provisional"] is expected
        assert last["fetched_at"] == CLOSES[DAYS[2]] + wait
        assert last["suspect"] is None  # it serves the predictions of its own evening
    assert not clean_bars(raw.with_columns(at(evening(DAYS[2]))), universe_of(raw), DAYS)["provisional"].any()


def test_a_volume_that_is_not_rounded_yet_is_provisional_whenever_it_was_fetched():
    raw = raw_answer(DAYS[:10], [10.0] * 10, volume=[1_234_500.0] * 9 + [1_234_567.0])
    assert bars_of(raw)["provisional"].to_list() == [False] * 9 + [True]
    odd = raw_answer(DAYS[:10], [10.0] * 10, volume=[1_234_567.0] * 10)  # a vendor who never rounds
    assert not bars_of(odd)["provisional"].any()


def test_a_settled_answer_that_says_the_same_confirms_once():
    raw = raw_answer(DAYS[:3], [10.0, 11.0, 12.0]).with_columns(at(evening(DAYS[2])))
    same = raw.with_columns(at(CLOSES[DAYS[2]] + NEXT_EVENING))
    told = new_versions(raw, same, CLOSES)
    assert told["session"].to_list() == [DAYS[2]]
    assert new_versions(raw, same).is_empty()
    stored = pl.concat([raw, told])
    assert new_versions(latest_versions(stored), same.with_columns(at(FETCHED)), CLOSES).is_empty()
    bars = bars_of(raw)
    rows = confirmed(bars, stored, CLOSES)
    assert rows.select("session", "provisional", "fetched_at").rows() == [
        (DAYS[2], False, CLOSES[DAYS[2]] + NEXT_EVENING)
    ]
    both = pl.concat([bars.filter(pl.col("session") < DAYS[2]), rows])
    assert_frame_equal(both, bars_of(stored), check_row_order=False)
    # no figure has changed: nothing is made again for it
    assert stale_bars(told, bars).is_empty()
    # what says otherwise confirms nothing
    other = told.with_columns(pl.col("volume") * 2)
    assert confirmed(bars, pl.concat([raw, other]), CLOSES).is_empty()


def test_a_bar_that_repair_has_mended_is_not_stale():
    raw = raw_answer(DAYS[:40], [100.0] * 20 + [10_000.0] + [100.0] * 19)
    bars = bars_of(raw)
    assert bars["close"][20] == pytest.approx(100.0)
    assert stale_bars(raw, bars).is_empty()
    newer = raw.with_columns(at(FETCHED + timedelta(days=1)))
    assert stale_bars(newer, bars)["session"].to_list() == [DAYS[20]]
    # a store from before bars told their version is judged by its figures
    plain = raw_answer(DAYS[:40], [100.0] * 40)
    old = bars_of(plain)
    assert stale_bars(plain, old.drop("fetched_at", "provisional")).is_empty()
    assert stale_bars(plain, old.with_columns(fetched_at=None)).is_empty()
    assert stale_bars(raw, old.drop("fetched_at"))["session"].to_list() == [DAYS[20]]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "dividend", "split_ratio"])
def test_a_restatement_of_any_figure_is_listed_with_both_values(column: str):
    raw = raw_answer(DAYS[:40], [100.0] * 40, dividend=0.5)
    changed = raw.with_columns(
        pl.when(pl.col("session") == DAYS[30]).then(pl.col(column) * 1.01).otherwise(column).alias(column)
    )
    rows = restatements(bars_of(raw), bars_of(changed), FETCHED)
    listed = rows.filter(pl.col("column") == column)
    value = raw[column][30]
    assert listed.select("ticker", "session", "column", "before", "after", "seen_at").rows() == [
        ("A", DAYS[30], column, pytest.approx(value), pytest.approx(value * 1.01), FETCHED)
    ]
    assert set(rows["column"]) <= {column, "total_return"}
    assert ("total_return" in set(rows["column"])) == (column in ("close", "dividend", "split_ratio"))


@settings(derandomize=True, deadline=None, max_examples=12)
@given(data=st.data(), length=st.integers(3, 9))
def test_as_of_every_fetch_is_what_daily_bars_held_then(data: st.DataObject, length: int):
    """Evening by evening: the answer reaches back, some figures are restated, the bars are made, confirmed and kept."""
    days = DAYS[:length]
    truth = pl.concat(
        raw_answer(days, [float(close) for close in data.draw(closes(length))], ticker) for ticker in ("A", "B")
    )
    universe = universe_of(truth)
    raw, held, seen = truth.clear(), None, []
    for day in days:
        moment = evening(day)
        restated = data.draw(st.sampled_from([1.0, 1.0, 1.01]))
        which = data.draw(st.sampled_from(days))
        truth = truth.with_columns(
            pl.when((pl.col("session") == which) & (pl.col("ticker") == "A"))
            .then(pl.col(name) * restated)
            .otherwise(name)
            .alias(name)
            for name in ("close", "volume")
        )
        reach = [d for d in days if day - timedelta(days=5) <= d <= day]
        answer = truth.filter(pl.col("session").is_in(reach)).with_columns(at(moment))
        told = new_versions(latest_versions(raw), answer, CLOSES)
        raw = pl.concat([raw, told])
        today = clean_bars(raw, universe, days, closes=CLOSES)
        if held is None:
            held = today
        else:
            # the session of the evening and what the restated bars reach are made, the rest is confirmed
            stale = stale_bars(told, held).select("ticker", "session")
            made = today.join(held, on=["ticker", "session"], how="anti")
            held = pl.concat([held, made])
            if stale.height:
                first = stale["session"].min()
                held = pl.concat([held.filter(pl.col("session") < first), today.filter(pl.col("session") >= first)])
            rows = confirmed(held, raw, CLOSES)
            held = pl.concat([held.join(rows, on=["ticker", "session"], how="anti"), rows])
        seen.append((moment, held.sort("session", "ticker")))
    for moment, then in seen:
        known = as_of(raw, universe, days, moment=moment, closes=CLOSES)
        assert_frame_equal(known, then)
        assert (known["fetched_at"] <= moment).all()
    assert as_of(raw, universe, days, moment=evening(days[0]) - timedelta(seconds=1), closes=CLOSES).is_empty()


def closes(length: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(20, 60), min_size=length, max_size=length)


def test_a_moment_in_any_zone_is_the_same_moment():
    raw = raw_answer(DAYS[:3], [10.0, 11.0, 12.0]).with_columns(at(evening(DAYS[2])))
    moment = datetime(2040, 1, 1, 12, tzinfo=UTC)
    zoned = raw.with_columns(pl.col("fetched_at").dt.convert_time_zone("Etc/UTC"))  # as DuckDB returns it
    assert_frame_equal(as_of(zoned, universe_of(raw), DAYS, moment=moment, closes=CLOSES), bars_of(raw))
    assert confirmed(bars_of(raw), zoned, CLOSES).is_empty()
