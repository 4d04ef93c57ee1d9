"""Dagster's scheduler, with the pace of the daemon that goes through backfills.

A backfill of several stages waits for that daemon before each of them, and Dagster 1.13 has its 30 s written in the
code: a third of a ten-year backfill would be waiting.

In dagster.yaml:

    scheduler:
      module: stock_assets.cli.scheduler
      class: PromptScheduler
      config: {backfill_interval_seconds: 5}
"""

import sys
from typing import Any

from dagster import Field, IntSource
from dagster._core.scheduler import DagsterDaemonScheduler

#: Holds the constant that the loop of the backfills reads when it starts, and nothing else that we use.
CONTROLLER = "dagster._daemon.controller"


class PromptScheduler(DagsterDaemonScheduler):
    """The stock scheduler; the daemon that has one looks at its backfills every `backfill_interval_seconds`."""

    def __init__(self, backfill_interval_seconds: int, **stock: Any) -> None:
        super().__init__(**stock)
        # the daemon makes its instance, and with it this, before it starts its loops; nobody else has loops
        if controller := sys.modules.get(CONTROLLER):
            vars(controller)["DEFAULT_DAEMON_INTERVAL_SECONDS"] = backfill_interval_seconds

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        return {
            **super().config_type(),
            "backfill_interval_seconds": Field(IntSource, description="how often a backfill is looked at"),
        }
