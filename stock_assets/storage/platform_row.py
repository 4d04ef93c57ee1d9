"""What a platform asks of Dagster's Postgres database before it works on it: that the server is new enough, that its
clock is that of this host, and that no other platform has it.

The table `stock_assets_platform` has one row, which names the platform whose database this is. A platform's identity is
a file in its data folder, which is made with the row, and which moves and is restored with the folder.
"""

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from stock_assets.errors import SettingsError
from stock_assets.files import write_file
from stock_assets.storage.postgres import pooled_engine
from stock_assets.storage.postgres_link import linked, shown
from stock_assets.tables import SCHEMA_VERSION

#: The file in the data folder with the identity of its platform.
IDENTITY = "platform_id"
#: The oldest server that the tests run on.
OLDEST_SERVER = 15
#: Seconds by which the clock of a host may differ from the database's: beyond, sessions close at other times.
MOST_SKEW = 60.0
_TABLE = """
CREATE TABLE IF NOT EXISTS stock_assets_platform (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), platform text NOT NULL, host text NOT NULL,
    data_dir text NOT NULL, schema_version integer NOT NULL, package text NOT NULL, since timestamptz NOT NULL
)
"""


@dataclass(frozen=True)
class Platform:
    """The platform of this process, as it stands beside Dagster's database."""

    data_dir: Path
    store: Path

    @property
    def identity(self) -> str | None:
        """None where this data folder never worked on a database."""
        file = self.data_dir / IDENTITY
        return file.read_text().strip() if file.exists() else None


def require_platform(address: str, platform: Platform, *, now: datetime) -> None:
    """Checks the database at `address`, and has it belong to `platform` where it belongs to none.

    A host without a store, such as one that only runs the web server, works on a database of any platform. Raises
    SettingsError for an old server, for a clock that differs at `now`, and for the database of another platform or of a
    newer stock_assets; StockAssetsError for a server that does not answer. No password is shown.
    """
    with connected(address) as connection:
        require_server(connection, address)
        require_same_clock(connection, address, now=now)
        _require_own_row(connection, address, platform, now=now)


def require_no_other_platform(address: str, platform: Platform, *, now: datetime) -> None:
    """As `require_platform`, and writes nothing; a database with the row of any other platform is refused."""
    with connected(address) as connection:
        require_server(connection, address)
        require_same_clock(connection, address, now=now)
        if (row := _row(connection)) is not None:
            _require_known_schema(row, address)
            _require_row_of(platform, row, address)


def require_same_database(address: str, *, now: datetime) -> None:
    """As `require_platform` of a host without a store, and writes nothing: the database is that of any platform, or of
    none yet."""
    with connected(address) as connection:
        require_server(connection, address)
        require_same_clock(connection, address, now=now)
        if (row := _row(connection)) is not None:
            _require_known_schema(row, address)


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    """A connection of this process to the database, in autocommit mode. A server that restarts is waited for. Raises
    StockAssetsError where it does not answer, or refuses."""
    with linked(pooled_engine(address)) as connection:
        yield connection


def require_server(connection: Connection, address: str) -> None:
    """Raises SettingsError for a server that is older than OLDEST_SERVER."""
    number, name = connection.exec_driver_sql(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
    ).one()
    if number // 10_000 < OLDEST_SERVER:
        raise SettingsError(
            f"the server of {shown(address)} is PostgreSQL {name}; expected {OLDEST_SERVER} or newer: upgrade it"
        )


def require_same_clock(connection: Connection, address: str, *, now: datetime) -> None:
    """Raises SettingsError where `now`, the time of this host, is not the server's: hosts whose clocks differ close a
    session at different times, and one would predict what the other has not fetched."""
    server_time = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    seconds = (now - server_time).total_seconds()
    if abs(seconds) > MOST_SKEW:
        raise SettingsError(
            f"the clock of this host ({socket.gethostname()}) is {abs(seconds):.0f} s "
            f"{'ahead of' if seconds > 0 else 'behind'} that of {shown(address)}: {now.astimezone(UTC):%FT%TZ} here, "
            f"{server_time.astimezone(UTC):%FT%TZ} there; expected at most {MOST_SKEW:.0f} s. Have both follow a time "
            "server (NTP)"
        )


def _require_own_row(connection: Connection, address: str, platform: Platform, *, now: datetime) -> None:
    row = _row(connection)
    if row is None:
        identity = platform.identity or str(uuid.uuid4())
        connection.exec_driver_sql(_TABLE)
        connection.exec_driver_sql(
            "INSERT INTO stock_assets_platform (platform, host, data_dir, schema_version, package, since) "
            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                identity,
                socket.gethostname(),
                str(platform.data_dir.absolute()),
                SCHEMA_VERSION,
                version("stock_assets"),
                now,
            ),
        )
        row = _row(connection)
        assert row is not None
        if row.platform == identity and platform.identity is None:
            write_file(platform.data_dir / IDENTITY, f"{identity}\n".encode())
    _require_known_schema(row, address)
    if platform.identity is None and not platform.store.exists():
        return
    _require_row_of(platform, row, address)
    if row.schema_version < SCHEMA_VERSION:
        connection.exec_driver_sql(
            "UPDATE stock_assets_platform SET schema_version = %s, package = %s WHERE schema_version < %s",
            (SCHEMA_VERSION, version("stock_assets"), SCHEMA_VERSION),
        )


def _require_known_schema(row: Row[Any], address: str) -> None:
    if row.schema_version > SCHEMA_VERSION:
        raise SettingsError(
            f"{shown(address)} is the database of stock_assets {row.package}, whose schema version is "
            f"{row.schema_version}; this one has {SCHEMA_VERSION}: install the newer version on this host"
        )


def _require_row_of(platform: Platform, row: Row[Any], address: str) -> None:
    if platform.identity != row.platform:
        raise SettingsError(
            f"{shown(address)} is the database of another platform: that of {row.data_dir} on {row.host}, since "
            f"{row.since.astimezone(UTC):%F}; expected that of {platform.data_dir}. Make a database for each "
            "platform, and name it in STOCK_ASSETS_DAGSTER"
        )


def _row(connection: Connection) -> Row[Any] | None:
    if connection.exec_driver_sql("SELECT to_regclass('stock_assets_platform')").scalar() is None:
        return None
    return connection.exec_driver_sql("SELECT * FROM stock_assets_platform").one_or_none()
