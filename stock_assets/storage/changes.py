"""One change of one table, as `Warehouse.write` makes it, and the partitions that it writes."""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from stock_assets.storage.partitions import Partition, Written, partition_column, values_of
from stock_assets.tables import declared


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
        touched = values_of(self.rows[column])
        if self.makes is not None:
            return Written(frozenset(self.makes), touched, whole)
        if not isinstance(self.replaces, pl.DataFrame):
            return Written(touched, touched, whole)
        # rows of single tickers complete no session, but a version completes its model year
        complete = column in self.replaces.columns and "ticker" not in self.replaces.columns
        replaced = values_of(self.replaces[column]) if column in self.replaces.columns else frozenset()
        return Written(replaced if complete else frozenset(), touched | replaced)
