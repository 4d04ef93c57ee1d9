"""Which figure of a vendor decides a return, against returns that were drawn before any vendor's figure was made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.adjustments import as_traded, clean_bars_and_findings
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.answers import BARS, with_history
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.market.splits import applied_splits, unapplied_splits, uncertain_splits
from stock_assets_tests.market.generators import raw_answer, universe_of

XNYS = trading_calendar("XNYS", date(2015, 1, 2))
DAYS = XNYS.sessions[:200]
FETCHED = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Action:
    """What happens on a day: a payment as a share of the price before, or a split."""

    paid: float = 0.0
    split: float = 1.0
    listed: bool = True
    applied: bool = True
    """whether the vendor has divided the closes before by the split"""


def vendor(
    returns: Sequence[float], actions: dict[int, Action] | None = None, *, into_return: bool = False
) -> pl.DataFrame:
    """A vendor's answer over days whose total returns are `returns`: closes from `actions`, right adjusted closes.

    The payment is taken out of the adjusted closes before, as Yahoo does, or put `into_return`, as CRSP does.
    """
    by_day = [(actions or {}).get(i, Action()) for i in range(len(returns) + 1)]
    closes, paid, adjusted = [80.0], [0.0], [1.0]
    for total, action in zip(returns, by_day[1:], strict=True):
        price = closes[-1] / action.split
        paid.append(action.paid * price)
        closes.append(price * (1 + total - action.paid))
        step = 1 + total if into_return else closes[-1] / (price - paid[-1])
        adjusted.append(adjusted[-1] * step)
    basis = [1.0]
    for action in reversed(by_day[1:]):
        basis.append(basis[-1] / (action.split if action.applied else 1.0))
    basis = basis[::-1]
    answer = raw_answer(
        DAYS[: len(closes)],
        [close * factor for close, factor in zip(closes, basis, strict=True)],
        adj_close=[value * closes[-1] / adjusted[-1] for value in adjusted],
        dividend=[cash * by_day[i].listed * basis[i] for i, cash in enumerate(paid)],
        split_ratio=[action.split if action.listed else 1.0 for action in by_day],
    )
    bars = with_history(answer.with_columns(place=pl.lit("here")).select(BARS.names()))
    return bars.with_columns(answer["source"], answer["fetched_at"]).select(answer.columns)


def judged(raw: pl.DataFrame) -> pl.DataFrame:
    doubts = uncertain_splits(raw)
    return clean_bars_and_findings(raw, universe_of(raw), DAYS, doubts=doubts)[0]


def wrong_and_trusted(raw: pl.DataFrame, returns: Sequence[float], tolerance: float = 1e-3) -> pl.DataFrame:
    bars = judged(raw).with_columns(right=pl.Series([None, *returns], dtype=pl.Float64))
    off = (pl.col("total_return") - pl.col("right")).abs() > tolerance
    return bars.filter(off, pl.col("suspect").is_null()).select("session", "total_return", "right")


QUIET = [0.004 if i % 2 else -0.003 for i in range(40)]
RATIOS = [1.5, 4 / 3, 1.25, 1.05, 2.0, 3.0, 10.0, 0.5, 0.1, 0.04]


def with_moves(moves: dict[int, float]) -> list[float]:
    return [moves.get(i, move) for i, move in enumerate(QUIET, 1)]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("place", [-10, -5, -1, 1, 2, 5])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_real_move_of_the_size_of_a_split_nearby_stays(ratio: float, place: int, sign: int):
    # a fall below a half or a rise above the double counts as absurd anyway
    move = ratio**sign - 1
    if not -0.5 < move < 1.0:
        move = -0.45 if move < 0 else 0.9
    returns = with_moves({20 + place: move * 0.97})
    raw = vendor(returns, {20: Action(split=ratio)})
    assert unapplied_splits(raw).is_empty()
    assert judged(raw)["total_return"].to_list()[1:] == pytest.approx(returns)


def test_a_move_that_may_be_the_split_is_suspect_and_no_other_bar():
    for day in (15, 22):
        raw = vendor(with_moves({day: -0.33}), {20: Action(split=1.5)})
        bars = judged(raw)
        assert [i for i, reason in enumerate(bars["suspect"]) if reason] == [day]
    raw = vendor(with_moves({15: -0.2}), {20: Action(split=1.5)})
    assert judged(raw)["suspect"].null_count() == 41


@pytest.mark.parametrize("ratio", [1.5, 4 / 3])
def test_a_real_move_on_the_ex_date_stays_where_it_happens_during_the_day(ratio: float):
    """A basis that was not applied is there from the opening on. Where the price opens at it, nothing tells."""
    returns = with_moves({20: 1 / ratio - 1})
    raw = vendor(returns, {20: Action(split=ratio)})
    before = pl.col("close").shift(1)
    at_noon = raw.with_columns(open=pl.when(pl.int_range(pl.len()) == 20).then(before * 0.99).otherwise("open"))
    at_noon = at_noon.with_columns(high=pl.max_horizontal("open", "high"))
    with_splits = at_noon.with_columns(later_splits=applied_splits(at_noon))
    assert unapplied_splits(with_splits).is_empty()
    bars = judged(with_splits)
    assert bars["total_return"].to_list()[1:] == pytest.approx(returns)
    assert bars["suspect"][20] is None
    overnight = raw.with_columns(later_splits=applied_splits(raw))
    assert judged(overnight)["suspect"][20] == "vendor_error"


@pytest.mark.parametrize("move", [-0.01, -0.03])
def test_a_special_dividend_of_a_ticker_that_paid_others_stays_on_a_day_that_falls(move: float):
    """A hundredth of it would be near those before where the vendor had the wrong unit."""
    returns = with_moves({30: 0.14 + move})
    raw = vendor(returns, {10: Action(paid=0.01), 30: Action(paid=0.14)})
    bars = judged(raw)
    assert bars["total_return"].to_list()[1:] == pytest.approx(returns, abs=1e-6)
    assert bars["suspect"][30] == "vendor_error"
    wrong_unit = vendor(returns, {10: Action(paid=0.0014), 30: Action(paid=0.14)})
    assert judged(wrong_unit)["total_return"][30] == pytest.approx(move + 0.0014, abs=1e-3)


def test_several_splits_close_together_are_each_applied_once():
    actions = {20: Action(split=1.5), 23: Action(split=4 / 3), 24: Action(split=2.0), 30: Action(split=0.1)}
    returns = with_moves({18: -0.31, 21: 0.2, 26: -0.15})
    raw = vendor(returns, actions)
    assert unapplied_splits(raw).is_empty()
    assert judged(raw)["total_return"].to_list()[1:] == pytest.approx(returns)


moves = st.lists(
    st.one_of(st.floats(-0.03, 0.03), st.floats(-0.03, 0.03), st.floats(-0.03, 0.03), st.floats(-0.45, 0.9)),
    min_size=40,
    max_size=40,
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(returns=moves, places=st.lists(st.integers(1, 40), max_size=4), data=st.data())
def test_of_correct_data_no_return_is_changed(returns: list[float], places: list[int], data: st.DataObject):
    ratios = {place: data.draw(st.sampled_from(RATIOS)) for place in places}
    # what jumps as the split on its ex-date, or there and back, is taken for it: told, and never trusted
    for place in range(1, 41):
        if any(abs(place - event) <= 10 for event in ratios):
            near = [ratio for event, ratio in ratios.items() if abs(place - event) <= 10]
            if any(abs(abs(_log(returns[place - 1])) - abs(_log(ratio - 1))) < 0.19 for ratio in near):
                returns[place - 1] = 0.01
    raw = vendor(returns, {place: Action(split=ratio) for place, ratio in ratios.items()})
    assert judged(raw)["total_return"].to_list()[1:] == pytest.approx(returns)


def _log(move: float) -> float:
    from math import log1p

    return log1p(move)


actions = st.builds(
    Action,
    paid=st.sampled_from([0.0, 0.0, 0.004, 0.02, 0.06, 0.12, 0.3]),
    split=st.sampled_from([1.0, 1.0, *RATIOS]),
    listed=st.booleans(),
    applied=st.booleans(),
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    returns=moves,
    events=st.dictionaries(st.integers(1, 40), actions, max_size=6),
    into_return=st.booleans(),
)
def test_with_right_adjusted_closes_a_return_is_right_or_the_bar_is_suspect(
    returns: list[float], events: dict[int, Action], into_return: bool
):
    raw = vendor(returns, events, into_return=into_return)
    assert wrong_and_trusted(raw, returns).rows() == []


@pytest.mark.parametrize("into_return", [False, True])
@pytest.mark.parametrize(
    "action",
    [
        Action(paid=0.08, listed=False),
        Action(paid=0.005, listed=False),
        Action(paid=0.12),
        Action(paid=0.30),
        *(Action(split=ratio, applied=False) for ratio in RATIOS),
        *(Action(split=ratio, applied=False, listed=False) for ratio in RATIOS),
    ],
)
@pytest.mark.parametrize("move", [0.02, -0.011])
def test_right_adjusted_closes_decide_the_return(action: Action, into_return: bool, move: float):
    returns = with_moves({20: move})
    bars = judged(vendor(returns, {20: action}, into_return=into_return))
    assert bars["total_return"].to_list()[1:] == pytest.approx(returns, abs=2.5e-3)


def test_a_payment_every_week_is_a_rhythm():
    actions = {day: Action(paid=0.006) for day in range(4, 40, 5)}
    bars = judged(vendor(QUIET, actions))
    assert [i for i, reason in enumerate(bars["suspect"]) if reason] == [9]
    assert bars["total_return"].to_list()[1:] == pytest.approx(QUIET)


def test_a_capital_gain_that_is_counted_twice_is_an_open_question():
    raw = vendor(QUIET, {20: Action(paid=0.06)})
    # from the day before on the adjusted closes have paid another 5 %
    wrong = raw.with_columns(
        adj_close=pl.when(pl.col("session") < DAYS[20]).then(pl.col("adj_close") * 0.95).otherwise("adj_close")
    ).with_columns(previous_adj_close=pl.col("adj_close").shift())
    bars = judged(wrong)
    assert bars["total_return"].to_list()[1:] == pytest.approx(QUIET)
    assert [i for i, reason in enumerate(bars["suspect"]) if reason] == [20]


def test_adjusted_closes_of_two_decimals_contradict_nothing():
    returns = [0.01 * ((i * 7) % 5 - 2) for i in range(40)]
    raw = vendor(returns, {20: Action(paid=0.01)})
    cents = raw.with_columns((pl.col("adj_close") / 80).round(2)).with_columns(
        previous_adj_close=pl.col("adj_close").shift()
    )
    assert judged(cents)["suspect"].null_count() == 41


# ---------------------------------------------------------------- files that people have


def of_folder(folder: Path) -> pl.DataFrame:
    source = SnapshotSource(folder, trading_calendar("XNYS", date(2018, 1, 2)))
    universe = source.universe()
    raw = source.fetch(universe["ticker"].to_list(), date(2018, 1, 2), date(2018, 2, 1), fetched_at=FETCHED).bars
    sessions = source.calendar.between(date(2018, 1, 2), date(2018, 2, 1))
    bars, _ = clean_bars_and_findings(raw, universe, sessions, doubts=uncertain_splits(raw))
    assert as_traded(raw)["close"].to_list() == pytest.approx(bars["close"].to_list())
    return bars


CRASH = """Date,Open,High,Low,Close,Adj Close,Volume,Dividends,Stock Splits
2018-01-02,60,60.60,59.40,60,60,100000,0,0
2018-01-03,60.6,61.21,59.99,60.6,60.6,100000,0,0
2018-01-04,60.2,60.80,59.60,60.2,60.2,100000,0,0
2018-01-05,40.9,41.31,40.49,40.9,40.9,100000,0,0
2018-01-08,41.2,41.61,40.79,41.2,41.2,100000,0,0
2018-01-09,41.0,41.41,40.59,41.0,41.0,100000,0,1.5
2018-01-10,41.4,41.81,40.99,41.4,41.4,100000,0,0
"""


def test_a_file_with_a_crash_before_a_split(tmp_path: Path):
    (tmp_path / "X.csv").write_text(CRASH)
    bars = of_folder(tmp_path)
    assert bars["total_return"][3] == pytest.approx(40.9 / 60.2 - 1)
    assert bars["close"].to_list()[:4] == pytest.approx([90.0, 90.9, 90.3, 61.35])
    assert bars["suspect"].to_list() == [None] * 3 + ["vendor_error"] + [None] * 3


def test_the_file_of_a_crash_before_a_split(bug_file):
    bars = of_folder(bug_file("crash_before_split"))
    row = bars.filter(pl.col("session") == date(2018, 1, 5)).row(0, named=True)
    assert (row["total_return"], row["close"]) == (pytest.approx(-0.3206, abs=5e-5), pytest.approx(61.35))
    assert bars["close"].to_list()[:3] == pytest.approx([90.0, 90.9, 90.3])


def test_the_file_of_a_capital_gain(bug_file):
    bars = of_folder(bug_file("capital_gains"))
    assert bars["total_return"][3] == pytest.approx((46.1 + 1 + 3) / 50 - 1)
    assert bars["dividend"][3] == pytest.approx(4.0)


def test_the_file_of_a_split_of_five_for_four_that_is_not_applied(bug_file):
    bars = of_folder(bug_file("as_traded_split_1_25"))
    assert bars["total_return"][3] == pytest.approx(80.1 * 1.25 / 100.25 - 1)
    assert bars["close"].to_list()[:3] == pytest.approx([100.0, 100.5, 100.25])
    assert bars["suspect"].null_count() == 6
