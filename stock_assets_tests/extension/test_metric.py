"""A metric that is added from outside is a column of the table, of the store and of the report."""

from collections.abc import Iterator

import polars as pl
import pytest

from stock_assets.evaluation.metrics import METRICS, Metric, Scored, score_table
from stock_assets.evaluation.report import Report, render_report
from stock_assets.evaluation.tables import add_metric
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES, declared
from stock_assets_tests.evaluation.test_report import REAL, SCORED, Page

NAME = "sharpness"


def sharpness(scored: Scored) -> float:
    """Mean of the largest probability of each row."""
    return float(scored.probabilities.max(axis=1).mean())


@pytest.fixture
def metric() -> Iterator[Metric]:
    """Sharpness, a metric of the package as long as a test runs."""
    metrics, table = dict(METRICS), TABLES["evaluation_report"]
    toy = Metric(
        NAME,
        "mean of the largest probability",
        "how sure",
        sharpness,
        digits=2,
        daily=lambda scored: (scored.by_session["hit"].to_numpy() * 0 + sharpness(scored), None),
    )
    add_metric(toy)
    yield toy
    METRICS.clear()
    METRICS.update(metrics)
    TABLES["evaluation_report"] = table


def test_a_toy_metric_is_in_the_table_the_store_and_the_report(metric: Metric, tmp_path):
    scores = score_table(SCORED)
    prior = scores.filter(pl.col("model") == "class_prior")
    assert prior[NAME].to_list() == pytest.approx([0.4] * prior.height)
    assert prior[f"{NAME}_low"].to_list() == pytest.approx([0.4] * prior.height)
    column = declared("evaluation_report").column(NAME)
    assert column is not None
    assert column.text == metric.text
    store = Warehouse(tmp_path / "store.duckdb")
    store.replace_table("evaluation_report", scores)
    assert store.read("evaluation_report")[NAME].equals(scores[NAME])
    text = Page(render_report(Report("t", {"walk_forward": scores}, {}, REAL))).text
    assert "how sure" in text
    assert "0.40[0.40, 0.40]" in text


@pytest.mark.usefixtures("metric")
def test_the_others_keep_their_values():
    with_toy = score_table(SCORED)
    without = score_table(SCORED, metrics=[metric for metric in METRICS.values() if metric.name != NAME])
    assert with_toy.select(without.columns).equals(without)
    assert set(with_toy.columns) - set(without.columns) == {NAME, f"{NAME}_low", f"{NAME}_high"}


def test_a_metric_of_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="there is a metric brier already"):
        add_metric(METRICS["brier"])
    assert declared("evaluation_report") is TABLES["evaluation_report"]
