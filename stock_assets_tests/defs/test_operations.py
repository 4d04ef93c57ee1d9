"""The asset `operations` on stores of every age: empty, without labels, and with whatever the lifecycle wrote."""

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from stock_assets.lifecycle.alerts import Alert, Record
from stock_assets.lifecycle.materialize.alerts import write_records
from stock_assets.tables import TABLES
from stock_assets_tests.defs.conftest import Graph, small_market
from stock_assets_tests.tables import rows_of

NOW = datetime(2019, 2, 1, 3, tzinfo=UTC)
DAYS = [date(2019, 1, 29), date(2019, 1, 30), date(2019, 1, 31)]
TICKERS = ["SIM01", "SIM02"]


@pytest.fixture
def graph(instance: dg.DagsterInstance, tmp_path: Path) -> Graph:
    return Graph(small_market(tmp_path, end=None), instance, {"clock": lambda: NOW})


def rows(**columns: object) -> pl.DataFrame:
    keys = pl.DataFrame({"session": DAYS}).join(pl.DataFrame({"ticker": TICKERS}), how="cross")
    return keys.with_columns(**{name: pl.lit(value) for name, value in columns.items()})


def predict(graph: Graph) -> None:
    answers = [
        rows(
            model=model,
            model_version=f"{model}-2018-12-31-0",
            trained_through=date(2018, 12, 31),
            p_sell=(1 - hold) / 2,
            p_hold=hold,
            p_buy=(1 - hold) / 2,
            score=0.0,
        )
        for model, hold in (("rnn", 0.8), ("ensemble", 0.7), ("class_prior", 0.4))
    ]
    graph.warehouse.append("predictions", rows_of("predictions", pl.concat(answers)))
    flagged = rows(suspect=None).with_columns(
        suspect=pl.when((pl.col("session") == DAYS[0]) & (pl.col("ticker") == "SIM02")).then(pl.lit("frozen"))
    )
    graph.warehouse.append("daily_bars", rows_of("daily_bars", flagged))


def page_of(graph: Graph) -> tuple[str, dict]:
    (made,) = graph.materialize(["operations"]).asset_materializations_for_node("operations")
    return Path(str(made.metadata["page"].value)).read_text(), {name: it.value for name, it in made.metadata.items()}


def test_an_empty_store_has_a_page(graph: Graph):
    page, about = page_of(graph)
    assert "No session is predicted yet" in page
    assert (about["last_session"], about["sessions_behind"], about["dagster/row_count"]) == ("None", 0, 0)
    assert graph.warehouse.read("operations").columns == TABLES["operations"].names


def test_predictions_come_before_their_labels(graph: Graph):
    predict(graph)
    page, about = page_of(graph)
    assert "No label of a predicted session is known yet" in page
    assert about["sessions_behind"] == 0
    table = graph.warehouse.read("operations").sort("session")
    assert table["rows"].to_list() == [2, 2, 2]
    assert table["suspects"].to_list() == [1, 0, 0]
    assert table["age"].to_list() == [19, 20, 21]  # New Year and Martin Luther King's day are no sessions
    assert table["log_loss"].null_count() == 3


def test_labels_give_live_skill_and_alarms_are_shown(graph: Graph):
    predict(graph)
    known = rows(label=0, touch_session=None, horizon_end=DAYS[1], forward_return_1=0.01, forward_return_horizon=0.01)
    graph.warehouse.append("labels", known.filter(pl.col("session") == DAYS[0]).cast({"label": pl.Int8}))
    write_records(graph.warehouse, [Record(Alert("key", "labels failed", "too few bars", "run", NOW), NOW)])
    page, about = page_of(graph)
    table = graph.warehouse.read("operations").sort("session")
    assert table["scored"].to_list() == [1, 0, 0], "the suspect row does not score"
    assert table["log_loss"][0] == pytest.approx(0.2231, abs=1e-4)  # -ln 0.8
    assert table["ensemble_log_loss"][0] == pytest.approx(0.3567, abs=1e-4)
    assert table["naive_log_loss"][0] == pytest.approx(0.9163, abs=1e-4)
    assert table["accuracy"][0] == 1.0
    assert about["naive_baseline"] == "class_prior"
    assert "data:image/png" in str(about["live_skill"])
    assert "too few bars" in page
    assert "not sent yet" in page


def test_failed_runs_are_counted(graph: Graph, instance: dg.DagsterInstance):
    @dg.op
    def stumble() -> None:
        raise ValueError("no")

    @dg.job
    def evening() -> None:
        stumble()

    def count() -> int:
        return page_of(graph)[1]["failed_runs_30_days"]

    graph.resources["clock"] = lambda: datetime.now(UTC)
    before = count()
    evening.execute_in_process(instance=instance, raise_on_error=False)
    assert count() == before + 1
