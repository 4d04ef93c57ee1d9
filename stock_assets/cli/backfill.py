"""Backfills through the running daemon: what is missing, launched once, with a bar per asset."""

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from stock_assets.cli.graphql import DagsterClient
from stock_assets.errors import StockAssetsError
from stock_assets.market.sources import staging
from stock_assets.market.sources.budget import Pace
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_END_TAG as RANGE_END
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_START_TAG as RANGE_START
from stock_assets.private.dagster import PARTITION_NAME_TAG as PARTITION

#: Keys of every asset to backfill, in flow order; None for an unpartitioned asset.
Targets = dict[str, list[str] | None]
POLL_SECONDS = 2.0
FINISHED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
RUN_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
#: Judged anew whenever anything before them changed.
REPORTS = ("evaluation_report", "leakage_audit", "operations")
#: The asset that waits for a vendor.
FETCHED = "raw_ohlcv"
#: Costs too much for a first look, and nothing waits for it: made when a person asks for it.
ON_DEMAND = ("tuned_hyperparameters",)


def partition_keys(defs: dg.Definitions, now: datetime) -> dict[str, Sequence[str] | None]:
    """Every asset in flow order with all its partition keys at `now`, None where it has none."""
    graph = defs.resolve_asset_graph()
    keys = {}
    for key in graph.toposorted_asset_keys:
        partitions = graph.get(key).partitions_def
        keys[key.to_user_string()] = partitions.get_partition_keys(current_time=now) if partitions else None
    return keys


def missing(instance: dg.DagsterInstance, keys: Mapping[str, Sequence[str] | None]) -> Targets:
    """What was never materialized; the reports as well when anything before them is missing, nothing ON_DEMAND."""
    targets: Targets = {}
    for asset, all_keys in keys.items():
        if asset in ON_DEMAND:
            continue
        asset_key = dg.AssetKey(asset)
        if all_keys is None:
            if (asset in REPORTS and targets) or instance.get_latest_materialization_event(asset_key) is None:
                targets[asset] = None
        else:
            done = instance.get_materialized_partitions(asset_key)
            if absent := [key for key in all_keys if key not in done]:
                targets[asset] = absent
    return targets


def within(keys: Mapping[str, Sequence[str] | None], start: date, end: date, assets: Sequence[str] | None) -> Targets:
    """The partitions from `start` to `end`, both included, of `assets` (all partitioned ones when None).

    Raises StockAssetsError for a reversed range, an unknown asset, or a range without a partition.
    """
    if start > end:
        raise StockAssetsError(f"--start {start} lies after --end {end}; expected the earlier day first")
    if unknown := sorted(set(assets or ()) - set(keys)):
        raise StockAssetsError(f"there is no asset {unknown[0]}; expected one of {', '.join(keys)}")
    targets: Targets = {}
    for asset, all_keys in keys.items():
        if assets is not None and asset not in assets:
            continue
        if all_keys is None:
            if assets is not None:
                targets[asset] = None
            continue
        # a model year is its four digits: it is chosen when the range touches it
        chosen = [key for key in all_keys if str(start)[: len(key)] <= key <= str(end)[: len(key)]]
        if chosen:
            targets[asset] = chosen
    if not targets:
        raise StockAssetsError(f"no asset has a partition from {start} to {end}")
    return targets


def ranges_of(chosen: Sequence[str], all_keys: Sequence[str]) -> list[tuple[str, str]]:
    """`chosen` as contiguous (first, last) ranges of `all_keys`."""
    place = {key: i for i, key in enumerate(all_keys)}
    ranges: list[tuple[str, str]] = []
    for key in chosen:
        if ranges and place[key] == place[ranges[-1][1]] + 1:
            ranges[-1] = (ranges[-1][0], key)
        else:
            ranges.append((key, key))
    return ranges


def launch(client: DagsterClient, targets: Targets, keys: Mapping[str, Sequence[str] | None], title: str) -> str:
    """The id of the one backfill that covers `targets`."""
    ranges = {
        asset: None if chosen is None else ranges_of(chosen, keys[asset] or ()) for asset, chosen in targets.items()
    }
    return client.launch(ranges, title)


def follow(
    client: DagsterClient,
    backfill_id: str,
    keys: Mapping[str, Sequence[str] | None],
    console: Console,
    staged: Path | None = None,
) -> None:
    """Shows a bar per asset until the backfill is over, and how far a fetch is whose answers wait in `staged`.

    Raises StockAssetsError with the first failure of every failed run.
    """
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
    )
    heard: list[str] = []
    pace = Pace("running", heard.append, every=0)
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}
        while True:
            state = client.backfill(backfill_id)
            statuses = {
                "/".join(status["assetKey"]["path"]): status
                for status in (state["assetBackfillData"] or {}).get("assetBackfillStatuses", [])
            }
            done, running = finished_partitions(state["runs"], client.latest_runs(statuses), keys)
            full: list[bool] = []
            for asset, status in statuses.items():
                total = status.get("numPartitionsTargeted", 1)
                if asset not in bars:
                    bars[asset] = progress.add_task(asset, total=total, state="", start=False)
                counted = max(
                    done.get(asset, 0),
                    status.get("numPartitionsMaterialized", int(status.get("materialized", False))),
                )
                failed = status.get("numPartitionsFailed", int(status.get("failed", False)))
                text = f"{failed} failed" if failed else "running" if asset in running else ""
                if text == "running" and asset == FETCHED and staged and (fetched := staging.progress(staged)):
                    pace(*fetched)
                    text = heard[-1]
                if asset in running or counted:
                    progress.start_task(bars[asset])
                progress.update(bars[asset], completed=counted, total=total, state=text)
                full.append(counted >= total)
                if full[-1]:
                    progress.stop_task(bars[asset])
            # the daemon itself notices later
            complete = bool(full) and all(full) and all(run["status"] in RUN_ENDED for run in state["runs"])
            if complete or state["status"] in FINISHED:
                break
            time.sleep(POLL_SECONDS)
    problems = [text for run in state["runs"] if run["status"] == "FAILURE" for text in client.failures(run["id"])[:1]]
    if state["error"]:
        problems.append(state["error"]["message"].strip())
    if problems or not (complete or state["status"] in ("COMPLETED_SUCCESS", "COMPLETED")):
        raise StockAssetsError("\n".join(problems) or f"the backfill ended as {state['status']}")


def finished_partitions(
    runs: Sequence[dict],
    latest: Mapping[str, tuple[str | None, set[str]]],
    keys: Mapping[str, Sequence[str] | None],
) -> tuple[dict[str, int], set[str]]:
    """(partitions done per asset, assets under way): finer than the backfill's own count, which the daemon
    renews when it looks. A run stores all partitions of an asset at once, when it is done with it."""
    done: dict[str, set[str]] = {}
    running: set[str] = set()
    for run in runs:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        first = tags.get(RANGE_START, tags.get(PARTITION, ""))
        last = tags.get(RANGE_END, tags.get(PARTITION, ""))
        for asset in ("/".join(selected["path"]) for selected in run["assetSelection"] or ()):
            made_last_by, made_next_by = latest.get(asset, (None, set()))
            if run["status"] == "SUCCESS" or made_last_by == run["id"]:
                covered = [key for key in keys.get(asset) or [""] if first <= key <= last or not first]
                done.setdefault(asset, set()).update(covered)
            elif run["id"] in made_next_by:
                running.add(asset)
    return {asset: len(covered) for asset, covered in done.items()}, running
