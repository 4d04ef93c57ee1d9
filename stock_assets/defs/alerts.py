"""Who is told of what goes wrong: a failed run becomes one alert, and what could not be sent is tried again."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import dagster as dg
import polars as pl
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG as RANGE_END
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG as RANGE_START

from stock_assets.defs.tables import Clock
from stock_assets.errors import MissingTableError, StockAssetsError
from stock_assets.lifecycle.alerts import (
    QUIET,
    Alert,
    Channel,
    LogChannel,
    Record,
    WebhookChannel,
    delivered,
    fingerprint,
    noted,
    sent_again,
    to_send,
)
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

TABLE = "alerts"
#: Seconds that a sensor waits for the store. Dagster gives a tick 60 s, and one tick reports up to five failed runs.
PATIENCE = 3.0
#: Assets and offenders that a message names before it counts the rest.
NAMED = 4

_UTC = pl.Datetime("us", "UTC")
SCHEMA = {
    "key": pl.String,
    "title": pl.String,
    "text": pl.String,
    "run_id": pl.String,
    "first_at": _UTC,
    "last_at": _UTC,
    "sent_at": _UTC,
    "count": pl.Int64,
    "resolved_at": _UTC,
}


def alert_channels(settings: Settings) -> tuple[Channel, ...]:
    """The log, and the webhook of the settings where there is one."""
    webhook = settings.alert_webhook
    return (LogChannel(), *((WebhookChannel(str(webhook)),) if webhook else ()))


# ---------------------------------------------------------------- what is remembered


def raise_alarm(
    warehouse: Warehouse, channels: Sequence[Channel], alert: Alert, now: datetime, quiet: timedelta = QUIET
) -> str:
    """Sends `alert`, or keeps it quiet as a repetition; says which. Its row is written after the sending, so a process
    that dies between the two sends it again: at least once.

    Where the store cannot be read, it is sent all the same and may repeat one; the error is raised after that.
    """
    store = warehouse.patient(PATIENCE)
    try:
        earlier = next(iter(records(store, [alert.key])), None)
    except Exception:
        delivered(noted(alert, None), channels, now)
        raise
    record = noted(alert, earlier)
    if not to_send(alert, earlier, quiet):
        write(store, record)
        return f"kept quiet: the same was sent at {record.sent_at:%Y-%m-%d %H:%M} UTC"
    after = delivered(record, channels, now)
    write(store, after)
    return "an alert was sent" if after.sent_at else "an alert could not be sent everywhere, and is tried again"


def send_pending(warehouse: Warehouse, channels: Sequence[Channel], now: datetime) -> int:
    """Tries again to send what a channel did not take; the number of alerts that are out now.

    The first that fails again ends it: the channel is still away, and the others wait for the next tick.
    """
    store, sent = warehouse.patient(PATIENCE), 0
    for record in records(store):
        if record.pending:
            after = sent_again(record, channels, now)
            if after.pending:
                break
            write(store, after)
            sent += 1
    return sent


def resolve(warehouse: Warehouse, key: str, now: datetime) -> bool:
    """Marks the trouble `key` as over, so that it is told at once when it returns; whether it was open."""
    store = warehouse.patient(PATIENCE)
    open_ones = [record for record in records(store, [key]) if record.resolved_at is None]
    for record in open_ones:
        write(store, replace(record, resolved_at=now))
    return bool(open_ones)


def records(warehouse: Warehouse, keys: Sequence[str] | None = None) -> Iterator[Record]:
    """What is remembered, of `keys` or of all, the oldest first."""
    try:
        rows = warehouse.read(TABLE)
    except MissingTableError:
        return
    for row in rows.sort("first_at", "key").iter_rows(named=True):
        if keys is None or row["key"] in keys:
            alert = Alert(row["key"], row["title"], row["text"], row["run_id"], row["last_at"])
            yield Record(alert, row["first_at"], row["sent_at"], row["count"], row["resolved_at"])


def write(warehouse: Warehouse, record: Record) -> None:
    alert = record.alert
    row = (alert.key, alert.title, alert.text, alert.run_id, record.first_at, alert.at, record.sent_at)
    frame = pl.DataFrame([(*row, record.count, record.resolved_at)], SCHEMA, orient="row")
    warehouse.replace_rows(TABLE, frame.select("key"), frame)


# ---------------------------------------------------------------- failed runs


def alert_sensor() -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells a person of every failed run: what failed, for which sessions, and our own message. The same "
            "trouble is told once a day, however often it comes; what could not be sent is tried again by the sensor "
            "`freshness`. To the log, and to STOCK_ASSETS_ALERT_WEBHOOK where it is set."
        ),
    )
    def alert_on_failure(
        context: dg.RunFailureSensorContext,
        warehouse: dg.ResourceParam[Warehouse],
        channels: dg.ResourceParam[Sequence[Channel]],
        clock: dg.ResourceParam[Clock],
    ) -> None:
        # Dagster never comes back to a run whose sensor raised: whatever happens to the store, the alert is sent first
        now = clock()
        alert = alert_of_run(context.instance, context.dagster_run, context.failure_event.message or "", now)
        context.log.info(f"{alert.title}: {raise_alarm(warehouse, channels, alert, now)}")

    return alert_on_failure


def alert_of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, said: str, now: datetime) -> Alert:
    """One alert of a failed run: which assets and partitions, the first step that failed, our own message and the
    checks that stopped it. `said` is what Dagster said of a run in which no step failed, such as one that was killed.
    """
    steps = [event for event in _events(instance, run, dg.DagsterEventType.STEP_FAILURE) if event.step_key]
    if steps:
        step = str(steps[0].step_key)
        error = message_of(cast(Any, steps[0].event_specific_data).error)
    else:
        step, error = "run", said
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
        f"{what(run)} failed" + (f" for {partitions}" if (partitions := span(run)) else ""),
        "\n".join(lines),
        run.run_id,
        now,
    )


def message_of(error: Any) -> str:
    """'name: message' of the innermost StockAssetsError in the chain of a serialized error; without one, of the error
    that the code itself raised."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.cause or error.context
    ours = [link for link in chain if link.cls_name in _our_errors()]
    # the outermost is Dagster's own, which only says that a step failed
    link = ours[-1] if ours else chain[min(1, len(chain) - 1)]
    _, _, said = link.message.strip().partition(": ")  # before it stands the class with its module
    return f"{link.cls_name}: {said}"


def what(run: dg.DagsterRun) -> str:
    """The assets of a run, the first ones by name; else its job."""
    names = sorted(key.to_user_string() for key in run.asset_selection or ())
    if not names:
        return run.job_name
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def span(run: dg.DagsterRun) -> str:
    """The partitions of a run in words, empty where it has none."""
    first = run.tags.get(RANGE_START) or run.tags.get("dagster/partition") or ""
    last = run.tags.get(RANGE_END) or first
    return first if first == last else f"{first} to {last}"


def _events(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> Iterator[dg.DagsterEvent]:
    for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
        if record.event_log_entry.dagster_event:
            yield record.event_log_entry.dagster_event


def _offenders(check: dg.AssetCheckEvaluation) -> str:
    named = check.metadata.get("named")
    if named is None:
        return ""
    names = str(named.value).split(", ")
    return f" ({', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''})"


def _our_errors() -> set[str]:
    """The names of all errors that are raised on purpose: a serialized error keeps no more of its class."""

    def below(kind: type) -> Iterator[str]:
        yield kind.__name__
        for child in kind.__subclasses__():
            yield from below(child)

    return set(below(StockAssetsError))
