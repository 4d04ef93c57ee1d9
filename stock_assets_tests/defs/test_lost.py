"""Runs and backfills that nobody works on any more, and runs that ended with their server."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.test_utils import create_run_for_test

from stock_assets.cli.server import settle_interrupted
from stock_assets.defs.alerts import alert_sensor
from stock_assets.defs.lost import LOST, SETTLED_AFTER, SILENT_FOR, settle_lost, settle_lost_runs
from stock_assets.defs.runs import WORK, attempts, under_way
from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.evening import INTERRUPTED
from stock_assets.lifecycle.materialize.alerts import open_alerts
from stock_assets.private.dagster import BACKFILL_ID_TAG, BulkActionStatus
from stock_assets.storage.warehouse import Warehouse

MINUTE = timedelta(minutes=1)


@pytest.fixture
def own(fresh_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance of this test alone: what is under way in it counts."""
    return fresh_instance


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "store.duckdb")


class Inbox:
    name = "inbox"

    def __init__(self) -> None:
        self.messages: list[Alert] = []

    def send(self, alert: Alert, repeated: int) -> None:  # noqa: ARG002
        self.messages.append(alert)


def started(instance: dg.DagsterInstance, process: int | None, **tags: str) -> dg.DagsterRun:
    """A run that `process` began to work on."""
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
    data = EngineEventData.in_process(process) if process else EngineEventData()
    instance.report_engine_event("Started process for run", run, data)
    return run


def ended_process() -> int:
    """The id that no process has any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    current = instance.get_run_by_id(run.run_id)
    assert current is not None
    return current.status.value


def test_a_run_whose_process_is_gone_is_ended_and_its_place_is_free(own: dg.DagsterInstance):
    pools, now = own.event_log_storage, datetime.now(UTC)
    lost = started(own, ended_process(), **{WORK: "session 2026-03-03"})
    alive = started(own, os.getpid())
    pools.set_concurrency_slots("duckdb", 1)
    assert pools.claim_concurrency_slot("duckdb", lost.run_id, "daily_bars").is_claimed
    assert settle_lost_runs(own, now=now + SETTLED_AFTER / 2) == [], "its code server may see it first"
    (message,) = settle_lost_runs(own, now=now + SETTLED_AFTER + MINUTE)
    assert "was lost and is ended: its process" in message
    assert (status_of(own, lost), status_of(own, alive)) == ("FAILURE", "STARTED")
    assert pools.claim_concurrency_slot("duckdb", alive.run_id, "labels").is_claimed
    run = own.get_run_by_id(lost.run_id)
    assert run is not None
    assert run.tags[LOST] == "true"
    assert attempts(own, "session 2026-03-03").failures == 0, "it is tried again at once, the first time"
    assert settle_lost_runs(own, now=now + 24 * 60 * MINUTE) == [], "a process that lives is never taken for lost"


def test_a_later_process_of_the_same_number_is_another_one(own: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch):
    run = started(own, os.getpid())
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 3600)
    settle_lost_runs(own, now=datetime.now(UTC) + SETTLED_AFTER + MINUTE)
    assert status_of(own, run) == "FAILURE"


def test_a_run_of_unknown_process_is_given_more_time(own: dg.DagsterInstance):
    run = started(own, None)
    now = datetime.now(UTC)
    assert settle_lost_runs(own, now=now + SILENT_FOR - MINUTE) == []
    (message,) = settle_lost_runs(own, now=now + SILENT_FOR + MINUTE)
    assert "no process of it is known" in message
    assert status_of(own, run) == "FAILURE"
    assert under_way(own, now=datetime.now(UTC)) is None


def backfill(
    instance: dg.DagsterInstance, name: str, now: datetime, status: BulkActionStatus = BulkActionStatus.REQUESTED
) -> None:
    instance.add_backfill(
        PartitionBackfill(
            backfill_id=name,
            status=status,
            from_failure=False,
            tags={},
            backfill_timestamp=now.timestamp(),
            asset_selection=[dg.AssetKey("labels")],
        )
    )


def test_a_backfill_without_a_run_is_ended_and_told(own: dg.DagsterInstance, store: Warehouse):
    now, inbox = datetime.now(UTC), Inbox()
    backfill(own, "hanging", now)
    backfill(own, "working", now)
    started(own, os.getpid(), **{BACKFILL_ID_TAG: "working"})
    assert settle_lost(own, store, [inbox], now=now + SILENT_FOR - MINUTE) == []
    messages = settle_lost(own, store, [inbox], now=now + SILENT_FOR + MINUTE)
    assert messages[0] == "backfill hanging was lost and is ended: no run of it for 30 minutes"
    assert [alert.title for alert in inbox.messages] == ["a backfill was lost"]
    statuses = {found.backfill_id: found.status.value for found in own.get_backfills()}
    assert statuses == {"hanging": "FAILED", "working": "REQUESTED"}


def test_a_backfill_that_is_being_cancelled_is_under_way_and_ends_without_an_alert(
    own: dg.DagsterInstance, store: Warehouse
):
    now, inbox = datetime.now(UTC), Inbox()
    backfill(own, "cancelled", now, BulkActionStatus.CANCELING)
    assert under_way(own, now=datetime.now(UTC)) == "backfill cancelled"
    assert settle_lost(own, store, [inbox], now=now + SILENT_FOR - MINUTE) == []
    (message,) = settle_lost(own, store, [inbox], now=now + SILENT_FOR + MINUTE)
    assert message == "backfill cancelled was being cancelled, has no run, and is ended"
    assert inbox.messages == []
    assert under_way(own, now=datetime.now(UTC)) is None
    assert [found.status.value for found in own.get_backfills()] == ["CANCELED"]


# ---------------------------------------------------------------- Ctrl-C

SLOW = """
import os, sys, time
import dagster as dg

