"""How far a backfill is: a bar per asset on a terminal, and a line per change where there is none."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

#: The width of a bar, and of a terminal that has room for it and for the time.
BAR_WIDTH, WIDE = 32, 90
#: Seconds between two lines about an asset that is under way.
QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class AssetProgress:
    """How far one asset of a backfill is."""

    asset: str
    done: int
    """partitions"""
    total: int
    state: str = ""
    """"running", how many partitions failed, or empty"""

    @property
    def complete(self) -> bool:
        return self.done >= self.total

    @property
    def begun(self) -> bool:
        return bool(self.done or self.state)


class View(Protocol):
    """Shows how far the assets are."""

    def show(self, assets: Sequence[AssetProgress]) -> None: ...


@contextmanager
def view_on(console: Console) -> Iterator[View]:
    """What fits the console: live bars on a terminal, lines into a pipe or a file."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Progress(*columns_for(console.width), console=console) as progress:
        yield Bars(progress)


def columns_for(width: int) -> list[ProgressColumn]:
    """Name, numbers and state of an asset; a bar and the time where there is room."""
    columns: list[ProgressColumn] = [TextColumn("{task.description:<20}"), MofNCompleteColumn()]
    if width >= WIDE:
        columns = [columns[0], BarColumn(bar_width=BAR_WIDTH), columns[1], TimeElapsedColumn()]
    return [*columns, TextColumn("{task.fields[state]}")]


class Bars:
    """A bar per asset that moves."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, assets: Sequence[AssetProgress]) -> None:
        for progress in assets:
            if progress.asset not in self._tasks:
                self._tasks[progress.asset] = self._progress.add_task(
                    progress.asset, total=progress.total, state="", start=False
                )
            task = self._tasks[progress.asset]
            if progress.begun:
                self._progress.start_task(task)
            self._progress.update(task, completed=progress.done, total=progress.total, state=progress.state)
            if progress.complete:
                self._progress.stop_task(task)


class Lines:
    """A line when an asset begins, ends or fails, and every few seconds while it is under way."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._printed: dict[str, tuple[AssetProgress, float]] = {}

    def show(self, assets: Sequence[AssetProgress]) -> None:
        for progress in assets:
            before, printed_at = self._printed.get(
                progress.asset, (AssetProgress(progress.asset, 0, progress.total), 0.0)
            )
            if progress == before or not (progress.begun or progress.complete):
                continue
            turn = (
                progress.complete or not before.begun or ("failed" in progress.state and progress.state != before.state)
            )
            if turn or self._clock() - printed_at >= QUIET_SECONDS:
                state = "" if progress.complete else progress.state
                line = f"{progress.asset} {progress.done:,}/{progress.total:,} {state}".rstrip()
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
                self._printed[progress.asset] = progress, self._clock()
