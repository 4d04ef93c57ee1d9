"""The pace of the daemon's backfills, as dagster.yaml asks for it."""

import logging
import threading
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.scheduler import DagsterDaemonScheduler
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon import controller
from dagster._daemon.backfill import execute_backfill_iteration_loop

from stock_assets.settings import PROJECT_DIR

SCHEDULER = yaml.safe_load((PROJECT_DIR / "dagster.yaml").read_text())["scheduler"]


class Clocked(threading.Event):
    """A shutdown that notes for how long it is waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return True


def waits(folder: Path, overrides: dict[str, object]) -> list[float]:
    """How long the loop of the backfills waits between two looks, on an instance with `overrides`."""
    with (
        dg.DagsterInstance.local_temp(str(folder), {"telemetry": {"enabled": False}, **overrides}) as instance,
        create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as workspace,
    ):
        assert isinstance(instance.scheduler, DagsterDaemonScheduler), "the schedules' daemon takes no other"
        clocked = Clocked()
        loop = execute_backfill_iteration_loop(workspace, logging.getLogger("test"), clocked)
        while len(clocked.waits) < 2:
            next(iter(loop))
    return clocked.waits


def test_the_daemon_looks_at_backfills_as_often_as_the_instance_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", 30)
    assert min(waits(tmp_path, {})) > 25
    wanted = SCHEDULER["config"]["backfill_interval_seconds"]
    assert 0 < max(waits(tmp_path, {"scheduler": SCHEDULER})) <= wanted < 10
