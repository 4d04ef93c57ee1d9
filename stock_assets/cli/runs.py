"""What `make run` makes: runs through the running daemon, launched one after the other and followed to their ends.

A backfill of Dagster's makes one run per partition set and layer of the graph, and waits for the daemon before each.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from stock_assets.cli.backfill import (
    FETCHED,
    RANGE_END,
    RANGE_START,
    RUN_ENDED,
    Targets,
    fetch_progress,
    finished_partitions,
)
from stock_assets.cli.graphql import DagsterClient
from stock_assets.cli.progress import AssetProgress, View, view_on
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.evening import ASKED_BY, FOLLOWED, MAKE_RUN, WORK, Work
from stock_assets.lifecycle.partitions import Keys

POLL_SECONDS = 0.5


def make_in_turn(
    client: DagsterClient,
    works: Sequence[Work],
    targets: Targets,
    *,
    keys: Keys,
    console: Console,
    staged: Path | None = None,
) -> None:
    """Makes `works`, which make `targets`, and shows how far every asset is; and how far a fetch is whose answers wait
    in `staged`.

    Raises StockAssetsError with the first failure of a run that did not succeed; the works after it are not begun.
    """
    read_fetch_progress, ended_runs = fetch_progress(staged), []
    with view_on(console) as view:
        for work in works:
            run_id = client.launch_run(work.assets, tags_of(work, is_followed=work is not works[-1]))
            while (run := client.run(run_id))["status"] not in RUN_ENDED:
                _show(
                    view,
                    client,
                    [*ended_runs, run],
                    targets=targets,
                    keys=keys,
                    read_fetch_progress=read_fetch_progress,
                )
                time.sleep(POLL_SECONDS)
            ended_runs.append(run)
            _show(view, client, ended_runs, targets=targets, keys=keys, read_fetch_progress=read_fetch_progress)
            if run["status"] != "SUCCESS":
                failures = client.failures(run_id)[:1] or [f"run {run_id} ended as {run['status']}"]
                raise StockAssetsError(failures[0])


def tags_of(work: Work, *, is_followed: bool) -> dict[str, str]:
    """The tags of the run of `work`, which another run follows at once or not."""
    tags = {ASKED_BY: MAKE_RUN, WORK: f"{MAKE_RUN}: {work.name}"}
    if is_followed:
        tags[FOLLOWED] = "true"
    if work.first is not None and work.last is not None:
        tags |= {RANGE_START: work.first, RANGE_END: work.last}
    return tags


def _show(
    view: View,
    client: DagsterClient,
    runs: Sequence[dict[str, Any]],
    *,
    targets: Targets,
    keys: Keys,
    read_fetch_progress: Callable[[], str | None],
) -> None:
    """Shows the assets of `targets` as the runs that began have made them."""
    finished_counts, running = finished_partitions(runs, client.latest_runs(targets), keys)
    ended_runs = [run for run in runs if run["status"] in RUN_ENDED]
    failed_assets = {
        "/".join(key["path"]) for run in ended_runs for key in run["assetSelection"] if run["status"] != "SUCCESS"
    }
    assets = []
    for asset, chosen_keys in targets.items():
        total = 1 if chosen_keys is None else len(chosen_keys)
        made_count = min(finished_counts.get(asset, 0), total)
        state = "failed" if asset in failed_assets and made_count < total else "running" if asset in running else ""
        if state == "running" and asset == FETCHED:
            state = read_fetch_progress() or state
        assets.append(AssetProgress(asset, made_count, total, state))
    view.show(assets)
