"""`stock-assets status`: how things stand, from what is kept beside the store, and from the store where it is free."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from stock_assets.features.materialize import absent_of
from stock_assets.lifecycle.alert_book import AlertBook
from stock_assets.lifecycle.alert_text import line
from stock_assets.lifecycle.alerts import QUIET, Record
from stock_assets.lifecycle.freshness import GRACE, Freshness
from stock_assets.lifecycle.materialize.operations import freshness_of
from stock_assets.lifecycle.materialize.watch import look_at
from stock_assets.lifecycle.watch import DEAD, Look, file_of, read_look
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Seconds that the store is waited for.
PATIENCE = 2.0
#: Exit codes.
FRESH, LATE, BLIND = 0, 1, 2


@dataclass(frozen=True)
class ApiState:
    """The API that a server keeps alive."""

    url: str
    answers: bool


@dataclass(frozen=True)
class Status:
    """How things stand at a moment."""

    at: datetime
    source: str
    state: Freshness | None
    """None where nothing can be seen"""
    predicted_through: date | None
    trouble: str | None
    """why the store cannot be seen now; None where it was"""
    look: Look | None
    """what the sensor `freshness` saw last"""
    server: str | None
    """the process that serves, None without one"""
    api: "ApiState | None"
    """that of the API; None where none is to run"""
    expects_sessions: bool
    """whether new sessions are awaited, so that a daemon is needed"""
    open_alarms: list[Record]
    """troubles that last, the oldest first"""
    absent: Sequence[str] = ()
    """what the models lack; nothing while the store is busy"""

    @property
    def daemon_alive(self) -> bool:
        return self.look is not None and abs(self.at - self.look.ticked_at) < DEAD

    @property
    def alarms(self) -> list[Record]:
        """The open alarms that came within a day: of a run that a person started nobody knows when it is over."""
        return [record for record in self.open_alarms if record.pending or self.at - record.alert.at < QUIET]

    @property
    def code(self) -> int:
        """FRESH; LATE where a session is late, an alarm is open, the daemon that is needed is dead or the API does not
        answer; BLIND where that cannot be told."""
        if self.state is None:
            return BLIND
        dead = self.expects_sessions and not self.daemon_alive
        silent = self.api is not None and not self.api.answers
        return LATE if not self.state.fresh or self.alarms or dead or silent else FRESH

    def lines(self) -> Iterator[str]:
        """A line for a person about each."""
        if self.state is None:
            yield f"predictions: cannot be seen: {self.trouble}"
        else:
            yield f"predictions: {'fresh' if self.state.fresh else 'LATE'}: {self.state.reason}"
            if self.trouble:
                yield f"store: {self.trouble}; that is what the daemon saw"
        if self.look is None:
            yield "daemon: the sensor freshness has not looked yet"
        else:
            word = "alive" if self.daemon_alive else "DEAD"
            yield f"daemon: {word}: the sensor freshness looked {_ago(self.at - self.look.ticked_at)} ago"
        yield f"server: alive: process {self.server}" if self.server else "server: none is running"
        if self.api:
            yield f"API: {'answers' if self.api.answers else 'DOES NOT ANSWER'} at {self.api.url}"
        yield f"alarms: {len(self.alarms)} open" if self.alarms else "alarms: none"
        for record in self.alarms:
            waits = ", waits for a channel" if record.pending else ""
            yield f"  {line(record.alert.title)} (since {record.first_at:%Y-%m-%d %H:%M} UTC{waits})"
        yield from (f"inputs: {text}" for text in self.absent)

    def facts(self) -> dict[str, object]:
        """The same for a program, as JSON takes it."""
        state, look = self.state, self.look
        return {
            "code": self.code,
            "at": self.at.isoformat(),
            "source": self.source,
            "predicted_through": self.predicted_through and self.predicted_through.isoformat(),
            "fresh": state.fresh if state else None,
            "last_expected": state.last_expected.isoformat() if state and state.last_expected else None,
            "sessions_behind": state.sessions_behind if state else None,
            "reason": state.reason if state else None,
            "trouble": self.trouble,
            "daemon_alive": self.daemon_alive,
            "daemon_seconds": (self.at - look.ticked_at).total_seconds() if look else None,
            "server": self.server,
            "api": {"url": self.api.url, "answers": self.api.answers} if self.api else None,
            "alarms": [
                {
                    "key": record.alert.key,
                    "title": record.alert.title,
                    "first_at": record.first_at.isoformat(),
                    "last_at": record.alert.at.isoformat(),
                    "waits": record.pending,
                }
                for record in self.alarms
            ],
            "alerts_waiting": sum(record.pending for record in self.open_alarms),
            "absent": list(self.absent),
        }


def status_of(settings: Settings, *, now: datetime, server: str | None, api: ApiState | None = None) -> Status:
    """How things stand at `now`. For a store that is busy the last look answers, if it is within the grace period.

    Raises StockAssetsError for a file beside the store that is damaged.
    """
    store = Warehouse.of(settings)
    look = read_look(file_of(store.path))
    alarms = [entry.record for entry in AlertBook.beside(store.path).entries() if entry.record.resolved_at is None]
    state_of_store = look_at(store.patient(PATIENCE), look.predicted_through if look else None)
    last_predicted, trouble, blind = (
        state_of_store.predicted_through,
        state_of_store.trouble,
        state_of_store.trouble is not None,
    )
    if trouble is None and not store.exists():
        trouble, blind = f"there is no store at {store.place} yet: nothing has been materialized", True
    if state_of_store.busy and look and look.looked_at and now - look.looked_at < GRACE:
        last_predicted, blind = look.predicted_through, False
    state = None if blind else freshness_of(settings, last_predicted, now)
    absent_tables = [] if trouble else [str(table) for table in absent_of(store.patient(PATIENCE), settings)]
    return Status(
        now,
        settings.source,
        state,
        last_predicted,
        trouble,
        look,
        server,
        api,
        settings.end is None,
        alarms,
        absent_tables,
    )


def _ago(age: timedelta) -> str:
    """A duration in its largest unit.

    >>> _ago(timedelta(seconds=34)), _ago(timedelta(minutes=90)), _ago(timedelta(days=3))
    ('34 s', '90 min', '72 h')
    """
    seconds = int(age.total_seconds())
    if abs(seconds) < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if abs(seconds) < 7200 else f"{seconds // 3600} h"
