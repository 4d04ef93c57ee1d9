"""Ten real years through the graph: the study's own counts come out of the store."""

from datetime import date

import dagster as dg
import polars as pl
import pytest

from stock_assets.market.calendar import calendar_of
from stock_assets.settings import read_settings
from stock_assets_tests.defs.conftest import Graph

#: Not in the study: AGN, CPRI and HP left the index, and BRK is not Berkshire.
LEFT_OUT = {"AGN", "BRK", "CPRI", "HP"}
FIRST = date(2010, 3, 16)


@pytest.mark.real_data
def test_the_golden_label_counts_come_out_of_the_store(instance: dg.DagsterInstance, real_data, tmp_path):
    path = real_data("yahoo_sp500_2010_2019.parquet")
    tickers = set(pl.scan_parquet(path).select(pl.col("ticker").unique()).collect()["ticker"]) - LEFT_OUT
    settings = read_settings(
        source="snapshot",
        snapshot=path,
        data_dir=tmp_path,
        start=date(2010, 1, 4),
        end=date(2019, 12, 31),
        first_model_year=2014,
        tickers=tuple(sorted(tickers)),
    )
    graph = Graph(settings, instance)
    days = calendar_of(settings).sessions
    graph.materialize(["universe"])
    result = graph.materialize(["raw_ohlcv", "daily_bars"], days[0], days[-1])
    graph.materialize(["labels"], days[0], days[-1 - settings.horizon])

    bars, labels = graph.warehouse.read("daily_bars"), graph.warehouse.read("labels", FIRST)
    assert bars.filter(pl.col("session") >= FIRST).height == 1_177_323
    counts = dict(labels.group_by("label").len().iter_rows())
    assert labels.height == 1_173_837
    assert [counts[label] for label in (-1, 0, 1)] == [pytest.approx(n, abs=10) for n in (390_643, 385_769, 397_425)]

    # the known-bad tickers are flagged by a check that names them, and are still in both tables
    named = {
        check.check_name: str(check.metadata["named"].value).split(", ")
        for check in result.get_asset_check_evaluations()
        if not check.passed
    }
    assert "TT" in named["no_absurd_return"]
    assert "AMCR" in named["no_frozen"]
    assert "HWM" in named["no_short_history"]
    assert "NLOK" in named["no_gap"]
    assert {"TT", "HWM", "AMCR"} <= set(labels["ticker"])
