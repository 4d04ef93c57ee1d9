"""Four simulated tickers over a quarter, as the examples of the documentation and of the notebook read them."""

from datetime import date

import dagster as dg
import polars as pl

from stock_assets.definitions import build_definitions
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

#: The environment that makes `stock_assets.open()` the demo, without its data folder.
ENVIRONMENT = {
    "STOCK_ASSETS_SOURCE": "simulated",
    "STOCK_ASSETS_START": "2018-01-02",
    "STOCK_ASSETS_END": "2019-03-29",
    "STOCK_ASSETS_FIRST_MODEL_YEAR": "2019",
    "STOCK_ASSETS_TICKERS": "SIM01,SIM02,SIM03,SIM04",
    "STOCK_ASSETS_MLFLOW": "off",
}
LAST = date(2018, 5, 31)


def fill() -> None:
    """Bars, features and labels of the first months, made by the assets; two models predict their last session."""
    config = read_settings()
    definitions = build_definitions(config)
    sessions = calendar_of(config).between(config.start, LAST)

    def made(*assets: str, last: date | None = None) -> None:
        tags = {"dagster/asset_partition_range_start": str(sessions[0]), "dagster/asset_partition_range_end": str(last)}
        result = dg.materialize(
            list(definitions.assets or ()),  # pyright: ignore[reportArgumentType]
            selection=list(assets),
            tags=tags if last else {},
            resources=dict(definitions.resources or {}),
        )
        assert result.success

    made("universe")
    made("raw_ohlcv", "daily_bars", "context_series", "stationary_features", last=sessions[-1])
    made("labels", last=sessions[-1 - config.horizon])
    store = Warehouse(config.database)
    tickers = store.read("universe")["ticker"].unique().sort()
    rows = pl.DataFrame({"model": ["class_prior", "rnn"]}).join(pl.DataFrame({"ticker": tickers}), how="cross")
    rows = rows.with_columns(session=pl.lit(LAST), p_sell=0.2, p_hold=0.3, p_buy=0.5, score=0.3)
    store.append("predictions", rows_of("predictions", rows))
