"""Corporate actions as they really happened, against the vendor's own adjusted close.

Yahoo reinvests a dividend at the close before the ex-date, c / (p - d), and we count (c + d) / p. With R our total
return and y = d / p, theirs is exactly R / (1 - y): so the two can be compared to the last digit that Yahoo tells.
"""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.market.adjustments import clean_bars, clean_bars_and_findings, new_versions
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.renames import RENAMES, Rename, continued, newest
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets_tests.market.generators import FETCHED, raw_answer, universe_of
from stock_assets_tests.market.test_adjustments import seen_on

XNYS = trading_calendar("XNYS", date(2009, 12, 31), date(2026, 12, 31))
DAYS = XNYS.sessions[:120]
#: Yahoo's prices have seven significant digits, and a return is made of four of them.
TOLERANCE = 2e-6

ACTIONS = [
    # ticker, day, kind, split ratio, dividend, total return
    ("AAPL", "2020-08-31", "split", 4.0, 0.0, 0.033912),
    ("TSLA", "2020-08-31", "split", 5.0, 0.0, 0.125689),
    ("TSLA", "2022-08-25", "split", 3.0, 0.0, -0.003456),
    ("NVDA", "2024-06-10", "split", 10.0, 0.0, 0.007461),
    ("AMZN", "2022-06-06", "split", 20.0, 0.0, 0.019943),
    ("GOOGL", "2022-07-18", "split", 20.0, 0.0, -0.024580),
    ("CMG", "2024-06-26", "split", 50.0, 0.0, 0.003034),
    ("ODFL", "2020-03-25", "split", 1.5, 0.0, 0.082105),
    ("GE", "2021-08-02", "reverse split", 0.125, 0.0, -0.028958),
    ("AMCR", "2026-01-15", "reverse split", 0.2, 0.0, 0.001361),
    ("HLT", "2017-01-04", "reverse split and two spin-offs", 0.487329, 0.0, 0.031950),
    ("DD", "2019-06-03", "reverse split and spin-off of Corteva", 0.4725, 0.0, 0.178154),
    ("GE", "2023-01-04", "spin-off of GE HealthCare", 1.281, 0.0, 0.058204),
    ("GE", "2024-04-02", "spin-off of GE Vernova", 1.253, 0.0, -0.024881),
    ("MMM", "2024-04-01", "spin-off of Solventum", 1.196, 0.0, 0.060129),
    ("T", "2022-04-11", "spin-off of WarnerMedia", 1.324, 0.0, 0.076641),
    ("DELL", "2021-11-02", "spin-off of VMware", 1.973, 0.0, -0.033759),
    ("WDC", "2025-02-24", "spin-off of Sandisk", 1.323, 0.0, -0.056128),
    ("IBM", "2021-11-04", "spin-off of Kyndryl", 1.046, 0.0, -0.005671),
    ("JCI", "2016-10-31", "spin-off of Adient, told as a dividend", 1.0, 4.70, 0.028793),
    ("KDP", "2018-07-10", "special dividend and merger", 1.0, 103.75, 0.018438),
    ("ACGL", "2024-11-18", "special dividend", 1.0, 5.0, 0.001473),
    ("PCAR", "2023-12-14", "special dividend", 1.0, 3.20, 0.009688),
    ("MTCH", "2020-07-01", "merger with the parent", 3.502, 0.0, -0.012891),
    ("JCI", "2016-09-06", "merger with Tyco", 0.955, 0.0, 0.024337),
    ("AMCR", "2019-06-11", "merger with Bemis", 1.0, 0.0, 0.002691),
    ("RTX", "2020-04-03", "was UTX, with two spin-offs", 1.589, 0.0, -0.077563),
    ("TT", "2020-03-02", "was IR, with a spin-off", 1.289, 0.0, 0.004409),
    ("J", "2019-12-10", "was JEC", 1.0, 0.0, 0.015028),
    ("FISV", "2023-06-07", "was FISV, now FI, and FISV again", 1.0, 0.0, 0.013569),
    ("DOC", "2024-03-04", "was PEAK", 1.0, 0.0, -0.014620),
]


