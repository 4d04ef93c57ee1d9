from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from operator import mul

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.market.adjustments import as_traded, clean_bars, latest_versions, new_versions
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.quality import MAX_ABSENCE
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets_tests.market.generators import FETCHED, raw_answer, universe_of

XNYS = trading_calendar("XNYS", date(2015, 1, 2), date(2026, 12, 31))
DAYS = XNYS.sessions[:400]
#: What a bar tells about the version it is made from, which of course differs.
PROVENANCE = ["provisional", "fetched_at"]


def bars_of(raw: pl.DataFrame, sessions=DAYS) -> pl.DataFrame:
    return clean_bars(raw, universe_of(raw), sessions)


def seen_on(day: date, traded: pl.DataFrame) -> pl.DataFrame:
    """What a vendor says on `day` about as-traded bars: split-adjusted for the splits known by then."""
    known = traded.filter(pl.col("session") <= day).sort("ticker", "session")
    later = pl.col("split_ratio").reverse().cum_prod().reverse().over("ticker") / pl.col("split_ratio")
    return known.with_columns(later_splits=later).with_columns(
        *[pl.col(name) / pl.col("later_splits") for name in ("open", "high", "low", "close", "dividend")],
        pl.col("volume") * pl.col("later_splits"),
        fetched_at=pl.lit(datetime(day.year, day.month, day.day, 22, tzinfo=UTC), pl.Datetime("us", "UTC")),
    )


def test_total_return_counts_dividend_and_split():
    # 100 → 26 after a 4-for-1 split with a dividend of 0.5 a new share: (26 + 0.5) * 4 / 100 - 1
    raw = raw_answer(DAYS[:2], [100.0, 26.0], dividend=[0.0, 0.5], split_ratio=[1.0, 4.0])
    assert bars_of(raw)["total_return"].to_list() == [None, pytest.approx(0.06)]


def test_without_corporate_actions_the_return_is_that_of_the_adjusted_closes_of_one_answer():
    raw = raw_answer(
        DAYS[:2],
        [100.0, 50.0],
        adj_close=[90.0, 99.0],
        previous_adj_close=[None, 90.0],
        dividend=None,
        split_ratio=None,
    )
    assert bars_of(raw)["total_return"].to_list() == [None, pytest.approx(0.10)]


def test_as_traded_undoes_later_splits():
    raw = raw_answer(DAYS[:1], [25.0], later_splits=4.0, dividend=0.2, volume=400.0)
    traded = as_traded(raw)
    assert traded.select("close", "dividend", "volume").row(0) == (100.0, 0.8, 100.0)


def test_the_version_fetched_last_counts():
    old, new = (
        raw_answer(DAYS[:1], [10.0]),
        raw_answer(DAYS[:1], [11.0], fetched_at=FETCHED + timedelta(days=1)),
    )
    assert latest_versions(pl.concat([new, old]))["close"].to_list() == [11.0]
    assert bars_of(pl.concat([new, old]))["close"].to_list() == [11.0]


def test_a_split_or_a_dividend_announced_later_is_no_new_version_of_the_past():
    traded = raw_answer(DAYS[:3], [100.0, 101.0, 26.0], split_ratio=[1.0, 1.0, 4.0])
    before, after = seen_on(DAYS[1], traded), seen_on(DAYS[2], traded)
    assert after["close"].to_list() == [25.0, 25.25, 26.0]
    assert new_versions(before, after)["session"].to_list() == [DAYS[2]]
    paid = before.with_columns(pl.col("adj_close") * 0.98, pl.col("previous_adj_close") * 0.98)
    assert new_versions(before, paid).is_empty()


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "dividend", "split_ratio"])
def test_a_restated_figure_is_a_new_version(column: str):
    raw = raw_answer(DAYS[:3], [100.0, 101.0, 102.0], dividend=1.0)
    restated = raw.with_columns(
        pl.when(pl.col("session") == DAYS[1]).then(pl.col(column) * 1.001).otherwise(column).alias(column)
    )
    assert new_versions(raw, restated)["session"].to_list() == [DAYS[1]]
    assert new_versions(raw, raw).is_empty()


def test_a_restated_adjusted_return_is_a_new_version_where_nothing_else_tells():
    raw = raw_answer(DAYS[:3], [100.0, 101.0, 102.0], dividend=None, split_ratio=None)
    restated = raw.with_columns(
        pl.when(pl.col("session") == DAYS[2]).then(90.0).otherwise("adj_close").alias("adj_close")
    )
    assert new_versions(raw, restated)["session"].to_list() == [DAYS[2]]


def test_no_return_leads_over_a_long_absence():
    days = [DAYS[0], DAYS[1], DAYS[1 + MAX_ABSENCE], DAYS[2 + 2 * MAX_ABSENCE - MAX_ABSENCE + 20]]
    bars = bars_of(raw_answer(days, [10.0, 11.0, 12.0, 13.0]))
    assert bars["total_return"].is_null().to_list() == [True, False, False, False]
    late = XNYS.sessions[2 + MAX_ABSENCE]
    bars = clean_bars(raw := raw_answer([DAYS[0], DAYS[1], late], [10.0, 11.0, 12.0]), universe_of(raw), XNYS.sessions)
    assert bars["total_return"].is_null().to_list() == [True, False, True]


