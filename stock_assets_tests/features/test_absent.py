from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from stock_assets.defs.checks import context_result
from stock_assets.features.absent import absent_inputs
from stock_assets.features.materialize import absent_of, announced_of, lags_of, make_side_features
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.side_inputs.materialize import fetch_side_input
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.features.stores import bars_of, small_settings, store_of
from stock_assets_tests.tables import rows_of

NO_GAP = pl.DataFrame(schema={"session": pl.Date, "columns": pl.String})


@pytest.fixture
def snapshot(tmp_path: Path) -> Settings:
    (tmp_path / "prices.csv").touch()
    return Settings(source="snapshot", snapshot=tmp_path / "prices.csv", data_dir=tmp_path)


def test_a_store_without_vix_and_announcements_says_both_with_what_they_cost(snapshot: Settings):
    vix, dates = absent_of(Warehouse(snapshot.database), snapshot)
    assert str(vix).startswith(
        "The models lack ^VIX: context_series has no bar of ^VIX. It costs about .005 of log-loss"
    )
    assert "python -m benchmarks walk_forward" in vix.cost
    assert vix.remedy == "add rows with the ticker ^VIX to the file, and ^GSPC and SPY beside them"
    assert "STOCK_ASSETS_ANNOUNCEMENTS" in dates.remedy
    assert "about .007" in dates.cost


def test_what_is_there_is_not_missed(snapshot: Settings):
    assert absent_inputs(snapshot, series=["SPY", "^VIX"], announced=True, no_source=None) == []
    without = absent_inputs(snapshot, series=["SPY"], announced=True, no_source=None)
    assert [each.name for each in without] == ["^VIX"]


def test_the_simulated_market_lacks_nothing():
    assert absent_inputs(Settings(), series=[], announced=False, no_source="off") == []


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, ["past announcements as filed"]),
        ({"sec_contact": "A Person a@b.org"}, []),
        ({"side_inputs": "off"}, ["the dates of announcements"]),
        ({"side_inputs": "macro"}, ["the dates of announcements"]),
    ],
)
def test_yahoo_without_a_contact_lacks_what_the_sec_says(values: dict, names: list[str]):
    absent = absent_inputs(Settings(source="yahoo", **values), series=["^VIX"], announced=True, no_source=None)
    assert [each.name for each in absent] == names
    assert all("STOCK_ASSETS_S" in each.why for each in absent)


def test_dates_that_no_source_gives_are_told_apart_from_those_not_made_yet(snapshot: Settings):
    (without,) = absent_inputs(snapshot, series=["^VIX"], announced=False, no_source="nothing names a file")
    (unmade,) = absent_inputs(snapshot, series=["^VIX"], announced=False, no_source=None)
    assert without.why == "nothing names a file"
    assert unmade.remedy == "make the asset announcements"


def test_the_check_warns_that_the_market_context_is_not_there(snapshot: Settings):
    absent = absent_inputs(snapshot, series=[], announced=True, no_source=None)
    warned = context_result(NO_GAP, absent)
    assert not warned.passed
    assert warned.severity.value == "WARN"
    assert str(absent[0]) in str(warned.metadata["named"])
    dates_alone = context_result(NO_GAP, absent_inputs(snapshot, series=["^VIX"], announced=False, no_source="none"))
    assert dates_alone.passed
    assert dates_alone.metadata["the_models_lack"].value == "the dates of announcements"
    gap = context_result(
        NO_GAP.vstack(pl.DataFrame([(date(2024, 1, 2), "vix_level")], NO_GAP.schema, orient="row")), []
    )
    assert not gap.passed


def test_a_store_with_announcements_lists_them_with_their_moves(tmp_path: Path):
    file = tmp_path / "announcements.csv"
    file.write_text("ticker,date,when\nA,2018-08-01,post\nA,2018-11-01,pre\nB,2018-12-28,pre\n")
    prices = tmp_path / "prices.csv"
    prices.touch()
    config = small_settings(tmp_path, source="snapshot", snapshot=prices, announcements=file)
    sessions = calendar_of(config).sessions
    store = store_of(config, bars_of(sessions, {"A": [], "B": [], "C": []}))
    store.replace_table("universe", rows_of("universe", pl.DataFrame({"ticker": ["A", "B", "C"]})))
    assert announced_of(store, config, sessions[-1]).is_empty()
    now = datetime(2019, 2, 1, tzinfo=UTC)
    fetch_side_input(store, config, "announcements", sessions=sessions, now=now)
    day = date(2018, 12, 20)
    rows = announced_of(store, config, day)
    assert rows.select("ticker", "reaction_session", "happened").rows() == [
        ("A", date(2018, 8, 2), True),
        ("A", date(2018, 11, 1), True),
        ("B", date(2018, 12, 28), False),
    ]
    bars = store.read("daily_bars", date(2018, 8, 2), date(2018, 8, 2)).sort("ticker")
    returns = bars["total_return"].to_list()
    assert rows["residual_return"][0] == pytest.approx(returns[0] - sum(returns) / 3)
    assert lags_of(store).filter(pl.col("rows") > 0)["side_input"].unique().to_list() == ["announcements"]
    assert [each.name for each in absent_of(store, config)] == ["^VIX"]
    made = make_side_features(store, config, [day])
    of_day = {row["ticker"]: row for row in made.rows.iter_rows(named=True)}
    assert [of_day[ticker]["reaction_ahead"] for ticker in "ABC"] == [0.0, 1.0, 0.0]
    assert of_day["A"]["reaction_dates"] == 1.0
    assert of_day["C"]["market_ahead"] == 0.5
