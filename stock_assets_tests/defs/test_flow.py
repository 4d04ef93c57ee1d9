"""The whole graph on a small simulated market: the rows, the checks, and that how rows are made never shows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import (
    ArtifactError,
    CutoffError,
    EmptySourceError,
    MissingSessionsError,
    SourceError,
    StockAssetsError,
)
from stock_assets.features.indicators import FIRST_BAR as FIRST_INDICATOR_BAR
from stock_assets.features.stationary import FIRST_BAR
from stock_assets.lifecycle.evening import TRADED
from stock_assets.market.calendar import calendar_of
from stock_assets.market.sources import Answer
from stock_assets.platform import Platform
from stock_assets.steps import STEPS
from stock_assets.tables import TABLES, UTC_TIME
from stock_assets_tests.defs.conftest import DAILY_CHAIN, Graph, small_market
from stock_assets_tests.defs.test_definitions import GRAPH
from stock_assets_tests.tables import HISTORIES, NAMED_ALONE, ROOMS, lose_rows

YEAR = "2019"
#: What is asked of `input_value`: a model that trains at once.
FEW_INPUTS = {"model": "svm", "groups": ["own_volatility", "noise"], "seeds": 1, "workers": 1}
#: What an asset is made without, where it was never made: references and context are a supplement, and models and
#: components are read from the tables that the asset asks for first.
DOES_WITHOUT: dict[str, set[str]] = {
    "stationary_features": {"context_series"},
    # the first model year has no earlier one to weigh its members on
    "trained_ensemble": {"daily_bars", "labels", "pca_components", "stationary_features", "side_features"},
    "evaluation_report": {
        "context_series",
        "trained_references",
        "reference_predictions",
        "leakage_audit",
        "input_value",
    },
    "leakage_audit": {"reference_predictions"},
    **{table: {"context_series"} for table in TRADED},
    "promotions": {"labels", "trained_rnn", "trained_baselines", "trained_ensemble"},
    # the best naive model is tried where labels choose one, and the market is shown where it is there
    "backtest": {"labels", "context_series"},
    "tear_sheet": {"backtest"},
    "operations": {"orders"},
    # an empty part of what is published
    "publication": {"universe", "labels", "drift", "promotions", "evaluation_report", "operations", "equity", "orders"},
}


@pytest.fixture(scope="module")
def graph(instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Everything materialized once."""
    graph = Graph(small_market(tmp_path_factory.mktemp("market")), instance)
    graph.materialize_everything()
    graph.materialize(["tuned_hyperparameters"], config={"networks": ["rnn"], "trials": 3, "workers": 1})
    graph.materialize(["input_value"], config=FEW_INPUTS)
    return graph


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    error = error.cause or error
    return f"{error.cls_name}: {error.message}"


def test_every_table_has_rows_and_exactly_the_columns_it_shows(graph: Graph):
    absent = {*HISTORIES, *NAMED_ALONE, "orders"}  # nothing may have been decided yet
    assert set(ROOMS) - set(graph.warehouse.row_counts()) <= absent
    for table in ROOMS:
        if table in (*absent, "promotions"):
            continue
        rows = graph.warehouse.read(table)
        assert rows.height > 0, table
        shown = TABLES[table].names
        assert [name for name in rows.columns if not name.startswith("pc_")] == [
            name for name in shown if not name.startswith("pc_")
        ] or set(shown) <= set(rows.columns), table


def test_sessions_are_the_calendars_and_labels_end_a_horizon_earlier(graph: Graph):
    days = graph.calendar.sessions
    assert graph.warehouse.sessions("daily_bars") == set(days)
    assert graph.warehouse.sessions("labels") == set(days[: -graph.settings.horizon])
    assert graph.warehouse.sessions("indicators") == set(days[FIRST_INDICATOR_BAR - 1 :])
    assert graph.warehouse.sessions("pca_components") == set(days[FIRST_BAR - 1 :])
    assert min(graph.warehouse.sessions("predictions")) == date(2019, 1, 2)


