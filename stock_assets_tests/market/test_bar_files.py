"""Files of minutes at an interval: every kind that people reported, and their siblings in any writing of them."""

import gzip
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval
from stock_assets.market.sources.forms.reading import Reading
from stock_assets.market.sources.snapshot_bars import SnapshotBars
from stock_assets_tests.market.minute_files import beginnings, rows

YEAR = trading_calendar("XNYS", date(2018, 1, 2), date(2018, 12, 31))
#: the clocks change on the 11th
MARCH = trading_calendar("XNYS", date(2018, 3, 8), date(2018, 3, 13))
ALWAYS = trading_calendar("24/7", date(2018, 3, 8), date(2018, 3, 10))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DAILY = "holds daily bars and STOCK_ASSETS_INTERVAL is {interval}"
COARSE = r"A\.csv, ticker A: found bars of {minutes} minutes, of which those of STOCK_ASSETS_INTERVAL={interval} cannot"
#: by folder and interval the bars of each session, or the error
REPORTED: dict[tuple[str, str], dict[int, int] | str] = {
    ("gap/A.csv", "1h"): {3: 7, 4: 2, 5: 7},  # half a day is missing
    ("gap/A.csv", "15m"): COARSE.format(minutes=30, interval="15m"),
    ("offset_times/A.csv", "1h"): {3: 7},
    ("offset_times/A.csv", "1m"): COARSE.format(minutes=30, interval="1m"),
    ("hour_on_the_hour/A.csv", "1h"): r"ticker A, session 2018-01-03: found a bar from 15:00:00 to 16:00:00 UTC.*15:30",
    ("hour_on_the_hour/A.csv", "15m"): COARSE.format(minutes=60, interval="15m"),
    ("us_times/A.csv", "1h"): r"row 1, a time: found '02/01/2018 14:30', whose order of day and month is not certain",
    ("us_times/A.csv", "5m"): r"row 1, a time: found '02/01/2018 14:30'",
    **{
        (name, "5m"): DAILY.format(interval="5m")
        for name in (
            "alpha_vantage/AAPL.csv",
            "name_column/AAPL_data.csv",
            "long_name_column/all_stocks_5yr.csv",
            "yfinance_three_headers/AAPL.csv",
            "one_missing_cell/T0.csv",
            "day_without_any_bar",
        )
    },
}


def bars_of(path: Path, calendar: TradingCalendar, interval: str, reading: Reading | None = None) -> pl.DataFrame:
    source = SnapshotBars(path, calendar, Interval.parse(interval), reading=reading or Reading())
    tickers = source.universe()["ticker"].to_list()
    first, last = calendar.sessions[0], calendar.sessions[-1]
    return source.fetch_bars(tickers, first, last, fetched_at=datetime(2030, 1, 1, tzinfo=UTC)).bars


@pytest.mark.parametrize(("name", "interval"), REPORTED)
def test_reported_files_make_their_bars_or_one_error_that_names_the_place(bug_file, name: str, interval: str):
    path, expected = bug_file(name), REPORTED[name, interval]
    if isinstance(expected, str):
        with pytest.raises(SourceError, match=expected):
            bars_of(path, YEAR, interval)
        return
    made = bars_of(path, YEAR, interval).group_by("session").len().sort("session")
    assert {day.day: count for day, count in made.rows()} == expected


def since_1970(unit: timedelta) -> Callable[[datetime], object]:
    return lambda at: (at - EPOCH) // unit


WRITINGS: dict[str, Callable[[datetime], object]] = {
    "seconds": since_1970(timedelta(seconds=1)),
    "milliseconds": since_1970(timedelta(milliseconds=1)),
    "microseconds": since_1970(timedelta(microseconds=1)),
    "with Z": lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "with UTC": lambda at: at.strftime("%Y-%m-%d %H:%M:%S+00:00"),
    "with New York's offset": lambda at: (
        (at - timedelta(hours=4 if at.date() >= date(2018, 3, 11) else 5)).strftime("%Y-%m-%d %H:%M:%S")
        + ("-04:00" if at.date() >= date(2018, 3, 11) else "-05:00")
    ),
    "plain": lambda at: at.strftime("%Y-%m-%d %H:%M"),
}
COLUMNS = ["timestamp", "open", "high", "low", "close", "volume"]


