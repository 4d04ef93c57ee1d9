"""Units of work that several hosts share, in the database of the team's Dagster.

A step that has units posts a batch of them; the processes of `stock-assets work` on other hosts, and the step itself,
take one after the other. A process holds an advisory lock for each of its units, which goes with its connection: where
the process is killed, or its host is lost, another takes the unit. The first result of a unit counts.

Every statement here leaves twice what it leaves once, but for the count of the processes at a unit, so that it is sent
again where a link broke.
"""

import secrets
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import make_url

from stock_assets.errors import StockAssetsError
from stock_assets.storage.postgres_link import BREAKS, plain_connection, shown

#: The first number of our advisory locks; the second is the unit, the batch (negative) or PRESENCE.
NAMESPACE = 843_002_522
#: The lock that every worker shares with the others.
PRESENCE = 0
#: Processes that may end at one unit before the step fails: what kills each needs more memory, not another process.
MOST_CLAIMS = 5
#: Seconds after a new link during which a process leaves units alone that others began.
GRACE_SECONDS = 15.0
_TABLES = """
SELECT pg_advisory_xact_lock(8430025220);
CREATE SEQUENCE IF NOT EXISTS stock_assets_work_number AS integer;
CREATE TABLE IF NOT EXISTS stock_assets_work_batches (
    batch integer PRIMARY KEY, kind text NOT NULL, lead text NOT NULL, about text, refusals text[] NOT NULL DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS stock_assets_work_units (
    unit integer PRIMARY KEY, batch integer NOT NULL REFERENCES stock_assets_work_batches ON DELETE CASCADE,
    place integer NOT NULL, spec text NOT NULL, worker text, claims integer NOT NULL DEFAULT 0, line text, result text,
    error text, UNIQUE (batch, place)
);
"""
_LOCKS = f"""
FROM pg_locks locks JOIN pg_database databases ON databases.oid = locks.database
WHERE databases.datname = current_database() AND locks.locktype = 'advisory' AND locks.granted
AND locks.objsubid = 2 AND locks.classid::bigint = {NAMESPACE} AND locks.objid::bigint =
"""
_UNIT_LOCKED = f"EXISTS (SELECT {_LOCKS} units.unit)"
_LEAD_LIVES = f"EXISTS (SELECT {_LOCKS} 4294967296 - batches.batch)"  # a negative number, as pg_locks shows it


class Claim(NamedTuple):
    """A unit that this process works on."""

    unit: int
    kind: str
    place: int
    """in the batch, from 0"""
    spec: str


class OpenBatch(NamedTuple):
    """A batch whose units workers may take."""

    batch: int
    kind: str
    about: str


class UnitState(NamedTuple):
    """How far a unit is."""

    place: int
    worker: str | None
    """that took it last"""
    line: str | None
    """what that worker reported last"""
    ended: bool
    error: str | None
    held: bool
    """whether a process works on it"""
    claims: int
    """the processes that began it"""


