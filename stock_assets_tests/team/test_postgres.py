"""The batching Postgres storage against dagster-postgres: the same events in, every answer and row compared."""

import multiprocessing
import os
import random
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import DagsterEventType as Event
from dagster import EventLogEntry
from dagster._core.events import ASSET_EVENTS, AssetObservationData
from dagster._core.storage.event_log import sql_event_log
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.storage.runs.base import RunStorage
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage

from stock_assets.errors import SettingsError
from stock_assets.storage import postgres as module
from stock_assets.storage.postgres import BatchingPostgresEventLogStorage, BatchingPostgresStorage, pooled_engine
from stock_assets_tests.storage.test_event_log import (
    ASSETS,
    CHECKS,
    PARTITIONED,
    STORE,
    Recorded,
    _own_batch_size,
    answers,
    days,
    entry,
    materializations,
    recorded,
    small_graph,
    store_one_by_one,
)
from stock_assets_tests.team.postgres import Server

pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
__all__ = ["_own_batch_size", "recorded"]

_NAMES = (f"test_{number}" for number in count())


@pytest.fixture
def new_database(postgres: Server) -> Iterator[Any]:
    """Makes an empty database, and gives its address."""
    made: list[str] = []

    def make() -> str:
        made.append(next(_NAMES))
        return postgres.database(made[-1])

    yield make
    for key, engine in list(module._ENGINES.items()):
        engine.dispose()
        del module._ENGINES[key]


