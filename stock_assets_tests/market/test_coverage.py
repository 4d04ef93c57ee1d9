"""Whether bars of minutes cover a session: what was taken out is noticed, and what is whole is kept."""

import re
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.resample import session_bars
from stock_assets_tests.market.minute_files import beginnings, rows

MARKETS = {
    # half days on the 23rd of November, a change of the clock on the 4th
    "XNYS": trading_calendar("XNYS", date(2018, 10, 31), date(2018, 11, 26)),
    "XTKS": trading_calendar("XTKS", date(2018, 11, 1), date(2018, 11, 22)),
    "XHKG": trading_calendar("XHKG", date(2018, 12, 13), date(2018, 12, 31)),
    "XETR": trading_calendar("XETR", date(2018, 10, 18), date(2018, 11, 2)),
    "24/7": trading_calendar("24/7", date(2018, 11, 1), date(2018, 11, 8)),
}
STEPS = (5, 15, 30, 60)


@cache
def full(market: str, step: int) -> tuple[datetime, ...]:
    return tuple(beginnings(MARKETS[market], step))


def held_out(bars: pl.DataFrame, calendar: TradingCalendar) -> dict[tuple[str, date], str]:
    made = session_bars(bars, calendar, "file")
    kept = set(made.bars.select("ticker", "session").rows())
    reasons = {(row["ticker"], row["session"]): row["reason"] for row in made.held_out.rows(named=True)}
    assert not kept & reasons.keys()
    return reasons


def as_minutes(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.rename({"timestamp": "at"}).cast({"at": pl.Datetime("us", "UTC")})


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("step", [1, *STEPS])
def test_full_sessions_are_never_held_out(market: str, step: int):
    calendar = MARKETS[market]
    made = session_bars(as_minutes(rows(full(market, step))), calendar, "file")
    assert made.held_out.is_empty()
    assert made.bars["session"].to_list() == list(calendar.sessions)
    assert made.bars["volume"].sum() == 100.0 * len(full(market, step))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    market=st.sampled_from(sorted(MARKETS)),
    step=st.sampled_from(STEPS),
    which=st.integers(0, 1000),
    start=st.floats(0, 1),
    share=st.floats(0, 0.9),
    place=st.sampled_from(["opening", "close", "inside"]),
)
def test_a_stretch_that_is_taken_out_is_always_noticed(market, step, which, start, share, place):
    """From an edge as little as five minutes, from the inside as little as twenty."""
    calendar = MARKETS[market]
    session = calendar.sessions[which % len(calendar.sessions)]
    times = full(market, step)
    of_session = [at for at in times if calendar.opens[session] <= at < calendar.closes[session]]
    fewest = 1 if place != "inside" else max(1, -(-20 // step))
    count = min(max(fewest, int(share * len(of_session))), len(of_session) - 2)
    first = {"opening": 0, "close": len(of_session) - count}.get(place, 1 + int(start * (len(of_session) - count - 2)))
    out = set(of_session[first : first + count])
    reasons = held_out(as_minutes(rows(at for at in times if at not in out)), calendar)
    assert list(reasons) == [("A", session)]
    other = as_minutes(pl.concat([rows((at for at in times if at not in out), "A"), rows(times, "B")]))
    assert held_out(other, calendar) == reasons


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    market=st.sampled_from(sorted(MARKETS)),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.97]),
)
def test_a_share_that_trades_seldom_keeps_its_sessions(market, seed, share):
    """No bar in a minute without a trade is normal: of sessions of random minutes hardly one is held out."""
    times = np.array(full(market, 5))
    kept = times[np.random.default_rng(seed).random(len(times)) < share]
    bars = pl.concat([rows(kept, "SELDOM"), rows(times, "OFTEN")])
    reasons = held_out(as_minutes(bars), MARKETS[market])
    assert len(reasons) <= 1
    assert {ticker for ticker, _ in reasons} <= {"SELDOM"}


def test_half_a_day_of_a_share_that_trades_every_third_minute_is_noticed():
    calendar = MARKETS["XNYS"]
    times = np.array(list(beginnings(calendar, 1)))
    kept = times[np.random.default_rng(5).random(len(times)) < 0.3]
    cut = calendar.sessions[3]
    noon = calendar.opens[cut] + timedelta(hours=3)
    assert not held_out(as_minutes(rows(kept)), calendar)
    morning = [at for at in kept if not noon <= at < calendar.closes[cut]]
    assert list(held_out(as_minutes(rows(morning)), calendar)) == [("A", cut)]


def test_where_no_ticker_has_a_bar_the_file_has_none():
    """A share that trades seldom may have no bar after noon; where those that trade often end there too, none is."""
    calendar = MARKETS["XNYS"]
    last = calendar.sessions[-1]
    noon = calendar.opens[last] + timedelta(hours=3)
    times = np.array(list(beginnings(calendar, 5)))
    seldom = times[np.random.default_rng(3).random(len(times)) < 0.05]
    assert any(calendar.opens[last] <= at < noon for at in seldom)
    assert not held_out(as_minutes(pl.concat([rows(times, "A"), rows(seldom, "B")])), calendar)
    cut = as_minutes(pl.concat([rows(times, "A"), rows(seldom, "B")])).filter(pl.col("at") < noon)
    assert held_out(cut, calendar).keys() == {("A", last), ("B", last)}


def test_a_session_with_a_third_of_its_bars_is_noticed():
    calendar = MARKETS["XNYS"]
    day = calendar.sessions[4]
    times = np.array(list(beginnings(calendar, 1)))
    of_day = (times >= calendar.opens[day]) & (times < calendar.closes[day])
    kept = times[~of_day | (np.random.default_rng(0).random(len(times)) < 1 / 3)]
    reasons = held_out(as_minutes(rows(kept)), calendar)
    assert list(reasons) == [("A", day)]
    assert re.fullmatch(r"bars of 3\d % of its minutes", reasons["A", day])


def test_a_closing_auction_may_leave_the_last_minutes_empty_and_print_at_the_close():
    calendar = MARKETS["XNYS"]
    last = {calendar.closes[day]: day for day in calendar.sessions}
    times = [at for at in beginnings(calendar, 1) if at + timedelta(minutes=10) not in last]
    times = [at for at in times if not any(close - timedelta(minutes=10) <= at < close for close in last)]
    assert not held_out(as_minutes(rows(times)), calendar)
    made = session_bars(as_minutes(rows(sorted([*beginnings(calendar, 5), *last]))), calendar, "file")
    assert made.held_out.is_empty()
    assert made.bars["volume"].sum() == 100.0 * len(list(beginnings(calendar, 5)))  # a print at the close is after it
