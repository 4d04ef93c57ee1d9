"""What a host without the store does for the steps of the data host: it takes units of work, one per slot, until it is
ended."""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stock_assets.errors import BucketError, DamagedFileError, SettingsError, StockAssetsError
from stock_assets.files import first_line, make_folder
from stock_assets.model.materialize.shared_training import SharedTrainings
from stock_assets.model.materialize.shared_tuning import SharedTrials
from stock_assets.model.materialize.sharing import LOOK_SECONDS, difference, identity
from stock_assets.model.progress import Say, Stopped, side_by_side
from stock_assets.objects import Place
from stock_assets.settings import Settings
from stock_assets.storage.work_files import batch_folder
from stock_assets.storage.work_queue import Claim, OpenBatch, WorkQueue

#: Seconds between two looks of a busy worker at its link.
BEAT_SECONDS = 5.0
#: The file in the data folder that a worker touches as often.
ALIVE = "worker_alive"


class Compute(Protocol):
    """Computes the units of one batch."""

    def __call__(self, spec: str, say: Say, *, require_held: Callable[[], None]) -> str:
        """The result of a unit. Raises what `require_held` raises, which ends a unit that is another's meanwhile."""
        ...


#: By the kind of a batch: what opens one, given settings, the folder of its files, and what `Work.publish` returned.
KINDS: dict[str, Callable[[Settings, Place, Mapping[str, Any]], Compute]] = {
    "training": SharedTrainings,
    "tuning": SharedTrials,
}


class Worker:
    """The units of one process, `slots` at once."""

    def __init__(self, settings: Settings, queue: WorkQueue, slots: int) -> None:
        self._settings, self._queue, self._slots = settings, queue, slots
        self._identity = identity(settings)
        self._opened: dict[int, Compute] = {}
        self._opening = threading.Lock()

    def run(self, say: Say) -> None:
        """Works until the process ends; `say` receives what it does.

        Raises SettingsError where this host is not as that of a batch, and what this host cannot do: reading what a
        unit needs, or reaching the database. What a unit itself raises ends its run, and not this worker.
        """
        self._queue.enrol()
        side_by_side([self._beat, *[self._work] * self._slots], say, workers=self._slots + 1)

    def _beat(self, say: Say) -> None:
        """Notices a broken link while all slots compute, so that the locks are taken again, and shows a probe that this
        process works."""
        alive = self._settings.data_dir / ALIVE
        make_folder(alive.parent)
        while True:
            say("")
            self._queue.open_batches()
            alive.touch()
            time.sleep(BEAT_SECONDS)

    def _work(self, say: Say) -> None:
        while True:
            say("")
            if not self._work_once(say):
                time.sleep(LOOK_SECONDS)

    def _work_once(self, say: Say) -> bool:
        """Whether there was a unit."""
        batches = self._queue.open_batches()
        with self._opening:
            for closed in self._opened.keys() - {batch.batch for batch in batches}:
                del self._opened[closed]
        for batch in batches:
            try:
                compute = self._compute_of(batch)
            except DamagedFileError:
                if batch in self._queue.open_batches():
                    raise
                continue  # its files were removed with it meanwhile
            if claim := self._queue.claim(batch.batch):
                self._do(claim, compute, say)
                return True
        return False

    def _compute_of(self, batch: OpenBatch) -> Compute:
        """What computes its units, opened once for all slots. Raises SettingsError for another version or setting."""
        with self._opening:
            if batch.batch not in self._opened:
                description = json.loads(batch.about)
                if reason := difference(description["identity"], self._identity):
                    line = f"{self._queue.name} refuses the units of {batch.kind}: {reason}"
                    self._queue.refuse(batch.batch, line)
                    raise SettingsError(f"{line}; expected the image and the settings of the host with the store")
                folder = batch_folder(self._settings.artifacts, batch.batch)
                self._opened[batch.batch] = KINDS[batch.kind](self._settings, folder, description["inputs"])
            return self._opened[batch.batch]

    def _do(self, claim: Claim, compute: Compute, say: Say) -> None:
        def require_held() -> None:
            if not self._queue.is_held(claim):
                raise StockAssetsError("the unit was removed, or another process took it while the link was cut")

        def report(line: str) -> None:
            say(line)
            if line:
                self._queue.report(claim, f"{line} ({self._queue.name})")

        try:
            self._queue.finish(claim, compute(claim.spec, report, require_held=require_held))
        except Stopped:
            raise
        except Exception as error:
            if not self._queue.is_held(claim):  # what it reads may be gone with its batch
                say(f"a unit of {claim.kind} was removed, or is another's meanwhile")
                return
            if isinstance(error, BucketError | DamagedFileError | MemoryError | OSError):
                self._queue.give_back(claim)  # this host's trouble, and not the unit's
                raise
            logging.getLogger("stock_assets").exception("a unit failed")
            kind = "" if isinstance(error, StockAssetsError) else f"{type(error).__name__}: "
            self._queue.fail(claim, kind + first_line(error))