@contextmanager
def open_instance(home: Path, address: str, *, batching: bool = True) -> Iterator[dg.DagsterInstance]:
    home.mkdir(exist_ok=True)
    storage, where = (
        (BatchingPostgresStorage, module.__name__) if batching else (DagsterPostgresStorage, "dagster_postgres.storage")
    )
    custom = {"module": where, "class": storage.__name__, "config": {"postgres_url": address}}
    settings = {"storage": {"custom": custom}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def rows(server: Server, address: str) -> dict[str, Sequence[Any]]:
    """The rows of every table of the event log, less what differs between any two stores."""
    database = address.rpartition("/")[2]
    contents: dict[str, Sequence[Any]] = {}
    for table in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions", "dynamic_partitions"):
        named = server.execute(
            f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' ORDER BY 1", database
        )
        # the id of an asset is never shown, and depends on which of a batch was written first
        dropped = {"create_timestamp"} | ({"id"} if table == "asset_keys" else set())
        columns = ", ".join(f'"{name}"' for (name,) in named if name not in dropped)
        contents[table] = sorted(map(repr, server.execute(f"SELECT {columns} FROM {table}", database)))
    return contents


@pytest.fixture
def instances(tmp_path: Path, recorded: Recorded, new_database: Any) -> Iterator[Mapping[str, dg.DagsterInstance]]:
    """A stock instance and two batching ones that know the recorded runs and none of their events."""
    with ExitStack() as stack:
        opened = {}
        known = stack.enter_context(_sqlite_instance(recorded.runs_db.parent.parent))
        for name in STORE:
            opened[name] = stack.enter_context(open_instance(tmp_path / name, new_database(), batching=name != "stock"))
            for run in reversed(known.get_runs()):
                _copy_run(run, known.run_storage, opened[name].run_storage)
        assert type(opened["stock"].event_log_storage) is PostgresEventLogStorage
        assert type(opened["as_called"].event_log_storage) is BatchingPostgresEventLogStorage
        yield opened


def _copy_run(run: dg.DagsterRun, source: RunStorage, target: RunStorage) -> None:
    if run.job_snapshot_id:
        target.add_job_snapshot(source.get_job_snapshot(run.job_snapshot_id))
    if run.execution_plan_snapshot_id:
        target.add_execution_plan_snapshot(source.get_execution_plan_snapshot(run.execution_plan_snapshot_id))
    target.add_run(run)


@contextmanager
def _sqlite_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_every_row_and_answer_is_that_of_dagster_postgres(
    postgres: Server,
    recorded: Recorded,
    instances: Mapping[str, dg.DagsterInstance],
    monkeypatch: pytest.MonkeyPatch,
):
    def store(calls: Sequence[Sequence[EventLogEntry]]) -> None:
        for name, instance in instances.items():
            STORE[name](instance.event_log_storage, calls)

    def assert_same_rows() -> None:
        for instance in instances.values():
            for asset, partitions in PARTITIONED.items():
                get_and_update_asset_status_cache_value(instance, asset, partitions)  # is kept in a table
        shown = {name: rows(postgres, log.event_log_storage.postgres_url) for name, log in instances.items()}  # pyright: ignore[reportAttributeAccessIssue]
        for name in ("as_called", "in_pieces"):
            assert shown[name] == shown["stock"], name
        assert shown["stock"]["event_logs"]

    some = len(recorded.calls) * 3 // 5
    store(recorded.calls[:some])
    assert_same_rows()
    store(recorded.calls[some:])
    assert_same_rows()
    ours = answers(instances["as_called"], recorded.runs)
    for question, answer in answers(instances["stock"], recorded.runs).items():
        assert _without_ids_of_assets(ours[question]) == _without_ids_of_assets(answer), question

    # an asset is forgotten and a run deleted, and then both are seen again
    wiped_at = recorded.events[-1].timestamp + 1
    monkeypatch.setattr(sql_event_log, "get_current_timestamp", lambda: wiped_at)
    for instance in instances.values():
        instance.event_log_storage.wipe_asset(ASSETS[0])
        instance.event_log_storage.delete_events(recorded.runs[1])
    assert_same_rows()
    batched = [[e for e in call if e.dagster_event_type in ASSET_EVENTS] for call in recorded.calls]
    store([[e._replace(timestamp=e.timestamp + 100) for e in call] for call in batched if len(call) > 1])
    assert_same_rows()
    assert instances["as_called"].event_log_storage.has_asset_key(ASSETS[0])


def _without_ids_of_assets(answer: Any) -> str:
    """Postgres takes a number from the sequence at each insert that turns into an update."""
    return re.sub(r"AssetRecord\(storage_id=\d+", "AssetRecord(", str(answer))


def test_the_row_of_an_asset_is_that_of_its_last_events_in_any_order(postgres: Server, new_database: Any):
    seen = [dg.AssetObservation("bars", partition=f"key_{i}") for i in range(3)]
    events = materializations("run", "bars", 3) + materializations("run", "features", 3)
    events += [entry("run", AssetObservationData(o), Event.ASSET_OBSERVATION, 9) for o in seen]
    stock, batching = PostgresEventLogStorage(new_database()), BatchingPostgresEventLogStorage(new_database())
    chance = random.Random(0)
    for number in range(4):
        chance.shuffle(events)
        batch = [e._replace(run_id=f"run_{number % 3}", timestamp=1.7e9 + chance.random()) for e in events]
        store_one_by_one(stock, [batch])
        batching.store_event_batch(batch)
        assert rows(postgres, batching.postgres_url) == rows(postgres, stock.postgres_url)


def test_a_batch_that_fails_leaves_nothing(new_database: Any, monkeypatch: pytest.MonkeyPatch):
    log = BatchingPostgresEventLogStorage(new_database())

    def fail(*_: object) -> None:
        raise ConnectionError("the link is cut")

    with monkeypatch.context() as patch:
        patch.setattr(BatchingPostgresEventLogStorage, "_store_asset_event", fail)
        with pytest.raises(ConnectionError):
            log.store_event_batch(materializations("run", "bars", 20))
    assert log.get_logs_for_run("run") == []
    log.store_event_batch(materializations("run", "bars", 20))
    assert len(log.get_logs_for_run("run")) == 40


def test_runs_that_store_the_same_assets_in_other_orders_do_not_wait_for_each_other(new_database: Any):
    """Each holds the rows of its assets until its batch ends: taken in any order, two would wait for ever."""
    log, assets, rounds = BatchingPostgresEventLogStorage(new_database()), [f"asset_{i}" for i in range(6)], 15

    def store(run: int) -> None:
        chance = random.Random(run)
        for number in range(rounds):
            batch = [e for name in chance.sample(assets, 6) for e in materializations(f"run_{run}", name, 2)]
            chance.shuffle(batch)
            log.store_event_batch([e._replace(timestamp=e.timestamp + number) for e in batch])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(store, range(6)))
    stored = [len(log.get_logs_for_run(f"run_{run}")) for run in range(6)]
    assert stored == [rounds * 24] * 6


def connections(server: Server, address: str) -> int:
    database = address.rpartition("/")[2]
    return server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")[0][0]


