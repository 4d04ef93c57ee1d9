"""Dagster's scheduler, with the pace of the daemon that goes through backfills.

A backfill of several stages waits for that daemon before each of them, and Dagster 1.13 has its 30 s written in the
code: a third of a ten-year backfill would be waiting.

In dagster.yaml:

    scheduler:
      module: stock_assets.cli.scheduler
      class: PromptScheduler
      config: {backfill_interval_seconds: 1}
"""

from typing import Any

from dagster import Field, IntSource

from stock_assets.private.dagster import DagsterDaemonScheduler, set_backfill_interval


class PromptScheduler(DagsterDaemonScheduler):
    """The stock scheduler; the daemon that has one looks at its backfills every `backfill_interval_seconds`."""

    def __init__(self, backfill_interval_seconds: int, **stock: Any) -> None:
        super().__init__(**stock)
        # the daemon makes its instance, and this scheduler with it, before it starts its loops
        set_backfill_interval(backfill_interval_seconds)

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        return {
            **super().config_type(),
            "backfill_interval_seconds": Field(IntSource, description="how often a backfill is looked at"),
        }
