"""Dagster's SQLite storage, with the events of a range run written in batches.

Dagster records every materialized partition of every asset as an event of its own, twice: in the database
of its run (the run shard) and in the one database that answers for all runs (the index shard). Its SQLite
storage opens, compiles, commits and closes for each of them, so ten years of seven assets spend ten minutes
on the event log and seconds on the data. Here a batch costs one transaction per shard.

In dagster.yaml:

    storage:
      custom:
        module: stock_assets.storage.event_log
        class: BatchingSqliteStorage
        config: {base_dir: <a folder>}

The files are those of the stock storage with the same base_dir, which can take over at any time.
"""

import atexit
import errno
import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Self

import yaml
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from dagster import DagsterEventType, EventLogEntry
from sqlalchemy import Connection, Engine, QueuePool, create_engine, func, make_url, select
from sqlalchemy.exc import DatabaseError, IntegrityError

from stock_assets.errors import DamagedFileError
from stock_assets.files import RESTORE, disk_error, require_sqlite
from stock_assets.private.dagster import (
    BATCH_WRITABLE_EVENTS,
    INDEX_SHARD_NAME,
    SQLITE_BUSY_TIMEOUT_SECONDS,
    AssetCheckExecutionsTable,
    ConfigurableClassData,
    DagsterSqliteStorage,
    DagsterStorage,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
    SqliteEventLogStorage,
    SqliteRunStorage,
    SqliteScheduleStorage,
    get_alembic_config,
)
from stock_assets.storage.dagster_files import fold_in
from stock_assets.storage.event_rows import (
    Row,
    as_stored,
    is_plan_of_many,
    kind_of,
    last_of_each_asset_and_type,
    planned_check_rows,
    planned_once,
    rows_of,
)
from stock_assets.storage.revisions import bring_to_head

LOG = logging.getLogger("stock_assets.event_log")
#: What SQLite says of a damaged file, and of the disk.
_DAMAGE = ("malformed", "not a database", "disk I/O error", "unable to open database file", "no such table")
_DISK = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
}

#: More than an asset has sessions, so that all of a run's are seen at once: the daemon that goes through backfills asks
#: for what follows of those that it sees, and would ask for the rest in a run of its own.
BATCH_SIZE = 10_000
#: Databases that a process keeps open: two of all runs, and those of the last runs.
MOST_ENGINES = 64

#: An insert without a word of SQLAlchemy's per row, in the order of `Row`, and one with the id behind it.
_INSERT, _INSERT_AS = (
    f"INSERT INTO {SqlEventLogStorageTable.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"
    for names in (Row._fields, (*Row._fields, "id"))
)
_BATCHED = frozenset(kind.value for kind in BATCH_WRITABLE_EVENTS)
_RUN_ENDS = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)

#: By process, as a connection must not be used after a fork, and address, with the inode of the file that is open; the
#: one used last stands last.
_ENGINES: dict[tuple[int, str], tuple[Engine, int | None]] = {}
_LOCK = threading.Lock()


def _engine(url: str) -> Engine:
    """The engine of one database, of those used last: compiling a statement anew costs more than running it, and so
    does opening a connection. Where another file has taken the name, as of a disk that was mounted there or a folder
    that was put back, it is opened anew: what is written to the old one, nobody reads."""
    key = os.getpid(), url
    with _LOCK:
        engine, opened_inode = _ENGINES.pop(key, (None, None))
        try:
            inode = Path(url.removeprefix("sqlite:///")).stat().st_ino
        except FileNotFoundError:  # it is made later, or its run was deleted
            inode = opened_inode
        if engine and opened_inode not in (None, inode):
            engine.dispose()
            engine = None
        if engine is None:
            if not _ENGINES:
                atexit.register(_close)
            options = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
            engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=-1, connect_args=options)
        _ENGINES[key] = engine, inode
        if len(_ENGINES) > MOST_ENGINES:
            _ENGINES.pop(next(iter(_ENGINES)))[0].dispose()
        return engine


def _close() -> None:
    """Closes the connections of this process: the last one of a database folds in what was written ahead."""
    for (process, _), (engine, _) in _ENGINES.items():
        if process == os.getpid():
            engine.dispose()


def close_databases(folder: Path) -> None:
    """Closes the connections of this process to the databases below `folder`, whose files may be moved then."""
    with _LOCK:
        for key in [key for key in _ENGINES if Path(key[1].removeprefix("sqlite:///")).is_relative_to(folder)]:
            _ENGINES.pop(key)[0].dispose()


