from datetime import date
from pathlib import Path

import polars as pl
import pytest

from stock_assets.defs.checks import context_result
from stock_assets.features.absent import absent_inputs
from stock_assets.features.materialize import absent_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

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
    assert ".009 to .011" in dates.cost


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
