"""The market tables as they were at a moment in the past."""

from datetime import UTC, date, datetime

import polars as pl

from stock_assets.errors import MissingTableError, StockAssetsError
from stock_assets.market.adjustments import as_of, traded_sessions
from stock_assets.market.calendar import calendar_of
from stock_assets.market.context import newest_context
from stock_assets.market.renames import continued
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: The tables beside the bars, and the column that holds when a row of one was written.
_HISTORIES = {"context_series": "fetched_at", "restatements": "seen_at", "quarantine": "seen_at"}


def tables_as_of(
    store: Warehouse, settings: Settings, moment: datetime, *, since: date | None = None
) -> dict[str, pl.DataFrame]:
    """The tables of the market room, by name, as they were at `moment` (aware); the universe is today's.

    Of the bars only those of sessions from `since` on are read; the first `quality.LOOKBACK_SESSIONS` of these may be
    judged otherwise than with the sessions before them.

    `daily_bars` is made anew of the versions that had been fetched by then, and `context_series` holds the newest of
    them. A table that was never written is left out. Raises StockAssetsError where nothing had been fetched.
    """

    def until(table: str, column: str, since: date | None = None) -> pl.DataFrame:
        later, parameters = ("", [moment]) if since is None else (" AND session >= ?", [moment, since])
        return store.read_sql(table, f"SELECT * FROM market.{table} WHERE {column} <= ?{later}", parameters)

    universe, raw = store.read("universe"), until("raw_ohlcv", "fetched_at", since)
    if raw.is_empty():
        raise StockAssetsError(
            f"nothing had been fetched by {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC; expected a later moment"
        )
    calendar = calendar_of(settings)
    frames = {"universe": universe, "raw_ohlcv": raw}
    for table, column in _HISTORIES.items():
        try:
            frames[table] = until(table, column)
        except MissingTableError:
            continue
    frames["daily_bars"] = as_of(
        continued(raw, universe),
        universe,
        traded_sessions(raw, calendar.sessions),
        moment=moment,
        closes=calendar.closes,
        doubts=frames.get("quarantine"),
    )
    if "context_series" in frames:
        frames["context_series"] = newest_context(frames["context_series"])
    return frames
