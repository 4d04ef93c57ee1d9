"""What all sensors share: they look at the store with little patience, and wait for the next tick while it is busy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import dagster as dg

from stock_assets.defs.runs import state_of
from stock_assets.defs.tables import Clock
from stock_assets.errors import StoreBusyError
from stock_assets.lifecycle.alerts import Channel
from stock_assets.lifecycle.evening import State
from stock_assets.lifecycle.materialize.watch import end_failed_ticks, tell_failed_tick
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Seconds that a sensor waits for the store. Dagster gives a tick 60 s, and one tick reports up to five failed runs.
PATIENCE = 3.0

Answer = dg.RunRequest | dg.SkipReason | dg.SensorResult


@dataclass(frozen=True)
class Tick:
    """One evaluation of a sensor."""

    context: dg.SensorEvaluationContext
    settings: Settings
    store: Warehouse
    """waited for PATIENCE seconds"""
    channels: Sequence[Channel]
    now: datetime

    @cached_property
    def state(self) -> State:
        """How far everything is. Raises StoreBusyError while a writer holds the store."""
        return state_of(self.context.instance, self.store, self.settings, now=self.now)


def platform_sensor(
    settings: Settings,
    name: str,
    *,
    description: str,
    makes: Sequence[str] | dg.AssetSelection = (),
    seconds: int = 60,
    job: str | None = None,
) -> Callable[[Callable[[Tick], Answer]], dg.SensorDefinition]:
    """The decorator of a sensor that is on by default. It asks for runs of the assets `makes`, whose pages name
    it, or of the job of that name.

    A tick while the store is busy asks for nothing, and the next one, after `seconds`, looks again. A tick that raises
    is an alert.
    """

    def decorate(answer: Callable[[Tick], Answer]) -> dg.SensorDefinition:
        selection = makes if isinstance(makes, dg.AssetSelection) else dg.AssetSelection.assets(*makes)

        @dg.sensor(
            name=name,
            minimum_interval_seconds=seconds,
            job_name=job,
            asset_selection=selection if makes != () else None,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description=description,
        )
        def tick(
            context: dg.SensorEvaluationContext,
            warehouse: dg.ResourceParam[Warehouse],
            channels: dg.ResourceParam[Sequence[Channel]],
            clock: dg.ResourceParam[Clock],
        ) -> Answer:
            now, store = clock(), warehouse.patient(PATIENCE)
            try:
                answer_of_sensor = answer(Tick(context, settings, store, channels, now))
            except StoreBusyError as busy:
                return dg.SkipReason(f"the next tick looks again: {busy}")
            except Exception as error:
                tell_failed_tick(store, channels, name, error=error, now=now)
                raise
            end_failed_ticks(store, name, now=now)
            return answer_of_sensor

        return tick

    return decorate
