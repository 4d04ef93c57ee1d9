"""Dagster's storage in a database as the files of a backup: a Parquet file per table, and the events in several.

about.json                  the schema of the tables, the last id that an event was given
<table>.parquet
event_logs-<n>.parquet      the events whose ids begin at n; those of the past are the same in the next backup
"""

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlalchemy import Boolean, DateTime, Float, Integer, LargeBinary, String, Table, select

from stock_assets.errors import BackupError
from stock_assets.files import make_folder, write_file
from stock_assets.storage.dagster_rows import EVENTS, ROWS_AT_ONCE, TABLES, Event, Rows, read
from stock_assets.storage.elsewhere import read_rows

if TYPE_CHECKING:
    from stock_assets.storage.dagster_database import DatabaseRows

ABOUT = "about.json"
#: Ids of events of one file.
IDS_OF_A_FILE = 20_000
#: What a column of Dagster's is in a file, by the first kind that it is of.
_TYPES: tuple[tuple[type, Any], ...] = (
    (Boolean, pl.Boolean()),
    (Integer, pl.Int64()),
    (Float, pl.Float64()),
    (DateTime, pl.Datetime("us")),
    (LargeBinary, pl.Binary()),
    (String, pl.String()),
)


def write_files(source: "DatabaseRows", folder: Path) -> list[Path]:
    """Writes what `source` holds to new files in `folder`; their paths."""
    make_folder(folder)
    files = []
    for table in TABLES:
        files.append(_write(folder / f"{table.name}.parquet", table, list(source.rows(table))))
    by_id = read(source.connection, select(EVENTS).order_by(EVENTS.c.id))
    for part, rows in groupby(by_id, key=lambda row: row["id"] // IDS_OF_A_FILE):
        name = f"{EVENTS.name}-{part * IDS_OF_A_FILE:012}.parquet"
        files.append(_write(folder / name, EVENTS, list(rows)))
    facts = {"revision": source.revision, "last_event_id": source.last_event_id, "database": source.name}
    write_file(folder / ABOUT, json.dumps(facts, indent=1).encode())
    return [*files, folder / ABOUT]


def _write(file: Path, table: Table, rows: list[Any]) -> Path:
    schema = {column.name: _type_of(column.type) for column in table.columns}
    pl.DataFrame(rows, schema=schema).write_parquet(file)
    file.chmod(0o600)
    return file


def _type_of(kind: object) -> pl.DataType:
    return next(polars_type for sql_type, polars_type in _TYPES if isinstance(kind, sql_type))


class ParquetRows:
    """The files in `folder`, to be read. Raises BackupError where they are not whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._about = json.loads((folder / ABOUT).read_bytes())
        except (OSError, ValueError) as error:
            raise BackupError(
                f"{folder / ABOUT} cannot be read: {type(error).__name__}; take another backup"
            ) from error

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def revision(self) -> str | None:
        return self._about["revision"]

    @property
    def last_event_id(self) -> int:
        return self._about["last_event_id"]

    def rows(self, table: Table) -> Rows:
        yield from read_rows(self.folder / f"{table.name}.parquet").iter_rows(named=True)

    def events(self) -> Iterator[Event]:
        files = sorted(self.folder.glob(f"{EVENTS.name}-*.parquet"))
        if not files:
            return
        all_events = pl.concat(read_rows(file) for file in files).sort("run_id", "id")
        for batch in all_events.iter_slices(ROWS_AT_ONCE):
            yield from (Event(**row) for row in batch.iter_rows(named=True))
