"""Whether two stores hold the same rows, column by column.

    python -m benchmarks.compare_stores ONE.duckdb OTHER.duckdb [--tolerance 1e-9] [--leave-out table.column ...]

Rows are paired by the keys that the tables are declared with. Floating-point numbers may differ by the tolerance,
relative to the larger one; all else has to be equal. Ends with exit code 1 where something differs.
"""

import argparse
import sys
from pathlib import Path

import duckdb
import polars as pl

from stock_assets import evaluation, features, lifecycle, market, model
from stock_assets.storage.migrations import MIGRATIONS
from stock_assets.tables import TABLES, rooms

ROOMS = (market, features, model, evaluation, lifecycle)
#: When something was done, and names that are made of it: two runs never agree on these.
MOMENTS = ("fetched_at", "trained_at", "decided_at", "seen_at", "started", "first_at", "last_at", "sent_at", "facts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs=2, type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--leave-out", nargs="*", default=[], help="columns that are not compared, as table.column")
    options = parser.parse_args()
    all_differences: list[str] = []
    for name in TABLES:
        rows_of_first, rows_of_second = (read(store, name) for store in options.stores)
        left_out = [*MOMENTS, *(c.partition(".")[2] for c in options.leave_out if c.startswith(f"{name}."))]
        differences = compared(name, rows_of_first, rows_of_second, tolerance=options.tolerance, left_out=left_out)
        rows = (
            "no such table"
            if rows_of_first is None
            else f"{rows_of_first.height:,} rows, {rows_of_first.width} columns"
        )
        print(f"{name}: {rows}: {'; '.join(differences) or 'equal'}", flush=True)
        all_differences += differences
    sys.exit(1 if all_differences else 0)


def read(store: Path, table: str) -> pl.DataFrame | None:
    """The rows of `table`, None where the store has none; the names of columns are those of today."""
    with duckdb.connect(store, read_only=True) as connection:
        connection.execute(f"SET search_path = '{','.join(room for room in rooms() if has(connection, room))}'")
        try:
            rows = connection.sql(f'SELECT * FROM "{table}"').pl()
        except duckdb.CatalogException:
            return None
    renaming_steps = [step.split() for steps in MIGRATIONS.values() for step in steps if isinstance(step, str)]
    names = {words[-3]: words[-1] for words in renaming_steps if words[4] == f"{TABLES[table].room}.{table}"}
    return rows.rename({old: new for old, new in names.items() if old in rows.columns})


def has(connection: duckdb.DuckDBPyConnection, room: str) -> bool:
    statement = "SELECT count(*) FROM duckdb_schemas() WHERE schema_name = ? AND database_name = current_database()"
    return connection.execute(statement, [room]).fetchall()[0][0] > 0


def compared(
    name: str, first: pl.DataFrame | None, second: pl.DataFrame | None, *, tolerance: float, left_out: list[str]
) -> list[str]:
    """The differences between two versions of the table `name`, one sentence each."""
    if first is None or second is None:
        return [] if first is second else ["the table is in one store alone"]
    columns = [c for c in first.columns if c in second.columns and c not in left_out]
    differences = [f"{c} is in one store alone" for c in sorted(set(first.columns) ^ set(second.columns))]
    keys = [key for key in TABLES[name].keys if key in columns]
    order = [*keys, *(c for c in columns if c not in keys and not first[c].dtype.is_float())]
    first, second = (rows.select(columns).sort(order) for rows in (first, second))
    if first.height != second.height:
        return [*differences, f"{first.height:,} and {second.height:,} rows"]
    for column in columns:
        a, b = first[column], second[column]
        if a.dtype.is_float() and b.dtype.is_float():
            pair = pl.DataFrame({"a": a, "b": b.cast(a.dtype)})
            size = pl.max_horizontal(pl.col("a").abs(), pl.col("b").abs())
            is_same = (pl.col("a") - pl.col("b")).abs() <= tolerance * size
            is_same = is_same | pl.col("a").eq_missing(pl.col("b"))
            differing_rows = pair.filter(~is_same.fill_null(value=False))
            if differing_rows.height:
                off = differing_rows.select(
                    ((pl.col("a") - pl.col("b")).abs() / size.filter(pl.lit(True))).max()
                ).item()
                differences.append(f"{column} differs in {differing_rows.height:,} rows, by {off:.2g} at most")
        elif differ := a.ne_missing(b.cast(a.dtype, strict=False)).sum():
            differences.append(f"{column} differs in {differ:,} rows")
    return differences


if __name__ == "__main__":
    main()