@contextmanager
def _damage_of(file: Path) -> Iterator[None]:
    """What SQLite says about a damaged file or a full disk is one DamagedFileError, with the way back."""
    try:
        yield
    except DatabaseError as error:
        message = str(error.orig)
        if message in _DISK:
            raise disk_error(file, OSError(_DISK[message], message)) from error
        if isinstance(error, IntegrityError) or "locked" in message or not any(sign in message for sign in _DAMAGE):
            raise
        raise DamagedFileError(f"{file} is damaged: {message}; {RESTORE}") from error


def set_aside(file: Path) -> None:
    """Renames the events of a run that cannot be read to `<name>.damaged`, so that they are begun anew: one run has no
    history then, which costs no row. It is logged. An empty file holds no event: another process makes it just now,
    or a full disk cut it, and it is begun either way."""
    if file.exists() and not file.stat().st_size:
        return
    try:
        require_sqlite(file)
    except DamagedFileError as error:
        damaged_file = file.with_name(f"{file.name}.damaged")
        file.replace(damaged_file)
        for journal in ("-wal", "-shm"):
            file.with_name(f"{file.name}{journal}").unlink(missing_ok=True)
        LOG.warning("the events of one run are lost: %s. It is kept as %s", error, damaged_file.name)


def _alembic(storage: type) -> Config:
    return get_alembic_config(inspect.getfile(storage))


@lru_cache(maxsize=1)
def _migrations() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic(SqliteEventLogStorage))


def dagster_revision() -> str:
    """The migration that the tables of the installed Dagster are of, in SQLite and in Postgres."""
    (head,) = _migrations().get_heads()
    return head


def until_yes(question: Callable[..., bool]) -> Callable[..., bool]:
    """The question whether a database has a column, table or index, which Dagster asks at every event, for a storage
    that remembers a yes."""

    def ask(self: Any, *names: str) -> bool:
        yes_answers = self.__dict__.setdefault("_has", set())
        if (question.__name__, names) not in yes_answers:
            if not question(self, *names):
                return False
            yes_answers.add((question.__name__, names))
        return True

    return ask


