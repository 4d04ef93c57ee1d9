"""The batching storage against the stock one: the same events in, every answer compared."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
import yaml
from alembic.script import ScriptDirectory
from dagster import DagsterEventType as Event
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationPlanned,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import (
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import sql_event_log
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    MULTIDIMENSIONAL_PARTITION_PREFIX,
)
from dagster._core.test_utils import create_run_for_test
from dagster._serdes import serialize_value
from sqlalchemy import Connection, Engine
from sqlalchemy import event as sql_event
from sqlalchemy.exc import OperationalError

from stock_assets.storage import event_log
from stock_assets.storage.event_log import BatchingSqliteEventLogStorage, BatchingSqliteStorage
from stock_assets.storage.event_rows import as_stored, rows_of
from stock_assets_tests.waiting import HANG_SECONDS

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01", exclusions=["0 0 * * 0,6"])
KEYS = DAYS.get_partition_keys()
GRID = dg.MultiPartitionsDefinition({"day": DAYS, "market": dg.StaticPartitionsDefinition(["de", "us"])})
BATCHING, STOCK = BatchingSqliteEventLogStorage, SqliteEventLogStorage
# Forked from a process that has imported Dagster and runs no threads, unlike this one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([event_log.__name__])


@pytest.fixture(autouse=True)
def _own_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage sets the variable for its whole process; the next test shall not inherit it."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Neither waiting for the disk nor reading all migrations for each shard proves anything here."""

    def unsynced(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    sql_event.listen(Engine, "connect", unsynced)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", cache(ScriptDirectory.from_config))
        yield
    sql_event.remove(Engine, "connect", unsynced)


@contextmanager
def open_instance(home: Path, batching: bool = True) -> Iterator[dg.DagsterInstance]:
    home.mkdir(exist_ok=True)
    folder = {"base_dir": str(home)}
    custom = {"module": event_log.__name__, "class": BatchingSqliteStorage.__name__, "config": folder}
    storage = {"custom": custom} if batching else {"sqlite": folder}
    settings = {"storage": storage, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


# --- real events: a small graph, run for true, and every call to its storage kept ------------------------


class Recorded(NamedTuple):
    calls: Sequence[Sequence[EventLogEntry]]  # as Dagster made them: single events and batches
    runs_db: Path
    runs: Sequence[str]

    @property
    def events(self) -> Sequence[EventLogEntry]:
        return [event for call in self.calls for event in call]


def small_graph() -> Mapping[str, dg.AssetsDefinition | dg.AssetChecksDefinition]:
    one_run = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=DAYS, backfill_policy=one_run, code_version="3")
    def bars(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for number, key in enumerate(context.partition_keys):
            context.add_asset_metadata({"rows": number}, partition_key=key)
        context.log.info("a line of the user")
        context.log_event(dg.AssetObservation("bars", partition=KEYS[0], tags={DATA_VERSION_TAG: "seen"}))
        context.log_event(dg.AssetObservation("bars", tags={DATA_VERSION_TAG: "observed"}))
        return dg.MaterializeResult(metadata={"source": "simulated"}, tags={"vendor": "none"})

    @dg.asset(partitions_def=DAYS, backfill_policy=one_run, deps=[bars])
    def features(context: dg.AssetExecutionContext) -> None:
        if "fail" in context.run.tags:
            raise ValueError("no features today")

    @dg.asset_check(asset=bars)
    def bars_are_positive() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, metadata={"n": 5})

    @dg.asset_check(asset=features, partitions_def=DAYS)
    def features_are_finite() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    @dg.asset(check_specs=[dg.AssetCheckSpec("is_fresh", asset="report")])
    def report() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield dg.MaterializeResult(data_version=dg.DataVersion("r1"))
        yield dg.AssetCheckResult(check_name="is_fresh", passed=False)

    @dg.asset(partitions_def=GRID)
    def by_market() -> None: ...

    return {
        "bars": bars,
        "features": features,
        "report": report,
        "by_market": by_market,
        "bars_are_positive": bars_are_positive,
        "features_are_finite": features_are_finite,
    }


ASSETS = [dg.AssetKey(name) for name in ("bars", "features", "report", "by_market", "nobody")]
PARTITIONED = {ASSETS[0]: DAYS, ASSETS[1]: DAYS, ASSETS[2]: None, ASSETS[3]: GRID}
CHECKS = [
    dg.AssetCheckKey(ASSETS[0], "bars_are_positive"),
    dg.AssetCheckKey(ASSETS[1], "features_are_finite"),
    dg.AssetCheckKey(ASSETS[2], "is_fresh"),
]


def days(first: int, last: int) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: KEYS[first], ASSET_PARTITION_RANGE_END_TAG: KEYS[last]}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    home = tmp_path_factory.mktemp("recorded")
    calls: list[Sequence[EventLogEntry]] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "8")
        store_event, store_event_batch = BATCHING.store_event, BATCHING.store_event_batch
        patch.setattr(BATCHING, "store_event", lambda s, e: (calls.append([e]), store_event(s, e)))
        patch.setattr(BATCHING, "store_event_batch", lambda s, e: (calls.append(list(e)), store_event_batch(s, e)))
        graph = small_graph()
        daily = [graph[n] for n in ("bars", "features", "bars_are_positive", "features_are_finite")]
        with open_instance(home) as instance:

            def materialize(assets: Sequence[Any], **options: Any) -> None:
                dg.materialize(assets, instance=instance, raise_on_error=False, **options)

            materialize(daily, tags=days(0, 6))
            materialize([graph["report"]])
            materialize([graph["by_market"]], partition_key=dg.MultiPartitionKey({"day": KEYS[1], "market": "us"}))
            materialize([graph["by_market"]], partition_key=dg.MultiPartitionKey({"day": KEYS[1], "market": "de"}))
            materialize(daily, tags=days(4, 9) | {"fail": "yes"})
            instance.report_runless_asset_event(dg.AssetMaterialization("bars", partition=KEYS[20]))
            instance.report_runless_asset_event(dg.AssetObservation("report", tags={DATA_VERSION_TAG: "r2"}))
            runs = [run.run_id for run in instance.get_runs()]
    # the plan of a check is where the two part on purpose, which has a test of its own
    calls = [[stored for event in call for stored in as_stored(event)] for call in calls]
    return Recorded(calls, home / "history" / "runs.db", runs)


