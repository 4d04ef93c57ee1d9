"""Files of minutes as bars of an interval, against loops over their rows."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval, bar_ends
from stock_assets.market.sources.forms.reading import Reading
from stock_assets.market.sources.snapshot_bars import SnapshotBars
from stock_assets_tests.market.minute_files import beginnings, rows

NEW_YORK = trading_calendar("XNYS", date(2018, 11, 12), date(2018, 11, 30))
MARCH = trading_calendar("XNYS", date(2018, 3, 8), date(2018, 3, 14))  # the clocks change on the 11th
YEAR = trading_calendar("XNYS", date(2018, 1, 2), date(2018, 12, 31))
JUNE = trading_calendar("24/7", date(2025, 6, 6), date(2025, 6, 17))
LATER = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def bars_of(tmp_path: Path) -> Callable[..., pl.DataFrame]:
    def read(frame: pl.DataFrame, calendar: TradingCalendar, interval: str, *, now: datetime = LATER) -> pl.DataFrame:
        frame.write_parquet(tmp_path / "minutes.parquet")
        return answer(tmp_path / "minutes.parquet", calendar, interval, now=now)

    return read


def answer(path: Path, calendar: TradingCalendar, interval: str, *, now: datetime = LATER) -> pl.DataFrame:
    source = SnapshotBars(path, calendar, Interval.parse(interval), reading=Reading())
    tickers = source.universe()["ticker"].to_list()
    return source.fetch_bars(tickers, calendar.sessions[0], calendar.sessions[-1], fetched_at=now).bars


@pytest.mark.parametrize("calendar", [NEW_YORK, MARCH], ids=["half a day", "daylight saving"])
@pytest.mark.parametrize("interval", ["5m", "15m", "1h"])
def test_minutes_make_longer_bars(bars_of, calendar: TradingCalendar, interval: str):
    frame = rows(beginnings(calendar, 1, before=30, after=30))  # pre- and post-market bars are left out
    made = bars_of(frame, calendar, interval)
    length, expected, by_time = Interval.parse(interval).length, [], {row[1]: row for row in frame.rows()}
    for day in calendar.sessions:
        begin = calendar.opens[day]
        for end in bar_ends(calendar, day, Interval.parse(interval)):
            within = [by_time[begin + timedelta(minutes=k)] for k in range((end - begin) // timedelta(minutes=1))]
            highs, lows = [row[3] for row in within], [row[4] for row in within]
            expected.append((end, day, within[0][2], max(highs), min(lows), within[-1][5], 100.0 * len(within)))
            begin += length
    columns = ("bar_end", "session", "open", "high", "low", "close", "volume")
    assert made.select(columns).rows() == expected


def test_rows_as_long_as_the_interval_are_the_bars(bars_of):
    frame = rows(beginnings(NEW_YORK, 1))
    made = bars_of(frame, NEW_YORK, "1m")
    assert made["bar_end"].to_list() == [at + timedelta(minutes=1) for at in frame["timestamp"]]
    assert made["close"].to_list() == frame["close"].to_list()


def test_half_minutes_make_minutes(bars_of):
    halves = [at + timedelta(seconds=30 * half) for at in beginnings(NEW_YORK, 1) for half in (0, 1)]
    made = bars_of(rows(halves), NEW_YORK, "1m")
    assert made.height == len(halves) // 2
    assert set(made["volume"]) == {200.0}


@pytest.mark.parametrize(("step", "interval"), [(5, "1m"), (60, "15m"), (2, "5m")])
def test_longer_rows_make_no_shorter_bars(bars_of, step: int, interval: str):
    with pytest.raises(SourceError, match=rf"found bars of {step} minutes.*STOCK_ASSETS_INTERVAL={interval} cannot"):
        bars_of(rows(beginnings(NEW_YORK, step)), NEW_YORK, interval)


def test_a_daily_file_is_refused(bars_of):
    days = rows([datetime(day.year, day.month, day.day) for day in NEW_YORK.sessions])
    with pytest.raises(SourceError, match="holds daily bars and STOCK_ASSETS_INTERVAL is 5m"):
        bars_of(days, NEW_YORK, "5m")


def test_hours_on_the_hour_do_not_fit_an_opening_at_half_past(bug_file):
    with pytest.raises(SourceError, match=r"reaches over \d\d:30"):
        answer(bug_file("hour_on_the_hour/A.csv"), YEAR, "1h")


def test_reported_half_a_day_is_a_gap(bug_file):
    made = answer(bug_file("gap/A.csv"), YEAR, "1h")
    counts = made.group_by("session").len().sort("session").rows()
    assert counts == [(date(2018, 1, 3), 7), (date(2018, 1, 4), 2), (date(2018, 1, 5), 7)]


def test_gaps_stay_and_the_edges_of_the_file_make_no_bar(bars_of):
    times = [datetime(2025, 6, 6, 9, 3, tzinfo=UTC) + timedelta(minutes=k) for k in range(3 * 1440)]
    kept = [at for at in times if at.hour != 12]
    made = bars_of(rows(kept), JUNE, "15m")
    assert made["bar_end"][0] == datetime(2025, 6, 6, 9, 30, tzinfo=UTC)
    assert made["bar_end"][-1] == datetime(2025, 6, 9, 9, tzinfo=UTC)
    begins = made["bar_end"] - timedelta(minutes=15)
    assert not (begins.dt.hour() == 12).any()


def test_the_same_row_twice_is_one_and_two_different_ones_are_no_bar(bars_of):
    frame = rows(beginnings(NEW_YORK, 1))
    twice = pl.concat([frame, frame[10:12], frame[20:21].with_columns(close=1000.0, high=1000.0)])
    made = bars_of(twice, NEW_YORK, "5m")
    assert made.height == bars_of(frame, NEW_YORK, "5m").height - 1
    first = NEW_YORK.opens[NEW_YORK.sessions[0]]
    assert first + timedelta(minutes=25) not in made["bar_end"].to_list()
    assert made.filter(pl.col("bar_end") == first + timedelta(minutes=15))["volume"].to_list() == [500.0]


def test_a_bar_that_ends_after_the_request_is_not_there(bars_of):
    frame = rows(beginnings(NEW_YORK, 1))
    now = NEW_YORK.opens[NEW_YORK.sessions[1]] + timedelta(minutes=62, seconds=30)
    made = bars_of(frame, NEW_YORK, "5m", now=now)
    assert made["bar_end"].max() == now - timedelta(minutes=2, seconds=30)


def test_the_ten_real_days_are_bars_of_minutes(real_data):
    path = real_data("crypto_1m_btc_eth_2025_06.parquet")
    frame = pl.read_parquet(path).sort("ticker", "ts")
    made = answer(path, JUNE, "1m")
    assert made["bar_end"].to_list() == [at + timedelta(minutes=1) for at in frame["ts"]]
    assert made["close"].to_list() == frame["close"].to_list()
    fives = answer(path, JUNE, "5m")
    by_polars = (
        frame.group_by_dynamic("ts", every="5m", group_by="ticker").agg(pl.col("volume").sum(), rows=pl.len())
    ).filter(pl.col("rows") == 5)
    assert fives["volume"].to_list() == pytest.approx(by_polars["volume"].to_list())
