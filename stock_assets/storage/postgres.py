"""Dagster's Postgres storage, with the events of a range run written in batches and a connection kept open.

dagster-postgres opens a connection for every statement it makes, and two for every planned partition. Here each
process keeps one open to each database, and neighbours of types that Dagster batches share one transaction.

In dagster.yaml:

    storage:
      custom:
        module: stock_assets.storage.postgres
        class: BatchingPostgresStorage
        config: {postgres_url: {env: STOCK_ASSETS_DAGSTER}}

The tables are those of dagster-postgres, which can take over at any time.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, groupby, islice
from typing import Any, Self

from dagster import DagsterEventType, EventLogEntry
from sqlalchemy import Connection, Engine, QueuePool, event, make_url, select
from sqlalchemy.exc import ArgumentError

from stock_assets.errors import SettingsError
from stock_assets.private.dagster import (
    BATCH_WRITABLE_EVENTS,
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    ConfigurableClassData,
    DagsterStorage,
    SqlEventLogStorageTable,
    serialize_value,
)
from stock_assets.private.dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
    create_pg_engine,
    pg_url_from_config,
)
from stock_assets.storage.event_log import BATCH_SIZE, until_yes
from stock_assets.storage.event_rows import (
    as_stored,
    is_plan_of_many,
    kind_of,
    last_of_each_asset_and_type,
    planned_check_rows,
    planned_once,
    rows_of,
)
from stock_assets.storage.postgres_link import link_options, linked, sent_once

#: psycopg2 by name: SQLAlchemy 2.1 takes another driver for `postgresql://`, which dagster-postgres does not install.
SCHEME = "postgresql+psycopg2"
_BATCHED = frozenset(kind.value for kind in BATCH_WRITABLE_EVENTS)
_FAILED = DagsterEventType.ASSET_FAILED_TO_MATERIALIZE.value

#: By process, as a connection must not be used after a fork, address and statement timeout.
_ENGINES: dict[tuple[int, str, int | None], Engine] = {}
_LOCK = threading.Lock()


def require_psycopg2(address: str) -> str:
    """`address`, with its driver named. Raises SettingsError for an address that is none of Postgres, and for one
    without the driver; the password is not shown."""
    try:
        url = make_url(address)
    except ArgumentError:
        raise SettingsError(
            f"the address of Dagster's database is no URL; expected {SCHEME}://user:password@host/database"
        ) from None
    if url.drivername != SCHEME:
        raise SettingsError(
            f"the address of Dagster's database is {url.render_as_string()}, with the driver {url.drivername}; "
            f"expected {SCHEME}://…, since SQLAlchemy 2.1 takes another driver for postgresql:// (dagster#33958)"
        )
    return address


def pooled_engine(address: str, statement_timeout: int | None = None) -> Engine:
    """The engine of this process for `address`, which keeps one connection open; more are opened while several threads
    ask at once, and closed after. Statements end after `statement_timeout` milliseconds where that is given."""
    key = os.getpid(), address, statement_timeout
    with _LOCK:
        if key not in _ENGINES:
            engine = create_pg_engine(
                address,
                isolation_level="AUTOCOMMIT",
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=-1,
                pool_pre_ping=True,  # the server may have been started anew meanwhile
                connect_args=link_options(address),
            )
            if statement_timeout is not None:
                event.listen(engine, "connect", _setter_of_timeout(statement_timeout))
            _ENGINES[key] = engine
        return _ENGINES[key]


def _setter_of_timeout(milliseconds: int) -> Any:
    def set_timeout(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {int(milliseconds)}")

    return set_timeout


def _forget_engines() -> None:
    """In the child of a fork: its parent's connections are left alone, and opened anew when they are asked for."""
    global _LOCK  # another thread of the parent may have held it
    _LOCK = threading.Lock()
    for engine in _ENGINES.values():
        engine.dispose(close=False)
    _ENGINES.clear()


os.register_at_fork(after_in_child=_forget_engines)


class _Pooled:
    """A storage of dagster-postgres whose connections come from the engine of the process.

    Its constructor, and the web server, put an engine of their own into `_engine`: that is left unused. It has opened
    no connection yet.
    """

    postgres_url: str
    _statement_timeout: int | None = None

    @property
    def _engine(self) -> Engine:
        return pooled_engine(self.postgres_url, self._statement_timeout)

    @_engine.setter
    def _engine(self, engine: Engine) -> None:
        engine.dispose()

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:  # noqa: ARG002
        """Statements of a web server end after `statement_timeout` milliseconds."""
        self._statement_timeout = statement_timeout

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with linked(self._engine) as connection:
            yield connection


