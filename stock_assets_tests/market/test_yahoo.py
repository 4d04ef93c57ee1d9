"""The yahoo source against a small Yahoo on this machine; no test leaves it."""

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import curl_cffi.requests
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import SourceError, StockAssetsError
from stock_assets.market.adjustments import clean_bars_and_findings
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources import Answer
from stock_assets.market.sources.budget import Budget, Politeness, Transient
from stock_assets.market.sources.yahoo import YahooSource, judge
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets_tests.market.fake_time import FakeTime
from stock_assets_tests.market.vendor import (
    BROKEN,
    COME_BACK,
    DOWN,
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
from stock_assets_tests.waiting import HANG_SECONDS

pytestmark = [
    # yfinance 1.7 sorts with inplace=True, which pandas 3.1 deprecates
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning"),
]

CALENDAR = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31))
SESSIONS = CALENDAR.between(date(2020, 8, 17), date(2020, 9, 11))
PAID, SPLIT = date(2020, 8, 27), date(2020, 8, 31)
FETCHED = datetime(2020, 9, 11, 22, tzinfo=UTC)


def history(base: float, sessions: tuple[date, ...] = SESSIONS) -> pl.DataFrame:
    """What Yahoo holds of a ticker that pays 0.205 on 2020-08-27 and splits 4:1 on 2020-08-31."""
    close = [base + i for i in range(len(sessions))]
    return pl.DataFrame(
        {
            "session": list(sessions),
            "open": [c - 0.5 for c in close],
            "high": [c + 1.0 for c in close],
            "low": [c - 1.0 for c in close],
            "close": close,
            "adj_close": [c * 0.99 for c in close],
            "volume": [float(1000 + i) for i in range(len(sessions))],
            "dividend": [0.205 if day == PAID else 0.0 for day in sessions],
            "split_ratio": [4.0 if day == SPLIT else 1.0 for day in sessions],
        }
    )


