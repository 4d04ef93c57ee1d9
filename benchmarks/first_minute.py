"""The first minute: from `stock-assets run` in an empty folder to the graph, to tonight's predictions and to the score.

    python -m benchmarks.first_minute

The simulated default market, as `make run` makes it after its installation. The seconds are those of the moments at
which Dagster recorded an asset's newest partition, and the command's own lines.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

import requests

from benchmarks.common import preamble, table
from stock_assets.settings import PREFIX, PROJECT_DIR

#: The milestones after the graph: what a user waits for, and the asset that is made last of it.
MILESTONES = {
    "bars in the store": "daily_bars",
    "features and components": "pca_components",
    "labels": "labels",
    "the models": "trained_ensemble",
    "**predictions of every session, tonight's last**": "predictions",
    "reference models, report, audit and back-tests too": "leakage_audit",
}
#: The command's own line after the score is published.
SCORED = "Browse the graph"
PATIENCE, POLL = 1200.0, 0.25
NEWEST = """query Newest($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
  assetKey { path } assetMaterializations(limit: 1) { timestamp } } }"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def newest_materializations(port: int) -> dict[str, float]:
    """Seconds since 1970 of the newest materialization of each asset of MILESTONES; none while the server starts."""
    variables = {"keys": [{"path": [asset]} for asset in MILESTONES.values()]}
    try:
        answer = requests.post(
            f"http://127.0.0.1:{port}/graphql", json={"query": NEWEST, "variables": variables}, timeout=30
        ).json()
    except (requests.ConnectionError, requests.JSONDecodeError):
        return {}
    nodes = (answer.get("data") or {}).get("assetNodes") or []
    return {
        node["assetKey"]["path"][0]: float(node["assetMaterializations"][0]["timestamp"]) / 1000
        for node in nodes
        if node["assetMaterializations"]
    }


def timed_run(folder: Path) -> dict[str, float]:
    """Seconds since the command until each milestone. Raises TimeoutError after PATIENCE seconds, RuntimeError where
    the command ends by itself."""
    port, start = free_port(), time.time()
    settings = {"CONFIG": "off", "DATA_DIR": str(folder / "data"), "API_PORT": str(free_port())}
    of_run = os.environ | {PREFIX + name: value for name, value in settings.items()} | {"PORT": str(port)}
    of_run.pop("DAGSTER_HOME", None)
    lines: list[tuple[float, str]] = []
    command = [sys.executable, "-m", "stock_assets.cli.main", "run"]
    with subprocess.Popen(
        command, cwd=PROJECT_DIR, env=of_run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        reader = Thread(target=lambda: lines.extend((time.time(), line) for line in run.stdout or ()), daemon=True)
        reader.start()
        try:
            seconds = _milestones(run, port, lines, start)
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(120)
    return seconds


def _milestones(
    run: "subprocess.Popen[str]", port: int, lines: list[tuple[float, str]], start: float
) -> dict[str, float]:
    graph, scored_at, materialized_at = None, None, {}
    while scored_at is None or not set(MILESTONES.values()) <= set(materialized_at):
        if run.poll() is not None:
            raise RuntimeError(f"it ended with {run.returncode}:\n{''.join(line for _, line in lines[-20:])}")
        if time.time() - start > PATIENCE:
            raise TimeoutError(f"after {PATIENCE:.0f} s there is only {', '.join(materialized_at)}")
        time.sleep(POLL)
        if graph is None and web_server_answers(port):
            graph = time.time()
        materialized_at = newest_materializations(port) if graph else {}
        scored_at = next((moment for moment, line in lines if SCORED in line), None)
    moments = {"the graph in the browser": graph or start}
    moments |= {name: materialized_at[asset] for name, asset in MILESTONES.items()}
    moments["**report, ledger and pages: the score is shown**"] = scored_at
    return {name: moment - start for name, moment in sorted(moments.items(), key=lambda item: item[1])}


def web_server_answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/server_info", timeout=5).ok
    except requests.RequestException:
        return False


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table(("there is", "seconds"), list(timed_run(Path(folder)).items())))


if __name__ == "__main__":
    preamble()
    main()
