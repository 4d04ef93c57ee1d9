"""The dates of a file."""

import polars as pl

#: A date, perhaps with a time after it: yfinance writes 2020-01-02 00:00:00-05:00, Stooq 20200102.
_DATE = r"^\s*(\d{4}-\d{2}-\d{2}|\d{8})(?:[ T].*)?$"


def session(kind: pl.DataType) -> pl.Expr:
    """The local trading date of the column `session`, which is of `kind`; null where it cannot be read."""
    column = pl.col("session")
    if kind == pl.Date:
        return column
    if isinstance(kind, pl.Datetime):
        return column.dt.date()
    digits = column.cast(pl.String).str.extract(_DATE).str.replace_all("-", "", literal=True)
    return digits.str.to_date("%Y%m%d", strict=False)
