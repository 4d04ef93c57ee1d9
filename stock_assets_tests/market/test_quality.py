from datetime import date
from pathlib import Path

import polars as pl
import pytest

from stock_assets.frames import repeated
from stock_assets.market import quality
from stock_assets.market.adjustments import clean_bars
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets_tests.market.generators import FETCHED, raw_answer, universe_of

XNYS = trading_calendar("XNYS", date(2009, 12, 31), date(2026, 12, 31))
DAYS = XNYS.sessions[:700]


def reasons(raw: pl.DataFrame) -> list[str | None]:
    return clean_bars(raw, universe_of(raw), DAYS).sort("session")["suspect"].to_list()


def test_ordinary_bars_are_trusted():
    assert set(reasons(raw_answer(DAYS[:120], [100.0 + i % 7 for i in range(120)]))) == {None}


def test_a_close_outside_high_and_low_is_suspect_on_its_day_alone():
    raw = raw_answer(DAYS[:60], [100.0] * 60, high=[101.0] * 30 + [99.0] + [101.0] * 29)
    assert [i for i, reason in enumerate(reasons(raw)) if reason] == [30]
    assert reasons(raw)[30] == "ohlc"


@pytest.mark.parametrize("jump", [2.5, 0.4])
def test_an_absurd_return_is_distrusted_for_a_year(jump: float):
    closes = [100.0] * 60 + [100.0 * jump] * 400
    found = reasons(raw_answer(DAYS[:460], closes))
    assert found[:60] == [None] * 60
    assert found[60 : 60 + quality.DISTRUST] == ["absurd_return"] * quality.DISTRUST
    assert found[60 + quality.DISTRUST :] == [None] * (400 - quality.DISTRUST)


def test_a_split_on_record_explains_the_move():
    closes = [100.0] * 60 + [25.0] * 60
    raw = raw_answer(DAYS[:120], closes, split_ratio=[1.0] * 60 + [4.0] + [1.0] * 59)
    unadjusted = raw.with_columns(adj_close=pl.lit(25.0), previous_adj_close=pl.lit(25.0))
    assert set(reasons(unadjusted)) == {None}
    # adjusted closes that fall as well leave open whether there was a split
    assert reasons(raw)[60] == "vendor_error"


def test_a_skipped_session_is_remembered():
    days = [*DAYS[:60], *DAYS[61:200]]
    found = reasons(raw_answer(days, [100.0] * len(days)))
    assert found[:60] == [None] * 60
    assert found[60 : 60 + quality.GAP_MEMORY] == ["gap"] * quality.GAP_MEMORY
    assert set(found[60 + quality.GAP_MEMORY :]) == {None}


def test_frozen_bars_taint_the_days_around_them():
    frozen = [60, 61, 62, 63, 64]
    flat = {
        "high": [100.0 if i in frozen else 101.0 for i in range(200)],
        "low": [100.0 if i in frozen else 99.0 for i in range(200)],
    }
    raw = raw_answer(DAYS[:200], [100.0] * 200, volume=[0.0 if i in frozen else 1e6 for i in range(200)], **flat)
    found = reasons(raw)
    assert found[60:64] == ["frozen"] * 4  # each for itself
    assert found[64:110] == ["frozen"] * 46  # while five of the last fifty are
    assert set(found[110:]) == {None}
    one = raw.with_columns(volume=pl.when(pl.col("session") == DAYS[60]).then(0.0).otherwise(1e6))
    assert [i for i, reason in enumerate(reasons(one)) if reason] == [60]


def test_a_new_listing_has_a_short_history_but_the_first_session_of_the_store_lists_nobody():
    old = raw_answer(DAYS[:120], [100.0] * 120, "OLD")
    new = raw_answer(DAYS[10:120], [100.0] * 110, "NEW")
    bars = clean_bars(pl.concat([old, new]), universe_of(old), DAYS)
    assert bars.filter(pl.col("ticker") == "OLD")["suspect"].null_count() == 120
    found = bars.filter(pl.col("ticker") == "NEW").sort("session")["suspect"].to_list()
    assert found == ["short_history"] * quality.SHORT_HISTORY + [None] * (110 - quality.SHORT_HISTORY)


def test_the_judgement_needs_no_more_than_its_look_back():
    import numpy as np

    rng = np.random.default_rng(3)
    parts = []
    for ticker, wild, first in (("CALM", 0.01, 0), ("WILD", 0.15, 0), ("YOUNG", 0.01, 590)):
        keep = [i for i in range(first, 700) if rng.random() > 0.01]
        closes = 50 * np.exp(np.cumsum(rng.standard_t(3, 700) * wild))
        volume = [float(rng.integers(0, 12)) for _ in keep]
        flat = {side: [closes[i] for i in keep] for side in ("high", "low")}
        parts.append(raw_answer([DAYS[i] for i in keep], [closes[i] for i in keep], ticker, volume=volume, **flat))
    raw = pl.concat(parts)
    whole = clean_bars(raw, universe_of(raw), DAYS)
    assert set(whole["suspect"]) == {None, "absurd_return", "gap", "frozen", "short_history"}
    for last in (560, 620, 699):
        first = DAYS[last - quality.LOOKBACK_SESSIONS]
        part = raw.filter(pl.col("session").is_between(first, DAYS[last]))
        alone = clean_bars(part, universe_of(raw), DAYS).filter(pl.col("session") == DAYS[last])
        assert alone.rows() == whole.filter(pl.col("session") == DAYS[last]).rows()


