"""The asset `publication`: one run and one entry for a range, and what is asked for again when something differs."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from stock_assets.lifecycle.materialize.evening import COUNTED, read_progress
from stock_assets.market.calendar import calendar_of
from stock_assets.publication.layout import path_of
from stock_assets.publication.materialize.compare import differing_rows, stored_partitions
from stock_assets.publication.read import Publication, open_publication, read_ledger
from stock_assets.tables import declared
from stock_assets_tests.defs.conftest import Graph
from stock_assets_tests.publication.markets import label, market, predict, sessions_of
from stock_assets_tests.tables import rows_of

COUNT = 10
EVENING = datetime(2019, 1, 16, 2, tzinfo=UTC)


@pytest.fixture
def graph(instance: dg.DagsterInstance, tmp_path: Path) -> Graph:
    settings, _ = market(tmp_path, COUNT)
    return Graph(settings, instance, {"clock": lambda: EVENING})


def test_a_range_is_one_run_one_entry_and_is_what_the_store_holds(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_WEB_SERVER", "http://127.0.0.1:3000")
    sessions = sessions_of(graph.settings, COUNT)
    done = graph.materialize(["publication"], sessions[0], sessions[-1])
    publication = open_publication(graph.settings.published)
    assert publication is not None
    assert publication.pointer.sessions == sessions
    assert publication.pointer.published_at == EVENING
    assert publication.pointer.facts.dagster_url == "http://127.0.0.1:3000"
    assert len(read_ledger(graph.settings.published)) == 1
    (check,) = done.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("published_equals_stored", True)
    made = done.asset_materializations_for_node("publication")[-1].metadata
    assert made["entry"].value == publication.pointer.entry
    assert made["path"].value == str(graph.settings.published)
    assert made["dashboard"].value == "http://127.0.0.1:8000/"
    assert "AAA" in str(made["strongest"].value)
    assert made["published_rows"].value == sum(publication.predictions(day).height for day in sessions)
    assert publication.monitoring("failures").columns == ["at", "what", "partitions", "run_id"]


def test_files_that_say_something_else_fail_the_run(graph: Graph, monkeypatch: pytest.MonkeyPatch):
    sessions = sessions_of(graph.settings, COUNT)
    read = Publication.predictions

    def altered(publication: Publication, session: date) -> pl.DataFrame:
        return read(publication, session).with_columns(pl.col("p_buy") + (pl.col("ticker") == "BBB") * 1e-9)

    monkeypatch.setattr(Publication, "predictions", altered)
    done = graph.materialize(["publication"], sessions[-1], fail=True)
    (check,) = done.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.metadata["named"].value == "BBB"


def test_what_is_not_published_or_otherwise_or_gone_is_asked_for_again(graph: Graph):
    store, calendar, sessions = graph.warehouse, calendar_of(graph.settings), sessions_of(graph.settings, COUNT)

    def gaps() -> tuple[list[date], list[date]]:
        found = read_progress(store, calendar, EVENING).gaps
        return list(found.unmade["publication"]), list(found.lost["publication"])

    assert gaps() == (list(sessions), []), "an older store has predictions and no publication"
    graph.materialize(["publication"], sessions[0], sessions[-1])
    assert gaps() == ([], [])
    predict(store, [sessions[3]], seed=1)
    assert gaps() == ([sessions[3]], [sessions[3]]), "predicted again by hand"
    graph.materialize(["publication"], sessions[3])
    assert gaps() == ([], [])
    label(store, [sessions[4]])
    assert gaps() == ([sessions[4]], []), "a label became known, and nobody published it yet"
    assert stored_partitions(store, ["publication"])["publication"].there == set(map(str, sessions)), "none is lost"
    graph.materialize(["publication"], sessions[4])
    assert gaps() == ([], [])
    publication = open_publication(graph.settings.published)
    assert publication is not None
    session = str(sessions[2])
    (publication.folder / path_of("bars", session, publication.pointer.files["bars"][session])).unlink()
    stored = stored_partitions(store, ["predictions", "publication"])
    assert stored["publication"].lost == {session}
    assert stored["predictions"].lost == set()
    graph.materialize(["publication"], session)
    assert stored_partitions(store)["publication"].lost == set()


def test_what_was_predicted_again_by_hand_is_published_however_old_it_is(instance: dg.DagsterInstance, tmp_path: Path):
    count = COUNTED + COUNT
    settings, store = market(tmp_path, count)
    graph, sessions, calendar = Graph(settings, instance), sessions_of(settings, count), calendar_of(settings)
    now = datetime.combine(sessions[-1] + timedelta(days=1), EVENING.timetz())
    graph.materialize(["publication"], sessions[0], sessions[-1])

    def due() -> list[date]:
        return read_progress(store, calendar, now).gaps.of("publication")

    assert due() == []
    predict(store, sessions[1:3], seed=1)
    assert due() == list(sessions[1:3])
    graph.materialize(["publication"], sessions[1], sessions[2])
    assert due() == []
    publication = open_publication(settings.published)
    assert publication is not None
    assert differing_rows(store, publication, sessions).is_empty()


def test_labels_and_their_outcomes_are_one_run(graph: Graph):
    """As the sensor `complete_labels` asks for them."""
    store, sessions = graph.warehouse, sessions_of(graph.settings, COUNT)
    bars = store.read("daily_bars").select("ticker", "session")
    store.replace_sessions("raw_ohlcv", sessions, rows_of("raw_ohlcv", bars))
    store.replace_sessions("labels", sessions[:1], declared("labels").empty())
    graph.materialize(["publication"], sessions[0], sessions[-1])
    publication = open_publication(graph.settings.published)
    assert publication is not None
    assert publication.outcomes(sessions[0]).is_empty()
    job = graph.defs.resolve_implicit_global_asset_job_def()
    day = {"dagster/asset_partition_range_start": str(sessions[0])}
    assert job.execute_in_process(
        instance=graph.instance,
        asset_selection=[dg.AssetKey("labels"), dg.AssetKey("publication")],
        tags=day | {"dagster/asset_partition_range_end": str(sessions[0])},
    ).success
    publication = open_publication(graph.settings.published)
    assert publication is not None
    labels = store.read("labels", sessions[0], sessions[0])
    assert labels.height
    outcomes = publication.outcomes(sessions[0])
    assert outcomes.select("ticker", "label").rows() == labels.select("ticker", "label").sort("ticker").rows()
