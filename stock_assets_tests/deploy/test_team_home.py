"""The instance of the compose files: Postgres behind it, and the guard in front of its web server."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import requests

from stock_assets_tests.deploy.tools import DEPLOY, free_port
from stock_assets_tests.team.postgres import Server
from stock_assets_tests.waiting import HANG_SECONDS, until

TOKEN = "a token of the test"


def web_server(home: Path, address: str, host: str, port: int, **variables: str) -> "subprocess.Popen[str]":
    home.mkdir(exist_ok=True)
    shutil.copy(DEPLOY / "compose" / "dagster.yaml", home)
    text = (home / "dagster.yaml").read_text().replace("/var/lib/dagster", str(home))
    (home / "dagster.yaml").write_text(text)
    (home / "workspace.yaml").write_text("load_from: []\n")
    command = ["-m", "dagster_webserver", "--host", host, "--port", str(port), "-w", str(home / "workspace.yaml")]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "STOCK_ASSETS_DAGSTER": address, **variables}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def status(url: str, **headers: str) -> int | None:
    try:
        return requests.get(url, headers=headers, timeout=HANG_SECONDS).status_code
    except requests.ConnectionError:
        return None


def test_a_web_server_on_postgres_asks_for_the_token(postgres: Server, tmp_path: Path):
    port = free_port()
    address = postgres.database("guarded")
    process = web_server(tmp_path / "home", address, "0.0.0.0", port, STOCK_ASSETS_UI_TOKEN=TOKEN)
    try:
        url = f"http://127.0.0.1:{port}/server_info"
        until(lambda: process.poll() is not None or status(url))
        assert process.poll() is None, process.communicate()[0]
        assert status(url) == 401
        assert status(url, Authorization=f"Bearer {TOKEN}") == 200
        assert status(url, Authorization=f"Bearer {TOKEN}", Host="elsewhere.example") == 403
        assert postgres.execute("SELECT count(*) FROM instance_info", "guarded") != []
    finally:
        process.terminate()
        process.communicate()


def test_without_a_token_it_does_not_listen_beyond_loopback(postgres: Server, tmp_path: Path):
    process = web_server(tmp_path / "home", postgres.database("unguarded"), "0.0.0.0", free_port())
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "or a token in STOCK_ASSETS_UI_TOKEN" in printed
    assert "Traceback" not in printed


def test_an_address_without_its_driver_is_one_line(postgres: Server, tmp_path: Path):
    address = postgres.address().replace("+psycopg2", "")
    process = web_server(tmp_path / "home", address, "127.0.0.1", free_port())
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "expected postgresql+psycopg2://" in printed
    assert "secret" not in printed
    assert "Traceback" not in printed
