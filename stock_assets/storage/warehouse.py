"""The DuckDB file that holds every table. Nothing else opens it.

One process writes at a time; a connection lives for one statement batch, so the others wait milliseconds.
Table and column names are identifiers known here, values are parameters: nothing configured is ever SQL.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from stock_assets.errors import BadBarsError, MissingSessionsError, MissingTableError, StockAssetsError
from stock_assets.lakes import Lake
from stock_assets.memory import DEFAULT_MEMORY, Memory
from stock_assets.storage.attached import limit_memory, opened, quoted, search_rooms
from stock_assets.storage.changes import ALL_ROWS, NO_ROW, Change, change_table, qualified, whole_row_groups
from stock_assets.storage.lake import attached_store, file_for, lake_exists, require_lock, require_unique, snapshot
from stock_assets.storage.migrations import is_current, migrate, schema_version
from stock_assets.storage.partitions import Written, made_without_rows, record_partitions
from stock_assets.storage.queries import Answer, Limits, answering, spill_beside
from stock_assets.tables import STORED_PARTITIONS, TABLES, declared, rooms

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from stock_assets.settings import Settings


@dataclass(frozen=True)
class Warehouse:
    """The store of all tables: one DuckDB file, or a lake.

    `wait` is the number of seconds that a locked store is tried again before StoreBusyError.
    """

    path: Path
    """the file; where the store is a lake, only what this host keeps for itself lies beside it"""
    wait: float = 60.0
    memory: Memory = DEFAULT_MEMORY
    lake: Lake | None = None

    @classmethod
    def of(cls, settings: "Settings") -> "Warehouse":
        """The store that the settings name."""
        return cls(settings.database, memory=settings.memory_budget, lake=settings.lake)

    def patient(self, seconds: float) -> "Warehouse":
        """The same store, which is waited for no longer than so many seconds."""
        return replace(self, wait=min(self.wait, seconds))

    @property
    def place(self) -> Path | Lake:
        """Where the rows are, for a message."""
        return self.lake or self.path

    def exists(self) -> bool:
        """Whether anything was ever written. Raises LakeError."""
        return self.path.exists() if self.lake is None else lake_exists(self.lake)

    def stamp(self) -> tuple[object, ...] | None:
        """Differs once anything was written; None without a store. No writer has to wait. Raises LakeError."""
        if self.lake is not None:
            return snapshot(self.lake) or None
        stats = []
        for path in (self.path, self.path.with_name(f"{self.path.name}.wal")):
            with suppress(FileNotFoundError):
                stat = path.stat()
                stats.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(stats) or None

    @contextmanager
    def connect(self, *, read_only: bool) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection whose unqualified table names are found in every room; an older store is migrated first.

        Raises StoreBusyError when another process keeps the file locked for longer than `wait` seconds, and
        StockAssetsError for a store that a newer version of this code has written.
        """
        with self._open(read_only=read_only) as connection:
            current = is_current(connection, self.place)
            if not current and not read_only:
                migrate(connection, self.place)
            if current or not read_only or schema_version(connection) is None:
                yield connection
                return
        with self.connect(read_only=False):
            pass  # it is migrated now
        with self._open(read_only=True) as connection:
            yield connection

    @contextmanager
    def _open(self, *, read_only: bool) -> Iterator["duckdb.DuckDBPyConnection"]:
        if not read_only:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not self.exists():
            raise _no_store(self)
        with attached_store(self, read_only=read_only) as (connection, database):
            limit_memory(connection, self.memory)
            search_rooms(connection, database, make=not read_only)
            yield connection

    # ---------------------------------------------------------------- reading

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What this thread reads between the lines is read from one opening of the file, which other processes cannot
        write to meanwhile: for many small reads, and no writing, one after the other."""
        if not self.exists():
            yield
            return
        with self.connect(read_only=True):
            yield

    def read(
        self,
        table: str,
        first: date | None = None,
        last: date | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """The rows of `table` from session `first` to `last` (both included, open where None), unsorted.

        Raises MissingTableError before anything was written to the table.
        """
        selection = ", ".join(map(quoted, columns)) if columns else "*"
        bounds = {f"session {sign} ?": day for sign, day in ((">=", first), ("<=", last)) if day is not None}
        condition = f"WHERE {' AND '.join(bounds)}" if bounds else ""
        return self._select(table, f"SELECT {selection} FROM {qualified(table)} {condition}", list(bounds.values()))

    def read_tickers(
        self, table: str, tickers: Sequence[str], first: date, *, last: date, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """As `read`, the rows of `tickers` alone."""
        selection = ", ".join(map(quoted, columns)) if columns else "*"
        return self._select(
            table,
            f"SELECT {selection} FROM {qualified(table)} WHERE session BETWEEN ? AND ? "
            "AND ticker IN (SELECT unnest(?::VARCHAR[]))",
            [first, last, list(tickers)],
        )

    def rows_by(self, table: str, column: str, first: date, *, last: date) -> dict[Any, int]:
        """The number of rows by the value of `column`, ascending, of sessions from `first` to `last`; none without a
        table."""
        name = quoted(column)
        statement = (
            f"SELECT {name}, count(*) AS rows FROM {qualified(table)} WHERE session BETWEEN ? AND ? "
            f"GROUP BY {name} ORDER BY {name}"
        )
        try:
            return dict(self.read_sql(table, statement, [first, last]).iter_rows())
        except MissingTableError:
            return {}

    def read_or(
        self,
        empty: pl.DataFrame,
        table: str,
        first: date | None = None,
        *,
        last: date | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """As `read`, but `empty` before anything was written to the table."""
        try:
            return self.read(table, first, last, columns=columns)
        except MissingTableError:
            return empty

    def sessions(self, table: str, first: date | None = None, last: date | None = None) -> set[date]:
        """The sessions from `first` to `last` of which `table` holds at least one row; none without a table."""
        try:
            rows = self.read_sql(
                table,
                f"SELECT DISTINCT session FROM {qualified(table)} WHERE session BETWEEN ? AND ?",
                [first or date.min, last or date(9999, 12, 31)],
            )
        except MissingTableError:
            return set()
        return set(rows["session"])

    def last_session(self, table: str) -> date | None:
        """The newest session of `table`; None without a row or a table."""
        try:
            return self.read_sql(table, f"SELECT max(session) AS session FROM {qualified(table)}").item()
        except MissingTableError:
            return None

    def read_each(self, statements: Mapping[str, str]) -> dict[str, pl.DataFrame | None]:
        """The answer to every SELECT, by its name, on one connection; None where its table is not there yet.

        Opening the file costs several times what a small question does.
        """
        import duckdb

        if not self.exists():
            return dict.fromkeys(statements)
        answers: dict[str, pl.DataFrame | None] = {}
        with self.connect(read_only=True) as connection:
            for name, statement in statements.items():
                try:
                    answers[name] = connection.sql(statement).pl()
                except duckdb.CatalogException as error:
                    if "does not exist" not in str(error):
                        raise
                    answers[name] = None
        return answers

    def require(self, tables: Sequence[str], sessions: Sequence[date], needed_by: str, *, why: str = "") -> None:
        """Raises MissingSessionsError unless every one of `tables` holds a row of every one of `sessions`, or a record
        that the session was made without one: no ticker traded on it.

        `tables` stand in the order they are made, so that the error names the first step to take.
        """
        if not sessions:
            return
        span = f"WHERE session BETWEEN DATE '{min(sessions)}' AND DATE '{max(sessions)}'"
        frames = self.read_each({table: f"SELECT DISTINCT session FROM {qualified(table)} {span}" for table in tables})
        for table in tables:
            sessions_there = set(rows["session"]) if (rows := frames[table]) is not None else set()
            if missing := [session for session in sessions if session not in sessions_there]:
                empty = made_without_rows(self.read_sql, table)
                missing = [session for session in missing if str(session) not in empty]
            if missing:
                raise MissingSessionsError(needed_by, table, missing, why=why)

    def read_sql(self, table: str, statement: str, parameters: Sequence[object] = ()) -> pl.DataFrame:
        """The answer to a SELECT over `table`, written by this code with ? in place of every value."""
        return self._select(table, statement, parameters)

    def _select(self, table: str, statement: str, parameters: Sequence[object]) -> pl.DataFrame:
        import duckdb

        if not self.exists():
            raise MissingTableError(table)
        with self.connect(read_only=True) as connection:
            try:
                return connection.sql(statement, params=list(parameters) or None).pl()
            except duckdb.CatalogException as error:
                if not _is_there(connection, table):  # whatever DuckDB calls it
                    raise MissingTableError(table) from error
                raise

    def query(self, statement: str) -> pl.DataFrame:
        """The answer to a person's own SELECT, on a read-only connection that reaches no other file.

        Raises QueryError for a statement that is wrong or wants more than to read.
        """
        with self.answer(statement, Limits(memory=f"{self.memory.duckdb}B")) as answer:
            return answer.frame()

    @contextmanager
    def answer(self, statement: str, limits: Limits) -> Iterator[Answer]:
        """As `query`, within `limits`, and for who does not want all rows at once."""
        if not self.exists():
            raise _no_store(self)
        # a DuckDB of its own, as its settings are for ever
        with file_for(self, statement) as file, opened(file, self.wait) as connection:
            is_current(connection, file)  # one of a newer version is refused
            search_rooms(connection, file.stem)
            with answering(connection, statement, limits, spill=spill_beside(self.path)) as answer:
                yield answer

    def row_counts(self) -> dict[str, int]:
        """The number of rows of every table that exists but the store's own records, in the order of the graph."""
        if not self.exists():
            return {}
        place = {room: i for i, room in enumerate(rooms())}
        order = sorted(TABLES.values(), key=lambda table: place[table.room])
        with self.connect(read_only=True) as connection:
            statement = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
            present = {name for (name,) in connection.execute(statement).fetchall()}
            counts = {}
            for table in (table.name for table in order if table.name in present and table is not STORED_PARTITIONS):
                row = connection.execute(f"SELECT count(*) FROM {qualified(table)}").fetchone()
                counts[table] = row[0] if row else 0
        return counts

    # ---------------------------------------------------------------- writing, always in one transaction

    def replace_sessions(
        self,
        table: str,
        sessions: Sequence[date],
        frame: pl.DataFrame,
        *,
        beside: Mapping[str, pl.DataFrame] | None = None,
    ) -> None:
        """Puts `frame` in the place of every row of `sessions`, in one transaction: twice gives the same rows.

        The rows of `beside`, by table, are appended in the same transaction and complete no partition. Raises
        BadBarsError when `frame` holds a session that is not among `sessions`, and TableError where rows do not fit.
        """
        if stray := sorted(set(frame["session"].unique()) - set(sessions)):
            raise BadBarsError(f"rows of {table} for {stray[0]} would be written outside the chosen sessions")
        replaced_keys = pl.DataFrame({"session": list(sessions)}, schema={"session": pl.Date})
        self.replace_rows(table, replaced_keys, frame, beside=beside)

    def replace_rows(
        self,
        table: str,
        keys: pl.DataFrame,
        frame: pl.DataFrame,
        *,
        beside: Mapping[str, pl.DataFrame] | None = None,
    ) -> None:
        """Puts `frame` in the place of every row that agrees with a row of `keys` in all its columns, and appends the
        rows of `beside`, by table: in one transaction. Raises TableError where rows do not fit their table."""
        further_changes = [Change(name, rows, makes=()) for name, rows in (beside or {}).items()]
        self.write([Change(table, frame, keys), *further_changes])

    def replace_table(self, table: str, frame: pl.DataFrame) -> None:
        """Puts `frame` in the place of the whole table, in one transaction. Raises TableError where rows do not fit."""
        self.write([Change(table, frame, ALL_ROWS)])

    def append(self, table: str, frame: pl.DataFrame) -> None:
        """Adds the rows of `frame`, in one transaction. Raises TableError where rows do not fit their table."""
        self.write([Change(table, frame)])

    def add_new(self, table: str, frame: pl.DataFrame) -> None:
        """Adds the rows of `frame` whose key the table lacks, in one transaction, so that two processes that add the
        same rows leave each once. Raises TableError where rows do not fit."""
        self.write([Change(table, frame.unique(declared(table).keys, keep="first", maintain_order=True), NO_ROW)])

    def write(self, changes: Sequence["Change"]) -> None:
        """Makes all `changes`, of one table or of several, in their order and in one transaction.

        The partitions that they write are recorded with them (`storage.partitions`). Raises TableError where rows do
        not fit their table; then nothing is written.
        """
        declared_changes = [(change, declared(change.table)) for change in changes]
        rows = [table.fit(change.rows).to_arrow() for change, table in declared_changes]  # before the file is locked
        partitions_of: dict[str, Written] = {}
        for change, table in declared_changes:
            partitions_of[table.name] = (
                partitions_of.get(table.name, Written(frozenset(), frozenset())) | change.written
            )
        with self._transaction() as connection:
            for (change, _), incoming in zip(declared_changes, rows, strict=True):
                self._make(connection, change, incoming)
            for name, partitions in partitions_of.items():
                record_partitions(connection, declared(name), partitions)

    def write_in_blocks(
        self, change: "Change", blocks: Iterable[pl.DataFrame], *, beside: Sequence["Change"] = ()
    ) -> None:
        """Makes `change` with the rows of `blocks`, which need not be in memory together, and then those `beside`: in
        one transaction, which waits for each block. Raises TableError as `write`, and nothing is written."""
        changes = [change, *beside]
        partitions_of = {change_of_table.table: Written(frozenset(), frozenset()) for change_of_table in changes}
        with self._transaction() as connection:

            def make(change_of_table: Change) -> None:
                self._make(
                    connection, change_of_table, declared(change_of_table.table).fit(change_of_table.rows).to_arrow()
                )
                partitions_of[change_of_table.table] |= change_of_table.written

            make(change)
            for rows in whole_row_groups(blocks):
                make(replace(change, rows=rows, replaces=None))
            for change_of_table in beside:
                make(change_of_table)
            for name, partitions in partitions_of.items():
                record_partitions(connection, declared(name), partitions)

    def _make(self, connection: "duckdb.DuckDBPyConnection", change: "Change", rows: "pa.Table") -> None:
        table = declared(change.table)
        change_table(connection, table, rows, replaces=change.replaces)
        if self.lake is not None:
            require_unique(connection, table, rows)

    @contextmanager
    def _transaction(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection inside a transaction, which an exception rolls back."""
        with self.connect(read_only=False) as connection:
            connection.execute("BEGIN TRANSACTION")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            if self.lake is not None:
                require_lock(self.lake)
            connection.execute("COMMIT")


def _no_store(store: Warehouse) -> StockAssetsError:
    return StockAssetsError(f"there is no store at {store.place} yet: nothing has been materialized")


def _is_there(connection: "duckdb.DuckDBPyConnection", table: str) -> bool:
    """Whether the connected store has the table."""
    statement = "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND table_name = ?"
    return connection.execute(statement, [table]).fetchall()[0][0] > 0
