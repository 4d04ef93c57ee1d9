"""Whether today's predictions are there: a check on them, and a sensor that reports it and alerts when they are not."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import dagster as dg

from stock_assets.defs.runs import work_done
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.defs.tables import DUCKDB_POOL, Clock
from stock_assets.lifecycle.alerts import QUIET, Channel
from stock_assets.lifecycle.freshness import GRACE, KEY, Freshness, alert_of
from stock_assets.lifecycle.materialize.alerts import raise_alarm, read_records, resolve, send_pending, write_record
from stock_assets.lifecycle.materialize.operations import freshness_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

CHECK = "fresh"


def freshness_check(settings: Settings) -> dg.AssetChecksDefinition:
    """The check `fresh` of predictions."""

    @dg.asset_check(
        asset="predictions",
        name=CHECK,
        pool=DUCKDB_POOL,
        description=(
            f"every session is predicted {GRACE.seconds // 3600} hours after it was due at the latest; holidays and "
            "weekends are no sessions. The sensor `freshness` reports it when it changes"
        ),
    )
    def fresh(warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
        state = freshness_of(settings, warehouse.last_session("predictions"), clock())
        return dg.AssetCheckResult(passed=state.fresh, metadata=_metadata(state), description=state.reason)

    return fresh


def freshness_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `freshness`."""

    @platform_sensor(
        settings,
        "freshness",
        description=(
            f"Sends an alert when a closed session is not predicted {GRACE.seconds // 3600} hours after it was due, "
            "and reports the check `fresh` of predictions when its state changes or another session is predicted. "
            "Holidays and weekends are never late, nor is a closed snapshot. It also sends what `alert_on_failure` "
            "could not send, and ends the alarms whose work was done since."
        ),
    )
    def freshness(tick: Tick) -> Answer:
        messages = settle_alerts(tick.context.instance, tick.store, tick.channels, now=tick.now)
        predicted = tick.store.last_session("predictions")
        state = freshness_of(settings, predicted, tick.now)
        cursor = f"{state.fresh} {predicted} {state.sessions_behind}"
        if predicted is None or cursor == tick.context.cursor:
            return _skipped([*messages, state.reason])
        if not state.fresh:
            alert = alert_of(state, tick.now)
            messages.append(raise_alarm(tick.store, tick.channels, alert, now=tick.now, quiet=QUIET / 2))
        elif resolve(tick.store, KEY, now=tick.now):
            messages.append("the alarm is over")
        return _skipped([*messages, f"reported: {state.reason}"], [_evaluation(state)], cursor)

    return freshness


def settle_alerts(
    instance: dg.DagsterInstance, store: Warehouse, channels: Sequence[Channel], *, now: datetime
) -> list[str]:
    """Sends what waits for a channel, marks what is over, and returns both in words."""
    messages = []
    if sent := send_pending(store, channels, now=now):
        messages.append(f"{sent} alert(s) that had waited were sent")
    if over := resolve_done(instance, store, now):
        messages.append(f"{over} alarm(s) are over: a later run did the work")
    return messages


def resolve_done(instance: dg.DagsterInstance, store: Warehouse, now: datetime) -> int:
    """Marks the alerts of failed runs as over whose work later runs did, once all of it is there; returns their
    number."""
    done = 0
    for record in read_records(store):
        if record.resolved_at is None and record.alert.run_id:
            run = instance.get_run_by_id(record.alert.run_id)
            if run and work_done(instance, store, run):
                write_record(store, replace(record, resolved_at=now))
                done += 1
    return done


def _evaluation(state: Freshness) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("predictions"),
        check_name=CHECK,
        passed=state.fresh,
        metadata=_metadata(state),
        description=state.reason,
    )


def _metadata(state: Freshness) -> dict[str, dg.MetadataValue]:
    return {
        "last_expected": dg.MetadataValue.text(str(state.last_expected)),
        "sessions_behind": dg.MetadataValue.int(state.sessions_behind),
    }


def _skipped(
    messages: Sequence[str], events: Sequence[dg.AssetCheckEvaluation] = (), cursor: str | None = None
) -> dg.SensorResult:
    return dg.SensorResult(skip_reason="; ".join(messages), asset_events=list(events), cursor=cursor)
