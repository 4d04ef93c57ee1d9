"""The process that waits for the next run: handed over, followed by another, replaced, and gone with its server."""

import multiprocessing
import os
import sys

import pytest

from stock_assets.cli import standby
from stock_assets.cli.standby import RunProcesses
from stock_assets.errors import PrivateApiError
from stock_assets.private import dagster as borrowed
from stock_assets_tests.waiting import until

#: Modules that no test imports, so that a process that has them imported them while it stood by.
EVERY_RUN, OF_AN_EVENING = ("zipapp",), ("a_module_that_is_not_there",)


def answer(text: str, queue, event) -> None:
    queue.put((text, os.getpid(), "zipapp" in sys.modules, event.is_set()))


@pytest.fixture
def processes():
    made = RunProcesses(EVERY_RUN, (), 0.0)
    yield made
    made.close()


def launch(processes: RunProcesses, text: str):
    """What Dagster's code server does to start a run."""
    queue, event = processes.Queue(), processes.Event()
    process = processes.Process(target=answer, args=[text, queue, event])
    process.start()
    return process, queue.get(timeout=120)


def test_a_run_begins_in_the_process_that_stood_by_and_another_follows_it(processes):
    processes.get_ready()
    waiting = processes._ready.process.pid
    process, (text, pid, imported, told_to_end) = launch(processes, "tonight")
    assert (text, pid, imported, told_to_end) == ("tonight", waiting, True, False)
    process.join()
    assert process.exitcode == 0
    until(lambda: processes._ready is not None)
    assert processes._ready.process.pid != waiting


def test_none_stands_by_while_a_run_is_under_way(processes):
    first = processes.Queue(), processes.Event()
    process = processes.Process(target=answer, args=["first", *first])
    processes.get_ready()
    assert processes._ready is None
    process.start()
    process.join()


def test_one_that_was_killed_while_it_waited_is_replaced(processes):
    processes.get_ready()
    killed = processes._ready.process
    killed.kill()
    killed.join()
    _, (text, pid, *_) = launch(processes, "all the same")
    assert text == "all the same"
    assert pid != killed.pid


def test_work_is_not_kept_waiting_by_what_it_may_not_need():
    processes = RunProcesses((), OF_AN_EVENING, 120.0)
    try:
        assert launch(processes, "at once")[1][0] == "at once"
    finally:
        processes.close()


def test_it_ends_with_its_server():
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=standby.stand_by, args=(receiver, ((), (), 120.0), (None, None))
    )
    process.start()
    receiver.close()
    sender.close()  # as the end of the server does
    process.join(120)
    assert process.exitcode == 0


def test_only_a_code_server_keeps_one_ready(monkeypatch):
    monkeypatch.setattr(standby, "set_run_processes", lambda _: pytest.fail("this is no code server"))
    monkeypatch.setattr(sys, "argv", ["/lib/dagster/__main__.py", "dev"])
    standby.keep_ready()


def test_a_dagster_whose_server_starts_runs_in_another_way_is_refused(monkeypatch):
    monkeypatch.setattr(borrowed, "CONTEXT", "_gone_since")
    with pytest.raises(PrivateApiError, match=r"no dagster\._grpc\.server\.DagsterApiServer\._gone_since"):
        borrowed.set_run_processes(object())


def test_the_server_uses_what_it_is_given(monkeypatch):
    from dagster._grpc.server import DagsterApiServer

    monkeypatch.setattr(DagsterApiServer, "_mp_ctx", None, raising=False)
    context = object()
    borrowed.set_run_processes(context)
    server = DagsterApiServer.__new__(DagsterApiServer)
    server._mp_ctx = multiprocessing.get_context("spawn")  # as its constructor does
    assert server._mp_ctx is context
