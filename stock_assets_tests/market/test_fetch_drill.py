"""Drills of the whole client against a vendor on this machine: failures by the hundred, kills, and a year of evenings.

`DRILL_FULL=1`: 500 tickers x 10 years, more kills, and yfinance in all of them. Without it the drills are smaller, and
what is killed and what comes evening by evening reads the charts itself, for the sake of seconds.
"""

import os
import random
import signal
import subprocess
import sys
import time as real_time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.market.adjustments import clean_bars, latest_versions, new_versions
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.sources import yahoo
from stock_assets.market.sources.answers import BARS
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets.market.tables import RAW_SCHEMA
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import (
    BROKEN,
    COME_BACK,
    HTML,
    INVALID_CRUMB,
    MALFORMED,
    NO_RESULT,
    RATE_LIMITED,
    TRUNCATED,
    UNAVAILABLE,
    Vendor,
    plain_history,
    serving,
)
from stock_assets_tests.waiting import HANG_SECONDS

# yfinance 1.7 sorts with inplace=True, which pandas 3.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")

FULL = os.environ.get("DRILL_FULL") == "1"
FAILURES = (RATE_LIMITED, COME_BACK, INVALID_CRUMB, BROKEN, UNAVAILABLE, MALFORMED, TRUNCATED, HTML, NO_RESULT)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_five_hundred_tickers_with_a_tenth_of_the_requests_failing_are_complete() -> None:
    calendar = trading_calendar("XNYS", date(2016, 1, 4), date(2025, 12, 31))
    sessions = calendar.sessions if FULL else calendar.sessions[-60:]
    tickers = [f"T{i:03d}" for i in range(500 if FULL else 100)]
    draw = random.Random(5)
    bad = {(ticker, count): draw.choice(FAILURES) for ticker in tickers for count in range(9) if draw.random() < 0.1}
    same = plain_history(sessions)
    vendor = Vendor(dict.fromkeys(tickers, same), fails=lambda ticker, count: bad.get((ticker, count)))
    time, seen = FakeTime(), []
    budget = Budget(Politeness(per_second=1000), clock=time.clock, sleep=time.sleep)
    with serving(vendor):
        source = YahooSource(
            calendar, None, vendor.url, on_progress=lambda *numbers: seen.append(numbers), budget=budget
        )
        evening = datetime.combine(sessions[-1], datetime.min.time(), UTC) + timedelta(hours=22)
        answer = source.fetch(tickers, sessions[0], sessions[-1], fetched_at=evening)

    assert answer.failures == {}
    assert answer.bars.height == len(tickers) * len(sessions)
    assert answer.bars.select("ticker", "session").is_duplicated().sum() == 0
    assert seen == [(i, len(tickers)) for i in range(1, len(tickers) + 1)]
    failed = sum(1 for ticker, count in bad if count < vendor.asked[ticker])
    assert failed >= len(tickers) / 15
    # each failure cost the request that failed; a 401 is renewed within its try
    assert vendor.asked.total() == len(tickers) + failed


WORKER = """
import json, sys, urllib.request, warnings
warnings.simplefilter("ignore")
from datetime import UTC, date, datetime
from pathlib import Path
import polars as pl
from stock_assets.market.sources import yahoo
from stock_assets.market.sources.answers import BARS
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.yahoo import YahooSource
url, staged, out, count, day, cache, full = sys.argv[1:]
calendar = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31), cache_dir=Path(cache))

def plain(_session, ticker, *, first, last):
    with urllib.request.urlopen(f"{url}/v8/finance/chart/{ticker}?period1=0&period2=9999999999") as reply:
        (result,) = json.load(reply)["chart"]["result"]
    quote = pl.DataFrame(result["indicators"]["quote"][0]).with_columns(pl.all().cast(pl.Float64))
    return quote.with_columns(
        session=pl.from_epoch(pl.Series(result["timestamp"])).dt.date(), adj_close="close", dividend=0.0,
        split_ratio=1.0, ticker=pl.lit(ticker), place=pl.lit("Yahoo"),
    ).match_to_schema(BARS)

if full != "True":
    yahoo._ask = plain
budget = Budget(Politeness(per_second=1000, threads=4))
source = YahooSource(calendar, None, url, staged=Path(staged), budget=budget)
tickers = [f"T{i:03d}" for i in range(int(count))]
evening = datetime.fromisoformat(day)
answer = source.fetch(tickers, calendar.sessions[0], calendar.sessions[-1], fetched_at=evening)
assert not answer.failures, answer.failures
answer.bars.write_parquet(out)
answer.settle()
"""


