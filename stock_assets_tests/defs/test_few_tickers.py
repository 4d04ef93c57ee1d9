"""Few files of prices through the whole graph: what is undefined across a single ticker is null, and no error."""

from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from stock_assets.market.calendar import trading_calendar
from stock_assets.settings import read_settings
from stock_assets_tests.defs.conftest import Graph

START, END = date(2018, 1, 2), date(2019, 6, 28)
DAYS = trading_calendar("XNYS", START, END).sessions


def prices(folder: Path, ticker: str, *, seed: int = 0, volume: bool = True, moves: bool = True) -> None:
    """A CSV as a newcomer has it: no ticker, no adjusted close, no corporate actions."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.015 if moves else 0, len(DAYS))))
    spread = 1 + (np.abs(rng.normal(0, 0.006, len(DAYS))) if moves else 0)
    frame = pl.DataFrame(
        {
            "Date": DAYS,
            "Open": close,
            "High": close * spread,
            "Low": close / spread,
            "Close": close,
            "Volume": rng.integers(10_000, 20_000, len(DAYS)) * 100 if volume else [None] * len(DAYS),
        }
    )
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / f"{ticker}.csv")


def whole_graph(folder: Path, instance: dg.DagsterInstance) -> Graph:
    settings = read_settings(
        source="snapshot",
        snapshot=folder / "prices",
        data_dir=folder / "store",
        start=START,
        end=END,
        first_model_year=2019,
        mlflow="off",
    )
    graph = Graph(settings, instance)
    graph.materialize_everything()
    return graph


def test_one_file_gives_predictions_and_a_report(instance: dg.DagsterInstance, tmp_path: Path):
    prices(tmp_path / "prices", "ABC")
    graph = whole_graph(tmp_path, instance)
    predicted = graph.table("predictions")
    assert set(predicted["ticker"]) == {"ABC"}
    assert predicted.select((pl.col("p_sell") + pl.col("p_hold") + pl.col("p_buy") - 1).abs().max()).item() < 1e-9
    assert set(predicted["session"]) == {day for day in DAYS if day.year == 2019}
    report = graph.table("evaluation_report")
    assert report.filter(pl.col("model") == "rnn").height
    event = instance.get_latest_materialization_event(dg.AssetKey("evaluation_report"))
    assert event is not None


@pytest.mark.usefixtures("planned_pictures")
def test_files_of_which_some_are_odd(instance: dg.DagsterInstance, tmp_path: Path):
    prices(tmp_path / "prices", "ABC")
    prices(tmp_path / "prices", "FX", seed=1, volume=False)
    prices(tmp_path / "prices", "STILL", seed=2, moves=False)
    graph = whole_graph(tmp_path, instance)
    assert {"ABC", "FX"} <= set(graph.table("predictions")["ticker"])
    assert graph.table("daily_bars").filter(pl.col("ticker") == "FX")["volume"].unique().to_list() == [0.0]
