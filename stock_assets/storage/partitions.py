"""What the store records of every partition that is written: the table `stored_partitions`.

A partition that was made without a row differs by its record from one that was never made, and rows that vanish later
are noticed, since fewer are counted than recorded.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.tables import STORED_PARTITIONS, Table

if TYPE_CHECKING:
    import duckdb

#: The session, or the model year, that names a partition.
Partition = date | int

#: Adds the records of `counted`; the older ones of the same partitions are gone by then.
_INSERT = "INSERT INTO lifecycle.stored_partitions BY NAME SELECT ? AS table_name, partition, rows FROM counted"
_DELETE = (
    "DELETE FROM lifecycle.stored_partitions WHERE table_name = ? AND partition IN (SELECT partition FROM counted)"
)
_DELETE_ALL = "DELETE FROM lifecycle.stored_partitions WHERE table_name = ?"


@dataclass(frozen=True)
class Written:
    """The partitions of a table that one transaction wrote."""

    made: frozenset[Partition]
    """those that are complete now, with or without a row"""
    touched: frozenset[Partition]
    """those with rows among the changed ones; a record that there is follows them"""
    whole: bool = False
    """whether the whole table was replaced"""

    def __or__(self, other: "Written") -> "Written":
        return Written(self.made | other.made, self.touched | other.touched, self.whole or other.whole)


def made_without_rows(read_sql: Callable[[str, str, Sequence[object]], pl.DataFrame], table: str) -> set[str]:
    """The partitions of `table` that are recorded as made without a row, as stored_partitions spells them.

    `read_sql` is that of the warehouse.
    """
    statement = "SELECT partition FROM lifecycle.stored_partitions WHERE table_name = ? AND rows = 0"
    try:
        return set(read_sql("stored_partitions", statement, [table])["partition"])
    except MissingTableError:
        return set()


def first_made(read_sql: Callable[[str, str, Sequence[object]], pl.DataFrame], table: str) -> str | None:
    """The earliest partition of `table` that is recorded as made; None where none is. `read_sql` is that of the
    warehouse."""
    statement = "SELECT min(partition) AS first FROM lifecycle.stored_partitions WHERE table_name = ?"
    try:
        return read_sql("stored_partitions", statement, [table])["first"].item()
    except MissingTableError:
        return None


def partition_column(table: Table) -> str | None:
    """The column whose value names the partition of a row; None for a table that is made as a whole.

    >>> from stock_assets.model.tables import PREDICTIONS
    >>> partition_column(PREDICTIONS)
    'session'
    """
    if table.partitions is None:
        return None
    return "model_year" if table.partitions == "model year" else "session"


def values_of(column: pl.Series) -> frozenset[Partition]:
    """The partitions that a column of sessions or model years names."""
    return frozenset(column.drop_nulls().unique())


def record_partitions(connection: "duckdb.DuckDBPyConnection", table: Table, written: Written) -> None:
    """Records the partitions of `table` that the transaction of `connection` has written, with their rows as they are
    now; those of the tables that follow it count as never made. A history has no partitions and no record."""
    if table.history:
        return
    columns = ", ".join(f"{column.name} {column.duckdb_type}" for column in STORED_PARTITIONS.columns)
    connection.execute(f"CREATE TABLE IF NOT EXISTS lifecycle.stored_partitions ({columns})")
    names = [table.name, *table.followed_by]  # what follows is to be made again, however often somebody is killed
    if written.whole:
        connection.executemany(_DELETE_ALL, [[name] for name in names])
    counts = _counted(connection, table, written)
    connection.register("counted", counts.to_arrow())
    connection.executemany(_DELETE, [[name] for name in names])
    connection.execute(_INSERT, [table.name])


def _counted(connection: "duckdb.DuckDBPyConnection", table: Table, written: Written) -> pl.DataFrame:
    """partition, rows of what is to be recorded."""
    name, column = f'{table.room}."{table.name}"', partition_column(table)
    if column is None:
        return connection.sql(f"SELECT '' AS partition, count(*) AS rows FROM {name}").pl()
    values = sorted(written.made | written.touched)  # pyright: ignore[reportArgumentType]: all of one type
    if not values:
        return pl.DataFrame(schema={"partition": pl.String, "rows": pl.Int64})
    # bounds, so that DuckDB passes over the blocks of older rows
    statement = f"SELECT {column} AS value, count(*) AS rows FROM {name} WHERE {column} BETWEEN ? AND ? GROUP BY ALL"
    rows = connection.sql(statement, params=[values[0], values[-1]]).pl()
    records = connection.execute(
        "SELECT partition FROM lifecycle.stored_partitions WHERE table_name = ?", [table.name]
    ).fetchall()
    known_partitions = {partition for (partition,) in records}
    values_to_count = [value for value in values if value in written.made or str(value) in known_partitions]
    counts = dict(rows.iter_rows())
    return pl.DataFrame(
        {"partition": list(map(str, values_to_count)), "rows": [counts.get(value, 0) for value in values_to_count]},
        schema={"partition": pl.String, "rows": pl.Int64},
    )


# ---------------------------------------------------------------- schema version 2

#: As they were when records were introduced: (table, column of the partition), and those that are made as a whole.
_PARTITIONED: Iterable[tuple[str, str]] = (
    *((name, "session") for name in ("raw_ohlcv", "context_series", "daily_bars", "indicators")),
    *((name, "session") for name in ("stationary_features", "labels", "pca_components", "predictions")),
    *((name, "session") for name in ("reference_predictions", "drift")),
    *((name, "model_year") for name in ("trained_rnn", "trained_baselines", "trained_references", "trained_ensemble")),
)
_WHOLE = (
    "universe",
    "pca_model",
    "evaluation_report",
    "leakage_audit",
    "operations",
    "promotions",
    "tuned_hyperparameters",
)
#: Sessions that such a store was filled with and that have no row, because the look-back of the table was too short.
_WITHOUT_LOOKBACK = {
    "indicators": "SELECT DISTINCT session FROM {daily_bars} WHERE session < {first}",
    "stationary_features": "SELECT DISTINCT session FROM {daily_bars} WHERE session < {first}",
    "pca_components": "SELECT DISTINCT session FROM {daily_bars} WHERE session < {first}",
    "predictions": "SELECT DISTINCT session FROM {daily_bars} WHERE session < {first} AND year(session) >= {served}",
    "drift": "SELECT DISTINCT session FROM {predictions} WHERE session < {first}",
    # a vendor without any series, or one that had none of a session
    "context_series": "SELECT DISTINCT session FROM {raw_ohlcv} ANTI JOIN {context_series} USING (session)",
}


def record_older_rows(connection: "duckdb.DuckDBPyConnection") -> None:
    """Records the partitions of a store from before they were recorded, from its rows.

    A session that a table lacks between others gets no record: it was never made, and is made now.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS lifecycle")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS lifecycle.stored_partitions (table_name VARCHAR, partition VARCHAR, rows BIGINT)"
    )
    statement = "SELECT table_name, schema_name FROM duckdb_tables() WHERE database_name = current_database()"
    tables_with_schema = connection.execute(statement).fetchall()
    places = {name: f'"{schema}"."{name}"' for name, schema in tables_with_schema}
    into = "INSERT INTO lifecycle.stored_partitions BY NAME SELECT"
    for table in (table for table in _WHOLE if table in places):
        connection.execute(f"{into} '{table}' AS table_name, '' AS partition, count(*) AS rows FROM {places[table]}")
    for table, column in ((table, column) for table, column in _PARTITIONED if table in places):
        statement_start = f"{into} '{table}' AS table_name, CAST({column} AS VARCHAR) AS partition"
        connection.execute(f"{statement_start}, count(*) AS rows FROM {places[table]} GROUP BY {column}")
        try:
            first = f"(SELECT min(session) FROM {places[table]})"
            first_model_year = (
                f"(SELECT min(model_year) FROM {places['trained_rnn']})" if "trained_rnn" in places else "9999"
            )
            sessions = _WITHOUT_LOOKBACK[table].format_map(places | {"first": first, "served": first_model_year})
        except KeyError:  # no such sessions of this table, or no table that names them
            continue
        connection.execute(f"{statement_start}, 0 AS rows FROM ({sessions})")


# ---------------------------------------------------------------- schema version 3


def recount_empty_records(connection: "duckdb.DuckDBPyConnection") -> None:
    """Records the rows of sessions that are recorded as made without a row and have some."""
    columns = connection.execute(
        "SELECT table_name, schema_name, column_name FROM duckdb_columns() WHERE database_name = current_database()"
    ).fetchall()
    if not any(table == "stored_partitions" for table, _, _ in columns):  # a store of histories alone
        return
    places = {table: f'"{schema}"."{table}"' for table, schema, column in columns if column == "session"}
    statement = "SELECT DISTINCT table_name FROM lifecycle.stored_partitions WHERE rows = 0"
    for (table,) in connection.execute(statement).fetchall():
        if table in places:
            connection.execute(
                "UPDATE lifecycle.stored_partitions SET rows = counted.rows FROM (SELECT CAST(session AS VARCHAR) AS "
                f"session, count(*) AS rows FROM {places[table]} GROUP BY ALL) AS counted "
                "WHERE table_name = ? AND stored_partitions.rows = 0 AND partition = counted.session",
                [table],
            )
