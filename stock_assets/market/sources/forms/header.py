"""Where the names of the columns stand in a file of text: in one row, in two or three, or nowhere."""

import csv
import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms.columns import FIGURES, recognize, score
from stock_assets.market.sources.forms.headerless import columns_of
from stock_assets.market.sources.forms.reading import Reading
from stock_assets.market.sources.forms.vendors import WITHOUT_HEADER, Headerless
from stock_assets.market.sources.forms.wide import pair_name

SEPARATORS = ",;\t|"
#: So many rows may stand before the names: addresses, titles, licenses.
ROWS = 30
MAX_COLUMNS = 50_000
#: A row is the header when it names so many of the six columns that every bar has.
_ENOUGH = 3
_NUMBER = re.compile(r"[-+]?[$€£¥]?\d[\d.,'eE+-]*")


class Header(NamedTuple):
    """The columns of a file, and where its bars begin."""

    names: tuple[str, ...]
    rows: int
    """rows before the first bar"""
    guess: str | None = None
    """the vendor whose form a file without a header has, or its columns"""


def split(text: str, separator: str) -> list[list[str]]:
    """The first rows of `text`; a row that is empty in the file is an empty list."""
    lines = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    return [[cell.strip() for cell in row] for row in islice(lines, ROWS)]


def find_header(rows: Sequence[Sequence[str]], reading: Reading, place: str) -> Header | None:
    """The header among the first `rows` of a file; None where none of them names columns of prices.

    Raises SourceError for more columns than a file of prices has.
    """
    if (width := max(map(len, rows), default=0)) > MAX_COLUMNS:
        raise SourceError(f"{place} has {width} columns, expected at most {MAX_COLUMNS}")
    for start in range(len(rows) - 1):
        if wide := _wide(rows, start, reading):
            return wide
    scores = [score(row, reading) for row in rows]
    if scores and max(scores) >= _ENOUGH:
        start = scores.index(max(scores))
        return Header(unique(rows[start]), start + 1)
    start = next((i for i, row in enumerate(rows) if len(row) > 1), None)
    if start is None:
        return None
    if reading.in_order and _is_bar(rows[start]):
        return Header(_names_of_setting(reading.in_order, len(rows[start]), place), start)
    for form in WITHOUT_HEADER:
        if all(_fits(row, form) for row in rows[start:] if row):
            return Header(form.names, start, form.vendor)
    if names := columns_of([row for row in rows[start:] if row]):
        return Header(names, start, ", ".join(names))
    if any(scores):
        start = scores.index(max(scores))
        return Header(unique(rows[start]), start + 1)
    if _is_bar(rows[start]):
        raise SourceError(
            f"{place} has no row with the names of its columns; it begins with {', '.join(rows[start][:8])}. "
            "Its figures leave open which column is which: STOCK_ASSETS_COLUMNS names them in their order, such as "
            "date,open,high,low,close,volume"
        )
    return None


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, of which no two are the same: a second close of one name would be lost without a word."""
    counts: dict[str, int] = {}
    result = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        # a space and a sign do not make another name for `recognize`, so that two closes are an error
        result.append(name + " ." * (counts[name] - 1) if name else f"column {len(result) + 1}")
    return tuple(result)


def _names_of_setting(names: Sequence[str], width: int, place: str) -> tuple[str, ...]:
    if len(names) > width:
        raise SourceError(
            f"{place} has {width} columns, and STOCK_ASSETS_COLUMNS names {len(names)} ({', '.join(names)}); expected "
            "at most one name for each"
        )
    return unique([*names, *[""] * (width - len(names))])


def _is_bar(row: Sequence[str]) -> bool:
    """Whether a row looks like a bar: five cells or more, a date or time, and numbers."""
    begins = len(row) > 4 and any(re.search(r"\d{4,}|\d\d?[-/.]\d", cell) for cell in row[:3])
    return begins and sum(bool(_NUMBER.fullmatch(cell)) for cell in row) >= 4


def _fits(row: Sequence[str], form: Headerless) -> bool:
    if len(row) != len(form.names) or not all(re.fullmatch(form.first, row[i]) for i in (0, *form.moments)):
        return False
    try:
        figures = {name: float(cell) for name, cell in zip(form.names, row, strict=True)}
    except ValueError:
        return False
    return figures["low"] <= min(figures["open"], figures["close"]) and figures["high"] >= max(
        figures["open"], figures["close"]
    )


def _wide(rows: Sequence[Sequence[str]], start: int, reading: Reading) -> Header | None:
    """The header of two rows that begin at `start`, figures and tickers, as pandas writes two levels of columns."""
    width = max(map(len, rows[start : start + 2]))
    first, second = ([*row, *[""] * (width - len(row))] for row in rows[start : start + 2])
    levels = (_names_of_merged(first), second), (second, _names_of_merged(first))
    for figures, tickers in levels:
        if width < 5 or not all(tickers[1:]) or not _are_figures(figures[1:], reading):
            continue
        below = rows[start + 2] if start + 2 < len(rows) else []
        index_row = bool(below) and bool(below[0]) and not any(below[1:])
        if any(_NUMBER.fullmatch(cell) for cell in tickers[1:]) and not index_row:
            continue  # a bar under a plain header
        day = (
            below[0]
            if index_row
            else next((cell for cell in (figures[0], tickers[0]) if _is_day(cell, reading)), "Date")
        )
        pairs = [pair_name(*pair) for pair in zip(figures[1:], tickers[1:], strict=True)]
        return Header(unique([day, *pairs]), start + 2 + index_row)
    return None


def _names_of_merged(row: Sequence[str]) -> list[str]:
    """A name that a table sheet has merged over several columns, in each of them."""
    cells: list[str] = []
    for i, cell in enumerate(row):
        cells.append(cell if cell or i < 2 else cells[-1])
    return cells


def _are_figures(names: Sequence[str], reading: Reading) -> bool:
    """Whether all of `names` are figures of a bar, among them the four prices."""
    columns = {name: next(iter(recognize([name], reading, "").file_columns), None) for name in {*names}}
    figures = {column for column in columns.values() if column in FIGURES}
    return {"open", "high", "low", "close"} <= figures and all(
        column in FIGURES or name.lower() in ("capital gains", "repaired?") for name, column in columns.items()
    )


def _is_day(name: str, reading: Reading) -> bool:
    return bool({"session", "at"} & recognize([name], reading, "").file_columns.keys())
