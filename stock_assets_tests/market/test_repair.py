"""What the vendor's own figures contradict: made by hand, one error each."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.market import splits
from stock_assets.market.adjustments import clean_bars_and_findings
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.findings import new_findings, no_findings
from stock_assets.market.sources.answers import BARS, with_history
from stock_assets.market.tables import QUARANTINE_SCHEMA
from stock_assets_tests.market.generators import raw_answer, universe_of

DAYS = trading_calendar("XNYS", date(2015, 1, 2)).sessions[:200]
CLOSES = [100.0 + i % 7 for i in range(60)]
SEEN = datetime(2026, 11, 2, 22, tzinfo=UTC)


def judged(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return clean_bars_and_findings(raw, universe_of(raw), DAYS)


def answered(closes: list[float], ratios: dict[int, float] | None = None, **columns: object) -> pl.DataFrame:
    """A vendor's answer as the sources read it, with splits at the given places."""
    ratio = [(ratios or {}).get(i, 1.0) for i in range(len(closes))]
    plain = raw_answer(DAYS[: len(closes)], closes, "A", split_ratio=ratio, **columns)
    bars = with_history(plain.with_columns(place=pl.lit("here")).select(BARS.names()))
    return bars.with_columns(plain["source"], plain["fetched_at"]).select(plain.columns)


def told(findings: pl.DataFrame) -> list[tuple]:
    return findings.select("session", "kind", "column", "found", "expected", "repaired").rows()


def at(places: list[int], name: str, factor: float) -> pl.Expr:
    days = [DAYS[place] for place in places]
    return pl.when(pl.col("session").is_in(days)).then(pl.col(name) * factor).otherwise(name).alias(name)


def test_an_ordinary_history_has_nothing_to_repair():
    bars, findings = judged(answered(CLOSES, {30: 1.0}))
    assert findings.is_empty()
    assert findings.schema == no_findings().schema
    assert bars["suspect"].null_count() == 60


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("places", [[20], [20, 21, 22]])
def test_prices_in_another_unit_are_mended_and_no_return_knows_of_them(factor: float, places: list[int]):
    right = answered(CLOSES)
    prices = ("open", "high", "low", "close", "adj_close")
    wrong = right.with_columns(at(places, name, factor) for name in prices).with_columns(
        previous_adj_close=pl.col("adj_close").shift()
    )
    bars, findings = judged(wrong)
    expected, _ = judged(right)
    assert_frame_equal(bars.drop("suspect"), expected.drop("suspect"))
    assert [i for i, reason in enumerate(bars["suspect"]) if reason] == places
    assert set(bars["suspect"].drop_nulls()) == {"vendor_error"}
    assert findings.height == 4 * len(places)
    assert told(findings.filter(pl.col("column") == "close"))[0] == (
        *(DAYS[20], "unit", "close"),
        pytest.approx(CLOSES[20] * factor),
        pytest.approx(CLOSES[20]),
        True,
    )


def test_a_low_in_another_unit_is_mended_alone():
    bars, findings = judged(answered(CLOSES).with_columns(at([20], "low", 0.01)))
    low = CLOSES[20] * 0.99
    assert told(findings) == [(DAYS[20], "unit", "low", pytest.approx(low / 100), pytest.approx(low), True)]
    assert bars["low"][20] == pytest.approx(low)


def test_a_unit_that_stays_is_the_new_one_and_leads_no_return():
    closes = [100.0] * 30 + [10_000.0] * 70
    bars, _ = judged(answered(closes))
    assert bars["close"].to_list()[30:50] == [100.0] * 20
    assert bars["close"].to_list()[50:] == [10_000.0] * 50
    assert bars["total_return"].drop_nulls().to_list() == [pytest.approx(0.0, abs=1e-12)] * 99
    assert [i for i, reason in enumerate(bars["suspect"]) if reason] == list(range(30, 50))