@pytest.fixture(scope="module")
def compared(real_data) -> pl.DataFrame:
    """Every bar of 102 tickers and ten years with `apart`: how far our return is from the vendor's."""
    source = SnapshotSource(real_data("yahoo_102_tickers_with_actions_2016_2026.parquet"), XNYS)
    first, last = date(2016, 3, 14), date(2026, 3, 13)
    raw = source.fetch(source.universe()["ticker"].to_list(), first, last, fetched_at=FETCHED).bars
    bars, findings = clean_bars_and_findings(raw, source.universe(), XNYS.between(first, last))
    price = pl.col("close").shift() / pl.col("split_ratio")
    ours = pl.col("total_return") / (1 - pl.col("dividend") / pl.when(pl.col("total_return").is_not_null()).then(price))
    theirs = raw.select("ticker", "session", theirs=pl.col("adj_close") / pl.col("previous_adj_close") - 1)
    found = findings.group_by("ticker", "session").agg("kind", "expected")
    return (
        bars.sort("ticker", "session")
        .with_columns(ours=ours)
        .join(theirs, on=["ticker", "session"])
        .join(found, on=["ticker", "session"], how="left")
        .with_columns(apart=((1 + pl.col("ours")) / (1 + pl.col("theirs")) - 1).abs())
    )


@pytest.mark.real_data
@pytest.mark.parametrize(("ticker", "day", "kind", "ratio", "dividend", "total_return"), ACTIONS)
def test_our_return_on_the_day_of_a_corporate_action_is_the_vendors(
    compared: pl.DataFrame, ticker: str, day: str, kind: str, ratio: float, dividend: float, total_return: float
):
    chosen = (pl.col("ticker") == ticker) & (pl.col("session") == date.fromisoformat(day))
    row = compared.filter(chosen).row(0, named=True)
    assert row["split_ratio"] == pytest.approx(ratio)
    assert row["dividend"] == pytest.approx(dividend)
    assert row["total_return"] == pytest.approx(total_return, abs=1e-6)
    assert row["apart"] < TOLERANCE
    if "AMCR" not in ticker:  # whose quote before the merger is frozen
        assert row["suspect"] is None, kind


@pytest.mark.real_data
def test_our_return_is_the_vendors_on_every_day_but_where_it_contradicts_itself(compared: pl.DataFrame):
    assert compared["apart"].count() > 256_000
    far = compared.filter(pl.col("apart") > TOLERANCE)
    assert set(far.select("ticker", "session").iter_rows()) == {
        ("AMCR", date(2017, 9, 1)),  # a frozen quote whose two dividends the vendor exchanges
        ("AMCR", date(2017, 9, 5)),
        ("DHR", date(2016, 7, 5)),  # the spin-off of Fortive is told twice, as a split and as a dividend
    }
    assert far["kind"].null_count() == 0


@pytest.mark.real_data
def test_the_spin_off_that_was_booked_twice_counts_once(compared: pl.DataFrame):
    row = compared.filter((pl.col("ticker") == "DHR") & (pl.col("session") == date(2016, 7, 5))).row(0, named=True)
    assert row["dividend"] == 0.0
    assert row["total_return"] == pytest.approx(0.036431, abs=1e-6)  # 0.3936 as the vendor tells it
    assert row["suspect"] == "vendor_error"


