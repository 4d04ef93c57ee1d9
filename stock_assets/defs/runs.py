"""The runs that the sensors ask for: what became of earlier ones, what is under way, and the next request."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import takewhile

import dagster as dg

from stock_assets.features.materialize import side_assets
from stock_assets.lifecycle.evening import (
    ASKED_BY,
    FOLLOWED,
    FOLLOWS_WITHIN,
    INTERRUPTED,
    MAKE_RUN,
    WAITED_FAILURES,
    WORK,
    Attempts,
    State,
    Work,
    evening_work,
    labels_due,
    labels_work,
    rest_due,
    rest_waited_for,
    retry_at,
    session_waited_for,
)
from stock_assets.lifecycle.materialize.evening import read_progress
from stock_assets.lifecycle.materialize.partitions import all_there
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.versions import TRAINED
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_END_TAG as RANGE_END
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_START_TAG as RANGE_START
from stock_assets.private.dagster import BulkActionsFilter, BulkActionStatus
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: The states of a run that is not over.
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
#: The states of a backfill that is not over: one that is being cancelled has runs that still write.
OPEN = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def state_of(instance: dg.DagsterInstance, store: Warehouse, settings: Settings, *, now: datetime) -> State:
    """What the store and the instance hold at `now`. Raises StoreBusyError while a writer holds the store."""
    calendar = calendar_of(settings)
    progress = read_progress(store, calendar, now, side_inputs=side_assets(settings))
    last_predicted = progress.predicted_through
    oldest = calendar.shift(last_predicted, 1) if last_predicted else None
    evening_attempts = attempts(instance, evening_work(oldest)) if oldest else Attempts()
    remaining_work = rest_due(calendar, progress.gaps, last_predicted)
    return State(
        now,
        last_predicted,
        progress.labelled_through,
        progress.model_years,
        under_way(instance, now=now),
        evening_attempts.failures,
        evening_attempts.failed_at,
        evening_attempts.runs,
        progress.gaps,
        attempts(instance, remaining_work.name).failures if remaining_work else 0,
    )


def attempts(instance: dg.DagsterInstance, work: str) -> Attempts:
    """The runs tagged with `work`."""
    records = instance.get_run_records(dg.RunsFilter(tags={WORK: work}))  # newest first
    since = list(takewhile(lambda record: not record.dagster_run.is_success, records))
    failed_runs = [record for record in since if INTERRUPTED not in record.dagster_run.tags]
    if failed_runs and killed(instance, failed_runs[-1].dagster_run):
        failed_runs.pop()
    ends = [record.end_time or record.create_timestamp.timestamp() for record in failed_runs[:1]]
    return Attempts(
        len(records),
        bool(records) and not since,
        len(failed_runs),
        datetime.fromtimestamp(ends[0], UTC) if ends else None,
    )


def killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run failed without a step that failed by itself: its process was killed, or told to end."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return False
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    events = [record.event_log_entry.get_dagster_event() for record in failures]
    errors = [event.step_failure_data.error for event in events]
    return all(error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__ for error in errors)


def under_way(instance: dg.DagsterInstance, *, now: datetime) -> str | None:
    """The run or backfill that is not over, or that another is about to follow, in words; None without one."""
    if runs := instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED), limit=1):
        run = runs[0].dagster_run
        return f"run {run.run_id[:8]} ({run.tags.get(WORK, run.job_name)})"
    if backfills := instance.get_backfills(BulkActionsFilter(statuses=OPEN), limit=1):
        return f"backfill {backfills[0].backfill_id}"
    # between two runs of `make run` nothing else begins
    filter_of_successes = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
    for record in instance.get_run_records(filter_of_successes, limit=1, order_by="update_timestamp"):
        end = datetime.fromtimestamp(record.end_time or 0.0, UTC)
        if FOLLOWED in record.dagster_run.tags and now - end < FOLLOWS_WITHIN:
            return f"run {record.dagster_run.run_id[:8]} ({record.dagster_run.tags.get(WORK)}), which another follows"
    return None


def evening_waited_for(instance: dg.DagsterInstance, settings: Settings, state: State) -> str | None:
    """What of an evening, its labels included, is still to be made, in words; None where it is there or keeps
    failing."""
    calendar = calendar_of(settings)
    if reason := rest_waited_for(calendar, state):
        return reason
    labels = labels_due(calendar, settings.horizon, state)
    if labels.sessions and attempts(instance, labels_work(labels.sessions[0])).failures < WAITED_FAILURES:
        return f"{labels.reason} and are still to be made"
    return None


def evening_comes_first(instance: dg.DagsterInstance, settings: Settings, state: State) -> str | None:
    """Why work that is no evening's has to wait: for the run under way, a closed session without predictions, or the
    rest of an evening and its labels. None where it need not, as where these keep failing."""
    if state.under_way:
        return f"{state.under_way} is under way"
    reason = session_waited_for(calendar_of(settings), settings.after_close, state)
    return reason or evening_waited_for(instance, settings, state)


def work_done(instance: dg.DagsterInstance, store: Warehouse, run: dg.DagsterRun) -> bool:
    """Whether all that a failed `run` of a sensor or of `make run` was to make is there: a later run of its work
    succeeded, or runs of an evening or of `make run` made its parts, and no row of it is missing."""
    work, parts = run.tags.get(WORK), run.tags.get(ASKED_BY) in ("evening", MAKE_RUN)
    if work is None or not (parts or attempts(instance, work).succeeded):
        return False
    tables = [key.to_user_string() for key in run.asset_selection or ()]
    return all_there(store, tables, first=run.tags.get(RANGE_START), last=run.tags.get(RANGE_END))


def request(work: Work, asked_by: str, attempt: int) -> dg.RunRequest:
    """A run of `work`. Its key keeps a repeated tick from asking twice."""
    partitions = {RANGE_START: work.first, RANGE_END: work.last} if work.first and work.last else {}
    config = {"ops": {asset: {"config": dict(work.config)} for asset in TRAINED}} if work.config else None
    return dg.RunRequest(
        run_key=f"{work.name}, attempt {attempt}",
        asset_selection=[dg.AssetKey(asset) for asset in work.assets] or None,  # none: the job of the sensor
        run_config=config,
        tags={**partitions, ASKED_BY: asked_by, WORK: work.name},
    )


def request_or_wait(
    context: dg.SensorEvaluationContext, work: Work, asked_by: str, *, now: datetime
) -> dg.RunRequest | dg.SkipReason:
    """The run of `work`, or why it has to wait after it failed."""
    attempts_of_work = attempts(context.instance, work.name)
    if attempts_of_work.failed_at and now < (
        next_try := retry_at(attempts_of_work.failures, attempts_of_work.failed_at)
    ):
        return dg.SkipReason(
            f"{work.name} failed {attempts_of_work.failures} time(s); it is tried again at {next_try:%Y-%m-%d %H:%M} "
            "UTC"
        )
    context.log.info(work.reason)
    return request(work, asked_by, attempts_of_work.runs)


def next_request(
    context: dg.SensorEvaluationContext, works: Iterable[Work], asked_by: str, *, now: datetime
) -> dg.RunRequest | dg.SkipReason | None:
    """The request for the first of `works` that has not succeeded yet, or why it waits; None once all have."""
    for work in works:
        if not attempts(context.instance, work.name).succeeded:
            return request_or_wait(context, work, asked_by, now=now)
    return None
