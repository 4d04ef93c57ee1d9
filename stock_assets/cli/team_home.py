"""The storage of a team's Dagster: Postgres, and the guard in front of the web server as with the project's own.

In dagster.yaml:

    storage:
      custom:
        module: stock_assets.cli.team_home
        class: TeamStorage
        config: {postgres_url: {env: STOCK_ASSETS_DAGSTER}}
"""

import os
from collections.abc import Mapping
from typing import Any, Self

from stock_assets.cli.guard import guard_web_servers, require_token_beyond_loopback
from stock_assets.cli.home import one_line
from stock_assets.files import PRIVATE
from stock_assets.private.dagster import ConfigurableClassData
from stock_assets.settings import settings
from stock_assets.storage.postgres import BatchingPostgresStorage


class TeamStorage(BatchingPostgresStorage):
    """The batching Postgres storage. A web server that works on it answers through the guard.

    Raises SettingsError for an address without its driver, and where a web server is to listen beyond loopback without
    a token; both are one line on the terminal of a server.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        # what this process makes, and all that it starts, is its user's alone
        os.umask(PRIVATE)
        require_token_beyond_loopback(settings())
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        guard_web_servers()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        with one_line():
            return super().from_config_value(inst_data, config_value)
