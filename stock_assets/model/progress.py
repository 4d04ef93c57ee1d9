"""Trainings in threads, and their progress as lines of text."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from stock_assets.cores import usable_cores

Result = TypeVar("Result")
Say = Callable[[str], None]

#: Seconds between two looks of a waiting run at the lines of its trainings.
_LISTEN_EVERY = 0.2


class Stopped(Exception):
    """Raised inside a training whose result is not needed, because another failed or the run was cancelled."""


def side_by_side(
    jobs: Sequence[Callable[[Say], Result]], say: Say = lambda _: None, workers: int | None = None
) -> list[Result]:
    """What each of `jobs` returns, in their order, with as many at once as there are cores.

    In threads: a network uses one core and releases Python's lock while it computes, and all share one panel. Products
    of matrices use one core as well: with more, each would wait for the others, spinning, thirty times as long. Each
    job gets a function that takes lines of text; these are passed to `say` in the caller's thread. The first error ends
    the other jobs at their next line, and is raised; an empty line is passed to nobody.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    stop = threading.Event()

    def pass_on(text: str) -> None:
        if stop.is_set():
            raise Stopped
        if text:
            lines.put(text)

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers or usable_cores()) as pool:
        running = [pool.submit(job, pass_on) for job in jobs]
        pending = set(running)
        try:
            while pending:
                finished_futures, pending = wait(pending, _LISTEN_EVERY, FIRST_COMPLETED)
                while not lines.empty():
                    say(lines.get())
                for future in finished_futures:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in running]


class Progress:
    """A line of text per epoch of a training, with the seconds left if the next epochs take as long as this one."""

    def __init__(self, name: str, say: Say, clock: Callable[[], float] = time.perf_counter) -> None:
        self._name, self._say, self._clock = name, say, clock
        self._last_epoch_at: float | None = None

    def __call__(self, report: Any) -> None:
        now, before = self._clock(), self._last_epoch_at
        self._last_epoch_at = now
        remaining_epochs = report.epochs - report.epoch
        eta = (
            "" if before is None or not remaining_epochs else f", about {(now - before) * remaining_epochs:.0f} s to go"
        )
        self._say(
            f"{self._name}: epoch {report.epoch}/{report.epochs}, loss {report.train_loss:.4f} train, "
            f"{report.validation_loss:.4f} validation{eta}"
        )
