"""Whether today's predictions are there: a check on them, and a sensor that reports it and alerts when they are not."""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from stock_assets.defs.lost import settle_lost
from stock_assets.defs.runs import work_done
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.defs.tables import DUCKDB_POOL, Clock
from stock_assets.lifecycle.freshness import GRACE, Freshness
from stock_assets.lifecycle.materialize.alerts import copy_to_table, open_alerts, resolve, sent_late
from stock_assets.lifecycle.materialize.kept import kept_of
from stock_assets.lifecycle.materialize.watch import state_of, tell_lateness, watch
from stock_assets.lifecycle.watch import predicted_in
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

CHECK = "fresh"
_BARS = (
    "while the exchange is open, its bars are published a few bars after their end at the latest (docs/minutes.md). "
    "The sensor `freshness` reports it when it changes"
)


def freshness_check(settings: Settings) -> dg.AssetChecksDefinition:
    """The check `fresh` of predictions, below a day of bar_predictions."""
    predictions = kept_of(settings).predictions

    @dg.asset_check(
        asset=predictions,
        name=CHECK,
        pool=DUCKDB_POOL,
        description=_BARS
        if settings.interval != "1d"
        else (
            f"every session is predicted {GRACE.seconds // 3600} hours after it was due at the latest; holidays and "
            "weekends are no sessions. The sensor `freshness` reports it when it changes"
        ),
    )
    def fresh(warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]) -> dg.AssetCheckResult:
        state = state_of(warehouse, settings, warehouse.last_session(predictions), now=clock())
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
            "Holidays and weekends are never late, nor is a closed snapshot. A store that cannot be looked at for as "
            "long, or has lost its predictions, is an alert too, and every look is a heartbeat to "
            "STOCK_ASSETS_HEARTBEAT_URL. It also ends runs whose process is gone, sends what `alert_on_failure` could "
            "not send, and ends the alarms whose work was done since."
        ),
    )
    def freshness(tick: Tick) -> Answer:
        cursor, instance = tick.context.cursor, tick.context.instance
        look_result = watch(tick.store, settings, tick.channels, now=tick.now, last_seen=predicted_in(cursor))
        messages = [*look_result.messages, *settle_lost(instance, tick.store, tick.channels, now=tick.now)]
        messages += sent_late(tick.store, tick.channels, now=tick.now)
        state, last_predicted = look_result.state, look_result.look.predicted_through
        if state is None:
            return dg.SkipReason("; ".join(messages))
        messages += settle_alerts(instance, tick.store, now=tick.now)
        new_cursor = f"{state.fresh} {last_predicted} {state.sessions_behind if state.unit == 'session' else 0}"
        if last_predicted is None or new_cursor == cursor:
            return _skipped([*messages, state.reason])
        messages += tell_lateness(tick.store, tick.channels, state, now=tick.now)
        copy_to_table(tick.store)
        evaluations = [_evaluation(state, kept_of(settings).predictions)]
        return _skipped([*messages, f"reported: {state.reason}"], evaluations, new_cursor)

    return freshness


def settle_alerts(instance: dg.DagsterInstance, store: Warehouse, *, now: datetime) -> list[str]:
    """Marks what is over, brings the table up to date, and returns it in words."""
    resolved_count = resolve_done(instance, store, now)
    messages = [f"{resolved_count} alarm(s) are over: a later run did the work"] if resolved_count else []
    return [*messages, *copy_to_table(store, now)]


def resolve_done(instance: dg.DagsterInstance, store: Warehouse, now: datetime) -> int:
    """Marks the alerts of failed runs as over whose work later runs did, once all of it is there; returns their
    number."""
    resolved_count = 0
    for record in open_alerts(store):
        if record.alert.run_id:
            run = instance.get_run_by_id(record.alert.run_id)
            if run and work_done(instance, store, run):
                resolved_count += resolve(store, record.alert.key, now=now)
    return resolved_count


def _evaluation(state: Freshness, predictions: str) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(predictions),
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
