"""The process that predicts on demand, as the API asks it: started when it is needed, one question at a time.

It is a fresh interpreter, never a fork of the API: a fork of a process with threads may hang. Question and answer are
lines of JSON through its pipes, so that it ends with the API, however that ends. The API's own loop only waits.
"""

import asyncio
import json
import math
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

#: The worker, as a command; the models of extensions are registered first.
WORKER = (sys.executable, "-m", "stock_assets.extensions", "stock_assets.serving.on_demand.worker")
#: The line by which it says that it is warm.
WARM = b'{"warm": true}\n'
#: Seconds that a warm process may take for an answer; longer ones are finished and kept, and the caller asks again.
BUDGET_SECONDS = 2.0
#: Seconds that it may take to start, and after which one that does not answer is killed.
START_SECONDS, HANG_SECONDS = 60.0, 60.0
#: Questions that wait beside the one that is being answered.
QUEUE = 1
#: The longest pause before a process that died again and again is started once more, in seconds.
LONGEST_PAUSE = 60.0


class UnavailableError(Exception):
    """There is no answer now; `retry_after` says in how many seconds there may be one."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = max(1, math.ceil(retry_after))


class OnDemand:
    """Asks the process that predicts; starts it with the first question, and again where it has ended."""

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        *,
        budget: float = BUDGET_SECONDS,
        hang: float = HANG_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._budget, self._hang, self._clock = tuple(command), budget, hang, clock
        self._process: Process | None = None
        self._warm, self._turn = asyncio.Event(), asyncio.Lock()
        self._turns: set[asyncio.Task[dict[str, Any]]] = set()
        self._deaths, self._not_before = 0, 0.0

    @property
    def depth(self) -> int:
        """Questions that are being answered or wait, those included that their callers gave up."""
        return len(self._turns)

    async def ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """What the process answers to `question`, one JSON object each.

        Raises UnavailableError where the queue is full, the budget is spent, or the process died or cannot be started.
        """
        if self.depth > QUEUE:
            raise UnavailableError(f"{self.depth} predictions are being made already", self._budget)
        turn_began = asyncio.Event()
        turn = asyncio.ensure_future(self._answer(question, turn_began))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        turn.add_done_callback(_retrieve)
        warm = asyncio.ensure_future(self._warm.wait())
        try:
            # the budget is that of a warm process; a caller that leaves ends no turn
            await asyncio.wait({turn, warm}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({turn}, timeout=self._budget)
        finally:
            warm.cancel()
        if turn.done():
            return turn.result()
        if not turn_began.is_set():
            turn.cancel()
        raise UnavailableError(f"it takes longer than {self._budget:g} s", self._budget)

    async def close(self) -> None:
        """Ends the process, also one that is at work."""
        for turn in tuple(self._turns):
            turn.cancel()
        await self._end()

    async def _answer(self, question: Mapping[str, object], turn_began: asyncio.Event) -> dict[str, Any]:
        """Waits for its turn and for the process, and asks it."""
        async with self._turn:
            turn_began.set()
            process = await self._running()
            try:
                answer = await asyncio.wait_for(self._exchange(process, question), self._hang)
            except (TimeoutError, OSError, ValueError) as error:  # of a pipe, or of a line that is no JSON
                await self._died()
                raise UnavailableError("the process that predicts ended or hung", self._pause()) from error
            except asyncio.CancelledError:
                await self._end()  # its answer would be taken for that of the next question
                raise
            self._deaths = 0
            return answer

    async def _exchange(self, process: Process, question: Mapping[str, object]) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
        return json.loads(await process.stdout.readline())  # an empty line, at its end, is no JSON

    async def _running(self) -> Process:
        """The process, started and warm."""
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdout is not None
            if not self._process.stdout.at_eof():
                return self._process
        await self._end()
        if (pause := self._not_before - self._clock()) > 0:
            raise UnavailableError("the process that predicts died again and again; its log says why", pause)
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE)
        self._process = process
        assert process.stdout is not None
        try:
            ready = await asyncio.wait_for(_said_to_be_warm(process.stdout), START_SECONDS)
        except TimeoutError:
            ready = False
        except asyncio.CancelledError:
            await self._end()
            raise
        if not ready:
            await self._died()
            raise UnavailableError("the process that predicts does not start; its log says why", self._pause())
        self._warm.set()
        return process

    async def _died(self) -> None:
        """After it died or was found to hang: the first time it is started at once, later after longer and longer."""
        await self._end()
        self._deaths += 1
        if self._deaths > 1:
            self._not_before = self._clock() + min(LONGEST_PAUSE, 2.0 ** (self._deaths - 1))

    def _pause(self) -> float:
        return self._not_before - self._clock()

    async def _end(self) -> None:
        process, self._process = self._process, None
        self._warm.clear()
        if process is None:
            return
        with suppress(ProcessLookupError):  # it has ended
            process.kill()
        await process.wait()


async def _said_to_be_warm(answers: asyncio.StreamReader) -> bool:
    """Whether a process says that it is warm before it ends; an extension may print something earlier."""
    while line := await answers.readline():
        if line == WARM:
            return True
    return False


def _retrieve(turn: asyncio.Task[Any]) -> None:
    """Looks at the outcome of a turn whose caller has left, which asyncio would complain about."""
    if not turn.cancelled():
        turn.exception()
