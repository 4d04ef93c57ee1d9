"""Trainings beside each other, and how far they are."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from stock_assets.model.cores import usable_cores

Result = TypeVar("Result")
Say = Callable[[str], None]

#: How often a run that waits for its trainings passes on what they say, in seconds.
_LISTEN_EVERY = 0.2


class Stopped(Exception):
    """Raised inside a training that is no longer wanted, because another failed or the run was cancelled."""


def side_by_side(
    jobs: Sequence[Callable[[Say], Result]], say: Say = lambda _: None, workers: int | None = None
) -> list[Result]:
    """What each of `jobs` returns, in their order, with as many at once as there are cores.

    In threads: a network is one core's work and leaves Python alone while it computes, and the panel is there once.
    What a job says is said in the caller's thread. The first error ends the others at their next word, and is raised.
    """
    words: queue.SimpleQueue[str] = queue.SimpleQueue()
    stop = threading.Event()

    def speak(text: str) -> None:
        if stop.is_set():
            raise Stopped
        words.put(text)

    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        running = [pool.submit(job, speak) for job in jobs]
        pending = set(running)
        try:
            while pending:
                done, pending = wait(pending, _LISTEN_EVERY, FIRST_COMPLETED)
                while not words.empty():
                    say(words.get())
                for future in done:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in running]


class Progress:
    """Says each epoch of a training, and when it is over if the epochs to come last as long as this one did."""

    def __init__(self, name: str, say: Say, clock: Callable[[], float] = time.perf_counter) -> None:
        self._name, self._say, self._clock = name, say, clock
        self._heard_at: float | None = None

    def __call__(self, report: Any) -> None:
        now, before = self._clock(), self._heard_at
        self._heard_at = now
        left = report.epochs - report.epoch
        eta = "" if before is None or not left else f", about {(now - before) * left:.0f} s to go"
        self._say(
            f"{self._name}: epoch {report.epoch}/{report.epochs}, loss {report.train_loss:.4f} train, "
            f"{report.validation_loss:.4f} validation{eta}"
        )
