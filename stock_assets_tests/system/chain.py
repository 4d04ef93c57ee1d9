"""The daily chain of a small market as one range run, in a process that a test may kill.

Importing this module imports all that the run needs and computes nothing, so that a process with it can be forked.
"""

import os
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import duckdb  # noqa: F401
import polars as pl

from stock_assets.cli.server import prepare_home, settle_interrupted_runs
from stock_assets.definitions import build_definitions
from stock_assets.errors import MissingTableError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse

DAILY_CHAIN = ("raw_ohlcv", "daily_bars", "indicators", "stationary_features")
#: A write of every kind; the picture on `indicators` takes longer than all of them.
WRITERS = ("raw_ohlcv", "daily_bars", "stationary_features")


def small_market(data_dir: Path) -> Settings:
    """Eight simulated tickers over a year and a half, the second year of them served by a model."""
    return read_settings(
        source="simulated",
        data_dir=data_dir,
        start=date(2018, 1, 2),
        end=date(2019, 6, 28),
        first_model_year=2019,
        tickers=tuple(f"SIM{number:02d}" for number in range(1, 9)),
    )


def materialize(data_dir: Path, assets: tuple[str, ...], started: Connection | None = None) -> None:
    """One run of `assets` over every session, on a real store and a real instance.

    Says so through `started` when the assets are about to begin, and leaves with exit code 1 when one fails.
    """
    settings = small_market(data_dir)
    home = prepare_home(settings)
    settle_interrupted_runs(home)  # as the server does when it starts: a killed run keeps its place in the pool
    os.environ["DAGSTER_HOME"] = str(home)
    defs = build_definitions(settings)
    everything = [defs.resolve_assets_def(key) for key in defs.resolve_asset_graph().get_all_asset_keys()]
    days = calendar_of(settings).sessions
    tags = {
        "dagster/asset_partition_range_start": str(days[0]),
        "dagster/asset_partition_range_end": str(days[-1]),
    }
    with dg.DagsterInstance.get() as instance:
        if started:
            started.send("started")
        result = dg.materialize(
            everything,
            selection=list(assets),
            tags={} if assets == ("universe",) else tags,
            instance=instance,
            raise_on_error=False,
        )
    if not result.success:
        raise SystemExit(1)


def contents(settings: Settings, names: tuple[str, ...] = DAILY_CHAIN) -> dict[str, pl.DataFrame]:
    """The rows of those tables that exist, in a fixed order, without the time at which they were fetched."""
    tables = {}
    for name in names:
        try:
            rows = Warehouse(settings.database).read(name)
        except MissingTableError:
            continue
        tables[name] = rows.drop("fetched_at", strict=False).sort("session", "ticker")
    return tables