class BatchingPostgresEventLogStorage(_Pooled, PostgresEventLogStorage):
    """The event log of dagster-postgres, whose `store_event_batch` takes one transaction."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(**_options(config_value), inst_data=inst_data)

    has_asset_key_col = until_yes(PostgresEventLogStorage.has_asset_key_col)

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """As in BatchingSqliteEventLogStorage."""
        return True

    def store_event(self, event: EventLogEntry) -> None:
        if is_plan_of_many(event):
            self.store_event_batch([event])
        else:
            self._store_one(planned_once(event))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events` in their order. Neighbours of types that Dagster batches share a transaction, any other
        event is stored by itself. As in dagster-postgres, failures to materialize are left out of batches."""
        stored_events = (event for event in chain.from_iterable(map(as_stored, events)) if kind_of(event) != _FAILED)
        for batchable, group in groupby(stored_events, key=lambda event: kind_of(event) in _BATCHED):
            if batchable:
                while batch := list(islice(group, BATCH_SIZE)):
                    # one transaction: where one of them is, all are
                    sent_once(partial(self._store_batch, batch), partial(self._is_stored, batch[0]))
            else:
                for event in group:
                    self._store_one(event)

    def _store_one(self, event: EventLogEntry) -> None:
        """As dagster-postgres does, in several transactions."""
        sent_once(partial(super().store_event, event), partial(self._remove, event))

    def _is_stored(self, event: EventLogEntry) -> bool:
        return bool(self._ids_of(event))

    def _ids_of(self, event: EventLogEntry) -> list[int]:
        table = SqlEventLogStorageTable
        same_event = select(table.c.id).where(table.c.run_id == event.run_id, table.c.event == serialize_value(event))
        with self.index_connection() as connection:
            return [row[0] for row in connection.execute(same_event)]

    def _remove(self, event: EventLogEntry) -> bool:
        """Removes what a try to store `event` left whose link broke. Returns False: nothing of it is there."""
        checks = AssetCheckExecutionsTable
        if ids := self._ids_of(event):
            with self.index_connection() as connection:
                connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(ids)))
                is_planned = checks.c.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value
                connection.execute(checks.delete().where(checks.c.evaluation_event_storage_id.in_(ids), is_planned))
                connection.execute(SqlEventLogStorageTable.delete().where(SqlEventLogStorageTable.c.id.in_(ids)))
        return False

    def _store_batch(self, events: Sequence[EventLogEntry]) -> None:
        rows = rows_of(events)
        table = SqlEventLogStorageTable
        insertion = table.insert().returning(table.c.id, sort_by_parameter_order=True)
        with self.index_transaction() as connection:
            ids = [int(row[0]) for row in connection.execute(insertion, [row._asdict() for row in rows])]
            places_with_tags = [place for place, row in enumerate(rows) if row.may_have_tags]
            if places_with_tags:
                of_tags = [events[place] for place in places_with_tags]
                self._store_asset_event_tags(connection, of_tags, [ids[place] for place in places_with_tags])
            # in the order of their keys: two runs that wait for each other's rows would both fail
            for place in sorted(last_of_each_asset_and_type(rows), key=lambda place: rows[place].asset_key or ""):
                self._store_asset_event(connection, events[place], ids[place])
            if planned_checks := planned_check_rows(events, rows, ids):
                connection.execute(AssetCheckExecutionsTable.insert(), planned_checks)


class _Runs(_Pooled, PostgresRunStorage):
    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._connect() as connection:
            yield connection


class _Schedules(_Pooled, PostgresScheduleStorage):
    @contextmanager
    def connect(self, run_id: str | None = None) -> Iterator[Connection]:  # noqa: ARG002
        with self._connect() as connection:
            yield connection


class BatchingPostgresStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage with the batching event log, and connections that are kept."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        # in place of the stock constructor, which makes the stock storages
        DagsterStorage.__init__(self)
        self.postgres_url = require_psycopg2(postgres_url)
        self.should_autocreate_tables, self._inst_data = should_autocreate_tables, inst_data
        self._run_storage = _Runs(postgres_url, should_autocreate_tables)
        self._event_log_storage = BatchingPostgresEventLogStorage(postgres_url, should_autocreate_tables)
        self._schedule_storage = _Schedules(postgres_url, should_autocreate_tables)
        # as in BatchingSqliteStorage: Dagster fills batches only where this is set; a user's own value stays
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(**_options(config_value), inst_data=inst_data)

    @property
    def event_storage_data(self) -> ConfigurableClassData | None:
        if self._inst_data is None:
            return None
        # as dagster.yaml says it: an address from the environment stays there, with its password
        return ConfigurableClassData(__name__, BatchingPostgresEventLogStorage.__name__, self._inst_data.config_yaml)


def _options(config_value: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a storage from what dagster.yaml says. Raises SettingsError for what is not supported."""
    if config_value.get("auth_provider") is not None:
        raise SettingsError(
            "storage.auth_provider of dagster.yaml is not supported with stock_assets.storage.postgres; expected a "
            "postgres_url with user and password, or dagster-postgres itself as the storage"
        )
    return {
        "postgres_url": require_psycopg2(pg_url_from_config(config_value)),
        "should_autocreate_tables": config_value.get("should_autocreate_tables", True),
    }