def write(folder: Path, text: str, packed: str) -> Path:
    path = folder / "A.csv"
    for old in folder.iterdir():
        old.unlink()
    if packed == "gz":
        path = folder / "A.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
    elif packed == "zip":
        path = folder / "A.csv.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("A.csv", text)
    else:
        path.write_text(text)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def aggregated(frame: pl.DataFrame, calendar: TradingCalendar, minutes: int) -> list[tuple[object, ...]]:
    """bar_end, open, high, low, close and volume of the bars of `frame`, by a loop."""
    made: dict[datetime, list[float]] = {}
    for at, first, high, low, last, volume in frame.sort("timestamp").select(COLUMNS).iter_rows():
        (day,) = [d for d in calendar.sessions if calendar.opens[d] <= at < calendar.closes[d]]
        begun = calendar.opens[day] + (at - calendar.opens[day]) // timedelta(minutes=minutes) * timedelta(
            minutes=minutes
        )
        bar = made.setdefault(begun + timedelta(minutes=minutes), [first, high, low, last, 0.0])
        bar[1:] = [max(bar[1], high), min(bar[2], low), last, bar[4] + volume]
    return [(end, *bar) for end, bar in sorted(made.items())]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_writing_of_the_same_minutes_makes_the_same_bars(folder: Path, data: st.DataObject):
    """Order of columns and rows, ways to write the time, rows that come twice, packed files, gaps."""
    frame = rows(beginnings(MARCH, 5))
    hole = data.draw(st.integers(1, frame.height - 20), label="hole")
    frame = pl.concat([frame[:hole], frame[hole + 7 :]])
    writing = data.draw(st.sampled_from(sorted(WRITINGS)), label="writing")
    order = data.draw(st.permutations(COLUMNS), label="columns")
    twice = data.draw(st.lists(st.integers(0, frame.height - 1), max_size=5), label="twice")
    arranged = data.draw(st.sampled_from(["as they are", "newest first", "shuffled"]), label="rows")
    packed = data.draw(st.sampled_from(["csv", "gz", "zip"]), label="packed")
    written = pl.concat([frame, frame[twice]])
    if arranged == "newest first":
        written = written.reverse()
    elif arranged == "shuffled":
        written = written.sample(fraction=1.0, shuffle=True, seed=hole)
    text = written.with_columns(
        timestamp=pl.Series([str(WRITINGS[writing](at)) for at in written["timestamp"]])
    ).select(order)
    path = write(folder, text.write_csv(), packed)
    reading = Reading(time_zone="UTC") if writing == "plain" else None
    made = bars_of(path, MARCH, "15m", reading)
    assert made.select("bar_end", "open", "high", "low", "close", "volume").rows() == aggregated(frame, MARCH, 15)
    assert made["ticker"].unique().to_list() == ["A"]


@pytest.mark.parametrize("unit", [timedelta(milliseconds=1), timedelta(microseconds=1)], ids=["ms", "us"])
def test_klines_without_a_header_late_and_twice_make_the_bars_of_each_once(folder: Path, unit: timedelta):
    frame = rows(beginnings(ALWAYS, 1))
    lines = []
    for at, first, high, low, last, volume in frame.select(COLUMNS).iter_rows():
        begun, ended = (at - EPOCH) // unit, (at + timedelta(minutes=1) - EPOCH) // unit - 1
        lines.append(f"{begun},{first},{high},{low},{last},{volume},{ended},{volume * last},7,1.0,100.0,0")
    late = [*lines[:100], *lines[160:], *lines[100:160], *lines[:30]]
    made = bars_of(write(folder, "\n".join(late) + "\n", "csv").rename(folder / "BTCUSDT-1m-2018-03.csv"), ALWAYS, "5m")
    assert made.select("bar_end", "open", "high", "low", "close", "volume").rows() == aggregated(frame, ALWAYS, 5)


@pytest.mark.parametrize("step", [1, 5, 15])
def test_bars_that_are_stamped_at_their_end_are_refused(folder: Path, step: int):
    ends = rows([at + timedelta(minutes=step) for at in beginnings(MARCH, step)])
    text = ends.with_columns(pl.col("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).drop("ticker").write_csv()
    with pytest.raises(SourceError, match=rf"as of bars of {step} minute.s. whose time is that of their end"):
        bars_of(write(folder, text, "csv"), MARCH, "15m")


def test_times_of_another_zone_are_refused_and_the_setting_decides(folder: Path):
    """New York's times without a zone: right by the setting, else one error that names it."""
    frame = rows(beginnings(MARCH, 5))
    local = frame.with_columns(
        timestamp=pl.Series([WRITINGS["with New York's offset"](at)[:16] for at in frame["timestamp"]])  # pyright: ignore
    )
    path = write(folder, local.drop("ticker").write_csv(), "csv")
    with pytest.raises(SourceError, match="STOCK_ASSETS_TIME_ZONE=America/New_York"):
        bars_of(path, MARCH, "15m")
    made = bars_of(path, MARCH, "15m", Reading(time_zone="America/New_York"))
    assert made.select("bar_end", "open", "high", "low", "close", "volume").rows() == aggregated(frame, MARCH, 15)
