"""A link to Dagster's database that breaks at any statement, and a server that does not come back."""

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, product
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType as Event
from dagster import EventLogEntry
from dagster._core.events import StepMaterializationData
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from stock_assets.errors import StockAssetsError
from stock_assets.private.dagster import AssetCheckEvaluationPlanned
from stock_assets.storage import postgres_link
from stock_assets.storage.postgres import BatchingPostgresEventLogStorage, pooled_engine
from stock_assets_tests.storage.test_event_log import entry, materializations
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.team.test_postgres import new_database

__all__ = ["new_database"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]


def _contents(server: Server, address: str) -> list[str]:
    """The events with what belongs to them, without the numbers that Postgres gave them."""
    database = address.rpartition("/")[2]
    joined = (
        "SELECT e.run_id, e.event, e.partition, t.key, t.value FROM event_logs e "
        "LEFT JOIN asset_event_tags t ON t.event_id = e.id",
        "SELECT a.asset_key, a.last_run_id, a.last_materialization FROM asset_keys a",
        "SELECT c.check_name, c.run_id, c.execution_status, e.event FROM asset_check_executions c "
        "LEFT JOIN event_logs e ON e.id = c.evaluation_event_storage_id",
    )
    found = [repr(row) for statement in joined for row in server.execute(statement, database)]
    return sorted(re.sub(r'"storage_id": \d+', "", row) for row in found)


def test_a_link_that_breaks_at_any_statement_leaves_each_event_once(postgres: Server, new_database: Any):
    made = dg.AssetMaterialization("bars", partition="2020-01-02", tags={"source": "vendor"})
    planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey("bars"), check_name="positive")
    calls = [
        [entry("run", StepMaterializationData(made), Event.ASSET_MATERIALIZATION, 1)],
        materializations("run", "bars", 3),
        [entry("run", planned, Event.ASSET_CHECK_EVALUATION_PLANNED, 1)],
    ]
    log = BatchingPostgresEventLogStorage(new_database())
    address, engine = log.postgres_url, pooled_engine(log.postgres_url)

    def stored(events: Sequence[EventLogEntry]) -> list[str]:
        (log.store_event_batch if len(events) > 1 else lambda one: log.store_event(one[0]))(events)
        contents = _contents(postgres, address)
        tables = "event_logs, asset_event_tags, asset_keys, asset_check_executions"
        postgres.execute(f"TRUNCATE {tables}", address.rpartition("/")[2])
        return contents

    for events, when in product(calls, ("before_cursor_execute", "after_cursor_execute")):
        plain, number = stored(events), 0
        for number in count(1):
            with breaking(postgres, engine, when, number) as broken:
                assert stored(events) == plain, (when, number)
            if not broken:
                break
        assert number > 2, "it broke"


@contextmanager
def breaking(server: Server, engine: Any, when: str, number: int) -> Iterator[list[str]]:
    """The server ends the connection before or after the statement of that number, counted from 1; yields that one."""
    counted, broken = count(1), []

    def break_link(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        if next(counted) == number:
            pid = connection.connection.dbapi_connection.get_backend_pid()
            server.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
            broken.append(statement)

    event.listen(engine, when, break_link)
    try:
        yield broken
    finally:
        event.remove(engine, when, break_link)


def test_a_statement_that_could_do_something_twice_is_not_sent_again(postgres: Server, new_database: Any):
    log = BatchingPostgresEventLogStorage(new_database())
    with log.index_connection() as connection:
        connection.execute(text("CREATE TABLE counted (number integer)"))
        engine = pooled_engine(log.postgres_url)
        with breaking(postgres, engine, "before_cursor_execute", 1):
            assert connection.execute(text("SELECT count(*) FROM counted")).scalar() == 0
        with breaking(postgres, engine, "before_cursor_execute", 1), pytest.raises(OperationalError):
            connection.execute(text("INSERT INTO counted VALUES (1)"))


def test_a_server_that_does_not_come_back_is_one_line(new_database: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgres_link, "WAITS", (0.01, 0.01))
    address = new_database()
    log = BatchingPostgresEventLogStorage(address)
    pooled_engine(address).dispose()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        log.postgres_url = re.sub(r":\d+/", f":{closed.getsockname()[1]}/", address)
        with pytest.raises(StockAssetsError, match=r"cannot be reached: .*refused") as given_up:
            log.get_logs_for_run("run")
    assert "\n" not in str(given_up.value)
    assert "secret" not in str(given_up.value)
