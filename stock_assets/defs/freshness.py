"""Whether today's predictions are there: a check on them, and a sensor that reports it and calls when they are late."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime

import dagster as dg

from stock_assets.defs.alerts import PATIENCE, raise_alarm, records, resolve, send_pending, write
from stock_assets.defs.automation import WORK, attempts
from stock_assets.defs.tables import DUCKDB_POOL, Clock
from stock_assets.errors import StoreBusyError
from stock_assets.lifecycle.alerts import QUIET, Alert, Channel
from stock_assets.lifecycle.freshness import GRACE, Freshness, freshness
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

CHECK = "fresh"
KEY = "freshness/predictions"
EVERY = 60


def freshness_check(settings: Settings) -> dg.AssetChecksDefinition:
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
        state = state_of(settings, warehouse.last_session("predictions"), clock())
        return dg.AssetCheckResult(passed=state.fresh, metadata=_metadata(state), description=state.reason)

    return fresh


def freshness_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="freshness",
        minimum_interval_seconds=EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Calls when a closed session is not predicted {GRACE.seconds // 3600} hours after it was due, and reports "
            "the check `fresh` of predictions when its state changes or another session is done. Holidays and weekends "
            "are never late, nor is a closed snapshot. It also sends what `alert_on_failure` could not send, and "
            "ends the alarms whose work was done since."
        ),
    )
    def freshness_tick(
        context: dg.SensorEvaluationContext,
        warehouse: dg.ResourceParam[Warehouse],
        channels: dg.ResourceParam[Sequence[Channel]],
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult:
        now, said = clock(), []
        try:
            if sent := send_pending(warehouse, channels, now):
                said.append(f"{sent} alert(s) that had waited were sent")
            if over := resolve_done(context.instance, warehouse, now):
                said.append(f"{over} alarm(s) are over: a later run did the work")
            predicted = warehouse.patient(PATIENCE).last_session("predictions")
            state = state_of(settings, predicted, now)
            cursor = f"{state.fresh} {predicted} {state.sessions_behind}"
            if predicted is None or cursor == context.cursor:
                return _skipped([*said, state.reason])
            if not state.fresh:
                said.append(raise_alarm(warehouse, channels, _alert(state, now), now, quiet=QUIET / 2))
            elif resolve(warehouse, KEY, now):
                said.append("the alarm is over")
        except StoreBusyError as busy:
            return _skipped([*said, f"the next tick looks again: {busy}"])
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("predictions"),
            check_name=CHECK,
            passed=state.fresh,
            metadata=_metadata(state),
            description=state.reason,
        )
        return _skipped([*said, f"reported: {state.reason}"], [evaluation], cursor)

    return freshness_tick


def resolve_done(instance: dg.DagsterInstance, warehouse: Warehouse, now: datetime) -> int:
    """Marks the alerts of failed runs as over whose work a later run of the schedule or a sensor did; their number."""
    store, done = warehouse.patient(PATIENCE), 0
    for record in records(store):
        if record.resolved_at is None and record.alert.run_id:
            run = instance.get_run_by_id(record.alert.run_id)
            if run and WORK in run.tags and attempts(instance, run.tags[WORK]).succeeded:
                write(store, replace(record, resolved_at=now))
                done += 1
    return done


def state_of(settings: Settings, predicted: date | None, now: datetime) -> Freshness:
    """The freshness of `predicted`; that of a closed snapshot is what it is, and never late."""
    state = freshness(calendar_of(settings), settings.after_close, GRACE, predicted, now)
    if settings.end is None:
        return state
    return Freshness(True, state.last_expected, 0, f"the snapshot is closed at {settings.end}: no session is expected")


def _alert(state: Freshness, now: datetime) -> Alert:
    return Alert(KEY, f"predictions are {state.sessions_behind} session(s) late", state.reason, None, now)


def _metadata(state: Freshness) -> dict[str, int | str]:
    return {"last_expected": str(state.last_expected), "sessions_behind": state.sessions_behind}


def _skipped(
    said: Sequence[str], events: Sequence[dg.AssetCheckEvaluation] = (), cursor: str | None = None
) -> dg.SensorResult:
    return dg.SensorResult(skip_reason="; ".join(said), asset_events=list(events), cursor=cursor)
