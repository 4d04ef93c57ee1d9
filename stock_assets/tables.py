"""What a table is: one declaration of its columns, keys and partitions, from which everything else is derived.

Every room declares what it keeps in its `tables.py`. DuckDB's tables, the column schema and the lineage in the UI, the
table of the README and the page `docs/tables.md` come from these declarations, and the store refuses a frame that does
not fit the one of its table.

    LABELS = declare(Table("labels", "features", "buy, sell or hold", (*KEY_COLUMNS, Column("label", pl.Int8(), "…"))))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl

from stock_assets.errors import TableError

#: Raised with every change of a declaration that stored rows have to follow; `storage.migrations` says how they do.
SCHEMA_VERSION = 3
#: The rooms, which are DuckDB schemas and groups of assets, in the order in which they import each other.
ROOMS = ("market", "side_inputs", "features", "model", "evaluation", "lifecycle", "trading", "publication")

UTC_TIME = pl.Datetime("us", "UTC")

_DUCKDB_TYPES: Mapping[pl.DataType, str] = {
    pl.String(): "VARCHAR",
    pl.Date(): "DATE",
    pl.Float64(): "DOUBLE",
    pl.Int64(): "BIGINT",
    pl.Int32(): "INTEGER",
    pl.Int8(): "TINYINT",
    pl.Boolean(): "BOOLEAN",
    UTC_TIME: "TIMESTAMPTZ",
}

Partitions = Literal["session", "labelled session", "predicted session", "model year"]
#: At which intervals a table, an asset, a check or a sensor exists: at 1d, below it, or at each.
Exists = Literal["day", "bar", "both"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    `dtype` is its type in polars. `text` says what it holds, in the words of the UI, and `unit` in which unit, where it
    has one: "listing currency", "fraction", "nats", "UTC". `made_from` names the (table, column)s that it is computed
    from, where that helps a reader.
    """

    name: str
    dtype: pl.DataType
    text: str
    unit: str = ""
    made_from: tuple[tuple[str, str], ...] = ()

    @property
    def duckdb_type(self) -> str:
        """The type of the column in DuckDB, such as DOUBLE."""
        return _DUCKDB_TYPES[self.dtype]


