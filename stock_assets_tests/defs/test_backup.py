"""A backup after every evening: asked for once, made by a run, and its failure raises an alert."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.defs.alerts import alert_of_run
from stock_assets.defs.sensors import PATIENCE
from stock_assets.lifecycle.alerts import LogChannel
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.manifest import backups
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import CALENDAR, NOW, PREDICTED, handmade_store

LATER = datetime(2019, 6, 2, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    plain = {"data_dir": tmp_path / "data", "backup_dir": tmp_path / "backups", "backup_keep": 2}
    settings = read_settings(start=CALENDAR.sessions[0], end=CALENDAR.sessions[-1], **plain)
    handmade_store(settings.database)
    return settings


def tick(settings: Settings, instance: dg.DagsterInstance, now: datetime) -> object:
    definitions = build_definitions(settings)
    (sensor,) = [sensor for sensor in definitions.sensors or () if sensor.name == "backup"]
    assert PATIENCE
    resources = {"warehouse": Warehouse(settings.database), "channels": (LogChannel(),), "clock": lambda: now}
    hardcoded = {
        name: dg.ResourceDefinition.hardcoded_resource(value) if name == "clock" else value
        for name, value in resources.items()
    }
    context = dg.build_sensor_context(instance, resources=hardcoded, definitions=definitions)
    return sensor(context)


def execute(settings: Settings, instance: dg.DagsterInstance, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    job = build_definitions(settings).resolve_job_def("backup")
    clock = dg.ResourceDefinition.hardcoded_resource(lambda: NOW)
    return job.execute_in_process(
        instance=instance, tags=dict(request.tags), resources={"clock": clock}, raise_on_error=False
    )


def test_without_the_setting_there_is_no_backup(tmp_path: Path):
    definitions = build_definitions(read_settings(data_dir=tmp_path))
    assert "backup" not in {sensor.name for sensor in definitions.sensors or ()}
    assert "backup" not in {job.name for job in definitions.jobs or ()}


def test_a_predicted_session_is_backed_up_once(settings: Settings):
    with dg.DagsterInstance.ephemeral() as instance:
        request = tick(settings, instance, NOW)
        assert isinstance(request, dg.RunRequest)
        assert execute(settings, instance, request).success
        assert settings.backup_dir
        (made,) = backups(settings.backup_dir)
        waits = tick(settings, instance, LATER)
        assert isinstance(waits, dg.SkipReason)
        assert waits.skip_message == f"{made.name} holds everything up to {PREDICTED}"


def test_a_backup_that_fails_is_an_alert_and_is_tried_again(settings: Settings):
    assert settings.backup_dir
    settings.backup_dir.write_text("a file where the folder should be")
    with dg.DagsterInstance.ephemeral() as instance:
        request = tick(settings, instance, NOW)
        assert isinstance(request, dg.RunRequest)
        failed = execute(settings, instance, request)
        assert not failed.success
        alert = alert_of_run(instance, failed.dagster_run, "", now=NOW)
        assert alert.title == "backup failed"
        assert f"BackupError: {settings.backup_dir} cannot be used: " in alert.text
        waits = tick(settings, instance, datetime.now(UTC))
        assert isinstance(waits, dg.SkipReason)
        assert "backup failed 1 time(s); it is tried again at" in str(waits.skip_message)
        settings.backup_dir.unlink()
        again = tick(settings, instance, datetime(2100, 1, 1, tzinfo=UTC))
        assert isinstance(again, dg.RunRequest)
        assert again.run_key != request.run_key
        assert execute(settings, instance, again).success
