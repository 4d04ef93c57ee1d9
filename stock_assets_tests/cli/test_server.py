"""Starting, owning and ending a server: what is refused beforehand, and that nothing stays behind."""

import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.test_utils import create_run_for_test

from stock_assets.cli import server
from stock_assets.cli.graphql import DagsterClient
from stock_assets.cli.home import lock_home
from stock_assets.errors import StockAssetsError
from stock_assets.settings import PROJECT_DIR, read_settings

HOST = "127.0.0.1"
Usage = namedtuple("Usage", "total used free")

#: A parent that ignores the polite signal, with a child that does the same, once both are ready.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"])
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def listener():
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen()
        yield sock


def port_of(sock: socket.socket) -> int:
    return sock.getsockname()[1]


def test_a_free_port_is_accepted_and_a_busy_one_named(listener):
    busy = port_of(listener)
    with pytest.raises(StockAssetsError, match=f"port {busy} is busy.*make run PORT="):
        server.require_free_port(HOST, busy)
    listener.close()
    server.require_free_port(HOST, busy)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_named(host: str):
    with pytest.raises(StockAssetsError, match=f"UI_HOST={host} is no address of this machine"):
        server.require_free_port(host, 3000)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::", "http://[::1]:3000"),
        ("192.0.2.7", "http://192.0.2.7:3000"),
    ],
)
def test_the_command_line_finds_the_server_and_holds_its_token(host: str, url: str):
    client = server.web_client(read_settings(ui_host=host, ui_token="correct horse"), 3000)
    assert (client.url, client.token) == (url, "correct horse")
    assert "correct" not in repr(client)


def test_a_folder_is_made_where_there_is_room(tmp_path):
    server.require_space(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - 10**8, 10**8))
    with pytest.raises(StockAssetsError, match=r"is full: 100 MB free, 1000 MB needed.*STOCK_ASSETS_DATA_DIR"):
        server.require_space(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StockAssetsError, match=r"data folder .*file cannot be made: "):
        server.require_space(tmp_path / "file")


def test_a_folder_of_somebody_else_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(StockAssetsError, match=r"cannot be written; expected a folder of your own"):
        server.require_space(tmp_path)


def test_the_home_holds_the_projects_own_configuration(tmp_path):
    settings = read_settings(data_dir=tmp_path)
    home = server.prepare_home(settings)
    target, wanted = home / "dagster.yaml", (PROJECT_DIR / "dagster.yaml").read_text()
    assert target.read_text() == wanted
    written = target.stat().st_mtime_ns
    server.prepare_home(settings)
    assert target.stat().st_mtime_ns == written  # an unchanged file is left alone
    target.write_text("concurrency: {}")
    server.prepare_home(settings)
    assert target.read_text() == wanted
    assert sorted(path.name for path in home.iterdir()) == ["dagster.yaml"]


def test_nothing_starts_on_a_busy_port(tmp_path, listener):
    settings = read_settings(data_dir=tmp_path / "data")
    with pytest.raises(StockAssetsError, match="is busy"), server.dagster_dev(settings, port_of(listener)):
        pytest.fail("it must not get here")
    assert not (tmp_path / "data").exists()


def test_one_server_at_a_time_works_on_a_data_folder(tmp_path):
    home = server.prepare_home(read_settings(data_dir=tmp_path))
    with lock_home(home) as lock:
        lock.write("4711")
        lock.flush()
        with pytest.raises(StockAssetsError, match=r"another .* works on .*process 4711"), lock_home(home):
            pytest.fail("it must not get here")
        heir = subprocess.Popen(["sleep", "600"], pass_fds=(lock.fileno(),))
    try:  # the owner was killed, and its server goes on
        with pytest.raises(StockAssetsError, match="process 4711"), lock_home(home):
            pytest.fail("it must not get here")
    finally:
        heir.kill()
        heir.wait()
    with lock_home(home):
        pass


