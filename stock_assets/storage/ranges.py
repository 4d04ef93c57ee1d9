"""A range of sessions that does not fit into memory, in blocks: of tickers for what looks at a ticker's own rows, of
sessions for what compares tickers.

A step computes the rows of some tickers at a time and keeps them on the disk (`storage.scratch`); then each block of
sessions is read back, completed and stored, in one transaction for all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TypeVar

import polars as pl

from stock_assets.frames import KEYS
from stock_assets.storage.changes import Change
from stock_assets.storage.scratch import scratch
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: A range of no more sessions is made at once, without counting its rows: an evening's.
AT_ONCE = 1

T = TypeVar("T")


def too_long(store: Warehouse, table: str, sessions: Sequence[date], *, columns: int) -> bool:
    """Whether so many columns for every row that `table` has of `sessions` are more than is made at once (`Memory`)."""
    if len(sessions) <= AT_ONCE:
        return False
    counts = store.rows_by(table, "session", sessions[0], last=sessions[-1])
    return sum(counts.values()) > rows_within(store.memory.at_once, columns)


def blocks_of_sessions(store: Warehouse, table: str, sessions: Sequence[date], *, columns: int) -> list[list[date]]:
    """`sessions` in blocks, each of which holds so many columns for every row that `table` has."""
    counts = store.rows_by(table, "session", sessions[0], last=sessions[-1])
    rows = {session: counts.get(session, 0) for session in sessions}
    return session_blocks(rows, rows_within(store.memory.block, columns))


def read_by_ticker(
    store: Warehouse, table: str, first: date, *, last: date, columns: Sequence[str], made_columns: int
) -> Iterator[pl.DataFrame]:
    """`columns` of all rows of `table` from session `first` to `last`, some tickers at a time, ascending: as many as a
    block holds with the `made_columns` columns that are computed of them."""
    groups = ticker_groups(store, table, first, last=last, columns=made_columns)
    return rows_of_groups(store, table, groups, first=first, last=last, columns=columns)


def ticker_groups(store: Warehouse, table: str, first: date, *, last: date, columns: int) -> list[list[str]]:
    """The tickers of `table` from session `first` to `last`, ascending, in groups of as many as a block holds with so
    many columns for every row."""
    counts = store.rows_by(table, "ticker", first, last=last)
    return blocks_of(counts.items(), rows_within(store.memory.block, columns))


def rows_of_groups(
    store: Warehouse,
    table: str,
    groups: Sequence[Sequence[str]],
    *,
    first: date,
    last: date,
    columns: Sequence[str] | None = None,
) -> Iterator[pl.DataFrame]:
    """`columns`, or all, of the rows of each of `groups` of tickers, which hold every ticker that `table` has from
    session `first` to `last`; in any order.

    The table is read once: its rows lie by session, so that every read of some tickers would look at all of it.
    """
    counts = store.rows_by(table, "session", first, last=last)
    width = len(columns or declared(table).columns) + len(KEYS)
    blocks = session_blocks(counts, rows_within(store.memory.block, width))
    with scratch(store.path, groups, by="ticker") as scratch_rows:
        for days in blocks:
            scratch_rows.add(store.read(table, days[0], days[-1], columns=columns))
        for number in range(len(groups)):
            yield scratch_rows.block(number)


def in_the_place_of(table: str, sessions: Sequence[date]) -> Change:
    """The change that removes all rows of `sessions` and completes them; `Warehouse.write_in_blocks` adds the rows."""
    return Change(table, declared(table).empty(), pl.DataFrame({"session": list(sessions)}, {"session": pl.Date}))


def rows_within(size: int, columns: int) -> int:
    """How many rows of so many columns of numbers `size` bytes hold.

    >>> rows_within(1 << 20, 32)
    4096
    """
    return max(1, size // (8 * columns))


def blocks_of(sizes: Iterable[tuple[T, int]], limit: int) -> list[list[T]]:
    """Things that follow each other, in blocks whose sizes add up to `limit` or less; one alone may be larger.

    >>> blocks_of([("A", 2), ("B", 2), ("C", 1), ("D", 9)], 4)
    [['A', 'B'], ['C'], ['D']]
    """
    blocks: list[list[T]] = []
    size_of_block = 0
    for item, size in sizes:
        if not blocks or size_of_block + size > limit:
            blocks.append([])
            size_of_block = 0
        blocks[-1].append(item)
        size_of_block += size
    return blocks


def session_blocks(rows: Mapping[date, int], limit: int) -> list[list[date]]:
    """The sessions of `rows` (ascending) in blocks of whole calendar quarters with at most `limit` rows, or of one
    quarter: what is the same for a quarter is computed once.

    >>> days = [date(2024, 3, 28), date(2024, 4, 1), date(2024, 4, 2), date(2024, 7, 1)]
    >>> [len(block) for block in session_blocks(dict.fromkeys(days, 10), 30)]
    [3, 1]
    """
    quarters: dict[tuple[int, int], list[date]] = {}
    for session in rows:
        quarters.setdefault((session.year, (session.month - 1) // 3), []).append(session)
    sizes = ((days, sum(rows[day] for day in days)) for days in quarters.values())
    return [[day for days in block for day in days] for block in blocks_of(sizes, limit)]