def start_worker(vendor: Vendor, folder: Path, count: int, evening: datetime) -> "subprocess.Popen[bytes]":
    arguments = [vendor.url, folder / "staged", folder / "bars.parquet", count, evening.isoformat(), folder, FULL]
    return subprocess.Popen([sys.executable, "-c", WORKER, *map(str, arguments)])


def until(condition: Callable[[], bool], worker: "subprocess.Popen[bytes]") -> None:
    end = real_time.monotonic() + HANG_SECONDS
    while not condition() and worker.poll() is None:
        assert real_time.monotonic() < end
        real_time.sleep(0.005)


def test_a_killed_fetch_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed whenever so many more requests have come in, at a random moment thereafter."""
    calendar = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31), cache_dir=tmp_path)
    count, threads, draw = 60, 4, random.Random(9)
    vendor = Vendor({f"T{i:03d}": plain_history(calendar.sessions) for i in range(count)}, latency=0.02)
    evening = datetime(2020, 12, 31, 22, tzinfo=UTC)
    kills = 0
    with serving(vendor):
        for _ in range(6 if FULL else 2):
            worker = start_worker(vendor, tmp_path, count, evening)
            goal = vendor.asked.total() + draw.randint(8, 16)
            until(lambda goal=goal: vendor.asked.total() >= goal, worker)
            real_time.sleep(draw.random() * 0.05)
            assert worker.poll() is None
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            kills += 1
        before, kept = vendor.asked.total(), len(list((tmp_path / "staged").rglob("T*.parquet")))
        assert start_worker(vendor, tmp_path, count, evening).wait() == 0
        assert vendor.asked.total() - before == count - kept
    # what was under way when it was killed is asked for again, and nothing else
    assert kept >= (8 - threads) * kills
    assert vendor.asked.total() <= count + threads * kills
    bars = pl.read_parquet(tmp_path / "bars.parquet")
    assert bars.height == count * len(calendar.sessions)
    assert bars.select("ticker", "session").is_duplicated().sum() == 0
    assert not list((tmp_path / "staged").rglob("*.parquet"))  # settled


CALENDAR = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31))
DAYS = CALENDAR.sessions
SPLITS = {"AAA": {DAYS[60]: 4.0, DAYS[180]: 2.0}, "BBB": {DAYS[100]: 0.1}}
DIVIDENDS = {"AAA": {DAYS[30]: 0.8, DAYS[120]: 0.25}, "CCC": {DAYS[90]: 0.5, DAYS[200]: 0.5}}
#: ticker, session, the column that is wrong at first, by how much, and how many sessions later the vendor mends it.
WRONG = [
    ("AAA", DAYS[57], "volume", 1.5, 1),
    ("AAA", DAYS[59], "close", 1.003, 2),  # mended after the split
    ("BBB", DAYS[99], "volume", 0.5, 4),
    ("CCC", DAYS[150], "high", 1.01, 5),
    ("CCC", DAYS[151], "close", 1.001, 3),
]


def as_traded(ticker: str, seed: int) -> pl.DataFrame:
    """What was traded on every session of the year."""
    draw = random.Random(seed)
    price, rows = 40.0, []
    for day in DAYS:
        price *= (1 + draw.gauss(0, 0.01)) / SPLITS.get(ticker, {}).get(day, 1.0)
        dividend, split = DIVIDENDS.get(ticker, {}).get(day, 0.0), SPLITS.get(ticker, {}).get(day, 1.0)
        rows.append((day, price, price * 1.01, price * 0.98, price, 1e6, dividend, split))
    names = ["session", "open", "high", "low", "close", "volume", "dividend", "split_ratio"]
    return pl.DataFrame(rows, names, orient="row")


def as_stated(traded: pl.DataFrame, ticker: str, evening: date) -> pl.DataFrame:
    """What the vendor says of it on an evening: adjusted for the splits until then, with what it has not mended yet."""
    known = traded.filter(pl.col("session") <= evening)
    for who, day, column, factor, sessions in WRONG:
        if who == ticker and CALENDAR.position(evening) < CALENDAR.position(day) + sessions:
            here = pl.col("session") == day
            known = known.with_columns(pl.when(here).then(pl.col(column) * factor).otherwise(column).alias(column))
    later = pl.col("split_ratio").shift(-1, fill_value=1.0).cum_prod(reverse=True)
    return known.with_columns(
        *[(pl.col(name) / later).alias(name) for name in ("open", "high", "low", "close", "dividend")],
        (pl.col("volume") * later).alias("volume"),
    ).with_columns(adj_close="close")


def evening_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 23, tzinfo=UTC)


def test_a_year_evening_by_evening_is_the_year_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits and restatements on the way: the same clean bars, from the raw versions of 253 evenings or of one."""
    traded = {ticker: as_traded(ticker, seed) for seed, ticker in enumerate(("AAA", "BBB", "CCC"))}
    vendor = Vendor({})
    raw, again = RAW_SCHEMA.to_frame(), 5

    def stated(_session: object, ticker: str, first: date, last: date) -> pl.DataFrame:
        vendor.asked[ticker] += 1
        rows = vendor.answers[ticker]
        assert isinstance(rows, pl.DataFrame)
        rows = rows.filter(pl.col("session").is_between(first, last))
        return rows.with_columns(place=pl.lit("Yahoo"), ticker=pl.lit(ticker)).match_to_schema(BARS)

    if not FULL:
        monkeypatch.setattr(yahoo, "_ask", stated)
    with serving(vendor):
        source = YahooSource(CALENDAR, tuple(traded), vendor.url, budget=fast())
        for i, evening in enumerate(DAYS):
            vendor.answers = {ticker: as_stated(rows, ticker, evening) for ticker, rows in traded.items()}
            since = DAYS[max(0, i - again)]
            answer = source.fetch(list(traded), since, evening, fetched_at=evening_of(evening))
            assert answer.failures == {}
            stored = latest_versions(raw.filter(pl.col("session") >= since))
            raw = pl.concat([raw, new_versions(stored, answer.bars)])
        whole = source.fetch(list(traded), DAYS[0], DAYS[-1], fetched_at=evening_of(DAYS[-1])).bars
        universe = source.universe()
    assert vendor.asked.total() == 3 * (len(DAYS) + 1)
    assert raw.height == whole.height + len(WRONG)  # a new version for what was mended, none for splits
    when = ["fetched_at", "provisional"]
    one_by_one, in_one_go = (clean_bars(rows, universe, DAYS).drop(when) for rows in (raw, whole))
    assert_frame_equal(one_by_one, in_one_go, rel_tol=1e-9)
    expected = pl.concat([rows.with_columns(ticker=pl.lit(ticker)) for ticker, rows in traded.items()])
    figures = ["ticker", "session", "open", "high", "low", "close", "volume", "dividend", "split_ratio"]
    assert_frame_equal(in_one_go.select(figures), expected.sort("session", "ticker").select(figures), rel_tol=1e-9)


