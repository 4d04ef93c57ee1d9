"""Another simulated market is refused: that of another seed, of another first session, and of an earlier version."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import SourceError
from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize.context import fetch_context
from stock_assets.market.materialize.fetch import fetch_bars
from stock_assets.market.materialize.one_source import require_stored_market
from stock_assets.market.materialize.universe import make_universe
from stock_assets.market.sources.registry import make_source
from stock_assets.settings import Settings, read_settings
from stock_assets.side_inputs.materialize import fetch_side_input
from stock_assets.storage.warehouse import Warehouse

NOW = datetime(2024, 3, 1, 23, tzinfo=UTC)
Changed = Callable[[Settings], Settings]


def settings_of(folder: Path, **others: object) -> Settings:
    plain: dict[str, object] = {"data_dir": folder, "start": date(2023, 1, 3), "end": date(2024, 3, 1), "seed": 0}
    return read_settings(**(plain | {"source": "simulated"} | others))


@pytest.fixture
def filled(tmp_path: Path) -> Settings:
    """A store with nine sessions of the market of seed 0."""
    settings = settings_of(tmp_path)
    store, source, sessions = Warehouse(settings.database), make_source(settings), calendar_of(settings).sessions[:9]
    make_universe(store, settings, source, now=NOW)
    fetch_bars(store, settings, source, sessions=sessions, now=NOW)
    return settings


def counts(settings: Settings) -> dict[str, int]:
    return Warehouse(settings.database).row_counts()


def multiply_closes(settings: Settings, factor: float, where: pl.Expr) -> None:
    store = Warehouse(settings.database)
    bars = store.read("raw_ohlcv")
    changed = pl.when(where).then(pl.col("close") * factor).otherwise("close")
    store.replace_table("raw_ohlcv", bars.with_columns(changed.alias("close")))


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ({"seed": 1}, "simulated market of seed 1 that begins on 2023-01-03"),
        ({"start": date(2022, 12, 1)}, "simulated market of seed 0 that begins on 2022-12-01"),
    ],
)
def test_every_step_refuses_the_market_of_other_settings(filled: Settings, others: dict[str, object], found: str):
    other = settings_of(filled.data_dir, **others)
    store, source, before = Warehouse(filled.database), make_source(other), counts(filled)
    sessions = calendar_of(other).sessions[-2:]
    assert other.database == filled.database
    for step in (
        lambda: require_stored_market(other),
        lambda: make_universe(store, other, source, now=NOW),
        lambda: fetch_bars(store, other, source, sessions=sessions, now=NOW),
        lambda: fetch_context(store, other, source, sessions=sessions, now=NOW),
        lambda: fetch_side_input(store, other, "announcements", sessions=sessions, now=NOW),
    ):
        with pytest.raises(SourceError, match=rf"holds another market: on 2023-01-03, \d+ of \d+ closes .*{found}"):
            step()
    assert counts(filled) == before


def test_the_market_of_an_earlier_version_is_recognised_by_its_rows(filled: Settings):
    middle = calendar_of(filled).sessions[4]
    multiply_closes(filled, 1.01, pl.col("session") >= middle)  # a law that came to differ late
    with pytest.raises(SourceError, match=f"another market: on {middle}, .* STOCK_ASSETS_DATA_DIR to another folder"):
        require_stored_market(filled)


def test_the_same_market_goes_on_with_a_restated_bar_or_a_wrong_evening(filled: Settings):
    multiply_closes(filled, 1.5, pl.col("ticker") == "SIM01")
    multiply_closes(filled, 1.5, pl.col("session") == calendar_of(filled).sessions[8])
    require_stored_market(filled)
    sessions = calendar_of(filled).sessions[9:11]
    fetch_bars(Warehouse(filled.database), filled, make_source(filled), sessions=sessions, now=NOW)


def test_a_store_that_is_not_there_or_empty_holds_no_market(tmp_path: Path):
    settings = settings_of(tmp_path)
    require_stored_market(settings)
    store = Warehouse(settings.database)
    make_universe(store, settings, make_source(settings), now=NOW)
    require_stored_market(settings)
