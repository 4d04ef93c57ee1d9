"""What we borrow from inside Dagster: the only file of the package that names a module `dagster._…`.

    from stock_assets.private.dagster import SqliteEventLogStorage

A symbol is looked up when a file imports it, so that loading the asset graph does not bring the storages along. If it
is gone, the import raises PrivateApiError, which names the symbol, the version it was tried with and the way out.
"""

import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import wraps
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import dagster as dg

from stock_assets.errors import PrivateApiError

if TYPE_CHECKING:
    from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
    from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
    from dagster._core.definitions.metadata import normalize_metadata
    from dagster._core.events import (
        ASSET_CHECK_EVENTS,
        ASSET_EVENTS,
        BATCH_WRITABLE_EVENTS,
        EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
        AssetMaterializationPlannedData,
    )
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
    from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator
    from dagster._core.scheduler import DagsterDaemonScheduler
    from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
    from dagster._core.storage.base_storage import DagsterStorage
    from dagster._core.storage.event_log.schema import (
        AssetCheckExecutionsTable,
        AssetEventTagsTable,
        SqlEventLogStorageMetadata,
        SqlEventLogStorageTable,
    )
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
    from dagster._core.storage.runs.schema import RunStorageSqlMetadata
    from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
    from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata
    from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
    from dagster._core.storage.sql import get_alembic_config
    from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
    from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
    from dagster._core.storage.tags import (
        ASSET_PARTITION_RANGE_END_TAG,
        ASSET_PARTITION_RANGE_START_TAG,
        BACKFILL_ID_TAG,
        PARTITION_NAME_TAG,
    )
    from dagster._serdes import ConfigurableClassData, serialize_value

#: The version of Dagster that every symbol below was tried with; constraints.txt pins it.
TRIED_WITH = "1.13.27"

__all__ = [
    "ASSET_CHECK_EVENTS",
    "ASSET_EVENTS",
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "BACKFILL_ID_TAG",
    "BATCH_WRITABLE_EVENTS",
    "EVENT_TYPE_TO_PIPELINE_RUN_STATUS",
    "IMPLICIT_ASSET_JOB_NAME",
    "INDEX_SHARD_NAME",
    "IS_DEV_SERVER",
    "PARTITION_NAME_TAG",
    "SQLITE_BUSY_TIMEOUT_SECONDS",
    "AssetCheckEvaluationPlanned",
    "AssetCheckExecutionRecordStatus",
    "AssetCheckExecutionsTable",
    "AssetEventTagsTable",
    "AssetMaterializationPlannedData",
    "AssetMetadataHandle",
    "BulkActionStatus",
    "BulkActionsFilter",
    "ConfigurableClassData",
    "DagsterDaemonScheduler",
    "DagsterSqliteStorage",
    "DagsterStorage",
    "LocalComputeLogManager",
    "OutputMetadataAccumulator",
    "RunStorageSqlMetadata",
    "ScheduleStorageSqlMetadata",
    "SqlEventLogStorageMetadata",
    "SqlEventLogStorageTable",
    "SqliteEventLogStorage",
    "SqliteRunStorage",
    "SqliteScheduleStorage",
    "add_partition_metadata",
    "filter_partitions_at_once",
    "get_alembic_config",
    "normalize_metadata",
    "serialize_value",
    "set_backfill_interval",
    "set_run_processes",
    "wrap_web_server",
]


class Borrowed(NamedTuple):
    """One symbol of `module`, why we need it, and which of its members we override or use."""

    module: str
    why: str
    members: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    """of its instances, set by its constructor"""


_TAGS = Borrowed("dagster._core.storage.tags", "the tags of a run over a range of partitions have no public name")
_SCHEMA = Borrowed("dagster._core.storage.event_log.schema", "the batching event log inserts many rows at once")
_MOVED = "a move between a folder and a database, and a backup of a database, copy every row"
_BACKFILLS = Borrowed(
    "dagster._core.execution.backfill", "whether a backfill is under way; get_backfills() takes no public filter"
)
_SQLITE = "dagster._core.storage"
_METADATA = Borrowed(
    "dagster._core.execution.context.metadata_logging",
    "add_asset_metadata() copies all that was gathered at every call: a second per asset for ten years",
)

