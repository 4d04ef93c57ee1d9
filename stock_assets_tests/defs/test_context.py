"""The context series in the graph: what a late vendor leaves out comes the next evening, and none is no fault."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import dagster as dg
import polars as pl

from stock_assets.features.market_context import MARKET_CONTEXT
from stock_assets.features.stationary import STATIONARY
from stock_assets.market.calendar import calendar_of
from stock_assets.market.context import SERIES, MarketContext
from stock_assets.market.sources import Source
from stock_assets.market.sources.registry import make_source
from stock_assets_tests.defs.conftest import Graph, small_market


@dataclass
class Late:
    """The market, whose ^VIX of `sessions` is not there while `silent`."""

    inner: Source
    sessions: Sequence[date]
    silent: bool = True

    @property
    def name(self) -> str:
        return self.inner.name

    def context(self, first: date, last: date, fetched_at: datetime) -> MarketContext:
        answer = self.inner.context(first, last, fetched_at)
        gone = (pl.col("series") == "^VIX") & pl.col("session").is_in(list(self.sessions)) & self.silent
        return answer._replace(rows=answer.rows.filter(~gone))


def test_a_bar_that_came_late_is_warned_about_and_fetched_the_next_evening(instance: dg.DagsterInstance, tmp_path):
    settings = small_market(tmp_path)
    days = calendar_of(settings).sessions
    late = Late(make_source(settings), [days[9]])
    graph = Graph(settings, instance, {"source": late})
    result = graph.materialize(["context_series"], days[0], days[9])
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["named"].value == "^VIX"
    assert graph.warehouse.read("context_series").height == 10 * len(SERIES) - 1
    late.silent = False
    result = graph.materialize(["context_series"], days[10])
    assert result.get_asset_check_evaluations()[0].passed
    rows = graph.warehouse.read("context_series")
    assert not rows.select("series", "session").is_duplicated().any()
    assert rows.height == 11 * len(SERIES)
    # a session that was never made is not made beside another
    graph.materialize(["context_series"], days[20])
    assert graph.warehouse.sessions("context_series") == {*days[:11], days[20]}


def test_a_sixth_session_without_a_series_is_warned_about_and_stops_no_features(instance: dg.DagsterInstance, tmp_path):
    settings = small_market(tmp_path)
    days = calendar_of(settings).sessions[:76]
    graph = Graph(settings, instance)
    graph.materialize(["universe"])
    graph.materialize(["raw_ohlcv", "daily_bars"], days[0], days[-1])
    graph.resources["source"] = Late(make_source(settings), days[69:])
    graph.materialize(["context_series"], days[0], days[-1])
    result = graph.materialize(["stationary_features"], days[66], days[-1])
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert checks["finite"].passed
    context = checks["market_context"]
    assert not context.passed
    assert not context.blocking
    assert context.severity == dg.AssetCheckSeverity.WARN
    # five sessions carry the last close forward
    assert context.metadata["named"].value == f"{days[74]}, {days[75]}"
    assert "vix_level" in str(context.metadata["sample"].value)
    rows = graph.table("stationary_features")
    without = rows.filter(pl.col("vix_level").is_null())
    assert set(without["session"]) == {days[74], days[75]}
    assert rows.select(pl.col(*STATIONARY).is_finite().all()).row(0) == (True,) * len(STATIONARY)
    graph.materialize(["stationary_features"], days[66], days[73])
    graph.resources = {}  # the series comes back
    graph.materialize(["context_series"], days[66], days[-1])
    result = graph.materialize(["stationary_features"], days[66], days[-1])
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert graph.table("stationary_features").select(pl.col(MARKET_CONTEXT).is_finite().all()).row(0) == (
        (True,) * len(MARKET_CONTEXT)
    )


def test_without_a_series_the_features_are_those_of_before(instance: dg.DagsterInstance, tmp_path):
    frames = []
    for context in ("off", None):
        graph = Graph(small_market(tmp_path / str(context), context=context), instance)
        days = graph.calendar.sessions
        graph.materialize(["universe"])
        graph.materialize(["raw_ohlcv", "daily_bars", "context_series", "stationary_features"], days[0], days[75])
        frames.append(graph.table("stationary_features"))
    without, with_series = frames
    assert without.select("ticker", "session", *STATIONARY).equals(with_series.select("ticker", "session", *STATIONARY))
    assert without.select(pl.col(MARKET_CONTEXT).is_null().all()).row(0) == (True,) * len(MARKET_CONTEXT)
    assert with_series.select(pl.col(MARKET_CONTEXT).is_finite().all()).row(0) == (True,) * len(MARKET_CONTEXT)
