"""What the graph looks like from outside: keys, groups, partitions, dependencies, and what each asset tells."""

import gc
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.defs.partitions import labelled_days, model_years, predicted_days, trading_days
from stock_assets.errors import SettingsError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets_tests.tables import HISTORIES, ROOMS

STUDY = {"start": date(2010, 1, 4), "end": date(2019, 12, 31), "first_model_year": 2014}

#: What models read: of bars and market context, and of the side inputs that are on.
INPUTS = ("stationary_features", "side_features")
#: Side inputs that are off by default, which have no asset.
OFF = {"fundamentals", "macro", "scheduled_events", "texts"}
#: asset: (group, upstream assets, name of its partition set)
GRAPH = {
    "universe": ("market", set(), None),
    "raw_ohlcv": ("market", {"universe"}, "trading days"),
    "daily_bars": ("market", {"raw_ohlcv", "universe"}, "trading days"),
    "indicators": ("features", {"daily_bars"}, "trading days"),
    "context_series": ("market", set(), "trading days"),
    "announcements": ("side_inputs", {"universe"}, "trading days"),
    "stationary_features": ("features", {"daily_bars", "context_series"}, "trading days"),
    "side_features": ("features", {"daily_bars", "announcements"}, "trading days"),
    "labels": ("features", {"daily_bars"}, "labelled days"),
    "pca_model": ("features", {"stationary_features"}, None),
    "pca_components": ("features", {"stationary_features", "pca_model"}, "trading days"),
    "trained_rnn": ("model", {*INPUTS, "pca_components", "labels", "daily_bars"}, "model years"),
    "trained_baselines": ("model", {*INPUTS, "pca_components", "labels", "daily_bars"}, "model years"),
    "trained_references": ("model", {*INPUTS, "pca_components", "labels", "daily_bars"}, "model years"),
    "trained_ensemble": (
        "model",
        {*INPUTS, "pca_components", "labels", "daily_bars", "trained_rnn", "trained_baselines"},
        "model years",
    ),
    "predictions": (
        "model",
        {*INPUTS, "pca_components", "daily_bars", "trained_rnn", "trained_baselines", "trained_ensemble"},
        "predicted days",
    ),
    "reference_predictions": (
        "model",
        {*INPUTS, "pca_components", "daily_bars", "trained_references"},
        "predicted days",
    ),
    "tuned_hyperparameters": ("model", {*INPUTS, "pca_components", "labels", "daily_bars"}, None),
    "input_value": ("evaluation", {*INPUTS, "pca_components", "labels", "daily_bars"}, None),
    "evaluation_report": (
        "evaluation",
        {
            "universe",
            "daily_bars",
            "context_series",
            "stationary_features",
            "labels",
            "pca_components",
            "trained_rnn",
            "trained_references",
            "predictions",
            "reference_predictions",
            "leakage_audit",
            "input_value",
        },
        None,
    ),
    "leakage_audit": (
        "evaluation",
        {
            "predictions",
            "reference_predictions",
            "labels",
            "stationary_features",
            "pca_components",
            "daily_bars",
        },
        None,
    ),
    "target_weights": ("trading", {"universe", "daily_bars", "context_series", "predictions"}, "predicted days"),
    "fills": ("trading", {"universe", "daily_bars", "context_series", "target_weights"}, "predicted days"),
    "positions": ("trading", {"universe", "daily_bars", "context_series", "target_weights"}, "predicted days"),
    "equity": ("trading", {"universe", "daily_bars", "context_series", "target_weights"}, "predicted days"),
    "orders": ("trading", {"target_weights", "daily_bars", "predictions"}, "predicted days"),
    "backtest": ("trading", {"universe", "daily_bars", "context_series", "predictions", "labels"}, None),
    "tear_sheet": (
        "trading",
        {"universe", "daily_bars", "target_weights", "fills", "positions", "equity", "backtest"},
        None,
    ),
    "drift": ("lifecycle", {"stationary_features", "predictions", "daily_bars"}, "predicted days"),
    "promotions": ("lifecycle", {"trained_rnn", "trained_baselines", "predictions", "labels"}, None),
    "operations": ("lifecycle", {"predictions", "labels", "daily_bars", "drift", "promotions", "orders"}, None),
    "publication": (
        "publication",
        {
            "universe",
            "daily_bars",
            "labels",
            "predictions",
            "drift",
            "promotions",
            "evaluation_report",
            "operations",
            "equity",
            "orders",
        },
        "predicted days",
    ),
}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return read_settings(source="simulated", **STUDY)


@pytest.fixture(scope="module")
def defs(settings: Settings) -> dg.Definitions:
    return build_definitions(settings)


def test_the_graph_is_that_of_the_design(defs: dg.Definitions, settings: Settings):
    sets = {
        None: None,
        "trading days": trading_days(settings),
        "labelled days": labelled_days(settings),
        "model years": model_years(settings),
        "predicted days": predicted_days(settings),
    }
    graph = defs.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
            next(name for name, partitions in sets.items() if partitions == graph.get(key).partitions_def),
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH
    tables = {table: room for table, room in ROOMS.items() if table not in {*HISTORIES, *OFF}}
    assert {key: group for key, (group, *_) in found.items()} == tables


def test_garbage_is_collected_again_after_the_import():
    assert gc.isenabled()
    assert gc.get_freeze_count(), "what was imported stays out of it"


