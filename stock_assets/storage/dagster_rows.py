"""What Dagster's storage holds, in whichever form: a folder of SQLite files, a database, the files of a backup.

Dagster's own tables are read and written row by row with their ids. Two are left out, as each storage has its own: the
list of its data migrations (`secondary_indexes`) and its name (`instance_info`); and so are the heartbeats of daemons.

Events are more than rows. A database has one table of them. A folder has a file per run, each with ids of its own, and
`index.db` with the events that are asked for over all runs: those of assets and of checks, and the changes of a run's
status. Whatever remembers how far it has read, as a sensor does, remembers an id of `index.db` (docs/decisions, 292).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Select, Table, select

from stock_assets.errors import MoveError
from stock_assets.private.dagster import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    RunStorageSqlMetadata,
    ScheduleStorageSqlMetadata,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from stock_assets.storage.event_log import dagster_revision

EVENTS = SqlEventLogStorageTable
#: The types of events that are asked for over all runs: those of assets, of which the asset is asked for, and others.
_OF_ASSETS = frozenset(kind.value for kind in ASSET_EVENTS)
_OTHERS_OVER_ALL_RUNS = frozenset(kind.value for kind in (*ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS))
#: Rows that are read and written at once.
ROWS_AT_ONCE = 2000
_LEFT_OUT = {"secondary_indexes", "instance_info", "daemon_heartbeats", EVENTS.name}
#: The statuses of a run and of a backfill that something still works on.
_UNDER_WAY = {
    "runs": ("QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING"),
    "bulk_actions": ("REQUESTED", "CANCELING", "FAILING"),
}


def _tables(metadata: Any) -> tuple[Table, ...]:
    return tuple(table for table in metadata.sorted_tables if table.name not in _LEFT_OUT)


#: The tables that are moved, by what keeps them, what others refer to first; that of the events is not among them.
TABLES_OF_RUNS, TABLES_OF_SCHEDULES, TABLES_OF_EVENTS = map(
    _tables, (RunStorageSqlMetadata, ScheduleStorageSqlMetadata, SqlEventLogStorageMetadata)
)
TABLES = (*TABLES_OF_RUNS, *TABLES_OF_SCHEDULES, *TABLES_OF_EVENTS)

Rows = Iterator[Mapping[str, Any]]


class Event(NamedTuple):
    """A row of `event_logs`; `id` is None for an event of a folder that stands in the file of its run alone."""

    id: int | None
    run_id: str
    event: str
    """its JSON"""
    dagster_event_type: str | None
    timestamp: datetime
    """UTC"""
    step_key: str | None
    asset_key: str | None
    partition: str | None

    @property
    def is_over_all_runs(self) -> bool:
        """Whether it is asked for over all runs, so that its id may be remembered."""
        kind = self.dagster_event_type
        return kind in _OTHERS_OVER_ALL_RUNS or (kind in _OF_ASSETS and self.asset_key is not None)

    @property
    def canonical(self) -> tuple[object, ...]:
        """The same in every form: ids that nothing remembers are left out."""
        return self if self.is_over_all_runs else (None, *self[1:])

    def hidden(self) -> "Event":
        """The event as one that is asked for in the log of its run alone."""
        kind = self.dagster_event_type
        return self._replace(id=None, dagster_event_type=kind if kind in _OF_ASSETS else None, asset_key=None)


class DagsterRows(Protocol):
    """A storage of Dagster's that can be read. Each method raises MoveError for one that cannot."""

    @property
    def name(self) -> str:
        """For messages, without a password."""
        ...

    @property
    def revision(self) -> str | None:
        """The migration of Dagster's that its tables are of; None without tables."""
        ...

    @property
    def last_event_id(self) -> int:
        """The highest id that an event was given, also of one that was deleted."""
        ...

    def rows(self, table: Table) -> Rows:
        """The rows of one of `TABLES`."""
        ...

    def events(self) -> Iterator[Event]:
        """All events, those of a run together and in their order."""
        ...


class Fingerprint(NamedTuple):
    """The number of some rows, and a digest of them in any order."""

    rows: int
    digest: int


NOTHING = Fingerprint(0, 0)
#: The fingerprint of each table, by name.
Contents = Mapping[str, Fingerprint]


def fingerprint(rows: Iterable[object]) -> Fingerprint:
    """The fingerprint of `rows`, of values that print alike where they are alike.

    >>> fingerprint([(1, "a"), (2, None)]) == fingerprint([(2, None), (1, "a")])
    True
    >>> fingerprint([(1, "a"), (1, "a")]) == fingerprint([(1, "a")])
    False
    """
    number, total = 0, 0
    for row in rows:
        number += 1
        total += int.from_bytes(hashlib.sha256(repr(row).encode()).digest(), "big")
    return Fingerprint(number, total % 2**256)


def contents_of(source: DagsterRows) -> dict[str, Fingerprint]:
    """The fingerprint of every table that is moved, by name, and of the events."""
    contents = {table.name: fingerprint(map(_values, source.rows(table))) for table in TABLES}
    return contents | {EVENTS.name: fingerprint(tuple(event.canonical) for event in source.events())}


def under_way(source: DagsterRows) -> list[str]:
    """The runs and backfills that are not over, by their ids."""
    return [
        str(row["run_id"] if table.name == "runs" else row["key"])
        for table in TABLES_OF_RUNS
        if table.name in _UNDER_WAY
        for row in source.rows(table)
        if row["status"] in _UNDER_WAY[table.name]
    ]


def read_table(connection: Connection, table: Table) -> Rows:
    """The rows of a table of a database, in the order of their ids.

    The tags of a run that was deleted are left out: SQLite keeps them, and Postgres has none.
    """
    statement = select(table).order_by(table.c.id)
    if table.name == "run_tags":
        runs = RunStorageSqlMetadata.tables["runs"]
        statement = statement.where(table.c.run_id.in_(select(runs.c.run_id)))
    return read(connection, statement)


def read(connection: Connection, statement: Select[Any]) -> Rows:
    """The rows of a statement, some at once."""
    options = {"stream_results": True, "yield_per": ROWS_AT_ONCE}
    for row in connection.execute(statement, execution_options=options):
        yield dict(row._mapping)


def _values(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in row.values())


def batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """`rows`, ROWS_AT_ONCE at once."""
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def is_empty(contents: Contents) -> bool:
    """Whether there is no row at all."""
    return not any(table_contents.rows for table_contents in contents.values())


def require_revision(source: DagsterRows) -> None:
    """Raises MoveError for tables of another version of Dagster than the installed one."""
    expected = dagster_revision()
    if source.revision not in (None, expected):
        raise MoveError(
            f"{source.name} has Dagster's schema {source.revision}, and the installed Dagster {expected}; start "
            "stock-assets run with it once, or run dagster instance migrate"
        )


def require_room(source: DagsterRows, contents: Contents, *, target: str, target_contents: Contents) -> bool:
    """Whether the target holds the same already. Raises MoveError where it holds anything else."""
    if target_contents == contents:
        return True
    if is_empty(target_contents):
        return False
    name = next(name for name in contents if target_contents[name] != contents[name])
    raise MoveError(
        f"{target} holds something else already: {target_contents[name].rows:,} rows of {name}, where {source.name} "
        f"has {contents[name].rows:,}; expected an empty one, or the same rows. Nothing was written"
    )


def require_same(source: DagsterRows, contents: Contents, target: DagsterRows) -> None:
    """Raises MoveError where `target` does not hold what the source does, of which `contents` is known."""
    target_contents = contents_of(target)
    differing = [name for name in contents if target_contents[name] != contents[name]]
    if differing:
        raise MoveError(
            f"{', '.join(differing)} of {source.name} did not arrive in {target.name} as they were; nothing was kept "
            "there. Report this as a fault"
        )