def test_recorded_events_are_of_every_kind(recorded: Recorded) -> None:
    kinds = Counter(event.dagster_event_type for event in recorded.events)
    assert (kinds[Event.ASSET_MATERIALIZATION_PLANNED], kinds[Event.ASSET_MATERIALIZATION]) == (29, 24)
    assert min(kinds[Event.ASSET_OBSERVATION], kinds[Event.ASSET_CHECK_EVALUATION_PLANNED]) >= 5
    assert kinds[Event.RUN_FAILURE] == kinds[Event.STEP_FAILURE] == 1
    assert kinds[None] == 3  # lines of a log
    batched = {event.dagster_event_type for call in recorded.calls if len(call) > 1 for event in call}
    assert batched == {
        Event.ASSET_MATERIALIZATION,
        Event.ASSET_MATERIALIZATION_PLANNED,
        Event.ASSET_CHECK_EVALUATION_PLANNED,
    }


# --- what is asked of both -----------------------------------------------------------------------------


def plain(answer: Any) -> Any:
    """`answer` as something that compares by value, without the moment its row was created."""
    if isinstance(answer, Mapping):
        return sorted((plain(key), plain(value)) for key, value in answer.items())
    if isinstance(answer, set | frozenset):
        return sorted(map(plain, answer))
    if type(answer) in (list, tuple):
        return [plain(item) for item in answer]
    shown = answer if isinstance(answer, str) else repr(answer)
    assert " object at 0x" not in shown, "compared by identity"
    return re.sub(r"create_timestamp=[^,)]+", "", shown)


