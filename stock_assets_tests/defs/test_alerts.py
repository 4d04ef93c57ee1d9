"""Failed runs and late sessions on a real instance: what is said, to whom, how often, and that nothing is lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast

import dagster as dg
import polars as pl
import pytest

from stock_assets.defs import checks
from stock_assets.defs.alerts import alert_of_run, alert_sensor
from stock_assets.defs.freshness import freshness_sensor
from stock_assets.defs.sensors import Tick, platform_sensor
from stock_assets.defs.tables import table_asset
from stock_assets.errors import AlertError, MissingSessionsError, SourceError, StoreBusyError
from stock_assets.lifecycle.alerts import Alert, LogChannel
from stock_assets.lifecycle.freshness import KEY
from stock_assets.lifecycle.materialize.alerts import open_alerts, raise_alarm, read_records
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import TABLES
from stock_assets_tests.defs.conftest import Graph
from stock_assets_tests.tables import rows_of

NOW = datetime(2019, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Inbox:
    """A channel that remembers, and is away when told so."""

    name = "inbox"

    def __init__(self) -> None:
        self.messages: list[tuple[Alert, int]] = []
        self.away = False

    def send(self, alert: Alert, repeated: int) -> None:
        if self.away:
            raise AlertError("the inbox is away")
        self.messages.append((alert, repeated))


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A store with no row."""
    store = Warehouse(tmp_path / "store.duckdb")
    with store.connect(read_only=False):
        return store


def failing(raises: Exception | None = None, offenders: int = 0) -> dg.JobDefinition:
    """Two assets like ours: the first raises, or reports a blocking check that fails on so many tickers."""
    days = dg.DailyPartitionsDefinition("2019-01-02")
    spec = dg.AssetCheckSpec("no_absurd_return", asset="daily_bars", blocking=True)

    @table_asset("daily_bars", description="", partitions=days, checks=[spec])
    def daily_bars() -> dg.MaterializeResult:
        if raises:
            raise raises
        bad = pl.DataFrame({"ticker": [f"SIM{i:02d}" for i in range(1, offenders + 1)]})
        return dg.MaterializeResult(check_results=[checks.result("daily_bars", spec.name, bad, blocking=True)])

    @table_asset("indicators", description="", partitions=days, deps=["daily_bars"])
    def indicators() -> None: ...

    return dg.Definitions([daily_bars, indicators]).resolve_implicit_global_asset_job_def()


