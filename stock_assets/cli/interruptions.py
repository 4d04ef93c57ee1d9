"""How a signal ends `stock-assets run`: as KeyboardInterrupt, once, and never in the middle of Dagster's storage."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

#: Ctrl-C, kill, and the terminal that closes (which nohup makes us ignore).
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_by_signals() -> None:
    """Lets each of `ENDING` end this process by KeyboardInterrupt."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, _interrupt)


@contextmanager
def interruptions_held_back() -> Iterator[None]:
    """Within it a signal waits; it ends the process on leaving.

    SQLAlchemy prints a traceback, or raises another error, where a signal ends it between two rows of a cursor.
    """
    pending_signals: list[int] = []
    held_signals = [number for number in ENDING if signal.getsignal(number) is _interrupt]
    for number in held_signals:
        signal.signal(number, lambda received, _frame: pending_signals.append(received))
    try:
        yield
    finally:
        for number in held_signals:
            signal.signal(number, _interrupt)
        if pending_signals:
            _interrupt(pending_signals[0], None)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Every ending leaves through the same door, once: a second signal must not stop the cleaning up."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
