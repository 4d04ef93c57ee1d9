"""A ticker is checked at every door, and one that is none is one clear error."""

import doctest
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stock_assets import tickers
from stock_assets.errors import SettingsError, SourceError
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.context import fetch_context
from stock_assets.market.materialize.fetch import fetch_bars
from stock_assets.market.materialize.universe import make_universe
from stock_assets.market.membership import changes_table, current_table, read_intervals
from stock_assets.market.sources import Answer
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse

WRONG = [
    "A B",
    "<B>",
    "![X](Y)",
    "A|B",
    "A;DROP",
    "ＡＡＰＬ",
    "АAPL",
    "A\x1b[31m",
    "A\u202eB",
    "A" * 33,
    "--",
    "'A'",
]
NOW = datetime(2024, 1, 10, tzinfo=UTC)
DAY = date(2024, 1, 3)
ALLOWED = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-^=/:_&")


#: What every error says.
COMPLAINT = r"ticker.*expected (a ticker of )?1 to 32 letters \(A to Z\), digits and \. - \^ = / : _ &"


@given(st.text(st.sampled_from([*"ABz09.-^=/:_&", " ", "\n", "é", "<", "\0"]), max_size=40) | st.text(max_size=40))
@example("A\n")
def test_a_ticker_is_of_these_characters(text: str):
    expected = 1 <= len(text) <= 32 and set(text) <= ALLOWED and any(char.isalnum() for char in text)
    assert tickers.is_ticker(text) == expected


def test_the_examples_hold():
    results = doctest.testmod(tickers)
    assert results.attempted
    assert not results.failed


def test_a_long_text_is_not_repeated():
    with pytest.raises(SourceError) as caught:
        tickers.require_tickers(["A" * 10**6, None], "here")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("ticker", WRONG)
def test_the_settings_name_the_setting(ticker: str, tmp_path: Path):
    for setting, value in (("tickers", ticker), ("context", ticker), ("tickers", ["AAPL", ticker])):
        with pytest.raises(SettingsError, match=f"STOCK_ASSETS_{setting.upper()}=.*{COMPLAINT}"):
            read_settings(**{setting: value})
    file = tmp_path / "mine.txt"
    file.write_text(f"AAPL\n{ticker}\n", "utf-8")
    with pytest.raises(SettingsError, match=f"mine.txt.*{COMPLAINT}"):
        read_settings(tickers=str(file))


@pytest.mark.parametrize("ticker", [*WRONG, ""])
def test_a_snapshot_names_the_file_and_the_row(ticker: str, tmp_path: Path):
    file = tmp_path / "prices.csv"
    rows = pl.DataFrame({"ticker": ["AAPL", ticker.replace("\0", "")], "date": [str(DAY)] * 2})
    rows.with_columns(open=1.0, high=1.0, low=1.0, close=1.0, volume=1).write_csv(file)
    source = SnapshotSource(file, calendar_of(read_settings(start=date(2024, 1, 2), end=date(2025, 6, 28))))
    with pytest.raises(SourceError, match=rf"prices\.csv, row 2, {COMPLAINT}"):
        source.universe()


@pytest.mark.parametrize("ticker", WRONG)
def test_a_list_of_members_names_the_file(ticker: str, tmp_path: Path):
    file = tmp_path / "members.parquet"
    pl.DataFrame({"ticker": ["AAPL", ticker], "start_date": ["2020-01-02"] * 2, "end_date": [""] * 2}).write_parquet(
        file
    )
    with pytest.raises(SourceError, match=f"members.parquet: found the {COMPLAINT}"):
        read_intervals(file)


@pytest.mark.parametrize("ticker", ["<b>x", "A B", "![X](Y)"])
def test_wikipedia_is_read_with_the_same_eyes(ticker: str):
    cell = ticker.replace("<", "&lt;")
    row = "<tr><td>{}</td><td>Name</td><td>Sector</td></tr>"
    members = "".join(row.format(name) for name in [f"T{i}" for i in range(400)] + [cell])
    page = f"<table><tr><th>Symbol</th><th>Security</th><th>GICS Sector</th></tr>{members}</table>"
    with pytest.raises(SourceError, match=f"the table of members: found the {COMPLAINT}"):
        current_table(page)
    changes = (
        "<table><tr><th>Date</th><th>Added</th><th>Added</th><th>Removed</th><th>Removed</th></tr>"
        "<tr><th>Date</th><th>Ticker</th><th>Security</th><th>Ticker</th><th>Security</th></tr>"
        f"<tr><td>June 24, 2024</td><td>AAPL</td><td>A</td><td>{cell}</td><td>B</td></tr></table>"
    )
    with pytest.raises(SourceError, match=f"the table of changes: found the {COMPLAINT}"):
        changes_table(changes)


class _Anything:
    """A source of an extension that answers whatever ticker it is given."""

    name = "anything"

    def __init__(self, universe: str, bars: str, series: str) -> None:
        self._universe, self._bars, self._series = universe, bars, series

    def universe(self) -> pl.DataFrame:
        return pl.DataFrame([(self._universe, "a name", None, DAY, None)], UNIVERSE_SCHEMA, orient="row")

    def fetch(self, *_: object, **__: object) -> Answer:
        return Answer(RAW_SCHEMA.to_frame().clear().select(ticker=pl.lit(self._bars)))

    def context(self, *_: object) -> object:
        return SimpleNamespace(rows=pl.DataFrame({"series": [self._series], "session": [DAY]}))


@pytest.mark.parametrize("ticker", WRONG)
def test_the_source_of_an_extension_is_named(ticker: str, tmp_path: Path):
    config = read_settings(start=date(2024, 1, 2), end=date(2025, 6, 28), data_dir=tmp_path)
    store = Warehouse(config.database)
    with pytest.raises(SourceError, match=f"universe of the source anything: found the {COMPLAINT}"):
        make_universe(store, config, _Anything(ticker, "A", "A"), now=NOW)  # pyright: ignore[reportArgumentType]
    source = _Anything("A", ticker, ticker)
    make_universe(store, config, source, now=NOW)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SourceError, match=f"bars of the source anything: found the {COMPLAINT}"):
        fetch_bars(store, config, source, sessions=[DAY], now=NOW)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SourceError, match=f"context series of the source anything: found the {COMPLAINT}"):
        fetch_context(store, config, source, sessions=[DAY], now=NOW)  # pyright: ignore[reportArgumentType]
