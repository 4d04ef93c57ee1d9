"""The source yahoo below a day, with the real yfinance, against a small Yahoo on this machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval
from stock_assets.market.materialize.bars import fetch_raw_bars
from stock_assets.market.sources import BarAnswer, yahoo_bars
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.registry import make_source
from stock_assets.market.sources.yahoo_bars import Reach, YahooBars
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import (
    BROKEN,
    COME_BACK,
    DRIP,
    HANGS,
    HTML,
    INVALID_CRUMB,
    MALFORMED,
    NO_RANGE,
    NO_RESULT,
    RATE_LIMITED,
    TRUNCATED,
    UNAVAILABLE,
    UNKNOWN,
    Reply,
    Vendor,
    patient_but_with,
    serving,
)
from stock_assets_tests.market.vendor_bars import Bars
from stock_assets_tests.tables import rows_of

# yfinance 1.7 sorts with inplace=True, which pandas 3.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")

#: half a day on 29 November and on 24 December, the clocks change on 3 November
CALENDAR = trading_calendar("XNYS", date(2024, 10, 1), date(2024, 12, 31))
FIRST, LAST = date(2024, 11, 25), date(2024, 12, 13)
EVENING = datetime(2024, 12, 13, 22, tzinfo=UTC)
TODAY = date(2024, 12, 13)
NOON = datetime(2024, 12, 13, 17, 0, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def minutes_of(
    first: date = FIRST, last: date = LAST, interval: str = "1m", calendar: TradingCalendar = CALENDAR
) -> pl.DataFrame:
    """A row of each bar of the sessions, when it begins, with figures that say which one it is."""
    length = Interval.parse(interval).length
    begins = []
    for day in calendar.between(first, last):
        at = calendar.opens[day]
        while at < calendar.closes[day]:
            begins.append(at)
            at += length
    close = pl.Series([100.0 + i / 100 for i in range(len(begins))])
    at = pl.Series("at", begins, pl.Datetime("us", "UTC"))
    return pl.DataFrame({"at": at}).with_columns(
        open=close - 0.25, high=close + 0.5, low=close - 0.5, close=close, volume=pl.lit(100.0)
    )


def by_hand(
    ticker: str, rows: pl.DataFrame, interval: str = "1m", calendar: TradingCalendar = CALENDAR
) -> list[tuple[object, ...]]:
    """What `SOURCE_BAR_SCHEMA` holds of them."""
    length, made = Interval.parse(interval).length, []
    for at, *figures in rows.iter_rows():
        (day,) = [d for d in calendar.sessions if calendar.opens[d] <= at < calendar.closes[d]]
        made.append((ticker, day, min(at + length, calendar.closes[day]), *figures, "yahoo"))
    return made


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Vendor]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:

        def served(**answers: object) -> Vendor:
            vendor = Vendor(answers)  # pyright: ignore[reportArgumentType]
            stack.enter_context(patient_but_with(vendor.is_slow))
            return stack.enter_context(serving(vendor))

        yield served


def source_of(
    vendor: Vendor, interval: str = "1m", calendar: TradingCalendar = CALENDAR, **options: object
) -> YahooBars:
    time = FakeTime()
    politeness = Politeness(per_second=1000, tries=3, timeout=0.5)
    budget = Budget(politeness, clock=time.clock, sleep=time.sleep, chance=lambda: 0.5)
    return YahooBars(calendar, Interval.parse(interval), vendor.url, tickers=None, budget=budget, **options)  # pyright: ignore[reportArgumentType]


def answer(
    vendor: Vendor, *tickers: str, first: date = FIRST, last: date = LAST, now: datetime = EVENING, **options: object
) -> BarAnswer:
    return source_of(vendor, **options).fetch_bars(tickers, first, last, fetched_at=now)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "1h"])
def test_bars_are_returned_as_yahoo_states_them_half_days_included(serve, interval: str):
    rows = minutes_of(interval=interval)
    known = Bars(rows, CALENDAR, EVENING)
    found = answer(serve(AAPL=known), "AAPL", interval=interval)
    assert found.bars.rows() == by_hand("AAPL", rows, interval)
    assert (found.failures, found.limits) == ({}, {})
    assert len(known.asked) == (3 if interval == "1m" else 1)


def test_the_clocks_of_an_exchange_change_within_the_range(serve):
    first, last = date(2024, 10, 31), date(2024, 11, 5)
    rows = minutes_of(first, last, "1h")
    now = datetime(2024, 11, 6, tzinfo=UTC)
    found = answer(serve(AAPL=Bars(rows, CALENDAR, now)), "AAPL", first=first, last=last, now=now, interval="1h")
    assert found.bars.rows() == by_hand("AAPL", rows, "1h")
    starts = found.bars.group_by("session", maintain_order=True).first()["bar_end"].dt.strftime("%H:%M").to_list()
    assert starts == ["14:30", "14:30", "15:30", "15:30"]


@pytest.mark.parametrize(
    ("seconds", "delay", "finished"),
    [(20, 0, 150), (0, 0, 150), (20, 15, 135), (59, 0, 150)],
    ids=["a running bar", "on the minute", "delayed by 15 minutes", "nearly over"],
)
def test_an_unfinished_bar_is_never_there(serve, seconds: int, delay: int, finished: int):
    rows = minutes_of(TODAY, TODAY)
    now = CALENDAR.opens[TODAY] + timedelta(minutes=150, seconds=seconds)
    known = Bars(rows, CALENDAR, now, delay=timedelta(minutes=delay))
    found = answer(serve(AAPL=known), "AAPL", first=TODAY, last=TODAY, now=now)
    assert found.bars.rows() == by_hand("AAPL", rows[:finished])


def test_the_bar_of_the_last_trade_is_final_once_yahoo_has_seen_a_later_one_or_half_an_hour_has_passed(serve):
    rows, traded = minutes_of(TODAY, TODAY)[:10], CALENDAR.opens[TODAY] + timedelta(minutes=9, seconds=40)
    ends = []
    for now in (traded + timedelta(minutes=20), traded + timedelta(minutes=31)):
        vendor = serve(THIN=Bars(rows, CALENDAR, now, last_trade=traded))
        ends.append(answer(vendor, "THIN", first=TODAY, last=TODAY, now=now).bars.height)
    assert ends == [9, 10]


@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_a_session_look_by_look_is_the_session_in_one_go(serve, interval: str):
    rows = minutes_of(TODAY, TODAY, interval)
    whole = by_hand("AAPL", rows, interval)
    found: dict[object, tuple[object, ...]] = {}
    for minute in range(3, 395, 13):
        now = CALENDAR.opens[TODAY] + timedelta(minutes=minute, seconds=7)
        vendor = serve(AAPL=Bars(rows, CALENDAR, now))
        for row in answer(vendor, "AAPL", first=TODAY, last=TODAY, now=now, interval=interval).bars.rows():
            assert found.setdefault(row[2], row) == row
    assert list(found.values()) == whole


@pytest.fixture(scope="module")
def three_weeks() -> Iterator[Vendor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        rows = minutes_of(interval="1m").filter(pl.int_range(pl.len()) % 10 == 0)  # most minutes are missing
        with serving(Vendor({"AAPL": Bars(rows, CALENDAR, EVENING)})) as vendor:
            yield vendor


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.sampled_from(CALENDAR.between(FIRST, LAST)[1:]), max_size=4), days=st.integers(1, 8))
def test_any_cut_of_the_window_into_requests_gives_the_same_rows(three_weeks: Vendor, cuts: set[date], days: int):
    known = three_weeks.answers["AAPL"]
    assert isinstance(known, Bars)
    starts = [FIRST, *sorted(cuts)]
    ends = [*(CALENDAR.before(day, 1)[0] for day in starts[1:]), LAST]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(yahoo_bars.REACH, "1m", Reach(timedelta(days=30), timedelta(days=days)))
        parts = [answer(three_weeks, "AAPL", first=first, last=last) for first, last in zip(starts, ends, strict=True)]
    assert [row for part in parts for row in part.bars.rows()] == by_hand("AAPL", known.rows)


@pytest.mark.parametrize(("interval", "back"), [("1m", 30), ("5m", 60), ("15m", 60)])
def test_sessions_that_are_older_than_yahoo_has_are_a_limit_and_not_asked_for(serve, interval: str, back: int):
    rows = minutes_of(date(2024, 10, 1), LAST, interval)
    known = Bars(rows, CALENDAR, EVENING)
    found = answer(serve(AAPL=known), "AAPL", first=date(2024, 10, 1), interval=interval)
    oldest = next(day for day in CALENDAR.sessions if CALENDAR.opens[day] >= EVENING - timedelta(days=back - 0.25))
    assert found.limits == {"AAPL": oldest}
    assert found.failures == {}
    assert found.bars.rows() == by_hand("AAPL", rows.filter(pl.col("at") >= CALENDAR.opens[oldest]), interval)
    alone = answer(serve(AAPL=known), "AAPL", first=date(2024, 10, 1), last=date(2024, 10, 2), interval=interval)
    assert (alone.bars.height, alone.limits) == (0, {"AAPL": oldest})


def test_a_session_that_yahoo_no_longer_has_is_stored_as_a_gap_with_that_outcome(serve, tmp_path: Path):
    day = date(2024, 10, 1)
    config = read_settings(data_dir=tmp_path, source="yahoo", interval="1m", start=day, tickers=("AAPL",))
    store, source = Warehouse(config.database), source_of(serve(AAPL=Bars(minutes_of(), CALENDAR, EVENING)))
    source.tickers = ("AAPL",)
    store.replace_table("universe", rows_of("universe", source.universe()))
    assert fetch_raw_bars(store, config, source, sessions=[day], now=EVENING).missing == {"limit": 390}
    (gap,) = store.read("bar_gaps").rows(named=True)
    assert (gap["outcome"], gap["reason"]) == ("limit", "the vendor has bars from 2024-11-14 on")
    fetched = fetch_raw_bars(store, config, source, sessions=[LAST], now=EVENING)
    assert (fetched.new_versions, fetched.missing) == (390, {})


def test_a_wrong_clock_is_one_clear_failure(serve):
    known = Bars(minutes_of(), CALENDAR, EVENING + timedelta(days=40))
    (failure,) = answer(serve(AAPL=known), "AAPL").failures.values()
    assert "The requested range must be within the last 30 days. Expected a clock of this machine" in failure.reason
    assert not failure.unknown


def test_missing_minutes_nulls_and_bars_without_volume_are_no_bars(serve):
    rows = minutes_of(TODAY, TODAY)
    opened = CALENDAR.opens[TODAY]
    holes = [opened + 7 * MINUTE, opened + 200 * MINUTE]
    kept = rows.filter(~pl.col("at").is_in(holes))
    untraded = kept.with_columns(volume=pl.when(pl.int_range(pl.len()) == 50).then(0.0).otherwise("volume"))
    found = answer(serve(AAPL=Bars(untraded, CALENDAR, EVENING, empty=holes)), "AAPL", first=TODAY)
    assert found.bars.rows() == by_hand("AAPL", pl.concat([kept[:50], kept[51:]]))
    silent = rows.with_columns(volume=pl.lit(0.0))
    vendor = serve(INDEX=Bars(silent, CALENDAR, EVENING, kind="INDEX"), SHARE=Bars(silent, CALENDAR, EVENING))
    found = answer(vendor, "INDEX", "SHARE", first=TODAY)
    assert (found.bars.rows(), found.failures) == (by_hand("INDEX", silent), {})
    halted = Bars(minutes_of(FIRST, FIRST), CALENDAR, EVENING, empty=rows["at"].to_list())
    assert answer(serve(HALTED=halted), "HALTED", first=TODAY).failures == {}


def test_splits_and_dividends_leave_the_figures_alone_and_a_split_is_logged(serve):
    rows, said = minutes_of(), []
    day = date(2024, 12, 4)
    events = [(CALENDAR.opens[day], "splits", 4.0), (CALENDAR.opens[date(2024, 12, 3)], "dividends", 0.25)]
    found = answer(serve(AAPL=Bars(rows, CALENDAR, EVENING, events=events)), "AAPL", say=said.append)
    assert found.bars.rows() == by_hand("AAPL", rows)
    (line,) = [line for line in said if "split" in line]
    assert line.startswith("AAPL split 4:1 on 2024-12-04: Yahoo's bars before it are adjusted now")
    assert found.splits == {("AAPL", day): 4.0}


PASSING = {
    "429": RATE_LIMITED,
    "come back": COME_BACK,
    "crumb": INVALID_CRUMB,
    "500": BROKEN,
    "503": UNAVAILABLE,
    "malformed": MALFORMED,
    "cut": TRUNCATED,
    "html": HTML,
    "nothing": NO_RESULT,
    "no chart": Reply(200, '{"chart":{"result":[{"meta":{}}],"error":null}}'),
    "hangs": HANGS,
    "drips": DRIP,
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING.keys())
def test_a_failure_that_passes_costs_a_try_and_one_that_stays_is_that_of_one_ticker(serve, failure: Reply):
    rows = minutes_of(interval="1h")
    good = Bars(rows, CALENDAR, EVENING)
    vendor = serve(AAPL=good, ONCE=[failure, good], BAD=failure)
    found = answer(vendor, "AAPL", "BAD", "ONCE", interval="1h")
    assert found.bars.rows() == by_hand("AAPL", rows, "1h") + by_hand("ONCE", rows, "1h")
    assert list(found.failures) == ["BAD"]
    assert not found.failures["BAD"].unknown
    assert vendor.asked["ONCE"] == 2


@pytest.mark.parametrize(
    ("reply", "reason"), [(UNKNOWN, "No data found, symbol may be delisted"), (NO_RANGE, "Data doesn't exist")]
)
def test_a_ticker_of_which_yahoo_has_nothing_is_unknown(serve, reply: Reply, reason: str):
    vendor = serve(AAPL=Bars(minutes_of(interval="1h"), CALENDAR, EVENING), GONE=reply)
    found = answer(vendor, "AAPL", "GONE", interval="1h")
    assert found.failures["GONE"].unknown
    assert reason in found.failures["GONE"].reason
    assert vendor.asked["GONE"] == 1


def test_a_ticker_that_was_listed_within_the_range_has_the_bars_since(serve):
    listed = minutes_of(date(2024, 12, 9))
    vendor = serve(NEW=[NO_RANGE, NO_RANGE, Bars(listed, CALENDAR, EVENING)])
    found = answer(vendor, "NEW")
    assert (found.bars.rows(), found.failures) == (by_hand("NEW", listed), {})


def test_a_ticker_that_no_longer_trades_has_the_bars_until_then_and_costs_no_further_request(serve):
    last = minutes_of(FIRST, date(2024, 11, 27))
    traded = CALENDAR.closes[date(2024, 11, 27)]
    vendor = serve(OLD=Bars(last, CALENDAR, EVENING, last_trade=traded))
    found = answer(vendor, "OLD")
    assert (found.bars.rows(), found.failures) == (by_hand("OLD", last), {})
    assert vendor.asked["OLD"] == 2


def test_before_the_first_trade_of_a_session_there_is_no_bar_and_no_failure(serve):
    now = CALENDAR.opens[TODAY] + timedelta(seconds=30)
    vendor = serve(
        QUIET=Bars(
            minutes_of(FIRST, date(2024, 12, 12)), CALENDAR, now, last_trade=CALENDAR.closes[date(2024, 12, 12)]
        ),
        NONE=NO_RANGE,
    )
    found = answer(vendor, "QUIET", "NONE", first=TODAY, last=TODAY, now=now)
    assert (found.bars.height, found.failures) == (0, {})


def test_rows_within_a_bar_and_tickers_of_another_exchange_fail_alone(serve):
    rows = minutes_of(TODAY, TODAY)
    shifted = rows.with_columns(at=pl.col("at") + timedelta(seconds=17))
    tokyo = trading_calendar("XTKS", date(2024, 11, 25), date(2024, 12, 31))
    vendor = serve(
        AAPL=Bars(rows, CALENDAR, EVENING),
        ODD=Bars(shifted, CALENDAR, EVENING),
        TOYOTA=[json_of(minutes_of(TODAY, TODAY, calendar=tokyo), tokyo)],
    )
    found = answer(vendor, "AAPL", "ODD", "TOYOTA", first=TODAY, last=TODAY)
    assert found.bars.rows() == by_hand("AAPL", rows)
    assert "ticker ODD: found a bar of 1m that begins at 14:30:17 UTC" in found.failures["ODD"].reason
    assert "ticker TOYOTA: found bars from 2024-12-13 00:00" in found.failures["TOYOTA"].reason
    assert "none of which begins in a session of XNYS" in found.failures["TOYOTA"].reason


def json_of(rows: pl.DataFrame, calendar: TradingCalendar) -> Reply:
    """A chart of all `rows`, whatever is asked for."""
    whole = Bars(rows, calendar, EVENING)
    return Reply(200, json.dumps({"chart": {"result": [whole._result("X", rows["at"][0], EVENING)], "error": None}}))


def test_what_was_answered_before_is_not_asked_for_again(serve, tmp_path: Path):
    """A fetch that one request ended is as one that was killed: nothing is settled."""
    rows = minutes_of()
    known = Bars(rows, CALENDAR, EVENING)
    vendor = serve(AAPL=[known, known, *[RATE_LIMITED] * 3, known], MSFT=known)
    first = answer(vendor, "AAPL", "MSFT", staged=tmp_path)
    assert list(first.failures) == ["AAPL"]
    before = len(known.asked)
    second = answer(vendor, "AAPL", "MSFT", staged=tmp_path)
    assert len(known.asked) == before + 1
    assert second.bars.rows() == by_hand("AAPL", rows) + by_hand("MSFT", rows)
    second.settle()
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_running_session_is_asked_for_again(serve, tmp_path: Path):
    rows = minutes_of(TODAY, TODAY)
    for minute in (10, 20):
        now = CALENDAR.opens[TODAY] + timedelta(minutes=minute, seconds=10)
        vendor = serve(AAPL=Bars(rows, CALENDAR, now))
        found = answer(vendor, "AAPL", first=TODAY, last=TODAY, now=now, staged=tmp_path)
        assert found.bars.height == minute


def test_an_error_of_our_own_is_raised_as_it_is(serve, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(yahoo_bars, "_klines", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        answer(serve(AAPL=Bars(minutes_of(), CALENDAR, EVENING)), "AAPL")


def test_an_answer_without_a_column_is_a_failure_of_the_vendor(serve, monkeypatch: pytest.MonkeyPatch):
    import pandas as pd

    index = pd.DatetimeIndex(["2024-12-13 14:30"], tz="UTC")
    frame = pd.DataFrame({"Open": [1.0], "Stock Splits": [0.0]}, index=index)
    monkeypatch.setattr("stock_assets.private.yfinance.bar_history", lambda *_, **__: (frame, {}))
    (failure,) = answer(serve(), "AAPL").failures.values()
    assert failure.reason == "an answer without Close, High, Low, Volume (3 tries)"


@pytest.mark.parametrize("ticker", ["../v1/test/getcrumb", "A?b=c", ""])
def test_a_ticker_is_no_address(serve, ticker: str):
    vendor = serve()
    assert "expected letters and digits" in answer(vendor, ticker).failures[ticker].reason
    assert vendor.requests == []


def test_the_settings_choose_it_below_a_day(tmp_path: Path):
    config = read_settings(data_dir=tmp_path, source="yahoo", interval="5m", tickers=("MSFT", "AAPL"))
    source = make_source(config)
    assert isinstance(source, YahooBars)
    assert source.interval.minutes == 5
    assert source.universe()["ticker"].to_list() == ["AAPL", "MSFT"]
    with pytest.raises(SourceError, match="STOCK_ASSETS_TICKERS is not set"):
        make_source(read_settings(data_dir=tmp_path, source="yahoo", interval="5m")).universe()
