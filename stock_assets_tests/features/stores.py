"""Small stores of bars to run the steps of the features room on, without Dagster."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of


def small_settings(folder: Path, **overrides: object) -> Settings:
    """Settings of a store that begins in June 2018; its first model year is 2019."""
    plain = {"source": "simulated", "data_dir": folder, "start": date(2018, 6, 1), "end": date(2019, 1, 31)}
    return read_settings(**(plain | overrides))


def bars_of(sessions: Sequence[date], skipped: Mapping[str, Sequence[int]], seed: int = 0) -> pl.DataFrame:
    """Rows of `daily_bars`: one ticker per key of `skipped`, without a bar on the sessions at these places."""
    rng = np.random.default_rng(seed)
    parts = []
    for ticker, places in skipped.items():
        days = [day for place, day in enumerate(sessions) if place not in set(places)]
        returns = rng.normal(0.0, 0.02, len(days))
        close = 50.0 * np.cumprod(1 + returns)
        spread = 1 + np.abs(rng.normal(0.0, 0.01, len(days)))
        parts.append(
            pl.DataFrame(
                {
                    "ticker": ticker,
                    "session": days,
                    "open": close,
                    "high": close * spread,
                    "low": close / spread,
                    "close": close,
                    "volume": np.exp(rng.normal(13.0, 0.5, len(days))),
                    "split_ratio": 1.0,
                    "total_return": [None, *returns[1:]],
                    "is_member": True,
                }
            )
        )
    return rows_of("daily_bars", pl.concat(parts))


def store_of(settings: Settings, bars: pl.DataFrame) -> Warehouse:
    """A store that holds a raw bar of every session of the settings, and of `daily_bars` the given rows."""
    store = Warehouse(settings.database)
    sessions = calendar_of(settings).sessions
    store.append("raw_ohlcv", rows_of("raw_ohlcv", pl.DataFrame({"ticker": "A", "session": sessions})))
    store.append("daily_bars", bars)
    return store
