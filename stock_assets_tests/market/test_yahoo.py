"""The yahoo source against a small Yahoo on this machine; no test leaves it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import curl_cffi.requests
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.bars import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.yahoo import YahooSource
from stock_assets_tests.market.chart_server import (
    BROKEN,
    HTML,
    MALFORMED,
    NO_RESULT,
    RATE_LIMITED,
    ChartServer,
    Reply,
    chart_server,
)

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
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ChartServer]]:
    """Starts a server with the answers given by ticker; a request to anywhere else fails the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hosts: set[str | None] = set()
    request = curl_cffi.requests.Session.request

    def noted(session: Any, method: Any, url: str, **options: Any) -> Any:
        hosts.add(urlsplit(url).hostname)
        return request(session, method, url, **options)

    monkeypatch.setattr(curl_cffi.requests.Session, "request", noted)
    with ExitStack() as servers:
        yield lambda **answers: servers.enter_context(chart_server(answers))
    assert hosts <= {"127.0.0.1"}


def fetch(server: ChartServer, *tickers: str, first: date = SESSIONS[1], last: date = SESSIONS[-1]) -> pl.DataFrame:
    return YahooSource(CALENDAR, tickers, server.url).fetch(tickers, first, last, FETCHED)


def test_bars_are_returned_as_yahoo_states_them(serve: Callable[..., ChartServer]) -> None:
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


def test_a_split_after_the_range_is_known(serve: Callable[..., ChartServer]) -> None:
    server = serve(AAPL=history(100.0))
    assert fetch(server, "AAPL", last=PAID)["later_splits"].unique().to_list() == [4.0]
    after = fetch(server, "AAPL", first=PAID).select("session", "later_splits", "split_ratio")
    assert after.rows()[:4] == [
        (PAID, 4.0, 1.0),
        (date(2020, 8, 28), 4.0, 1.0),
        (SPLIT, 1.0, 4.0),
        (date(2020, 9, 1), 1.0, 1.0),
    ]


def test_nothing_after_fetched_at_is_asked_for(serve: Callable[..., ChartServer]) -> None:
    server = serve(AAPL=history(100.0))
    source = YahooSource(CALENDAR, ("AAPL",), server.url)

    raw = source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], datetime(2020, 8, 27, 22, tzinfo=UTC))

    assert raw["session"].max() == PAID
    assert raw["later_splits"].unique().to_list() == [1.0]  # Yahoo had adjusted nothing yet


@pytest.mark.parametrize("session", [date(2020, 3, 6), date(2020, 3, 9), date(2020, 10, 30), date(2020, 11, 2)])
def test_the_session_is_the_date_at_the_exchange(serve: Callable[..., ChartServer], session: date) -> None:
    """Around both clock changes, when the opening bell moves from 14:30 to 13:30 UTC and back."""
    sessions = CALENDAR.between(date(2020, 3, 2), date(2020, 11, 6))
    source = YahooSource(CALENDAR, ("AAPL",), serve(AAPL=history(100.0, sessions)).url)
    raw = source.fetch(["AAPL"], session, session, datetime(2020, 11, 6, 22, tzinfo=UTC))
    assert raw.select("session", "close").rows() == [(session, 100.0 + sessions.index(session))]


def test_one_request_per_ticker_and_progress(serve: Callable[..., ChartServer]) -> None:
    server = serve(AAPL=history(100.0), MSFT=history(200.0))
    seen: list[tuple[int, int]] = []
    source = YahooSource(CALENDAR, None, server.url, on_progress=lambda done, of: seen.append((done, of)))
    source.fetch(["AAPL", "MSFT"], SESSIONS[0], SESSIONS[1], FETCHED)
    charts = [target.partition("?")[0] for target in server.requests if "/chart/" in target]
    assert charts == ["/v8/finance/chart/AAPL", "/v8/finance/chart/MSFT"]
    assert seen == [(1, 2), (2, 2)]


def test_a_restated_history_is_seen_by_the_next_fetch(serve: Callable[..., ChartServer]) -> None:
    before = fetch(serve(AAPL=history(100.0)), "AAPL")
    after = fetch(serve(AAPL=history(50.0)), "AAPL")
    assert (before["close"][0], after["close"][0]) == (101.0, 51.0)


