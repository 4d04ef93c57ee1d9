"""What the sensors ask of Dagster: retries, keys that never come twice, and the assets whose pages name them."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.events import EngineEventData
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.remote_representation.handle import RepositoryHandle
from dagster._utils.error import SerializableErrorInfo

from stock_assets.definitions import build_definitions
from stock_assets.defs.lost import SETTLED_AFTER
from stock_assets.defs.runs import (
    ASKED_BY,
    RANGE_END,
    RANGE_START,
    WORK,
    attempts,
    next_request,
    request,
    request_or_wait,
    under_way,
    work_done,
)
from stock_assets.errors import MissingTableError
from stock_assets.lifecycle.evening import (
    BARS,
    EVENING,
    FEATURES,
    FOLLOWED,
    FOLLOWS_WITHIN,
    INTERRUPTED,
    LEDGER,
    RETRY,
    TRADED,
    WAITED_FAILURES,
    Attempts,
    Work,
    with_side_inputs,
)
from stock_assets.lifecycle.partitions import ON_DEMAND
from stock_assets.lifecycle.restatements import Watch
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.lifecycle.store import (
    CALENDAR,
    NEXT,
    NOW,
    PREDICTED,
    SIDE,
    forget,
    handmade_store,
    lose,
    publish_nothing,
)
from stock_assets_tests.tables import rows_of

WANTED = "labels from 2019-03-01"
#: Linux numbers no process so.
NO_PROCESS = 2**22 + 1
QUIET = "2019-05-31 is predicted; 2019-06-03 is due at 2019-06-04 00:00 UTC"
LABELS = Work(WANTED, ("labels",), "2019-03-01", "2019-03-01", "one session")


@dg.job
def nothing():
    pass


def record(instance: dg.DagsterInstance, run_id: str, event: dg.DagsterEvent) -> None:
    moment = datetime.now(UTC).timestamp()
    instance.handle_new_event(dg.EventLogEntry(None, "debug", "", run_id, moment, dagster_event=event))


def run(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, fails_with: str | None = "SourceError", **tags: str
) -> dg.DagsterRun:
    """A run that ended so; without `fails_with` no step of it did."""
    made = instance.create_run_for_job(nothing, tags={WORK: WANTED, **tags})
    if status is dg.DagsterRunStatus.FAILURE:
        if fails_with:
            failure = StepFailureData(SerializableErrorInfo("", [], fails_with), None)
            event = dg.DagsterEvent("STEP_FAILURE", "nothing", step_key="daily_bars", event_specific_data=failure)
            record(instance, made.run_id, event)
        instance.report_run_failed(made)
    elif status is dg.DagsterRunStatus.CANCELED:
        instance.report_run_canceled(made)
    elif status is dg.DagsterRunStatus.SUCCESS:
        record(instance, made.run_id, dg.DagsterEvent("PIPELINE_SUCCESS", "nothing"))
    return made


@pytest.fixture
def instance(fresh_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    return fresh_instance


def test_failures_count_since_the_last_success_and_without_those_the_server_took_along(instance: dg.DagsterInstance):
    failure, success = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS
    assert attempts(instance, WANTED) == Attempts()
    run(instance, failure)
    assert (attempts(instance, WANTED).runs, attempts(instance, WANTED).failures) == (1, 1)
    run(instance, failure, **{INTERRUPTED: "true"})
    assert (attempts(instance, WANTED).runs, attempts(instance, WANTED).failures) == (2, 1)
    run(instance, success)
    assert attempts(instance, WANTED) == Attempts(3, succeeded=True)
    run(instance, failure)
    found = attempts(instance, WANTED)
    assert (found.runs, found.failures, found.succeeded) == (4, 1, False)


@pytest.mark.parametrize("ends_with", [None, "DagsterExecutionInterruptedError"])
def test_the_first_run_whose_process_was_ended_is_tried_again_at_once(
    instance: dg.DagsterInstance, ends_with: str | None
):
    run(instance, dg.DagsterRunStatus.FAILURE, ends_with)
    assert attempts(instance, WANTED) == Attempts(1)
    run(instance, dg.DagsterRunStatus.FAILURE, ends_with)
    assert attempts(instance, WANTED).failures == 1


def test_work_that_failed_waits_and_is_asked_for_under_a_new_key(instance: dg.DagsterInstance):
    context = dg.build_sensor_context(instance)
    first = request_or_wait(context, LABELS, "complete_labels", now=datetime.now(UTC))
    assert isinstance(first, dg.RunRequest)
    run(instance, dg.DagsterRunStatus.FAILURE)
    waits = request_or_wait(context, LABELS, "complete_labels", now=datetime.now(UTC))
    assert isinstance(waits, dg.SkipReason)
    assert "failed 1 time" in str(waits.skip_message)
    later = datetime.now(UTC) + RETRY
    second = request_or_wait(context, LABELS, "complete_labels", now=later)
    assert isinstance(second, dg.RunRequest)
    assert second.run_key != first.run_key
    assert second.tags["dagster/asset_partition_range_start"] == "2019-03-01"


def evening_tick(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> dg.RunRequest | str:
    """What the sensor `evening` asks for, or why it does not."""
    return sensor_tick(instance, settings, "evening", now)[0]


@lru_cache(maxsize=1)
def repository_of(settings: Settings) -> dg.RepositoryDefinition:
    """The definitions, which stay from tick to tick as in a server; loading them takes longer than the tick."""
    return build_definitions(settings).get_repository_def()


def sensor_tick(
    instance: dg.DagsterInstance, settings: Settings, name: str, now: datetime, cursor: str | None = None
) -> tuple[dg.RunRequest | str, str | None]:
    """(what the sensor asks for, or why it does not; its cursor)."""
    repository = repository_of(settings)
    resources = {"warehouse": Warehouse(settings.database), "channels": (), "clock": lambda: now}
    context = dg.build_sensor_context(instance, cursor, repository_def=repository, resources=resources)
    done = repository.get_sensor_def(name).evaluate_tick(context)
    return (done.run_requests[0] if done.run_requests else str(done.skip_message)), done.cursor


def made_by(request: dg.RunRequest | str) -> tuple[list[str], str | None, str | None]:
    """(assets, first partition, last partition) of a request."""
    assert isinstance(request, dg.RunRequest), request
    assets = [key.to_user_string() for key in request.asset_selection or ()]
    return assets, request.tags.get(RANGE_START), request.tags.get(RANGE_END)


@pytest.fixture
def market(tmp_path: Path) -> Settings:
    return read_settings(source="simulated", data_dir=tmp_path, start="2018-01-02", first_model_year=2019)


@pytest.mark.parametrize(
    ("table", "assets"),
    [
        ("indicators", ["indicators", "operations", "publication"]),
        ("drift", ["drift", "operations", "publication"]),
        ("target_weights", ["target_weights", "operations", "publication"]),
        ("positions", [*LEDGER, "operations", "publication"]),
        ("publication", ["operations", "publication"]),
        # the bars that there are may have stopped at a check: they are fetched and looked at again
        ("pca_components", [*with_side_inputs((*BARS, *FEATURES), SIDE), "operations", "publication"]),
        ("side_features", [*with_side_inputs((*BARS, *FEATURES), SIDE), "operations", "publication"]),
        ("predictions", list(with_side_inputs(EVENING, SIDE))),
    ],
)
def test_what_was_never_made_of_a_predicted_session_is_made(
    instance: dg.DagsterInstance, market: Settings, table: str, assets: list[str]
):
    """Whatever became of the run: what is due follows from the store."""
    warehouse = handmade_store(market.database)
    assert evening_tick(instance, market, NOW) == QUIET
    before = PREDICTED - timedelta(days=1)
    forget(warehouse, table, before)
    assert made_by(evening_tick(instance, market, NOW)) == (assets, str(before), str(before))
    warehouse.replace_sessions(table, [before], declared(table).empty())
    if table == "predictions":
        assert made_by(evening_tick(instance, market, NOW))[0] == ["operations", "publication"]
        publish_nothing(warehouse, before)
    assert evening_tick(instance, market, NOW) == QUIET, "made, without a row"


def test_an_older_store_is_traded_before_its_next_evening(instance: dg.DagsterInstance, market: Settings):
    """Predictions of a version without books: their targets and ledger are made first, and never fail an evening."""
    warehouse = handmade_store(market.database)
    days = sorted(warehouse.sessions("predictions"))
    for table in TRADED:
        forget(warehouse, table, *days)
        with warehouse.connect(read_only=False) as connection:
            connection.execute(f"DROP TABLE trading.{table}")
    due = datetime(2019, 6, 4, 0, 5, tzinfo=UTC)
    expected = ([*TRADED, "operations", "publication"], str(days[0]), str(days[-1]))
    assert made_by(evening_tick(instance, market, due)) == expected
    for table in TRADED:
        warehouse.replace_sessions(table, days, declared(table).empty())
    publish_nothing(warehouse, *days)
    following = evening_tick(instance, market, due)
    assert isinstance(following, dg.RunRequest)
    assert following.tags[WORK] == f"session {NEXT}"


def test_rows_that_are_lost_are_made_again_and_nothing_else(instance: dg.DagsterInstance, market: Settings):
    warehouse = handmade_store(market.database)
    rows = warehouse.read("predictions")
    lose(warehouse, "predictions", *CALENDAR.between(date(2019, 5, 28), PREDICTED))
    lost = made_by(evening_tick(instance, market, NOW))
    assert lost == (["predictions", "operations", "publication"], "2019-05-28", str(PREDICTED))
    days = sorted(set(rows["session"]))
    warehouse.replace_sessions("predictions", days, rows)
    assert made_by(evening_tick(instance, market, NOW)) == (["operations", "publication"], str(days[0]), str(days[-1]))
    publish_nothing(warehouse, *days)
    assert evening_tick(instance, market, NOW) == QUIET


def test_an_operations_page_that_was_not_made_is_made(instance: dg.DagsterInstance, market: Settings):
    warehouse = handmade_store(market.database)
    lose(warehouse, "operations", PREDICTED)
    assert made_by(evening_tick(instance, market, NOW)) == (["operations"], None, None)


def test_the_rest_of_an_evening_that_fails_waits_and_a_later_session_does_not(
    instance: dg.DagsterInstance, market: Settings
):
    warehouse = handmade_store(market.database)
    forget(warehouse, "drift", PREDICTED)
    work = f"session {PREDICTED}"
    asked = {ASKED_BY: "evening", WORK: work, RANGE_START: str(PREDICTED), RANGE_END: str(PREDICTED)}
    run(instance, dg.DagsterRunStatus.FAILURE, None, **asked)
    rest = evening_tick(instance, market, NOW)
    assert isinstance(rest, dg.RunRequest), "its process was killed: at once"
    assert asked.items() <= rest.tags.items()
    run(instance, dg.DagsterRunStatus.FAILURE, "ValueError", **asked)
    assert f"{work} failed 1 time(s); it is tried again at" in str(evening_tick(instance, market, NOW))
    following = evening_tick(instance, market, datetime(2019, 6, 4, 0, 5, tzinfo=UTC))
    assert isinstance(following, dg.RunRequest), "a later session waits for no picture"
    assert following.tags[WORK] == f"session {NEXT}"
    again = evening_tick(instance, market, datetime.now(UTC) + 2 * RETRY)
    assert isinstance(again, dg.RunRequest)
    assert again.tags[WORK] == work
    assert again.run_key != rest.run_key


def test_the_evening_does_not_wait_for_a_run_whose_process_is_gone(instance: dg.DagsterInstance, market: Settings):
    handmade_store(market.database)
    lost = run(instance, dg.DagsterRunStatus.STARTED, **{WORK: f"session {NEXT}"})
    instance.report_engine_event("Started process for run", lost, EngineEventData.in_process(NO_PROCESS))
    record(instance, lost.run_id, dg.DagsterEvent("PIPELINE_START", "nothing"))
    soon = datetime.now(UTC) + SETTLED_AFTER / 2
    assert "is under way" in str(evening_tick(instance, market, soon)), "its code server may tell why it ended"
    again = evening_tick(instance, market, soon + SETTLED_AFTER)
    assert isinstance(again, dg.RunRequest)
    assert again.tags[WORK] == f"session {NEXT}"


def test_no_decision_on_a_training_before_the_drift_and_the_labels_are_there(
    instance: dg.DagsterInstance, market: Settings
):
    """But what keeps failing is waited for no longer: the model has to be trained some day."""
    warehouse = handmade_store(market.database)
    labelled = rows_of("labels", pl.DataFrame({"session": [date(2019, 5, 20)]}))
    warehouse.replace_sessions("labels", [date(2019, 5, 20)], labelled)
    publish_nothing(warehouse, date(2019, 5, 20))
    forget(warehouse, "drift", PREDICTED)
    work = f"session {PREDICTED}"

    def waits() -> str:
        return str(sensor_tick(instance, market, "retraining", NOW)[0])

    assert waits() == f"drift, operations, publication of {work} is still to be made"
    assert waits() == sensor_tick(instance, market, "complete_labels", NOW)[0]
    for _ in range(WAITED_FAILURES):
        run(instance, dg.DagsterRunStatus.FAILURE, **{ASKED_BY: "evening", WORK: work})
    late = "labels of 1 session(s) from 2019-05-21 became complete by 2019-05-31"
    assert waits() == f"{late} and are still to be made"
    assert made_by(sensor_tick(instance, market, "complete_labels", NOW)[0])[0] == [
        "labels",
        "operations",
        "publication",
    ]
    with pytest.raises(MissingTableError):
        warehouse.read("retraining_decisions")


@pytest.mark.parametrize("lost", ["indicators", "drift", "operations", "publication"])
def test_an_alarm_ends_only_when_all_that_its_run_was_to_make_is_there(
    instance: dg.DagsterInstance, market: Settings, lost: str
):
    warehouse = handmade_store(market.database)
    tags = {ASKED_BY: "evening", WORK: f"session {PREDICTED}", RANGE_START: str(PREDICTED), RANGE_END: str(PREDICTED)}
    failed = instance.create_run_for_job(
        evening_job(market), tags=tags, asset_selection=keys_of(with_side_inputs(EVENING, SIDE))
    )
    instance.report_run_failed(failed)
    assert work_done(instance, warehouse, failed)
    (lose if lost == "operations" else forget)(warehouse, lost, PREDICTED)
    later = run(instance, dg.DagsterRunStatus.SUCCESS, **tags)
    assert attempts(instance, later.tags[WORK]).succeeded
    assert not work_done(instance, warehouse, failed)


def keys_of(assets: Iterable[str]) -> frozenset[dg.AssetKey]:
    return frozenset(map(dg.AssetKey, assets))


def evening_job(market: Settings) -> dg.JobDefinition:
    return build_definitions(market).resolve_implicit_global_asset_job_def()


def test_whatever_is_unfinished_is_told(instance: dg.DagsterInstance):
    now = datetime.now(UTC)
    assert under_way(instance, now=now) is None
    made = run(instance, dg.DagsterRunStatus.NOT_STARTED)
    assert under_way(instance, now=now) == f"run {made.run_id[:8]} ({WANTED})"
    instance.report_run_failed(made)
    assert under_way(instance, now=now) is None


def test_between_two_runs_of_make_run_nothing_else_begins(instance: dg.DagsterInstance):
    made = run(instance, dg.DagsterRunStatus.SUCCESS, **{FOLLOWED: "true"})
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[made.run_id]))
    ended = datetime.fromtimestamp(record.end_time or 0.0, UTC)
    assert under_way(instance, now=ended) == f"run {made.run_id[:8]} ({WANTED}), which another follows"
    assert under_way(instance, now=ended + FOLLOWS_WITHIN) is None, "the next one never came"
    run(instance, dg.DagsterRunStatus.SUCCESS)
    assert under_way(instance, now=ended) is None, "the last one is over"


def test_the_cutoff_of_a_training_goes_to_both_tables_of_models():
    work = Work("w", ("trained_rnn",), "2019", "2019", "drift", {"cutoff": "2019-03-01"})
    assert request(work, "retraining", 0).run_config == {
        "ops": {table: {"config": {"cutoff": "2019-03-01"}} for table in ("trained_rnn", "trained_baselines")}
    }


def test_works_are_asked_for_one_after_the_other(instance: dg.DagsterInstance):
    context, report = (
        dg.build_sensor_context(instance),
        Work("report", ("evaluation_report",), None, None, "new models"),
    )
    first = next_request(context, [LABELS, report], "reference_models", now=NOW)
    assert isinstance(first, dg.RunRequest)
    assert first.asset_selection == [dg.AssetKey("labels")]
    run(instance, dg.DagsterRunStatus.SUCCESS)
    second = next_request(context, [LABELS, report], "reference_models", now=NOW)
    assert isinstance(second, dg.RunRequest)
    assert second.asset_selection == [dg.AssetKey("evaluation_report")]
    assert second.tags == {ASKED_BY: "reference_models", WORK: "report"}, "it has no partitions"
    run(instance, dg.DagsterRunStatus.SUCCESS, **{WORK: "report"})
    assert next_request(context, [LABELS, report], "reference_models", now=NOW) is None


def test_everything_is_on_by_default_and_explains_itself(tmp_path):
    repository = build_definitions(read_settings(source="simulated", data_dir=tmp_path)).get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {"nightly_tidy"}
    assert {definition.name for definition in repository.sensor_defs} == {
        "evening", "complete_labels", "new_model_year", "restated_bars", "reference_models", "retraining",
        "store_comparison", "freshness", "opening_orders",
        "alert_on_failure",
    }  # fmt: skip
    for definition in repository.sensor_defs:
        assert definition.default_status.value == "RUNNING", definition.name
        assert len(definition.description or "") > 80, definition.name


#: Assets that no sensor makes unless their rows were lost: a backfill or a person does.
BY_HAND = {"pca_model", "tuned_hyperparameters", "input_value"}


# Dagster 1.13 reads of every schedule what it deprecates
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_the_page_of_every_asset_names_the_sensor_that_makes_it(tmp_path: Path):
    """As the UI computes the automation of an asset."""
    repository = build_definitions(read_settings(source="simulated", data_dir=tmp_path)).get_repository_def()
    handle = RepositoryHandle.for_test(repository_name=repository.name)
    remote = RemoteRepository(RepositorySnap.from_def(repository), handle, auto_materialize_use_sensors=True)
    named = {
        key.to_user_string(): {sensor.name for sensor in remote.get_sensors_targeting(key)}
        for key in repository.asset_graph.get_all_asset_keys()
    }
    assert {name for name, sensors in named.items() if not sensors - {"store_comparison"}} == BY_HAND
    assert {name for name, sensors in named.items() if "store_comparison" not in sensors} == {*ON_DEMAND}
    assert all("evening" in named[name] for name in with_side_inputs(EVENING, SIDE))
    assert named["labels"] == {"complete_labels", "restated_bars", "store_comparison"}
    assert named["trained_rnn"] == {"new_model_year", "retraining", "store_comparison"}


def test_the_reference_models_are_asked_for_one_run_after_the_other(instance: dg.DagsterInstance, tmp_path: Path):
    settings = read_settings(source="simulated", data_dir=tmp_path, start="2018-01-02", first_model_year=2019)
    assert sensor_tick(instance, settings, "reference_models", NOW)[0] == "the reference models are up to date"
    handmade_store(settings.database)
    cursor, asked = None, []
    for _ in range(5):
        work, cursor = sensor_tick(instance, settings, "reference_models", NOW, cursor)
        assert isinstance(work, dg.RunRequest)
        asked.append(([key.to_user_string() for key in work.asset_selection or ()], work.tags.get(RANGE_START)))
        under = run(instance, dg.DagsterRunStatus.NOT_STARTED, None, **{WORK: work.tags[WORK]})
        waits, _ = sensor_tick(instance, settings, "reference_models", NOW, cursor)
        assert "is under way" in str(waits)
        record(instance, under.run_id, dg.DagsterEvent("PIPELINE_SUCCESS", "nothing"))
    assert asked == [
        (["trained_references"], "2019"),
        (["reference_predictions"], "2019-01-02"),
        (["leakage_audit", "evaluation_report"], None),
        (["publication"], str(PREDICTED)),
        (["backtest", "tear_sheet"], None),
    ]
    done, cursor = sensor_tick(instance, settings, "reference_models", NOW, cursor)
    assert done == "the reference models and the report are made"
    assert cursor == "[]"


def test_no_sensor_asks_for_longer_work_while_a_session_is_due(
    instance: dg.DagsterInstance, market: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Else the evening waits for minutes until the models that never serve are trained."""
    handmade_store(market.database)
    steps = ((("labels",), "2019-05-02", "2019-05-10"),)
    monkeypatch.setattr("stock_assets.defs.automation.watch_restatements", lambda *_, **__: (Watch(NOW, steps), "one"))
    later = NOW + timedelta(days=3)
    for sensor in build_definitions(market).get_repository_def().sensor_defs:
        if sensor.name not in ("evening", "alert_on_failure"):
            asked, _ = sensor_tick(instance, market, sensor.name, later)
            assert isinstance(asked, str), f"{sensor.name} asks for {asked}"
    for name in ("reference_models", "restated_bars"):
        assert sensor_tick(instance, market, name, later)[0] == f"session {NEXT} is still to be predicted"
        assert isinstance(sensor_tick(instance, market, "evening", later)[0], dg.RunRequest)
    assert isinstance(sensor_tick(instance, market, "reference_models", NOW)[0], dg.RunRequest), "before it is due"


