"""Run as a program: kills the sending of a plan at one line after another, and counts what the broker has afterwards.

    python -m stock_assets_tests.trading.broker.kill_drill FOLDER [EVERY]

Every line that sends, takes or stores an order between the plan and the last acknowledgement is a place to die at: a
child dies there by os._exit, as by kill -9, and the evening is done again. Prints the number of places; EVERY = 5 tries
one in five.
"""

import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from stock_assets.trading import broker
from stock_assets.trading.broker import simulated_file
from stock_assets_tests.trading.broker.world import World, as_booked

FILES = {str(Path(broker.__file__).parent / f"{name}.py") for name in ("send", "simulated", "simulated_file")}
DIED = 9


class Tracer:
    """Counts the lines of FILES that run; dies before the one whose number is `last`, 0 for none."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0
        self.places: list[tuple[str, int]] = []

    def call(self, frame: FrameType, event: str, arg: object):  # noqa: ARG002
        return self.line if frame.f_code.co_filename in FILES else None

    def line(self, frame: FrameType, event: str, arg: object):  # noqa: ARG002
        if event == "line":
            self.count += 1
            self.places.append((frame.f_code.co_filename, frame.f_lineno))
            if self.count == self.last:
                os._exit(DIED)
        return self.line


def evening(folder: Path, last: int = 0) -> Tracer:
    world = World(folder)
    tracer = Tracer(last)
    sys.settrace(tracer.call)
    try:
        world.send()
    finally:
        sys.settrace(None)
    return tracer


def in_a_child(folder: Path, last: int) -> int:
    """The exit code of an evening in a process of its own that dies at line `last`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            evening(folder, last)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, every: int) -> None:
    whole = folder / "whole"
    tracer = evening(whole)
    times: Counter[tuple[str, int]] = Counter()
    numbers = []
    for number, place in enumerate(tracer.places, start=1):
        times[place] += 1
        # the second order's lines: one is at the broker by then, and one is not
        if times[place] == min(2, tracer.places.count(place)):
            numbers.append(number)
    numbers = numbers[::every]
    for number in numbers:
        work = folder / str(number)
        work.mkdir()
        (work / "account.sqlite").write_bytes((folder / "account.sqlite").read_bytes())
        assert in_a_child(work, number) == DIED, number
        evening(work)
        assert World(work).booked_orders() == as_booked(), tracer.places[number - 1]
    print(len(numbers))


if __name__ == "__main__":
    # what a process wrote outlives it without the disk
    simulated_file.SYNCHRONOUS = "OFF"
    target = Path(sys.argv[1])
    World(target)  # the account before the evening
    main(target, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
