"""A source from outside: one module that registers itself, named by STOCK_ASSETS_SOURCE, fills the tables."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.errors import SettingsError, StockAssetsError
from stock_assets.market.calendar import calendar_of
from stock_assets.market.context import MarketContext
from stock_assets.market.materialize.fetch import fetch_bars
from stock_assets.market.materialize.universe import make_universe
from stock_assets.market.sources import Answer, registry
from stock_assets.market.sources.answers import BARS, answer, with_history
from stock_assets.market.sources.registry import make_source, register_source
from stock_assets.market.tables import CONTEXT_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse


class ToySource:
    """Two tickers whose prices rise by one a session."""

    name: ClassVar[str] = "toy"

    def __init__(self, settings: Settings) -> None:
        self.calendar = calendar_of(settings)

    def universe(self) -> pl.DataFrame:
        rows = [(ticker, ticker, None, self.calendar.sessions[0], None) for ticker in ("AAA", "BBB")]
        return pl.DataFrame(rows, UNIVERSE_SCHEMA, orient="row")

    def fetch(self, tickers, first: date, last: date, *, fetched_at: datetime) -> Answer:
        days = self.calendar.between(self.calendar.sessions[0], last)
        rising = pl.Series([10.0 + i for i in range(len(days))])
        prices = dict.fromkeys(("open", "high", "low", "close", "adj_close"), rising)
        frames = [pl.DataFrame({"place": "toy", "ticker": t, "session": days, **prices}) for t in tickers]
        bars = pl.concat(frames).with_columns(volume=pl.lit(1e6), dividend=pl.lit(0.0), split_ratio=pl.lit(1.0))
        rows = answer(
            with_history(bars.match_to_schema(BARS)),
            calendar=self.calendar,
            tickers=tickers,
            first=first,
            last=last,
            source=self.name,
            fetched_at=fetched_at,
        )
        return Answer(rows)

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        assert first <= last <= fetched_at.date()
        return MarketContext(CONTEXT_SCHEMA.to_frame(), {})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.all_sources()  # those of this package register themselves once a process
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))
    register_source("toy", lambda settings, _: ToySource(settings), "two tickers that always rise")


def settings_of(folder: Path, source: str) -> Settings:
    return read_settings(source=source, data_dir=folder, start=date(2022, 1, 3), end=date(2023, 12, 29))


@pytest.mark.usefixtures("toy")
def test_a_registered_source_fills_the_tables(tmp_path: Path):
    settings = settings_of(tmp_path, "toy")
    assert build_definitions(settings).assets
    store, source = Warehouse(settings.database), make_source(settings)
    now, days = datetime(2024, 1, 2, tzinfo=UTC), calendar_of(settings).sessions[:3]
    assert make_universe(store, settings, source, now=now).rows["ticker"].to_list() == ["AAA", "BBB"]
    assert fetch_bars(store, settings, source, sessions=days, now=now).new_versions == 6
    assert store.read("raw_ohlcv")["source"].unique().to_list() == ["toy"]


def test_a_source_that_is_not_registered_is_named_with_those_there_are(tmp_path: Path):
    settings = settings_of(tmp_path, "toy")
    for use in (build_definitions, make_source):
        with pytest.raises(SettingsError) as error:
            use(settings)
        message = str(error.value)
        assert message.startswith("STOCK_ASSETS_SOURCE='toy' is wrong (no such source); expected one of simulated (")
        assert "; snapshot (" in message
        assert "; yahoo (" in message
        assert "\n" not in message


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("name", ["toy", "yahoo"])
def test_two_sources_have_two_names(name: str):
    with pytest.raises(StockAssetsError, match=f"a source named {name} is registered already"):
        register_source(name, lambda settings, _: ToySource(settings), "another one")
