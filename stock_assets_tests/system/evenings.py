"""Evenings of the real daemon's logic in this process, on a clock that a test moves."""

import logging
import random
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceLoadTarget
from dagster._daemon import sensor as sensor_daemon

from stock_assets.cli.server import prepare_home
from stock_assets.defs.runs import WORK
from stock_assets.evaluation import plots
from stock_assets.settings import Settings
from stock_assets.storage.attached import attached
from stock_assets_tests.leaks import as_in_a_process_of_its_own
from stock_assets_tests.storage import markets as storage

#: The project's instance, but runs are executed where they are launched.
INSTANCE = (
    storage.INSTANCE
    + """
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""
)


class InThisProcess(WorkspaceLoadTarget):
    """The definitions of a file, without a server in between."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def create_origins(self) -> list[InProcessCodeLocationOrigin]:
        target = LoadableTargetOrigin(
            executable_path=sys.executable,
            python_file=str(self.file),
            working_directory=str(self.file.parent),
            attribute="defs",
        )
        return [InProcessCodeLocationOrigin(target, location_name="stock_assets")]


@dataclass
class Platform:
    """A platform whose clock stands where the test puts it."""

    workspace: WorkspaceProcessContext
    instance: dg.DagsterInstance
    store: Path

    def tick(self, now: datetime) -> set[str]:
        """One look of every sensor at `now`, `evening` first, and the works they asked runs for, which are over when it
        returns."""
        logger = logging.getLogger("daemon")
        before = self.instance.get_runs_count()
        random.seed(now.timestamp())  # Dagster shuffles its sensors
        # attached once, not a hundred times
        with freeze_time(now), attached(self.store, read_only=False, wait=0):
            errors = list(filter(None, sensor_daemon.execute_sensor_iteration(self.workspace, logger, None, None)))
        assert not errors, errors
        runs = self.instance.get_runs(limit=new) if (new := self.instance.get_runs_count() - before) else []
        return {run.tags[WORK] for run in runs}

    def evening(self, now: datetime, ordinary: Collection[str] = ()) -> None:
        """Ticks from `now` on, ten minutes apart, until one asks for nothing but what every evening does: works that
        begin with a word of `ordinary`."""
        for later in range(12):
            if all(work.startswith(tuple(ordinary)) for work in self.tick(now + later * timedelta(minutes=10))):
                return
        raise AssertionError(f"the evening of {now} does not end")


@cache
def _blank() -> bytes:
    """A picture, painted once for all platforms of the process."""
    return plots.explained_variance([1.0])


@contextmanager
def platform(settings: Settings, definitions: Path, instance_yaml: str = INSTANCE) -> Iterator[Platform]:
    """The platform of the definitions in a file. Its pictures are one and the same: drawing them takes long and
    decides nothing."""
    prepare_home(settings, instance_yaml)
    blank = _blank()
    # Dagster keeps what it loaded from a file, with the settings of an earlier platform
    sys.modules.pop(definitions.stem, None)
    ReconstructableJob.get_repository_definition.cache_clear()
    ReconstructableJob.get_definition.cache_clear()
    # a run that is launched here handles the signals of its process
    with as_in_a_process_of_its_own(), pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        shuffled = sensor_daemon.shuffled_round_robin_by_key
        # the others then see what the evening has made
        patch.setattr(
            sensor_daemon,
            "shuffled_round_robin_by_key",
            lambda sensors, key: sorted(shuffled(sensors, key), key=lambda sensor: sensor.name != "evening"),
        )
        patch.setattr(plots.style, "picture", lambda *_: blank)
        # Dagster 1.13 reads what it deprecates
        warnings.filterwarnings("ignore", message="Property `ScheduleDefinition.environment_vars`")
        # what it says of a tick that was cut off
        warnings.filterwarnings("ignore", message="The 'warn' method is deprecated")
        with (
            dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance,
            create_test_daemon_workspace_context(InThisProcess(definitions), instance) as workspace,
        ):
            # a code server opens one for every tick of every sensor, which `make run` does in the system tests
            patch.setattr(dg.SensorEvaluationContext, "instance", instance)
            yield Platform(workspace, instance, settings.database)
