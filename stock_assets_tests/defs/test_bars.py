"""The graph of bars below a day: what it holds, what its sensors ask for, and how many events a session leaves."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.defs.bars import LOOKING, LOOKS_KEPT, prune_looks
from stock_assets.defs.partitions import running_days, trading_days
from stock_assets.defs.runs import ASKED_BY, RANGE_END, RANGE_START, WORK
from stock_assets.lifecycle.bars import FINISHED, JUDGED, LOOK, PROMOTED, TRAINED
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES
from stock_assets_tests.defs.conftest import instance_in
from stock_assets_tests.lifecycle.bar_market import FIRST_SERVED, hours, use_quick_models

#: asset: (group, upstream assets)
GRAPH = {
    "universe": ("market", set()),
    "raw_bars": ("market", {"universe"}),
    "bars": ("market", {"raw_bars"}),
    "bar_features": ("features", {"bars"}),
    "bar_labels": ("features", {"bars"}),
    "trained_bar_models": ("model", {"bar_features", "bar_labels"}),
    "bar_predictions": ("model", {"bar_features", "trained_bar_models"}),
    "promotions": ("lifecycle", {"trained_bar_models", "bar_labels"}),
    "drift": ("lifecycle", {"bar_features", "bar_predictions", "bar_labels"}),
    "bar_report": ("evaluation", {"bar_predictions", "bar_labels"}),
    "bar_publication": ("publication", {"bar_predictions"}),
    "backtest": ("trading", {"bar_predictions", "bars", "universe"}),
}


class Clock:
    """The time of a test."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    use_quick_models(monkeypatch)
    return hours(tmp_path / "data")


def test_the_graph_is_that_of_the_design(config: Settings):
    graph = build_definitions(config).resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH
    assert {*GRAPH} == {
        name for name, table in TABLES.items() if table.exists in ("bar", "both") and not table.history
    } - {"stored_partitions"}
    for key in graph.get_all_asset_keys():
        about = graph.get(key)
        assert len(about.description or "") > 40
        assert "SIMULATED" in (about.description or "")
        assert about.metadata["dagster/column_schema"]


def test_every_asset_of_a_work_is_in_the_graph():
    assert {*FINISHED, *LOOK, *JUDGED, *TRAINED, *PROMOTED} <= {*GRAPH}


@pytest.mark.parametrize(
    ("changes", "now", "days"),
    [
        ({}, datetime(2025, 6, 24, 12, tzinfo=UTC), ("2025-06-23", "2025-06-24", "2025-06-25")),
        ({"exchange": "XNYS"}, datetime(2025, 6, 6, 15, tzinfo=UTC), ("2025-06-05", "2025-06-06", "2025-06-09")),
        ({"exchange": "XNYS"}, datetime(2025, 6, 9, 15, tzinfo=UTC), ("2025-06-06", "2025-06-09", "2025-06-10")),
        ({"end": date(2025, 6, 10)}, datetime(2025, 6, 24, 12, tzinfo=UTC), ("2025-06-10",) * 3),
    ],
)
def test_the_running_session_is_a_partition(config: Settings, changes, now: datetime, days: tuple[str, str, str]):
    """The last session that is over, the one that runs, and the one that models are trained ahead for."""
    market = config.model_copy(update={"start": date(2025, 6, 2), **changes})
    sets = (trading_days(market), running_days(market), running_days(market, ahead=1))
    assert tuple(each.get_partition_keys(current_time=now)[-1] for each in sets) == days


def test_a_session_that_begins_the_evening_before_is_a_partition_by_then(config: Settings):
    market = config.model_copy(update={"exchange": "XNYS", "session_hours": "17:00-17:00 America/New_York"})
    evening = datetime(2025, 6, 5, 22, tzinfo=UTC)
    assert running_days(market).get_partition_keys(current_time=evening)[-1] == "2025-06-06"


def tick(config: Settings, instance: dg.DagsterInstance, name: str, now: datetime, cursor: str | None = None):
    """What a sensor answers, and its cursor."""
    defs = build_definitions(config)
    repository = defs.get_repository_def()
    clock = dg.ResourceDefinition.hardcoded_resource(Clock(now))
    resources = dict(defs.resources or {}) | {"clock": clock, "channels": dg.ResourceDefinition.hardcoded_resource([])}
    with dg.build_sensor_context(instance, cursor, repository_def=repository, resources=resources) as context:
        answer = repository.get_sensor_def(name).evaluate_tick(context)
    return list(answer.run_requests or ()), str(answer.skip_message), answer.cursor


def execute(config: Settings, instance: dg.DagsterInstance, request: dg.RunRequest, now: datetime) -> None:
    """Runs what a sensor asked for, as the daemon would; `materialize` takes one partition set at a time."""
    defs = build_definitions(config)
    clock = dg.ResourceDefinition.hardcoded_resource(Clock(now))
    asked = [key.to_user_string() for key in request.asset_selection or ()]
    served = ("bar_predictions", "bar_publication", "drift", "bar_report", "backtest")
    for selection in ([key for key in asked if key not in served], [key for key in asked if key in served]):
        if selection:
            result = dg.materialize(
                list(defs.assets or ()),
                selection=selection,
                tags=dict(request.tags),
                instance=instance,
                resources=dict(defs.resources or {}) | {"clock": clock},
            )
            assert result.success