class BatchingSqliteEventLogStorage(SqliteEventLogStorage):
    """The stock SQLite event log, whose `store_event_batch` takes one transaction per shard."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    has_asset_key_col = until_yes(SqliteEventLogStorage.has_asset_key_col)

    @contextmanager
    def _begin(self, shard: str) -> Iterator[Connection]:
        file = Path(self.path_for_shard(shard))
        if shard not in self._initialized_dbs:
            set_aside(file) if shard != INDEX_SHARD_NAME else require_sqlite(file)
        engine = _engine(self.conn_string_for_shard(shard))
        with _damage_of(file):
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """As in the stock storage, which reads all of Dagster's migration scripts at every look at a shard; here once
        a process, when a shard is made. It is made as a whole: a second process finds it."""
        with engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
        if revision:
            file = Path(str(engine.url.database))
            # a copy of the index alone: there is a shard per run
            bring_to_head(
                file,
                "dagster",
                _alembic(SqliteEventLogStorage),
                scripts=_migrations(),
                keep_copy=file.stem == INDEX_SHARD_NAME,
            )
            return
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            context = MigrationContext.configure(connection)
            if context.get_current_revision():
                return
            if not (for_index_shard and engine.dialect.has_table(connection, SqlEventLogStorageTable.name)):
                SqlEventLogStorageMetadata.create_all(connection)
                context.stamp(_migrations(), "head")
                return
        super()._initdb(engine, for_index_shard)  # of an old Dagster that stamped none

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._begin(shard) as connection:
            yield connection

    def has_table(self, table_name: str) -> bool:
        with _engine(self.conn_string_for_shard(INDEX_SHARD_NAME)).connect() as connection:
            return connection.dialect.has_table(connection, table_name)

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """Dagster plans a run's partitions of an asset in one event, which is stored as the stock storage's one of
        each: making ten years of them one by one takes seconds before a run is even asked for."""
        return True

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events` in their order. Neighbours of one run and of types that Dagster batches share a
        transaction, any other event is stored by itself.
        """
        self._store_all(events)

    def _store_all(self, events: Sequence[EventLogEntry]) -> None:
        def batch_of(event: EventLogEntry) -> tuple[bool, str]:
            return kind_of(event) in _BATCHED, event.run_id

        for (batchable, run_id), group in groupby(chain.from_iterable(map(as_stored, events)), key=batch_of):
            if batchable:
                while batch := list(islice(group, BATCH_SIZE)):
                    self._store_batch(run_id, batch)
            else:
                for event in group:
                    self._store_one(event)

    def store_event(self, event: EventLogEntry) -> None:
        if is_plan_of_many(event):
            self._store_all([event])
        else:
            self._store_one(planned_once(event))

    def _store_one(self, event: EventLogEntry) -> None:
        super().store_event(event)
        if event.dagster_event_type in _RUN_ENDS:
            fold_in(Path(self.path_for_shard(event.run_id)))  # a megabyte otherwise, for as long as the run is kept
        self._wake(event.run_id)

    def _wake(self, run_id: str) -> None:
        """The UI watches the file of a run for changes, and SQLite writes what is committed to another one first."""
        os.utime(self.path_for_shard(run_id))

    def _store_batch(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        rows = rows_of(events)
        # Left in reverse, so the run shard commits first: a kill in between leaves what it leaves in the
        # stock storage, events in the log of the run that no asset knows of. Both write locks are taken
        # before the first row, in one order everywhere: a busy shard is waited for and nothing is half
        # written when the wait ends in an error, after which Dagster stores the events one by one.
        with self._db_lock, self._begin(INDEX_SHARD_NAME) as index, self._begin(run_id) as run_shard:
            run_shard.exec_driver_sql("BEGIN IMMEDIATE")
            index.exec_driver_sql("BEGIN IMMEDIATE")
            run_shard.exec_driver_sql(_INSERT, list(map(tuple, rows)))
            # SQLite would hand out these same ids, yet can return them in order only row by row.
            last_id = index.execute(select(func.max(SqlEventLogStorageTable.c.id))).scalar() or 0
            ids = range(last_id + 1, last_id + 1 + len(rows))
            index.exec_driver_sql(_INSERT_AS, [(*row, event_id) for row, event_id in zip(rows, ids, strict=True)])

            places_with_tags = [place for place, row in enumerate(rows) if row.may_have_tags]
            self._store_asset_event_tags(
                index, [events[place] for place in places_with_tags], [ids[place] for place in places_with_tags]
            )
            for place in last_of_each_asset_and_type(rows):
                self._store_asset_event(index, events[place], ids[place])

            if planned_checks := planned_check_rows(events, rows, ids):
                index.execute(AssetCheckExecutionsTable.insert(), planned_checks)
        self._wake(run_id)


class _OpenedOnce:
    """A stock storage that looks for migrations once a process, not at every instance, and keeps its connections.

    A code server makes an instance for every tick of every sensor: with the stock storage, most of a tick that does
    nothing goes into reading Dagster's migration scripts.
    """

    _conn_string: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with (
            _damage_of(Path(str(make_url(self._conn_string).database))),
            _engine(self._conn_string).begin() as connection,
        ):
            yield connection


class _Runs(_OpenedOnce, SqliteRunStorage):
    has_built_index = until_yes(SqliteRunStorage.has_built_index)
    has_run_stats_index_cols = until_yes(SqliteRunStorage.has_run_stats_index_cols)


class _Schedules(_OpenedOnce, SqliteScheduleStorage):
    has_built_index = until_yes(SqliteScheduleStorage.has_built_index)
    has_instigators_table = until_yes(SqliteScheduleStorage.has_instigators_table)


@lru_cache(maxsize=64)
def _migrated(storage: type[SqliteRunStorage] | type[SqliteScheduleStorage], folder: str) -> str:
    """The address of the database in `folder`, which is made and brought to today's form."""
    for file in Path(folder).glob("*.db"):
        require_sqlite(file)
        stock = SqliteRunStorage if issubclass(storage, SqliteRunStorage) else SqliteScheduleStorage
        bring_to_head(file, "dagster", _alembic(stock))
    return storage.from_local(folder)._conn_string


class BatchingSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with the batching event log in place of the stock one."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # in place of the stock constructor, which opens every database anew
        DagsterStorage.__init__(self)
        self.base_dir, self._inst_data = base_dir, inst_data
        self._run_storage = _Runs(_migrated(_Runs, str(Path(base_dir) / "history")))
        self._event_log_storage = BatchingSqliteEventLogStorage(_event_log_dir(base_dir))
        self._schedule_storage = _Schedules(_migrated(_Schedules, str(Path(base_dir) / "schedules")))
        # Dagster fills batches only where this is set, and reads it at every event. Webserver, daemon,
        # code server and each run process build this storage from the instance before they write, so that
        # no person has to set it. A user's own value stays.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)

    @property
    def event_storage_data(self) -> ConfigurableClassData:
        return ConfigurableClassData(
            __name__,
            BatchingSqliteEventLogStorage.__name__,
            yaml.safe_dump({"base_dir": _event_log_dir(self.base_dir)}),
        )


def _event_log_dir(base_dir: str) -> str:
    return str(Path(base_dir) / "history" / "runs")
