"""From a file to a frame: every column as it stands in the file, text where the file is text."""

from pathlib import Path

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.sources.forms.columns import our_names
from stock_assets.market.sources.forms.listing import CSV, PARQUET, DataFile


def open_table(file: DataFile, place: str) -> pl.DataFrame:
    """The rows of `file` under our names (`columns`), without the columns that have none.

    Raises SourceError, which names `place`, where it cannot be read or lacks a column, EmptySourceError without a row.
    """
    if file.size == 0:
        raise EmptySourceError(f"{place} is empty, expected bars")
    try:
        scan = _scan(file.path)
        ours = our_names(scan.collect_schema().names(), place)
        table = scan.select(pl.col(theirs).alias(column) for column, theirs in ours.items()).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        kind = "Parquet" if file.path.suffix.lower() in PARQUET else "CSV"
        raise SourceError(f"{place} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    if table.is_empty():
        raise EmptySourceError(f"{place} has no rows, expected bars")
    return table


def _scan(file: Path) -> pl.LazyFrame:
    if file.suffix.lower() in PARQUET:
        return pl.scan_parquet(file, glob=False, hive_partitioning=False)
    if file.suffix.lower() in CSV:
        # everything as text, so that what is no number can be shown as it stands there
        return pl.scan_csv(file, infer_schema=False, glob=False)
    raise SourceError(f"{file} ends in {file.suffix!r}, expected {', '.join(PARQUET + CSV)} or a folder")
