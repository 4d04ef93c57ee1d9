"""The API beside `dagster dev`: kept alive, never in the way, and gone with what started it."""

import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from stock_assets.cli import api
from stock_assets.cli.api import KeptAlive, answers, expected_api
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.materialize.alerts import copy_to_table, open_alerts
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.cli.conftest import Call
from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.servers import listening
from stock_assets_tests.waiting import until

#: A child that counts its starts in the file that it is given, and ends with it or serves until told to end.
ENDS = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(3)"
STAYS = "import sys, time; open(sys.argv[1], 'a').write('x'); print('up', flush=True); time.sleep(600)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(api, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(api, "LOOK_SECONDS", 0.01)


def starts(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.usefixtures("quick")
def test_one_that_ends_is_started_again_ever_later_and_said_once(tmp_path: Path):
    said, count = io.StringIO(), tmp_path / "starts"
    settings = read_settings(data_dir=tmp_path)
    with KeptAlive(settings, Console(file=said, width=300), command=(sys.executable, "-c", ENDS, str(count))) as kept:
        until(lambda: starts(count) >= 4)
        assert expected_api(settings.dagster_home) == kept.url == "http://127.0.0.1:8000"
    assert said.getvalue().count("\n") == 1
    assert "the API ended by itself with exit code 3; it is started again" in said.getvalue()
    assert str(kept.log) in said.getvalue()
    assert expected_api(settings.dagster_home) is None


@pytest.mark.usefixtures("quick")
def test_it_is_ended_on_leaving_and_its_log_is_kept_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings, count = read_settings(data_dir=tmp_path), tmp_path / "starts"
    monkeypatch.setattr(api, "ROTATE_SECONDS", 0.0)
    monkeypatch.setattr(api, "rotate", lambda log: rotated.append(log))
    rotated: list[Path] = []
    with KeptAlive(settings, Console(file=io.StringIO()), command=(sys.executable, "-c", STAYS, str(count))) as kept:
        until(lambda: kept.log.exists() and kept.log.read_text() == "up\n")
        until(lambda: rotated)
        (child,) = [child for child in psutil.Process().children() if str(count) in child.cmdline()]
        child.kill()
        until(lambda: starts(count) == 2)
        family = [child for child in psutil.Process().children() if str(count) in child.cmdline()]
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


#: A child that ends three times, then answers as an API does.
RECOVERS = f"""{ENDS.replace("sys.exit(3)", "open(sys.argv[1]).read() == 'xxxx' or sys.exit(3)")}
from http.server import BaseHTTPRequestHandler, HTTPServer
class Alive(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[2])), Alive).serve_forever()
"""


@pytest.mark.usefixtures("quick")
def test_one_that_keeps_ending_is_an_alert_until_it_answers_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 0.0  # however long its starts take on a busy machine
    monkeypatch.setattr(api, "time", SimpleNamespace(monotonic=lambda: now))
    port = free_port()
    settings, count = read_settings(data_dir=tmp_path, api_port=port), tmp_path / "starts"
    store = Warehouse(settings.database)
    store.replace_table("universe", declared("universe").empty())
    command = (sys.executable, "-c", RECOVERS, str(count), str(port))
    with KeptAlive(settings, Console(file=io.StringIO()), command=command):
        until(lambda: open_alerts(store))
        (record,) = open_alerts(store)
        assert (record.alert.key, record.alert.title) == ("api/ends", "the API keeps ending")
        assert "ended by itself with exit code 3, 3 times in a row" in record.alert.text
        until(lambda: answers(f"http://127.0.0.1:{port}"))
        assert open_alerts(store), "it has not run for long"
        now = 2 * api.STEADY_SECONDS
        until(lambda: not open_alerts(store))
    assert starts(count) == 4
    copy_to_table(store)
    (row,) = store.read("alerts").to_dicts()
    assert row["sent_at"] is not None
    assert row["resolved_at"] > row["last_at"]


@pytest.mark.usefixtures("quick")
def test_a_program_that_is_absent_stops_nothing(tmp_path: Path):
    said = io.StringIO()
    with KeptAlive(read_settings(data_dir=tmp_path), Console(file=said, width=300), command=("/no/such/program",)):
        until(said.getvalue)
    assert "could not be started" in said.getvalue()


def test_a_busy_port_is_one_line_with_the_way_out(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(StockAssetsError, match=f"port {port} is busy.*make run API_PORT=8001"):
            api.require_free_api_port(read_settings(data_dir=tmp_path, api_port=port))


def test_the_real_one_answers_and_ends_with_its_parent(tmp_path: Path):
    """The parent is killed, so that it can end nobody itself."""
    published_folder(tmp_path / "published")
    port = free_port()
    environment = {**os.environ, "STOCK_ASSETS_DATA_DIR": str(tmp_path), "STOCK_ASSETS_API_PORT": str(port)}
    parent = (
        "import subprocess, sys, time; from stock_assets.cli.api import CHILD; "
        "p = subprocess.Popen(CHILD, stdin=subprocess.PIPE, start_new_session=True); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}"))
            process.send_signal(signal.SIGKILL)
            until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
        finally:
            if psutil.pid_exists(child):
                os.kill(child, signal.SIGKILL)
    assert not answers(f"http://127.0.0.1:{port}")


def test_beyond_loopback_serve_asks_for_tokens(call: Call):
    code, _, complaint = call("serve", "--host", "0.0.0.0")
    assert code == 2
    assert "API_HOST=0.0.0.0, where others reach the API; expected STOCK_ASSETS_API_TOKENS as well" in complaint


def test_serve_on_a_busy_port_is_one_line(call: Call):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        code, said, complaint = call("serve", "--port", str(busy.getsockname()[1]))
    assert code == 2
    assert "nothing is published in" in said
    assert "nothing can listen on 127.0.0.1" in complaint
    assert complaint.count("\n") == 1


def test_another_server_is_no_answer():
    with listening(404, b"<html>") as server:
        assert not answers(server.url)
    assert not answers(server.url)
