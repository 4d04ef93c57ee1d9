"""The process that predicts on demand: its queue, its budget, its ends, and what it leaves alone."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

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
from stock_assets.serving.on_demand import process, worker
from stock_assets.serving.on_demand.process import OnDemand, UnavailableError

#: A worker without a store, with a folder as argument: the ticker says what it does.
FAKE = """
import os, sys, time
from stock_assets.errors import CutoffError
from stock_assets.serving.on_demand import worker

def predict(ticker, session, version):
    if ticker.startswith("SLOW"):  # until the test says that it is over
        while not os.path.exists(os.path.join(sys.argv[1], ticker)):
            time.sleep(0.01)
    if ticker == "DIES":
        os._exit(3)
    if ticker == "LATE":
        raise CutoffError("trained through 2026-12-31")
    return {"ticker": ticker, "session": session, "pid": os.getpid()}

worker.predictor = lambda: predict
worker.main()
"""
#: Seconds that only end a hang: the worker yields to everything else, and a busy machine leaves it little.
LONG = 300.0


@pytest.fixture(autouse=True)
def _a_busy_machine_may_take_long_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", LONG)


def asked(ticker: str) -> dict[str, str]:
    return {"ticker": ticker, "session": "2026-11-20", "version": "rnn-2025-12-31-0a0a"}


def with_worker(body: Callable[[OnDemand], Awaitable[None]], *, folder: Path | str = "", **limits: Any) -> None:
    """Runs `body` with a process that ends with it."""

    async def run() -> None:
        demand = OnDemand((sys.executable, "-c", FAKE, str(folder)), **{"budget": LONG, "hang": LONG, **limits})
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


def test_one_waits_beside_the_one_that_is_answered_and_the_next_is_told_when_to_come_back(tmp_path: Path):
    async def body(demand: OnDemand) -> None:
        await demand.ask(asked("AAPL"))
        first = asyncio.ensure_future(demand.ask(asked("SLOW")))
        second = asyncio.ensure_future(demand.ask(asked("MSFT")))
        await asyncio.sleep(0)
        assert demand.depth == 2
        with pytest.raises(UnavailableError, match="2 predictions are being made already") as caught:
            await demand.ask(asked("GOOG"))
        assert caught.value.retry_after == LONG
        (tmp_path / "SLOW").touch()
        assert (await first)["prediction"]["ticker"] == "SLOW"
        assert (await second)["prediction"]["ticker"] == "MSFT"
        assert demand.depth == 0

    with_worker(body, folder=tmp_path)


def test_beyond_the_budget_the_caller_comes_back_and_what_only_waited_is_dropped(tmp_path: Path):
    async def body(demand: OnDemand) -> None:
        pid = (await demand.ask(asked("AAPL")))["prediction"]["pid"]
        demand._budget = 0.1
        slow = asyncio.ensure_future(demand.ask(asked("SLOW")))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(demand.ask(asked("MSFT")))
        for question in (slow, waiting):
            with pytest.raises(UnavailableError, match=r"longer than 0\.1 s") as caught:
                await question
            assert caught.value.retry_after == 1
        while demand.depth == 2:
            await asyncio.sleep(0.01)
        assert demand.depth == 1  # the slow one, which the process finishes
        (tmp_path / "SLOW").touch()
        while demand.depth:
            await asyncio.sleep(0.01)
        demand._budget = LONG
        answer = (await demand.ask(asked("GOOG")))["prediction"]
        assert (answer["ticker"], answer["pid"]) == ("GOOG", pid)

    with_worker(body, folder=tmp_path)


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

    with_worker(body, clock=lambda: now)


def test_a_process_that_hangs_is_killed(tmp_path: Path):
    async def body(demand: OnDemand) -> None:
        pid = (await demand.ask(asked("AAPL")))["prediction"]["pid"]
        demand._hang = 0.1
        with pytest.raises(UnavailableError, match="ended or hung"):
            await demand.ask(asked("SLOW"))
        assert not psutil.pid_exists(pid)
        demand._hang = LONG
        assert (await demand.ask(asked("AAPL")))["prediction"]["pid"] != pid

    with_worker(body, folder=tmp_path)


def test_a_command_that_does_not_start_is_said_to_be_one():
    async def body() -> None:
        demand = OnDemand((sys.executable, "-c", "raise SystemExit(2)"))
        with pytest.raises(UnavailableError, match="does not start; its log says why"):
            await demand.ask(asked("AAPL"))

    asyncio.run(body())


def test_one_that_has_ended_by_itself_comes_back():
    async def body(demand: OnDemand) -> None:
        pid = (await demand.ask(asked("AAPL")))["prediction"]["pid"]
        assert demand._process is not None
        assert demand._process.stdin is not None
        demand._process.stdin.close()  # it ends with its input, as it does when nothing is asked
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.01)
        assert (await demand.ask(asked("AAPL")))["prediction"]["pid"] != pid

    with_worker(body)


def test_it_ends_when_nothing_is_asked():
    soon = FAKE.replace("worker.main()", "worker.IDLE_SECONDS = 0.05; worker.main()")
    command = [sys.executable, "-c", soon]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(LONG) == 0


def test_it_ends_with_the_process_that_started_it():
    command = [sys.executable, "-c", FAKE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"warm": True}
        process.stdin.close()
        assert process.wait(LONG) == 0


def test_asking_blocks_nobody_else(tmp_path: Path):
    """60 questions of which none is answered, and a task that goes on; how late `livez` is then, benchmarks measure."""

    async def body(demand: OnDemand) -> None:
        await demand.ask(asked("AAPL"))
        questions = [asyncio.ensure_future(demand.ask(asked("SLOW"))) for _ in range(60)]
        for _ in range(100):
            await asyncio.sleep(0.001)
        refusals = [question for question in questions if question.done()]
        assert [type(question.exception()) for question in refusals] == [UnavailableError] * 58
        assert demand.depth == 2, "the process is still at work"
        (tmp_path / "SLOW").touch()
        answers = await asyncio.gather(*(question for question in questions if question not in refusals))
        assert [answer["prediction"]["ticker"] for answer in answers] == ["SLOW"] * 2

    with_worker(body, folder=tmp_path)


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
        worker.serve(questions, answers, fails, idle=LONG)  # pyright: ignore[reportArgumentType]
    warm, *problems = map(json.loads, answers.getvalue().splitlines())
    assert warm == {"warm": True}
    assert [problem["problem"] for problem in problems] == ["internal-error"] * 2
    assert "a secret" not in answers.getvalue().decode()
    assert "ZeroDivisionError: a secret" in caplog.text


def test_asking_imports_neither_torch_nor_a_store():
    code = "import sys, stock_assets.serving.on_demand.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "duckdb", "polars", "dagster", "mlflow"} & set(loaded)
