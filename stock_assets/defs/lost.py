"""Runs and backfills that nobody works on any more: found by evidence, and ended so that the automation goes on.

Dagster's own monitoring asks a launcher whether a run still has its process, and the launcher of one machine cannot
tell. A run whose process could not write its own end, as on a full disk, would be under way for ever.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import dagster as dg

from stock_assets.defs.runs import OPEN, UNFINISHED
from stock_assets.lifecycle.alerts import Alert, Channel
from stock_assets.lifecycle.materialize.alerts import raise_alarm
from stock_assets.lifecycle.watch import lives
from stock_assets.private.dagster import BACKFILL_ID_TAG, BulkActionsFilter, BulkActionStatus
from stock_assets.storage.warehouse import Warehouse

#: A run without a process is ended so long after its last event: its code server looks twice a second, and tells why.
SETTLED_AFTER = timedelta(seconds=20)
#: As long without an event, a run of which no process is known, and a backfill without a run under way, are lost too.
SILENT_FOR = timedelta(minutes=30)
#: The tag of a run that was ended here. It counts as killed: tried again at once, and later after pauses.
LOST = "stock_assets/lost"


def settle_lost(
    instance: dg.DagsterInstance, store: Warehouse, channels: Sequence[Channel], *, now: datetime
) -> list[str]:
    """Ends the runs and backfills that nobody works on at `now`, with an alert for each; what was done, in words."""
    return [*settle_lost_runs(instance, now=now), *settle_lost_backfills(instance, store, channels, now=now)]


def settle_lost_runs(instance: dg.DagsterInstance, *, now: datetime) -> list[str]:
    """Ends as failed the started runs whose process is gone, and frees their places in the pools.

    `alert_on_failure` reports them as any failed run. A launcher that can tell whether its runs live is left to
    Dagster's own monitoring.
    """
    if instance.run_launcher.supports_check_run_worker_health:
        return []
    messages = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        reason = why_lost(instance, run, now=now)
        current = instance.get_run_by_id(run.run_id)
        if reason and current and current.status == dg.DagsterRunStatus.STARTED:  # it has not ended meanwhile
            instance.add_run_tags(run.run_id, {LOST: "true"})
            instance.report_run_failed(current, f"the run was lost: {reason}. What it left out is made again")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            messages.append(f"run {run.run_id[:8]} was lost and is ended: {reason}")
    return messages


def why_lost(instance: dg.DagsterInstance, run: dg.DagsterRun, *, now: datetime) -> str | None:
    """Why nobody works on a started run any more, in words; None where somebody does, or might."""
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    silent = now - datetime.fromtimestamp(newest[0].event_log_entry.timestamp, UTC) if newest else SILENT_FOR
    if silent < SETTLED_AFTER:
        return None
    processes = processes_of(instance, run)
    if any(lives(process, at) for process, at in processes.items()):
        return None
    minutes = int(silent.total_seconds() // 60)
    if processes:
        return f"its process {', '.join(map(str, processes))} is gone, and its last event is {minutes} minutes old"
    return f"no process of it is known, and its last event is {minutes} minutes old" if silent >= SILENT_FOR else None


def processes_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[int, float]:
    """The ids of the processes that worked on a run, by its events, each with the newest moment (seconds since 1970)
    at which it lived."""
    processes: dict[int, float] = {}
    for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records:
        event = record.event_log_entry.dagster_event
        pid = cast(Any, event.event_specific_data).metadata.get("pid") if event else None
        if pid is not None and str(pid.value).isdigit():
            processes[int(str(pid.value))] = record.event_log_entry.timestamp
    return processes


def settle_lost_backfills(
    instance: dg.DagsterInstance, store: Warehouse, channels: Sequence[Channel], *, now: datetime
) -> list[str]:
    """Ends as failed the backfills that have had no run under way for SILENT_FOR, with an alert for each.

    It waits for something that never comes, such as a run that a person has deleted. One that a person has cancelled
    ends as cancelled, and nobody is alerted.
    """
    messages = []
    for backfill in instance.get_backfills(BulkActionsFilter(statuses=OPEN)):
        tags = {BACKFILL_ID_TAG: backfill.backfill_id}
        if instance.get_run_records(dg.RunsFilter(tags=tags, statuses=UNFINISHED), limit=1):
            continue
        newest = instance.get_run_records(dg.RunsFilter(tags=tags), limit=1)
        moments = [backfill.backfill_timestamp, *(record.end_time or 0.0 for record in newest)]
        if now - datetime.fromtimestamp(max(moments), UTC) < SILENT_FOR:
            continue
        is_cancelled = backfill.status == BulkActionStatus.CANCELING
        ended_backfill = backfill.with_status(BulkActionStatus.CANCELED if is_cancelled else BulkActionStatus.FAILED)
        instance.update_backfill(ended_backfill.with_end_timestamp(now.timestamp()))
        if is_cancelled:
            messages.append(f"backfill {backfill.backfill_id} was being cancelled, has no run, and is ended")
            continue
        minutes = int(SILENT_FOR.total_seconds() // 60)
        messages.append(f"backfill {backfill.backfill_id} was lost and is ended: no run of it for {minutes} minutes")
        text = f"{messages[-1]}\nlaunch what it left out again: a start of `make run` does"
        alert = Alert(f"backfill/{backfill.backfill_id}", "a backfill was lost", text, None, now)
        messages.append(raise_alarm(store, channels, alert, now=now))
    return messages
