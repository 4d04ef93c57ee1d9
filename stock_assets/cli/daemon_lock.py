"""The lock of the one daemon of a database: held by a connection, and taken again where the server ends that.

Two daemons on one database would launch the same work twice.
"""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import make_url

from stock_assets.errors import StockAssetsError
from stock_assets.storage.postgres_link import plain_connection, shown

#: The number of the lock among Postgres' advisory locks.
NUMBER = 8_430_025_221
#: Seconds between two looks of a daemon at its lock.
LOOK_SECONDS = 5.0
_HOLDERS = """
SELECT activity.pid, activity.application_name FROM pg_locks locks JOIN pg_stat_activity activity USING (pid)
WHERE locks.locktype = 'advisory' AND locks.granted AND locks.database = activity.datid
AND (locks.classid::bigint << 32) + locks.objid::bigint = %s
"""


def lock_database(address: str) -> Any:
    """The connection that holds the lock of the one daemon of a database, until it is closed or its process ends.

    What is left on the server of an earlier connection of this process is ended: its host was cut off, and the server
    has not noticed yet. Raises StockAssetsError where the daemon of another process or host holds the lock, and where
    the server does not answer.
    """
    name = f"stock-assets daemon, process {os.getpid()} on {socket.gethostname()}"[:63]
    connection = plain_connection(make_url(address), name)
    holders: list[tuple[int, str]] = []
    with connection.cursor() as cursor:
        for _ in range(2):
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [NUMBER])
            if cursor.fetchall()[0][0]:
                return connection
            cursor.execute(_HOLDERS, [NUMBER])
            holders = cursor.fetchall()
            if not any(holder == name for _, holder in holders):
                break
            for pid, holder in holders:
                if holder == name:
                    cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
    connection.close()
    shown_holders = ", ".join(holder for _, holder in holders) or "unknown"
    raise StockAssetsError(
        f"another dagster-daemon works on {shown(address)} ({shown_holders}), and two would launch the same work "
        "twice; stop it, or name another database in STOCK_ASSETS_DAGSTER"
    )


class DaemonLock:
    """The lock, as the daemon of this process keeps it."""

    def __init__(self, address: str) -> None:
        """Takes the lock. Raises as `lock_database`."""
        self.address = address
        self.connection = lock_database(address)

    def keep(self) -> None:
        """Takes the lock again where its connection broke: the server lets go of it when it is started anew. Raises as
        `lock_database`."""
        import psycopg2

        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except psycopg2.Error:
            self.connection.close()
            self.connection = lock_database(self.address)

    def watch(self) -> None:
        """Keeps the lock in a thread of its own from now on; where it cannot be had, the daemon ends with one line."""
        threading.Thread(target=self._watch, name="daemon lock", daemon=True).start()

    def _watch(self) -> None:
        import psycopg2

        try:
            while True:
                time.sleep(LOOK_SECONDS)
                with suppress(psycopg2.Error):  # the link broke again: the next look takes the lock
                    self.keep()
        except StockAssetsError as error:
            print(f"dagster-daemon ends: {error}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