def fast() -> Budget:
    time = FakeTime()
    return Budget(Politeness(per_second=1000), clock=time.clock, sleep=time.sleep)


@pytest.mark.real_data
def test_ten_years_of_real_tickers_come_back_as_they_were_stored(real_data: Callable[[str], Path]) -> None:
    """Prices, dividends and splits of real tickers, through the protocol and yfinance."""
    stored = pl.read_parquet(real_data("yahoo_102_tickers_with_actions_2016_2026.parquet"))
    stored = stored.rename({"date": "session", "dividends": "dividend", "splits": "split_ratio"}).with_columns(
        pl.col("split_ratio").replace(0.0, 1.0)
    )
    chosen = ["AAPL", "AMCR", "AMZN", "GE", "NVDA"]
    histories = {ticker: stored.filter(pl.col("ticker") == ticker).sort("session") for ticker in chosen}
    first, last = stored["session"].min(), stored["session"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    calendar: TradingCalendar = trading_calendar("XNYS", first)
    with serving(Vendor({ticker: rows for ticker, rows in histories.items() if rows.height})) as vendor:
        answer = YahooSource(calendar, None, vendor.url, budget=fast()).fetch(
            list(histories), first, last, fetched_at=evening_of(last)
        )
    assert not {ticker for ticker, rows in histories.items() if rows.height} & set(answer.failures)
    expected = pl.concat(list(histories.values())).sort("ticker", "session")
    columns = ["ticker", "session", "open", "high", "low", "close", "adj_close", "volume", "dividend", "split_ratio"]
    assert_frame_equal(answer.bars.select(columns), expected.select(columns), rel_tol=1e-9)