def test_membership_ends_with_its_last_session():
    raw = raw_answer(DAYS[:3], [1.0, 1.0, 1.0])
    universe = universe_of(raw).with_columns(from_session=pl.lit(DAYS[1]), to_session=pl.lit(DAYS[1]))
    assert clean_bars(raw, universe, DAYS)["is_member"].to_list() == [False, True, False]


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    closes=st.lists(st.floats(5, 500), min_size=3, max_size=12),
    splits=st.lists(st.sampled_from([1.0, 1.0, 1.0, 2.0, 4.0, 0.1, 1.281]), min_size=12, max_size=12),
    dividends=st.lists(st.sampled_from([0.0, 0.0, 0.3]), min_size=12, max_size=12),
    data=st.data(),
)
def test_day_by_day_and_in_one_batch_give_the_same_bars(closes, splits, dividends, data):
    days = DAYS[: len(closes)]
    growth = [(closes[i] + dividends[i]) * splits[i] / closes[i - 1] for i in range(1, len(days))]
    adjusted = list(accumulate(growth, mul, initial=closes[0]))
    # adjusted closes that agree: what contradicts them is judged by the basis of its answer (rule 4 of ARCHITECTURE)
    traded = raw_answer(
        days,
        closes,
        split_ratio=splits[: len(days)],
        dividend=dividends[: len(days)],
        adj_close=adjusted,
        previous_adj_close=[None, *adjusted[:-1]],
    )
    batch = bars_of(seen_on(days[-1], traded))
    stored = seen_on(days[0], traded)
    for day in days[1:]:
        # the evening's answer may reach back: what was said before in another basis is no new version
        reach = data.draw(st.integers(1, 3))
        answer = seen_on(day, traded).filter(pl.col("session") > day - timedelta(days=reach))
        stored = pl.concat([stored, new_versions(latest_versions(stored), answer)])
    assert stored.height == len(days)
    assert_frame_equal(bars_of(stored).drop(PROVENANCE), batch.drop(PROVENANCE), rel_tol=1e-9, abs_tol=1e-12)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(cut=st.integers(2, 299), seed=st.integers(0, 5))
def test_truncating_the_future_changes_nothing(cut: int, seed: int):
    import numpy as np

    rng = np.random.default_rng(seed)
    closes = list(50 * np.exp(np.cumsum(rng.normal(0, 0.3, 300))))  # wild enough for every reason to occur
    keep = [i for i in range(300) if rng.random() > 0.02]
    raw = raw_answer(
        [DAYS[i] for i in keep], [closes[i] for i in keep], volume=[float(rng.integers(0, 3)) for _ in keep]
    )
    whole = bars_of(raw).filter(pl.col("session") <= DAYS[cut])
    assert_frame_equal(bars_of(raw.filter(pl.col("session") <= DAYS[cut])), whole)


# ---------------------------------------------------------------- real corporate actions


@pytest.fixture(scope="module")
def actions(real_data) -> pl.DataFrame:
    path = real_data("yahoo_102_tickers_with_actions_2016_2026.parquet")
    source = SnapshotSource(path, XNYS)
    first, last = date(2016, 3, 14), date(2026, 3, 13)
    raw = source.fetch(source.universe()["ticker"].to_list(), first, last, fetched_at=FETCHED).bars
    return raw.join(
        clean_bars(raw, source.universe(), XNYS.between(first, last)), on=["ticker", "session"], suffix="_bar"
    ).sort("ticker", "session")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("ticker", "day", "close"),
    [
        ("AAPL", "2020-08-28", 499.23),  # the last day before 4 for 1
        ("AAPL", "2020-08-31", 129.04),
        ("TSLA", "2020-08-28", 2213.40),  # before 5 for 1
        ("TSLA", "2022-08-24", 891.29),  # before 3 for 1
        ("TSLA", "2022-08-25", 296.07),
        ("NVDA", "2021-07-19", 751.19),  # before 4 for 1
        ("NVDA", "2024-06-07", 1208.88),  # before 10 for 1
        ("AMZN", "2022-06-03", 2447.00),  # before 20 for 1
        ("AMZN", "2022-06-06", 124.79),
        ("GE", "2021-07-30", 12.95),  # before 1 for 8
        ("GE", "2022-12-30", 83.79),  # before the spin-off of GE HealthCare, booked as a split of 1.281
        ("GE", "2024-04-01", 175.36),  # before the spin-off of GE Vernova, booked as 1.253
    ],
)
def test_real_closes_as_traded(actions: pl.DataFrame, ticker: str, day: str, close: float):
    row = actions.filter((pl.col("ticker") == ticker) & (pl.col("session") == date.fromisoformat(day)))
    assert row["close_bar"].item() == pytest.approx(close, rel=2e-4)


@pytest.mark.real_data
def test_real_bars_day_by_day_equal_one_batch(actions: pl.DataFrame):
    tickers = ["AAPL", "TSLA", "NVDA", "AMZN", "KDP", "GE", "AMCR"]
    raw = actions.filter(pl.col("ticker").is_in(tickers)).select(raw_answer(DAYS[:1], [1.0]).columns)
    traded = as_traded(raw)
    batch = clean_bars(raw, universe_of(raw), XNYS.sessions)
    evenings = [seen_on(day, traded).filter(pl.col("session") == day) for day in traded["session"].unique().sort()]
    one_by_one = clean_bars(pl.concat(evenings), universe_of(raw), XNYS.sessions)
    assert_frame_equal(one_by_one.drop(PROVENANCE), batch.drop(PROVENANCE), rel_tol=1e-9, abs_tol=1e-9)