def test_a_run_over_a_range_takes_few_connections(postgres: Server, tmp_path: Path, new_database: Any):
    address, graph = new_database(), small_graph()
    with open_instance(tmp_path / "home", address) as instance:
        database = address.rpartition("/")[2]
        sessions = f"SELECT sessions FROM pg_stat_database WHERE datname = '{database}'"
        daily = [graph[n] for n in ("bars", "features", "bars_are_positive", "features_are_finite")]
        dg.materialize(daily, instance=instance, tags=days(0, 6))
        pooled_engine(address).dispose()
        first = postgres.execute(sessions)[0][0]
        dg.materialize(daily, instance=instance, tags=days(0, 20))
        assert connections(postgres, address) <= 3
        pooled_engine(address).dispose()
        assert postgres.execute(sessions)[0][0] - first <= 60, "one by one it is two a partition and asset"
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(CHECKS[:2])
        assert len(records) == 2


def _stores(address: str, run: str, ready: Any, go: Any) -> None:
    log = BatchingPostgresEventLogStorage(address)
    ready.put(run)
    go.wait()
    for _ in range(5):
        log.store_event_batch(materializations(run, "bars", 50))


def test_ten_processes_write_at_once_over_few_connections(postgres: Server, new_database: Any):
    address = new_database()
    log, spawned = BatchingPostgresEventLogStorage(address), multiprocessing.get_context("forkserver")
    ready, go = spawned.Queue(), spawned.Event()
    processes = [spawned.Process(target=_stores, args=(address, f"run_{i}", ready, go)) for i in range(10)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.get(timeout=120)
    go.set()
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, connections(postgres, address))
    assert [process.exitcode for process in processes] == [0] * 10
    assert most <= 60
    assert [len(log.get_logs_for_run(f"run_{i}")) for i in range(10)] == [500] * 10


def test_a_forked_child_opens_connections_of_its_own(new_database: Any):
    """What both write over one connection would garble both."""
    log = BatchingPostgresEventLogStorage(new_database())
    log.store_event_batch(materializations("parent", "bars", 2))
    child = os.fork()
    if child == 0:
        try:
            log.store_event_batch(materializations("child", "bars", 2))
        finally:
            os._exit(0 if len(log.get_logs_for_run("child")) == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log.store_event_batch(materializations("parent", "features", 2))
    assert len(log.get_logs_for_run("parent")) == 8


def test_a_server_that_is_started_anew_is_waited_for(postgres: Server, tmp_path: Path, new_database: Any):
    with open_instance(tmp_path / "home", new_database()) as instance:
        log = instance.event_log_storage
        log.store_event_batch(materializations("before", "bars", 2))
        postgres.kill()
        restart = threading.Timer(1.0, postgres.start)
        restart.start()
        log.store_event_batch(materializations("after", "bars", 2))
        restart.join()
        assert [len(log.get_logs_for_run(run)) for run in ("before", "after")] == [4, 4]
        assert instance.get_runs() == []


def test_statements_of_a_web_server_end(new_database: Any):
    log = BatchingPostgresEventLogStorage(new_database())
    log.optimize_for_webserver(statement_timeout=1234, pool_recycle=60, max_overflow=5)
    with log.index_connection() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1234ms"
    assert len(module._ENGINES) == 2, "one of each kind in a process"


@pytest.mark.parametrize(
    "address", ["postgresql://user:secret@host/dagster", "postgresql+psycopg://user:secret@host/d"]
)
def test_another_driver_is_refused_without_the_password(tmp_path: Path, address: str):
    with (
        pytest.raises(SettingsError, match=r"expected postgresql\+psycopg2://") as refused,
        open_instance(tmp_path / "home", address),
    ):
        pass
    assert "secret" not in str(refused.value)


def test_the_tables_are_those_of_dagster_postgres(tmp_path: Path, new_database: Any):
    """Dagster's own storage takes over, and gives back."""
    address = new_database()
    with open_instance(tmp_path / "ours", address) as instance:
        instance.event_log_storage.store_event_batch(materializations("run", "bars", 2))
    with open_instance(tmp_path / "stock", address, batching=False) as instance:
        assert len(instance.event_log_storage.get_logs_for_run("run")) == 4
        store_one_by_one(instance.event_log_storage, [materializations("later", "bars", 2)])
    with open_instance(tmp_path / "ours", address) as instance:
        assert len(instance.event_log_storage.get_logs_for_run("later")) == 4
        assert instance.event_log_storage.alembic_version() is not None
