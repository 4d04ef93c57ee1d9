"""`stock-assets status`: what it says and with which exit code it ends, with no server and whatever ails the store."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets.cli.commands import app
from stock_assets.cli.home import lock_file, lock_home
from stock_assets.lifecycle.alerts import Alert
from stock_assets.lifecycle.materialize.alerts import raise_alarm
from stock_assets.lifecycle.materialize.watch import watch
from stock_assets.settings import read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.cli.conftest import Call
from stock_assets_tests.servers import listening
from stock_assets_tests.tables import rows_of

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
def store(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A store that is predicted through today, and that the daemon has just looked at."""
    monkeypatch.setenv("STOCK_ASSETS_START", "2023-01-03")
    store = Warehouse(data_dir / "stock_assets.duckdb")
    predict(store, datetime.now(UTC).date())
    watch(store, read_settings(), [], now=datetime.now(UTC))
    return store


def predict(store: Warehouse, session: date) -> None:
    rows = rows_of("predictions", pl.DataFrame({"session": [session], "ticker": ["SIM01"]}))
    store.replace_table("predictions", rows)


def test_all_is_well(call: Call, store: Warehouse):  # noqa: ARG001
    code, said, _ = call("status")
    assert code == 0
    predictions, daemon, server, alarms = said.splitlines()
    assert predictions.startswith(f"predictions: fresh: {datetime.now(UTC).date()} is predicted")
    assert daemon.startswith("daemon: alive: the sensor freshness looked ")
    assert (server, alarms) == ("server: none is running", "alarms: none")


def test_a_server_is_seen_by_its_lock(call: Call, store: Warehouse):
    with lock_home(store.path.parent / "dagster") as lock:
        lock.write("4711")
        lock.flush()
        assert "server: alive: process 4711" in call("status")[1].splitlines()
    assert "server: none is running" in call("status")[1].splitlines()


def test_an_api_that_a_server_keeps_alive_and_that_does_not_answer(call: Call, store: Warehouse):
    lock = store.path.parent / "dagster" / "api.lock"
    with listening(200, b'{"status": "alive"}') as server, lock_file(lock, str) as held:
        held.write(server.url)
        held.flush()
        code, said, _ = call("status")
        assert (code, f"API: answers at {server.url}" in said.splitlines()) == (0, True)
        held.truncate(0)
        held.write("http://127.0.0.1:1")
        held.flush()
        code, said, _ = call("status")
        assert (code, "API: DOES NOT ANSWER at http://127.0.0.1:1" in said.splitlines()) == (1, True)
        facts = json.loads(call("status", "--json")[1])
        assert facts["api"] == {"url": "http://127.0.0.1:1", "answers": False}
    assert "API" not in call("status")[1]


def test_a_late_session(call: Call, store: Warehouse):
    predict(store, date(2024, 3, 1))
    code, said, _ = call("status")
    assert code == 1
    assert "session(s) behind: 2024-03-04 was due at 2024-03-05 00:00 UTC" in said.splitlines()[0]
    code, said, _ = call("status", "--json")
    facts = json.loads(said)
    assert (code, facts["code"], facts["fresh"], facts["predicted_through"]) == (1, 1, False, "2024-03-01")
    assert facts["daemon_alive"] is True


def test_a_dead_daemon(call: Call, store: Warehouse, monkeypatch: pytest.MonkeyPatch):
    watch(store, read_settings(), [], now=datetime.now(UTC) - 90 * MINUTE)
    code, said, _ = call("status")
    assert code == 1
    assert "daemon: DEAD: the sensor freshness looked 90 min ago" in said.splitlines()
    predict(store, date(2024, 3, 1))
    monkeypatch.setenv("STOCK_ASSETS_END", "2024-03-01")
    assert call("status")[0] == 0, "a closed snapshot needs none"


def test_an_alarm_and_an_alert_that_waits(call: Call, store: Warehouse):
    class Away:
        name = "away"

        def send(self, alert: Alert, repeated: int) -> None:  # noqa: ARG002
            raise ValueError

    now = datetime.now(UTC)
    raise_alarm(store, [Away()], Alert("key", "labels failed\x1b[31m", "", "run", now), now=now)
    raise_alarm(store, [], Alert("old", "by hand", "", "run", now - 2 * DAY), now=now - 2 * DAY)
    code, said, _ = call("status")
    assert code == 1
    assert f"  labels failed\\x1b[31m (since {now:%Y-%m-%d %H:%M} UTC, waits for a channel)" in said.splitlines()
    assert "by hand" not in said, "nobody knows when a run that a person started is over"
    facts = json.loads(call("status", "--json")[1])
    assert ([alarm["key"] for alarm in facts["alarms"]], facts["alerts_waiting"]) == (["key"], 1)


def test_nothing_can_be_seen(call: Call, store: Warehouse):
    store.path.write_bytes(b"damaged" * 1000)
    code, said, _ = call("status")
    assert code == 2
    assert said.startswith(f"predictions: cannot be seen: {store.path} cannot be read")
    store.path.unlink()
    code, said, _ = call("status", "--json")
    assert (code, json.loads(said)["fresh"]) == (2, None)
    assert "is gone" in json.loads(said)["trouble"]
    (store.path.parent / "last_look.json").unlink()
    code, said, _ = call("status")
    assert code == 2
    assert "there is no store at" in said
    (store.path.parent / "last_look.json").write_text("{")
    code, _, complaint = call("status")
    assert code == 2
    assert "last_look.json is damaged" in complaint


def test_the_daemon_answers_for_a_store_that_is_held(call: Call, store: Warehouse):
    code = f"import duckdb, sys; c = duckdb.connect({str(store.path)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        exit_code, said, _ = call("status")
        file = store.path.parent / "last_look.json"
        hours_ago = (datetime.now(UTC) - 3 * 60 * MINUTE).isoformat()
        file.write_text(json.dumps(json.loads(file.read_text()) | {"looked_at": hours_ago}))
        later, blind, _ = call("status")
        holder.kill()
    assert exit_code == 0
    assert "that is what the daemon saw" in said
    assert later == 2
    assert "cannot be seen: stock_assets.duckdb was locked by another process" in blind


def test_a_crash_of_the_command_line_shows_no_local_variable():
    assert app.pretty_exceptions_show_locals is False