@dataclass
class Desk:
    """Failed runs on a real instance, and what the sensor says of them."""

    instance: dg.DagsterInstance
    warehouse: Warehouse
    inbox: Inbox

    def report(
        self,
        job: dg.JobDefinition,
        first: str = "2019-03-01",
        last: str | None = None,
        keys: Sequence[str] = ("daily_bars", "indicators"),
        now: datetime = NOW,
    ) -> str:
        """Runs `job`, which fails, and does what the daemon then does; the id of the run."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        selection = [dg.AssetKey(key) for key in keys]
        failed = job.execute_in_process(
            instance=self.instance, asset_selection=selection, tags=tags, raise_on_error=False
        )
        context = dg.build_run_status_sensor_context(
            sensor_name="alert_on_failure",
            dagster_event=failed.get_run_failure_event(),
            dagster_instance=self.instance,
            dagster_run=failed.dagster_run,
            resources={"warehouse": self.warehouse, "channels": [LogChannel(), self.inbox], "clock": lambda: now},
        ).for_run_failure()
        alert_sensor()(context)
        return failed.run_id


@pytest.fixture
def desk(instance: dg.DagsterInstance, warehouse: Warehouse, inbox: Inbox) -> Desk:
    return Desk(instance, warehouse, inbox)


def missing(*sessions: str) -> dg.JobDefinition:
    return failing(MissingSessionsError("daily_bars", "raw_ohlcv", [date.fromisoformat(day) for day in sessions]))


def test_a_failed_run_is_one_alert_with_our_own_message(desk: Desk):
    run_id = desk.report(missing("2019-03-01"))
    ((alert, repeated),) = desk.inbox.messages
    assert alert.title == "daily_bars, indicators failed for 2019-03-01"
    assert alert.text.splitlines() == [
        "daily_bars: MissingSessionsError: daily_bars needs 1 session(s) of raw_ohlcv that are not there: 2019-03-01. "
        "Materialize raw_ohlcv for 2019-03-01 first.",
        f"run {run_id}",
    ]
    assert (alert.run_id, alert.at, repeated) == (run_id, NOW, 0)


def test_the_same_trouble_is_counted_and_told_again_the_next_day(desk: Desk):
    desk.report(missing("2019-03-01"))
    # an hour later, a day more and an asset less: still the same
    again = desk.report(missing("2019-03-01", "2019-03-04"), last="2019-03-04", keys=["daily_bars"], now=NOW + HOUR)
    assert len(desk.inbox.messages) == 1
    assert desk.warehouse.read("alerts").columns == TABLES["alerts"].names
    (record,) = read_records(desk.warehouse)
    assert (record.count, record.sent_at, record.alert.run_id) == (1, NOW, again)
    assert record.alert.title == "daily_bars failed for 2019-03-01 to 2019-03-04"
    desk.report(failing(SourceError("other")), now=NOW + HOUR)
    desk.report(missing("2019-03-04"), "2019-03-04", now=NOW + 25 * HOUR)
    assert [repeated for _, repeated in desk.inbox.messages] == [0, 0, 1]


def test_a_blocking_check_is_named_with_its_offenders(desk: Desk):
    desk.report(failing(offenders=7))
    desk.report(failing(offenders=3))
    ((alert, _),) = desk.inbox.messages  # other tickers, the same trouble
    assert "blocked by daily_bars:no_absurd_return (SIM01, SIM02, SIM03, SIM04 and 3 more)" in alert.text.splitlines()


def test_the_error_is_ours_or_the_one_that_the_code_raised(desk: Desk):
    for error in (ZeroDivisionError("the divisor is 0"), StoreBusyError("locked")):
        error.__cause__ = ValueError("what lay below")
        desk.report(failing(error))
    assert [alert.text.splitlines()[0] for alert, _ in desk.inbox.messages] == [
        "daily_bars: ZeroDivisionError: the divisor is 0",
        "daily_bars: StoreBusyError: locked",
    ]


def test_a_run_in_which_no_step_failed_says_what_dagster_said(desk: Desk):
    run = dg.DagsterRun("evening", tags={"dagster/partition": "2019-03-01"})
    alert = alert_of_run(desk.instance, run, "the process was killed", now=NOW)
    assert alert.title == "evening failed for 2019-03-01"
    assert alert.text.startswith("run: the process was killed\n")


def test_an_alert_that_no_channel_took_is_sent_by_the_next_tick(desk: Desk, caplog: pytest.LogCaptureFixture):
    inbox, warehouse = desk.inbox, desk.warehouse
    inbox.away = True
    desk.report(failing(SourceError("no answer")))
    assert "the inbox is away" in caplog.text
    assert [record.pending for record in read_records(warehouse)] == [True]
    assert "waited" not in str(tick(warehouse, inbox, NOW + HOUR).skip_reason)
    inbox.away = False
    assert "1 alert(s) that had waited were sent" in str(tick(warehouse, inbox, NOW + 2 * HOUR).skip_reason)
    assert [alert.at for alert, _ in inbox.messages] == [NOW]
    assert caplog.text.count("ALERT daily_bars, indicators failed") == 1, "the log was told once"
    assert "waited" not in str(tick(warehouse, inbox, NOW + 3 * HOUR).skip_reason)
    assert len(inbox.messages) == 1


def test_an_alert_is_sent_though_the_store_cannot_be_read(warehouse: Warehouse, inbox: Inbox):
    class Busy(Warehouse):
        def read(self, *_args: object, **_more: object) -> pl.DataFrame:
            raise StoreBusyError("locked")

    alert = Alert("key", "title", "text", None, NOW)
    outcome = raise_alarm(Busy(warehouse.path), [inbox], alert, now=NOW)
    assert outcome == "an alert was sent; its row follows, as the store cannot be read (StoreBusyError)"
    assert inbox.messages == [(alert, 0)]
    assert "kept quiet" in raise_alarm(Busy(warehouse.path), [inbox], alert, now=NOW + HOUR)
    assert list(read_records(warehouse)) == []
    tick(warehouse, inbox, NOW + 2 * HOUR)
    ((row,), (record,)) = list(read_records(warehouse)), open_alerts(warehouse)
    assert (row.alert, row.sent_at, row.count) == (record.alert, NOW, 1)


def test_a_tick_that_raises_is_an_alert_until_one_succeeds(warehouse: Warehouse, inbox: Inbox, tmp_path: Path):
    config = read_settings(**OPEN, data_dir=tmp_path)
    trouble: list[Exception] = [ValueError("no such column: p_buy")]

    @platform_sensor(config, "toy", description="")
    def toy(_: Tick) -> dg.SkipReason:
        if trouble:
            raise trouble[0]
        return dg.SkipReason("fine")

    def ticked(now: datetime, store: Warehouse = warehouse) -> object:
        resources = {"warehouse": store, "channels": [inbox], "clock": lambda: now}
        return toy(dg.build_sensor_context(instance=dg.DagsterInstance.ephemeral(), resources=resources))

    for hours in range(3):
        with pytest.raises(ValueError, match="p_buy"):
            ticked(NOW + hours * HOUR)
    ((alert, _),) = inbox.messages
    assert alert.title == "the sensor toy fails"
    assert alert.text.startswith("ValueError: no such column: p_buy\n")
    trouble.clear()
    ticked(NOW + 4 * HOUR)
    assert open_alerts(warehouse) == []
    # a store that nobody can open is told by `freshness`, and not by every sensor
    trouble.append(ValueError("damaged"))
    damaged = tmp_path / "damaged.duckdb"
    damaged.write_bytes(b"damaged" * 1000)
    with pytest.raises(ValueError, match="damaged"):
        ticked(NOW, Warehouse(damaged))
    assert len(inbox.messages) == 1


def test_a_damaged_store_stops_no_tick_of_the_watchman(warehouse: Warehouse, inbox: Inbox):
    predict(warehouse, "2019-03-01")
    seen = tick(warehouse, inbox, NOW)
    inbox.away = True
    raise_alarm(warehouse, [inbox], Alert("job/step", "labels failed", "", "run", NOW), now=NOW)
    inbox.away = False
    warehouse.path.write_bytes(b"damaged" * 1000)
    for minutes in (1, 150):
        result: object = tick(warehouse, inbox, NOW + minutes * HOUR / 60, seen.cursor)
        assert isinstance(result, dg.SkipReason)
    assert [alert.title for alert, _ in inbox.messages] == [
        "labels failed",
        "whether the predictions are late cannot be seen",
    ]


# ---------------------------------------------------------------- late sessions


OPEN = {"source": "simulated", "start": date(2018, 1, 2), "end": None, "first_model_year": 2019}


def predict(warehouse: Warehouse, session: str) -> None:
    warehouse.append(
        "predictions",
        rows_of("predictions", pl.DataFrame({"session": [date.fromisoformat(session)], "ticker": ["SIM01"]})),
    )


def tick(
    warehouse: Warehouse, inbox: Inbox, now: datetime, cursor: str | None = None, settings=None
) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=dg.DagsterInstance.ephemeral(),
        cursor=cursor,
        resources={"warehouse": warehouse, "channels": cast(Sequence, [inbox]), "clock": lambda: now},
    )
    config = settings or read_settings(**OPEN, data_dir=warehouse.path.parent)
    return cast(dg.SensorResult, freshness_sensor(config)(context))


def checks_of(result: dg.SensorResult) -> list[tuple[bool, int]]:
    return [
        (event.passed, cast(int, event.metadata["sessions_behind"].value))
        for event in result.asset_events
        if isinstance(event, dg.AssetCheckEvaluation)
    ]


def test_a_session_becomes_late_is_told_once_and_recovers(warehouse: Warehouse, inbox: Inbox):
    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert "no session is predicted yet" in str(tick(warehouse, inbox, NOW).skip_reason)
    predict(warehouse, "2019-03-01")  # a Friday
    first = tick(warehouse, inbox, at("2019-03-03T12:00"))
    assert checks_of(first) == [(True, 0)]
    assert "2019-03-01 is predicted" in str(first.skip_reason)
    idle = tick(warehouse, inbox, at("2019-03-05T01:59"), first.cursor)
    assert (idle.asset_events, idle.cursor) == ([], None), "nothing changed"
    assert "none after it is late" in str(idle.skip_reason)

    late = tick(warehouse, inbox, at("2019-03-05T02:00"), first.cursor)
    assert checks_of(late) == [(False, 1)]
    assert [alert.title for alert, _ in inbox.messages] == ["predictions are 1 session(s) late"]
    assert tick(warehouse, inbox, at("2019-03-05T02:01"), late.cursor).asset_events == []
    # the cursor of a tick that died after the alert was not kept: the alarm is not raised twice
    assert "kept quiet" in str(tick(warehouse, inbox, at("2019-03-05T02:02"), first.cursor).skip_reason)

    later = tick(warehouse, inbox, at("2019-03-06T02:00"), late.cursor)
    assert checks_of(later) == [(False, 2)]
    assert len(inbox.messages) == 2, "another session late is told again"
    predict(warehouse, "2019-03-05")
    recovered = tick(warehouse, inbox, at("2019-03-06T02:30"), later.cursor)
    assert checks_of(recovered) == [(True, 0)]
    assert "the alarm is over" in str(recovered.skip_reason)
    (record,) = (record for record in read_records(warehouse) if record.alert.key == KEY)
    assert record.resolved_at == at("2019-03-06T02:30")
    again = tick(warehouse, inbox, at("2019-03-07T02:00"), recovered.cursor)
    assert checks_of(again) == [(False, 1)]
    assert len(inbox.messages) == 3


def test_a_closed_snapshot_is_never_late(warehouse: Warehouse, inbox: Inbox):
    settings = read_settings(**(OPEN | {"end": date(2019, 6, 28)}), data_dir=warehouse.path.parent)
    predict(warehouse, "2019-03-01")
    result = tick(warehouse, inbox, datetime(2026, 3, 4, tzinfo=UTC), settings=settings)
    assert checks_of(result) == [(True, 0)]
    assert inbox.messages == []


def test_a_busy_store_is_looked_at_by_the_next_tick(warehouse: Warehouse, inbox: Inbox):
    class Busy(Warehouse):
        def read_sql(self, *_args: object, **_more: object) -> pl.DataFrame:
            raise StoreBusyError("store.duckdb was locked by another process")

    result: object = tick(Busy(warehouse.path), inbox, NOW, "as it was")
    assert isinstance(result, dg.SkipReason), "the cursor stays as it was"
    assert "the next tick looks again: store.duckdb was locked" in str(result.skip_message)


def test_the_check_is_a_persons_too_and_what_the_sensor_reports_is_what_the_asset_shows(
    instance: dg.DagsterInstance, tmp_path: Path, inbox: Inbox
):
    graph = Graph(read_settings(**OPEN, data_dir=tmp_path), instance)
    predict(graph.warehouse, "2019-03-01")
    key = dg.AssetCheckKey(dg.AssetKey("predictions"), "fresh")
    assert key in graph.defs.resolve_asset_graph().asset_check_keys
    (event,) = tick(graph.warehouse, inbox, NOW + 24 * HOUR, settings=graph.settings).asset_events
    instance.report_runless_asset_event(event)
    summaries = instance.event_log_storage.get_asset_check_summary_records([key])
    shown = summaries[key].last_check_execution_record
    assert shown is not None
    assert shown.status.value == "FAILED"

    result = dg.materialize(
        list(graph.defs.asset_checks or ()),
        selection=dg.AssetSelection.all_asset_checks(),
        instance=instance,
        resources=dict(graph.defs.resources or {}) | {"clock": lambda: NOW},
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed
