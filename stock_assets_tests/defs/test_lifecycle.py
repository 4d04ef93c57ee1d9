"""`drift` on a store with made-up rows: which windows it compares, what it asks for, and that ranges do not show."""

from datetime import date

import dagster as dg
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.features.stationary import FIRST_BAR, STATIONARY
from stock_assets.lifecycle.drift import INPUT, PREDICTION, RECENT
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.tables import TABLES
from stock_assets_tests.defs.conftest import Graph, small_market
from stock_assets_tests.defs.test_flow import failure_of
from stock_assets_tests.tables import lose_rows, rows_of

TICKERS = ("A", "B", "C")
FIRST_CUTOFF, RETRAINED_AT = date(2018, 12, 31), date(2019, 5, 1)


def made_up(settings: Settings) -> dict[str, pl.DataFrame]:
    """Noise in every table that drift reads; from 2019-05-01 on the predictions are those of a model retrained then."""
    rng = np.random.default_rng(0)
    days = calendar_of(settings).sessions
    keys = pl.DataFrame({"session": days}).join(pl.DataFrame({"ticker": TICKERS}), how="cross")
    features = keys.filter(pl.col("session") >= days[FIRST_BAR - 1])
    features = features.with_columns(pl.Series(name, rng.normal(size=features.height)) for name in STATIONARY)
    said = keys.filter(pl.col("session") > FIRST_CUTOFF)
    p_buy = rng.beta(2, 4, said.height)
    retrained = pl.col("session") > RETRAINED_AT
    return {
        "raw_ohlcv": keys,
        "daily_bars": keys.with_columns(suspect=pl.lit(None, pl.String)),
        "stationary_features": features,
        "predictions": said.with_columns(
            model=pl.lit("rnn"),
            trained_through=pl.when(retrained).then(pl.lit(RETRAINED_AT)).otherwise(pl.lit(FIRST_CUTOFF)),
            p_sell=(1 - p_buy) / 2,
            p_hold=(1 - p_buy) / 2,
            p_buy=p_buy,
        ),
    }


@pytest.fixture
def graph(instance: dg.DagsterInstance, tmp_path) -> Graph:
    graph = Graph(small_market(tmp_path), instance)
    for table, rows in made_up(graph.settings).items():
        graph.warehouse.append(table, rows_of(table, rows))
    return graph


def without(graph: Graph, table: str, *days: date) -> None:
    lose_rows(graph.warehouse, table, days)


def drifts(graph: Graph) -> pl.DataFrame:
    return graph.warehouse.read("drift").sort("session", "kind", "column")


def test_every_session_is_compared_with_what_its_own_model_learned_from(graph: Graph):
    days = graph.calendar.between(date(2019, 1, 2), date(2019, 6, 28))
    result = graph.materialize(["drift"], days[0], days[-1])
    rows = drifts(graph)
    assert rows.columns == TABLES["drift"].names
    after = pl.col("session") > RETRAINED_AT
    assert set(rows.filter(~after)["reference_through"]) == {FIRST_CUTOFF}
    assert set(rows.filter(after)["reference_through"]) == {RETRAINED_AT}
    # nobody had predicted before 2019; by May there are 83 sessions
    assert set(rows.filter(~after)["kind"]) == {INPUT}
    assert set(rows.filter(after)["kind"]) == {INPUT, PREDICTION}
    counts = rows.group_by("session", "kind").len()
    assert set(counts.filter(pl.col("kind") == INPUT)["len"]) == {len(STATIONARY)}
    assert set(counts.filter(pl.col("kind") == INPUT)["session"]) == set(days)
    assert set(rows.filter(pl.col("kind") == PREDICTION)["column"]) == {"p_sell", "p_hold", "p_buy"}
    (last,) = [made for made in result.asset_materializations_for_node("drift") if "drift" in made.metadata]
    assert last.partition == str(days[-1])
    assert "data:image/png" in str(last.metadata["drift"].value)


def test_a_day_alone_equals_the_same_day_of_the_range(graph: Graph):
    graph.materialize(["drift"], "2019-04-01", "2019-06-28")
    whole = drifts(graph)
    for day in ("2019-04-01", "2019-05-02"):
        graph.materialize(["drift"], day)
    assert_frame_equal(drifts(graph), whole, abs_tol=1e-12)


def test_suspect_rows_do_not_count(graph: Graph):
    graph.materialize(["drift"], "2019-06-03")
    before = drifts(graph)
    bars, features = (graph.warehouse.read(table) for table in ("daily_bars", "stationary_features"))
    of_c = pl.col("ticker") == "C"
    wild = features.with_columns(pl.when(of_c).then(99.0).otherwise(pl.col(name)).alias(name) for name in STATIONARY)
    graph.warehouse.replace_table("stationary_features", wild)
    graph.warehouse.replace_table("daily_bars", bars.with_columns(suspect=pl.when(of_c).then(pl.lit("absurd_return"))))
    graph.materialize(["drift"], "2019-06-03")
    flagged = drifts(graph)
    graph.warehouse.replace_table("stationary_features", features.filter(~of_c))
    graph.materialize(["drift"], "2019-06-03")
    assert_frame_equal(drifts(graph), flagged, abs_tol=1e-12)
    assert not before.equals(flagged)


@pytest.mark.parametrize(
    ("table", "absent", "why"),
    [
        ("stationary_features", date(2018, 8, 1), "its reference, which ends at the cutoff 2018-12-31"),
        ("daily_bars", date(2019, 1, 10), f"the {RECENT} sessions of drift"),
        ("raw_ohlcv", date(2019, 1, 15), "Materialize raw_ohlcv for 2019-01-15 first"),
        ("predictions", date(2019, 1, 15), "Materialize predictions for 2019-01-15 first"),
    ],
)
def test_rows_that_should_be_there_are_asked_for(graph: Graph, table: str, absent: date, why: str):
    without(graph, table, absent)
    message = failure_of(graph.materialize(["drift"], "2019-01-15", fail=True))
    assert message.startswith("MissingSessionsError")
    assert f"drift needs 1 session(s) of {table} that are not there: {absent}" in message
    assert why in message


def test_a_hole_in_the_recent_predictions_is_asked_for_once_there_is_a_reference(graph: Graph):
    without(graph, "predictions", date(2019, 5, 20))
    message = failure_of(graph.materialize(["drift"], "2019-06-03", fail=True))
    assert "1 session(s) of predictions that are not there: 2019-05-20" in message


def test_a_session_that_the_serving_model_did_not_answer_is_named(graph: Graph):
    said = graph.warehouse.read("predictions")
    graph.warehouse.replace_table("predictions", said.with_columns(model=pl.lit("logistic")))
    message = failure_of(graph.materialize(["drift"], "2019-01-15", fail=True))
    assert "rows of rnn, whose cutoff it needs" in message


def test_a_market_too_young_for_a_reference_has_no_row(instance: dg.DagsterInstance, tmp_path):
    young = Graph(small_market(tmp_path, start=date(2018, 8, 1)), instance)
    for table, rows in made_up(young.settings).items():
        young.warehouse.append(table, rows_of(table, rows))
    young.materialize(["drift"], "2019-01-15")
    assert young.warehouse.read("drift").is_empty()
