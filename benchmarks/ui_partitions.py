"""The UI with twenty years of every asset: how long the server computes for the pages that show partitions.

    python -m benchmarks ui_partitions [--start 2000-01-03] [--pictures FOLDER]

An event log is filled with a materialization of every session of every asset that is partitioned by sessions, by a run
of assets of the same names that compute nothing. Then Dagster's web server serves the platform's definitions on it, and
the questions that its pages ask are asked: each once and three times more. The first of all, for the status of all
assets, meets a log of which nobody has asked yet. Seconds of the processor are those of the server and what it starts;
the daemon does not run. With --pictures three pages are drawn by chromium.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import dagster as dg
import psutil
import requests

from benchmarks.common import Target, preamble, table, targets, use
from stock_assets.cli.server import prepare_home
from stock_assets.private.dagster import add_partition_metadata
from stock_assets.settings import PREFIX, PROJECT_DIR, Settings

#: Seconds that a page may take.
LIMIT = 2.0
#: Seconds that the web server may take to start.
START_SECONDS = 300
#: Seconds after which a page is given up.
PAGE_SECONDS = 60
#: The asset whose pages are asked for.
ASSET = "stationary_features"
#: The questions, by page; each is about one asset where it takes `key`; in this order.
QUESTIONS = {
    "catalog: status of all assets": """query { assetNodes { id assetKey { path }
        partitionStats { numMaterialized numPartitions numFailed numMaterializing } } }""",
    "asset page: partitions": """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        id partitionKeysByDimension { name type partitionKeys }
        assetPartitionStatuses { __typename
            ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } }
            ... on DefaultPartitionStatuses { materializedPartitions failedPartitions materializingPartitions }
        } } } }""",
    "asset page: overview": """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        id description partitionStats { numMaterialized numPartitions numFailed numMaterializing }
        assetMaterializations(limit: 100) { timestamp partition runId metadataEntries { label } } } } }""",
    "asset page: one partition": """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
        ... on AssetNode {
            id latestMaterializationByPartition(partitions: ["2019-12-30"]) { timestamp partition } } } }""",
    "catalog: all assets": """query { assetNodes { id assetKey { path } groupName description kinds
        partitionDefinition { description } assetMaterializations(limit: 1) { timestamp partition } } }""",
}
#: What chromium draws, and a text that stands there once the partitions were read.
PAGES = {
    "asset": (f"/assets/{ASSET}", "2019-12-31"),
    "partitions": (f"/assets/{ASSET}?view=partitions", "2019-12-30"),
    "catalog": ("/assets", " partitions"),
}


class Page(NamedTuple):
    """What one question took."""

    name: str
    first: float
    """seconds of the server's processors, the first time"""
    processor: float
    """the same later, the median"""
    wall: float
    size: int
    """bytes of the answer"""


def settings_of(folder: Path, start: str) -> Settings:
    variables = {"CONFIG": "off", "SOURCE": "simulated", "START": start, "END": "2019-12-31", "TICKERS": "SIM01,SIM02"}
    os.environ |= {PREFIX + name: value for name, value in variables.items()}
    return use(folder / "data")


def fill(config: Settings) -> tuple[list[str], int]:
    """Fills the event log: (the names of the assets that are partitioned by sessions, their partitions together)."""
    from stock_assets.cli.serve import load_definitions

    prepare_home(config)
    graph = load_definitions().get_repository_def().asset_graph
    by_days: dict[dg.PartitionsDefinition, list[dg.AssetKey]] = {}
    for key in sorted(graph.get_all_asset_keys()):
        days = graph.get(key).partitions_def
        if isinstance(days, dg.DailyPartitionsDefinition) and graph.get(key).is_materializable:
            by_days.setdefault(days, []).append(key)
    total = 0
    with dg.DagsterInstance.get() as instance:
        for days, keys in by_days.items():
            partitions = days.get_partition_keys()
            total += len(partitions) * len(keys)
            tags = {
                "dagster/asset_partition_range_start": partitions[0],
                "dagster/asset_partition_range_end": partitions[-1],
            }
            quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
            dg.materialize([_empty(key, days) for key in keys], instance=instance, tags=tags, run_config=quiet)
    return [str(key.path[-1]) for keys in by_days.values() for key in keys], total


def _empty(key: dg.AssetKey, days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(key=key, partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def nothing(context: dg.AssetExecutionContext) -> None:
        add_partition_metadata(context, context.asset_key, {day: {"rows": 498} for day in context.partition_keys})

    return nothing


@contextmanager
def served() -> Iterator[tuple[str, psutil.Process]]:
    """The address of the web server alone, with the definitions, and its process. Raises RuntimeError where it ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-m", "stock_assets.definitions", "-p", str(port)]
    with subprocess.Popen(command, cwd=PROJECT_DIR, stderr=subprocess.DEVNULL) as process:
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
        try:
            while process.poll() is None and time.monotonic() < end:
                try:
                    requests.get(f"{address}/server_info", timeout=5).raise_for_status()
                    break
                except requests.RequestException:
                    time.sleep(0.2)
            else:
                raise RuntimeError(f"the web server did not answer within {START_SECONDS} s")
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


def asked(address: str, server: psutil.Process, name: str, *, asset: str, times: int) -> Page:
    """What the question `name` takes, the first time and later. Raises RuntimeError for an answer that is an error."""
    measurements = []
    for _ in range(times + 1):
        before, start = _processor(server), time.monotonic()
        body = {"query": QUESTIONS[name], "variables": {"key": {"path": [asset]}}}
        answer = requests.post(f"{address}/graphql", json=body, timeout=START_SECONDS)
        if answer.status_code != requests.codes.ok or "errors" in answer.json():
            raise RuntimeError(f"{name}: {answer.text[:500]}")
        measurements.append((_processor(server) - before, time.monotonic() - start, len(answer.content)))
    processor, wall, size = (median(column) for column in zip(*measurements[1:], strict=True))
    return Page(name, measurements[0][0], processor, wall, int(size))


def _processor(server: psutil.Process) -> float:
    """Seconds of the processors that the server and what it started took."""
    return sum(sum(one_process.cpu_times()[:2]) for one_process in (server, *server.children(recursive=True)))


def draw(address: str, folder: Path) -> list[tuple[str, float]]:
    """Draws `PAGES` into `folder`: (page, seconds until its text is there) of each."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    seconds_of_pages = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, (path, text) in PAGES.items():
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            start = time.monotonic()
            page.goto(f"{address}{path}")
            page.get_by_text(text).first.wait_for(timeout=1000 * PAGE_SECONDS)
            seconds_of_pages.append((name, time.monotonic() - start))
            page.screenshot(path=folder / f"{name}.png")
            page.close()
        browser.close()
    return seconds_of_pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="2000-01-03", help="the first session")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    preamble()
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    with tempfile.TemporaryDirectory() as folder:
        names, partitions = fill(settings_of(Path(folder), options.start))
        print(f"{len(names)} assets, {partitions:,} partitions together.\n", flush=True)
        with served() as (address, server):
            pages = []
            for name in QUESTIONS:
                pages.append(asked(address, server, name, asset=ASSET, times=3))
                print(f"{pages[-1]}", file=sys.stderr, flush=True)
            print(table(("page", "first, processor s", "later", "wall, s", "bytes"), pages), flush=True)
            if options.pictures:
                print(table(("page in chromium", "wall, s"), draw(address, options.pictures)))
    print(targets(*(Target(f"{page.name}, processor s", page.processor, LIMIT) for page in pages)))


if __name__ == "__main__":
    main()