#: Every borrowed symbol.
BORROWED: Mapping[str, Borrowed] = {
    # runs of the sensors and of the command line
    "ASSET_PARTITION_RANGE_START_TAG": _TAGS,
    "ASSET_PARTITION_RANGE_END_TAG": _TAGS,
    "PARTITION_NAME_TAG": _TAGS,
    "BACKFILL_ID_TAG": _TAGS,
    "IMPLICIT_ASSET_JOB_NAME": Borrowed(
        "dagster._core.definitions.assets.job.asset_job",
        "the job of all assets, which backfills use: a job of our own takes assets of one partition set alone",
    ),
    "BulkActionsFilter": _BACKFILLS,
    "BulkActionStatus": _BACKFILLS,
    "DagsterDaemonScheduler": Borrowed(
        "dagster._core.scheduler", "cli/scheduler.py sets the pace of the backfills when the daemon makes it"
    ),
    # metadata of many partitions
    "normalize_metadata": Borrowed("dagster._core.definitions.metadata", _METADATA.why),
    "AssetMetadataHandle": _METADATA,
    "OutputMetadataAccumulator": _METADATA,
    # storage/event_log.py: a batch of events in one transaction per database
    "ASSET_CHECK_EVENTS": Borrowed("dagster._core.events", "the event log keeps these events for all runs"),
    "EVENT_TYPE_TO_PIPELINE_RUN_STATUS": Borrowed("dagster._core.events", "as ASSET_CHECK_EVENTS"),
    "RunStorageSqlMetadata": Borrowed(f"{_SQLITE}.runs.schema", _MOVED),
    "ScheduleStorageSqlMetadata": Borrowed(f"{_SQLITE}.schedules.schema", _MOVED),
    "ASSET_EVENTS": Borrowed("dagster._core.events", "the event log keeps a row per asset of these events"),
    "BATCH_WRITABLE_EVENTS": Borrowed("dagster._core.events", "the types of events that may share a transaction"),
    "AssetCheckEvaluationPlanned": Borrowed(
        "dagster._core.definitions.asset_checks.asset_check_evaluation", "a planned check is stored once, not per day"
    ),
    "AssetMaterializationPlannedData": Borrowed(
        "dagster._core.events", "a plan of many partitions is stored as one row of each, which Dagster would make"
    ),
    "serialize_value": Borrowed("dagster._serdes", "the JSON of an event, once for all that are alike"),
    "AssetCheckExecutionRecordStatus": Borrowed(
        f"{_SQLITE}.asset_check_execution_record", "the status of the row of a planned check"
    ),
    "AssetCheckExecutionsTable": _SCHEMA,
    "AssetEventTagsTable": _SCHEMA,
    "SqlEventLogStorageMetadata": _SCHEMA,
    "SqlEventLogStorageTable": _SCHEMA,
    "INDEX_SHARD_NAME": Borrowed(f"{_SQLITE}.event_log.sqlite.sqlite_event_log", "the database of all runs"),
    "SqliteEventLogStorage": Borrowed(
        f"{_SQLITE}.event_log.sqlite.sqlite_event_log",
        "the stock event log opens, commits and closes a database for every event: 20 minutes for ten years",
        (
            "_connect",
            "_event_to_row",
            "_initdb",
            "_store_asset_event",
            "_store_asset_event_tags",
            "conn_string_for_shard",
            "has_asset_key_col",
            "has_table",
            "path_for_shard",
            "supports_partition_subset_in_asset_materialization_planned_events",
        ),
        ("_db_lock", "_initialized_dbs"),
    ),
    "SqliteRunStorage": Borrowed(
        f"{_SQLITE}.runs.sqlite.sqlite_run_storage",
        "reads all migrations at every instance, of which a code server makes one per tick",
        ("connect", "from_local", "has_built_index", "has_run_stats_index_cols"),
        ("_conn_string",),
    ),
    "SqliteScheduleStorage": Borrowed(
        f"{_SQLITE}.schedules.sqlite.sqlite_schedule_storage",
        "as SqliteRunStorage",
        ("connect", "from_local", "has_built_index", "has_instigators_table"),
        ("_conn_string",),
    ),
    "DagsterSqliteStorage": Borrowed(
        f"{_SQLITE}.sqlite_storage",
        "puts the three storages together",
        ("from_local",),
        ("_event_log_storage", "_inst_data", "_run_storage", "_schedule_storage"),
    ),
    "DagsterStorage": Borrowed(f"{_SQLITE}.base_storage", "its constructor, in place of DagsterSqliteStorage's"),
    "LocalComputeLogManager": Borrowed(
        f"{_SQLITE}.local_compute_log_manager",
        "the logs of the steps stay in the project's home",
        ("from_config_value",),
    ),
    "SQLITE_BUSY_TIMEOUT_SECONDS": Borrowed(f"{_SQLITE}.sqlite", "how long a locked database is waited for"),
    "get_alembic_config": Borrowed(f"{_SQLITE}.sql", "the migrations of a database, read once a process"),
    "ConfigurableClassData": Borrowed("dagster._serdes", "what dagster.yaml says about a custom class"),
}