def test_the_sensors_make_the_past_the_models_and_the_running_session(config: Settings, tmp_path: Path):
    """From nothing: all sessions in one run, the training, a look per hour, and the session once it is over."""
    home = tmp_path / "home"
    home.mkdir()
    with instance_in(home) as instance:
        now = datetime(2025, 6, 22, 3, 0, 4, tzinfo=UTC)
        requests, *_ = tick(config, instance, "finished_sessions", now)
        assert (requests[0].tags[RANGE_START], requests[0].tags[RANGE_END]) == ("2025-06-01", "2025-06-21")
        assert [key.to_user_string() for key in requests[0].asset_selection] == list(FINISHED)
        assert "no session with models" in tick(config, instance, LOOKING, now)[1]
        execute(config, instance, requests[0], now)
        assert "complete" in tick(config, instance, "finished_sessions", now)[1]
        requests, *_ = tick(config, instance, "bar_training", now)
        assert (requests[0].tags[RANGE_START], requests[0].tags[RANGE_END]) == ("2025-06-22", "2025-06-23")
        execute(config, instance, requests[0], now)
        assert tick(config, instance, "bar_training", now)[0] == []
        cursor, seen = None, []
        for hour in range(3, 27):
            now = datetime(2025, 6, 22, tzinfo=UTC) + timedelta(hours=hour, seconds=4)
            requests, _, cursor = tick(config, instance, LOOKING, now, cursor)
            assert len(requests) == 1
            seen.append((requests[0].tags[RANGE_START], requests[0].tags[RANGE_END]))
            if hour in (3, 24, 26):
                execute(config, instance, requests[0], now)
            assert "nothing is new" in tick(config, instance, LOOKING, now + timedelta(minutes=1), cursor)[1]
        days = ("2025-06-22", "2025-06-23")
        assert set(seen[:21]) == {(days[0], days[0])}
        assert seen[21:] == [days, (days[1], days[1]), (days[1], days[1])]  # at midnight both sessions
        store = Warehouse(config.database)
        assert store.read("bar_publication", FIRST_SERVED, FIRST_SERVED).height == 3 * 24
        requests, *_ = tick(config, instance, "finished_sessions", now)
        execute(config, instance, requests[0], now)
        requests, *_ = tick(config, instance, "finished_sessions", now)
        assert [key.to_user_string() for key in requests[0].asset_selection] == list(JUDGED)
        execute(config, instance, requests[0], now)
        assert store.read("bar_report").height == 3
        assert {*store.read("backtest")["book"]} == {"by_sign", "long_only", "hold", "equal_weight"}
        # the partitions of the session stay materialized when the looks are gone
        for record in instance.get_run_records(dg.RunsFilter(tags={ASKED_BY: LOOKING})):
            instance.delete_run(record.dagster_run.run_id)
        held = instance.get_materialized_partitions(dg.AssetKey("bar_predictions"))
        assert "2025-06-22" in held


def test_a_session_of_looks_leaves_so_many_runs_and_no_more(config: Settings, tmp_path: Path):
    """Looks in a row: the runs that are kept, and with them their events, are bounded at every moment."""
    home = tmp_path / "home"
    home.mkdir()
    with instance_in(home) as instance:
        job = build_definitions(config).resolve_implicit_global_asset_job_def()
        most = 0
        for number in range(3 * LOOKS_KEPT):
            run = instance.create_run_for_job(
                job, tags={ASKED_BY: LOOKING, WORK: f"look {number}"}, asset_selection=frozenset([dg.AssetKey("bars")])
            )
            instance.report_run_canceled(run)
            prune_looks(instance)
            most = max(most, instance.get_runs_count(dg.RunsFilter(tags={ASKED_BY: LOOKING})))
        kept = [run.tags[WORK] for run in instance.get_runs(dg.RunsFilter(tags={ASKED_BY: LOOKING}))]
        other = instance.create_run_for_job(job, tags={ASKED_BY: "finished_sessions"})
        instance.report_run_canceled(other)
        prune_looks(instance)
        assert instance.get_run_by_id(other.run_id) is not None
    assert most == LOOKS_KEPT
    assert kept == [f"look {3 * LOOKS_KEPT - 1 - k}" for k in range(LOOKS_KEPT)]


def test_at_a_day_nothing_of_bars_is_loaded():
    """The daily graph has its own modules alone, and so does its start."""
    code = (
        "import sys, stock_assets.definitions; print(*sorted(m for m in sys.modules if m.startswith('stock_assets.')))"
    )
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    assert "stock_assets.defs.market" in modules
    rooms = ("market", "features", "model", "evaluation", "lifecycle", "publication")
    of_bars = {f"stock_assets.{room}.materialize.bars" for room in rooms}
    of_bars |= {"stock_assets.market.intervals", "stock_assets.lifecycle.bars", "stock_assets.defs.bars"}
    of_bars |= {name for name in modules if ".bar_" in name} - {"stock_assets.bar_settings"}
    assert not of_bars & modules
