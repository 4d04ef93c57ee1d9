"""Prices of two sources never mix in one store."""

from stock_assets.errors import MissingTableError, SourceError
from stock_assets.market.sources import Source
from stock_assets.storage.warehouse import Warehouse


def require_one_source(store: Warehouse, source: Source) -> None:
    """Raises SourceError where `store` holds the prices of another source than `source`."""
    try:
        stored = store.read_sql("raw_ohlcv", "SELECT DISTINCT source FROM market.raw_ohlcv")["source"]
    except MissingTableError:
        return
    if other := sorted(set(stored) - {source.name}):
        raise SourceError(
            f"the store {store.path.name} holds {other[0]} prices and STOCK_ASSETS_SOURCE is {source.name}; "
            "expected one source per store: set STOCK_ASSETS_DATA_DIR to another folder"
        )
