"""A signal ends the process as KeyboardInterrupt; while it is held back, what runs comes to its end first."""

import os
import signal
from collections.abc import Iterator

import pytest

from stock_assets.cli.interruptions import ENDING, end_by_signals, interruptions_held_back


@pytest.fixture(autouse=True)
def ended_by_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in ENDING}
    end_by_signals()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_at_once(number: int):
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_is_held_back_ends_afterwards(number: int):
    steps = []

    def interrupted_work() -> None:
        with interruptions_held_back():
            os.kill(os.getpid(), number)
            steps.append("whole")

    with pytest.raises(KeyboardInterrupt):
        interrupted_work()
    assert steps == ["whole"]


def test_a_failure_does_not_lose_the_signal():
    def interrupted_failure() -> None:
        with interruptions_held_back():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("of the work")

    with pytest.raises(KeyboardInterrupt):
        interrupted_failure()


def test_without_a_signal_nothing_ends():
    with interruptions_held_back():
        pass
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