@pytest.mark.parametrize("ratio", [4.0, 2.0, 0.1])
@pytest.mark.parametrize("forgotten", [range(40), range(36, 39), range(39, 40), range(40, 41)])
def test_a_split_that_was_not_applied_is_applied(ratio: float, forgotten: range):
    """The rows of `forgotten` are on the other side of the split at place 40 than the vendor says."""
    closes = [100.0 + i % 3 for i in range(60)]  # in today's basis
    right = answered(closes, {40: ratio})
    bare = [close * ratio if i < 40 else close / ratio for i, close in enumerate(closes)]
    wrong = answered([bare[i] if i in forgotten else close for i, close in enumerate(closes)], {40: ratio})
    # how much of it was traded is of the same basis
    pieces = [(ratio if i >= 40 else 1 / ratio) if i in forgotten else 1.0 for i in range(60)]
    wrong = wrong.with_columns(volume=pl.col("volume") * pl.Series(pieces))
    bars, expected = judged(wrong)[0], judged(right)[0]
    assert_frame_equal(bars.drop("suspect"), expected.drop("suspect"))
    # the adjusted closes jump too: what speaks for the split is the ex-date or the jump back
    jumps = {forgotten.start, forgotten.stop} - {0}
    assert {i for i, reason in enumerate(bars["suspect"]) if reason} == jumps
    findings = splits.unapplied_splits(wrong)
    assert findings["session"].to_list() == [DAYS[i] for i in forgotten]
    assert set(findings["kind"]) == {"split"}
    assert splits.unapplied_splits(right).is_empty()


@pytest.mark.parametrize("ratio", [4.0, 2.0, 1.5, 4 / 3, 1.25, 1.05, 0.1])
@pytest.mark.parametrize("forgotten", [range(40), range(36, 39), range(39, 40), range(40, 41)])
def test_where_the_adjusted_closes_know_of_it_the_bar_is_trusted(ratio: float, forgotten: range):
    closes = [100.0 + i % 3 for i in range(60)]
    right = answered(closes, {40: ratio})
    bare = [close * ratio if i < 40 else close / ratio for i, close in enumerate(closes)]
    wrong = answered(
        [bare[i] if i in forgotten else close for i, close in enumerate(closes)], {40: ratio}, adj_close=closes
    )
    pieces = [(ratio if i >= 40 else 1 / ratio) if i in forgotten else 1.0 for i in range(60)]
    wrong = wrong.with_columns(volume=pl.col("volume") * pl.Series(pieces))
    assert_frame_equal(judged(wrong)[0], judged(right)[0])


def test_a_crash_is_no_forgotten_split_unless_it_comes_with_one():
    closes = [100.0] * 20 + [50.0] * 40
    assert splits.unapplied_splits(answered(closes, {50: 2.0})).is_empty()
    # a dividend that was paid with the split may look like it: 461 falls to 205 for 244 paid, with 0.4714 for 1
    merged = answered([461.0] * 20 + [205.0] * 20, {20: 0.4714}, dividend=[0.0] * 20 + [244.0] + [0.0] * 19)
    assert splits.unapplied_splits(merged).is_empty()


def paying(dividends: dict[int, float], adjusted: dict[int, float] | None = None, **columns: object) -> pl.DataFrame:
    """Bars at 100 that pay, with adjusted closes that know of the dividends `adjusted` (default: the same)."""
    paid = [dividends.get(i, 0.0) for i in range(60)]
    known = [(dividends if adjusted is None else adjusted).get(i, 0.0) for i in range(60)]
    adj, closes = [100.0], columns.pop("closes", [100.0] * 60)
    for i in range(59, 0, -1):
        adj.append(adj[-1] * (closes[i - 1] - known[i]) / closes[i])  # pyright: ignore[reportIndexIssue]
    return answered(closes, dividend=paid, adj_close=adj[::-1], **columns)  # pyright: ignore[reportArgumentType]


def test_a_dividend_that_shows_in_the_price_or_is_small_is_believed():
    fell = [100.0] * 20 + [20.0] * 40
    for raw in (paying({20: 0.5, 40: 0.5}), paying({20: 81.0}, closes=fell)):
        bars, findings = judged(raw)
        assert findings.filter(pl.col("kind") != "absurd_return").is_empty()
        assert bars.filter(pl.col("dividend") > 0)["suspect"].null_count() == bars.filter(pl.col("dividend") > 0).height


@pytest.mark.parametrize(
    ("raw", "found", "expected"),
    [
        (paying({20: 35.0}, {20: 0.35}), 35.0, 0.35),  # the adjusted closes know better
        (paying({20: 35.0}), 35.0, 0.35),  # they do not, and the price has not moved
        (paying({20: 0.005}, {20: 0.5}), 0.005, 0.5),  # a hundredth
        (paying({10: 0.5, 40: 0.005}), 0.005, 0.5),  # a hundredth, of the dividend before
    ],
)
def test_a_dividend_that_is_a_hundred_times_off_is_mended(raw: pl.DataFrame, found: float, expected: float):
    bars, findings = judged(raw)
    assert [row[1:] for row in told(findings)] == [("dividend", "dividend", found, pytest.approx(expected), True)]
    row = bars.filter(pl.col("suspect") == "vendor_error").row(0, named=True)
    assert row["dividend"] == pytest.approx(expected)
    assert row["total_return"] == pytest.approx(expected / 100)


