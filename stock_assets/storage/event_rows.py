"""What Dagster's events become in its event log: a range run says the same of thousands of partitions."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from dagster import AssetKey, DagsterEventType, EventLogEntry

from stock_assets.private.dagster import (
    ASSET_EVENTS,
    AssetCheckEvaluationPlanned,
    AssetCheckExecutionRecordStatus,
    AssetMaterializationPlannedData,
    serialize_value,
)

#: No text of JSON holds these characters as they are.
_MOMENT, _PARTITION = "\0", "\1"


_PLANNED, _MADE = DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value, DagsterEventType.ASSET_MATERIALIZATION.value
PLANNED_CHECK = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
_ASSET_KINDS = frozenset(kind.value for kind in ASSET_EVENTS)
#: What the status of a partition is made of.
OF_PARTITIONS = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_OBSERVATION,
)
#: What may carry tags.
_TAGGED_KINDS = _ASSET_KINDS - {_PLANNED}


class Row(NamedTuple):
    """One of Dagster's own events as its table `event_logs` keeps it."""

    run_id: str
    event: str
    """its JSON"""
    dagster_event_type: str
    timestamp: str
    """UTC, as SQLAlchemy writes it"""
    step_key: str | None
    asset_key: str | None
    partition: str | None

    @property
    def is_of_asset(self) -> bool:
        return self.dagster_event_type in _ASSET_KINDS

    @property
    def may_have_tags(self) -> bool:
        return self.dagster_event_type in _TAGGED_KINDS


class _Form(NamedTuple):
    """What events have in common that differ in their moment and partition alone."""

    event: EventLogEntry
    """without its moment, partition and metadata"""
    text: str
    """its JSON with _MOMENT and _PARTITION in their places"""


_Forms = dict[tuple[str | None, str], _Form | None]


def kind_of(event: EventLogEntry) -> str | None:
    """The type of `event`; None for one that is not Dagster's own, as a line of a log."""
    return event.dagster_event and event.dagster_event.event_type_value


def rows_of(events: Sequence[EventLogEntry]) -> list[Row]:
    """The row of every one of `events`, all of Dagster's own, as the stock storage makes it.

    The JSON of one serves all that differ from it in their moment and partition alone: packing ten years of them one by
    one takes longer than writing them.
    """
    forms: _Forms = {}
    return [_row(event, forms) for event in events]


def _row(event: EventLogEntry, forms: _Forms) -> Row:
    inner, moment = event.get_dagster_event(), datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None)
    kind, timestamp = inner.event_type_value, moment.isoformat(" ", "microseconds")
    data: Any = inner.event_specific_data
    partition_event: Any = data if kind == _PLANNED else data.materialization if kind == _MADE else None
    if partition_event is None or type(partition_event.partition) is not str:
        text, asset, partition = serialize_value(event), inner.asset_key, inner.partition
        return Row(event.run_id, text, kind, timestamp, inner.step_key, asset and _name_of(asset), partition or None)
    if kind == _PLANNED:
        metadata, common = "", data._replace(partition=None)
    else:
        # tuples may be equal and of different classes; then their texts are not equal
        metadata, common = (
            repr(partition_event.metadata),
            data._replace(materialization=partition_event._replace(partition=None, metadata={})),
        )
    bare = event._replace(timestamp=0.0, dagster_event=inner._replace(event_specific_data=common))
    text = _text(event, partition_event.partition, bare, metadata=metadata, forms=forms)
    return Row(
        event.run_id,
        text,
        kind,
        timestamp,
        inner.step_key,
        _name_of(partition_event.asset_key),
        partition_event.partition or None,
    )


@lru_cache(maxsize=1024)
def _name_of(asset: AssetKey) -> str:
    return asset.to_string()


def _text(event: EventLogEntry, partition: str, bare: EventLogEntry, *, metadata: str, forms: _Forms) -> str:
    """The JSON of `event`, which is `bare` without its moment, partition and metadata."""
    moment, partition_text = f'"timestamp": {json.dumps(event.timestamp)}', f'"partition": {json.dumps(partition)}'
    key = event.step_key, metadata
    form = forms.get(key)
    if form is not None and form.event == bare:
        return form.text.replace(_MOMENT, moment).replace(_PARTITION, partition_text)
    text = serialize_value(event)
    if key not in forms:
        clear = text.count(moment) == 1 and text.count(partition_text) == 1
        forms[key] = _Form(bare, text.replace(moment, _MOMENT).replace(partition_text, _PARTITION)) if clear else None
    return text


def as_stored(event: EventLogEntry) -> Iterator[EventLogEntry]:
    """The events that the stock storage would hold for `event`: a plan for many partitions is one of each."""
    if not is_plan_of_many(event):
        yield planned_once(event)
        return
    inner = event.get_dagster_event()
    plan = inner.asset_materialization_planned_data
    assert plan.partitions_subset is not None
    for partition in plan.partitions_subset.get_partition_keys():
        data = AssetMaterializationPlannedData(plan.asset_key, partition=partition)
        yield event._replace(dagster_event=inner._replace(event_specific_data=data))


def is_plan_of_many(event: EventLogEntry) -> bool:
    """Whether `event` plans many partitions of an asset at once."""
    data = event.dagster_event and event.dagster_event.event_specific_data
    return isinstance(data, AssetMaterializationPlannedData) and data.partitions_subset is not None


def planned_once(event: EventLogEntry) -> EventLogEntry:
    """The event; the plan of a check without the partitions of its run.

    The one departure from the stock storage. Dagster 1.13.27 plans a check that has no partitions of its own
    once per partition of a backfill's run, with the whole range inside each of these rows, and its evaluation
    completes none of them: ten years of eleven checks left 400 MB of rows planned for ever.
    """
    if kind_of(event) != PLANNED_CHECK:
        return event
    dagster_event = event.get_dagster_event()
    plan = dagster_event.asset_check_planned_data
    once = AssetCheckEvaluationPlanned(asset_key=plan.asset_key, check_name=plan.check_name)
    return event._replace(dagster_event=dagster_event._replace(event_specific_data=once))


def last_of_each_asset_and_type(rows: Sequence[Row]) -> list[int]:
    """The places of the rows that decide an asset's row: which of its columns one sets depends on the type alone."""
    last: dict[tuple[str | None, str], int] = {}
    for place, row in enumerate(rows):
        if row.is_of_asset:
            key = row.asset_key, row.dagster_event_type
            last.pop(key, None)  # the order is that of the last occurrence
            last[key] = place
    return list(last.values())


def planned_check_rows(
    events: Sequence[EventLogEntry], rows: Sequence[Row], ids: Sequence[int]
) -> list[Mapping[str, Any]]:
    """The rows of the planned checks among `events`, stored as `rows` with `ids`, in the table of the evaluations of
    checks."""
    of_checks = []
    for event, row, event_id in zip(events, rows, ids, strict=True):
        if row.dagster_event_type != PLANNED_CHECK:
            continue
        plan = event.get_dagster_event().asset_check_planned_data
        of_checks.append(
            {
                "asset_key": plan.asset_key.to_string(),
                "check_name": plan.check_name,
                "partition": None,
                "run_id": event.run_id,
                "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
                "evaluation_event": row.event,
                "evaluation_event_timestamp": datetime.fromisoformat(row.timestamp),
                "evaluation_event_storage_id": event_id,
            }
        )
    return of_checks


def place_holder(moment: datetime) -> str:
    """The JSON of an event that says nothing, for a row that keeps its id from being given again."""
    return serialize_value(EventLogEntry(None, 10, "", "", moment.timestamp(), dagster_event=None))
