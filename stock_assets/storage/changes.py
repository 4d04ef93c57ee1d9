"""One change of one table, the partitions that it writes, and how DuckDB makes it."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from stock_assets.storage.attached import quoted
from stock_assets.storage.partitions import Partition, Written, partition_column, values_of
from stock_assets.tables import TABLES, Table, declared

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


#: Rows of one row group of DuckDB.
ROW_GROUP = 122_880


class AllRows:
    """Every row of a table."""


class NoRow:
    """No row: those whose key the table has already are not added."""


ALL_ROWS, NO_ROW = AllRows(), NoRow()


@dataclass(frozen=True)
class Change:
    """One change of one table: `rows` are added after the rows that they replace were deleted.

    `replaces` is None where rows are added alone, ALL_ROWS, NO_ROW where only rows of new keys are added, or a frame:
    every stored row that agrees with one of it in all its columns is replaced. `makes` are the partitions that are
    complete afterwards, with or without a row, and are recorded as such; None stands for those that are replaced as a
    whole, or that rows are added to alone.
    """

    table: str
    rows: pl.DataFrame
    replaces: pl.DataFrame | AllRows | NoRow | None = None
    makes: Collection[Partition] | None = None

    @property
    def written(self) -> Written:
        """The partitions that it writes."""
        column, whole = partition_column(declared(self.table)), isinstance(self.replaces, AllRows)
        if column is None:
            return Written(frozenset(), frozenset(), whole)
        touched_values = values_of(self.rows[column])
        if self.makes is not None:
            return Written(frozenset(self.makes), touched_values, whole)
        if not isinstance(self.replaces, pl.DataFrame):
            return Written(touched_values, touched_values, whole)
        # rows of single tickers complete no session, but a version completes its model year
        complete = column in self.replaces.columns and "ticker" not in self.replaces.columns
        replaced_values = values_of(self.replaces[column]) if column in self.replaces.columns else frozenset()
        return Written(replaced_values if complete else frozenset(), touched_values | replaced_values)


def change_table(
    connection: "duckdb.DuckDBPyConnection",
    table: Table,
    rows: "pa.Table",
    *,
    replaces: pl.DataFrame | AllRows | NoRow | None,
) -> None:
    """Puts `rows` into the table, in the place of those that they replace (`Change.replaces`)."""
    if isinstance(replaces, AllRows):
        execute(connection, f"CREATE OR REPLACE TABLE {qualified(table.name)} AS SELECT * FROM _incoming", rows)
        return
    _create(connection, table, rows)
    if isinstance(replaces, NoRow):
        keys = ", ".join(map(quoted, table.keys))
        _insert(
            connection,
            table.name,
            rows,
            condition=f"WHERE ({keys}) NOT IN (SELECT ({keys}) FROM {qualified(table.name)})",
        )
        return
    if replaces is not None:
        columns = ", ".join(map(quoted, replaces.columns))
        execute(
            connection,
            f"DELETE FROM {qualified(table.name)} WHERE ({columns}) IN (SELECT ({columns}) FROM _incoming)",
            replaces.to_arrow(),
        )
    _insert(connection, table.name, rows)


def execute(
    connection: "duckdb.DuckDBPyConnection",
    statement: str,
    _incoming: "pa.Table",
) -> "duckdb.DuckDBPyConnection":
    """Executes `statement`, which reads the table `_incoming`: DuckDB finds it among the variables of this function.

    Of a table that is registered DuckDB keeps the rows until the transaction ends, and those of all blocks of a long
    range together do not fit into memory.
    """
    return connection.execute(statement)


def whole_row_groups(blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows of `blocks` in their order, in frames of whole row groups of DuckDB but for the last.

    Of inserts in one transaction that end within a row group DuckDB writes the rows twice, and keeps the space of both.

    >>> blocks = (pl.DataFrame({"a": range(100_000)}) for _ in range(3))
    >>> [rows.height for rows in whole_row_groups(blocks)]
    [122880, 122880, 54240]
    """
    waiting = pl.DataFrame()
    for block in filter(len, blocks):
        waiting = pl.concat([waiting, block]) if waiting.height else block
        whole = waiting.height // ROW_GROUP * ROW_GROUP
        if whole:
            yield waiting.head(whole).rechunk()  # each chunk is a batch of its own to DuckDB
            waiting = waiting.slice(whole)
    if waiting.height:
        yield waiting.rechunk()


def _create(connection: "duckdb.DuckDBPyConnection", table: Table, rows: "pa.Table") -> None:
    """Makes the table as it is declared, or gives it the columns that `rows` have and it lacks (null in the older
    ones)."""
    columns = ", ".join(f"{quoted(column.name)} {column.duckdb_type}" for column in table.columns)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {qualified(table.name)} ({columns})")
    column_names = {name for name, *_ in connection.execute(f"DESCRIBE {qualified(table.name)}").fetchall()}
    for name, kind, *_ in execute(connection, "DESCRIBE _incoming", rows).fetchall():
        if name not in column_names:
            connection.execute(f"ALTER TABLE {qualified(table.name)} ADD COLUMN {quoted(name)} {kind}")


def _insert(connection: "duckdb.DuckDBPyConnection", table: str, rows: "pa.Table", *, condition: str = "") -> None:
    # after a DELETE and an INSERT of no row DuckDB 2.0 sees none of the rows that the same transaction inserts later
    if rows.num_rows:
        execute(connection, f"INSERT INTO {qualified(table)} BY NAME SELECT * FROM _incoming {condition}", rows)


def qualified(table: str) -> str:
    """The name of the table with its room, which an undeclared table is searched for in all rooms."""
    return f"{TABLES[table].room}.{quoted(table)}" if table in TABLES else quoted(table)
