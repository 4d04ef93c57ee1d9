"""Which partitions of the tables are there: recorded as made, with all rows that were written."""

from collections.abc import Iterable

import polars as pl

from stock_assets.lifecycle.partitions import Stored
from stock_assets.storage.partitions import partition_column
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES, declared

_COUNTS = pl.DataFrame(schema={"partition": pl.String, "rows": pl.Int64})


def stored_partitions(store: Warehouse, tables: Iterable[str] | None = None) -> dict[str, Stored]:
    """The partitions of `tables`, of all that are assets where None, by table: every row is counted.

    Raises StoreBusyError while a writer holds the store.
    """
    names = [name for name in tables if name in TABLES] if tables is not None else list(TABLES)
    names = [name for name in names if not declared(name).history]
    statements = {name: _counts_of(name) for name in names}
    answers = store.read_each(statements | {"": "SELECT table_name, partition, rows FROM lifecycle.stored_partitions"})
    records = answers[""]
    return {name: _stored_partitions(records, name, answers[name]) for name in names}


def _counts_of(table: str) -> str:
    column = partition_column(declared(table))
    partition_name = f"CAST({column} AS VARCHAR)" if column else "''"
    return f'SELECT {partition_name} AS partition, count(*) AS rows FROM {declared(table).room}."{table}" GROUP BY ALL'


def _stored_partitions(records: pl.DataFrame | None, table: str, counts: pl.DataFrame | None) -> Stored:
    if records is None:
        return Stored(frozenset(), frozenset(), frozenset())
    pairs = (
        records.filter(pl.col("table_name") == table)
        .join(_COUNTS if counts is None else counts, on="partition", how="left", suffix="_counted")
        .with_columns(pl.col("rows_counted").fill_null(0))
    )

    def partitions(condition: pl.Expr) -> frozenset[str]:
        return frozenset(pairs.filter(condition)["partition"])

    is_complete = pl.col("rows_counted") >= pl.col("rows")
    return Stored(
        partitions(is_complete & (pl.col("rows") > 0)),
        partitions(is_complete & (pl.col("rows") == 0)),
        partitions(~is_complete),
    )


def all_there(store: Warehouse, tables: Iterable[str], *, first: str | None, last: str | None) -> bool:
    """Whether each of `tables` has all rows of the partitions from `first` to `last` that any of them has, these two
    included; a table that is made as a whole has to be there, and `operations` up to the predictions. A name that is
    no table is passed over.
    """
    if "operations" in (names := list(tables)) and store.last_session("operations") != store.last_session(
        "predictions"
    ):
        return False
    partitions_of = stored_partitions(store, names)
    parts = [table for table in partitions_of if declared(table).partitions]
    within = {
        partition
        for table in parts
        for partition in partitions_of[table].all
        if first and first <= partition <= (last or first)
    }
    expected = within | {partition for partition in (first, last) if partition}
    return all(
        expected <= partitions_of[table].there if table in parts else "" in partitions_of[table].there
        for table in partitions_of
    )
