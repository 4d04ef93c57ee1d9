"""Klines in any order, twice, late and with gaps make the bars that a loop over them makes."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import SourceError
from stock_assets.market.bar_tables import SOURCE_BAR_SCHEMA
from stock_assets.market.bars_of_minutes import KLINES, bars_of_klines
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval

NEW_YORK = trading_calendar("XNYS", date(2024, 3, 6), date(2024, 3, 14))  # the clocks change on the 10th
ALWAYS = trading_calendar("24/7", date(2024, 3, 6), date(2024, 3, 14))
FIRST = datetime(2024, 3, 5, 12, tzinfo=UTC)
FIVE = Interval.parse("5m")

#: (ticker, number of the interval since FIRST, close, volume)
rows = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]), st.integers(0, 12 * 24 * 10), st.floats(1, 9), st.sampled_from([0.0, 1.0, 2.5])
    ),
    max_size=60,
)


def frame(drawn: list[tuple[str, int, float, float]], length: timedelta = FIVE.length) -> pl.DataFrame:
    made = [(ticker, FIRST + k * length, close, close, close, close, volume) for ticker, k, close, volume in drawn]
    return pl.DataFrame(made, KLINES, orient="row")


def by_hand(
    drawn: list[tuple[str, int, float, float]], calendar: TradingCalendar, through: datetime
) -> dict[tuple[str, datetime], tuple[date, float]]:
    """session and close by ticker and bar_end."""
    bars: dict[tuple[str, datetime], tuple[date, float, float]] = {}
    for ticker, k, close, volume in drawn:
        at = FIRST + k * FIVE.length
        for day in calendar.sessions:
            if calendar.opens[day] <= at < calendar.closes[day] and at + FIVE.length <= through:
                bars[ticker, min(at + FIVE.length, calendar.closes[day])] = (day, close, volume)
    silent = {name for name, *_ in drawn} - {name for (name, _), bar in bars.items() if bar[2] > 0}
    return {key: bar[:2] for key, bar in bars.items() if bar[2] > 0 or key[0] in silent}


@settings(deadline=None)
@given(rows, st.integers(0, 12 * 24 * 10 * 5), st.sampled_from([NEW_YORK, ALWAYS]))
def test_klines_make_the_bars_that_a_loop_makes(drawn, minutes: int, calendar: TradingCalendar):
    through = FIRST + timedelta(minutes=minutes)
    bars = bars_of_klines(frame(drawn), calendar, FIVE, source="x", through=through)
    assert bars.schema == SOURCE_BAR_SCHEMA
    assert bars.select("ticker", "bar_end").is_unique().all()
    assert bars.equals(bars.sort("ticker", "bar_end"))
    found = {(ticker, end): bar for ticker, end, *bar in bars.select("ticker", "bar_end", "session", "close").rows()}
    assert {key: tuple(bar) for key, bar in found.items()} == by_hand(drawn, calendar, through)


@settings(deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_klines_that_come_once_does_not_matter(drawn, random):
    once = list({(ticker, k): (ticker, k, close, volume) for ticker, k, close, volume in drawn}.values())
    shuffled = random.sample(once, len(once))
    through = FIRST + timedelta(days=11)
    made = [bars_of_klines(frame(each), ALWAYS, FIVE, source="x", through=through) for each in (once, shuffled)]
    assert made[0].equals(made[1])


@settings(deadline=None)
@given(rows, st.integers(0, 12 * 24 * 10 * 5), st.integers(0, 12 * 24 * 10 * 5))
def test_a_later_answer_has_the_bars_of_an_earlier_one(drawn, one: int, other: int):
    """What is finished stays finished: a day bar by bar is the day in one go."""
    traded = [(ticker, k, close, 1.0) for ticker, k, close, _ in drawn]
    early, late = (FIRST + timedelta(minutes=minutes) for minutes in sorted((one, other)))
    bars = {at: bars_of_klines(frame(traded), ALWAYS, FIVE, source="x", through=at) for at in (early, late)}
    assert bars[early].equals(bars[late].filter(pl.col("bar_end") <= early))


def test_a_kline_within_a_bar_is_refused():
    half = frame([("A", 2 * 12 * 15 + 1, 1.0, 1.0)], timedelta(minutes=5, seconds=30))
    with pytest.raises(
        SourceError, match=r"x, ticker A: found a bar of 5m that begins at .*STOCK_ASSETS_SESSION_HOURS"
    ):
        bars_of_klines(half, ALWAYS, FIVE, source="x", through=FIRST + timedelta(days=11))


def test_a_kline_without_prices_is_no_bar():
    empty = frame([("A", 288, 1.0, 1.0), ("A", 289, 2.0, 1.0)]).with_columns(
        pl.when(pl.int_range(pl.len()) == 1).then(pl.col("open", "high", "low", "close"))
    )
    bars = bars_of_klines(empty, ALWAYS, FIVE, source="x", through=FIRST + timedelta(days=11))
    assert bars["close"].to_list() == [2.0]
