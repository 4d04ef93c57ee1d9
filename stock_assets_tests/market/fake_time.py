"""A clock for tests of what waits."""

import threading


class FakeTime:
    """A clock that moves when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.now, self.slept, self._lock = 0.0, [], threading.Lock()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds
