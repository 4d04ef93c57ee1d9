"""The declared tables, and rows of which a test names the columns that it is about."""

from collections.abc import Iterable
from datetime import date

import polars as pl

from stock_assets import evaluation, features, lifecycle, market, model, publication, side_inputs, trading
from stock_assets.side_inputs.registry import BUILT_IN, DEFAULTS
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES, Column, declared, rooms

assert all(
    (market, side_inputs, features, model, evaluation, lifecycle, trading, publication)
)  # importing declares tables
#: By room, in the order in which rooms import each other: the order of imports in a test must not matter.
_DAILY = ((name, table) for name, table in TABLES.items() if table.exists != "bar")
_OURS = dict(sorted(_DAILY, key=lambda item: rooms().index(item[1].room)))
#: Every table of a market of daily bars and its room, and those that are no assets.
ROOMS = {table.name: table.room for table in _OURS.values()}
HISTORIES = [table.name for table in _OURS.values() if table.history]
#: The side inputs that no market has where the settings do not name them.
NAMED_ALONE = [name for name in BUILT_IN if name not in DEFAULTS]


def rows_of(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the columns of `table` that it lacks: its keys hold the name or day zero, the others null."""
    filler = {pl.String(): pl.lit("-"), pl.Date(): pl.lit(0).cast(pl.Date)}
    table_keys = declared(table).keys

    def value(column: Column) -> pl.Expr:
        return filler.get(column.dtype, pl.lit(0)) if column.name in table_keys else pl.lit(None)

    absent = [column for column in declared(table).columns if column.name not in frame.columns]
    return frame.with_columns(value(column).cast(column.dtype).alias(column.name) for column in absent)


def lose_rows(store: Warehouse, table: str, sessions: Iterable[date]) -> None:
    """Deletes the rows of `sessions` as damage would: the store's record of them stays."""
    days = pl.DataFrame({"day": list(sessions)}, schema={"day": pl.Date}).to_arrow()
    with store.connect(read_only=False) as connection:
        connection.register("days", days)
        connection.execute(f'DELETE FROM {ROOMS[table]}."{table}" WHERE session IN (SELECT day FROM days)')
