"""Alerts and the table `alerts`: what is sent, what is kept quiet, what waits for a channel, what is over."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from stock_assets.lifecycle.alerts import (
    QUIET,
    Alert,
    Channel,
    Record,
    channels,
    delivered,
    noted,
    sent_again,
    to_send,
)
from stock_assets.lifecycle.tables import ALERTS
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


def channels_of(settings: Settings) -> tuple[Channel, ...]:
    """The channels that the settings name, the log first."""
    webhook = settings.alert_webhook
    return channels(str(webhook) if webhook else None, [url.get_secret_value() for url in settings.alert_urls])


def raise_alarm(
    store: Warehouse, channels: Sequence[Channel], alert: Alert, *, now: datetime, quiet: timedelta = QUIET
) -> str:
    """Sends `alert`, or keeps it quiet as a repetition; returns which, in words.

    Its row is written after the sending, so a process that dies between the two sends it again: at least once. Where
    the store cannot be read, it is sent all the same and may repeat an earlier one; the error is raised after that.
    """
    try:
        earlier = next(iter(read_records(store, [alert.key])), None)
    except Exception:
        delivered(noted(alert, None), channels, now)
        raise
    record = noted(alert, earlier)
    if not to_send(alert, earlier, quiet):
        write_record(store, record)
        return f"kept quiet: the same was sent at {record.sent_at:%Y-%m-%d %H:%M} UTC"
    after = delivered(record, channels, now)
    write_record(store, after)
    return "an alert was sent" if after.sent_at else "an alert could not be sent everywhere, and is tried again"


def send_pending(store: Warehouse, channels: Sequence[Channel], *, now: datetime) -> int:
    """Tries again to send what a channel did not take; returns the number of alerts that were sent.

    The first failure ends it: the channel is still away, and the other alerts wait for the next time.
    """
    sent = 0
    for record in read_records(store):
        if record.pending:
            after = sent_again(record, channels, now)
            if after.pending:
                break
            write_record(store, after)
            sent += 1
    return sent


def resolve(store: Warehouse, key: str, *, now: datetime) -> bool:
    """Marks the trouble `key` as over, so that it is sent at once when it returns; whether it was open."""
    open_records = [record for record in read_records(store, [key]) if record.resolved_at is None]
    for record in open_records:
        write_record(store, replace(record, resolved_at=now))
    return bool(open_records)


def read_records(store: Warehouse, keys: Sequence[str] | None = None) -> Iterator[Record]:
    """The table `alerts`, of `keys` or whole, the oldest trouble first."""
    rows = store.read_or(ALERTS.empty(), ALERTS.name)
    for row in rows.sort("first_at", "key").iter_rows(named=True):
        if keys is None or row["key"] in keys:
            alert = Alert(row["key"], row["title"], row["text"], row["run_id"], row["last_at"])
            yield Record(alert, row["first_at"], row["sent_at"], row["count"], row["resolved_at"])


def write_record(store: Warehouse, record: Record) -> None:
    """Puts `record` in the place of the row of its key."""
    alert = record.alert
    row = (alert.key, alert.title, alert.text, alert.run_id, record.first_at, alert.at, record.sent_at)
    frame = pl.DataFrame([(*row, record.count, record.resolved_at)], ALERTS.schema, orient="row")
    store.replace_rows(ALERTS.name, frame.select("key"), frame)
