"""The running session of a market of bars over HTTP: what the API and the page say of what is published, and when."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import PublicationError
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.publication.bar_files import (
    BACKTEST,
    POINTER,
    SCHEMA,
    BarPointer,
    merge_bars,
    point_to,
    put_backtest,
    put_bars,
    read_backtest,
    read_bar_pointer,
    remove_merged,
)
from stock_assets.serving.app import make_app
from stock_assets.serving.bars import RunningSession
from stock_assets.serving.schemas import BacktestOfBars
from stock_assets.settings import read_settings
from stock_assets_tests.serving.apps import Asker

DAY, OPENED = date(2025, 6, 22), datetime(2025, 6, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
#: A document of today's version in which all else is of another kind.
GUTTED = json.dumps({"schema": SCHEMA, "session": 3, "bar_end": None, "books": [4]})


def said(hour: int, *tickers: str, version: str = "bar_rnn-1") -> pl.DataFrame:
    """Rows of `bar_predictions` at the end of an hour; their figures say which one it is."""
    rows = [
        {
            "model": model,
            "model_version": version if model == "bar_rnn" else "class_prior-1",
            "trained_through": OPENED - timedelta(days=1),
            "ticker": ticker,
            "session": DAY,
            "bar_end": OPENED + hour * HOUR,
            "expected_return": 0.001 * hour,
            "p_sell": 0.2,
            "p_hold": 0.7 - hour / 100,
            "p_buy": 0.1 + hour / 100,
            "score": hour / 100 - 0.1,
            "fetched_at": OPENED + hour * HOUR + timedelta(seconds=4),
        }
        for model in ("bar_rnn", "class_prior")
        for ticker in tickers
    ]
    return pl.DataFrame(rows, BAR_PREDICTIONS.schema)


def publish(folder: Path, hour: int, *tickers: str) -> None:
    rows, end = said(hour, *tickers), OPENED + hour * HOUR
    now = end + timedelta(seconds=6)
    digest = put_bars(folder, DAY, rows, now=now)
    facts = {
        "source": "simulated",
        "exchange": "24/7",
        "interval": "1h",
        "horizon": 5,
        "barrier_width": 1.0,
        "in_service": "bar_rnn",
        "champion": "bar_rnn-1",
        "trained_through": (OPENED - timedelta(days=1)).isoformat(),
        "next_bar_end": (end + HOUR).isoformat(),
        "late_after": (end + 12 * HOUR).isoformat(),
        "simulated": True,
    }
    point_to(folder, BarPointer(DAY, end, now, digest, facts))


class Clock:
    now = OPENED + 3 * HOUR + timedelta(minutes=1)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def market(tmp_path: Path) -> tuple[Asker, Path, Clock]:
    config = read_settings(interval="1h", exchange="24/7", data_dir=tmp_path / "data")
    clock = Clock()
    return Asker(make_app(config, clock=clock)), config.data_dir / "published", clock


def test_the_newest_bar_of_every_ticker_is_answered_and_what_is_late_is_told(market):
    ask, folder, clock = market
    assert ask("/v1/bars").json()["type"].endswith("#not-published")
    assert ask("/readyz").status_code == 503
    assert "no bar is published yet" in ask("/").text
    publish(folder, 2, "BTC/USDT", "ETH/USDT")
    publish(folder, 3, "BTC/USDT")
    answer = ask("/v1/bars").json()
    assert (answer["session"], answer["bar_end"], answer["champion"]) == (
        "2025-06-22",
        "2025-06-22T03:00:00Z",
        "bar_rnn-1",
    )
    assert (answer["late"], answer["simulated"], answer["model"]) == (False, True, "bar_rnn")
    rows = {row["ticker"]: row for row in answer["rows"]}
    assert {ticker: row["bar_end"][11:16] for ticker, row in rows.items()} == {"BTC/USDT": "03:00", "ETH/USDT": "02:00"}
    assert (rows["BTC/USDT"]["p_buy"], rows["BTC/USDT"]["published_at"]) == (0.13, "2025-06-22T03:00:06Z")
    alone = ask("/v1/bars?model=class_prior&tickers=ETH/USDT").json()["rows"]
    assert [row["model_version"] for row in alone] == ["class_prior-1"]
    assert ask("/v1/bars?tickers=DOGE/USDT").json()["type"].endswith("#unknown-ticker")
    assert ask("/v1/bars?model=rnn").json()["type"].endswith("#unknown-model")
    assert ask("/v1/bars?nonsense=1").status_code == 422
    assert ask("/readyz").json()["bar_end"] == answer["bar_end"]
    page = ask("/").text
    assert "Usable: the bar of 2025-06-22 03:00 UTC" in page
    assert "SIMULATED" in page
    assert page.count("behind</span>") == 1  # ETH/USDT
    clock.now = OPENED + 16 * HOUR
    assert ask("/v1/bars").json()["late"]
    assert "Late: the bar of 2025-06-22 03:00 UTC is the newest" in ask("/").text


def test_a_damaged_file_or_pointer_is_named_and_the_page_says_so(market):
    ask, folder, _ = market
    publish(folder, 3, "BTC/USDT")
    (file,) = (folder / "bar_predictions" / f"session={DAY}").iterdir()
    file.write_bytes(b"nothing")
    answer = ask("/v1/bars")
    assert (answer.status_code, answer.json()["type"].rpartition("#")[2]) == (500, "damaged-publication")
    assert str(folder) not in answer.text
    assert ask("/").status_code == 503


@pytest.mark.parametrize("read", [read_bar_pointer, read_backtest])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": []}', '{"schema": 1}', '{"schema": [0]}', GUTTED])
def test_a_damaged_document_of_bars_is_named(read: Callable[[Path], object], text: str, tmp_path: Path):
    for name in (POINTER, BACKTEST):
        (tmp_path / name).write_text(text)
    with pytest.raises(PublicationError, match=str(tmp_path)):
        read(tmp_path)


def test_a_reader_follows_a_session_file_by_file_through_its_merge(tmp_path: Path, monkeypatch):
    read: list[int] = []
    monkeypatch.setattr(
        "stock_assets.publication.bar_files.read_all",
        lambda places: read.append(len(places)) or [place.read_bytes() for place in places],
    )
    running = RunningSession(tmp_path)
    assert running.read() is None
    for hour in range(1, 5):
        publish(tmp_path, hour, "BTC/USDT")
        there = running.read()
        assert there is not None
        assert there[1]["bar_end"].n_unique() == hour
        assert running.read() is there
    assert read == [1, 1, 1, 1]  # each file once
    before = there[1]
    digest = merge_bars(tmp_path, DAY)
    assert digest is not None
    assert remove_merged(tmp_path, DAY, digest) == 4
    publish(tmp_path, 5, "BTC/USDT")
    after = running.read()
    assert after is not None
    assert after[1].filter(pl.col("bar_end") <= OPENED + 4 * HOUR).equals(before)


def test_the_back_test_is_answered_as_it_is_published_and_shown(market):
    ask, folder, _ = market
    publish(folder, 3, "BTC/USDT")
    assert ask("/v1/bars/backtest").json()["type"].endswith("#not-published")
    assert "would have earned" not in ask("/").text
    figures = dict.fromkeys(("net_sharpe", "net_sharpe_low", "net_sharpe_high", "break_even_low", "break_even_high"))
    figures |= dict.fromkeys(("net_return", "gross_return", "turnover", "break_even", "deepest", "total"), -0.25)
    figures |= dict.fromkeys(("spread", "impact", "commission", "borrow"), 0.125)
    path = [{"session": str(DAY), "equity": 750_000.0, "drawdown": -0.25, "traded": 3e6}]
    books = [
        {"book": name, "model": "bar_rnn", "is_baseline": name == "hold", "sleeves": 7, "capital": 1e6, "sessions": 1}
        | figures
        | {"equity": path}
        for name in ("by_sign", "hold")
    ]
    about = {"source": "simulated", "interval": "1h", "currency": None, "overnight": False, "simulated": True}
    document = {"made_at": OPENED.isoformat(), **about, "first": str(DAY), "last": str(DAY), "books": books}
    put_backtest(folder, {"schema": SCHEMA, **document})
    answer = ask("/v1/bars/backtest")
    assert answer.json() == document
    BacktestOfBars.model_validate(answer.json())
    page = ask("/").text
    assert "would have earned" in page
    assert page.count("\N{MINUS SIGN}25.00") == 4  # the total and the deepest fall of two books
    for sessions in (19, 20):
        long_books = [book | {"sessions": sessions, "net_sharpe": 1.25} for book in books]
        put_backtest(folder, {"schema": SCHEMA, **document, "books": long_books})
        assert ("+1.25" in ask("/").text) == (sessions == 20)
    (folder / BACKTEST).write_bytes(b"{")
    assert ask("/v1/bars/backtest").json()["type"].endswith("#damaged-publication")
    assert str(folder) not in ask("/v1/bars/backtest").text


@pytest.mark.parametrize(
    "address", ["/v1/predictions", "/v1/sessions/2025-06-22", "/v1/models/champion", "/v1/publications"]
)
def test_what_is_of_days_says_where_the_answer_about_bars_is(market, address: str):
    ask, _, _ = market
    answer = ask(address)
    assert answer.status_code == 404
    assert "/v1/bars/backtest" in answer.json()["detail"]
    paths = ask("/openapi.json").json()["paths"]
    assert {"/v1/bars", "/v1/bars/backtest", "/readyz"} <= set(paths)
    assert "/v1/publications" not in paths


@pytest.mark.parametrize("address", ["/signals", "/skill", "/ticker/BTC", "/models"])
def test_a_screen_of_days_leads_to_that_of_bars(market, address: str):
    ask, folder, _ = market
    publish(folder, 3, "BTC/USDT")
    page = ask(address)
    assert page.status_code == 404
    assert "bars of 1h" in page.text
    assert ask("/nothing").status_code == 404
