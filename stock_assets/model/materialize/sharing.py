"""A step that shares its units of work with the workers of other hosts, and does them itself as well.

The step posts its units (`storage.work_queue`) and works on them with one thread per core, as it does alone. Once a
worker is connected, what the units read is published beside the artifacts, and the worker takes units, too. A unit
whose worker died is taken by another process. Nothing of the batch is left afterwards.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stock_assets.cores import usable_cores
from stock_assets.errors import StockAssetsError
from stock_assets.model.progress import Say, side_by_side
from stock_assets.objects import Place, found_below
from stock_assets.settings import PROJECT_DIR, Settings
from stock_assets.storage.code_version import read_code_version
from stock_assets.storage.work_files import batch_folder, remove_batch
from stock_assets.storage.work_queue import MOST_CLAIMS, UnitState, WorkQueue

#: Seconds between two looks at the queue.
LOOK_SECONDS = 1.0
#: Settings on which what a unit computes depends; the others may differ between hosts.
SAME_SETTINGS = (
    "source",
    "interval",
    "exchange",
    "artifacts",
    "horizon",
    "buy_threshold",
    "sell_threshold",
    "seed",
    "side_inputs",
    "extensions",
)
#: Packages that compute: another version may round otherwise.
SAME_PACKAGES = ("numpy", "polars", "scipy", "scikit-learn", "lightgbm", "torch", "optuna")


@dataclass(frozen=True)
class Work:
    """The units of a step."""

    kind: str
    """which of `worker.KINDS` computes them"""
    names: Sequence[str]
    specs: Sequence[str]
    """what a worker is given of each"""
    publish: Callable[[Place], Mapping[str, Any]]
    """puts what all units read into a folder; returns what a worker needs to read it, which JSON can hold"""


def identity(settings: Settings) -> dict[str, str]:
    """What has to be equal on two hosts for their results to be equal, by name."""
    from stock_assets.model.networks.trainer import best_device, has_bfloat16

    device = best_device()
    packages = {f"the package {name}": _installed(name) for name in SAME_PACKAGES}
    settings_of_run = {f"the setting {name}": str(getattr(settings, name)) for name in SAME_SETTINGS}
    arithmetic = f"{device.type}, {'bfloat16' if has_bfloat16(device) else 'single precision'}"
    own = {"stock_assets": read_code_version(PROJECT_DIR), "the arithmetic of networks": arithmetic}
    return own | packages | settings_of_run


def difference(identity_of_run: Mapping[str, str], own_identity: Mapping[str, str]) -> str | None:
    """The first thing that differs, in words; None where all is equal.

    >>> difference({"the setting seed": "0"}, {"the setting seed": "1"})
    'the setting seed is 1 here and 0 in the run'
    """
    for name, value in identity_of_run.items():
        if own_identity.get(name) != value:
            return f"{name} is {own_identity.get(name, 'absent')} here and {value} in the run"
    return None


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def shared_results(settings: Settings, work: Work, compute: Callable[[int, Say], str], *, say: Say) -> list[str]:
    """The result of each unit, in their order. `compute` returns that of the unit in a place, on this host; `say`
    receives what happens to them, on any host.

    Raises what `compute` raises; StockAssetsError with the message of a unit that failed elsewhere, and for one at
    which MOST_CLAIMS processes ended.
    """
    with led_batch(settings, work) as batch:
        slots = [partial(batch.compute_units, compute)] * min(usable_cores(), len(work.specs))
        side_by_side([batch.watch, *slots], say, workers=len(slots) + 1)
        return batch.results()


@contextmanager
def led_batch(settings: Settings, work: Work) -> Iterator["LedBatch"]:
    """The units of `work`, posted; nothing of them is left afterwards, nor of what killed runs left before."""
    assert settings.dagster_postgres is not None
    queue = WorkQueue(settings.dagster_postgres, "lead")

    def remove(batch: int) -> None:
        # the files first: those of a batch that is gone would never be found
        remove_batch(settings.artifacts, batch)
        queue.remove(batch)

    with closing(queue):
        for leaderless in queue.leaderless():
            remove(leaderless)
        batch = queue.post(work.kind, work.specs)
        try:
            yield LedBatch(settings, queue, batch, work=work)
        finally:
            remove(batch)


class LedBatch:
    """The units of a step, as the step sees them."""

    def __init__(self, settings: Settings, queue: WorkQueue, batch: int, *, work: Work) -> None:
        self.batch = batch
        self._settings, self._queue, self._work = settings, queue, work
        self._lines: dict[int, tuple[str | None, str | None, bool]] = {}
        self._refusals, self._published = 0, False
        self._over, self._ended_here = threading.Event(), threading.Event()

    def results(self) -> list[str]:
        """Of a batch that is done."""
        return [result for result in self._queue.results(self.batch) if result is not None]

    def compute_units(self, compute: Callable[[int, Say], str], say: Say) -> None:
        """Takes units until all are done, wherever."""
        while not self._over.is_set():
            claim = self._queue.claim(self.batch)
            if claim is None:
                say("")  # ends this thread where another failed
                self._over.wait(LOOK_SECONDS)
            else:
                self._queue.finish(claim, compute(claim.place, say))
                self._ended_here.set()

    def watch(self, say: Say) -> None:
        """Follows the units until all are done. Raises as `shared_results`."""
        try:
            while not self.look(say):
                say("")
                self._ended_here.wait(LOOK_SECONDS)
                self._ended_here.clear()
        finally:
            self._over.set()

    def look(self, say: Say) -> bool:
        """Whether all units have ended. Publishes what they read once there is a worker. Raises as `shared_results`."""
        states = self._queue.states(self.batch)
        if len(states) < len(self._work.specs):
            raise StockAssetsError(
                f"the batch {self.batch} of {self._work.kind} was removed from the queue meanwhile, as if this run had "
                "been killed; run the step again"
            )
        for line in self._queue.refusals(self.batch)[self._refusals :]:
            self._refusals += 1
            say(line)
        for state in states:
            self._follow(state, say)
        if not self._published and not all(state.ended for state in states) and (workers := self._queue.workers()):
            self._publish(workers, say)
        return all(state.ended for state in states)

    def is_elsewhere(self) -> bool:
        """Whether another process works on a unit."""
        return any(state.held and state.worker != self._queue.name for state in self._queue.states(self.batch))

    def _publish(self, workers: int, say: Say) -> None:
        folder = batch_folder(self._settings.artifacts, self.batch)
        description = {"identity": identity(self._settings), "inputs": dict(self._work.publish(folder))}
        self._queue.publish(self.batch, json.dumps(description))
        self._published = True
        size = sum(file.size for file in found_below(folder)) / 1e6
        say(f"{len(self._work.specs)} unit(s) of {self._work.kind} are shared with {workers} worker(s): {size:.1f} MB")

    def _follow(self, state: UnitState, say: Say) -> None:
        """Shows what is new of a unit of another process."""
        name, line_of_unit = self._work.names[state.place], (state.worker, state.line, state.ended)
        if state.error is not None:
            raise StockAssetsError(f"{name} failed on {state.worker}: {state.error}")
        if state.claims >= MOST_CLAIMS and not state.ended and not state.held:
            raise StockAssetsError(
                f"{name}: {MOST_CLAIMS} processes ended at it, the last of them {state.worker}; expected enough memory "
                "on every host that works: have fewer slots there, or more memory"
            )
        if state.worker in (None, self._queue.name) or self._lines.get(state.place) == line_of_unit:
            return
        self._lines[state.place] = line_of_unit
        say(f"{name} is done by {state.worker}" if state.ended else state.line or f"{name} is taken by {state.worker}")
