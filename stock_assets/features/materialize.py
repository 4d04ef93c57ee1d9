"""The steps of the features room: load, compute, store."""

import polars as pl

from stock_assets.errors import BadBarsError
from stock_assets.storage.warehouse import Warehouse

#: The tables below pca_model and pca_components, in the order they are made.
MADE_BEFORE_PCA = ("raw_ohlcv", "daily_bars", "stationary_features")


def trusted(warehouse: Warehouse, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` without those whose bar is suspect."""
    if rows.is_empty():
        raise BadBarsError("no feature row in the window; expected some before the first model year")
    bars = warehouse.read("daily_bars", rows["session"].min(), rows["session"].max(), ["ticker", "session", "suspect"])  # pyright: ignore[reportArgumentType]
    return rows.join(bars.filter(pl.col("suspect").is_not_null()), on=["ticker", "session"], how="anti")