def changed(column: str, value: float | None) -> pl.DataFrame:
    """`history` with one value of 2020-08-27 replaced."""
    return history(100.0).with_columns(
        pl.when(pl.col("session") == PAID).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Vendor]]:
    """Starts a server with the answers given by ticker; a request to anywhere else fails the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hosts: set[str | None] = set()
    request = curl_cffi.requests.Session.request

    def noted(session: Any, method: Any, url: str, **options: Any) -> Any:
        hosts.add(urlsplit(url).hostname)
        return request(session, method, url, **options)

    monkeypatch.setattr(curl_cffi.requests.Session, "request", noted)
    with ExitStack() as servers:
        yield lambda **answers: servers.enter_context(serving(Vendor(answers)))
    assert hosts <= {"127.0.0.1"}


def polite(**options: Any) -> Budget:
    """A budget on a clock that nobody waits for."""
    time = FakeTime()
    politeness = {"per_second": 1000.0, "tries": 3, "timeout": HANG_SECONDS, **options}
    return Budget(Politeness(**politeness), clock=time.clock, sleep=time.sleep)


def asked_of(
    server: Vendor, *tickers: str, first: date = SESSIONS[1], last: date = SESSIONS[-1], **options: Any
) -> Answer:
    return YahooSource(CALENDAR, tickers, server.url, budget=polite(**options)).fetch(
        tickers, first, last, fetched_at=FETCHED
    )


def fetch(server: Vendor, *tickers: str, **options: Any) -> pl.DataFrame:
    answer = asked_of(server, *tickers, **options)
    assert answer.failures == {}
    return answer.bars


def test_bars_are_returned_as_yahoo_states_them(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0), MSFT=history(200.0, SESSIONS[5:]))

    raw = fetch(server, "MSFT", "AAPL")

    assert raw.schema == RAW_SCHEMA
    expected = pl.concat(
        [
            history(100.0)[1:].with_columns(ticker=pl.lit("AAPL")),
            history(200.0, SESSIONS[5:]).with_columns(ticker=pl.lit("MSFT")),
        ]
    )
    assert_frame_equal(raw.select(expected.columns), expected)
    assert raw["source"].unique().to_list() == ["yahoo"]
    assert raw["fetched_at"].unique().to_list() == [FETCHED]
    # a bar before the range counts where there is one
    before = raw.group_by("ticker", maintain_order=True).first().select("ticker", "previous_adj_close")
    assert before.rows() == [("AAPL", pytest.approx(99.0)), ("MSFT", None)]


def test_a_split_after_the_range_is_known(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0))
    assert fetch(server, "AAPL", last=PAID)["later_splits"].unique().to_list() == [4.0]
    after = fetch(server, "AAPL", first=PAID).select("session", "later_splits", "split_ratio")
    assert after.rows()[:4] == [
        (PAID, 4.0, 1.0),
        (date(2020, 8, 28), 4.0, 1.0),
        (SPLIT, 1.0, 4.0),
        (date(2020, 9, 1), 1.0, 1.0),
    ]


def test_nothing_after_fetched_at_is_asked_for(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0))
    source = YahooSource(CALENDAR, ("AAPL",), server.url, budget=polite())

    raw = source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], fetched_at=datetime(2020, 8, 27, 22, tzinfo=UTC)).bars

    assert raw["session"].max() == PAID
    assert raw["later_splits"].unique().to_list() == [1.0]  # Yahoo had adjusted nothing yet


@pytest.mark.parametrize("session", [date(2020, 3, 6), date(2020, 3, 9), date(2020, 10, 30), date(2020, 11, 2)])
def test_the_session_is_the_date_at_the_exchange(serve: Callable[..., Vendor], session: date) -> None:
    """Around both clock changes, when the opening bell moves from 14:30 to 13:30 UTC and back."""
    sessions = CALENDAR.between(date(2020, 3, 2), date(2020, 11, 6))
    source = YahooSource(CALENDAR, ("AAPL",), serve(AAPL=history(100.0, sessions)).url, budget=polite())
    raw = source.fetch(["AAPL"], session, session, fetched_at=datetime(2020, 11, 6, 22, tzinfo=UTC)).bars
    assert raw.select("session", "close").rows() == [(session, 100.0 + sessions.index(session))]


def test_one_request_per_ticker_and_progress(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0), MSFT=history(200.0))
    seen: list[tuple[int, int]] = []
    source = YahooSource(
        CALENDAR, None, server.url, on_progress=lambda done, of: seen.append((done, of)), budget=polite(threads=1)
    )
    source.fetch(["AAPL", "MSFT"], SESSIONS[0], SESSIONS[1], fetched_at=FETCHED)
    charts = [target.partition("?")[0] for target in server.requests if "/chart/" in target]
    assert charts == ["/v8/finance/chart/AAPL", "/v8/finance/chart/MSFT"]
    assert seen == [(1, 2), (2, 2)]


def test_a_restated_history_is_seen_by_the_next_fetch(serve: Callable[..., Vendor]) -> None:
    before = fetch(serve(AAPL=history(100.0)), "AAPL")
    after = fetch(serve(AAPL=history(50.0)), "AAPL")
    assert (before["close"][0], after["close"][0]) == (101.0, 51.0)


def test_bars_outside_the_range_alone_are_no_failure(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0, SESSIONS[5:]))
    answer = asked_of(server, "AAPL", first=SESSIONS[0], last=SESSIONS[1])
    assert answer.bars.is_empty()
    assert answer.failures == {}
    assert answer.spans == {"AAPL": (SESSIONS[5], SESSIONS[-1])}


def test_a_ticker_that_has_not_traded_since_is_no_failure(serve: Callable[..., Vendor]) -> None:
    """Halted for two months, or delisted: Yahoo sends a chart without bars, and the time of the last trade."""
    long_ago = CALENDAR.between(date(2020, 3, 2), date(2020, 5, 29))
    server = serve(HALTED=history(100.0, long_ago), AAPL=history(100.0))
    answer = asked_of(server, "AAPL", "HALTED")
    assert answer.failures == {}
    assert answer.spans["HALTED"] == (long_ago[0], long_ago[-1])
    assert answer.bars["ticker"].unique().to_list() == ["AAPL"]
    assert server.asked["HALTED"] == 1


#: no bar, although it traded after the range
SILENT = '{"chart":{"result":[{"meta":{"regularMarketTime":4000000000},"indicators":{"quote":[{}]}}],"error":null}}'
FAILURES = [
    (UNKNOWN, "Yahoo says Not Found: No data found, symbol may be delisted", 1),
    (NO_RANGE, "Yahoo says Bad Request: Data doesn't exist for startDate = 1", 1),
    (Reply(200, SILENT), "an empty answer (3 tries)", 3),
    (history(100.0).clear(), "an empty answer (3 tries)", 3),
    (RATE_LIMITED, "HTTP 429: 'Too Many Requests' (3 tries)", 3),
    (BROKEN, 'HTTP 500: \'{"chart":{"result":null', 3),
    (UNAVAILABLE, "HTTP 503: '<html>Service Unavailable</html>' (3 tries)", 3),
    (DOWN, "no chart but 'Will be right back' (3 tries)", 3),
    (MALFORMED, 'no chart but \'{"chart":{"result":[{"meta":\' (3 tries)', 3),
    (HTML, "no chart but '<!DOCTYPE html><html><body>Oops</body></html>' (3 tries)", 3),
    (NO_RESULT, "an empty answer (3 tries)", 3),
    (TRUNCATED, "no answer (", 3),
    (Reply(200, "{}"), "no chart but '{}' (3 tries)", 3),
    (Reply(200, '{"chart":{"result":[{"meta":{}}],"error":null}}'), "that yfinance cannot read (KeyError", 3),
    (Reply(200, '{"chart":{"result":null,"error":{"code":"Internal","description":"?"}}}'), "Internal: ? (3 tries)", 3),
    (INVALID_CRUMB, "HTTP 401", 6),  # every try asks once more with a new crumb
]


@pytest.mark.parametrize(("reply", "reason", "requests"), FAILURES, ids=[reason[:30] for _, reason, _ in FAILURES])
def test_a_failure_names_its_ticker_and_leaves_the_others_alone(
    serve: Callable[..., Vendor], reply: pl.DataFrame | Reply, reason: str, requests: int
) -> None:
    server = serve(AAPL=history(100.0), BAD=reply, MSFT=history(200.0))
    answer = asked_of(server, "AAPL", "BAD", "MSFT", threads=1)
    assert list(answer.failures) == ["BAD"]
    assert reason in answer.failures["BAD"].reason
    assert answer.failures["BAD"].unknown is (requests == 1)
    assert answer.bars["ticker"].unique().sort().to_list() == ["AAPL", "MSFT"]
    assert server.asked["BAD"] == requests


@pytest.mark.parametrize(
    "replies",
    [
        [RATE_LIMITED],
        [COME_BACK],
        [INVALID_CRUMB],
        [BROKEN, UNAVAILABLE],
        [MALFORMED, TRUNCATED],
        [HTML, NO_RESULT],
    ],
)
def test_what_passes_is_not_seen(serve: Callable[..., Vendor], replies: list[Reply]) -> None:
    server = serve(AAPL=[*replies, history(100.0)])
    assert fetch(server, "AAPL").height == len(SESSIONS) - 1
    assert server.asked["AAPL"] == len(replies) + 1


def test_a_refusal_is_answered_with_patience_and_not_with_four_more_requests(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=[history(1.0), RATE_LIMITED, history(100.0)])
    source = YahooSource(CALENDAR, None, server.url, budget=polite())
    source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED)
    before = len(server.requests)
    source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED)
    assert len(server.requests) - before == 2


@pytest.mark.parametrize("place", ["_bars", "judge"])
def test_an_error_of_our_own_is_raised_as_it_is_and_never_asked_for_again(
    serve: Callable[..., Vendor], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """`_bars` reads what yfinance made of an answer; `judge` is called inside yfinance, by our session."""

    def broken(*_: object, **__: object) -> None:
        raise TypeError("a bug of ours")

    server = serve(AAPL=history(100.0))
    monkeypatch.setattr(f"stock_assets.market.sources.yahoo.{place}", broken)
    with pytest.raises(TypeError, match="a bug of ours"):
        asked_of(server, "AAPL")
    assert server.asked["AAPL"] == 1


def test_an_answer_without_a_column_is_a_failure_of_the_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from stock_assets.market.sources import yahoo

    columns = [name for name in yahoo._COLUMNS.values() if name != "Adj Close"]
    answer = pd.DataFrame({name: [1.0] for name in columns}, index=pd.DatetimeIndex(["2020-09-11"]))
    monkeypatch.setattr("stock_assets.private.yfinance.daily_history", lambda *_, **__: answer)
    source = YahooSource(CALENDAR, ("AAPL",), budget=polite())
    failure = source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED).failures["AAPL"]
    assert failure.reason == "an answer without Adj Close (3 tries)"


def test_a_yfinance_without_a_borrowed_name_is_one_clear_error() -> None:
    from types import SimpleNamespace

    from stock_assets.private import yfinance as borrowed

    borrowed.require_borrowed(borrowed.yfinance, "1.7.0")
    known = SimpleNamespace(get_history_metadata=object)
    history = SimpleNamespace(history=SimpleNamespace(PriceHistory=known))
    other = SimpleNamespace(scrapers=history, data=SimpleNamespace(YfData=object), exceptions=SimpleNamespace())
    with pytest.raises(StockAssetsError) as error:
        borrowed.require_borrowed(other, "9.9")
    message = str(error.value)
    assert message.startswith("yfinance 9.9 lacks data.YfData.cache_get.cache_clear (")
    assert "exceptions.YFPricesMissingError" in message
    assert "scrapers" not in message
    assert message.endswith("install yfinance==1.7.0, or change stock_assets/private/yfinance.py")


@pytest.mark.parametrize("reply", [HANGS, DRIP], ids=["hangs", "drips"])
def test_nobody_is_waited_for_for_ever(serve: Callable[..., Vendor], reply: Reply) -> None:
    server = serve(AAPL=[reply, history(100.0)], MSFT=history(200.0))
    with patient_but_with(server.is_slow):
        assert fetch(server, "AAPL", "MSFT", timeout=0.1)["ticker"].n_unique() == 2
    assert server.asked["AAPL"] == 2


def test_a_crumb_that_ran_out_is_renewed(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0), MSFT=history(200.0))
    server.crumb = "first.crumb"
    source = YahooSource(CALENDAR, None, server.url, budget=polite(threads=1))
    assert source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED).failures == {}
    server.crumb = "second.crumb"
    before = server.asked.copy()
    assert source.fetch(["AAPL", "MSFT"], SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED).failures == {}
    assert server.asked - before == {"AAPL": 2, "MSFT": 1}


def test_a_crumb_that_is_refused_is_asked_for_again(serve: Callable[..., Vendor]) -> None:
    """yfinance 1.7 takes the words of the refusal for the crumb."""
    server = serve(AAPL=history(100.0), MSFT=history(200.0))
    server.crumb, server.crumb_refusals = "a.new.crumb", 3
    assert fetch(server, "AAPL", "MSFT", tries=5)["ticker"].n_unique() == 2


def test_threads_that_renew_a_crumb_at_once_do_not_fail(serve: Callable[..., Vendor]) -> None:
    tickers = [f"T{i}" for i in range(12)]
    server = serve(**dict.fromkeys(tickers, history(100.0)))
    server.crumb = "first.crumb"
    source = YahooSource(CALENDAR, None, server.url, budget=polite(tries=5))
    source.fetch(tickers[:1], SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED)
    server.crumb = "second.crumb"
    answer = source.fetch(tickers, SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED)
    assert answer.failures == {}
    assert answer.bars["ticker"].n_unique() == 12


def test_a_vendor_who_refuses_everyone_ends_the_run(serve: Callable[..., Vendor]) -> None:
    tickers = [f"T{i}" for i in range(40)]
    server = serve(**{**dict.fromkeys(tickers, RATE_LIMITED), "T0": history(100.0)})
    answer = asked_of(server, *tickers, threads=4)
    reasons = Counter(failure.reason for failure in answer.failures.values())
    assert reasons.total() == 39
    (reason, count), *others = reasons.most_common()
    assert reason.startswith("gave up: no answer since ")
    # which of the threads wakes first is chance: one ticker or another has used its own tries before
    assert count > 30
    assert all(other.startswith("HTTP 429") for other, _ in others)
    assert server.asked.total() < len(tickers), "asking each once more would be impolite"
    assert answer.bars["ticker"].unique().to_list() == ["T0"]


def test_an_index_in_another_time_zone(serve: Callable[..., Vendor]) -> None:
    """Tokyo opens on the evening before in New York, and at 00:30 UTC."""
    server = serve(**{"^N225": history(20_000.0), "AAPL": history(100.0)})
    server.zones = {"^N225": "Asia/Tokyo"}
    raw = fetch(server, "AAPL", "^N225")
    assert raw.filter(pl.col("ticker") == "^N225")["session"].to_list() == list(SESSIONS[1:])


def test_a_server_that_is_gone_names_the_ticker() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        answer = YahooSource(CALENDAR, ("AAPL",), url, budget=polite()).fetch(
            ["AAPL"], SESSIONS[0], SESSIONS[1], fetched_at=FETCHED
        )
    assert "no answer (ConnectionError, curl 7)" in answer.failures["AAPL"].reason


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("90", 90.0), ("Fri, 11 Sep 2020 22:01:30 GMT", 90.0), ("Fri, 11 Sep 2020 21:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    with pytest.raises(Transient) as error:
        judge(429, "Too Many Requests", since=FETCHED, retry_after=header, now=FETCHED)
    assert error.value.retry_after == seconds
    assert error.value.refused


@pytest.mark.parametrize(("column", "value"), [("close", -1.0), ("open", None), ("volume", -1.0)])
def test_a_bar_that_is_none_is_stored_as_told_and_held_out(
    serve: Callable[..., Vendor], column: str, value: float | None
) -> None:
    server = serve(AAPL=changed(column, value), MSFT=history(200.0))
    answer = asked_of(server, "AAPL", "MSFT")
    assert answer.failures == {}
    universe = YahooSource(CALENDAR, ("AAPL", "MSFT")).universe()
    bars, findings = clean_bars_and_findings(answer.bars, universe, SESSIONS)
    assert set(answer.bars.select("ticker", "session").rows()) - set(bars.select("ticker", "session").rows()) == {
        ("AAPL", PAID)
    }
    told = findings.filter(pl.col("kind") == "no_price").select("ticker", "session", "column")
    assert told.rows() == [("AAPL", PAID, column)]


def test_a_bar_on_a_holiday_is_named(serve: Callable[..., Vendor]) -> None:
    labor_day = date(2020, 9, 7)
    server = serve(AAPL=history(100.0, tuple(sorted((*SESSIONS, labor_day)))))
    reason = asked_of(server, "AAPL").failures["AAPL"].reason
    assert re.search(r"ticker AAPL, session 2020-09-07, .* a Monday on which XNYS was closed", reason)


@pytest.mark.parametrize("ticker", ["../v1/test/getcrumb", "A?b=c", "A B", "..", ""])
def test_a_ticker_is_no_address(serve: Callable[..., Vendor], ticker: str) -> None:
    server = serve(AAPL=history(100.0))
    assert "expected letters and digits" in asked_of(server, ticker).failures[ticker].reason
    assert server.requests == []


def test_a_reversed_range_is_refused(serve: Callable[..., Vendor]) -> None:
    server = serve(AAPL=history(100.0))
    with pytest.raises(SourceError, match="lies after the last"):
        fetch(server, "AAPL", first=SESSIONS[2], last=SESSIONS[1])
    assert server.requests == []


def test_universe_is_what_was_configured() -> None:
    universe = YahooSource(CALENDAR, ("MSFT", "AAPL")).universe()
    assert universe.schema == UNIVERSE_SCHEMA
    assert universe.rows() == [
        ("AAPL", "AAPL", None, date(2020, 1, 2), None),
        ("MSFT", "MSFT", None, date(2020, 1, 2), None),
    ]
    with pytest.raises(SourceError, match="STOCK_ASSETS_TICKERS is not set"):
        YahooSource(CALENDAR, None).universe()
