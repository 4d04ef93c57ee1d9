"""A range of sessions that does not fit into memory, in blocks: of tickers for what looks at a ticker's own rows, of
sessions for what compares tickers.

A step computes the rows of some tickers at a time and keeps them on the disk (`storage.scratch`); then each block of
sessions is read back, completed and stored, in one transaction for all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TypeVar

import polars as pl

from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: Bytes that the rows of a step may take in memory; those of a longer range are made in blocks of BLOCK bytes.
MEMORY, BLOCK = 1 << 30, 1 << 27
#: A range of no more sessions is made at once: a quarter.
AT_ONCE = 64

T = TypeVar("T")


def too_long(store: Warehouse, table: str, sessions: Sequence[date], *, columns: int) -> bool:
    """Whether so many columns for every row that `table` has of `sessions` are more than MEMORY holds."""
    if len(sessions) <= AT_ONCE:
        return False
    return sum(store.rows_by(table, "session", sessions[0], last=sessions[-1]).values()) > rows_within(MEMORY, columns)


def blocks_of_sessions(store: Warehouse, table: str, sessions: Sequence[date], *, columns: int) -> list[list[date]]:
    """`sessions` in blocks for which BLOCK holds so many columns for every row that `table` has."""
    counts = store.rows_by(table, "session", sessions[0], last=sessions[-1])
    return session_blocks({session: counts.get(session, 0) for session in sessions}, rows_within(BLOCK, columns))


def read_by_ticker(
    store: Warehouse, table: str, first: date, *, last: date, columns: Sequence[str], made: int
) -> Iterator[pl.DataFrame]:
    """`columns` of all rows of `table` from session `first` to `last`, some tickers at a time: as many as BLOCK holds
    with the `made` columns that are computed of them."""
    counts = store.rows_by(table, "ticker", first, last=last)
    # the table is read as seldom as possible, since its rows lie by session
    for group in blocks_of(counts.items(), rows_within(2 * BLOCK, len(columns) + 2)):
        rows = store.read_tickers(table, group, first, last=last, columns=columns)
        for part in blocks_of(((ticker, counts[ticker]) for ticker in group), rows_within(BLOCK, made)):
            yield rows.filter(pl.col("ticker").is_between(pl.lit(part[0]), pl.lit(part[-1])))


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
    filled = 0
    for thing, size in sizes:
        if not blocks or filled + size > limit:
            blocks.append([])
            filled = 0
        blocks[-1].append(thing)
        filled += size
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