#: The environment variable that `dagster dev` sets for itself and all that it starts.
IS_DEV_SERVER = "DAGSTER_IS_DEV_CLI"

#: Module and name of the constant that the daemon's loop of the backfills reads when it starts.
CONTROLLER, INTERVAL = "dagster._daemon.controller", "DEFAULT_DAEMON_INTERVAL_SECONDS"

#: Module, class and attribute of the multiprocessing context that a code server starts the processes of its runs with.
CODE_SERVER, CODE_SERVER_CLASS, CONTEXT = "dagster._grpc.server", "DagsterApiServer", "_mp_ctx"

#: Module, class and method that say which keys are partitions; from FILTERED keys on it is quicker to list all of them.
TIME_WINDOW, TIME_WINDOW_CLASS, FILTER_KEYS = (
    "dagster._core.definitions.partitions.definition.time_window",
    "TimeWindowPartitionsDefinition",
    "filter_valid_partition_keys",
)
FILTERED = 100

#: Module, class and method that make the ASGI application of every web server.
WEB_SERVER, SERVER_CLASS, MAKE_APPLICATION = "dagster_webserver.webserver", "DagsterWebserver", "create_asgi_app"


def __getattr__(name: str) -> Any:
    """The borrowed symbol `name`. Raises PrivateApiError where Dagster has it, or a member of it, no more."""
    if name not in BORROWED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, members, attributes = BORROWED[name]
    try:
        symbol = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        _gone(f"{module}.{name}")
    set_at_first = symbol.__init__.__code__.co_names if attributes else ()
    for member in (*members, *attributes):
        if not hasattr(symbol, member) and not (member in attributes and member in set_at_first):
            _gone(f"{module}.{name}.{member}")
    globals()[name] = symbol
    return symbol


def _gone(symbol: str) -> NoReturn:
    raise PrivateApiError(
        f"Dagster {version('dagster')} has no {symbol}, which stock_assets borrows and has tried with Dagster "
        f"{TRIED_WITH}; expected that version: pip install 'dagster=={TRIED_WITH}', or take the entries storage, "
        "compute_logs and scheduler out of dagster.yaml to run with Dagster's own"
    )


def set_backfill_interval(seconds: int) -> None:
    """Has the daemon of this process look at its backfills every `seconds`; without effect in any other process.

    Dagster has its 30 s written in the code, as a constant that the loop reads when it starts. Raises PrivateApiError
    where the daemon has no such constant.
    """
    controller = sys.modules.get(CONTROLLER)
    if controller is None:  # no daemon: only the daemon's own process imports it
        return
    if not hasattr(controller, INTERVAL):
        _gone(f"{CONTROLLER}.{INTERVAL}")
    setattr(controller, INTERVAL, seconds)