@dataclass(frozen=True)
class Table:
    """One table of the store.

    `room` is the DuckDB schema and the group of the asset, `text` what one row is. A `history` is no asset: a row is
    added when something is decided or seen. `keys` name a row; they are never null. `numbered` is a column of which
    there are as many as the data ask for: `pc_` stands for pc_1, pc_2, … `followed_by` names the tables that tell
    others what this one says: once a partition is written here, it is still to be made there. `exists` says at which
    intervals (`STOCK_ASSETS_INTERVAL`) it is made.
    """

    name: str
    room: str
    text: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()
    partitions: Partitions | None = None
    history: bool = False
    numbered: Column | None = None
    followed_by: tuple[str, ...] = ()
    exists: Exists = "day"
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update({column.name: column for column in self.columns})
        if stray := [key for key in self.keys if key not in self._by_name]:
            raise TableError(f"the keys of {self.name} are no columns of it: {', '.join(stray)}")

    @cached_property
    def schema(self) -> pl.Schema:
        """The columns and their types in polars, without those that are `numbered`."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._by_name)

    def empty(self) -> pl.DataFrame:
        """A frame of the table's columns without a row."""
        return self.schema.to_frame()

    def column(self, name: str) -> Column | None:
        """The column called `name`, None where the table has none."""
        if self.numbered and name.startswith(self.numbered.name) and name.removeprefix(self.numbered.name).isdigit():
            return Column(name, self.numbered.dtype, self.numbered.text, self.numbered.unit, self.numbered.made_from)
        return self._by_name.get(name)

    def fit(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` with the columns of the table in their order and types.

        Whole numbers may be narrower or wider than declared, and a column without a value may have any type. Nothing
        else is converted.

        Raises TableError that names the table, the column, what it has and what was expected: for a column that is
        missing or that the table lacks, for another type, for a null in a key and for a whole number out of range.

        >>> table = Table("prices", "market", "a price", (Column("close", pl.Float64(), "last price"),))
        >>> table.fit(pl.DataFrame({"close": [1.5]})).height
        1
        """
        expected = ", ".join(self.names) + (f", {self.numbered.name}1, …" if self.numbered else "")
        if missing := [name for name in self.names if name not in frame.columns]:
            raise TableError(
                f"rows of {self.name} lack the column {', '.join(missing)}; found {', '.join(frame.columns)}, expected "
                f"{expected}"
            )
        types = frame.schema  # once: polars makes it anew at every look
        order = [*self.names, *(name for name in frame.columns if name not in self._by_name)]
        dtypes = {name: self._require(name, types[name], expected) for name in order}
        fitting_rows = frame.select(order)
        columns_to_convert = [name for name in order if types[name] != dtypes[name]]
        if columns_to_convert:
            try:
                fitting_rows = fitting_rows.with_columns(
                    _converted(name, types[name], dtypes[name]) for name in columns_to_convert
                )
            except pl.exceptions.InvalidOperationError as error:
                raise TableError(f"rows of {self.name} hold a number that does not fit its column: {error}") from None
        for key in self.keys:
            if fitting_rows[key].null_count():
                raise TableError(f"rows of {self.name} hold a null in {key}; expected a value, since {key} is a key")
        return fitting_rows

    def _require(self, name: str, dtype_found: pl.DataType, expected: str) -> pl.DataType:
        """The declared type of column `name`, if a column of type `dtype_found` may become it."""
        column = self.column(name)
        if column is None:
            raise TableError(f"rows of {self.name} have the column {name}, which it lacks; expected {expected}")
        dtype = column.dtype
        alike = (
            dtype_found == dtype
            or dtype_found == pl.Null()
            or (dtype_found.is_integer() and dtype.is_integer())
            or (isinstance(dtype_found, pl.Datetime) and dtype_found.time_zone and isinstance(dtype, pl.Datetime))
        )
        if not alike:
            raise TableError(f"rows of {self.name} hold {name} as {dtype_found}; expected {dtype}")
        return dtype


def _converted(name: str, source_type: pl.DataType, target_type: pl.DataType) -> pl.Expr:
    values = pl.col(name)
    if isinstance(source_type, pl.Datetime) and isinstance(target_type, pl.Datetime):
        values = values.dt.convert_time_zone("UTC")
    return values.cast(target_type, strict=True)


#: Every table that is declared, by name. Importing a room declares its tables.
TABLES: dict[str, Table] = {}


def declare(table: Table) -> Table:
    """`table`, known to the store from now on.

    Raises TableError where another table of that name is declared.
    """
    if TABLES.setdefault(table.name, table) != table:
        raise TableError(f"the table {table.name} is declared twice, in {TABLES[table.name].room} and in {table.room}")
    return table


def redeclare(table: Table) -> Table:
    """`table` in the place of the declaration of its name: what is registered from outside a room adds columns to it.

    Raises TableError where no table of that name is declared, and where `table` lacks one of its columns.
    """
    if missing := [name for name in declared(table.name).names if name not in table.names]:
        raise TableError(f"the new declaration of {table.name} lacks {', '.join(missing)}; expected it to add columns")
    TABLES[table.name] = table
    return table


def declared(name: str) -> Table:
    """The declaration of the table `name`. Raises TableError where there is none."""
    if name not in TABLES:
        raise TableError(
            f"no table {name} is declared; expected one of {', '.join(TABLES) or 'none'}. Declare it with "
            "stock_assets.tables.declare before rows are written"
        )
    return TABLES[name]


def rooms() -> tuple[str, ...]:
    """Every room: ROOMS, then those of tables that were declared elsewhere."""
    return tuple(dict.fromkeys((*ROOMS, *(table.room for table in TABLES.values()))))


#: The columns that most tables begin with.
TICKER = Column("ticker", pl.String(), "the ticker as the source spells it")
SESSION = Column("session", pl.Date(), "the trading day, in the exchange's own time zone")
KEY_COLUMNS = (TICKER, SESSION)
BAR_END = Column("bar_end", UTC_TIME, "the end of the bar: it holds what was traded before it", unit="UTC")
BAR_KEY_COLUMNS = (*KEY_COLUMNS, BAR_END)

#: What the store itself keeps of every other table but the histories; `storage.partitions` writes it.
STORED_PARTITIONS = declare(
    Table(
        "stored_partitions",
        "lifecycle",
        "one partition of a table as it was last written, so that rows that were never made or were lost are noticed",
        (
            Column("table_name", pl.String(), "the table"),
            Column("partition", pl.String(), "the session or the model year; empty for a table made as a whole"),
            Column("rows", pl.Int64(), "rows that the partition had then; 0 where it was made and has none"),
        ),
        keys=("table_name", "partition"),
        history=True,
        exists="both",
    )
)
