"""Alerts and the table `alerts`: what is sent, what is kept quiet, what waits for a channel, what is over.

The files of `AlertBook` decide, and the table is a copy of them: an alert never waits for the store.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import polars as pl

from stock_assets.lifecycle.alert_book import OPEN_ALERTS, AlertBook, resolved
from stock_assets.lifecycle.alerts import (
    LOG,
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
from stock_assets.objects import Place, put
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Dagster gives a tick 60 s: after so many, what waits is sent by the next one.
SENDING_SECONDS = 20.0
#: Exists once the alerts that an earlier version kept in the table alone are in the book.
IMPORTED = ".imported"


def channels_of(settings: Settings) -> tuple[Channel, ...]:
    """The channels that the settings name, the log first."""
    webhook = settings.alert_webhook
    return channels(str(webhook) if webhook else None, [url.get_secret_value() for url in settings.alert_urls])


def raise_alarm(
    store: Warehouse, channels: Sequence[Channel], alert: Alert, *, now: datetime, quiet: timedelta = QUIET
) -> str:
    """Sends `alert`, or keeps it quiet as a repetition; returns which, in words.

    It is in the book as pending before it is sent, so a process that is killed in between sends it again: at least
    once. The store need not be there: its row follows with `copy_to_table`.
    """
    book, trouble = open_book(store)
    with book.locked():
        entry = book.read(alert.key)
        earlier = entry.record if entry else None
        record = noted(alert, earlier)
        if to_send(alert, earlier, quiet):
            book.write(Record(alert, record.first_at, None, record.count, None, record.taken, record.refused))
            record = delivered(record, channels, now, quiet=quiet, away=book.away(now))
            outcome = "an alert was sent" if record.sent_at else "an alert waits for a channel, and is tried again"
        else:
            outcome = f"kept quiet: the same was sent at {record.sent_at:%Y-%m-%d %H:%M} UTC"
        book.write(record)
        book.show(now)
    return "; ".join([outcome, *([trouble] if trouble else copy_to_table(store))])


def sent_late(store: Warehouse, channels: Sequence[Channel], *, now: datetime) -> list[str]:
    """As `send_pending`, in words."""
    count = send_pending(store, channels, now=now)
    return [f"{count} alert(s) that had waited were sent"] if count else []


def send_pending(store: Warehouse, channels: Sequence[Channel], *, now: datetime) -> int:
    """Tries again to send what a channel did not take; returns the number of alerts that every channel has now.

    A channel that fails is asked once: the other alerts wait for the next time.
    """
    book, _ = open_book(store)
    count, away, deadline = 0, set(), time.monotonic() + SENDING_SECONDS
    with book.locked():
        for entry in book.entries():
            if not entry.record.pending or time.monotonic() > deadline:
                continue
            after = sent_again(entry.record, channels, now, away=away)
            away |= {label for label, at in after.refused.items() if at == now}
            book.write(after)
            count += not after.pending
        book.show(now)
    return count


def resolve(store: Warehouse, key: str, *, now: datetime) -> bool:
    """Marks the trouble `key` as over, so that it is sent at once when it returns; whether it was open."""
    book, _ = open_book(store)
    with book.locked():
        entry = book.read(key)
        if entry is None or entry.record.resolved_at is not None:
            return False
        book.write(resolved(entry.record, now))
        book.show(now)
    return True


def open_alerts(store: Warehouse) -> list[Record]:
    """The alerts of troubles that last, the oldest first. The store need not be there."""
    return [entry.record for entry in open_book(store)[0].entries() if entry.record.resolved_at is None]


def write_open_alerts(store: Warehouse, publication_folder: Place, *, now: datetime) -> None:
    """Writes the file of open alerts beside what is published, should it be lost or never have been written; also
    where that is not in the data folder. Raises BucketError."""
    book, _ = open_book(store)
    with book.locked():
        book.show(now)
        local_file = store.path.parent / OPEN_ALERTS
        name = OPEN_ALERTS.partition("/")[2]
        if publication_folder / name != local_file and local_file.exists():
            put(publication_folder / name, local_file.read_bytes())


def copy_to_table(store: Warehouse, now: datetime | None = None) -> list[str]:
    """Puts what the book holds and the table `alerts` does not into the table; why it could not, in words.

    With `now`, what has long been over is removed from the book.
    """
    book, trouble = open_book(store)
    if trouble:
        return [trouble]
    if not store.exists():  # one that was lost must not look as if it were new
        return ["its row follows when there is a store"]
    with book.locked():
        records = [entry.record for entry in book.entries() if not entry.stored]
        try:
            write_records(store, records)
        except Exception as error:
            LOG.warning("the table %s has %d alert(s) less than %s: %s", ALERTS.name, len(records), book.folder, error)
            return [f"its row follows, as the store cannot be written ({type(error).__name__})"]
        for record in records:
            book.write(record, is_stored=True)
        if now:
            book.forget(now)
    return []


def open_book(store: Warehouse) -> tuple[AlertBook, str | None]:
    """The book beside `store`, and why the alerts that an earlier version kept in the table alone are not in it yet."""
    book = AlertBook.beside(store.path)
    if (book.folder / IMPORTED).exists():
        return book, None
    try:
        with book.locked():
            for record in read_records(store):
                if record.resolved_at is None and book.read(record.alert.key) is None:
                    book.write(record, is_stored=True)
            (book.folder / IMPORTED).touch()
    except Exception as error:
        LOG.warning("the alerts of the table %s cannot be read: %s", ALERTS.name, error)
        return book, f"its row follows, as the store cannot be read ({type(error).__name__})"
    return book, None


def read_records(store: Warehouse) -> Iterator[Record]:
    """The table `alerts`, the oldest trouble first."""
    rows = store.read_or(ALERTS.empty(), ALERTS.name)
    for row in rows.sort("first_at", "key").iter_rows(named=True):
        alert = Alert(row["key"], row["title"], row["text"], row["run_id"], row["last_at"])
        yield Record(alert, row["first_at"], row["sent_at"], row["count"], row["resolved_at"])


def write_records(store: Warehouse, records: Sequence[Record]) -> None:
    """Puts `records` in the place of the rows of their keys, in one transaction."""
    if not records:
        return
    rows = [
        (a.key, a.title, a.text, a.run_id, r.first_at, a.at, r.sent_at, r.count, r.resolved_at)
        for r in records
        for a in [r.alert]
    ]
    frame = pl.DataFrame(rows, ALERTS.schema, orient="row")
    store.replace_rows(ALERTS.name, frame.select("key"), frame)
