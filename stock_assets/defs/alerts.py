"""The sensor that reports failed runs: each becomes one alert."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, cast

import dagster as dg

from stock_assets.defs.sensors import PATIENCE
from stock_assets.defs.tables import Clock
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.alerts import Alert, Channel, fingerprint
from stock_assets.lifecycle.evening import INTERRUPTED
from stock_assets.lifecycle.materialize.alerts import raise_alarm
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_END_TAG as RANGE_END
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_START_TAG as RANGE_START
from stock_assets.private.dagster import PARTITION_NAME_TAG
from stock_assets.storage.warehouse import Warehouse

#: Assets and offenders that a message names before it counts the rest.
NAMED = 4


def alert_sensor() -> dg.SensorDefinition:
    """The sensor `alert_on_failure`."""

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Sends an alert for every failed run: what failed, for which sessions, and our own message. The same "
            "trouble is sent once a day, however often it comes; a run that ended with its server, as at a Ctrl-C, is "
            "none. The sensor `freshness` tries again what could not be sent. Alerts go to the log, to "
            "STOCK_ASSETS_ALERT_WEBHOOK and to every address in STOCK_ASSETS_ALERT_URLS."
        ),
    )
    def alert_on_failure(
        context: dg.RunFailureSensorContext,
        warehouse: dg.ResourceParam[Warehouse],
        channels: dg.ResourceParam[Sequence[Channel]],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        run, now = context.dagster_run, clock()
        if INTERRUPTED in run.tags:
            context.log.info(f"run {run.run_id} ended with its server: nobody is alerted, and it is tried again")
            return
        # Dagster never comes back to a run whose sensor raised: whatever happens, an alert is sent
        try:
            alert = alert_of_run(context.instance, run, context.failure_event.message or "", now=now)
        except Exception as error:
            context.log.exception("the events of the failed run cannot be read")
            alert = bare_alert(run, error, now=now)
        context.log.info(f"{alert.title}: {raise_alarm(warehouse.patient(PATIENCE), channels, alert, now=now)}")

    return alert_on_failure


def alert_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str, *, now: datetime) -> Alert:
    """The alert of a failed run: its assets and partitions, the first step that failed, our own message and the checks
    that stopped it. `message` is Dagster's about a run in which no step failed, such as one that was killed.
    """
    steps = [event for event in _events(instance, run, dg.DagsterEventType.STEP_FAILURE) if event.step_key]
    if steps:
        step = str(steps[0].step_key)
        error = message_of(steps[0])
    else:
        step, error = "run", message
    checks = [
        f"{check.asset_key.to_user_string()}:{check.check_name}{_offenders(check)}"
        for event in _events(instance, run, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if not (check := cast(dg.AssetCheckEvaluation, event.event_specific_data)).passed
        and check.severity == dg.AssetCheckSeverity.ERROR
    ]
    lines = [f"{step}: {error}", *(f"blocked by {check}" for check in checks), f"run {run.run_id}"]
    names = [name.split("(")[0].strip() for name in checks]
    return Alert(
        fingerprint(run.job_name, step, f"{error} {' '.join(names)}"),
        f"{assets_of(run)} failed" + (f" for {partitions}" if (partitions := partitions_of(run)) else ""),
        "\n".join(lines),
        run.run_id,
        now,
    )


def bare_alert(run: dg.DagsterRun, error: Exception, *, now: datetime) -> Alert:
    """The alert of a failed run whose events cannot be read because of `error`."""
    reason = f"why is not known, as Dagster's events cannot be read: {type(error).__name__}: {error}"
    return Alert(
        f"{run.job_name}/run/unreadable", f"{assets_of(run)} failed", f"{reason}\nrun {run.run_id}", run.run_id, now
    )


def message_of(failure: dg.DagsterEvent) -> str:
    """'name: message' of the innermost StockAssetsError in the chain of errors of a failed step; without one, of the
    error that the code itself raised."""
    chain, error = [], cast(Any, failure.event_specific_data).error
    while error is not None:
        chain.append(error)
        error = error.cause or error.context
    # a serialized error keeps no more of its class than the name
    names = {kind.__name__ for kind in (StockAssetsError, *StockAssetsError.descendants())}
    own_errors = [link for link in chain if link.cls_name in names]
    # the outermost is Dagster's own: that a step failed
    link = own_errors[-1] if own_errors else chain[min(1, len(chain) - 1)]
    _, _, message = link.message.strip().partition(": ")  # before it stands the class with its module
    return f"{link.cls_name}: {message}"


def assets_of(run: dg.DagsterRun) -> str:
    """The assets of a run, the first ones by name; else its job."""
    names = sorted(key.to_user_string() for key in run.asset_selection or ())
    if not names:
        return run.job_name
    further_assets = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + further_assets


def partitions_of(run: dg.DagsterRun) -> str:
    """The partitions of a run in words, empty where it has none."""
    first = run.tags.get(RANGE_START) or run.tags.get(PARTITION_NAME_TAG) or ""
    last = run.tags.get(RANGE_END) or first
    return first if first == last else f"{first} to {last}"


def _events(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> Iterator[dg.DagsterEvent]:
    for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
        if record.event_log_entry.dagster_event:
            yield record.event_log_entry.dagster_event


def _offenders(check: dg.AssetCheckEvaluation) -> str:
    named_offenders = check.metadata.get("named")
    if named_offenders is None:
        return ""
    names = str(named_offenders.value).split(", ")
    return f" ({', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''})"
