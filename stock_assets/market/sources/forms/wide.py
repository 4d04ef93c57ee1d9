"""Files with a column per ticker and figure, made into files with a row per ticker and session."""

import re
from collections.abc import Callable, Sequence

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms.columns import FIGURES, PRICE_COLUMNS, recognize
from stock_assets.market.sources.forms.reading import Reading

Pair = tuple[str, str]
#: pandas' names of two levels, as Parquet keeps them: ('Close', 'AAPL').
_TUPLE = re.compile(r"""^\(\s*(['"])(.*)\1\s*,\s*(['"])(.*)\3\s*\)(?: \.)*$""")
_FLAT = r"[\s_.:|/-]+"
_LONGEST_FIGURE = 3  # words, as in Adj Close Price


def pair_name(first: str, second: str) -> str:
    """The name of a column of two levels, as pandas writes it to Parquet.

    >>> pair_name("Close", "AAPL")
    "('Close', 'AAPL')"
    """
    return f"({first!r}, {second!r})"


def to_rows(table: pl.DataFrame, reading: Reading, place: str) -> pl.DataFrame:
    """`table` with a row per ticker and session, and the columns of a bar under their names in the file.

    A table that is no wide one is returned as it is. Rows without any figure are left out: on these days the file has
    other tickers' bars alone. Raises SourceError where a ticker has a figure twice.
    """
    pairs = _pairs(table.columns, reading, place)
    if pairs is None:
        return table
    shared_columns = [name for name in table.columns if name not in pairs]
    by_ticker: dict[str, dict[str, str]] = {}
    for name, (figure, ticker) in pairs.items():
        if figure in by_ticker.setdefault(ticker, {}):
            raise SourceError(f"{place} has two columns of {figure} of {ticker}, expected one")
        by_ticker[ticker][figure] = name
    figures = list(dict.fromkeys(figure for columns in by_ticker.values() for figure in columns))
    parts = []
    for ticker, columns in by_ticker.items():
        cells = [_figure(table, columns.get(figure)).alias(figure) for figure in figures]
        part = table.select(*shared_columns, pl.lit(ticker).alias("ticker"), *cells)
        parts.append(part.filter(pl.any_horizontal(pl.col(figures).is_not_null())))
    return pl.concat(parts, how="vertical_relaxed").rename({name: _plain(name) for name in shared_columns})


def _figure(table: pl.DataFrame, name: str | None) -> pl.Expr:
    if name is None:
        return pl.lit(None, pl.Float64 if any(kind.is_numeric() for kind in table.dtypes) else pl.String)
    return pl.col(name).cast(pl.Float64) if table.schema[name].is_numeric() else pl.col(name)


def _plain(name: str) -> str:
    """ "Date" for "('Date', '')", the index of such a table."""
    levels = _TUPLE.match(name)
    return levels[2] or levels[4] if levels else name


def _pairs(names: Sequence[str], reading: Reading, place: str) -> dict[str, Pair] | None:
    """Figure and ticker by the name of their column; None where the file is no wide one."""
    plain = recognize([name for name in names if not _TUPLE.match(name)], reading, place).file_columns
    if {*PRICE_COLUMNS} <= plain.keys():
        return None
    readings: tuple[Callable[[str], Pair | None], ...] = (
        lambda name: (levels[2], levels[4]) if (levels := _TUPLE.match(name)) else None,
        lambda name: (levels[4], levels[2]) if (levels := _TUPLE.match(name)) else None,
        lambda name: _flat(name, figure_first=True),
        lambda name: _flat(name, figure_first=False),
    )
    for read_name in readings:
        pairs = {name: pair for name in names if (pair := read_name(name)) and all(pair)}
        figures = {
            name: figure for name, (figure_name, _) in pairs.items() if (figure := _figure_named(figure_name, reading))
        }
        tickers = {pairs[name][1] for name in figures}
        whole = all(
            {*PRICE_COLUMNS} <= {figures[name] for name in figures if pairs[name][1] == ticker} for ticker in tickers
        )
        if figures and whole:
            return {name: (figures[name], pairs[name][1]) for name in figures}
    return None


def _figure_named(name: str, reading: Reading) -> str | None:
    column = next(iter(recognize([name], reading, "").file_columns), None)
    return column if column in FIGURES else None


def _flat(name: str, *, figure_first: bool) -> Pair | None:
    """Figure and ticker of "Adj Close_AAPL" or "AAPL Close"."""
    words = re.split(f"({_FLAT})", name.strip())
    for count in range(min(_LONGEST_FIGURE, len(words) // 2), 0, -1):
        at = 2 * count
        figure, ticker = (words[: at - 1], words[at:]) if figure_first else (words[-at + 1 :], words[:-at])
        if _is_figure("".join(figure)) and ticker:
            return "".join(figure), "".join(ticker)
    return None


def _is_figure(name: str) -> bool:
    return next(iter(recognize([name], Reading(), "").file_columns), None) in FIGURES