@pytest.mark.parametrize("answer", [history(100.0).clear(), NO_RESULT], ids=["no bars", "no result"])
def test_an_empty_answer_is_an_error(serve: Callable[..., ChartServer], answer: pl.DataFrame | Reply) -> None:
    server = serve(AAPL=history(100.0), VOID=answer, NONE=answer)
    with pytest.raises(EmptySourceError, match=r"^Yahoo has no prices of NONE, VOID from 2020-07-19 to 2020-09-11$"):
        fetch(server, "VOID", "AAPL", "NONE")


def test_bars_outside_the_range_alone_are_an_error(serve: Callable[..., ChartServer]) -> None:
    server = serve(AAPL=history(100.0, SESSIONS[5:]))
    with pytest.raises(EmptySourceError, match="yahoo has no bar from 2020-08-17 to 2020-08-18 of AAPL"):
        fetch(server, "AAPL", first=SESSIONS[0], last=SESSIONS[1])
    weekend = fetch(server, "AAPL", first=date(2020, 8, 29), last=date(2020, 8, 30))
    assert weekend.is_empty()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (None, "No data found, symbol may be delisted"),
        (RATE_LIMITED, "YFRateLimitError: Too Many Requests"),
        (BROKEN, "server error"),
        (Reply(503, "<html>Service Unavailable</html>", "text/html"), "JSONDecodeError"),
        (Reply(200, "Will be right back", "text/html"), "YAHOO! FINANCE IS CURRENTLY DOWN"),
        (MALFORMED, "JSONDecodeError"),
        (HTML, "JSONDecodeError"),
        (Reply(200, "{}"), "has no prices of BAD"),
        (Reply(200, '{"chart":{"result":[{"meta":{}}],"error":null}}'), "KeyError"),
    ],
)
def test_every_failure_names_the_ticker(serve: Callable[..., ChartServer], reply: Reply | None, message: str) -> None:
    server = serve(AAPL=history(100.0), **({} if reply is None else {"BAD": reply}))
    with pytest.raises(SourceError, match=r"Yahoo.* BAD\b") as error:
        fetch(server, "AAPL", "BAD")
    assert message in str(error.value)


def test_a_server_that_is_gone_names_the_ticker() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        source = YahooSource(CALENDAR, ("AAPL",), f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(SourceError, match="Yahoo, ticker AAPL: ConnectionError"):
            source.fetch(["AAPL"], SESSIONS[0], SESSIONS[1], FETCHED)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("close", -1.0, "column close: found -1.0, expected a finite price above 0"),
        ("open", None, "column open: found nothing, expected a finite price above 0"),
        ("volume", -1.0, "column volume: found -1.0, expected a number not below 0"),
    ],
)
def test_a_bar_that_is_none_is_named(
    serve: Callable[..., ChartServer], column: str, value: float | None, message: str
) -> None:
    server = serve(AAPL=changed(column, value))
    with pytest.raises(SourceError, match=rf"^Yahoo, ticker AAPL, session 2020-08-27, {message}$"):
        fetch(server, "AAPL")


def test_a_bar_on_a_holiday_is_named(serve: Callable[..., ChartServer]) -> None:
    labor_day = date(2020, 9, 7)
    server = serve(AAPL=history(100.0, tuple(sorted((*SESSIONS, labor_day)))))
    with pytest.raises(SourceError, match=r"ticker AAPL, session 2020-09-07, .* a Monday on which XNYS was closed"):
        fetch(server, "AAPL")


@pytest.mark.parametrize("ticker", ["../v1/test/getcrumb", "A?b=c", "A B", "..", ""])
def test_a_ticker_is_no_address(serve: Callable[..., ChartServer], ticker: str) -> None:
    server = serve(AAPL=history(100.0))
    with pytest.raises(SourceError, match="expected letters and digits"):
        fetch(server, ticker)
    assert server.requests == []


def test_a_reversed_range_is_refused(serve: Callable[..., ChartServer]) -> None:
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
