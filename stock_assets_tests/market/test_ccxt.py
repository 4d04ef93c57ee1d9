"""The source ccxt, with the real client of ccxt, against a Binance and a Kraken on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import SettingsError, SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval
from stock_assets.market.materialize.bars import fetch_raw_bars
from stock_assets.market.sources.budget import Budget, Politeness
from stock_assets.market.sources.ccxt import CcxtSource
from stock_assets.market.sources.ccxt_client import ExchangeClient
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.market.exchanges import (
    BANNED,
    FIREWALL,
    RESTRICTED,
    TOO_MANY,
    Binance,
    Exchange,
    Kline,
    Kraken,
    klines,
    trading,
)
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import DRIP, HANGS, HTML, MALFORMED, UNAVAILABLE, Reply, patient_but_with
from stock_assets_tests.tables import rows_of
from stock_assets_tests.waiting import HANG_SECONDS

CALENDAR = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 30))
START = datetime(2025, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIRST, SECOND = date(2025, 6, 1), date(2025, 6, 2)
KILLED_AT = 3


@pytest.fixture
def open_exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Exchange], Exchange]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:

        def opened(exchange: Exchange) -> Exchange:
            stack.enter_context(patient_but_with(exchange.is_slow))
            return stack.enter_context(trading(exchange))

        yield opened


def source_of(
    exchange: Exchange,
    *tickers: str,
    interval: str = "1m",
    calendar: TradingCalendar = CALENDAR,
    time: FakeTime | None = None,
    timeout: float = 0.5,
    **options: object,
) -> CcxtSource:
    time = time or FakeTime()
    politeness = Politeness(per_second=1000, tries=3, timeout=timeout)
    budget = Budget(politeness, clock=time.clock, sleep=time.sleep, chance=lambda: 0.5)
    client = ExchangeClient(type(exchange).__name__.lower(), budget, exchange.url)
    return CcxtSource(client, calendar, Interval.parse(interval), tickers=tickers, **options)  # pyright: ignore[reportArgumentType]


def bars_by_hand(ticker: str, rows: list[Kline], *, minutes: int = 1) -> list[tuple[object, ...]]:
    """What SOURCE_BAR_SCHEMA holds of klines of a market that never closes."""
    length = timedelta(minutes=minutes)
    return [(ticker, row[0].date(), row[0] + length, *row[1:], "ccxt") for row in rows]


def test_bars_are_the_finished_klines_of_all_pages(open_exchange):
    rows = klines(START, 2501)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + 2500 * MINUTE + timedelta(seconds=20)))
    source = source_of(exchange, "BTC/USDT")
    answer = source.fetch_bars(["BTC/USDT"], FIRST, SECOND, fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("BTC/USDT", rows[:2500])  # the one of 17:40 is unfinished
    assert (answer.failures, answer.limits) == ({}, {})
    begins = [int(query["startTime"]) for query in exchange.kline_requests()]
    assert begins == [int((START + minute * MINUTE).timestamp() * 1000) for minute in (0, 1000, 2000)]


@pytest.mark.parametrize(("interval", "minutes"), [("5m", 5), ("15m", 15), ("1h", 60)])
def test_longer_intervals_are_the_exchanges_own_klines(open_exchange, interval: str, minutes: int):
    rows = klines(START, 24 * 60 // minutes, minutes=minutes)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + timedelta(days=2)))
    answer = source_of(exchange, "BTC/USDT", interval=interval).fetch_bars(
        ["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now
    )
    assert answer.bars.rows() == bars_by_hand("BTC/USDT", rows, minutes=minutes)


def test_a_running_session_is_asked_for_since_a_bar_and_as_a_whole_where_nothing_was_traded(open_exchange):
    rows = klines(START, 600)
    quiet = [(*row[:5], 0.0) if k >= 480 else row for k, row in enumerate(rows)]
    exchange = open_exchange(Binance({"BTCUSDT": rows, "ETHUSDT": quiet}, now=START + timedelta(hours=10)))
    now, since = exchange.now, START + timedelta(hours=8)
    source = source_of(exchange, "BTC/USDT", "ETH/USDT")
    moments = {"BTC/USDT": since, "ETH/USDT": since}
    answer = source.fetch_bars(["BTC/USDT", "ETH/USDT"], FIRST, FIRST, fetched_at=now, since=moments)
    assert answer.bars["ticker"].unique().to_list() == ["BTC/USDT"]  # a minute without a trade is no bar
    assert (answer.bars["bar_end"].min(), answer.bars.height) == (since + MINUTE, 120)
    begins = {int(query["startTime"]) for query in exchange.kline_requests() if query["symbol"] == "BTCUSDT"}
    assert begins == {int(since.timestamp() * 1000)}


def test_kraken_has_the_newest_720_alone_and_the_answer_says_so(open_exchange):
    rows = klines(START, 3000)
    exchange = open_exchange(Kraken({"XXBTZUSD": rows}, now=START + 2500 * MINUTE + timedelta(seconds=20)))
    answer = source_of(exchange, "BTC/USD").fetch_bars(["BTC/USD"], FIRST, SECOND, fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("BTC/USD", rows[1781:2500])
    assert answer.limits == {"BTC/USD": SECOND}
    assert len(exchange.kline_requests()) == 1


def test_a_young_market_of_kraken_has_no_limit(open_exchange):
    rows = klines(START + 2000 * MINUTE, 400)
    exchange = open_exchange(Kraken({"XXBTZUSD": rows}, now=START + 2400 * MINUTE))
    answer = source_of(exchange, "BTC/USD").fetch_bars(["BTC/USD"], FIRST, SECOND, fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("BTC/USD", rows)
    assert answer.limits == {}


@pytest.mark.parametrize("ours_minus_theirs", [timedelta(minutes=5), timedelta(minutes=-5), timedelta(seconds=1)])
def test_the_clock_that_is_behind_decides_what_is_finished(open_exchange, ours_minus_theirs: timedelta):
    rows, said = klines(START, 200), []
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + 100 * MINUTE + timedelta(seconds=30)))
    ours = exchange.now + ours_minus_theirs
    answer = source_of(exchange, "BTC/USDT", say=said.append).fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=ours)
    assert answer.bars["bar_end"].max() == START + (95 if ours < exchange.now - MINUTE else 100) * MINUTE
    apart = abs(ours_minus_theirs) > MINUTE
    assert [("300 s" in line, "ahead of ours" in line) for line in said] == ([(True, ours < exchange.now)] * apart)


def test_a_clock_in_seconds_is_no_clock(open_exchange):
    clock = Reply(200, f'{{"serverTime":{int(START.timestamp())}}}')
    exchange = open_exchange(Binance({"BTCUSDT": klines(START, 9)}, now=START + timedelta(hours=1), clock=clock))
    with pytest.raises(SourceError, match=r"binance does not answer: its clock shows \d+, expected milliseconds"):
        source_of(exchange, "BTC/USDT").fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)


def test_a_market_that_was_listed_later_costs_no_request_for_the_time_before(open_exchange):
    rows = klines(START + timedelta(days=20), 300)
    exchange = open_exchange(Binance({"NEWUSDT": rows}, now=START + timedelta(days=21)))
    answer = source_of(exchange, "NEW/USDT").fetch_bars(["NEW/USDT"], FIRST, date(2025, 6, 21), fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("NEW/USDT", rows)
    assert len(exchange.kline_requests()) <= 3


def test_a_market_that_ended_costs_no_request_for_the_time_after(open_exchange):
    rows = klines(START, 300)
    exchange = open_exchange(Binance({"OLDUSDT": rows}, now=START + timedelta(days=29)))
    answer = source_of(exchange, "OLD/USDT").fetch_bars(["OLD/USDT"], FIRST, date(2025, 6, 29), fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("OLD/USDT", rows)
    assert len(exchange.kline_requests()) <= 3


def test_an_outage_and_klines_without_a_trade_are_missing_and_not_filled(open_exchange):
    rows = klines(START, 120)
    silent = [*rows[:30], *rows[50:60], *((row[0], *[row[1]] * 4, 0.0) for row in rows[60:70]), *rows[70:]]
    exchange = open_exchange(Binance({"BTCUSDT": silent}, now=START + 2 * timedelta(hours=1)))
    answer = source_of(exchange, "BTC/USDT").fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("BTC/USDT", [*rows[:30], *rows[50:60], *rows[70:]])


@pytest.mark.parametrize(
    "arranged",
    [
        lambda rows: rows[::-1],
        lambda rows: [*rows[:5], *rows],
        lambda rows: [row for row in rows for _ in range(2)],
        lambda rows: [*rows[10:], *rows[:10]],
    ],
    ids=["newest first", "some twice", "all twice", "late ones at the end"],
)
def test_the_order_and_the_number_of_klines_in_an_answer_do_not_matter(open_exchange, arranged):
    rows = klines(START, 100)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + 100 * MINUTE, arranged=arranged))
    answer = source_of(exchange, "BTC/USDT").fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("BTC/USDT", rows)


CUT = Reply(200, '[[1748736000000,"1.0","1.0","1.0","1.0","1.0",1748736059999]]', cut=20)
ODD = Reply(200, '[["a"],7]')
SECONDS = Reply(200, '[[1748736000,"1.0","1.0","1.0","1.0","1.0",1748736059]]')
EMPTY_TEXT = Reply(200, "")
NO_ERROR_CODE = Reply(400, '{"msg":"something"}')
PASSING = {
    "429": TOO_MANY,
    "ban": BANNED,
    "firewall": FIREWALL,
    "html": HTML,
    "503": UNAVAILABLE,
    "malformed": MALFORMED,
    "cut": CUT,
    "nothing": EMPTY_TEXT,
    "odd records": ODD,
    "seconds": SECONDS,
    "400": NO_ERROR_CODE,
    "hangs": HANGS,
    "drips": DRIP,
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING.keys())
def test_a_failure_that_passes_costs_a_try(open_exchange, failure: Reply):
    rows = klines(START, 1500)
    exchange = open_exchange(
        Binance(
            {"BTCUSDT": rows, "ETHUSDT": rows},
            now=START + 1500 * MINUTE,
            fails=lambda market, count: failure if market == "BTCUSDT" and count == 1 else None,
        )
    )
    answer = source_of(exchange, "BTC/USDT", "ETH/USDT").fetch_bars(
        ["BTC/USDT", "ETH/USDT"], FIRST, SECOND, fetched_at=exchange.now
    )
    assert answer.bars.rows() == bars_by_hand("BTC/USDT", rows) + bars_by_hand("ETH/USDT", rows)
    assert exchange.asked["BTCUSDT"] == 3  # two pages, one of them twice


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING.keys())
def test_a_failure_that_stays_is_that_of_one_ticker(open_exchange, failure: Reply):
    rows = klines(START, 50)
    exchange = open_exchange(
        Binance(
            {"BTCUSDT": rows, "ETHUSDT": rows},
            now=START + 50 * MINUTE,
            fails=lambda market, _: failure if market == "BTCUSDT" else None,
        )
    )
    answer = source_of(exchange, "BTC/USDT", "ETH/USDT").fetch_bars(
        ["BTC/USDT", "ETH/USDT"], FIRST, FIRST, fetched_at=exchange.now
    )
    assert answer.bars.rows() == bars_by_hand("ETH/USDT", rows)
    assert set(answer.failures) == {"BTC/USDT"}
    assert not answer.failures["BTC/USDT"].unknown


@pytest.mark.parametrize(("failure", "seconds"), [(BANNED, 120), (TOO_MANY, 30)], ids=["418", "429"])
def test_a_refusal_is_waited_out_for_as_long_as_it_says(open_exchange, failure: Reply, seconds: int):
    time = FakeTime()
    exchange = open_exchange(
        Binance(
            {"BTCUSDT": klines(START, 9)}, now=START + timedelta(hours=1), fails=lambda _, n: None if n else failure
        )
    )
    source_of(exchange, "BTC/USDT", time=time).fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)
    assert time.now >= seconds


def test_nearly_all_of_the_weight_of_a_minute_makes_us_wait_for_the_next(open_exchange):
    waits = []
    for used in ("100", "5900"):
        time, headers = FakeTime(), {"x-mbx-used-weight-1m": used}
        exchange = open_exchange(
            Binance({"BTCUSDT": klines(START, 9)}, now=START + timedelta(hours=1), headers=headers)
        )
        source_of(exchange, "BTC/USDT", time=time).fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)
        waits.append(time.now)
    assert waits[0] < 0.1
    assert waits[1] >= 1


def test_a_place_that_is_not_served_is_one_clear_error(open_exchange):
    exchange = open_exchange(Binance({"BTCUSDT": klines(START, 9)}, now=START + timedelta(hours=1), clock=RESTRICTED))
    with pytest.raises(SourceError, match=r"HTTP 451.*another STOCK_ASSETS_CCXT_EXCHANGE"):
        source_of(exchange, "BTC/USDT").fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)


def test_a_market_that_the_exchange_lacks_is_unknown(open_exchange):
    rows = klines(START, 50)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + 50 * MINUTE))
    answer = source_of(exchange, "BTC/USDT", "MATIC/USDT").fetch_bars(
        ["BTC/USDT", "MATIC/USDT"], FIRST, FIRST, fetched_at=exchange.now
    )
    assert answer.bars["ticker"].unique().to_list() == ["BTC/USDT"]
    assert answer.failures["MATIC/USDT"].unknown
    assert "binance has no spot market MATIC/USDT" in answer.failures["MATIC/USDT"].reason


def test_a_market_that_went_after_the_list_was_read_is_unknown(open_exchange):
    exchange = open_exchange(
        Binance(
            {"BTCUSDT": klines(START, 50)},
            now=START + 50 * MINUTE,
            fails=lambda *_: Reply(400, '{"code":-1121,"msg":"Invalid symbol."}'),
        )
    )
    answer = source_of(exchange, "BTC/USDT").fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)
    assert answer.failures["BTC/USDT"].unknown
    assert exchange.asked["BTCUSDT"] == 1


@pytest.mark.parametrize(
    ("body", "reason", "unknown"),
    [
        ('{"error":["EGeneral:Too many requests"]}', "Too many requests", False),
        ('{"error":["EAPI:Rate limit exceeded"]}', "Rate limit exceeded", False),
        ('{"error":["EService:Unavailable"]}', "Unavailable", False),
        ('{"error":["EQuery:Unknown asset pair"]}', "Unknown asset pair", True),
        ('{"error":[],"result":{"XETHZUSD":[[1748736000,"1","1","1","1","1","1",1]],"last":1}}', "XETHZUSD", False),
        ('{"error":[],"result":7}', "without klines", False),
    ],
    ids=["too many", "rate", "unavailable", "unknown", "another market", "odd"],
)
def test_an_error_of_kraken_comes_with_http_200(open_exchange, body: str, reason: str, unknown: bool):
    exchange = open_exchange(
        Kraken({"XXBTZUSD": klines(START, 50)}, now=START + 50 * MINUTE, fails=lambda *_: Reply(200, body))
    )
    answer = source_of(exchange, "BTC/USD").fetch_bars(["BTC/USD"], FIRST, FIRST, fetched_at=exchange.now)
    assert reason in answer.failures["BTC/USD"].reason
    assert answer.failures["BTC/USD"].unknown == unknown


def test_an_error_of_our_own_is_not_taken_for_one_of_the_exchange(open_exchange, monkeypatch: pytest.MonkeyPatch):
    exchange = open_exchange(Binance({"BTCUSDT": klines(START, 50)}, now=START + 50 * MINUTE))

    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("stock_assets.market.sources.ccxt_client._frame", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        source_of(exchange, "BTC/USDT").fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)


def fetch_in_a_child(url: str, staged: str) -> None:
    """What the killed process does."""
    exchange = Binance({}, now=START)
    exchange.url = url
    source = source_of(exchange, "BTC/USDT", staged=Path(staged), timeout=HANG_SECONDS)
    source.fetch_bars(["BTC/USDT"], FIRST, date(2025, 6, 4), fetched_at=START + timedelta(days=4))


def test_after_a_kill_between_pages_only_what_is_missing_is_asked_for(open_exchange, tmp_path: Path):
    rows = klines(START, 4 * 1440)
    child: list[subprocess.Popen[bytes]] = []

    def kills(_market: str, count: int) -> Reply | None:
        if count == KILLED_AT:
            os.kill(child[0].pid, signal.SIGKILL)
            return HANGS
        return None

    exchange = Binance({"BTCUSDT": rows}, now=START + timedelta(days=4), fails=kills)
    open_exchange(exchange)
    code = f"from {__name__} import fetch_in_a_child; fetch_in_a_child({exchange.url!r}, {str(tmp_path / 'staged')!r})"
    child.append(subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]))
    assert child[0].wait(HANG_SECONDS) == -signal.SIGKILL
    before = len(exchange.kline_requests())
    assert before == KILLED_AT + 1
    source = source_of(exchange, "BTC/USDT", staged=tmp_path / "staged")
    answer = source.fetch_bars(["BTC/USDT"], FIRST, date(2025, 6, 4), fetched_at=exchange.now)
    assert answer.bars.rows() == bars_by_hand("BTC/USDT", rows)
    begins = [int(query["startTime"]) for query in exchange.kline_requests()[before:]]
    assert begins == [int((START + 1000 * page * MINUTE).timestamp() * 1000) for page in range(KILLED_AT, 6)]
    answer.settle()
    assert not list((tmp_path / "staged").rglob("*.parquet"))


def test_a_page_that_was_running_is_asked_for_again(open_exchange, tmp_path: Path):
    rows = klines(START, 100)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + 50 * MINUTE + timedelta(seconds=5)))
    source = source_of(exchange, "BTC/USDT", staged=tmp_path)
    assert source.fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now).bars.height == 50
    exchange.now += 10 * MINUTE  # not settled: the process was killed before the rows were stored
    later = source.fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=exchange.now)
    assert later.bars.rows() == bars_by_hand("BTC/USDT", rows[:60])


def test_the_markets_are_kept_and_asked_for_again_where_one_is_missing(open_exchange, tmp_path: Path):
    rows = klines(START, 50)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + 50 * MINUTE))

    def fetch(*tickers: str) -> int:
        source = source_of(exchange, *tickers)
        source.client._file = tmp_path / "markets.json"
        source.fetch_bars(list(tickers), FIRST, FIRST, fetched_at=exchange.now)
        return exchange.requests.count("/api/v3/exchangeInfo")

    assert (fetch("BTC/USDT"), fetch("BTC/USDT")) == (1, 1)
    exchange.markets = {**exchange.markets, "ETHUSDT": rows}  # listed meanwhile
    assert (fetch("BTC/USDT", "ETH/USDT"), fetch("ETH/USDT")) == (2, 2)
    (tmp_path / "markets.json").write_text("{torn")
    assert fetch("BTC/USDT") == 3


def test_versions_gaps_and_the_limit_are_stored(open_exchange, tmp_path: Path):
    rows = klines(START, 4000)
    exchange = open_exchange(Kraken({"XXBTZUSD": rows}, now=START + 2500 * MINUTE + timedelta(seconds=20)))
    settings = read_settings(
        data_dir=tmp_path, source="ccxt", interval="1m", exchange="24/7", start=FIRST, tickers=("BTC/USD",)
    )
    store, source = Warehouse(settings.database), source_of(exchange, "BTC/USD")
    store.replace_table("universe", rows_of("universe", source.universe()))
    fetched = fetch_raw_bars(store, settings, source, sessions=[FIRST, SECOND], now=exchange.now)
    assert (fetched.new_versions, fetched.failures) == (719, {})
    outcomes = store.read("bar_gaps").group_by("session").agg(pl.col("outcome").unique().sort()).sort("session")
    assert outcomes["outcome"].to_list()[0] == ["limit"]
    revised = [*rows[:2499], (*rows[2499][:4], 4000.5, rows[2499][5]), *rows[2500:]]
    exchange.markets, exchange.now = {"XXBTZUSD": revised}, exchange.now + MINUTE
    fetched = fetch_raw_bars(store, settings, source, sessions=[SECOND], now=exchange.now)
    assert fetched.new_versions == 2  # the revised last bar, and the new one
    at = pl.col("bar_end").dt.convert_time_zone("UTC")
    versions = store.read("raw_bars").filter(at == START + 2500 * MINUTE).sort("fetched_at")
    assert versions["close"].to_list() == [2600.0, 4000.5]


def test_sessions_that_the_exchange_no_longer_has_are_stored_as_a_limit_and_stop_nothing(open_exchange, tmp_path: Path):
    exchange = open_exchange(Kraken({"XXBTZUSD": klines(START, 5000)}, now=START + 3 * timedelta(days=1)))
    settings = read_settings(
        data_dir=tmp_path, source="ccxt", interval="1m", exchange="24/7", start=FIRST, tickers=("BTC/USD",)
    )
    store, source = Warehouse(settings.database), source_of(exchange, "BTC/USD")
    store.replace_table("universe", rows_of("universe", source.universe()))
    assert fetch_raw_bars(store, settings, source, sessions=[FIRST], now=exchange.now).missing == {"limit": 1440}
    (gap,) = store.read("bar_gaps").rows(named=True)
    assert (gap["outcome"], gap["reason"]) == ("limit", "the vendor has bars from 2025-06-03 on")


def test_days_are_daily_klines_of_utc(open_exchange):
    rows = klines(START, 20, minutes=1440)
    exchange = open_exchange(Binance({"BTCUSDT": rows}, now=START + timedelta(days=10, hours=3)))
    answer = source_of(exchange, "BTC/USDT", interval="1d").fetch(
        ["BTC/USDT"], FIRST, date(2025, 6, 30), fetched_at=exchange.now
    )
    figures = answer.bars.select("ticker", "session", "open", "high", "low", "close", "volume", "adj_close")
    assert figures.rows() == [("BTC/USDT", row[0].date(), *row[1:], row[4]) for row in rows[:10]]
    new_york = trading_calendar("XNYS", date(2025, 6, 2), date(2025, 6, 30))
    with pytest.raises(SourceError, match="expected STOCK_ASSETS_EXCHANGE=24/7"):
        source_of(exchange, "BTC/USDT", interval="1d", calendar=new_york).fetch(
            ["BTC/USDT"], SECOND, SECOND, fetched_at=exchange.now
        )


def test_sessions_that_do_not_fit_the_klines_are_refused(open_exchange):
    exchange = open_exchange(Binance({"BTCUSDT": klines(START, 72, minutes=60)}, now=START + timedelta(days=3)))
    new_york = trading_calendar("XNYS", date(2025, 6, 2), date(2025, 6, 30))  # from 13:30 UTC on
    with pytest.raises(SourceError, match=r"begins at 14:00:00 UTC.*expected one at 13:30:00"):
        source_of(exchange, "BTC/USDT", interval="1h", calendar=new_york).fetch_bars(
            ["BTC/USDT"], SECOND, SECOND, fetched_at=exchange.now
        )


def test_an_exchange_without_such_klines_is_refused(open_exchange, monkeypatch: pytest.MonkeyPatch):
    exchange = open_exchange(Binance({"BTCUSDT": []}, now=START))
    source = source_of(exchange, "BTC/USDT")
    monkeypatch.setattr(source.client._exchange, "timeframes", {"5m": "5m", "1h": "1h"})
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_INTERVAL=1m: binance has no such klines.*5m, 1h"):
        source.fetch_bars(["BTC/USDT"], FIRST, FIRST, fetched_at=START)


@pytest.mark.parametrize("ticker", ["BTCUSDT", "BTC-USD", "BTC/USDT:USDT", "/USDT", "a?b/USD"])
def test_another_spelling_is_refused(open_exchange, ticker: str):
    source = source_of(open_exchange(Binance({}, now=START)), ticker)
    with pytest.raises(SourceError, match="expected a spot market as ccxt spells it, such as BTC/USDT"):
        source.universe()


def test_without_tickers_there_is_no_universe(open_exchange):
    with pytest.raises(SourceError, match="STOCK_ASSETS_TICKERS is not set"):
        source_of(open_exchange(Binance({}, now=START))).universe()


def test_settings_choose_the_exchange_and_its_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from stock_assets.market.sources.registry import make_source

    def made(**values: object) -> CcxtSource:
        source = make_source(read_settings(data_dir=tmp_path, source="ccxt", exchange="24/7", interval="1m", **values))
        assert isinstance(source, CcxtSource)
        return source

    paces = [
        made(ccxt_exchange="kraken").client.budget.politeness.per_second,
        made().client.budget.politeness.per_second,
        made(requests_per_second=3).client.budget.politeness.per_second,
        made(ccxt_exchange="kraken", requests_per_second=3).client.budget.politeness.per_second,
    ]
    assert paces == [1, 20, 3, 1]
    with pytest.raises(SettingsError, match=r"STOCK_ASSETS_CCXT_EXCHANGE='mtgox' is no exchange of ccxt .*binance"):
        made(ccxt_exchange="mtgox")
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(SettingsError, match=r"pip install 'stock_assets\[crypto\]'"):
        made()
