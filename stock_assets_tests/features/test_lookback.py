from datetime import date

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stock_assets.errors import BadBarsError
from stock_assets.features.lookback import LOOKBACK_SESSIONS, MAX_MISSED, histories, last_rows
from stock_assets_tests.features.generators import calendar, make_bars, panels


def bars_on(days: list[date], ticker: str = "A") -> pl.DataFrame:
    returns = [None, *[0.01] * (len(days) - 1)]
    return pl.DataFrame({"ticker": ticker, "session": days, "total_return": returns})


def naive_histories(bars: pl.DataFrame, sessions: list[date], lookback: int, max_missed: int) -> list[tuple]:
    """ticker, session, bar and enough, straight from the words of the two rules."""
    position = {day: i for i, day in enumerate(sessions)}
    rows = []
    for (ticker,), own in bars.sort("session").group_by("ticker", maintain_order=True):
        history: list[int] = []
        for session, total_return in own.select("session", "total_return").iter_rows():
            now = position[session]
            if not history or now - history[-1] - 1 > max_missed or total_return is None:
                history = []
            history.append(now)
            window = [p for p in history if p > now - lookback]
            missed = sum(p not in window for p in range(window[0], now + 1))
            rows.append((ticker, session, len(history), missed <= max_missed))
    return sorted(rows)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(bars=panels(200, gaps=True))
def test_histories_follow_the_two_rules(bars, monkeypatch):
    # smaller than life, so that the naive answer comes soon
    monkeypatch.setattr("stock_assets.features.lookback.MAX_MISSED", 4)
    sessions = calendar(200)
    rows = histories(bars, sessions=sessions, lookback=60)
    assert rows.select("ticker", "session", "bar", "enough").rows() == naive_histories(bars, sessions, 60, 4)
    assert (rows["total_return"].is_null() == (rows["bar"] == 1)).all()
    assert rows.filter(pl.col("bar") == 1)["history"].is_unique().all()


@settings(derandomize=True, deadline=None, max_examples=25)
@given(bars=panels(200, gaps=True), day=st.integers(0, 199), before=st.integers(0, 60))
def test_a_day_reads_the_last_bars_of_histories_that_reach_it(bars, day, before):
    sessions = calendar(200)
    rows = histories(bars, sessions=sessions)
    expected = []
    for _, own in rows.group_by("history", maintain_order=True):
        keys = own.select("ticker", "session").rows()
        earlier = [key for key in keys if key[1] < sessions[day]]
        if len(earlier) < len(keys):
            expected += earlier[max(0, len(earlier) - before) :] + keys[len(earlier) :]
    assert last_rows(rows, sessions[day], before).select("ticker", "session").rows() == expected
    assert last_rows(rows, None, before).equals(rows)


def test_a_gap_of_fifty_sessions_is_one_history_and_fifty_one_are_two():
    days = calendar(300)
    for missed, bars_at_end in ((MAX_MISSED, 300 - MAX_MISSED), (MAX_MISSED + 1, 300 - 100 - MAX_MISSED - 1)):
        rows = histories(bars_on(days[:100] + days[100 + missed :]), sessions=days)
        assert rows["bar"][-1] == bars_at_end
        assert rows["enough"].all()


def test_scattered_misses_count_until_they_leave_the_window():
    days = calendar(1400)
    missing = {days[i] for i in range(100, 100 + 2 * (MAX_MISSED + 1), 2)}
    rows = histories(bars_on([day for day in days if day not in missing]), sessions=days)
    short = rows.filter(~pl.col("enough"))["session"]
    # from the 51st miss, until the first one is the oldest session of the window: there it is no gap any more
    assert (short.min(), short.max()) == (days[201], days[100 + LOOKBACK_SESSIONS - 2])


def test_a_null_return_begins_a_history():
    days = calendar(10)
    bars = bars_on(days).with_columns(total_return=pl.when(pl.col("session") != days[4]).then(pl.col("total_return")))
    assert histories(bars)["bar"].to_list() == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]


def test_sessions_are_those_of_any_ticker_when_none_are_given():
    days = calendar(200)
    other = bars_on(days, "B")
    bars = pl.concat([bars_on(days[:50] + days[150:]), other])
    assert histories(bars).filter(pl.col("ticker") == "A")["bar"].max() == 50
    assert histories(bars_on(days[:50] + days[150:]))["bar"].max() == 100


def test_no_bars_have_no_history():
    assert histories(make_bars(0).clear()).height == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bars: bars.drop("total_return"), "bars lack total_return"),
        (lambda bars: pl.concat([bars, bars.tail(1)]), r"T2 .*one bar per ticker and session"),
        (
            lambda bars: bars.with_columns(pl.lit(None, pl.String).alias("ticker")),
            "expected a ticker and a session",
        ),
        (lambda bars: bars.with_columns(pl.lit(-1.0).alias("total_return")), r"T0 .*total_return is -1.0"),
        (lambda bars: bars.with_columns(pl.lit(float("nan")).alias("total_return")), "total_return is nan"),
    ],
)
def test_bars_that_make_no_sense_are_refused(change, message):
    with pytest.raises(BadBarsError, match=message):
        histories(change(make_bars(0)))


def test_a_session_outside_the_calendar_is_refused():
    days = calendar(20)
    with pytest.raises(BadBarsError, match=f"A {days[7]}: session is {days[7]}; expected a session of the cal"):
        histories(bars_on(days), sessions=days[:7] + days[8:])
    with pytest.raises(BadBarsError, match="14 such rows"):
        histories(bars_on(days), sessions=days[:6])
    with pytest.raises(BadBarsError, match="20 such rows"):
        histories(bars_on(days), sessions=[])