def test_what_a_killed_server_left_under_way_blocks_nobody(tmp_path, monkeypatch):
    home = server.prepare_home(read_settings(data_dir=tmp_path))
    server.settle_interrupted_runs(home)  # nothing has run yet
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        pools = instance.event_log_storage
        left = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
        done = create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS)
        waiting = create_run_for_test(instance, status=dg.DagsterRunStatus.NOT_STARTED)
        pools.initialize_concurrency_limit_to_default("duckdb")
        assert pools.claim_concurrency_slot("duckdb", left.run_id, "daily_bars").is_claimed
        assert not pools.claim_concurrency_slot("duckdb", waiting.run_id, "labels").is_claimed

        server.settle_interrupted_runs(home)
        statuses = {run.run_id: run.status.value for run in instance.get_runs()}
        assert statuses == {left.run_id: "FAILURE", done.run_id: "SUCCESS", waiting.run_id: "NOT_STARTED"}
        assert pools.claim_concurrency_slot("duckdb", waiting.run_id, "labels").is_claimed


def test_a_server_that_ends_at_once_shows_the_end_of_its_log(tmp_path):
    log = tmp_path / "dagster-dev.log"
    log.write_text("\n".join(f"line {number}" for number in range(40)))
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    with pytest.raises(StockAssetsError, match=r"exit code 3; the end of dagster-dev\.log:\nline 25\n") as caught:
        server.wait_until_ready(DagsterClient(f"http://{HOST}:9"), process, log)
    assert "line 24" not in str(caught.value)


def test_a_server_that_never_listens_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "START_SECONDS", 0.5)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(StockAssetsError, match=r"not ready after 0.5 s; see .*dagster-dev.log"):
            server.wait_until_ready(DagsterClient(f"http://{HOST}:9"), process, tmp_path / "dagster-dev.log")
    finally:
        process.kill()
        process.wait()


def stubborn_family(script: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    script.write_text(STUBBORN)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(2)]
    assert said == [b"ready\n"] * 2
    process.stdout.close()
    return process, [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def test_stopping_ends_what_ignores_the_polite_signal(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "STOP_SECONDS", 0.5)
    process, family = stubborn_family(tmp_path / "stubborn.py")
    assert len(family) == 2
    server.stop(process)
    assert process.poll() is not None
    assert not server.still_running(family, 0)


def test_stopping_ends_the_orphans_of_a_server_that_died(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "STOP_SECONDS", 0.5)
    process, family = stubborn_family(tmp_path / "stubborn.py")
    process.kill()
    process.wait()
    server.stop(process)
    assert not server.still_running(family, 10)


#: Stands for `dagster dev`: it looks at its code server a while after it was told to end, and tells it if that loads.
LEADER = """
import pathlib, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], "grpc"], stdout=subprocess.PIPE)
child.stdout.readline()
def end(*_):
    time.sleep(0.3)
    pathlib.Path("alive" if child.poll() is None else "gone").touch()
    if sys.argv[2] == "loading":
        child.terminate()
    raise SystemExit
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""
#: Stands for a code server, which logs a traceback when it is told to end.
CODE_SERVER = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("traceback").touch())
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("state", "left"), [("loading", []), ("serving", ["alive"])])
def test_a_code_server_is_not_told_and_outlives_what_asks_it(tmp_path: Path, state: str, left: list[str]):
    command = [sys.executable, "-c", LEADER, CODE_SERVER, state]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    server.stop(process, loading=state == "loading")
    process.stdout.close()
    assert [file.name for file in tmp_path.iterdir()] == left


def test_a_log_begins_anew_and_a_bounded_number_of_parts_stays(tmp_path: Path):
    log = tmp_path / server.LOG
    with log.open("ab", buffering=0) as sink:  # as the server writes it
        for number in range(7):
            sink.write(f"{number}".encode() * 100)
            server.rotate(log, 150, log_count=2)
        sink.write(b"end")
    assert {file.name: file.read_text()[0] for file in tmp_path.iterdir()} == {
        "dagster-dev.log": "6",
        "dagster-dev.1.log": "4",
        "dagster-dev.2.log": "2",
    }
    assert log.read_text() == "6" * 100 + "end"
    server.rotate(tmp_path / "none.log")


def test_a_run_that_was_reported_as_failed_without_a_reason_was_not_told_to_end():
    with dg.DagsterInstance.ephemeral() as instance:
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
        instance.report_run_failed(run, "its process is gone")
        assert not server.told_to_end(instance, run)
        server.settle_interrupted(instance)
        (settled,) = instance.get_runs()
        assert server.INTERRUPTED not in settled.tags