def test_offenders_are_named():
    raw = raw_answer(DAYS[:3], [100.0] * 3)
    bars = clean_bars(raw, universe_of(raw), DAYS)
    assert repeated(bars).is_empty()
    assert repeated(pl.concat([bars, bars[:1]])).select("ticker", "session").rows() == [("A", DAYS[0])]
    assert quality.impossible_prices(bars).is_empty()
    broken = bars.with_columns(low=pl.when(pl.col("session") == DAYS[1]).then(-1.0).otherwise("low"))
    assert quality.impossible_prices(broken)["session"].to_list() == [DAYS[1]]
    missing = broken.with_columns(close=pl.when(pl.col("session") == DAYS[2]).then(None).otherwise("close"))
    assert quality.impossible_prices(missing).height == 2


GONE = ("T0", "T1")


def test_coverage_names_the_absent_and_the_thin_sessions():
    raws = [
        raw_answer(DAYS[: 2 if ticker in GONE else 3], [1.0] * (2 if ticker in GONE else 3), ticker)
        for ticker in (f"T{i}" for i in range(8))
    ]
    raw = pl.concat(raws)
    bars = clean_bars(raw, universe_of(raw), DAYS)
    absent = quality.absent_members(bars, universe_of(raw))
    assert absent.rows() == [("T0", DAYS[2]), ("T1", DAYS[2])]
    assert quality.thin_sessions(bars, absent)["session"].to_list() == [DAYS[2]]  # 6 of 8 is less than 90 %
    # a single absent ticker of a handful makes no session thin
    assert quality.thin_sessions(bars, absent.head(1)).is_empty()


# ---------------------------------------------------------------- known-bad real data


def real_bars(path: Path, first: date, last: date) -> pl.DataFrame:
    source = SnapshotSource(path, XNYS)
    raw = source.fetch(source.universe()["ticker"].to_list(), first, last, fetched_at=FETCHED).bars
    return clean_bars(raw, source.universe(), XNYS.between(first, last))


@pytest.mark.real_data
def test_the_known_bad_tickers_of_the_study_are_caught_by_name(real_data):
    bars = real_bars(real_data("yahoo_sp500_2010_2019.parquet"), date(2010, 1, 4), date(2019, 12, 31))
    assert bars.height == 1_208_652  # flagged rows stay
    flagged = (
        bars.filter(pl.col("suspect").is_not_null()).group_by("ticker").agg(pl.col("suspect").unique(), share=pl.len())
    )
    caught = {row["ticker"]: (set(row["suspect"]), row["share"]) for row in flagged.iter_rows(named=True)}
    size = dict(bars.group_by("ticker").len().iter_rows())
    assert "absurd_return" in caught["TT"][0]
    assert caught["TT"][1] > 0.95 * size["TT"]
    assert "absurd_return" in caught["BRK"][0]
    assert caught["BRK"][1] > 0.90 * size["BRK"]
    assert caught["HWM"] == ({"short_history"}, size["HWM"])
    assert "frozen" in caught["AMCR"][0]
    assert caught["AMCR"][1] > 0.90 * size["AMCR"]
    assert "gap" in caught["NLOK"][0]
    assert "gap" in caught["UA"][0]
    trusted = bars.filter(pl.col("suspect").is_null())
    assert trusted.height > 0.99 * bars.height
    late = trusted.filter(pl.col("session") >= date(2010, 3, 26))  # before it, nothing had gone wrong yet
    assert late.filter(pl.col("total_return").abs() > 1).is_empty()


@pytest.mark.real_data
def test_provisional_last_bars_and_frozen_amcr_are_caught(real_data):
    bars = real_bars(
        real_data("yahoo_102_tickers_with_actions_2016_2026.parquet"), date(2016, 3, 14), date(2026, 3, 13)
    )
    last = bars.filter(pl.col("session") == date(2026, 3, 13))
    outside = last.filter(
        (pl.col("open") > pl.col("high") * (1 + 1e-4)) | (pl.col("open") < pl.col("low") * (1 - 1e-4))
    )
    assert outside.height == 2
    assert set(outside["suspect"]) == {"ohlc"}
    amcr = bars.filter((pl.col("ticker") == "AMCR") & (pl.col("session") < date(2019, 5, 1)))
    assert (amcr["suspect"] == "frozen").sum() > 0.9 * amcr.height


def test_every_bar_check_has_a_sentence_and_its_own_name():
    assert all(check.text and name == check.name for name, check in quality.BAR_CHECKS.items())
    against_vendor = [name for name, check in quality.BAR_CHECKS.items() if check.against_vendor]
    assert against_vendor == ["vendor_error", "ohlc", "absurd_return", "frozen"]
