"""The process that predicts on demand: its queue, its budget, its ends, and what it leaves alone."""

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import date

import psutil
import pytest

from stock_assets.errors import (
    ArtifactError,
    CutoffError,
    MissingSessionsError,
    MissingTableError,
    StockAssetsError,
    StoreBusyError,
    UnknownNameError,
)
from stock_assets.serving.on_demand import worker
from stock_assets.serving.on_demand.process import OnDemand, UnavailableError

#: A worker without a store: the ticker says what it does.
FAKE = """
import os, sys, time
from datetime import date
from stock_assets.errors import CutoffError
from stock_assets.serving.on_demand import worker

def predict(ticker, session, version):
    if ticker.startswith("SLOW"):
        time.sleep(float(ticker[4:]))
    if ticker == "DIES":
        os._exit(3)
    if ticker == "LATE":
        raise CutoffError("trained through 2026-12-31")
    return {"ticker": ticker, "session": session, "pid": os.getpid()}

worker.predictor = lambda: predict
worker.IDLE_SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
worker.main()
"""


def asked(ticker: str) -> dict[str, str]:
    return {"ticker": ticker, "session": "2026-11-20", "version": "rnn-2025-12-31-0a0a"}


def with_worker(body: Callable[[OnDemand], Awaitable[None]], *arguments: str, **limits: float) -> None:
    """Runs `body` with a process that ends with it."""

    async def run() -> None:
        demand = OnDemand((sys.executable, "-c", FAKE, *arguments), **limits)
        try:
            await body(demand)
        finally:
            await demand.close()

    asyncio.run(run())


def test_a_question_is_answered_by_a_process_of_its_own_that_yields_to_all_others():
    async def body(demand: OnDemand) -> None:
        prediction = (await demand.ask(asked("AAPL")))["prediction"]
        assert prediction["ticker"] == "AAPL"
        assert psutil.Process(prediction["pid"]).ppid() == os.getpid()
        assert psutil.Process(prediction["pid"]).nice() >= worker.NICENESS
        assert (await demand.ask(asked("LATE")))["problem"] == "trained-too-late"
        assert (await demand.ask(asked("MSFT")))["prediction"]["pid"] == prediction["pid"]

    with_worker(body)


def test_one_waits_beside_the_one_that_is_answered_and_the_next_is_told_when_to_come_back():
    async def body(demand: OnDemand) -> None:
        await demand.ask(asked("AAPL"))
        first = asyncio.ensure_future(demand.ask(asked("SLOW0.2")))
        second = asyncio.ensure_future(demand.ask(asked("MSFT")))
        await asyncio.sleep(0)
        assert demand.depth == 2
        with pytest.raises(UnavailableError, match="2 predictions are being made already") as caught:
            await demand.ask(asked("GOOG"))
        assert caught.value.retry_after == 2
        assert (await first)["prediction"]["ticker"] == "SLOW0.2"
        assert (await second)["prediction"]["ticker"] == "MSFT"
        assert demand.depth == 0

    with_worker(body)


def test_beyond_the_budget_the_caller_comes_back_and_what_only_waited_is_dropped():
    async def body(demand: OnDemand) -> None:
        pid = (await demand.ask(asked("AAPL")))["prediction"]["pid"]
        slow = asyncio.ensure_future(demand.ask(asked("SLOW0.8")))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(demand.ask(asked("MSFT")))
        for question in (slow, waiting):
            with pytest.raises(UnavailableError, match=r"longer than 0\.1 s") as caught:
                await question
            assert caught.value.retry_after == 1
        while demand.depth == 2:
            await asyncio.sleep(0.01)
        assert demand.depth == 1  # the slow one, which the process finishes
        while demand.depth:
            await asyncio.sleep(0.01)
        answer = (await demand.ask(asked("GOOG")))["prediction"]
        assert (answer["ticker"], answer["pid"]) == ("GOOG", pid)

    with_worker(body, budget=0.1)


