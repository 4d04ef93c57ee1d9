"""The answer to a person's own SELECT: it reads the tables and nothing else, within bounds, and fails in one line.

Whatever DuckDB can answer can be shown: what has no counterpart in a frame, a Parquet file or JSON becomes its text.
"""

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from stock_assets.cores import usable_cores
from stock_assets.errors import QueryError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from duckdb.sqltypes import DuckDBPyType

#: Types without a counterpart in Arrow, or whose counterpart loses something: `duckdb.sqltypes.DuckDBPyType.id`.
_TEXT_IN_FRAMES = frozenset(
    ("bignum", "bit", "geometry", "interval", "time with time zone", "time_ns", "time_tz", "union", "uuid", "variant")
)
#: Rows of one piece of an answer.
PIECE = 2048


@dataclass(frozen=True)
class Limits:
    """How much an answer may take: seconds (None: any), memory, and disk beside the store for what does not fit."""

    seconds: float | None = None
    memory: str = "2GB"
    disk: str = "4GB"


DEFAULT_LIMITS = Limits()


class Answer:
    """The rows that a SELECT answers, which are computed when they are asked for."""

    def __init__(self, relation: "duckdb.DuckDBPyRelation") -> None:
        self._relation = relation
        self.columns = _unique(relation.columns)
        """the names of the columns, each one once"""

    def pieces(self, form: Literal["frame", "text", "json"], limit: int | None = None) -> "Iterator[pa.Table]":
        """The first `limit` rows, or all, in pieces; every cell as its text, as JSON, or as a frame may hold it."""
        import pyarrow as pa

        expressions = [
            f"{_as(form, f'#{number}', dtype)} AS {_quoted(name)}"
            for number, (name, dtype) in enumerate(zip(self.columns, self._relation.types, strict=True), 1)
        ]
        relation = self._relation if limit is None else self._relation.limit(limit)
        reader = relation.project(", ".join(expressions)).to_arrow_reader(PIECE)
        yield reader.schema.empty_table()
        for batch in reader:
            yield pa.Table.from_batches([batch])

    def frame(self) -> pl.DataFrame:
        """All rows as a frame."""
        return pl.concat([_polars(piece) for piece in self.pieces("frame")])

    def texts(self, limit: int) -> pl.DataFrame:
        """The first `limit` rows, every cell as its text."""
        return pl.concat([_polars(piece) for piece in self.pieces("text", limit)])

    def height(self) -> int:
        """The number of all rows, which are computed for it."""
        return self._relation.aggregate("count(*)").fetchall()[0][0]


@contextmanager
def answering(
    connection: "duckdb.DuckDBPyConnection", statement: str, limits: Limits, *, spill: Path
) -> Iterator[Answer]:
    """The answer to one SELECT on `connection`, which belongs to it from here on. What does not fit into memory goes to
    the folder `spill`, which is gone afterwards.

    Raises QueryError, also while rows are read, for a statement that is wrong, is not one SELECT, wants more than to
    read, or takes more than `limits`.
    """
    import duckdb

    is_over = threading.Event()

    def stop() -> None:
        is_over.set()
        connection.interrupt()

    timer = threading.Timer(limits.seconds, stop) if limits.seconds else None
    try:
        location = str(spill).replace("'", "''")
        for setting in (
            f"threads = {usable_cores()}",
            f"memory_limit = '{limits.memory}'",
            f"temp_directory = '{location}'",
            f"max_temp_directory_size = '{limits.disk}'",
            "enable_external_access = false",
            "python_enable_replacements = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        if timer:
            timer.start()
        relation = connection.sql(_only_select(connection, statement))
        assert relation is not None  # a SELECT has an answer
        yield Answer(relation)
    except duckdb.Error as error:
        if is_over.is_set():
            raise QueryError(f"the query took longer than {limits.seconds:g} s; ask for less, or allow more") from error
        raise QueryError(f"the query failed: {_line(error)}") from error
    finally:
        if timer:
            timer.cancel()
        shutil.rmtree(spill, ignore_errors=True)


@contextmanager
def answer_of_frames(
    frames: Mapping[str, pl.DataFrame], statement: str, limits: Limits, *, spill: Path
) -> Iterator[Answer]:
    """The answer to a person's own SELECT over `frames`, by table, and nothing else; `spill` as `answering`.

    Raises QueryError for a statement that is wrong, names another table or wants more than to read.
    """
    import duckdb

    with duckdb.connect(":memory:") as connection:
        for name, frame in frames.items():
            connection.register(name, frame.to_arrow())
        with answering(connection, statement, limits, spill=spill) as answer:
            yield answer


def spill_beside(store: Path) -> Path:
    """The folder of this process for what does not fit into memory."""
    return store.with_name(f"{store.name}.query-{os.getpid()}.tmp")


def _only_select(connection: "duckdb.DuckDBPyConnection", statement: str) -> str:
    """The statement, if it is one alone and only reads. Raises QueryError."""
    import duckdb

    try:
        statement.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the statement is no UTF-8 text, from character {error.start + 1} on") from error
    statements = connection.extract_statements(statement)
    if len(statements) != 1:
        raise QueryError(f"the query failed: it is {len(statements)} statements; expected one SELECT")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise QueryError(f"the query failed: it is no SELECT but {statements[0].type.name}; expected one SELECT")
    return statement


def _as(form: str, column: str, dtype: "DuckDBPyType") -> str:
    """The SQL of a column in the form that is asked for."""
    if form == "text" or dtype.id in ("null", "sqlnull"):
        return f"CAST({column} AS VARCHAR)"
    if form == "json":
        finite = f"CASE WHEN isfinite({column}) THEN {column} END" if dtype.id in ("float", "double") else column
        return f"CAST(to_json({finite}) AS VARCHAR)"
    return f"CAST({column} AS VARCHAR)" if _is_text_in_frames(dtype) else column


def _is_text_in_frames(dtype: "DuckDBPyType") -> bool:
    if dtype.id in _TEXT_IN_FRAMES:
        return True
    if dtype.id not in ("list", "array", "struct", "map", "tuple"):
        return False
    children = [child for _, child in dtype.children if not isinstance(child, int | list)]
    return not children or any(map(_is_text_in_frames, children))


def _polars(piece: "pa.Table") -> pl.DataFrame:
    frame = pl.from_arrow(piece)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _unique(names: list[str]) -> list[str]:
    """The names, of which the second a is a_2.

    >>> _unique(["a", "b", "a", "A"])
    ['a', 'b', 'a_2', 'A_3']
    """
    unique: list[str] = []
    taken_names: set[str] = set()
    for name in names:
        unique_name, number = name, 1
        while unique_name.lower() in taken_names:  # DuckDB does not tell capitals from small letters
            number += 1
            unique_name = f"{name}_{number}"
        taken_names.add(unique_name.lower())
        unique.append(unique_name)
    return unique


def _line(error: Exception) -> str:
    """What DuckDB says, without the copy of the statement that it adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message_lines = [line for line in lines if not line.startswith(("LINE ", "^"))]
    return " ".join(message_lines) or type(error).__name__


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
