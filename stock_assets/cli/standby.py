"""The process of the next run, started before there is one: it has imported what a run needs, and waits.

Dagster's code server starts a fresh process for every run, and importing takes more of an evening than its steps do.
Here one is kept ready while no run is under way; it is spawned as Dagster's own are, and never forked, since threads of
polars and torch do not survive a fork. A run that comes before it is ready waits for no more imports than its own.
"""

import atexit
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from stock_assets.private.dagster import set_run_processes

#: What every run imports, and what the models and pictures of an evening do.
EVERY_RUN = ("stock_assets.definitions", "stock_assets.cli.home", "duckdb", "pyarrow", "upath")
OF_AN_EVENING = (
    "torch",
    "lightgbm",
    "scipy.special",
    "stock_assets.model.networks.rnn",
    "stock_assets.model.networks.rnn_classifier",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "PIL.PngImagePlugin",
    "jinja2",
)
#: Seconds that a standby leaves the processor to what has just started or ended before it imports OF_AN_EVENING.
PAUSE = 5.0

#: A function that Dagster runs in a process of its own, and its arguments but the queue and the event.
Work = tuple[Callable[..., None], Sequence[object]]


class Standby:
    """A started process that waits for its work, with the queue and the event that it was made with."""

    def __init__(self, every_run: Sequence[str], of_an_evening: Sequence[str], pause: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        receiver, sender = spawn.Pipe(duplex=False)
        self.queue, self.event = spawn.Queue(), spawn.Event()
        preload = (every_run, of_an_evening, pause)
        self.process: SpawnProcess = spawn.Process(target=stand_by, args=(receiver, preload, (self.queue, self.event)))
        self.process.start()
        receiver.close()
        self._sender = sender
        self.work: Work | None = None

    def start(self) -> None:
        """Hands `work` over, as `Process.start` would begin it."""
        self._sender.send(self.work)
        self._sender.close()

    def __getattr__(self, name: str) -> Any:
        """What Dagster asks of a process."""
        return getattr(self.process, name)


class RunProcesses:
    """In the place of the multiprocessing context of a code server: every process that it makes is a standby.

    Dagster asks, in this order and in one thread, for the queue, the event and the process of a run.
    """

    def __init__(
        self,
        every_run: Sequence[str] = EVERY_RUN,
        of_an_evening: Sequence[str] = OF_AN_EVENING,
        pause: float = PAUSE,
    ) -> None:
        self._preload = (every_run, of_an_evening, pause)
        self._lock, self._own = threading.Lock(), threading.local()
        self._ready: Standby | None = None
        self._at_work = 0
        # before multiprocessing waits for the end of every process that it has started
        atexit.register(self.close)

    def get_ready(self) -> None:
        """Starts the standby where there is none and no run is under way: it would take memory and time from it."""
        with self._lock:
            if self._ready is None and not self._at_work:
                self._ready = Standby(*self._preload)

    def close(self) -> None:
        """Ends the standby."""
        with self._lock:
            if self._ready is not None:
                self._ready.process.terminate()
                self._ready = None

    def Queue(self) -> Any:
        with self._lock:
            standby, self._ready = self._ready, None
        # it may have been killed while it waited
        self._own.taken = standby if standby is not None and standby.is_alive() else Standby(*self._preload)
        return self._own.taken.queue

    def Event(self) -> Any:
        return self._own.taken.event

    def Process(self, *, target: Callable[..., None], args: Sequence[object]) -> Standby:
        standby: Standby = self._own.taken
        standby.work = (
            target,
            [argument for argument in args if argument is not standby.queue and argument is not standby.event],
        )
        with self._lock:
            self._at_work += 1
        threading.Thread(target=self._follow, args=(standby,), name="standby", daemon=True).start()
        return standby

    def _follow(self, standby: Standby) -> None:
        """Gets the next one ready once this one has ended."""
        wait([standby.process.sentinel])
        with self._lock:
            self._at_work -= 1
        self.get_ready()


def stand_by(
    receiver: Connection, preload: tuple[Sequence[str], Sequence[str], float], queue_and_event: tuple[object, object]
) -> None:
    """Imports, until there is work, and does it; ends where the code server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, meant for the server
    every_run, of_an_evening, pause = preload
    for name in every_run:
        import_module(name)
    if not receiver.poll(pause):
        for name in of_an_evening:
            if receiver.poll():
                break
            import_module(name)
    try:
        function, arguments = receiver.recv()
    except EOFError:
        return
    receiver.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments, *queue_and_event)


def keep_ready() -> None:
    """Has the code server that this process is begin its runs in processes that stand by; without effect in any other.

    Raises PrivateApiError where Dagster's code server starts its runs in another way.
    """
    if is_code_server(sys.argv) and multiprocessing.parent_process() is None:
        processes = RunProcesses()
        set_run_processes(processes)
        processes.get_ready()


def is_code_server(arguments: Sequence[str]) -> bool:
    """Whether a command line is that of a code server.

    >>> is_code_server(["/lib/dagster/__main__.py", "api", "grpc", "--socket", "/tmp/socket"])
    True
    >>> is_code_server(["/lib/dagster/__main__.py", "dev"])
    False
    """
    return list(arguments[1:3]) == ["api", "grpc"]
