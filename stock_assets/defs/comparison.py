"""Dagster's memory and the store, compared by asset and partition: a sensor once a day, and `stock-assets run`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

import dagster as dg

from stock_assets.defs.runs import next_request
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.lifecycle.materialize.alerts import raise_alarm, resolve
from stock_assets.lifecycle.partitions import (
    EVERY,
    KEY,
    ON_DEMAND,
    WHOLE,
    Comparison,
    Keys,
    Search,
    alert_of_lost,
    works_of,
)
from stock_assets.lifecycle.partitions import compared as compared_with
from stock_assets.objects import Place
from stock_assets.publication.materialize.compare import stored_partitions
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Materializations that one tick reports; the next one goes on.
REPORTED = 500


def comparison_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `store_comparison`."""

    @platform_sensor(
        settings,
        "store_comparison",
        makes=dg.AssetSelection.all() - dg.AssetSelection.assets(*ON_DEMAND),
        description=(
            f"Every {EVERY.total_seconds() / 3600:.0f} hours it compares what Dagster holds as materialized with the "
            "rows of the store, by asset and partition. What the store lost is an alert and is made again, one run "
            "after the other; what only the store has is reported to Dagster. It waits while another run is under way."
        ),
    )
    def store_comparison(tick: Tick) -> Answer:
        if tick.state.under_way:
            return dg.SkipReason(f"{tick.state.under_way} is under way")
        search = Search.parse(tick.context.cursor)
        if search.works:
            if answer := next_request(tick.context, search.works, "store_comparison", now=tick.now):
                return answer
            search = replace(search, works=())
        elif not search.due(tick.now):
            return dg.SkipReason(f"Dagster and the store were compared at {search.at:%Y-%m-%d %H:%M} UTC")
        return _compare(tick, search)

    return store_comparison


def _compare(tick: Tick, search: Search) -> dg.SensorResult:
    """Compares, calls a person where rows are lost, and reports what Dagster lacks."""
    repository = tick.context.repository_def
    assert repository is not None
    keys = keys_of(repository, tick.now)
    comparison = compared(tick.context.instance, tick.store, keys, publication_folder=tick.settings.published)
    is_due, messages = search.due(tick.now), [comparison.text and f"the store lacks {comparison.text}"]
    if not comparison.lost and resolve(tick.store, KEY, now=tick.now):
        messages.append("what was lost is there again")
    elif comparison.lost and is_due:
        messages.append(raise_alarm(tick.store, tick.channels, alert_of_lost(comparison, tick.now), now=tick.now))
    events = list(islice(events_of(comparison.unreported), REPORTED))
    complete = len(events) == sum(map(len, comparison.unreported.values()))
    works = tuple(works_of(comparison, keys, now=tick.now)) if is_due else ()
    cursor = Search(tick.now if complete and is_due else search.at, works).text()
    summary = "; ".join(filter(None, messages)) or "Dagster and the store hold the same"
    if events:
        summary += f"; {len(events)} partition(s) of the store were reported to Dagster"
    return dg.SensorResult(skip_reason=summary, asset_events=events, cursor=cursor)


def keys_of(repository: dg.RepositoryDefinition, now: datetime) -> dict[str, Sequence[str] | None]:
    """Every asset in flow order with all its partition keys at `now`, None where it has none."""
    graph, keys = repository.asset_graph, {}
    for key in graph.toposorted_asset_keys:
        partitions = graph.get(key).partitions_def
        keys[key.to_user_string()] = partitions.get_partition_keys(current_time=now) if partitions else None
    return keys


def upstream_of(repository: dg.RepositoryDefinition) -> dict[str, list[str]]:
    """What each asset reads, by asset."""
    graph = repository.asset_graph
    return {
        key.to_user_string(): sorted(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.toposorted_asset_keys
    }


def materialized(instance: dg.DagsterInstance, keys: Keys) -> dict[str, set[str]]:
    """The partitions of each asset that Dagster holds as materialized."""
    keys_of_assets = {}
    for asset, of_asset in keys.items():
        key = dg.AssetKey(asset)
        if of_asset is None:
            keys_of_assets[asset] = {WHOLE} if instance.get_latest_materialization_event(key) else set()
        else:
            keys_of_assets[asset] = instance.get_materialized_partitions(key)
    return keys_of_assets


def compared(
    instance: dg.DagsterInstance, store: Warehouse, keys: Keys, *, publication_folder: Place | None = None
) -> Comparison:
    """Where `instance` and `store` differ; `publication_folder` as of `stored_partitions`. Raises StoreBusyError while
    a writer holds the store."""
    return compared_with(
        keys, materialized(instance, keys), stored_partitions(store, keys, publication_folder=publication_folder)
    )


def events_of(unreported: Mapping[str, Sequence[str]]) -> Iterator[dg.AssetMaterialization]:
    """A materialization without a run of each partition that the store has and Dagster does not."""
    for asset, partitions in unreported.items():
        for partition in partitions:
            yield dg.AssetMaterialization(
                asset, partition=partition or None, metadata={"made_by": "found in the store"}
            )