def answers(instance: dg.DagsterInstance, runs: Sequence[str]) -> dict[str, Any]:
    """Every question the UI, the daemon and GraphQL put to an event log, with this one's answers."""
    log = instance.event_log_storage
    asked: dict[str, Any] = {}

    def ask(question: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = question(*args, **options)
        named = [argument for argument in args if argument is not instance]
        asked[f"{question.__name__}{(*named, *options.items())}"] = plain(result)
        return result

    for run in runs:
        ask(log.get_logs_for_run, run)
        ask(log.get_logs_for_run, run, of_type=Event.ASSET_MATERIALIZATION)
        page = ask(log.get_records_for_run, run, limit=7)
        ask(log.get_records_for_run, run, cursor=page.cursor, limit=30)
        ask(log.get_records_for_run, run, ascending=False, limit=5)
        ask(log.get_stats_for_run, run)
        ask(log.get_step_stats_for_run, run)
        ask(log.get_asset_partitions_for_run, run)
        ask(log.get_asset_keys_for_run, run, Event.ASSET_MATERIALIZATION_PLANNED)
    for kind in EVENT_TYPE_TO_PIPELINE_RUN_STATUS:
        ask(log.fetch_run_status_changes, kind, 100)
    ask(log.get_event_records, dg.EventRecordsFilter(Event.STEP_SUCCESS))
    ask(log.get_asset_records)
    ask(log.get_asset_records, ASSETS[:2])
    ask(log.get_asset_keys)
    ask(log.get_asset_keys, prefix=["b"], limit=1)
    ask(log.all_asset_keys)
    ask(log.get_latest_materialization_events, ASSETS)
    ask(log.get_latest_materialization_storage_ids, ASSETS)
    ask(log.get_logs_for_all_runs_by_log_id)
    ask(log.get_maximum_record_id)
    ask(log.get_freshness_state_records, ASSETS)
    for asset in ASSETS:
        ask(log.has_asset_key, asset)
        ask(log.get_materialized_partitions, asset)
        ask(log.get_materialized_partitions, asset, after_cursor=20)
        ask(log.get_latest_asset_partition_materialization_attempts_without_materializations, asset)
        for kind in (
            Event.ASSET_MATERIALIZATION,
            Event.ASSET_OBSERVATION,
            Event.ASSET_MATERIALIZATION_PLANNED,
        ):
            ask(log.get_latest_storage_id_by_partition, asset, kind)
            ask(log.get_latest_tags_by_partition, asset, kind, [DATA_VERSION_TAG])
            ask(log.get_asset_event_summary_records, kind, asset)
        ask(log.get_event_tags_for_asset, asset)
        ask(log.get_event_tags_for_asset, asset, {f"{MULTIDIMENSIONAL_PARTITION_PREFIX}market": "us"})
        ask(log.get_latest_planned_materialization_info, asset)
        ask(log.get_latest_planned_materialization_info, asset, KEYS[8])
        ask(log.get_updated_data_version_partitions, asset, KEYS, 30)
        page = ask(log.fetch_materializations, asset, limit=6)
        ask(log.fetch_materializations, asset, limit=99, cursor=page.cursor)
        ask(log.fetch_materializations, dg.AssetRecordsFilter(asset, asset_partitions=KEYS[3:6]), limit=99)
        ask(log.fetch_observations, asset, limit=99)
        ask(log.fetch_failed_materializations, asset, limit=9)
        planned = dg.EventRecordsFilter(Event.ASSET_MATERIALIZATION_PLANNED, asset)
        ask(log.get_event_records, planned)
        ask(instance.get_latest_data_version_record, asset)
        ask(get_and_update_asset_status_cache_value, instance, asset, PARTITIONED.get(asset))
        ask(get_and_update_asset_status_cache_value, instance, asset, PARTITIONED.get(asset))
    ask(log.get_asset_check_summary_records, CHECKS)
    ask(log.get_latest_asset_check_execution_by_key, CHECKS)
    ask(log.get_latest_asset_check_execution_by_key, CHECKS, PartitionKeyFilter(key=KEYS[2]))
    ask(log.get_asset_check_partition_info, CHECKS)
    for check in CHECKS:
        ask(log.get_asset_check_execution_history, check, limit=50)
        ask(
            log.get_asset_check_execution_history,
            check,
            limit=50,
            partition_filter=PartitionKeyFilter(key=None),
        )
    return asked


def tables(folder: Path) -> dict[str, Sequence[Any]]:
    """The rows of every table of every shard, less what differs between any two stores."""
    contents: dict[str, Sequence[Any]] = {}
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            database.row_factory = sqlite3.Row
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                # The id of an asset is never shown, and depends on which of a batch was written first.
                dropped = {"create_timestamp", "migration_completed"} | ({"id"} if table == "asset_keys" else set())
                rows = [dict(row) for row in database.execute(f"SELECT * FROM {table}").fetchall()]
                contents[f"{path.name}/{table}"] = sorted(
                    sorted((k, repr(v)) for k, v in row.items() if k not in dropped) for row in rows
                )
    return contents


def assert_same_tables(instances: Mapping[str, dg.DagsterInstance]) -> None:
    for instance in instances.values():
        for asset, partitions in PARTITIONED.items():
            get_and_update_asset_status_cache_value(instance, asset, partitions)  # is kept in a table
    folders = {name: Path(instance.root_directory, "history", "runs") for name, instance in instances.items()}
    expected = tables(folders["stock"])
    for name in ("as_called", "in_pieces"):
        assert tables(folders[name]) == expected, name


def store_one_by_one(log: EventLogStorage, calls: Sequence[Sequence[EventLogEntry]]) -> None:
    for call in calls:
        for event in call:
            log.store_event(event)


def store_as_called(log: EventLogStorage, calls: Sequence[Sequence[EventLogEntry]]) -> None:
    for call in calls:
        log.store_event(call[0]) if len(call) == 1 else log.store_event_batch(call)


def store_in_pieces(log: EventLogStorage, calls: Sequence[Sequence[EventLogEntry]]) -> None:
    """Batches that Dagster does not make: of random length, of every kind, over the borders of runs."""
    events, chance = [event for call in calls for event in call], random.Random(0)
    while events:
        size = chance.choice([1, 2, 5, 40])
        log.store_event_batch(events[:size])
        del events[:size]


STORE = {"stock": store_one_by_one, "as_called": store_as_called, "in_pieces": store_in_pieces}


@pytest.fixture
def instances(tmp_path: Path, recorded: Recorded) -> Iterator[Mapping[str, dg.DagsterInstance]]:
    """A stock instance and two batching ones that know the recorded runs and none of their events."""
    with ExitStack() as stack:
        opened = {}
        for name in STORE:
            (tmp_path / name / "history").mkdir(parents=True)
            shutil.copy(recorded.runs_db, tmp_path / name / "history")
            opened[name] = stack.enter_context(open_instance(tmp_path / name, batching=name != "stock"))
            assert type(opened[name].event_log_storage) is (STOCK if name == "stock" else BATCHING)
        yield opened


def test_every_row_and_answer_is_that_of_the_stock_storage(
    recorded: Recorded, instances: Mapping[str, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(calls: Sequence[Sequence[EventLogEntry]]) -> None:
        for name, instance in instances.items():
            STORE[name](instance.event_log_storage, calls)

    # The status cache of each asset is built here, and brought up to date on the rest.
    some = len(recorded.calls) * 3 // 5
    store(recorded.calls[:some])
    assert_same_tables(instances)
    store(recorded.calls[some:])
    assert_same_tables(instances)

    found = answers(instances["as_called"], recorded.runs)
    for question, answer in answers(instances["stock"], recorded.runs).items():
        assert found[question] == answer, question

    # An asset is forgotten and a run deleted, and then both are seen again.
    wiped_at = recorded.events[-1].timestamp + 1
    monkeypatch.setattr(sql_event_log, "get_current_timestamp", lambda: wiped_at)
    for instance in instances.values():
        instance.event_log_storage.wipe_asset(ASSETS[0])
        instance.event_log_storage.delete_events(recorded.runs[1])
    assert_same_tables(instances)
    assert not instances["as_called"].event_log_storage.has_asset_key(ASSETS[0])
    batched = [[e for e in call if e.dagster_event_type in ASSET_EVENTS] for call in recorded.calls]
    store([[e._replace(timestamp=e.timestamp + 100) for e in call] for call in batched if len(call) > 1])
    assert_same_tables(instances)
    assert instances["as_called"].event_log_storage.has_asset_key(ASSETS[0])


# --- one transaction per shard, and what can go wrong around it -------------------------------------------


def entry(run_id: str, data: Any, event_type: Event, seconds: float = 0.0) -> EventLogEntry:
    event = DagsterEvent(event_type.value, "job", step_key="step", event_specific_data=data)
    return EventLogEntry(None, 10, "", run_id, 1.7e9 + seconds, "step", "job", event)


def materializations(run_id: str, asset: str, number: int) -> list[EventLogEntry]:
    """`number` partitions planned and then materialized."""
    keys = [f"key_{i}" for i in range(number)]
    key = dg.AssetKey(asset)
    planned = [AssetMaterializationPlannedData(key, partition=k) for k in keys]
    tags = {DATA_VERSION_TAG: run_id}
    made = [StepMaterializationData(dg.AssetMaterialization(key, partition=k, tags=tags)) for k in keys]
    return [entry(run_id, data, Event.ASSET_MATERIALIZATION_PLANNED, i) for i, data in enumerate(planned)] + [
        entry(run_id, data, Event.ASSET_MATERIALIZATION, number + i) for i, data in enumerate(made)
    ]


def test_the_row_of_an_asset_is_that_of_its_last_events_in_any_order(tmp_path: Path) -> None:
    seen = [dg.AssetObservation("bars", partition=f"key_{i}") for i in range(3)]
    events = materializations("run", "bars", 3) + materializations("run", "features", 3)
    events += [entry("run", AssetObservationData(o), Event.ASSET_OBSERVATION, 9) for o in seen]
    stock, batching = STOCK(str(tmp_path / "stock")), BATCHING(str(tmp_path / "batching"))
    chance = random.Random(0)
    for number in range(6):
        chance.shuffle(events)
        batch = [e._replace(run_id=f"run_{number % 3}", timestamp=1.7e9 + chance.random()) for e in events]
        store_one_by_one(stock, [batch])
        batching.store_event_batch(batch)
        assert tables(tmp_path / "batching") == tables(tmp_path / "stock")


def rows_in(folder: Path, shard: str, table: str = "event_logs") -> int:
    with closing(sqlite3.connect(folder / f"{shard}.db")) as database:
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_batch_is_one_transaction_on_the_run_shard_and_then_one_on_the_index(tmp_path: Path) -> None:
    log = BATCHING(str(tmp_path))
    log.store_event_batch(materializations("warm", "bars", 1))  # creates the shards
    log.store_event_batch(materializations("run", "bars", 1))
    committed = []

    def on_commit(connection: Connection) -> None:
        committed.append(Path(connection.engine.url.database or "").stem)

    sql_event.listen(Engine, "commit", on_commit)
    try:
        log.store_event_batch(materializations("run", "bars", 200))
    finally:
        sql_event.remove(Engine, "commit", on_commit)
    assert committed == ["run", "index"]


@pytest.mark.parametrize("batched", [True, False])
def test_the_plan_of_a_check_is_one_row_that_its_evaluation_completes(tmp_path: Path, batched: bool) -> None:
    """Stock plans it once per partition of a backfill's run, and its evaluation completes none of them."""
    days = dg.DailyPartitionsDefinition("2000-01-01", end_date="2020-01-01")
    subset = days.subset_with_partition_keys(days.get_partition_keys()).to_serializable_subset()
    planned = AssetCheckEvaluationPlanned(asset_key=ASSETS[0], check_name="check", partitions_subset=subset)
    event = entry("run", planned, Event.ASSET_CHECK_EVALUATION_PLANNED)
    log = BATCHING(str(tmp_path))
    if batched:
        log.store_event_batch([event])
    else:
        log.store_event(event)
    key = dg.AssetCheckKey(ASSETS[0], "check")
    (record,) = log.get_asset_check_execution_history(key, limit=10)
    assert record.status == AssetCheckExecutionRecordStatus.PLANNED
    done = AssetCheckEvaluation(asset_key=ASSETS[0], check_name="check", passed=True, metadata={})
    log.store_event(entry("run", done, Event.ASSET_CHECK_EVALUATION))
    (record,) = log.get_asset_check_execution_history(key, limit=10)
    assert record.status == AssetCheckExecutionRecordStatus.SUCCEEDED


@pytest.mark.parametrize("batched", [True, False])
def test_a_plan_of_many_partitions_is_stored_as_one_of_each(tmp_path: Path, batched: bool) -> None:
    subset = DAYS.subset_with_partition_keys(KEYS)
    of_many = AssetMaterializationPlannedData(ASSETS[0], partitions_subset=subset)
    of_each = [AssetMaterializationPlannedData(ASSETS[0], partition=key) for key in KEYS]
    stock, batching = STOCK(str(tmp_path / "stock")), BATCHING(str(tmp_path / "batching"))
    assert batching.supports_partition_subset_in_asset_materialization_planned_events
    store_one_by_one(stock, [[entry("run", data, Event.ASSET_MATERIALIZATION_PLANNED) for data in of_each]])
    plan = entry("run", of_many, Event.ASSET_MATERIALIZATION_PLANNED)
    if batched:
        batching.store_event_batch([plan])
    else:
        batching.store_event(plan)
    assert tables(tmp_path / "batching") == tables(tmp_path / "stock")


def test_the_text_of_an_event_is_that_of_dagster_though_most_of_it_is_of_another(recorded: Recorded) -> None:
    """Also where its partition or moment stands in it again, or a value differs in its class alone."""
    own = [event for event in recorded.events if event.is_dagster_event]
    values = [dg.IntMetadataValue(1), dg.FloatMetadataValue(1.0), dg.BoolMetadataValue(True), dg.IntMetadataValue(1)]
    texts = [dg.TextMetadataValue("a"), dg.UrlMetadataValue("a"), dg.PathMetadataValue("a")]
    texts += [dg.TextMetadataValue('"partition": "key_2"'), dg.TextMetadataValue("\0\1"), dg.TextMetadataValue("key_1")]
    alike = [
        entry("run", data, Event.ASSET_MATERIALIZATION, place / 7)
        for value in values + texts
        for place, key in enumerate(["key_1", "key_2", "", 'a "quoted" ké'])
        for asset in ("bars", "features")
        for made in [dg.AssetMaterialization(asset, partition=key, metadata={"value": value}, tags={"of": asset[:1]})]
        for data in [StepMaterializationData(made)]
    ]
    events = [*own, *alike]
    assert [row.event for row in rows_of(events)] == [serialize_value(event) for event in events]


def test_a_kill_between_the_transactions_leaves_what_the_stock_storage_can_read(tmp_path: Path) -> None:
    events = materializations("run", "bars", 50)
    process = PROCESSES.Process(target=_store_and_be_killed, args=(tmp_path, events))
    process.start()
    process.join(HANG_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    assert (rows_in(tmp_path, "run"), rows_in(tmp_path, "index")) == (100, 0)

    stock = STOCK(str(tmp_path))
    assert len(stock.get_logs_for_run("run")) == 100
    assert not stock.get_materialized_partitions(ASSETS[0])
    assert not stock.has_asset_key(ASSETS[0])
    again = materializations("again", "bars", 50)
    BATCHING(str(tmp_path)).store_event_batch(again)
    assert stock.get_materialized_partitions(ASSETS[0]) == {f"key_{i}" for i in range(50)}


def _store_and_be_killed(folder: Path, events: Sequence[EventLogEntry]) -> None:
    class Killed(BATCHING):
        @contextmanager
        def _begin(self, shard: str) -> Iterator[Connection]:
            with super()._begin(shard) as connection:
                yield connection
            if shard == "run":
                os.kill(os.getpid(), signal.SIGKILL)

    Killed(str(folder)).store_event_batch(events)


def test_four_processes_write_to_one_index(tmp_path: Path) -> None:
    BATCHING(str(tmp_path))
    processes = [PROCESSES.Process(target=_store_batches, args=(tmp_path, f"run_{i}")) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG_SECONDS)
    assert [process.exitcode for process in processes] == [0] * 4
    log = STOCK(str(tmp_path))
    assert [rows_in(tmp_path, f"run_{i}") for i in range(4)] == [1000] * 4
    assert rows_in(tmp_path, "index") == 4000
    for asset in ("shared", "run_0", "run_3"):
        assert log.get_materialized_partitions(dg.AssetKey(asset)) == {f"key_{i}" for i in range(50)}
    # Every tag belongs to the event that carried it, whoever wrote in between.
    with closing(sqlite3.connect(tmp_path / "index.db")) as database:
        tags = database.execute(
            "SELECT count(*) FROM asset_event_tags t JOIN event_logs e ON e.id = t.event_id"
            " AND e.run_id = t.value AND e.asset_key = t.asset_key"
        ).fetchone()
    assert tags == (2000,)
    assert not list(tmp_path.glob("run_*-wal")), "its process has ended"


def _store_batches(folder: Path, run_id: str) -> None:
    log = BATCHING(str(folder))
    for number in range(10):
        log.store_event_batch(materializations(run_id, "shared" if number % 2 else run_id, 50))


def test_a_busy_index_is_waited_for(tmp_path: Path) -> None:
    log = BATCHING(str(tmp_path))
    writer = threading.Thread(target=log.store_event_batch, args=(materializations("run", "bars", 5),))
    with closing(sqlite3.connect(tmp_path / "index.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        other.rollback()
    writer.join()
    assert (rows_in(tmp_path, "run"), rows_in(tmp_path, "index")) == (10, 10)


def test_the_index_is_free_for_others_while_a_run_is_waited_for(tmp_path: Path) -> None:
    log = BATCHING(str(tmp_path))
    log.store_event_batch(materializations("run", "bars", 1))
    writer = threading.Thread(target=log.store_event_batch, args=(materializations("run", "bars", 5),))
    with closing(sqlite3.connect(tmp_path / "run.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writer.start()
        time.sleep(0.2)
        with closing(sqlite3.connect(tmp_path / "index.db", timeout=0)) as index:
            index.execute("BEGIN IMMEDIATE")
        other.rollback()
    writer.join()
    assert (rows_in(tmp_path, "run"), rows_in(tmp_path, "index")) == (12, 12)


def test_an_index_busy_for_too_long_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "SQLITE_BUSY_TIMEOUT_SECONDS", 0.05)
    log = BATCHING(str(tmp_path))
    with closing(sqlite3.connect(tmp_path / "index.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="locked"):
            log.store_event_batch(materializations("run", "bars", 5))
    assert (rows_in(tmp_path, "run"), rows_in(tmp_path, "index")) == (0, 0)


def test_the_write_ahead_log_stays_small_beside_an_open_reader(tmp_path: Path) -> None:
    log = BATCHING(str(tmp_path))
    with closing(sqlite3.connect(tmp_path / "index.db")) as reader:
        for _ in range(8):
            reader.execute("SELECT count(*) FROM event_logs").fetchone()
            log.store_event_batch(materializations("run", "bars", 500))
        # SQLite starts it over once it holds 1,000 pages of 4 KiB and no reader is inside it.
        for shard in ("index", "run"):
            assert (tmp_path / f"{shard}.db-wal").stat().st_size < 7e6 < (tmp_path / f"{shard}.db").stat().st_size


def test_who_watches_a_run_hears_of_a_batch(tmp_path: Path) -> None:
    writer, watcher = BATCHING(str(tmp_path)), BATCHING(str(tmp_path))
    writer.store_event_batch(materializations("run", "bars", 1))
    heard: list[EventLogEntry] = []
    all_heard = threading.Event()

    def hear(event: EventLogEntry, _cursor: str) -> None:
        heard.append(event)
        if len(heard) == 42:
            all_heard.set()

    watcher.watch("run", None, hear)
    try:
        writer.store_event_batch(materializations("run", "bars", 20))
        assert all_heard.wait(HANG_SECONDS)
    finally:
        watcher.end_watch("run", hear)
        watcher.dispose()


# --- the storage in the instance and in its processes -----------------------------------------------------

RUN_IN_A_PROCESS = """
import json, os, sys
import dagster as dg
from dagster._core.instance import InstanceRef
from dagster._serdes import deserialize_value
from stock_assets.storage.event_log import BatchingSqliteEventLogStorage as Log

sizes, store = [], Log._store_batch
Log._store_batch = lambda self, run_id, events: (sizes.append(len(events)), store(self, run_id, events))
days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-03-01")

@dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def bars() -> None: ...

before = os.environ.get("DAGSTER_EVENT_BATCH_SIZE")
with dg.DagsterInstance.from_ref(deserialize_value(sys.stdin.read(), InstanceRef)) as instance:
    tags = dict(zip(("start", "end"), ("2024-01-10", "2024-02-10")))
    tags = {f"dagster/asset_partition_range_{end}": key for end, key in tags.items()}
    done = dg.materialize([bars], instance=instance, tags=tags).success
print(json.dumps([before, os.environ["DAGSTER_EVENT_BATCH_SIZE"], done, sizes]))
"""


def test_another_process_batches_without_being_told(tmp_path: Path) -> None:
    """A run worker gets no more than the serialized instance. Planned and materialized both batch."""
    with open_instance(tmp_path) as instance:
        done = subprocess.run(
            [sys.executable, "-c", RUN_IN_A_PROCESS],
            input=serialize_value(instance.get_ref()),
            env={k: v for k, v in os.environ.items() if k != "DAGSTER_EVENT_BATCH_SIZE"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [None, "1000", True, [32, 32]]
        assert len(instance.get_materialized_partitions(dg.AssetKey("bars"))) == 32


def test_the_storage_is_the_one_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "5")
    with open_instance(tmp_path) as instance:
        storage = instance.get_ref().storage
        assert type(storage) is BatchingSqliteStorage
        assert instance.get_ref().storage_data == storage.inst_data
        log = storage.event_storage_data.rehydrate(as_type=BATCHING)
        assert type(log) is BATCHING
        in_use = instance.event_log_storage
        assert isinstance(in_use, BATCHING)
        assert log.path_for_shard("index") == in_use.path_for_shard("index")
    assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "5"  # the user's own value stays
    # A home made by the one storage is read by the other.
    DagsterSqliteStorage(str(tmp_path)).event_log_storage.store_event(materializations("run", "bars", 1)[1])
    again = BatchingSqliteStorage(str(tmp_path)).event_log_storage
    assert again.get_materialized_partitions(ASSETS[0]) == {"key_0"}


def test_a_shard_that_several_make_at_once_is_made_once(tmp_path: Path):
    def first_of(_: int) -> str:
        storage = BatchingSqliteEventLogStorage(str(tmp_path))
        with storage._connect("a_run") as connection:
            (revision,) = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars()
            return revision

    with ThreadPoolExecutor(8) as pool:
        (revision,) = set(pool.map(first_of, range(8)))
    SqliteEventLogStorage(str(tmp_path)).get_logs_for_run("a_run")
    with closing(sqlite3.connect(tmp_path / "index.db")) as index:
        assert index.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]


def test_a_home_that_takes_the_name_of_another_is_read_and_the_other_is_not(tmp_path: Path) -> None:
    """As of a disk that is mounted there, or a folder that is put back, under a process that lives on."""
    home, aside = tmp_path / "home", tmp_path / "aside"
    for place, runs in ((aside, 1), (home, 2)):
        with open_instance(place) as instance:
            for _ in range(runs):
                create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS)
            instance.report_runless_asset_event(dg.AssetMaterialization(place.name))
    home.rename(tmp_path / "gone")
    aside.rename(home)
    with open_instance(home) as instance:
        assert instance.get_runs_count() == 1
        assert [key.to_user_string() for key in instance.all_asset_keys()] == ["aside"]