def test_no_row_comes_twice_and_no_model_sees_its_session(graph: Graph):
    for table in ("daily_bars", "indicators", "stationary_features", "labels", "pca_components"):
        assert not graph.table(table).select("ticker", "session").is_duplicated().any(), table
    predictions = graph.table("predictions")
    references = graph.table("reference_predictions")
    assert not references.select("model", "ticker", "session").is_duplicated().any()
    assert (references["trained_through"] < references["session"]).all()
    assert not predictions.select("model", "ticker", "session").is_duplicated().any()
    assert (predictions["trained_through"] < predictions["session"]).all()
    assert set(predictions["model"]) == {
        *("rnn", "rnn_classifier", "ensemble", "logistic", "mlp", "trees", "ticker_prior", "class_prior")
    }
    assert set(references["model"]) == {"deepar", "persistence", "svm"}
    suspect = graph.table("daily_bars").filter(pl.col("suspect").is_not_null())
    assert suspect.height > 0
    assert predictions.join(suspect, on=["ticker", "session"], how="semi").is_empty()


def test_tuning_tells_what_it_tried_and_what_the_best_is_worth(graph: Graph, instance: dg.DagsterInstance):
    rows = graph.warehouse.read("tuned_hyperparameters")
    assert rows.height == 3
    assert set(rows["state"]) == {"complete"}
    assert rows["is_default"].to_list() == [True] + [False] * (rows.height - 1)
    assert rows["study"].n_unique() == 1
    event = instance.get_latest_materialization_event(dg.AssetKey("tuned_hyperparameters"))
    assert event is not None
    assert event.asset_materialization is not None
    about = event.asset_materialization.metadata
    best = rows.sort("value").row(0, named=True)
    assert f"Trial {best['trial']} scores {best['value']:.4f} on 2018-H2" in str(about["rnn_verdict"].value)
    tried = json.loads(best["params"])
    adopted = about["rnn_best"].value
    assert isinstance(adopted, dict)
    assert {name: adopted[name] for name in tried} == tried
    assert "nothing after 2018-12-31" in str(about["rnn_sample"].value)
    assert "data:image/png" in str(about["rnn_history"].value)

    # asked again, nothing is tried again; asked for a network nobody knows, the networks are named
    graph.materialize(["tuned_hyperparameters"], config={"networks": ["rnn"], "trials": 3, "workers": 1})
    assert_frame_equal(graph.warehouse.read("tuned_hyperparameters"), rows)
    result = graph.materialize(["tuned_hyperparameters"], config={"networks": ["gpt"]}, fail=True)
    assert "expected one of deepar, rnn" in failure_of(result)


def test_the_worth_of_inputs_is_shown_in_the_ui_and_asked_twice_costs_nothing(
    graph: Graph, instance: dg.DagsterInstance
):
    rows = graph.warehouse.read("input_value")
    ways = rows.select("group", "way").unique().rows()
    assert sorted(ways) == [("noise", "added"), ("own_volatility", "left_out"), ("own_volatility", "permuted")]

    def about() -> dict[str, object]:
        event = instance.get_latest_materialization_event(dg.AssetKey("input_value"))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}

    shown = about()
    assert shown["trainings"] == 3
    assert "Of 3 comparisons the intervals of about 0.15 miss 0 by luck. Of one training each" in str(shown["how_sure"])
    assert "| own_volatility | left_out |" in str(shown["verdicts"])
    assert "data:image/png" in str(shown["values"])
    graph.materialize(["input_value"], config=FEW_INPUTS)
    assert about()["trainings"] == 0
    assert_frame_equal(graph.warehouse.read("input_value"), rows)
    result = graph.materialize(["input_value"], config=FEW_INPUTS | {"groups": ["moon"]}, fail=True)
    assert "there is no group of inputs 'moon'; expected some of vix, index, market_level" in failure_of(result)


