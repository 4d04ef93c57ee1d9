"""Prices of two sources, or of two simulated markets, never mix in one store."""

import polars as pl

from stock_assets.errors import MissingTableError, SourceError
from stock_assets.frames import KEYS
from stock_assets.market.sources import InventsBars, Source
from stock_assets.market.sources.registry import make_source
from stock_assets.settings import PREFIX, Settings
from stock_assets.storage.warehouse import Warehouse

#: The closes as traded of the first session of a store and of the one in the middle: laws may differ late alone.
_SAMPLE = """
    SELECT ticker, session, close * later_splits AS stored
    FROM market.raw_ohlcv
    WHERE session IN (
        SELECT session FROM (SELECT DISTINCT session FROM market.raw_ohlcv)
        QUALIFY row_number() OVER (ORDER BY session) IN (1, 1 + count(*) OVER () // 2)
    )
"""


def require_stored_market(settings: Settings) -> None:
    """`require_one_source` and `require_one_interval` for the store of `settings`, before anything starts."""
    if (store := Warehouse.of(settings)).exists():
        require_one_interval(store, settings)
        require_one_source(store, make_source(settings))


def require_one_interval(store: Warehouse, settings: Settings) -> None:
    """Raises SourceError where `store` holds bars of another interval than the settings name, or daily ones."""
    interval_rows = store.read_each(
        {
            "bar_interval": "SELECT interval FROM market.bar_interval",
            "raw_ohlcv": "SELECT '1d' AS interval FROM market.raw_ohlcv LIMIT 1",
        }
    )
    stored_intervals = {
        interval for rows in interval_rows.values() if rows is not None for interval in rows["interval"]
    }
    if other := sorted(stored_intervals - {settings.interval}):
        raise SourceError(
            f"the store {store.place.name} holds bars of {other[0]} and {PREFIX}INTERVAL is {settings.interval}; "
            f"expected one interval per store: set {PREFIX}DATA_DIR to another folder"
        )


def require_one_source(store: Warehouse, source: Source) -> None:
    """Raises SourceError where `store` holds the prices of another source than `source`, or those of another market
    that a source of the same name has invented: by an earlier version, or under other settings."""
    try:
        stored_sources = store.read_sql("raw_ohlcv", "SELECT DISTINCT source FROM market.raw_ohlcv")["source"]
    except MissingTableError:
        return
    if other := sorted(set(stored_sources) - {source.name}):
        raise SourceError(
            f"the store {store.place.name} holds {other[0]} prices and {PREFIX}SOURCE is {source.name}; "
            f"expected one source per store: set {PREFIX}DATA_DIR to another folder"
        )
    require_same_market(store, source)


def require_same_market(store: Warehouse, source: Source) -> None:
    """Raises SourceError where `source` invents its bars and `store` holds those of another market.

    The rows say it, and no mark beside them: a store that has none, and a law that changed without a word, are
    recognised as well. A restated bar is no other market, most bars of a session are.
    """
    if not isinstance(source, InventsBars):
        return
    try:
        sample = store.read_sql("raw_ohlcv", _SAMPLE)
    except MissingTableError:
        return
    now = source.invented(sample["session"].unique().sort().to_list())
    compared_closes = sample.join(now, on=KEYS).with_columns(
        other=((pl.col("stored") / pl.col("close")).log().abs() > 1e-6)
    )
    by_session = compared_closes.group_by("session").agg(pl.col("other").sum(), pl.len()).sort("session")
    differing_sessions = by_session.filter(pl.col("other") * 2 > pl.col("len"))
    if differing_sessions.height:
        session, count, bars = differing_sessions.row(0)
        row = compared_closes.filter(pl.col("session") == session, "other").sort("ticker").row(0, named=True)
        raise SourceError(
            f"the store {store.place.name} holds another market: on {session}, {count} of {bars} closes are not those "
            f"of {source.made_by}; {row['ticker']} is {row['stored']:.2f} there and {row['close']:.2f} now. Expected "
            f"one market per store: set {PREFIX}DATA_DIR to another folder, or go back to the settings and version "
            "that filled it"
        )