def test_a_side_input_has_an_asset_where_the_settings_turn_it_on(tmp_path):
    def keys(**changes: object) -> set[str]:
        defs = build_definitions(read_settings(source="simulated", data_dir=tmp_path, **STUDY, **changes))
        return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}

    every = keys()
    assert keys(side_inputs="off") == every - {"announcements", "side_features"}
    # what no model reads makes no features
    assert keys(side_inputs="scheduled_events") == every - {"announcements", "side_features"} | {"scheduled_events"}
    with pytest.raises(SettingsError, match="STOCK_ASSETS_SIDE_INPUTS names macro, but STOCK_ASSETS_FRED_KEY is unset"):
        keys(side_inputs="announcements,macro")


def test_every_asset_explains_itself(defs: dg.Definitions):
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert "duckdb" in spec.kinds, spec.key
        schema = spec.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        assert all(column.description for column in schema.columns), spec.key
        assert "SIMULATED" in spec.description, spec.key  # wherever simulated prices show


def test_checks_guard_what_predictions_rest_on(defs: dg.Definitions):
    checks = {key.to_user_string() for key in defs.resolve_asset_graph().asset_check_keys}
    assert {
        "daily_bars:unique_bars",
        "daily_bars:positive_prices",
        "daily_bars:coverage",
        "daily_bars:no_ohlc",
        "daily_bars:no_absurd_return",
        "indicators:finite",
        "stationary_features:finite",
        "pca_components:finite",
        "pca_components:explained_out_of_sample",
        "labels:label_distribution",
        "predictions:probabilities",
        "predictions:cutoff_before_session",
        "predictions:fresh",
        "target_weights:within_limits",
        "equity:attribution_closes",
        "positions:near_limits",
    } <= checks


def test_everything_that_opens_the_store_is_in_its_pool(defs: dg.Definitions):
    assert {asset.op.pool for asset in defs.resolve_asset_graph().assets_defs if asset.op} == {"duckdb"}


def test_the_alarms_are_on_by_default_and_explain_themselves(defs: dg.Definitions):
    sensors = {sensor.name: sensor for sensor in defs.sensors or ()}
    for name in ("alert_on_failure", "freshness"):
        assert sensors[name].default_status == dg.DefaultSensorStatus.RUNNING
        assert len(sensors[name].description or "") > 100


def test_partitions_of_a_closed_snapshot(settings: Settings):
    days = [str(session) for session in calendar_of(settings).sessions]
    assert trading_days(settings).get_partition_keys() == days
    assert labelled_days(settings).get_partition_keys() == days[:-7]
    assert predicted_days(settings).get_partition_keys() == [day for day in days if day >= "2014"]
    assert model_years(settings).get_partition_keys() == ["2014", "2015", "2016", "2017", "2018", "2019"]


@pytest.mark.parametrize(
    ("now", "last_day", "last_label"),
    [
        ((2026, 11, 20, 23), "2026-11-19", "2026-11-10"),  # Friday evening in New York, before midnight UTC
        ((2026, 11, 21, 0), "2026-11-20", "2026-11-11"),  # the same evening, after it: Friday is there
        ((2026, 11, 23, 12), "2026-11-20", "2026-11-11"),
        ((2026, 11, 27, 12), "2026-11-25", "2026-11-16"),  # Thanksgiving is no session
    ],
)
def test_an_open_market_ends_with_the_last_closed_session(now, last_day: str, last_label: str):
    config, moment = read_settings(source="simulated"), datetime(*now, tzinfo=UTC)
    assert trading_days(config).get_partition_keys(current_time=moment)[-1] == last_day
    assert labelled_days(config).get_partition_keys(current_time=moment)[-1] == last_label
    assert model_years(config).get_partition_keys(current_time=moment)[-1] == "2026"
    assert str(calendar_of(config).last_closed(moment)) == last_day


def test_a_range_asks_for_its_model_year_and_that_year_of_predictions_alone(defs: dg.Definitions, settings: Settings):
    """By lineage, and no further: what the market and features groups recompute is exactly the range."""
    graph = defs.resolve_asset_graph()
    chosen = [key for key in trading_days(settings).get_partition_keys() if key.startswith("2015")]

    def downstream(parent: str, child: str, keys: list[str]) -> list[str]:
        partitions = graph.get(dg.AssetKey(parent)).partitions_def
        assert partitions is not None
        mapping = graph.get_partition_mapping(dg.AssetKey(child), dg.AssetKey(parent))
        subset = mapping.get_downstream_partitions_for_partitions(
            partitions.subset_with_partition_keys(keys),
            partitions,
            graph.get(dg.AssetKey(child)).partitions_def,
            current_time=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return sorted(subset.get_partition_keys())

    assert downstream("raw_ohlcv", "daily_bars", chosen) == chosen
    assert downstream("daily_bars", "labels", chosen) == chosen
    assert downstream("labels", "trained_rnn", chosen) == ["2016"]
    predicted = downstream("trained_rnn", "predictions", ["2016"])
    of_2016 = [key for key in predicted_days(settings).get_partition_keys() if key.startswith("2016")]
    # Dagster's way from a year down to its days finds the last session of the year before as well (not the way up:
    # that session asks for its own year's model alone); it is predicted again, with the same rows.
    assert predicted == ["2015-12-31", *of_2016]
    mapping = graph.get_partition_mapping(dg.AssetKey("predictions"), dg.AssetKey("trained_rnn"))
    days, years = predicted_days(settings), model_years(settings)
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        days.subset_with_partition_keys(["2015-12-31"]), days, years
    )
    assert list(upstream.partitions_subset.get_partition_keys()) == ["2015"]