def test_the_report_shows_its_figures_in_the_ui_and_in_one_small_page(graph: Graph, instance: dg.DagsterInstance):
    from stock_assets.evaluation.figures import FIGURES

    event = instance.get_latest_materialization_event(dg.AssetKey("evaluation_report"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    made = FIGURES.keys() - {"input_values"}  # the values of inputs were not there yet
    for name in made:
        assert str(metadata[name].value).startswith(f"![{name.replace('_', ' ')}](data:image/png;base64,"), name
    assert {"classification_report", "sectors", "best_tickers", "worst_tickers"} <= set(metadata)
    path = graph.settings.artifacts / "evaluation_report" / "report.html"
    assert metadata["report"].value == str(path)
    page = path.read_text()
    assert page.count("<img") == len(made)
    assert "materialize the asset <code>input_value</code>" in page
    assert len(page) < 2_000_000
    assert "http" not in page
    for told in ("rnn_classifier", "SIM03", "Technology", "weighted mean", "price, volume and components"):
        assert told in page


def test_a_store_without_sectors_or_curves_has_a_report_that_says_so(graph: Graph):
    members = graph.warehouse.read("universe")
    trained = {table: graph.warehouse.read(table) for table in ("trained_rnn", "trained_references")}
    try:
        graph.warehouse.replace_table("universe", members.with_columns(sector=pl.lit(None, pl.String)))
        for table, models in trained.items():
            graph.warehouse.replace_table(table, models.with_columns(artifact=pl.lit(f"{table}/2019/gone")))
        result = graph.materialize(["evaluation_report"])
    finally:
        graph.warehouse.replace_table("universe", members)
        for table, models in trained.items():
            graph.warehouse.replace_table(table, models)
    (made,) = result.asset_materializations_for_node("evaluation_report")
    assert "epochs" not in made.metadata
    assert "input_values" in made.metadata
    assert made.metadata["sectors"].value == "the source states none"
    assert "states no sector of any ticker" in Path(str(made.metadata["report"].value)).read_text()


def test_a_day_alone_equals_the_same_day_of_the_range(graph: Graph):
    days = graph.calendar.sessions
    tables = [*DAILY_CHAIN[1:], "pca_components", "predictions", "reference_predictions", "drift"]
    tables.remove("context_series")
    said = graph.table("context_series").drop("fetched_at").sort("series", "session")
    before = {table: graph.table(table) for table in [*tables, *TRADED, "raw_ohlcv", "labels"]}
    for day in (days[300], days[-1]):  # both in 2019, which a model serves
        graph.materialize([*DAILY_CHAIN, "pca_components"], day)
        graph.materialize(TRADED, day)
        graph.materialize(["predictions", "reference_predictions", "drift"], day)
    graph.materialize(["labels"], days[200])
    for table, rows in before.items():
        assert_frame_equal(graph.table(table), rows, rel_tol=1e-9, abs_tol=1e-9)
    assert_frame_equal(graph.table("context_series").drop("fetched_at").sort("series", "session"), said)
    assert graph.table("raw_ohlcv").height == before["raw_ohlcv"].height  # the same answer is no new version


def test_a_range_in_chunks_and_out_of_order_equals_one_run(graph: Graph, instance: dg.DagsterInstance, tmp_path):
    again = Graph(small_market(tmp_path), instance)
    days = again.calendar.sessions
    again.materialize(["universe"])
    for first, last in ((0, 99), (100, 100), (101, 220)):
        again.materialize(["raw_ohlcv"], days[first], days[last])
    for first, last in ((0, 120), (121, 220)):
        again.materialize(["daily_bars"], days[first], days[last])
    for first, last in ((140, 220), (0, 139)):
        again.materialize(["context_series"], days[first], days[last])
    for first, last in ((150, 220), (0, 149)):
        again.materialize(["indicators", "stationary_features"], days[first], days[last])
    for table in ("daily_bars", "indicators", "stationary_features"):
        whole = graph.table(table).filter(pl.col("session") <= days[220])
        ours, theirs = (rows.drop("fetched_at", strict=False) for rows in (again.table(table), whole))
        assert_frame_equal(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def test_a_range_run_stores_pictures_once_and_counts_on_every_day(graph: Graph, instance: dg.DagsterInstance):
    days = graph.calendar.sessions
    records = instance.fetch_materializations(dg.AssetKey("labels"), limit=1000).records
    by_day = {record.partition_key: record.asset_materialization.metadata for record in records if record.partition_key}
    assert len(by_day) == len(days) - graph.settings.horizon
    assert all("dagster/partition_row_count" in metadata for metadata in by_day.values())
    pictured = [day for day, metadata in by_day.items() if "sample_chart" in metadata]
    assert len(pictured) <= 2  # the end of the range, and the day that another test materialized alone


@pytest.mark.parametrize(
    ("keys", "day", "named"),
    [
        (["daily_bars"], 5, "needs 6 session(s) of raw_ohlcv"),
        (["indicators"], 5, "of raw_ohlcv that are not there"),
        (["pca_components"], 100, "needs 1 session(s) of raw_ohlcv"),
        (["predictions"], 300, "needs 114 session(s) of raw_ohlcv"),
        (["drift"], 300, "needs 1 session(s) of raw_ohlcv"),
    ],
)
def test_an_empty_store_names_the_first_step(keys, day, named, instance: dg.DagsterInstance, tmp_path):
    graph = Graph(small_market(tmp_path), instance)
    graph.materialize(["universe"])
    result = graph.materialize(keys, graph.calendar.sessions[day], fail=True)
    assert named in failure_of(result)
    assert "aterialize" in failure_of(result)
    assert set(graph.warehouse.row_counts()) == {"universe"}  # nothing half-written


@contextmanager
def without(graph: Graph, table: str) -> Iterator[None]:
    """The store as it is before `table` was made."""
    aside, name = f"{table}_aside", f"{ROOMS[table]}.{table}"
    with graph.warehouse.connect(read_only=False) as store:
        store.execute(f"ALTER TABLE {name} RENAME TO {aside}")
    try:
        yield
    finally:
        with graph.warehouse.connect(read_only=False) as store:
            store.execute(f"DROP TABLE IF EXISTS {name}")
            store.execute(f"ALTER TABLE {ROOMS[table]}.{aside} RENAME TO {table}")


def test_whatever_an_asset_is_made_of_is_named_where_it_was_never_made(graph: Graph):
    """Every asset without each of the tables of its lineage: our own error in one line that names what to make first,
    except where the asset does without."""
    platform = Platform(graph.settings)
    raw, made = {}, set()
    for key, (_, parents, partitions) in GRAPH.items():
        day = date(2019, 1, 2) if partitions == "model years" else date(2019, 2, 1) if partitions else None
        for parent in sorted(parents - DOES_WITHOUT.get(key, set())) if key in STEPS else ():
            with without(graph, parent):
                try:
                    platform.materialize(key, day, now=datetime(2020, 1, 2, tzinfo=UTC))
                except StockAssetsError as error:
                    if "\n" in str(error) or not any(name in str(error) for name in GRAPH):
                        raw[key, parent] = str(error)
                except Exception as error:
                    raw[key, parent] = f"{type(error).__name__}: {error}"
                else:
                    made.add((key, parent))
    assert (raw, made) == ({}, set())


def test_a_hole_in_the_look_back_is_named(instance: dg.DagsterInstance, tmp_path):
    graph = Graph(small_market(tmp_path), instance)
    days = graph.calendar.sessions
    graph.materialize(["universe"])
    graph.materialize(["raw_ohlcv", "daily_bars"], days[0], days[59])
    lose_rows(graph.warehouse, "daily_bars", [days[20], days[21]])
    message = failure_of(graph.materialize(["indicators"], days[55], days[59], fail=True))
    assert message.startswith(MissingSessionsError.__name__)
    assert f"2 session(s) of daily_bars that are not there: {days[20]}, {days[21]}" in message
    assert f"Materialize daily_bars for {days[20]} to {days[21]} first" in message


def test_a_model_trained_through_the_session_is_refused_with_both_dates(graph: Graph):
    models = graph.warehouse.read("trained_rnn")
    late = models.with_columns(trained_through=pl.lit(date(2019, 3, 1)))
    try:
        graph.warehouse.replace_table("trained_rnn", late)
        message = failure_of(graph.materialize(["predictions"], date(2019, 2, 1), fail=True))
    finally:
        graph.warehouse.replace_table("trained_rnn", models)
    assert message.startswith(CutoffError.__name__)
    assert "2019-03-01" in message
    assert "2019-02-01" in message


def test_predictions_without_a_model_name_what_to_materialize(graph: Graph):
    models = graph.warehouse.read("trained_rnn")
    try:
        graph.warehouse.replace_table("trained_rnn", models.clear())
        message = failure_of(graph.materialize(["predictions"], date(2019, 2, 1), fail=True))
    finally:
        graph.warehouse.replace_table("trained_rnn", models)
    assert message.startswith(ArtifactError.__name__)
    assert "Materialize trained_rnn 2019 first" in message


def test_the_next_model_year_needs_every_session_before_it(instance: dg.DagsterInstance, graph: Graph):
    """By lineage a backfill of 2019 asks for model year 2020 as soon as it exists: here half of 2019 is missing."""
    longer = Graph(small_market(graph.settings.data_dir, end=date(2020, 12, 31)), instance)
    message = failure_of(longer.materialize(["trained_rnn"], "2020", fail=True))
    assert "raw_ohlcv" in message
    assert "2019-07-01" in message


class _Silent:
    """A vendor that knows the universe and has no prices for one session."""

    name = "simulated"

    def __init__(self, inner, silent: date) -> None:
        self._inner, self._silent = inner, silent

    def universe(self):
        return self._inner.universe()

    def fetch(self, tickers, first, last, *, fetched_at):
        answer = self._inner.fetch(tickers, first, last, fetched_at=fetched_at)
        before = pl.col("adj_close").shift().over("ticker")
        bars = answer.bars.filter(pl.col("session") != self._silent)
        return Answer(bars.with_columns(previous_adj_close=pl.coalesce(before, "previous_adj_close")))

    def context(self, first, last, fetched_at):
        return self._inner.context(first, last, fetched_at)


def test_a_session_without_any_bar_is_an_error_while_no_later_one_has_bars(instance: dg.DagsterInstance, tmp_path):
    from stock_assets.market.sources.registry import make_source

    settings = small_market(tmp_path)
    day = calendar_of(settings).sessions[-1]
    graph = Graph(settings, instance, {"source": _Silent(make_source(settings), day)})
    graph.materialize(["universe"])
    days = calendar_of(settings).sessions
    message = failure_of(graph.materialize(["raw_ohlcv"], days[-5], days[-1], fail=True))
    assert message.startswith(EmptySourceError.__name__)
    assert str(day) in message
    assert "STOCK_ASSETS_MISSING_SESSIONS" in message
    assert not {"raw_ohlcv", "fetch_outcomes", "quarantine"} & set(graph.warehouse.row_counts())


def test_a_session_without_any_bar_is_skipped_once_a_later_one_has_bars(instance: dg.DagsterInstance, tmp_path):
    from stock_assets.market.sources.registry import make_source

    settings = small_market(tmp_path)
    days = calendar_of(settings).sessions
    graph = Graph(settings, instance, {"source": _Silent(make_source(settings), days[70])})
    graph.materialize(["universe"])
    graph.materialize(DAILY_CHAIN, days[0], days[69])
    graph.materialize(DAILY_CHAIN, days[70])  # alone, as on the evening after
    graph.materialize(DAILY_CHAIN, days[71], days[80])
    graph.materialize(["labels"], days[0], days[80 - settings.horizon])
    assert set(days[:81]) - graph.warehouse.sessions("daily_bars") == {days[70]}
    after = graph.table("daily_bars").filter(pl.col("session") > days[70], pl.col("ticker") == "SIM01")
    assert after["suspect"].null_count() == 10  # no ticker skipped a session
    outcomes = graph.warehouse.read("fetch_outcomes").filter(pl.col("first") == days[70])
    assert set(outcomes["outcome"]) == {"holiday"}


def test_two_sources_never_mix_in_one_store(graph: Graph, instance: dg.DagsterInstance):
    class Other(_Silent):
        name = "yahoo"

    from stock_assets.market.sources.registry import make_source

    other = Graph(graph.settings, instance, {"source": Other(make_source(graph.settings), date.max)})
    message = failure_of(other.materialize(["raw_ohlcv"], graph.calendar.sessions[0], fail=True))
    assert message.startswith(SourceError.__name__)
    assert "STOCK_ASSETS_DATA_DIR" in message


class _Broken(_Silent):
    """A vendor whose answer for one session is absurd for every ticker."""

    def fetch(self, tickers, first, last, *, fetched_at):
        wrong = pl.when(pl.col("session") == self._silent).then(5.0).otherwise(1.0)
        answer = self._inner.fetch(tickers, first, last, fetched_at=fetched_at).bars
        return Answer(answer.with_columns(pl.col("open", "high", "low", "close", "adj_close") * wrong))


def test_a_blocking_check_stops_wrong_rows_before_the_features(instance: dg.DagsterInstance, tmp_path):
    from stock_assets.market.sources.registry import make_source

    settings = small_market(tmp_path)
    days = calendar_of(settings).sessions
    graph = Graph(settings, instance, {"source": _Broken(make_source(settings), days[60])})
    graph.materialize(["universe"])
    result = graph.materialize(DAILY_CHAIN, days[0], days[60], fail=True)
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed["no_absurd_return"].severity == dg.AssetCheckSeverity.ERROR
    assert "SIM01" in str(failed["no_absurd_return"].metadata["sample"].value)
    made = {"universe", "raw_ohlcv", "context_series", "announcements", "daily_bars", "quarantine", "fetch_outcomes"}
    assert set(graph.warehouse.row_counts()) == made


def test_a_provisional_bar_is_confirmed_the_next_evening_and_a_broken_one_stops_nobody(
    instance: dg.DagsterInstance, tmp_path: Path
):
    from stock_assets.market.materialize.time_travel import tables_as_of
    from stock_assets.market.sources.registry import make_source

    class Halves(_Silent):
        """Quotes SIM01 in hundredths on one session."""

        def fetch(self, tickers, first, last, *, fetched_at):
            answer = self._inner.fetch(tickers, first, last, fetched_at=fetched_at).bars
            wrong = (pl.col("ticker") == "SIM01") & (pl.col("session") == self._silent)
            prices = ("open", "high", "low", "close", "adj_close")
            return Answer(
                answer.with_columns(pl.when(wrong).then(pl.col(p) * 100).otherwise(p).alias(p) for p in prices)
            )

    settings = small_market(tmp_path)
    days, closes = calendar_of(settings).sessions, calendar_of(settings).closes
    evenings = [closes[day] + timedelta(hours=5) for day in days[20:23]]
    source = Halves(make_source(settings), days[21])
    graph = Graph(settings, instance, {"source": source})
    graph.materialize(["universe"])
    held = []
    for first, last, evening in ((days[0], days[20], 0), (days[21], days[21], 1), (days[22], days[22], 2)):
        graph.resources["clock"] = lambda moment=evenings[evening]: moment
        graph.materialize(["raw_ohlcv", "daily_bars"], first, last)
        held.append(graph.table("daily_bars"))
    for known, evening, day in zip(held, evenings, days[20:23], strict=True):
        provisional = known.filter("provisional")
        assert set(provisional["session"]) == {day}
        assert set(provisional["fetched_at"]) == {evening}
        then = tables_as_of(graph.warehouse, settings, evening)["daily_bars"]
        # DuckDB calls UTC by another name
        assert_frame_equal(then, known.with_columns(pl.col("fetched_at").dt.convert_time_zone("UTC")))
    versions = graph.table("raw_ohlcv").group_by("session").agg(pl.col("fetched_at").n_unique()).sort("session")
    assert versions["fetched_at"].to_list() == [1] * 20 + [2, 2, 1]
    mended = held[2].filter((pl.col("ticker") == "SIM01") & (pl.col("session") == days[21])).row(0, named=True)
    assert mended["suspect"] == "vendor_error"
    assert abs(mended["total_return"]) < 0.5
    told = graph.warehouse.read("quarantine").filter(pl.col("session") == days[21])
    assert told.select("ticker", "kind", "repaired").unique().rows() == [("SIM01", "unit", True)]
    assert told.height == 4  # a finding is told once
    # a store from before bars told their version goes on: its rows have none
    graph.warehouse.replace_table(
        "daily_bars",
        held[2].with_columns(provisional=pl.lit(None, pl.Boolean), fetched_at=pl.lit(None, UTC_TIME)),
    )
    graph.resources["clock"] = lambda: closes[days[23]] + timedelta(hours=5)
    graph.materialize(["raw_ohlcv", "daily_bars"], days[23])
    rows = graph.table("daily_bars")
    assert rows.filter(pl.col("session") == days[23])["provisional"].all()
    assert set(rows.filter(pl.col("session") < days[23])["fetched_at"]) == {None}


def test_restated_history_is_a_new_version_beside_the_old_one(instance: dg.DagsterInstance, tmp_path):
    from stock_assets.market.sources.registry import make_source

    class Restating(_Silent):
        def fetch(self, tickers, first, last, *, fetched_at):
            answer = self._inner.fetch(tickers, first, last, fetched_at=fetched_at).bars
            restated = (pl.col("ticker") == "SIM03") & (pl.col("session") == self._silent)
            volume = pl.when(restated).then(pl.col("volume") * 2).otherwise("volume")
            return Answer(answer.with_columns(volume.alias("volume")))

    settings = small_market(tmp_path)
    days = calendar_of(settings).sessions
    graph = Graph(settings, instance)
    graph.materialize(["universe"])
    graph.materialize(["raw_ohlcv", "daily_bars"], days[0], days[9])
    before = graph.table("daily_bars")
    graph.resources = {"source": Restating(make_source(settings), days[4])}
    graph.materialize(["raw_ohlcv", "daily_bars"], days[0], days[9])
    versions = graph.table("raw_ohlcv").filter((pl.col("ticker") == "SIM03") & (pl.col("session") == days[4]))
    assert versions.height == 2
    assert versions.sort("fetched_at")["volume"].to_list()[1] == 2 * versions.sort("fetched_at")["volume"].to_list()[0]
    after = graph.table("daily_bars")
    changed = after.join(before, on=["ticker", "session", "volume"], how="anti")
    assert changed.select("ticker", "session").rows() == [("SIM03", days[4])]
