"""What is borrowed from the inside of dagster-postgres: its three storages, whose engine we replace.

Importing this file checks that what we override and use is there.
"""

from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_postgres.utils import (
    DagsterPostgresException,
    create_pg_engine,
    pg_url_from_config,
    retry_pg_connection_fn,
)
from dagster_postgres.version import __version__

from stock_assets.errors import PrivateApiError

#: The version that this was tried with; constraints.txt pins it.
TRIED_WITH = "0.29.27"

#: Members that our storages override or use, by class.
BORROWED = {
    PostgresEventLogStorage: (
        "_connect",
        "_store_asset_event",
        "_store_asset_event_tags",
        "has_asset_key_col",
        "index_transaction",
        "optimize_for_webserver",
        "supports_partition_subset_in_asset_materialization_planned_events",
    ),
    PostgresRunStorage: ("connect", "optimize_for_webserver"),
    PostgresScheduleStorage: ("connect", "optimize_for_webserver"),
    DagsterPostgresStorage: ("config_type", "event_storage_data"),
}

for _storage, _members in BORROWED.items():
    for _member in _members:
        if not hasattr(_storage, _member):
            raise PrivateApiError(
                f"dagster-postgres {__version__} has no {_storage.__name__}.{_member}, which stock_assets borrows and "
                f"has tried with {TRIED_WITH}; expected that version: pip install 'dagster-postgres=={TRIED_WITH}'"
            )
for _storage in (PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage):
    if "_engine" not in _storage.__init__.__code__.co_names:
        raise PrivateApiError(
            f"the constructor of {_storage.__name__} in dagster-postgres {__version__} sets no _engine, which "
            f"stock_assets replaces; expected version {TRIED_WITH}: pip install 'dagster-postgres=={TRIED_WITH}'"
        )

__all__ = [
    "DagsterPostgresException",
    "DagsterPostgresStorage",
    "PostgresEventLogStorage",
    "PostgresRunStorage",
    "PostgresScheduleStorage",
    "create_pg_engine",
    "pg_url_from_config",
    "retry_pg_connection_fn",
]
