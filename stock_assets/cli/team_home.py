"""The storage of a team's Dagster: Postgres, and the guard in front of the web server as with the project's own.

The project's dagster.yaml takes it where the setting `dagster` is an address of Postgres; any other one names it:

    storage:
      custom:
        module: stock_assets.cli.team_home
        class: TeamStorage
        config: {postgres_url: {env: STOCK_ASSETS_DAGSTER}}
"""

import os
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import make_url

from stock_assets.cli.home import is_daemon, one_line, prepare_process, project_home
from stock_assets.errors import StockAssetsError
from stock_assets.private.dagster import ConfigurableClassData
from stock_assets.settings import settings
from stock_assets.storage.platform_row import Platform, require_platform, shown
from stock_assets.storage.postgres import LINK, BatchingPostgresStorage

#: The lock of Postgres that the one daemon of a database holds.
_DAEMON_LOCK = 8_430_025_221
#: The databases that this process has looked at, and those that its daemon holds, with the connection of the lock.
_CHECKED: set[str] = set()
_DAEMONS: dict[str, Any] = {}


class TeamStorage(BatchingPostgresStorage):
    """The batching Postgres storage. A web server that works on it answers through the guard.

    Raises SettingsError for an address without its driver, for a database that this platform may not use
    (`storage.platform_row`), and where a web server is to listen beyond loopback without a token; StockAssetsError for
    a server that does not answer and for a second daemon. Each is one line on the terminal of a server.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        with one_line():
            prepare_process(project_home())
            if postgres_url not in _CHECKED:
                platform = Platform(settings().data_dir, settings().database)
                require_platform(postgres_url, platform, now=datetime.now(UTC))
                _CHECKED.add(postgres_url)
            if is_daemon(sys.argv) and postgres_url not in _DAEMONS:
                _DAEMONS[postgres_url] = lock_database(postgres_url)
            super().__init__(postgres_url, should_autocreate_tables, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        with one_line():
            return super().from_config_value(inst_data, config_value)


def lock_database(address: str) -> Any:
    """The connection that holds the lock of the one daemon of a database, until it is closed or its process ends.

    Raises StockAssetsError where the daemon of any host holds it: two would launch the same work twice.
    """
    import psycopg2

    url = make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"stock-assets daemon, process {os.getpid()} on {socket.gethostname()}"
    options: dict[str, Any] = {"application_name": name[:63], **LINK}
    connection = psycopg2.connect(url, **options)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_DAEMON_LOCK])
        (is_held,) = cursor.fetchall()[0]
        if is_held:
            return connection
        cursor.execute(
            "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'stock-assets daemon%'"
        )
        holders = ", ".join(name for (name,) in cursor.fetchall()) or "unknown"
    connection.close()
    raise StockAssetsError(
        f"another dagster-daemon works on {shown(address)} ({holders}), and two would launch the same work twice; stop "
        "it, or name another database in STOCK_ASSETS_DAGSTER"
    )
