"""The table of contents: every asset, in flow order, the jobs beside them, and what they run with."""

from datetime import UTC, datetime

import dagster as dg

from stock_assets.defs.alerts import alert_channels, alert_sensor
from stock_assets.defs.automation import automation
from stock_assets.defs.champions import champion_assets, champion_jobs
from stock_assets.defs.evaluation import evaluation_assets
from stock_assets.defs.features import feature_assets
from stock_assets.defs.freshness import freshness_check, freshness_sensor
from stock_assets.defs.lifecycle import lifecycle_assets
from stock_assets.defs.market import market_assets
from stock_assets.defs.model import model_assets
from stock_assets.defs.operations import operations_assets
from stock_assets.defs.retraining import retraining_sensor
from stock_assets.defs.tuning import tuning_assets
from stock_assets.market.sources.registry import make_source, require_source
from stock_assets.settings import Settings, settings
from stock_assets.storage.registry import open_registry
from stock_assets.storage.warehouse import Warehouse


def utc_now() -> datetime:
    return datetime.now(UTC)


def build_definitions(config: Settings) -> dg.Definitions:
    """Everything Dagster shows and runs under `config`. Raises SettingsError for a source that is not registered."""
    require_source(config.source)

    @dg.resource(description="where prices come from; opened when a run first asks")
    def source(context: dg.InitResourceContext) -> object:
        return make_source(config, context.log.info if context.log else lambda _: None)

    schedules, sensors = automation(config)
    return dg.Definitions(
        schedules=schedules,
        sensors=[*sensors, retraining_sensor(config), freshness_sensor(config), alert_sensor()],
        assets=[
            *market_assets(config),
            *feature_assets(config),
            *model_assets(config),
            *tuning_assets(config),
            *lifecycle_assets(config),
            *champion_assets(config),
            *evaluation_assets(config),
            *operations_assets(config),
        ],
        jobs=champion_jobs(config),
        asset_checks=[freshness_check(config)],
        resources={
            "warehouse": Warehouse(config.database),
            "registry": open_registry(config.mlflow_uri, config.mlflow_artifacts),
            "source": source,
            "channels": alert_channels(config),
            "clock": dg.ResourceDefinition.hardcoded_resource(utc_now, "the current time, UTC"),
        },
        # a process per step costs three times what the steps themselves do
        executor=dg.in_process_executor,
    )


defs = build_definitions(settings())
