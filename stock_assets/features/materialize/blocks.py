"""A range of sessions that does not fit into memory, made in blocks: what looks at a ticker's own bars in blocks of
tickers, what compares tickers in blocks of sessions. The rows are those that a range at once has, to 1e-9.

Columns of a ticker wait on the disk (`storage.scratch`) until all tickers have them; then each block of sessions is
completed and stored, in one transaction for all.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from stock_assets.features import daily, events, peers, stationary
from stock_assets.features.indicators import INDICATORS, classic_indicators
from stock_assets.frames import BLOCK, KEYS, MEMORY, RowSummary, blocks_of, rows_within, session_blocks
from stock_assets.storage.scratch import scratch
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: A range of no more sessions is made at once: a quarter.
AT_ONCE = 64
#: Calendar sessions before a quarter that hold the WINDOW of `peers`, should the exchange have closed on some.
_PEER_SESSIONS = peers.WINDOW + 40

_INDICATOR_COLUMNS = [*KEYS, "total_return", "close"]
_FEATURE_COLUMNS = [*KEYS, "total_return", *stationary.BAR_COLUMNS]


def too_long(store: Warehouse, sessions: Sequence[date], columns: int) -> bool:
    """Whether rows of so many columns of all bars of `sessions` are more than MEMORY holds."""
    if len(sessions) <= AT_ONCE:
        return False
    rows = store.rows_by("daily_bars", "session", sessions[0], sessions[-1])
    return sum(rows.values()) > rows_within(MEMORY, columns)


def bars_by_ticker(
    store: Warehouse, first: date, last: date, *, columns: Sequence[str], made: int
) -> Iterator[pl.DataFrame]:
    """`columns` of all bars from session `first` to `last`, some tickers at a time: as many as BLOCK holds with the
    `made` columns that are computed of them."""
    counts = store.rows_by("daily_bars", "ticker", first, last)
    for group in blocks_of(counts.items(), rows_within(BLOCK, len(columns) + 2)):
        bars = store.read_tickers("daily_bars", group, first, last, columns=columns)
        for part in blocks_of(((ticker, counts[ticker]) for ticker in group), rows_within(BLOCK, made)):
            yield bars.filter(pl.col("ticker").is_between(pl.lit(part[0]), pl.lit(part[-1])))


def indicators_in_blocks(store: Warehouse, sessions: Sequence[date], read_sessions: Sequence[date]) -> RowSummary:
    """Makes `indicators` of `sessions` from the bars of `read_sessions` (both ascending)."""
    made, summary = len(INDICATORS) + len(KEYS), RowSummary(list(INDICATORS))
    blocks = blocks_of_bars(store, sessions, made)
    first, last = read_sessions[0], read_sessions[-1]
    with scratch(store.path, blocks) as kept:
        for bars in bars_by_ticker(store, first, last, columns=_INDICATOR_COLUMNS, made=made):
            kept.add(_of_sessions(classic_indicators(bars, sessions[0], read_sessions), sessions))
        store.replace_in_blocks("indicators", sessions, summary.of_each(kept.each("indicators", blocks)))
    return summary


def stationary_features_in_blocks(
    store: Warehouse, sessions: Sequence[date], read_sessions: Sequence[date], *, context: pl.DataFrame
) -> RowSummary:
    """Makes `stationary_features` of `sessions` from the bars of `read_sessions` (both ascending) and the `context`
    (session, …) of each session."""
    first, last, table = read_sessions[0], read_sessions[-1], "stationary_features"
    made, summary = len(declared(table).columns), RowSummary(list(stationary.STATIONARY))
    read_blocks, blocks = (blocks_of_bars(store, days, made) for days in (read_sessions, sessions))

    def bars() -> Iterator[pl.DataFrame]:
        return bars_by_ticker(store, first, last, columns=_FEATURE_COLUMNS, made=made)

    def completed(rows: pl.DataFrame) -> pl.DataFrame:
        quarter = bisect_left(read_sessions, rows["session"].dt.truncate("1q")[0])
        returns = narrow.read(read_sessions[max(0, quarter - _PEER_SESSIONS)], rows["session"][-1], keep=True)
        features = stationary.with_session_features(rows, returns)
        return features.join(context, on="session", how="left", maintain_order="left")

    with scratch(store.path, read_blocks) as narrow, scratch(store.path, blocks) as own:
        for part in bars():
            rows = events.burst_sizes(stationary.daily_rows(part, read_sessions))
            narrow.add(rows.select(*KEYS, "suspect", "r", "burst"))
        whole = [
            (daily.market_returns(rows), events.usual_bursts(rows))
            for rows in narrow.each(table, read_blocks, keep=True)
        ]
        market, usual = (pl.concat(frames) for frames in zip(*whole, strict=True))
        for part in bars():
            rows = stationary.daily_rows(part, read_sessions, market)
            own.add(_of_sessions(stationary.own_features(rows, sessions[0], usual), sessions))
        rows = (completed(rows) if rows.height else rows for rows in own.each(table, blocks))
        store.replace_in_blocks(table, sessions, summary.of_each(rows))
    return summary


def blocks_of_bars(store: Warehouse, sessions: Sequence[date], columns: int) -> list[list[date]]:
    """`sessions` in blocks of so many rows of `columns` as BLOCK holds, one for each bar."""
    counts = store.rows_by("daily_bars", "session", sessions[0], sessions[-1])
    return session_blocks({session: counts.get(session, 0) for session in sessions}, rows_within(BLOCK, columns))


def _of_sessions(rows: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    return rows.filter(pl.col("session").is_in(list(sessions)))
