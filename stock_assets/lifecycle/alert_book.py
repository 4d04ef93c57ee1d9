"""Alerts in files beside the store, one per trouble: they need no store to be written, sent and sent again.

The table `alerts` is a copy of them, written when the store is free.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from stock_assets.files import TEMPORARY, locked, make_folder, write_file
from stock_assets.lifecycle.alerts import AWAY, LOG, Alert, Record

#: The open alerts and those that ended lately, below the data folder: a copy of the book for whoever shows them, beside
#: what is published.
OPEN_ALERTS = "published/live/alerts.json"
#: So long what is over is shown there.
SHOWN = timedelta(days=7)
#: What is over is forgotten after so long; the table keeps it.
KEPT = timedelta(days=30)
#: The records of this process whose file could not be written (a full disk), by their file: without them an alert would
#: be sent again every minute.
_UNWRITTEN: dict[Path, "Entry"] = {}


@dataclass(frozen=True)
class Entry:
    """The record of a trouble, and whether the table `alerts` holds it as it is."""

    record: Record
    stored: bool = False


@dataclass(frozen=True)
class AlertBook:
    """The entries in `folder`."""

    folder: Path

    @classmethod
    def beside(cls, store: Path) -> "AlertBook":
        """The book of the store whose DuckDB file is `store`."""
        return cls(store.parent / "alerts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process or thread at a time; the kernel gives the lock back should it be killed.

        Where the folder cannot be made or written, nothing is locked: an alert is sent all the same.
        """
        with ExitStack() as stack:
            try:
                make_folder(self.folder)
                stack.enter_context(locked(self.folder / ".lock"))
            except OSError as error:
                LOG.error("ALERT book %s cannot be locked: %s", self.folder, error)
            yield

    def read(self, key: str) -> Entry | None:
        """The entry of a trouble; None without one."""
        return self._read(self._file(key))

    def entries(self) -> list[Entry]:
        """Every entry, the oldest trouble first."""
        # one that is being written has another name, and whoever reads without the lock may see it
        files = {file for file in self.folder.glob("*.json") if not file.name.startswith(TEMPORARY)}
        files |= {file for file in _UNWRITTEN if file.parent == self.folder}
        readable_entries = [entry for file in files if (entry := self._read(file))]
        return sorted(readable_entries, key=lambda entry: (entry.record.first_at, entry.record.alert.key))

    def write(self, record: Record, *, is_stored: bool = False) -> None:
        """Puts `record` in the place of the entry of its key. Where no file can be written this process remembers it,
        and the log says so."""
        file, entry = self._file(record.alert.key), Entry(record, is_stored)
        try:
            write_file(file, json.dumps(_as_json(entry), indent=1).encode())
        except OSError as error:
            LOG.error("ALERT %s cannot be kept in %s: %s", record.alert.key, self.folder, error)
            _UNWRITTEN[file] = entry
        else:
            _UNWRITTEN.pop(file, None)

    def show(self, now: datetime) -> None:
        """Writes OPEN_ALERTS, where that differs from what is there. Where it cannot be written, the log says so: an
        alert is sent all the same."""
        records = [
            entry.record
            for entry in self.entries()
            if entry.record.resolved_at is None or now - entry.record.resolved_at <= SHOWN
        ]
        content = json.dumps({"alerts": [_json_of_record(record) for record in records]}, ensure_ascii=False).encode()
        file = self.folder.parent / OPEN_ALERTS
        try:
            if not file.exists() or file.read_bytes() != content:
                write_file(file, content)
        except OSError as error:
            LOG.error("ALERT %s cannot be written: %s", file, error)

    def forget(self, now: datetime) -> None:
        """Removes what has been over for KEPT and is in the table."""
        for entry in self.entries():
            resolved_at = entry.record.resolved_at
            if entry.stored and resolved_at is not None and now - resolved_at > KEPT:
                self._file(entry.record.alert.key).unlink(missing_ok=True)

    def away(self, now: datetime) -> set[str]:
        """The labels of the channels that failed within AWAY."""
        return {
            label
            for entry in self.entries()
            for label, at in entry.record.refused.items()
            if timedelta(0) <= now - at < AWAY
        }

    def _file(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"

    def _read(self, file: Path) -> Entry | None:
        """A file that is damaged is put aside, and the log says so: it must not silence the others."""
        if file in _UNWRITTEN:
            return _UNWRITTEN[file]
        try:
            return _from_json(json.loads(file.read_bytes()))
        except FileNotFoundError:
            return None
        except (IsADirectoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            LOG.error("ALERT file %s is damaged and put aside: %s", file, error)
            file.replace(file.with_suffix(".damaged"))
            return None


def resolved(record: Record, now: datetime) -> Record:
    """`record` of a trouble that is over."""
    return replace(record, resolved_at=now)


def _json_of_record(record: Record) -> dict[str, object]:
    alert = record.alert
    return {
        "key": alert.key,
        "title": alert.title,
        "text": alert.text,
        "run_id": alert.run_id,
        "first_at": record.first_at.isoformat(),
        "last_at": alert.at.isoformat(),
        "count": record.count,
        "resolved_at": record.resolved_at and record.resolved_at.isoformat(),
    }


def _as_json(entry: Entry) -> dict[str, object]:
    record, alert = entry.record, entry.record.alert
    return {
        "key": alert.key,
        "title": alert.title,
        "text": alert.text,
        "run_id": alert.run_id,
        "at": alert.at.isoformat(),
        "first_at": record.first_at.isoformat(),
        "sent_at": record.sent_at and record.sent_at.isoformat(),
        "count": record.count,
        "resolved_at": record.resolved_at and record.resolved_at.isoformat(),
        "taken": {label: at.isoformat() for label, at in record.taken.items()},
        "refused": {label: at.isoformat() for label, at in record.refused.items()},
        "stored": entry.stored,
    }


def _from_json(row: dict[str, object]) -> Entry:
    def moment(text: object) -> datetime:
        at = datetime.fromisoformat(str(text))
        if at.tzinfo is None:
            raise ValueError(f"{text} has no time zone")
        return at

    def moments(row: object) -> dict[str, datetime]:
        return {str(label): moment(at) for label, at in row.items()}  # pyright: ignore[reportAttributeAccessIssue]

    run_id = row["run_id"]
    alert = Alert(
        str(row["key"]), str(row["title"]), str(row["text"]), None if run_id is None else str(run_id), moment(row["at"])
    )
    sent_at, resolved_at = row["sent_at"], row["resolved_at"]
    record = Record(
        alert,
        moment(row["first_at"]),
        moment(sent_at) if sent_at else None,
        int(str(row["count"])),
        moment(resolved_at) if resolved_at else None,
        moments(row["taken"]),
        moments(row["refused"]),
    )
    return Entry(record, bool(row["stored"]))
