"""The storage of a team's Dagster: Postgres, and the guard in front of the web server as with the project's own.

The project's dagster.yaml takes it where the setting `dagster` is an address of Postgres; any other one names it:

    storage:
      custom:
        module: stock_assets.cli.team_home
        class: TeamStorage
        config: {postgres_url: {env: STOCK_ASSETS_DAGSTER}}
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from stock_assets.cli.daemon_lock import DaemonLock
from stock_assets.cli.home import is_daemon, one_line, prepare_process, project_home
from stock_assets.private.dagster import ConfigurableClassData
from stock_assets.settings import settings
from stock_assets.storage.platform_row import Platform, require_platform
from stock_assets.storage.postgres import BatchingPostgresStorage

#: The databases that this process has looked at, and the locks of those whose daemon it is.
_CHECKED: set[str] = set()
_DAEMONS: dict[str, DaemonLock] = {}


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
                _DAEMONS[postgres_url] = DaemonLock(postgres_url)
                _DAEMONS[postgres_url].watch()
            super().__init__(postgres_url, should_autocreate_tables, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        with one_line():
            return super().from_config_value(inst_data, config_value)