def test_a_process_that_dies_is_started_again_and_ever_later_when_it_dies_again():
    now = 0.0

    async def body(demand: OnDemand) -> None:
        for _ in range(2):
            with pytest.raises(UnavailableError, match="ended or hung"):
                await demand.ask(asked("DIES"))
        with pytest.raises(UnavailableError, match="died again and again") as caught:
            await demand.ask(asked("AAPL"))
        assert caught.value.retry_after == 2
        nonlocal now
        now = 3.0
        assert (await demand.ask(asked("AAPL")))["prediction"]["ticker"] == "AAPL"

    with_worker(body, clock=lambda: now)  # pyright: ignore[reportArgumentType]


def test_a_process_that_hangs_is_killed():
    async def body(demand: OnDemand) -> None:
        pid = (await demand.ask(asked("AAPL")))["prediction"]["pid"]
        with pytest.raises(UnavailableError, match="ended or hung"):
            await demand.ask(asked("SLOW60"))
        assert not psutil.pid_exists(pid)
        assert (await demand.ask(asked("AAPL")))["prediction"]["pid"] != pid

    with_worker(body, hang=0.1)


def test_a_command_that_does_not_start_is_said_to_be_one():
    async def body() -> None:
        demand = OnDemand((sys.executable, "-c", "raise SystemExit(2)"))
        with pytest.raises(UnavailableError, match="does not start; its log says why"):
            await demand.ask(asked("AAPL"))

    asyncio.run(body())


def test_it_ends_by_itself_when_nothing_is_asked_and_comes_back():
    async def body(demand: OnDemand) -> None:
        pid = (await demand.ask(asked("AAPL")))["prediction"]["pid"]
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.01)
        assert (await demand.ask(asked("AAPL")))["prediction"]["pid"] != pid

    with_worker(body, "0.05")


def test_it_ends_with_the_process_that_started_it():
    process = subprocess.Popen([sys.executable, "-c", FAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        assert json.loads(process.stdout.readline()) == {"warm": True}
        process.stdin.close()
        assert process.wait(10) == 0


def test_asking_blocks_nobody_else():
    """60 slow questions, and a task that would answer `livez` meanwhile."""

    async def body(demand: OnDemand) -> None:
        await demand.ask(asked("AAPL"))
        questions = [asyncio.ensure_future(demand.ask(asked("SLOW0.2"))) for _ in range(60)]
        late = []
        while not all(question.done() for question in questions):
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)
        outcomes = [type(question.exception()) for question in questions]
        assert outcomes.count(UnavailableError) == 58
        assert sorted(late)[int(len(late) * 0.95)] < 0.05

    with_worker(body)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnknownNameError("", "ticker"), "unknown-ticker"),
        (UnknownNameError("", "session"), "not-a-session"),
        (UnknownNameError("", "later session"), "not-published-yet"),
        (UnknownNameError("", "version"), "unknown-version"),
        (CutoffError(""), "trained-too-late"),
        (MissingSessionsError("", "labels", [date(2026, 11, 20)]), "rows-missing"),
        (MissingTableError("labels"), "rows-missing"),
        (ArtifactError(""), "rows-missing"),
        (StoreBusyError(""), "not-ready"),
        (StockAssetsError(""), "internal-error"),
    ],
)
def test_what_is_refused_is_a_problem_of_its_kind(error: StockAssetsError, kind: str):
    def refuses(*_: object) -> dict[str, object]:
        raise error

    assert worker.answer(asked("AAPL"), refuses) == {"problem": kind, "detail": str(error)}


def test_a_fault_is_logged_and_the_process_goes_on(caplog: pytest.LogCaptureFixture):
    def fails(*_: object) -> dict[str, object]:
        raise ZeroDivisionError("a secret")

    answers = io.BytesIO()
    read, write = os.pipe()
    with os.fdopen(write, "wb") as questions:
        questions.write((json.dumps(asked("AAPL")) + "\n").encode() * 2)
    with os.fdopen(read, "rb", buffering=0) as questions:
        worker.serve(questions, answers, fails, idle=1)  # pyright: ignore[reportArgumentType]
    warm, *problems = map(json.loads, answers.getvalue().splitlines())
    assert warm == {"warm": True}
    assert [problem["problem"] for problem in problems] == ["internal-error"] * 2
    assert "a secret" not in answers.getvalue().decode()
    assert "ZeroDivisionError: a secret" in caplog.text


def test_asking_imports_neither_torch_nor_a_store():
    code = "import sys, stock_assets.serving.on_demand.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "duckdb", "polars", "dagster", "mlflow"} & set(loaded)