@pytest.mark.real_data
def test_a_delisted_ticker_ends_and_a_listing_begins(real_data, compared: pl.DataFrame):
    source = SnapshotSource(real_data("yahoo_sp500_2010_2019.parquet"), XNYS, tickers=("BRK", "FB"))
    universe = {row["ticker"]: row for row in source.universe().iter_rows(named=True)}
    assert universe["BRK"]["to_session"] == date(2019, 6, 7)
    assert universe["FB"]["from_session"] == date(2012, 5, 18)
    first, last = date(2019, 1, 2), date(2019, 12, 31)
    bars = clean_bars(
        source.fetch(["BRK", "FB"], first, last, fetched_at=FETCHED).bars, source.universe(), XNYS.between(first, last)
    )
    gone = bars.filter(pl.col("ticker") == "BRK")
    assert gone["session"].max() == date(2019, 6, 7)
    assert gone["is_member"].all()
    # the first bar of a listing leads no return, and the others are told to be young
    listed = compared.filter(pl.col("ticker") == "DELL").sort("session")
    assert listed["total_return"].is_null().to_list()[:2] == [True, False]
    assert listed["suspect"].to_list()[:51] == ["short_history"] * 50 + [None]


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    closes=st.lists(st.floats(20, 60), min_size=6, max_size=12),
    ratio=st.sampled_from([2.0, 4.0, 20.0, 0.125, 1.281]),
    dividend=st.sampled_from([0.0, 0.4]),
    reach=st.integers(0, 5),
)
def test_a_split_announced_today_changes_no_stored_row_of_the_past(closes, ratio, dividend, reach):
    days = DAYS[: len(closes)]
    splits = [1.0] * (len(days) - 1) + [ratio]
    # as traded, so that the price falls by what the split says
    prices = [*closes[:-1], closes[-1] / ratio]
    paid = [0.0] * (len(days) - 1) + [dividend]
    traded = raw_answer(days, prices, split_ratio=splits, dividend=paid)
    stored = seen_on(days[-2], traded)
    answer = seen_on(days[-1], traded).filter(pl.col("session") >= days[-1] - timedelta(days=reach))
    told = new_versions(stored, answer)
    assert told["session"].to_list() == [days[-1]]
    before = clean_bars(stored, universe_of(stored), days)
    after = clean_bars(pl.concat([stored, told]), universe_of(stored), days)
    assert_frame_equal(after.filter(pl.col("session") < days[-1]), before)


# ---------------------------------------------------------------- ticker changes


def test_the_history_of_an_old_ticker_continues_under_the_new_one():
    change = Rename("FB", "META", DAYS[60])
    old, new = (
        raw_answer(DAYS[:60], [100.0 + i for i in range(60)], "FB"),
        raw_answer(DAYS[55:120], [155.0 + i for i in range(65)], "META"),
    )
    universe = universe_of(new)
    raw = continued(pl.concat([old, new]), universe, [change])
    bars = clean_bars(raw, universe, DAYS)
    assert set(bars["ticker"]) == {"META"}
    assert bars["session"].to_list() == list(DAYS)
    assert bars["suspect"].null_count() == 120  # no short history, no gap
    expected = [None, *[1 / (100 + i) for i in range(119)]]
    assert bars["total_return"].to_list() == [value if value is None else pytest.approx(value) for value in expected]
    # without the change, it would be a listing of its own
    alone = clean_bars(new, universe, DAYS)
    assert alone["suspect"].to_list()[:50] == ["short_history"] * 50


def test_a_rename_waits_for_the_universe_and_spares_who_takes_the_ticker_afterwards():
    change = Rename("FB", "META", DAYS[60])
    raw = raw_answer(DAYS[:100], [100.0] * 100, "FB")
    assert continued(raw, universe_of(raw), [change]).equals(raw)  # a snapshot from before the change
    both = universe_of(pl.concat([raw, raw_answer(DAYS[:1], [1.0], "META")]))
    assert continued(raw, both, [change]).equals(raw)
    listed = universe_of(raw_answer(DAYS[:1], [1.0], "META"))
    moved = continued(raw, listed, [change])
    assert dict(moved.group_by("ticker").len().iter_rows()) == {"META": 60, "FB": 40}


def test_a_ticker_that_changes_twice_ends_at_its_newest_name():
    assert newest(next(rename for rename in RENAMES if rename.old == "SYMC")) == "GEN"
    assert newest(next(rename for rename in RENAMES if rename.old == "HCP")) == "DOC"
    raw = raw_answer(DAYS[:3], [10.0] * 3, "SYMC")
    assert set(continued(raw, universe_of(raw_answer(DAYS[:1], [1.0], "GEN")))["ticker"]) == {"GEN"}


@pytest.mark.real_data
def test_the_renames_are_those_of_the_index(real_data):
    stays = pl.read_parquet(real_data("sp500_membership_intervals.parquet"))
    left, joined = (set(stays.select("ticker", day).iter_rows()) for day in ("end_date", "start_date"))
    assert [r for r in RENAMES if (r.old, r.session) not in left or (r.new, r.session) not in joined] == []
