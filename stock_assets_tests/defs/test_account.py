"""The account in the graph: the sensor finds the orders due, the asset sends them once, the jobs switch trading."""

from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.lifecycle.alerts import LogChannel
from stock_assets.lifecycle.materialize.alerts import open_alerts
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.account import is_halted
from stock_assets_tests.trading.paper_market import evening_of, fill, predict, sessions_of, settings_of

EVENINGS = 4


class Paper:
    """The definitions over a small market, at a moment that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_of(folder)
        self.store = Warehouse(self.settings.database)
        fill(self.store, self.settings, EVENINGS)
        self.sessions = sessions_of(self.settings, EVENINGS)
        self.now = evening_of(self.sessions[0])
        self.defs = build_definitions(self.settings)
        self.instance = dg.DagsterInstance.ephemeral()
        clock = dg.ResourceDefinition.hardcoded_resource(lambda: self.now)
        self.resources = {**(self.defs.resources or {}), "clock": clock, "channels": [LogChannel()]}

    def tick(self) -> dg.RunRequest | str:
        (sensor,) = [one for one in self.defs.sensors or () if one.name == "opening_orders"]
        resources = {"warehouse": self.store, "channels": [LogChannel()], "clock": lambda: self.now}
        context = dg.build_sensor_context(self.instance, resources=resources, definitions=self.defs)
        data = sensor.evaluate_tick(context)  # pyright: ignore[reportAttributeAccessIssue]
        if data.run_requests:
            return data.run_requests[0]
        return str(data.skip_message)

    def materialize(self, session: date, last: date | None = None, *, fail: bool = False) -> dg.ExecuteInProcessResult:
        tags = {"dagster/asset_partition_range_start": str(session)}
        return dg.materialize(
            list(self.defs.assets or ()),  # pyright: ignore[reportArgumentType]
            selection=["orders"],
            tags=tags | {"dagster/asset_partition_range_end": str(last or session)},
            resources=self.resources,
            instance=self.instance,
            raise_on_error=not fail,
        )

    def switch(self, job: str, op: str, **config: str) -> bool:
        resolved = self.defs.resolve_job_def(job)
        done = resolved.execute_in_process(
            run_config={"ops": {op: {"config": config}}}, resources=self.resources, raise_on_error=False
        )
        return done.success


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Paper:
    return Paper(tmp_path_factory.mktemp("paper"))


def error_of(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return str(failed.step_failure_data.error)


def test_an_evening(paper: Paper):
    first, second, third, _ = paper.sessions
    paper.store.replace_sessions("target_weights", [second, third], paper.store.read("target_weights").clear())
    paper.now = evening_of(first) - timedelta(hours=2)
    assert f"the orders of {first} are due at" in str(paper.tick())
    paper.now = evening_of(first)
    predict(paper.store, first)
    request = paper.tick()
    assert isinstance(request, dg.RunRequest)
    assert [key.to_user_string() for key in request.asset_selection or ()] == ["orders", "operations", "publication"]
    assert request.tags["dagster/asset_partition_range_start"] == str(first)
    result = paper.materialize(first)
    (made,) = [event for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"]
    about = {name: value.value for name, value in made.step_materialization_data.materialization.metadata.items()}
    assert about["gates_failed"] == "none"
    assert about["accepted"] == about["orders"] != 0
    assert about["unexplained"] == 0.0
    assert paper.tick() == f"the orders of {first} are sent"
    assert paper.store.read("orders").height == about["orders"]


def test_what_lies_in_the_past_is_refused(paper: Paper):
    before = paper.store.read("order_events").height
    paper.now = evening_of(paper.sessions[1])
    past = paper.materialize(paper.sessions[0], fail=True)
    assert f"expected {paper.sessions[1]}, the newest closed session" in error_of(past)
    several = paper.materialize(paper.sessions[0], paper.sessions[1], fail=True)
    assert "orders of 2 sessions were asked for" in error_of(several)
    assert paper.store.read("order_events").height == before


def test_the_jobs_switch_trading_and_a_failed_gate_is_an_alert_and_no_failure(paper: Paper):
    first, second, *_ = paper.sessions
    targets = paper.store.read("target_weights", first, first)
    paper.store.replace_sessions("target_weights", [second], targets.with_columns(session=second))
    paper.now = evening_of(second)
    predict(paper.store, second)
    assert paper.switch("halt_trading", "halt", by="ada", reason="a drill")
    assert "halted by ada" in str(is_halted(paper.store))
    assert paper.materialize(second).success
    assert "refused by a gate" in str(paper.tick())
    (alert,) = open_alerts(paper.store)
    assert (alert.alert.key, alert.alert.text.split(":")[0]) == ("trading/gates", "kill switch")
    paper.now += timedelta(minutes=1)
    assert not paper.switch("resume_trading", "resume", by="rule: calm")
    assert paper.switch("resume_trading", "resume", by="ada")
    paper.now = _second_chance(second)
    request = paper.tick()
    assert isinstance(request, dg.RunRequest)
    assert "chance 2" in str(request.run_key)
    assert paper.materialize(second).success
    assert not open_alerts(paper.store)


def _second_chance(session: date) -> datetime:
    """8:35 in New York on the morning after."""
    return evening_of(session) + timedelta(hours=13, minutes=5)
