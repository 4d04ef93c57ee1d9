"""Moving Dagster's memory between a folder and a database: what is there, what may be written, and whether it arrived.

The source is never changed. What is written to a database is one transaction. A folder gets its two parts by a rename
each, after they were written aside and compared; a move that was killed in between goes on with the second.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stock_assets.errors import MoveError
from stock_assets.storage.dagster_database import database_rows, write_database, written_database
from stock_assets.storage.dagster_folder import PARTS, FolderRows, put_in_place, written_aside
from stock_assets.storage.dagster_rows import (
    EVENTS,
    NOTHING,
    TABLES_OF_SCHEDULES,
    Contents,
    DagsterRows,
    contents_of,
    is_empty,
    require_revision,
    require_room,
    require_same,
    under_way,
)
from stock_assets.storage.event_log import BatchingSqliteStorage
from stock_assets.storage.event_rows import OF_PARTITIONS
from stock_assets.storage.postgres import BatchingPostgresStorage

_OF_SCHEDULES = frozenset(table.name for table in TABLES_OF_SCHEDULES)


@dataclass(frozen=True)
class Moved:
    """What was moved: rows by table, and whether the target held all of it before."""

    rows: Mapping[str, int]
    was_there: bool

    @property
    def text(self) -> str:
        """In words."""
        rows_by_table = {name: number for name, number in self.rows.items() if number}
        count_text = ", ".join(
            f"{rows_by_table[name]:,} of {name}" for name in ("runs", EVENTS.name, "job_ticks") if name in rows_by_table
        )
        return f"{sum(rows_by_table.values()):,} rows of Dagster's" + (f" ({count_text})" if count_text else "")


def to_database(home: Path, address: str, *, dry_run: bool) -> Moved:
    """Moves the storage below a DAGSTER_HOME to the database at `address`.

    Raises MoveError for a source that something works on or that an older Dagster wrote, and for a target that holds
    anything else; StockAssetsError where the server does not answer.
    """
    source = FolderRows(home)
    contents = _require_source(source)
    if dry_run:
        with database_rows(address) as target:
            return _result_of(
                contents, require_room(source, contents, target=target.name, target_contents=contents_of(target))
            )
    with written_database(address) as target:
        was_there = require_room(source, contents, target=target.name, target_contents=contents_of(target))
        if not was_there:
            write_database(source, target)
            require_same(source, contents, target)
    _require_same_answers(home, address)
    return _result_of(contents, was_there)


def to_folder(address: str, home: Path, *, dry_run: bool) -> Moved:
    """Moves the storage in the database at `address` below a DAGSTER_HOME. Raises as `to_database`."""
    with database_rows(address) as source:
        contents = _require_source(source)
        target_contents = contents_of(FolderRows(home))
        parts = [part for part in PARTS if _part(target_contents, part) != _part(contents, part)]
        if all(is_empty(_part(target_contents, part)) for part in parts):
            target_contents = contents if not parts else dict.fromkeys(contents, NOTHING)
        was_there = require_room(source, contents, target=str(home), target_contents=target_contents)
        if was_there or dry_run:
            return _result_of(contents, was_there)
        with written_aside(source, home) as temporary_folder:
            require_same(source, contents, FolderRows(temporary_folder))
            _require_same_answers(temporary_folder, address)
            put_in_place(temporary_folder, home, parts)
    return _result_of(contents, was_there)


def _part(contents: Contents, part: str) -> Contents:
    return {
        name: table_contents
        for name, table_contents in contents.items()
        if (name in _OF_SCHEDULES) == (part == "schedules")
    }


def _result_of(contents: Contents, was_there: bool) -> Moved:
    return Moved({name: table_contents.rows for name, table_contents in contents.items()}, was_there)


def _require_source(source: DagsterRows) -> Contents:
    """What the source holds. Raises MoveError where it may not be moved now."""
    if source.revision is None:
        raise MoveError(f"{source.name} holds no runs and events of Dagster's; expected those of this platform")
    require_revision(source)
    if runs := under_way(source):
        raise MoveError(
            f"{len(runs)} run(s) or backfill(s) of {source.name} are not over, {runs[0]} first; move when they are. "
            "What a killed server left is ended by the next stock-assets run"
        )
    return contents_of(source)


def _require_same_answers(home: Path, address: str) -> None:
    """Raises MoveError where Dagster's own event logs over the two differ in what they return of an asset."""
    with (
        _answers_of(BatchingSqliteStorage(str(home))) as folder_answers,
        _answers_of(BatchingPostgresStorage(address)) as database_answers,
    ):
        for question, answer in folder_answers.items():
            if database_answers.get(question) != answer:
                raise MoveError(f"{home} and the database answer differently about {question}; report this as a fault")


@contextmanager
def _answers_of(storage: Any) -> Iterator[Mapping[str, object]]:
    log = storage.event_log_storage
    try:
        yield answers_of(log)
    finally:
        log.dispose()


def answers_of(log: Any) -> dict[str, object]:
    """What an event log of Dagster's answers about each asset: its record, the newest event of each partition, its
    materialized partitions, and its checks."""
    ask: dict[str, Callable[[Any], object]] = {
        "the record": lambda key: [repr(record.asset_entry) for record in log.get_asset_records([key])],
        "the materialized partitions": lambda key: sorted(log.get_materialized_partitions(key)),
        "the attempts": log.get_latest_asset_partition_materialization_attempts_without_materializations,
    }
    answers: dict[str, object] = {}
    for key in sorted(log.all_asset_keys()):
        for question, answer in ask.items():
            answers[f"{question} of {key.to_user_string()}"] = answer(key)
        for kind in OF_PARTITIONS:
            answers[f"{kind.value} of {key.to_user_string()}"] = log.get_latest_storage_id_by_partition(key, kind)
    return answers
