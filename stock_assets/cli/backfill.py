"""Backfills through the running daemon: what is missing, launched once and followed to its end."""

import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console

from stock_assets.cli.graphql import DagsterClient
from stock_assets.cli.progress import AssetProgress, view_on
from stock_assets.errors import StockAssetsError
from stock_assets.lifecycle.partitions import FOLLOWED_BY, ON_DEMAND, WHOLE, Keys, ranges_of
from stock_assets.lifecycle.references import BACK_TESTS
from stock_assets.market.sources import staging
from stock_assets.market.sources.budget import Pace
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_END_TAG as RANGE_END
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_START_TAG as RANGE_START
from stock_assets.private.dagster import PARTITION_NAME_TAG as PARTITION

#: Keys of every asset to backfill, in flow order; None for an unpartitioned asset.
Targets = dict[str, list[str] | None]
POLL_SECONDS = 2.0
FINISHED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
#: How long a Ctrl-C waits for the runs of its backfill to end.
CANCEL_SECONDS = 60.0
RUN_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
#: The asset that waits for a vendor.
FETCHED = "raw_ohlcv"


@dataclass(frozen=True)
class Stage:
    """A part of the graph that `make run` makes, in runs one after the other."""

    reason: str
    """why its runs are asked for"""
    assets: tuple[str, ...]
    """those that the graph lacks are passed over"""
    again: tuple[str, ...]
    """assets that are made again whenever anything before them was missing; of one with partitions the last"""


#: The models that no prediction waits for, the audit, the reports that compare with them, and the back-tests.
LATER = Stage(
    "make run: references, audit and back-tests",
    ("trained_references", "reference_predictions", "leakage_audit", *BACK_TESTS),
    ("leakage_audit", "evaluation_report", *BACK_TESTS, "publication"),
)
#: All other assets.
FIRST = Stage("make run: what was missing at its start", (), ("evaluation_report", "operations", "publication"))


def partition_keys(defs: dg.Definitions, now: datetime) -> dict[str, Sequence[str] | None]:
    """Every asset in flow order with all its partition keys at `now`, None where it has none."""
    from stock_assets.definitions import comparison

    return comparison.keys_of(defs.get_repository_def(), now)


def missing(keys: Keys, materialized_keys: Mapping[str, Collection[str]], stage: Stage = FIRST) -> Targets:
    """What of `stage` is not in `materialized_keys` (`partitions.held_by_both`), and what is made again when anything
    was missing; in the order of `keys`. Nothing of it is ON_DEMAND."""
    targets: Targets = {}
    for asset, all_keys in keys.items():
        present_keys = set(materialized_keys.get(asset, ())) - _made_again(asset, targets)
        of_asset = [WHOLE] if all_keys is None else all_keys
        missing_keys = [key for key in of_asset if key not in present_keys] if _belongs(asset, stage) else []
        if asset in stage.again and targets and of_asset[-1] not in missing_keys:
            missing_keys.append(of_asset[-1])
        if missing_keys:
            targets[asset] = None if all_keys is None else missing_keys
    return targets


def _made_again(asset: str, targets: Targets) -> set[str]:
    """The partitions of `asset` that follow those of `targets`."""
    leaders = [leader for leader, following in FOLLOWED_BY.items() if asset in following]
    return {key for leader in leaders for key in targets.get(leader) or ()}


def _belongs(asset: str, stage: Stage) -> bool:
    if asset in ON_DEMAND:
        return False
    return asset not in LATER.assets if stage is FIRST else asset in stage.assets


def within(
    keys: Mapping[str, Sequence[str] | None], start: date, end: date, *, assets: Sequence[str] | None
) -> Targets:
    """The partitions from `start` to `end`, both included, of `assets`; of all that are partitioned and not ON_DEMAND
    when None.

    Raises StockAssetsError for a reversed range, an unknown asset, or a range without a partition.
    """
    if start > end:
        raise StockAssetsError(f"--start {start} lies after --end {end}; expected the earlier day first")
    if unknown := sorted(set(assets or ()) - set(keys)):
        raise StockAssetsError(f"there is no asset {unknown[0]}; expected one of {', '.join(keys)}")
    targets: Targets = {}
    for asset, all_keys in keys.items():
        if asset not in assets if assets is not None else asset in ON_DEMAND:
            continue
        if all_keys is None:
            if assets is not None:
                targets[asset] = None
            continue
        # a model year is its four digits: it is chosen when the range touches it
        chosen_keys = [key for key in all_keys if str(start)[: len(key)] <= key <= str(end)[: len(key)]]
        if chosen_keys:
            targets[asset] = chosen_keys
    if not targets:
        raise StockAssetsError(f"no asset has a partition from {start} to {end}")
    return targets


def launch(client: DagsterClient, targets: Targets, keys: Mapping[str, Sequence[str] | None], *, title: str) -> str:
    """The id of the one backfill that covers `targets`."""
    ranges = {
        asset: None if chosen_keys is None else ranges_of(chosen_keys, keys[asset] or ())
        for asset, chosen_keys in targets.items()
    }
    return client.launch(ranges, title)


