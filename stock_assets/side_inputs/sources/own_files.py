"""Tables of a person's own: CSV, Parquet or JSONL, with columns by name."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.escape import shortened
from stock_assets.market.times import parse_moments

#: Bytes of a file: a million messages.
MOST_BYTES = 2_000_000_000


def read_table(path: Path, *, required_columns: Sequence[str]) -> pl.DataFrame:
    """The table of a `.csv`, `.parquet` or `.jsonl` file, its columns in lower case.

    Raises SourceError for a file that cannot be read and for one that lacks a column of `required_columns`.
    """
    kind = path.suffix.lower()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SourceError(f"{path} has more than {MOST_BYTES / 1e9:g} GB, expected less")
        if kind in (".parquet", ".pq"):
            table = pl.read_parquet(path, glob=False)
        elif kind in (".jsonl", ".ndjson"):
            table = pl.read_ndjson(path, infer_schema_length=None)
        else:
            table = pl.read_csv(path, infer_schema=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{path} cannot be read as CSV, Parquet or JSONL: {first_line}") from error
    names = [name.strip().lower() for name in table.columns]
    if len(set(names)) < len(names):
        raise SourceError(f"{path} has two columns of one name: {shortened(', '.join(table.columns))}")
    table.columns = names
    if missing := [name for name in required_columns if name not in names]:
        raise SourceError(
            f"{path} lacks the column {' and '.join(missing)}; found {shortened(', '.join(names))}, expected "
            f"{', '.join(required_columns)}"
        )
    return table


def texts(table: pl.DataFrame, column: str) -> list[str | None]:
    """The cells of a column as text without spaces around; None where there is nothing."""
    cells = table[column].cast(pl.String).str.strip_chars()
    return cells.set(cells == "", None).to_list()


def moments(table: pl.DataFrame, column: str, path: Path) -> list[datetime | None]:
    """The moments (UTC) of a column; times without a zone are those of UTC. Raises SourceError naming file and row."""
    return parse_moments(table[column], place=f"{path}, column {column}").at.to_list()