def set_run_processes(context: object) -> None:
    """Has the code server of this process start its runs with `context`, in the place of a multiprocessing context.

    Its definitions are loaded while its own constructor runs, which has put a context into an attribute by then. Raises
    PrivateApiError where the code server has no such attribute.
    """
    server = getattr(import_module(CODE_SERVER), CODE_SERVER_CLASS, None)
    if server is None or CONTEXT not in server.__init__.__code__.co_names:
        _gone(f"{CODE_SERVER}.{CODE_SERVER_CLASS}.{CONTEXT}")
    setattr(server, CONTEXT, property(lambda _: context, lambda *_: None))


def wrap_web_server(wrap: Callable[[Any], Any]) -> None:
    """Has every web server of this process listen with `wrap(its ASGI application)`; without effect in any other one.

    `dagster dev`, `dg dev` and `dagster-webserver` start a web server in a process of its own and offer no place for a
    middleware. That process makes the instance before the application. Raises PrivateApiError where the web server has
    no such method: it then does not start, and is not left open.
    """
    module = sys.modules.get(WEB_SERVER)
    if module is None:  # no web server: only its own process imports it
        return
    server = getattr(module, SERVER_CLASS, None)
    make = getattr(server, MAKE_APPLICATION, None)
    if server is None or make is None:
        raise PrivateApiError(
            f"Dagster {version('dagster')} has no {WEB_SERVER}.{SERVER_CLASS}.{MAKE_APPLICATION}, where stock_assets "
            f"puts its guard, tried with Dagster {TRIED_WITH}; expected that version: "
            f"pip install 'dagster=={TRIED_WITH}' 'dagster-webserver=={TRIED_WITH}'"
        )
    if getattr(make, "wrapped_by_us", False):  # a process may make several instances
        return

    @wraps(make)
    def create_asgi_app(self: Any, **options: Any) -> Any:
        return wrap(make(self, **options))

    vars(create_asgi_app)["wrapped_by_us"] = True
    setattr(server, MAKE_APPLICATION, create_asgi_app)


def filter_partitions_at_once() -> None:
    """Has every set of days of this process say which of many keys are its partitions by one list of all of them.

    Dagster asks for each key alone, at a millisecond where 200 closures are excluded: a minute for the status of all
    assets with twenty years of sessions, and as long for the daemon that looks at a backfill of them. The answers are
    the same. Where Dagster has a way of its own for sets of days, that stays. Raises PrivateApiError where it filters
    keys no more.
    """
    days = getattr(import_module(TIME_WINDOW), TIME_WINDOW_CLASS, None)
    stock = getattr(days, FILTER_KEYS, None)
    if stock is None:
        _gone(f"{TIME_WINDOW}.{TIME_WINDOW_CLASS}.{FILTER_KEYS}")
    if FILTER_KEYS in vars(days):  # Dagster's own, or this function was called before
        return

    @wraps(stock)
    def filter_valid_partition_keys(self: Any, partition_keys: set[str]) -> AbstractSet[str]:
        if len(partition_keys) < FILTERED:
            return stock(self, partition_keys)
        return partition_keys.intersection(self.get_partition_keys())

    setattr(days, FILTER_KEYS, filter_valid_partition_keys)


def add_partition_metadata(
    context: dg.AssetExecutionContext, asset: dg.AssetKey, by_partition: Mapping[str, Mapping[str, object]]
) -> None:
    """What `context.add_asset_metadata(…, asset_key=asset, partition_key=…)` does for each partition, at once.

    Dagster copies all it has gathered at every call: 2,516 sessions take a second per asset that way. Raises
    PrivateApiError where a step keeps its metadata in another way.
    """
    from stock_assets.private.dagster import AssetMetadataHandle, OutputMetadataAccumulator, normalize_metadata

    step = context.get_step_execution_context()
    if not hasattr(step, "_metadata_accumulator"):
        _gone(f"{type(step).__module__}.{type(step).__name__}._metadata_accumulator")
    all_metadata = {
        AssetMetadataHandle(asset_key=asset, partition_key=key): normalize_metadata(dict(metadata))  # pyright: ignore[reportArgumentType]
        for key, metadata in by_partition.items()
    }
    step._metadata_accumulator = OutputMetadataAccumulator(
        per_output_metadata={**step._metadata_accumulator.per_output_metadata, **all_metadata}
    )
