"""An indicator and features that a user adds from outside the package, each one record."""

from collections.abc import Iterator

import polars as pl
import pytest
from polars.testing import assert_series_equal

from stock_assets.errors import TableError
from stock_assets.features.formulas import Feature, rank_of
from stock_assets.features.indicators import INDICATORS, Indicator
from stock_assets.features.materialize import make_indicators, make_pca_model, make_stationary_features
from stock_assets.features.stationary import FEATURES, STATIONARY, pca_inputs
from stock_assets.features.tables import register_feature, register_indicator
from stock_assets.market.calendar import calendar_of
from stock_assets.tables import TABLES, Column, Table, declare, declared, redeclare
from stock_assets_tests.features.stores import bars_of, small_settings, store_of

_P = pl.col("p")
RANGE = Indicator("Highest minus lowest close of 10 bars", (_P.rolling_max(10) - _P.rolling_min(10)).over("history"))
RANGE_SHARE = Feature("toy_range_10 / p", 0.0, 0.1, pl.col("toy_range_10") / _P, in_pca=True)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a test registers is gone after it."""
    kept = [(registry, dict(registry)) for registry in (INDICATORS, FEATURES, TABLES)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def register() -> None:
    register_indicator("toy_range_10", RANGE)
    register_feature("toy_range_share", RANGE_SHARE)
    register_feature("toy_rank", Feature("Rank of it", -0.5, 0.5, rank_of("toy_range_share"), of="session"))


def test_a_toy_is_declared_computed_and_stored(tmp_path):
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions
    bars = bars_of(days, {"A": [], "B": [80], "C": []})
    store = store_of(config, bars)
    make_indicators(store, config, days[:100])  # a store from before the toys were registered
    register()
    assert declared("indicators").text == "the 26 classic columns"
    assert declared("indicators").column("toy_range_10") == Column(
        "toy_range_10",
        pl.Float64(),
        "Highest minus lowest close of 10 bars",
        "listing currency",
        (("daily_bars", "total_return"), ("daily_bars", "close")),
    )
    assert list(STATIONARY)[-2:] == ["toy_range_share", "toy_rank"]
    toy = declared("stationary_features").column("toy_range_share")
    assert toy is not None
    assert toy.text == "toy_range_10 / p; cut at 0 and 0.1"

    make_indicators(store, config, days[100:])
    rows = store.read("indicators").filter(pl.col("ticker") == "A").sort("session")
    assert rows["toy_range_10"].null_count() == rows.filter(pl.col("session") < days[100]).height > 0
    close = bars.filter(pl.col("ticker") == "A").sort("session")["close"]
    # without splits and dividends the price basis of every day is the same
    expected = (close.rolling_max(10) - close.rolling_min(10)).tail(len(days) - 100)
    assert_series_equal(rows["toy_range_10"].tail(len(days) - 100), expected, check_names=False)

    made = make_stationary_features(store, config, days).rows
    own = made.filter(pl.col("ticker") == "A").sort("session")
    share = ((close.rolling_max(10) - close.rolling_min(10)) / close).tail(own.height)
    assert (share > 0.1).any()
    assert_series_equal(own["toy_range_share"], share.clip(0.0, 0.1), check_names=False)
    middle = made.filter(pl.col("toy_range_share").rank().over("session") == 2, pl.len().over("session") == 3)
    assert middle.height > 0
    assert set(middle["toy_rank"]) == {0.0}
    assert "toy_range_share" in make_pca_model(store, config).columns
    assert "toy_rank" not in pca_inputs()


def test_what_is_there_stays_as_it_is(tmp_path):
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions[:90]
    store = store_of(config, bars_of(days, {"A": [], "B": [], "C": [70]}))
    before = make_stationary_features(store, config, days).rows
    register()
    assert make_stationary_features(store, config, days).rows.select(before.columns).equals(before)


@pytest.mark.parametrize("taken", ["rsi_5", "beta_66", "vix_level", "gap", "close", "p", "session"])
def test_a_name_that_is_taken_is_refused(taken):
    with pytest.raises(TableError, match=f"a column {taken} exists already"):
        register_indicator(taken, RANGE)
    with pytest.raises(TableError, match=f"a column {taken} exists already"):
        register_feature(taken, RANGE_SHARE)


def test_bounds_and_circles_that_make_no_sense_are_refused(tmp_path):
    for low, high in ((1.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="expected finite ones, low first"):
            Feature("a toy", low, high, _P)
    register_feature("toy_a", Feature("a toy", 0.0, 1.0, pl.col("toy_b")))
    register_feature("toy_b", Feature("a toy", 0.0, 1.0, pl.col("toy_a")))
    config = small_settings(tmp_path)
    days = calendar_of(config).sessions[:70]
    with pytest.raises(ValueError, match="toy_"):
        make_stationary_features(store_of(config, bars_of(days, {"A": []})), config, days)


def test_a_table_is_declared_again_with_more_columns_only():
    price, volume = Column("price", pl.Float64(), "price"), Column("volume", pl.Float64(), "volume")
    toy = declare(Table("toy_table", "market", "a toy", (price,)))
    assert redeclare(Table("toy_table", "market", "a toy", (price, volume))).names == ["price", "volume"]
    assert declared("toy_table") != toy
    with pytest.raises(TableError, match="lacks volume; expected it to add columns"):
        redeclare(toy)
    with pytest.raises(TableError, match="no table other_toy is declared"):
        redeclare(Table("other_toy", "market", "a toy", (price,)))
