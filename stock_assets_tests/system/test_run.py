"""`make run` as a stranger meets it: it says what it made and how good it is, and it ends without a trace."""

import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stock_assets.cli.backfill import LATER, ON_DEMAND
from stock_assets.model.registry import naive_baselines
from stock_assets.settings import PROJECT_DIR
from stock_assets_tests.system.chain import small_market
from stock_assets_tests.system.conftest import COMPLETE, MINUTES, Server, environment, free_port, start, stock_assets
from stock_assets_tests.tables import HISTORIES, NAMED_ALONE, ROOMS

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system")]


def test_a_busy_port_is_one_clear_line(server: Server, tmp_path):
    other = small_market(tmp_path / "other")
    refused = stock_assets(other, "run", "--port", str(server.port))
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"stock-assets: port {server.port} is busy: another program listens on it")
    assert refused.stderr.count("\n") == 1
    assert not other.data_dir.exists()


def test_two_servers_never_share_a_data_folder(server: Server, unused_port: int):
    refused = stock_assets(server.settings, "run", "--port", str(unused_port))
    assert refused.returncode == 2
    assert "another stock-assets run works on" in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("stock-assets: another stock-assets run")


def test_a_server_started_by_hand_is_not_left_open_to_the_network(tmp_path: Path):
    """Its web server is a process of its own, which would not tell before its parent ends."""
    refused = subprocess.run(
        [sys.executable, "-m", "dagster", "dev", "-h", "0.0.0.0", "-p", str(free_port())],
        env=environment(small_market(tmp_path / "data")),
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=10 * MINUTES,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "Error: the web server is to listen on '0.0.0.0', where others reach it; expected an address of loopback, such "
        "as 127.0.0.1, or a token in STOCK_ASSETS_UI_TOKEN"
    )
    assert "Traceback" not in refused.stderr
    assert "Launching Dagster services" not in refused.stderr


def test_the_summary_says_what_there_is_and_how_good_it_is(server: Server, summary: str):
    counts = dict(re.findall(r"│ (\w+) +│ ([\d,]+) +│", summary))
    not_yet = (*ON_DEMAND, *LATER.assets, *HISTORIES, *NAMED_ALONE)
    assert [table for table in counts if table not in HISTORIES] == [table for table in ROOMS if table not in not_yet]
    # no challenger has been judged yet, and a history may have nothing to tell
    told = {table: int(count.replace(",", "")) for table, count in counts.items()}
    assert all(count > 0 for table, count in told.items() if table not in ("promotions", *HISTORIES))
    assert re.search(r"^ +\d+ s +$", summary, re.MULTILINE)
    score = re.search(
        r"(\w+) log-loss (\d\.\d{4}) \[\d\.\d{4}, \d\.\d{4}\], accuracy 0\.\d{3}; "
        r"best naive baseline (\w+) log-loss (\d\.\d{4}), accuracy 0\.\d{3}",
        summary,
    )
    assert score, summary
    assert score[1] not in naive_baselines()
    assert score[3] in naive_baselines()
    assert f"Browse the graph at {server.url}/asset-groups" in summary
    assert "SIMULATED" in summary
    assert "not complete" not in summary
    assert "Traceback" not in summary


@dataclass
class Stopped:
    """What was known of the server before Ctrl-C ended it."""

    server: Server
    run_ids: set[str]


@pytest.fixture(scope="module")
def stopped(server: Server, summary: str) -> Stopped:  # noqa: ARG001
    run_ids = {run["id"] for run in server.runs()}
    server.stop(signal.SIGINT)
    return Stopped(server, run_ids)


def test_ctrl_c_ends_everything(stopped: Stopped):
    assert stopped.server.said().rstrip().endswith("stopped")
    assert "Traceback" not in stopped.server.said()


def test_a_second_start_makes_nothing_anew_and_sigterm_ends_it(stopped: Stopped):
    again = start(stopped.server.settings, stopped.server.port)
    try:
        said = again.wait_until_it_says(COMPLETE, 180)
        assert "everything is materialized already" in said
        assert "log-loss" in said
        # the first start may have been stopped before the references, which no prediction waits for
        later = {*LATER.assets, *LATER.again}
        for run in (run for run in again.runs() if run["id"] not in stopped.run_ids):
            assert {"/".join(key["path"]) for key in run["assetSelection"]} <= later
        again.stop(signal.SIGTERM)
        assert again.said().rstrip().endswith("stopped")
    finally:
        again.end_by_force()