def test_a_restatement_waits_for_what_an_evening_and_its_decision_are_made_of(
    instance: dg.DagsterInstance, market: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Whatever was killed, the page and the decision of an evening then hold what they would have held."""
    warehouse = handmade_store(market.database)
    watch = Watch(NOW, ((("labels",), "2019-05-02", "2019-05-10"),))
    monkeypatch.setattr(
        "stock_assets.defs.automation.watch_restatements", lambda *_, **__: (watch, "1 bar(s) were restated")
    )

    def decide_on(session: date) -> None:
        decision = rows_of("retraining_decisions", pl.DataFrame({"session": [session]}))
        warehouse.replace_rows("retraining_decisions", decision.select("session"), decision)

    def answer() -> object:
        return sensor_tick(instance, market, "restated_bars", NOW)[0]

    assert isinstance(answer(), dg.RunRequest), "nobody decides in this market"
    decide_on(CALENDAR.before(PREDICTED, 1)[0])
    assert answer() == f"1 bar(s) were restated; the decision on {PREDICTED} is still to be made"
    decide_on(PREDICTED)
    assert isinstance(answer(), dg.RunRequest)
    forget(warehouse, "drift", PREDICTED)
    assert answer() == f"drift, operations, publication of session {PREDICTED} is still to be made"
    later = NOW + timedelta(days=3)
    assert sensor_tick(instance, market, "restated_bars", later)[0] == f"session {NEXT} is still to be predicted"
    for _ in range(WAITED_FAILURES):
        run(instance, dg.DagsterRunStatus.FAILURE, **{ASKED_BY: "evening", WORK: f"session {NEXT}"})
    assert answer() == f"drift, operations, publication of session {PREDICTED} is still to be made", (
        "what keeps failing holds up none"
    )


def test_a_restated_bar_is_made_again_once(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch):
    """The cursor holds the runs until all have succeeded."""
    settings = read_settings(source="simulated", data_dir=tmp_path, start="2018-01-02", first_model_year=2019)
    handmade_store(settings.database)
    steps = ((("daily_bars", "labels"), "2019-05-02", "2019-05-31"), (("labels",), "2019-05-02", "2019-05-10"))
    watched = [(Watch(NOW, steps), "1 bar(s) were restated"), (Watch(NOW), "no stored bar was changed")]
    given: list[Watch | None] = []

    def watch_restatements(_store: object, _settings: object, _state: object, *, watch: Watch | None):
        given.append(watch)
        return watched[0] if watch is None or watch.steps else watched[1]

    monkeypatch.setattr("stock_assets.defs.automation.watch_restatements", watch_restatements)
    cursor = None
    for assets, first, last in steps:
        asked, cursor = sensor_tick(instance, settings, "restated_bars", NOW, cursor)
        assert isinstance(asked, dg.RunRequest)
        assert [key.to_user_string() for key in asked.asset_selection or ()] == list(assets)
        assert (asked.tags[RANGE_START], asked.tags[RANGE_END]) == (first, last)
        run(instance, dg.DagsterRunStatus.SUCCESS, None, **{WORK: asked.tags[WORK]})
    done, cursor = sensor_tick(instance, settings, "restated_bars", NOW, cursor)
    assert done == "all that was restated is made again"
    assert sensor_tick(instance, settings, "restated_bars", NOW, cursor)[0] == "no stored bar was changed"
    assert given == [None, Watch(NOW, steps), Watch(NOW, steps), Watch(NOW)]