@dg.asset
def slow():
    print("slow", flush=True)
    open(sys.argv[2], "w").close()
    time.sleep(60)

config = {"base_dir": sys.argv[1]}
storage = {"module": "stock_assets.storage.event_log", "class": "BatchingSqliteStorage", "config": config}
with dg.DagsterInstance.local_temp(sys.argv[1], overrides={"storage": {"custom": storage}}) as instance:
    dg.materialize([slow], instance=instance, raise_on_error=False)
"""


def ring(instance: dg.DagsterInstance, run: dg.DagsterRun, store: Warehouse, inbox: Inbox) -> None:
    """What the daemon does with a failed run."""
    (record,) = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    context = dg.build_run_status_sensor_context(
        sensor_name="alert_on_failure",
        dagster_event=record.event_log_entry.get_dagster_event(),
        dagster_instance=instance,
        dagster_run=run,
        resources={"warehouse": store, "channels": [inbox], "clock": lambda: datetime(2026, 3, 4, tzinfo=UTC)},
    ).for_run_failure()
    alert_sensor()(context)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_ended_with_its_server_rings_no_alarm_at_the_next_start(
    own: dg.DagsterInstance, store: Warehouse, tmp_path: Path, number: int
):
    command = [sys.executable, "-c", SLOW, str(tmp_path / "home"), str(tmp_path / "begun")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
    settle_interrupted(own)
    (run,) = own.get_runs()
    assert run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    inbox = Inbox()
    if run.status == dg.DagsterRunStatus.FAILURE:
        assert run.tags[INTERRUPTED] == "true"
        ring(own, run, store, inbox)
    assert inbox.messages == []
    assert open_alerts(store) == []


def test_a_run_that_failed_by_itself_rings_after_a_start_too(own: dg.DagsterInstance, store: Warehouse):
    @dg.asset
    def broken() -> None:
        raise ValueError(str(date(2026, 3, 3)))

    dg.materialize([broken], instance=own, raise_on_error=False)
    settle_interrupted(own)
    (run,) = own.get_runs()
    inbox = Inbox()
    ring(own, run, store, inbox)
    assert [alert.text.splitlines()[0] for alert in inbox.messages] == ["broken: ValueError: 2026-03-03"]


def test_an_alert_goes_out_though_the_events_of_the_run_cannot_be_read(
    own: dg.DagsterInstance, store: Warehouse, monkeypatch: pytest.MonkeyPatch
):
    @dg.asset
    def broken() -> None:
        raise ValueError

    dg.materialize([broken], instance=own, raise_on_error=False)
    (run,) = own.get_runs()
    inbox = Inbox()
    with monkeypatch.context() as patch:
        import stock_assets.defs.alerts as alerts

        def unreadable(*_: object) -> None:
            raise OSError("database disk image is malformed")

        patch.setattr(alerts, "_events", unreadable)
        ring(own, run, store, inbox)
    (alert,) = inbox.messages
    assert (alert.title, alert.run_id) == ("__ephemeral_asset_job__ failed", run.run_id)
    assert "database disk image is malformed" in alert.text
