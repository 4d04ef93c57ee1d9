"""The definitions of the drill: the project's own, on a clock and a vendor that the test plants."""

import dagster as dg
from dagster._time import get_current_datetime

from stock_assets.definitions import build_definitions
from stock_assets.settings import settings

project = build_definitions(settings())
defs = dg.Definitions(
    assets=project.assets,
    schedules=project.schedules,
    sensors=project.sensors,
    jobs=project.jobs,
    executor=project.executor,
    resources={
        **dict(project.resources or {}),
        # `freeze_time` of Dagster moves it
        "clock": dg.ResourceDefinition.hardcoded_resource(get_current_datetime),
    },
)