def test_a_spin_off_told_as_split_and_as_dividend_counts_once():
    raw = answered([100.0] * 60, {30: 1.3}, dividend=[0.0] * 30 + [30.0] + [0.0] * 29, adj_close=[None] * 60)
    # as downloaded later: the close before is in the new basis
    raw = raw.with_columns(adj_close=pl.when(pl.col("session") < DAYS[30]).then(70.0).otherwise(100.0)).with_columns(
        previous_adj_close=pl.col("adj_close").shift()
    )
    bars, findings = judged(raw)
    assert [row[1:] for row in told(findings)] == [("dividend", "dividend", 30.0, 0.0, True)]
    assert bars["total_return"][30] == pytest.approx(0.0)


def test_the_same_dividend_within_three_weeks_is_suspect_and_stays():
    bars, findings = judged(paying({20: 0.5, 24: 0.5}))
    assert told(findings) == [(DAYS[24], "dividend", "dividend", 0.5, None, False)]
    assert bars["dividend"][24] == 0.5
    assert bars["suspect"].to_list()[24] == "vendor_error"
    assert judged(paying({10: 0.5, 30: 0.5}))[1].is_empty()


def test_an_adjusted_close_that_misses_a_dividend_is_told_and_changes_nothing():
    bars, findings = judged(paying({20: 2.0}, {}))
    assert [row[:3] for row in told(findings)] == [(DAYS[20], "adjustment", "adj_close")]
    assert bars["suspect"].null_count() == 60
    assert bars["total_return"][20] == pytest.approx(0.02)


@pytest.mark.parametrize("price", [0.0, float("nan"), None, -1.0])
def test_a_bar_without_a_price_is_held_out_and_told_and_stops_nobody(price: float | None):
    good = answered(CLOSES)
    bad = raw_answer(DAYS[:60], CLOSES, "BAD").with_columns(
        close=pl.when(pl.col("session") == DAYS[20]).then(pl.lit(price, pl.Float64)).otherwise("close")
    )
    bars, findings = judged(pl.concat([good, bad]))
    (row,) = findings.rows(named=True)
    assert (row["ticker"], row["session"], row["kind"], row["column"]) == ("BAD", DAYS[20], "no_price", "close")
    assert bars.filter(pl.col("ticker") == "BAD")["session"].to_list() == [*DAYS[:20], *DAYS[21:60]]
    assert set(bars.filter(pl.col("ticker") == "BAD")["suspect"].to_list()[20:]) == {"gap"}
    assert_frame_equal(bars.filter(pl.col("ticker") == "A"), judged(good)[0])


def test_frozen_and_absurd_bars_are_told_on_their_day_alone():
    closes = [100.0] * 30 + [300.0] * 30
    flat = {
        side: [100.0 if i == 10 else 101.0 if side == "high" else 99.0 for i in range(30)] for side in ("high", "low")
    }
    flat = {side: values + [300.0 * values[0] / 100] * 30 for side, values in flat.items()}
    _, findings = judged(
        raw_answer(DAYS[:60], closes, "A", volume=[0.0 if i == 10 else 1e6 for i in range(60)], **flat)
    )
    assert [row[:3] for row in told(findings)] == [
        (DAYS[10], "frozen", "volume"),
        (DAYS[30], "absurd_return", "total_return"),
    ]


def test_a_finding_is_listed_once():
    _, findings = judged(paying({20: 35.0}))
    first = new_findings(QUARANTINE_SCHEMA.to_frame(), findings, SEEN)
    assert first.schema == QUARANTINE_SCHEMA
    assert first["seen_at"].to_list() == [SEEN]
    assert new_findings(first, findings, SEEN).is_empty()
    other = findings.with_columns(pl.col("found") + 1)
    assert new_findings(first, other, SEEN).height == 1


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    factors=st.lists(st.sampled_from([1.0, 1.0, 1.0, 1.0, 100.0, 0.01]), min_size=60, max_size=60),
    dividends=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.4, 40.0, 0.004]), min_size=60, max_size=60),
    cut=st.integers(1, 59),
)
def test_no_verdict_looks_at_what_came_after(factors: list[float], dividends: list[float], cut: int):
    closes = [close * factor for close, factor in zip(CLOSES, factors, strict=True)]
    raw = answered(closes, dividend=dividends)
    early = raw.filter(pl.col("session") <= DAYS[cut])
    for whole, part in zip(judged(raw), judged(early), strict=True):
        until = whole.filter(pl.col("session") <= DAYS[cut])
        keys = ["ticker", "session", *([] if "kind" not in until.columns else ["kind", "column"])]
        assert_frame_equal(part.sort(keys), until.sort(keys))