def follow(
    client: DagsterClient,
    backfill_id: str,
    keys: Mapping[str, Sequence[str] | None],
    *,
    console: Console,
    staged: Path | None = None,
) -> None:
    """Shows how far every asset is until the backfill is over, and how far a fetch is whose answers wait in `staged`.

    Raises StockAssetsError with the first failure of every failed run.
    """
    read_fetch_progress = fetch_progress(staged)
    with view_on(console) as view:
        while True:
            state = client.backfill(backfill_id)
            assets = assets_of(client, state, keys, read_fetch_progress=read_fetch_progress)
            view.show(assets)
            # the daemon itself notices later
            complete = (
                bool(assets)
                and all(progress.complete for progress in assets)
                and all(run["status"] in RUN_ENDED for run in state["runs"])
            )
            if complete or state["status"] in FINISHED:
                break
            time.sleep(POLL_SECONDS)
    problems = [text for run in state["runs"] if run["status"] == "FAILURE" for text in client.failures(run["id"])[:1]]
    if state["error"]:
        problems.append(state["error"]["message"].strip())
    if problems or not (complete or state["status"] in ("COMPLETED_SUCCESS", "COMPLETED")):
        raise StockAssetsError("\n".join(problems) or f"the backfill ended as {state['status']}")


@contextmanager
def cancelled_by_ctrl_c(client: DagsterClient, launch: Callable[[], str], console: Console) -> Iterator[str]:
    """The id of the backfill that `launch` launches. A Ctrl-C from then on ends the backfill in the daemon too, with
    its runs, before it goes on as KeyboardInterrupt.

    One that comes while the server takes an order waits for the answer: without it nobody would know what goes on.
    """
    signals: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: signals.append(number))
    try:
        backfill_id = launch()
        try:
            signal.signal(signal.SIGINT, before)
            if signals:
                raise KeyboardInterrupt
            yield backfill_id
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # people press twice
            client.cancel(backfill_id)
            signal.signal(signal.SIGINT, before)
            _wait_until_over(client, backfill_id, console)
            raise
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_until_over(client: DagsterClient, backfill_id: str, console: Console) -> None:
    """Shows what became of a backfill that was cancelled, once it is over or CANCEL_SECONDS have passed."""
    console.print("cancelling the backfill …", highlight=False)
    deadline = time.monotonic() + CANCEL_SECONDS
    while (status := client.backfill(backfill_id)["status"]) not in FINISHED and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 4)
    state = "it is over" if status in FINISHED else f"it is not over yet; see {client.url}/runs/b/{backfill_id}"
    text = f"{state}. What it made stays, whole sessions only; the same command makes all of its range again"
    console.print(text, highlight=False, soft_wrap=True)


def assets_of(
    client: DagsterClient,
    state: Mapping[str, Any],
    keys: Mapping[str, Sequence[str] | None],
    *,
    read_fetch_progress: Callable[[], str | None],
) -> list[AssetProgress]:
    """How far every asset of a backfill in `state` is; `read_fetch_progress` returns how far a fetch under way is."""
    statuses = {
        "/".join(status["assetKey"]["path"]): status
        for status in (state["assetBackfillData"] or {}).get("assetBackfillStatuses", [])
    }
    finished_counts, running = finished_partitions(state["runs"], client.latest_runs(statuses), keys)
    assets = []
    for asset, status in statuses.items():
        materialized_count = status.get("numPartitionsMaterialized", int(status.get("materialized", False)))
        failed_count = status.get("numPartitionsFailed", int(status.get("failed", False)))
        text = f"{failed_count} failed" if failed_count else "running" if asset in running else ""
        if text == "running" and asset == FETCHED:
            text = read_fetch_progress() or text
        total = status.get("numPartitionsTargeted", 1)
        assets.append(AssetProgress(asset, max(finished_counts.get(asset, 0), materialized_count), total, text))
    return assets


def fetch_progress(staged: Path | None) -> Callable[[], str | None]:
    """A function that returns how far the fetch is whose answers wait in the folder `staged`, None without one."""
    texts: list[str] = []
    pace = Pace("running", texts.append, every=0)

    def fetched() -> str | None:
        if staged is None or (counts := staging.progress(staged)) is None:
            return None
        pace(*counts)
        return texts[-1]

    return fetched


def finished_partitions(
    runs: Sequence[dict],
    latest: Mapping[str, tuple[str | None, set[str]]],
    keys: Mapping[str, Sequence[str] | None],
) -> tuple[dict[str, int], set[str]]:
    """(partitions done per asset, assets under way): finer than the backfill's own count, which the daemon
    renews when it looks. A run stores all partitions of an asset at once, when it is done with it."""
    finished_keys: dict[str, set[str]] = {}
    running: set[str] = set()
    for run in runs:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        first = tags.get(RANGE_START, tags.get(PARTITION, ""))
        last = tags.get(RANGE_END, tags.get(PARTITION, ""))
        for asset in ("/".join(asset_key["path"]) for asset_key in run["assetSelection"] or ()):
            made_last_by, made_next_by = latest.get(asset, (None, set()))
            if run["status"] == "SUCCESS" or made_last_by == run["id"]:
                of_asset = keys.get(asset)
                covered_keys = [""] if of_asset is None else [key for key in of_asset if first <= key <= last]
                finished_keys.setdefault(asset, set()).update(covered_keys)
            elif run["id"] in made_next_by:
                running.add(asset)
    return {asset: len(covered_keys) for asset, covered_keys in finished_keys.items()}, running