class WorkQueue:
    """The queue, as one process uses it: one connection, for all of its threads."""

    def __init__(self, address: str, role: str) -> None:
        """`role` is lead or worker. Raises StockAssetsError where the server does not answer."""
        self._url = make_url(address)
        # of this process alone: a new connection ends what is left of the one before
        self.name = f"{role} {socket.gethostname()[:24]} {secrets.token_hex(4)}"
        self._mutex = threading.RLock()
        self._locks: dict[int, bool] = {}
        self._closed = False
        self._connection: Any = self._connected()
        self._linked_at = -GRACE_SECONDS
        self._ask(_TABLES)

    def close(self) -> None:
        """Gives every unit of this process back, for good."""
        self._closed = True
        self._connection.close()

    # ------------------------------------------------------------ the lead of a batch

    def post(self, kind: str, specs: Sequence[str]) -> int:
        """The number of a new batch of units, which this process leads: none is taken once it has ended."""
        [(batch,)] = self._ask("SELECT nextval('stock_assets_work_number')::integer")
        self._lock(-batch)
        self._ask(
            "INSERT INTO stock_assets_work_batches (batch, kind, lead) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (batch, kind, self.name),
        )
        for place, spec in enumerate(specs):
            self._ask(
                "INSERT INTO stock_assets_work_units (unit, batch, place, spec) "
                "VALUES (nextval('stock_assets_work_number'), %s, %s, %s) ON CONFLICT DO NOTHING",
                (batch, place, spec),
            )
        return batch

    def publish(self, batch: int, about: str) -> None:
        """Lets workers take units of the batch; `about` is what they have to be given besides."""
        self._ask("UPDATE stock_assets_work_batches SET about = %s WHERE batch = %s", (about, batch))

    def remove(self, batch: int) -> None:
        """Removes the batch, whatever its units are."""
        self._ask("DELETE FROM stock_assets_work_batches WHERE batch = %s", (batch,))
        self._unlock(-batch)

    def leaderless(self) -> list[int]:
        """The batches whose lead was killed, which this process leads from now on, to remove them."""
        return [batch for (batch,) in self._ask("SELECT batch FROM stock_assets_work_batches") if self._lock(-batch)]

    def workers(self) -> int:
        """The worker processes that are connected."""
        return self._ask(f"SELECT count(*) {_LOCKS} {PRESENCE}")[0][0]

    def states(self, batch: int) -> list[UnitState]:
        """How far each unit is, in their order; none where the batch was removed."""
        statement = (
            f"SELECT place, worker, line, result IS NOT NULL OR error IS NOT NULL, error, {_UNIT_LOCKED}, claims "
            "FROM stock_assets_work_units units WHERE batch = %s ORDER BY place"
        )
        return [UnitState(*row) for row in self._ask(statement, (batch,))]

    def refusals(self, batch: int) -> list[str]:
        """Why workers refused the batch, one line each."""
        rows = self._ask("SELECT refusals FROM stock_assets_work_batches WHERE batch = %s", (batch,))
        return rows[0][0] if rows else []

    def results(self, batch: int) -> list[str | None]:
        """The result of each unit, in their order."""
        statement = "SELECT result FROM stock_assets_work_units WHERE batch = %s ORDER BY place"
        return [result for (result,) in self._ask(statement, (batch,))]

    # ------------------------------------------------------------ whoever works

    def claim(self, batch: int) -> Claim | None:
        """The first unit of the batch that none works on and that has no result, which this process works on from now
        on; None where there is none.

        After a new link, units that were begun are left to their processes for GRACE_SECONDS: where the server was
        started anew, all of them lost their locks.
        """
        free = self._ask(
            "SELECT unit, claims FROM stock_assets_work_units units WHERE batch = %s AND result IS NULL "
            f"AND error IS NULL AND claims < %s AND NOT {_UNIT_LOCKED} ORDER BY place",
            (batch, MOST_CLAIMS),
        )
        link_is_new = time.monotonic() < self._linked_at + GRACE_SECONDS
        for unit, claims in free:
            if (claims and link_is_new) or not self._lock(unit):
                continue
            rows = self._ask(
                "UPDATE stock_assets_work_units SET worker = %s, claims = claims + 1, line = NULL "
                "FROM stock_assets_work_batches batches WHERE unit = %s AND result IS NULL AND error IS NULL "
                "AND batches.batch = stock_assets_work_units.batch RETURNING kind, place, spec",
                (self.name, unit),
            )
            if rows:
                return Claim(unit, *rows[0])
            self._unlock(unit)
        return None

    def is_held(self, claim: Claim) -> bool:
        """Whether the unit is still this process's: it was not removed, nor given to another while the link was cut."""
        rows = self._ask("SELECT 1 FROM stock_assets_work_units WHERE unit = %s", (claim.unit,))
        with self._mutex:
            return bool(rows) and claim.unit in self._locks

    def finish(self, claim: Claim, result: str) -> None:
        """Keeps the result, unless another process was first."""
        self._ask(
            "UPDATE stock_assets_work_units SET result = %s, worker = %s "
            "WHERE unit = %s AND result IS NULL AND error IS NULL",
            (result, self.name, claim.unit),
        )
        self._unlock(claim.unit)

    def fail(self, claim: Claim, error: str) -> None:
        """Ends the unit, and with it the batch, by an error in one line."""
        self._ask(
            "UPDATE stock_assets_work_units SET error = %s WHERE unit = %s AND result IS NULL", (error, claim.unit)
        )
        self._unlock(claim.unit)

    def give_back(self, claim: Claim) -> None:
        """Lets others take the unit."""
        self._unlock(claim.unit)

    # ------------------------------------------------------------ a worker

    def enrol(self) -> None:
        """Counts this process among the workers until it ends."""
        self._lock(PRESENCE, shared=True)

    def open_batches(self) -> list[OpenBatch]:
        """The batches with a living lead whose units workers may take, oldest first."""
        statement = (
            "SELECT batch, kind, about FROM stock_assets_work_batches batches WHERE about IS NOT NULL "
            f"AND {_LEAD_LIVES} ORDER BY batch"
        )
        return [OpenBatch(*row) for row in self._ask(statement)]

    def report(self, claim: Claim, line: str) -> None:
        """Shows the lead how far a unit is."""
        self._ask("UPDATE stock_assets_work_units SET line = %s WHERE unit = %s", (line, claim.unit))

    def refuse(self, batch: int, line: str) -> None:
        """Shows the lead why this worker takes none of its units."""
        self._ask(
            "UPDATE stock_assets_work_batches SET refusals = refusals || %s::text "
            "WHERE batch = %s AND NOT %s = ANY (refusals)",
            (line, batch, line),
        )

    # ------------------------------------------------------------ the connection

    def _ask(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple]:
        """The rows of a statement, which is sent again over a new link where the old one broke."""
        import psycopg2

        with self._mutex:
            for remaining_tries in range(BREAKS, -1, -1):
                try:
                    with self._connection.cursor() as cursor:
                        cursor.execute(statement, parameters or None)
                        return cursor.fetchall() if cursor.description else []
                except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
                    if self._closed:
                        raise StockAssetsError(f"{self.name} was closed, and works no more") from error
                    if not remaining_tries:
                        raise StockAssetsError(
                            f"{shown(self._url)} broke the link {BREAKS + 1} times at one statement: {error}"
                        ) from error
                self._renew()
        raise AssertionError("the last try returns or raises")

    def _connected(self) -> Any:
        return plain_connection(self._url, f"stock-assets {self.name}")

    def _renew(self) -> None:
        """A new connection with the locks of the old one, but for those that others took meanwhile. What is left of
        the old one on the server, which has not noticed yet, is ended."""
        import psycopg2

        locks, self._locks = self._locks, {}
        self._connection.close()
        self._connection, self._linked_at = self._connected(), time.monotonic()
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                    "WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
                )
                for key, shared in locks.items():
                    cursor.execute(_try_lock(shared), (NAMESPACE, key))
                    if cursor.fetchall()[0][0]:
                        self._locks[key] = shared
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._locks = locks  # it broke again: the next statement finds out
            time.sleep(0.2)

    def _lock(self, key: int, *, shared: bool = False) -> bool:
        """Whether this process now holds a lock that none of its threads held."""
        with self._mutex:
            if key in self._locks or not self._ask(_try_lock(shared), (NAMESPACE, key))[0][0]:
                return False
            self._locks[key] = shared
            return True

    def _unlock(self, key: int) -> None:
        with self._mutex:
            if self._locks.pop(key, None) is not None:
                self._ask("SELECT pg_advisory_unlock(%s, %s)", (NAMESPACE, key))


def _try_lock(shared: bool) -> str:
    return f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}(%s, %s)"
