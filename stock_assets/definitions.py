"""The table of contents: every asset in flow order, the jobs and sensors, and what they run with."""

import gc

gc.disable()  # what the imports make stays: full collections among it took a quarter of the start of every process

import atexit
import os
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from stock_assets.cli.standby import keep_ready
from stock_assets.defs import comparison
from stock_assets.defs.account import orders_asset, orders_sensor, switch_jobs
from stock_assets.defs.alerts import alert_sensor
from stock_assets.defs.automation import automation_sensors
from stock_assets.defs.backtest import backtest_assets
from stock_assets.defs.backup import backup_job, backup_sensors
from stock_assets.defs.champions import promotions_asset, republish_job, rollback_job
from stock_assets.defs.evaluation import evaluation_assets
from stock_assets.defs.features import feature_assets
from stock_assets.defs.freshness import freshness_check, freshness_sensor
from stock_assets.defs.input_value import input_value_assets
from stock_assets.defs.lifecycle import drift_asset
from stock_assets.defs.market import market_assets
from stock_assets.defs.model import model_assets
from stock_assets.defs.operations import operations_asset
from stock_assets.defs.publication import publication_asset
from stock_assets.defs.retraining import retraining_sensor
from stock_assets.defs.side_inputs import side_input_assets
from stock_assets.defs.tidy import tidy_job, tidy_schedule
from stock_assets.defs.trading import trading_assets
from stock_assets.defs.tuning import tuning_assets
from stock_assets.extensions import load_extensions
from stock_assets.lifecycle.materialize.alerts import channels_of
from stock_assets.market.sources.registry import make_source, require_source
from stock_assets.private.dagster import IS_DEV_SERVER
from stock_assets.settings import Settings, settings
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse


def utc_now() -> datetime:
    return datetime.now(UTC)


def build_definitions(config: Settings) -> dg.Definitions:
    """Everything Dagster shows and runs under `config`. Raises SettingsError for a source that is not registered."""
    require_source(config.source)
    if config.interval != "1d":
        return _bar_definitions(config)
    tidying = tidy_job(config)
    assets = [
        *market_assets(config),
        *side_input_assets(config),
        *feature_assets(config),
        *model_assets(config),
        *tuning_assets(config),
        *trading_assets(config),
        orders_asset(config),
        *backtest_assets(config),
        drift_asset(config),
        promotions_asset(config),
        *input_value_assets(config),
        *evaluation_assets(config),
        operations_asset(config),
    ]
    freshness = freshness_check(config)
    return dg.Definitions(
        sensors=[
            *automation_sensors(config),
            retraining_sensor(config),
            comparison.comparison_sensor(config),
            freshness_sensor(config),
            alert_sensor(),
            orders_sensor(config),
            *backup_sensors(config),
        ],
        assets=[*assets, publication_asset(config, [*assets, freshness])],
        jobs=[
            rollback_job(config),
            republish_job(config),
            *switch_jobs(config),
            tidying,
            *([backup_job(config, config.backup_dir)] if config.backup_dir else []),
        ],
        schedules=[tidy_schedule(tidying)],
        asset_checks=[freshness],
        resources=_resources(config),
        # a process per step costs three times what the steps themselves do
        executor=dg.in_process_executor,
    )


def _bar_definitions(config: Settings) -> dg.Definitions:
    """The graph at an interval below a day; its modules are loaded at none of a day."""
    from stock_assets.defs.bars import bar_assets, bar_sensors

    tidying = tidy_job(config)
    return dg.Definitions(
        assets=bar_assets(config),
        sensors=[*bar_sensors(config), freshness_sensor(config), alert_sensor(), *backup_sensors(config)],
        asset_checks=[freshness_check(config)],
        schedules=[tidy_schedule(tidying)],
        jobs=[rollback_job(config), tidying, *([backup_job(config, config.backup_dir)] if config.backup_dir else [])],
        resources=_resources(config),
        executor=dg.in_process_executor,
    )


def _resources(config: Settings) -> dict[str, object]:
    """What the assets and sensors of every interval run with."""

    @dg.resource(description="where prices come from; opened when a run first asks")
    def source(context: dg.InitResourceContext) -> object:
        return make_source(config, context.log.info if context.log else lambda _: None)

    return {
        "warehouse": Warehouse.of(config),
        "registry": open_registry(config.mlflow_uri, config.mlflow_artifacts),
        "source": source,
        "channels": channels_of(config),
        "clock": dg.ResourceDefinition.hardcoded_resource(utc_now, "the current time, UTC"),
    }


def misplaced_instance(config: Settings) -> str | None:
    """What to do where `dagster dev` keeps its runs elsewhere than `make run`, in one line; None where it does not."""
    if not os.environ.get(IS_DEV_SERVER):
        return None
    home, own = os.environ.get("DAGSTER_HOME"), config.dagster_home
    unguarded = "; without the storage of the project's dagster.yaml nothing guards its web server (docs/security.md)"
    if home and Path(home).resolve() != own.resolve():
        warning = f"DAGSTER_HOME is {home}, and `make run` has its runs in {own}: unset DAGSTER_HOME to see them here"
        return warning + unguarded
    if not home and not Path("dagster.yaml").exists():
        return (
            "this instance is temporary, as there is no dagster.yaml in the current folder: start in the folder of the "
            f"project, or export DAGSTER_HOME={own} after the first `make run`{unguarded}"
        )
    return None


load_extensions(settings())
if misplaced := misplaced_instance(settings()):
    dg.get_dagster_logger("stock_assets").warning(misplaced)
defs = build_definitions(settings())
# what is loaded by now stays as long as its process, and every full collection of garbage would look through it again
gc.freeze()
gc.enable()
# DuckDB complains about objects that are still there when the process ends
atexit.register(gc.unfreeze)
# the process of the next run, where this one is a code server
keep_ready()
