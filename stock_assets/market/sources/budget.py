"""One polite budget of requests, shared by all threads that ask one vendor.

Three rules, in this order: a request waits for its turn (so many a second, by whichever thread); what failed and may
succeed later is tried again, after pauses that double and differ by chance; when the vendor fails every ticker, the
whole run pauses, one request tries after each pause, and when our patience ends no more requests are made.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Say = Callable[[str], None]

#: No thread sleeps longer than this at once, in seconds: a pause may end early, and a run may be cancelled.
_SLICE = 1.0


@dataclass(frozen=True)
class Politeness:
    """How we ask a vendor that owes us nothing. All times in seconds."""

    per_second: float = 2.0
    """requests of all threads together"""
    threads: int = 4
    timeout: float = 30.0
    """a request may take so long in all, a slow drip included"""
    tries: int = 5
    """of one ticker"""
    backoff: float = 1.0
    """before the second try; twice as long before each further one"""
    longest_backoff: float = 60.0
    failures: int = 8
    """failures in a row, each of another ticker, after which the whole run pauses; a refusal (429) counts twice"""
    pause: float = 60.0
    """the first pause of the whole run; each that follows without an answer in between is twice as long"""
    longest_pause: float = 600.0
    patience: float = 1800.0
    """since the first failure of the row, waiting included; then the run gives up"""


class Transient(Exception):
    """A request failed in a way that may pass; `refused` when the vendor refuses us (429, 401, 403)."""

    def __init__(self, reason: str, *, refused: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.refused, self.retry_after = refused, retry_after


class Exhausted(Exception):
    """All tries of one ticker failed; says how the last one did."""


class GivenUp(Exception):
    """No more requests: the vendor failed every ticker for longer than our patience, or the run was stopped."""


class Budget:
    """Turns, tries and pauses of one run. Safe to share among threads."""

    def __init__(
        self,
        politeness: Politeness,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        say: Say = lambda _: None,
    ) -> None:
        """`clock` counts seconds, `chance` draws from [0, 1), `say` gets a line for every pause of the whole run."""
        self.politeness = politeness
        self._clock, self._sleep, self._chance, self._say = clock, sleep, chance, say
        self._lock = threading.Lock()
        self._next = self._paused_until = float("-inf")
        self._row: set[str] = set()
        self._row_began = 0.0
        self._pauses = 0
        self._over: str | None = None

    def stop(self, reason: str) -> None:
        """From now on every request of every thread raises GivenUp."""
        with self._lock:
            self._over = self._over or reason

    def take(self) -> None:
        """Waits for the turn of one request. Raises GivenUp."""
        while (wait := self._turn()) > 0:
            self._sleep(min(wait, _SLICE))

    def hold(self, seconds: float, reason: str) -> None:
        """No request leaves for so many seconds: the vendor answers still, and says that it soon will not."""
        with self._lock:
            now = self._clock()
            if now + seconds > self._paused_until:
                self._paused_until = now + seconds
                self._say(f"all requests wait for {seconds:.0f} s: {reason}")

    def patiently(self, ticker: str, ask: Callable[[], T]) -> T:
        """What `ask` returns, asked again after each Transient; any other exception means that the vendor answered.

        Raises Exhausted after so many tries, GivenUp, and whatever else `ask` raises.
        """
        tries = 0
        while True:
            try:
                answer = ask()
            except GivenUp:
                raise
            except Transient as failure:
                if not self._note_failure(
                    ticker, failure
                ):  # while the vendor fails everyone, it is no try of the ticker's
                    tries += 1
                    if tries == self.politeness.tries:
                        raise Exhausted(f"{failure} ({tries} tries)") from failure
                    self._pause(tries)
            except Exception:
                self._note_answer()
                raise
            else:
                self._note_answer()
                return answer

    def _turn(self) -> float:
        """0 when a request may leave now, else the seconds until it may."""
        with self._lock:
            self._check()
            now = self._clock()
            ready = max(self._next, self._paused_until)
            if ready > now:
                return ready - now
            # after a pause one request tries, and the others wait for how it ends
            self._next = now + (self.politeness.timeout if self._broken else 1 / self.politeness.per_second)
            return 0.0

    def _pause(self, tries: int) -> None:
        longest = min(self.politeness.backoff * 2 ** (tries - 1), self.politeness.longest_backoff)
        until = self._clock() + longest * (1 + self._chance()) / 2
        while (remaining_seconds := until - self._clock()) > 0:
            with self._lock:
                self._check()
            self._sleep(min(remaining_seconds, _SLICE))

    def _note_answer(self) -> None:
        with self._lock:
            if self._broken:
                self._next = self._clock() + 1 / self.politeness.per_second
            self._row.clear()
            self._pauses = 0

    def _note_failure(self, ticker: str, failure: Transient) -> bool:
        """Notes a failure, and pauses the run where it says so; whether the vendor fails everyone."""
        with self._lock:
            now = self._clock()
            if not self._row:
                self._row_began = now
            # one bad ticker is no bad vendor, however often it is tried; a refusal is about us, whatever was asked for
            self._row |= {f"#{len(self._row) + i}" for i in range(2)} if failure.refused else {ticker}
            wait = failure.retry_after or 0.0
            if self._broken and now >= self._paused_until:  # not for those that were under way when the pause began
                wait = max(wait, min(self.politeness.pause * 2**self._pauses, self.politeness.longest_pause))
                self._pauses += 1
            if not wait:
                return self._broken
            if now + wait - self._row_began > self.politeness.patience:
                self._over = self._over or (
                    f"gave up: no answer since {now - self._row_began:.0f} s, last {failure}, and another wait of "
                    f"{wait:.0f} s would exceed the patience of {self.politeness.patience:.0f} s"
                )
            elif now + wait > self._paused_until:
                self._paused_until, self._next = now + wait, now
                self._say(f"the vendor fails every ticker ({failure}): all requests pause for {wait:.0f} s")
            return self._broken

    @property
    def _broken(self) -> bool:
        return len(self._row) >= self.politeness.failures

    def _check(self) -> None:
        if self._over:
            raise GivenUp(self._over)


class Pace:
    """Says now and then how many tickers are done, and when all are if it goes on like this."""

    def __init__(
        self, name: str, say: Say, *, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._say, self._every, self._clock = name, say, every, clock
        self._began = self._said = clock()
        self._done = 0

    def __call__(self, finished_count: int, requested_count: int) -> None:
        now = self._clock()
        if finished_count < self._done:  # another fetch
            self._began = self._said = now
        self._done = finished_count
        if now - self._said >= self._every or finished_count == requested_count:
            self._said = now
            remaining_seconds = (now - self._began) / max(finished_count, 1) * (requested_count - finished_count)
            eta = f", about {remaining_seconds:.0f} s to go" if 0 < finished_count < requested_count else ""
            self._say(f"{self._name}: {finished_count} of {requested_count} tickers{eta}")
