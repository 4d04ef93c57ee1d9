"""Dagster's storage in a folder of SQLite files, read and written as rows (`storage/dagster_rows.py`)."""

import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, NullPool, Table, create_engine, func, select
from sqlalchemy.exc import DatabaseError

from stock_assets.errors import MoveError
from stock_assets.files import RESTORE, TEMPORARY, first_line, make_folder, require_sqlite, sync
from stock_assets.private.dagster import INDEX_SHARD_NAME
from stock_assets.storage.dagster_files import DagsterFiles
from stock_assets.storage.dagster_rows import (
    EVENTS,
    TABLES_OF_EVENTS,
    TABLES_OF_RUNS,
    TABLES_OF_SCHEDULES,
    DagsterRows,
    Event,
    Rows,
    batches,
    read,
    read_table,
)
from stock_assets.storage.event_log import BatchingSqliteStorage, close_databases
from stock_assets.storage.event_rows import place_holder
from stock_assets.storage.revisions import revision_of

#: The folders of a DAGSTER_HOME that hold its storage.
PARTS = ("history", "schedules")
_MATERIALIZED = "ASSET_MATERIALIZATION"


class FolderRows:
    """The storage below a DAGSTER_HOME, to be read while nothing writes there. No file of it is changed."""

    def __init__(self, home: Path) -> None:
        self.home, self.files = home, DagsterFiles(home)

    @property
    def name(self) -> str:
        return str(self.home)

    @property
    def revision(self) -> str | None:
        """That of all three databases; several are separated by commas. Raises DamagedFileError."""
        databases = (self.files.runs, self.files.ticks, self.files.index)
        for file in databases:
            require_sqlite(file)
        return ", ".join(sorted({revision for file in databases if (revision := revision_of(file))})) or None

    @property
    def last_event_id(self) -> int:
        with self._opened(self.files.index) as index:
            return 0 if index is None else index.execute(select(func.max(EVENTS.c.id))).scalar() or 0

    def rows(self, table: Table) -> Rows:
        file = (
            self.files.runs
            if table in TABLES_OF_RUNS
            else self.files.ticks
            if table in TABLES_OF_SCHEDULES
            else self.files.index
        )
        with self._opened(file) as connection:
            if connection is not None:
                yield from read_table(connection, table)

    def events(self) -> Iterator[Event]:
        with self._opened(self.files.index) as index:
            for run_id in self._run_ids(index):
                over_all_runs = [] if index is None else _events(index, run_id)
                yield from _merged(self._log_of(run_id), [e for e in over_all_runs if e.is_over_all_runs])

    def _run_ids(self, index: Connection | None) -> list[str]:
        """The runs that have events, those of the list of runs first and in its order."""
        listed_runs = [row["run_id"] for table in TABLES_OF_RUNS if table.name == "runs" for row in self.rows(table)]
        with_log = {file.name.removesuffix(".db") for file in self.files.shards.glob("*.db")} - {INDEX_SHARD_NAME}
        if index is not None:
            with_log.update(index.execute(select(EVENTS.c.run_id).distinct()).scalars())
        return [run for run in listed_runs if run in with_log] + sorted(with_log - set(listed_runs))

    def _log_of(self, run_id: str) -> list[Event]:
        with self._opened(self.files.shards / f"{run_id}.db") as connection:
            return [] if connection is None else _events(connection, run_id)

    @contextmanager
    def _opened(self, file: Path) -> Iterator[Connection | None]:
        """A connection that only reads; None where there is no such file."""
        if not file.exists():
            yield None
            return
        address = f"{file.absolute().as_uri()}?mode=ro"
        engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise MoveError(f"{file} cannot be read: {first_line(error.orig or error)}; {RESTORE}") from error


def _events(connection: Connection, run_id: str) -> list[Event]:
    rows = read(connection, select(EVENTS).where(EVENTS.c.run_id == run_id).order_by(EVENTS.c.id))
    return [Event(**row) for row in rows]


def _merged(log: Sequence[Event], over_all_runs: Sequence[Event]) -> Iterator[Event]:
    """The events of the log of a run, with the ids of those that stand in `index.db` as well, and then those that stand
    there alone, as of a run whose log the daily tidying removed.

    Of what the tidying took out of `index.db` or shortened there, the log still has the original. An event that is
    asked for over all runs and stands in the log alone is hidden: a new id would be newer than what followed it.
    """
    waiting: dict[tuple[object, ...], list[Event]] = defaultdict(list)
    for event in over_all_runs:
        waiting[event[3:]].append(event)
    for event in log:
        if not event.is_over_all_runs:
            yield event._replace(id=None)
            continue
        alike = waiting[event[3:]]
        place = next((i for i, other_event in enumerate(alike) if other_event.event == event.event), None)
        if place is None and alike and event.dagster_event_type == _MATERIALIZED:
            place = 0  # its pictures and previews were removed there
        yield event.hidden() if place is None else alike.pop(place)
    yield from (event for alike in waiting.values() for event in alike)


def write_folder(source: DagsterRows, folder: Path) -> None:
    """Writes what `source` holds to new files below `folder`."""
    storage: Any = BatchingSqliteStorage(str(folder))
    log = storage.event_log_storage
    try:
        for connect, tables in (
            (storage.run_storage.connect, TABLES_OF_RUNS),
            (storage.schedule_storage.connect, TABLES_OF_SCHEDULES),
            (log.index_connection, TABLES_OF_EVENTS),
        ):
            with connect() as connection:
                for table in tables:
                    for batch in batches(source.rows(table)):
                        connection.execute(table.insert(), batch)
        newest, last_id = datetime(1970, 1, 1), 0
        for run_id, events in groupby(source.events(), key=lambda event: event.run_id):
            # those that came from a folder have ids behind the others' (`dagster_database.write_database`)
            in_order = sorted(events, key=lambda event: (event.timestamp, event.id or 0))
            over_all_runs = [event._asdict() for event in in_order if event.is_over_all_runs]
            with log.run_connection(run_id) as connection:
                connection.execute(EVENTS.insert(), [_without_id(event) for event in in_order])
            if over_all_runs:
                with log.index_connection() as connection:
                    connection.execute(EVENTS.insert(), over_all_runs)
            last_id = max(last_id, *(event["id"] for event in over_all_runs), 0)
            newest = max(newest, in_order[-1].timestamp)
        if last_id < source.last_event_id:  # what remembers it would miss the events that are given lower ones
            holder = Event(source.last_event_id, "", place_holder(newest), None, newest, None, None, None)
            with log.index_connection() as connection:
                connection.execute(EVENTS.insert(), holder._asdict())
    finally:
        log.dispose()
        close_databases(folder)


def _without_id(event: Event) -> dict[str, object]:
    return {name: value for name, value in event._asdict().items() if name != "id"}


@contextmanager
def written_aside(source: DagsterRows, home: Path) -> Iterator[Path]:
    """A folder beside the storage of `home` with what `source` holds, which is removed afterwards. What a killed move
    left there is removed first: to be called while `home` is locked."""
    make_folder(home)
    for leftover in home.glob(f"{TEMPORARY}move-*"):
        shutil.rmtree(leftover)
    temporary_folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}move-", dir=home))
    try:
        write_folder(source, temporary_folder)
        yield temporary_folder
    finally:
        shutil.rmtree(temporary_folder)


def put_in_place(temporary_folder: Path, home: Path, parts: Sequence[str]) -> None:
    """Renames `parts` of PARTS from `temporary_folder` to `home`. Those of `home`, which hold no row, go."""
    close_databases(home)
    close_databases(temporary_folder)
    for part in parts:
        if (home / part).exists():
            (home / part).rename(temporary_folder / f"{part}.empty")
        (temporary_folder / part).rename(home / part)
    sync(home)
