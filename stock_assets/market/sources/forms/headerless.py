"""Files without a header, of which the figures themselves say which columns they are."""

import re
from collections.abc import Sequence
from itertools import pairwise

#: A day or a moment; 02/01/2020 is one too, and what it means is decided where days are read.
_DAY = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|(19|20)\d{6}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"
_CLOCK = r"\d{1,2}:\d\d(:\d\d)?"
_MOMENT = re.compile(rf"({_DAY})([ T]({_CLOCK}|\d{{6}})\S*)?")
_TICKER = re.compile(r"[A-Z][A-Z0-9.^=/:_&-]{0,31}")
#: The prices in the order that all vendors without a header have; volume and the adjusted close follow.
_PRICES = ("open", "high", "low", "close")


def columns_of(rows: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """The names of the columns of `rows`, all of one width; None where the figures leave a choice.

    A ticker may come first, then a day or moment, perhaps a time of the day, and then open, high, low, close and volume
    with nothing after them, or with an adjusted close between. High and low enclose the other two in every row, and the
    opening lies nearer to the close before it than the other way round, by which it is no close.

    >>> columns_of([["2020-01-02", "10", "12", "9", "11", "3400"], ["2020-01-03", "11", "12", "10", "10.5", "3500"]])
    ('date', 'open', 'high', 'low', 'close', 'volume')
    """
    if len({len(row) for row in rows}) != 1:
        return None
    leading: list[str] = []
    remaining_cells = [list(row) for row in rows]
    for name, pattern in (("ticker", _TICKER), ("date", _MOMENT), ("clock", re.compile(rf"{_CLOCK}|0"))):
        if len(remaining_cells[0]) > 5 and all(pattern.fullmatch(row[0]) for row in remaining_cells):
            leading.append(name)
            remaining_cells = [row[1:] for row in remaining_cells]
    if "date" not in leading or len(remaining_cells[0]) not in (5, 6):
        return None
    try:
        figures = [[float(cell) for cell in row] for row in remaining_cells]
    except ValueError:
        return None
    if not all(_is_bar(row) for row in figures) or not any(row[1] > row[2] for row in figures):
        return None
    days = [row[leading.index("date")] for row in rows]
    if _looks_reversed(figures, newest_first=days[0] > days[-1]) or _in_parts_of_a_cent(days, figures):
        return None
    between = ("adj_close",) if len(remaining_cells[0]) == 6 else ()
    return (*leading, *_PRICES, *between, "volume")


def _is_bar(row: Sequence[float]) -> bool:
    open_price, high, low, close, *between, volume = row
    whole = volume >= 0 and volume == int(volume) if between else volume >= 0
    is_adjusted = all(0 < price <= 1.001 * high and price != volume for price in between)
    return 0 < low <= min(open_price, close) and high >= max(open_price, close) and whole and is_adjusted


def _looks_reversed(figures: Sequence[Sequence[float]], *, newest_first: bool) -> bool:
    """Whether the first price follows on the last one worse than the other way round."""
    rows_by_date = figures[::-1] if newest_first else figures
    pairs = list(pairwise(rows_by_date))
    gap = sum(abs(after[0] / before[3] - 1) for before, after in pairs)
    return gap > 2 * sum(abs(after[3] / before[0] - 1) for before, after in pairs)


def _in_parts_of_a_cent(days: Sequence[str], figures: Sequence[Sequence[float]]) -> bool:
    """Whether it is a file of QuantConnect LEAN, whose prices are whole numbers, ten thousand to a dollar."""
    whole = all(price >= 1000 and price == int(price) for row in figures for price in row[:4])
    return whole and all(re.fullmatch(r"\d{8} \d\d:\d\d", day) for day in days)
