"""What the sensor `freshness` saw last, kept in a file beside the store, and its word to a server outside.

Whoever watches must not depend on what is watched: the file tells since when nothing could be seen, though the store is
damaged or gone; the heartbeat stops when the daemon or the machine does.
"""

import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil

from stock_assets.addresses import redacted
from stock_assets.errors import OutgoingError, StockAssetsError
from stock_assets.files import write_file
from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.freshness import GRACE
from stock_assets.outgoing import call

#: The key of the alert about a look that failed.
BLIND = "freshness/look"
#: The daemon that has not ticked for so long is dead: the sensor looks every minute.
DEAD = timedelta(minutes=10)
HEARTBEAT_SECONDS = 5.0


@dataclass(frozen=True)
class Look:
    """What the newest ticks of `freshness` saw."""

    ticked_at: datetime
    """the newest tick, whether it saw anything or not"""
    looked_at: datetime | None = None
    """the newest that saw the store"""
    predicted_through: date | None = None
    """what it saw"""
    trouble: str | None = None
    """why the newest one saw nothing; None where it did"""
    blind_since: datetime | None = None
    """the first of the ticks in a row that saw nothing"""

    @property
    def seen(self) -> str:
        """What was seen last, in words."""
        if self.looked_at is None:
            return "the store was never seen"
        predictions = f"predictions through {self.predicted_through}" if self.predicted_through else "no predictions"
        return f"{predictions} were seen last, at {self.looked_at:%Y-%m-%d %H:%M} UTC"

    def blind(self, now: datetime, grace: timedelta = GRACE) -> bool:
        """Whether nothing could be seen for longer than `grace`."""
        return self.blind_since is not None and now - self.blind_since > grace


def next_look(earlier: Look | None, predicted_through: date | None, trouble: str | None, *, now: datetime) -> Look:
    """The look of a tick at `now`, after `earlier`: it saw `predicted_through`, or nothing because of `trouble`."""
    if trouble is None:
        return Look(now, now, predicted_through)
    before = earlier or Look(now)
    return Look(now, before.looked_at, before.predicted_through, trouble, before.blind_since or now)


def alert_of_blindness(look: Look) -> Alert:
    """The alert about a store that cannot be looked at."""
    text = f"{look.trouble}\nnothing could be seen since {look.blind_since:%Y-%m-%d %H:%M} UTC; {look.seen}"
    return Alert(BLIND, "whether the predictions are late cannot be seen", text, None, look.ticked_at)


def file_of(store: Path) -> Path:
    """The file beside the DuckDB file `store`."""
    return store.parent / "last_look.json"


def read_look(file: Path) -> Look | None:
    """What `file` holds, None without one. Raises StockAssetsError for a damaged one, which names it."""
    try:
        row = json.loads(file.read_bytes())
        moments = [
            row[name] and datetime.fromisoformat(row[name]) for name in ("ticked_at", "looked_at", "blind_since")
        ]
        if moments[0] is None or any(moment and moment.tzinfo is None for moment in moments):
            raise ValueError("a moment has no time zone")
        through = row["predicted_through"] and date.fromisoformat(row["predicted_through"])
        return Look(moments[0], moments[1], through, row["trouble"] and str(row["trouble"]), moments[2])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StockAssetsError(
            f"{file} is damaged ({error}); expected what the sensor freshness saw last. The next tick makes it again"
        ) from error


def write_look(file: Path, look: Look) -> None:
    """Puts `look` in the place of the file, whole or not at all."""
    row = {
        "ticked_at": look.ticked_at.isoformat(),
        "looked_at": look.looked_at and look.looked_at.isoformat(),
        "predicted_through": look.predicted_through and look.predicted_through.isoformat(),
        "trouble": look.trouble,
        "blind_since": look.blind_since and look.blind_since.isoformat(),
    }
    write_file(file, json.dumps(row, indent=1).encode())


def predicted_in(cursor: str | None) -> date | None:
    """The last predicted session that an earlier tick put into `cursor`.

    >>> predicted_in("True 2026-03-03 0"), predicted_in(None)
    (datetime.date(2026, 3, 3), None)
    """
    cursor_match = re.fullmatch(r"(?:True|False) (\d{4}-\d\d-\d\d) \d+", cursor or "")
    return date.fromisoformat(cursor_match[1]) if cursor_match else None


def lives(process: int, at: float) -> bool:
    """Whether the process that lived `at` that moment still does. A later one may have its number, after a restart of
    the machine or the container for sure."""
    try:
        current = psutil.Process(process)
        return current.create_time() <= at + 1 and current.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def heartbeat_address(url: str, good: bool, reason: str) -> str:
    """Where to send that a look was `good`, or that it was not and why.

    A push monitor of Uptime Kuma reads `status` and `msg`; of healthchecks.io and its like a bad one is `/fail`.

    >>> heartbeat_address("https://hc-ping.com/uuid", False, "late")
    'https://hc-ping.com/uuid/fail'
    >>> heartbeat_address("https://kuma/api/push/token?status=up&msg=OK&ping=", False, "1 late")
    'https://kuma/api/push/token?status=down&msg=1+late&ping='
    """
    parts = urlsplit(url)
    if "/api/push/" in parts.path:
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        query |= {"status": "up" if good else "down", "msg": "OK" if good else reason[:200]}
        return parts._replace(query=urlencode(query)).geturl()
    return url if good else parts._replace(path=parts.path.rstrip("/") + "/fail").geturl()


def send_heartbeat(url: str, good: bool, reason: str) -> str | None:
    """Sends it with a GET; what went wrong, in words, None where it arrived."""
    try:
        answer = call("GET", heartbeat_address(url, good, reason), seconds=HEARTBEAT_SECONDS)
    except OutgoingError as error:
        return f"the heartbeat was not sent: {error}"
    if not 200 <= answer.status < 300:
        return f"the heartbeat was not taken: {redacted(url)} answered {answer.status}; expected 2xx"
    return None
