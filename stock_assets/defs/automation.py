"""The schedule and the sensors: what they look at, and the runs that they ask for. What is due is decided in
`lifecycle/`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import takewhile

import dagster as dg
import polars as pl

from stock_assets.defs.alerts import PATIENCE
from stock_assets.errors import MissingTableError, StoreBusyError
from stock_assets.lifecycle.evening import INTERRUPTED, RETRY, Plan, State, chain_due, labels_due, model_year_due
from stock_assets.lifecycle.restatements import Affected, affected, stale_bars
from stock_assets.market.calendar import calendar_of
from stock_assets.market.renames import continued
from stock_assets.model.materialize.versions import TRAINED
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_END_TAG as RANGE_END
from stock_assets.private.dagster import ASSET_PARTITION_RANGE_START_TAG as RANGE_START
from stock_assets.private.dagster import IMPLICIT_ASSET_JOB_NAME, BulkActionsFilter, BulkActionStatus
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

Clock = Callable[[], datetime]

#: What is made of a closed session, in one run.
BARS = ("universe", "raw_ohlcv", "context_series")
FEATURES = ("daily_bars", "indicators", "stationary_features", "pca_components")
AFTERWARDS = ("drift", "operations")
SERVED = ("predictions", *AFTERWARDS)
MODELS = (*TRAINED, "trained_ensemble")
#: Dagster's own job of all assets, which backfills use: a job of a person's making takes assets of one and the same
#: partition set alone.
EVERY_ASSET = IMPLICIT_ASSET_JOB_NAME
#: Who asked for a run, and for which work: a run that failed is found again by it.
ASKED_BY, WORK = "stock_assets/asked_by", "stock_assets/work"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Attempts:
    """The runs there were for some work."""

    runs: int = 0
    succeeded: bool = False
    """the last of them"""
    failures: int = 0
    """since the last success; a run that the server took along when it was killed is none, and neither is the first
    whose own process was"""
    failed_at: datetime | None = None


def attempts(instance: dg.DagsterInstance, work: str) -> Attempts:
    """The runs tagged with `work`."""
    records = instance.get_run_records(dg.RunsFilter(tags={WORK: work}))  # newest first
    since = list(takewhile(lambda record: not record.dagster_run.is_success, records))
    failed = [record for record in since if INTERRUPTED not in record.dagster_run.tags]
    if failed and killed(instance, failed[-1].dagster_run):
        failed.pop()
    ends = [record.end_time or record.create_timestamp.timestamp() for record in failed[:1]]
    return Attempts(
        len(records),
        bool(records) and not since,
        len(failed),
        datetime.fromtimestamp(ends[0], UTC) if ends else None,
    )


def killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run failed without a step that did of its own: something took its process, or told it to end."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return False
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    events = [record.event_log_entry.get_dagster_event() for record in failures]
    errors = [event.step_failure_data.error for event in events]
    return all(error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__ for error in errors)


def under_way(instance: dg.DagsterInstance) -> str | None:
    """The run or backfill that is not over, in words; None without one."""
    if runs := instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED), limit=1):
        run = runs[0].dagster_run
        return f"run {run.run_id[:8]} ({run.tags.get(WORK, run.job_name)})"
    if backfills := instance.get_backfills(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]), limit=1):
        return f"backfill {backfills[0].backfill_id}"
    return None


def look(instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings, now: datetime) -> State:
    """What the store and the instance say at `now`. Raises StoreBusyError while a writer holds the store."""
    found = warehouse.read_each(
        {table: f"SELECT max(session) AS last FROM {table}" for table in ("predictions", "labels")}
        | {table: f"SELECT DISTINCT model_year FROM {table}" for table in MODELS}
    )
    predicted, labelled = (
        rows.item() if (rows := found[table]) is not None else None for table in ("predictions", "labels")
    )
    years = [frozenset(rows["model_year"]) if (rows := found[table]) is not None else frozenset() for table in MODELS]
    oldest = calendar_of(settings).shift(predicted, 1) if predicted else None
    tried = attempts(instance, evening_of(oldest)) if oldest else Attempts()
    return State(
        now,
        predicted,
        labelled,
        frozenset.intersection(*years),
        under_way(instance),
        tried.failures,
        tried.failed_at,
        tried.runs,
    )


def left_over(instance: dg.DagsterInstance, state: State) -> tuple[date, date] | None:
    """First and last session of the last evening, if its run failed though they are predicted by now: what follows
    the predictions is missing, and no table tells, as a young market has no drift."""
    if state.under_way or state.predicted_through is None:
        return None
    for record in instance.get_run_records(dg.RunsFilter(tags={ASKED_BY: "evening"}), limit=1):
        run = record.dagster_run
        first, last = (date.fromisoformat(run.tags[tag]) for tag in (RANGE_START, RANGE_END))
        if not run.is_success and last <= state.predicted_through:
            return first, last
    return None


def evening_of(oldest: date) -> str:
    """The work of an evening is named by the first session that it makes, which it keeps until that is made."""
    return f"session {oldest}"


def ask(
    assets: Sequence[str],
    first: date | str,
    last: date | str,
    asked_by: str,
    work: str,
    attempt: int,
    config: Mapping[str, object] | None = None,
) -> dg.RunRequest:
    """A run of `assets` over a range of partitions. Its key keeps a tick that is repeated from asking twice."""
    return dg.RunRequest(
        run_key=f"{work}, attempt {attempt}",
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        run_config={"ops": {asset: {"config": dict(config)} for asset in TRAINED}} if config else None,
        tags={
            RANGE_START: str(first),
            RANGE_END: str(last),
            ASKED_BY: asked_by,
            WORK: work,
        },
    )


def automation(settings: Settings) -> tuple[list[dg.ScheduleDefinition], list[dg.SensorDefinition]]:
    """The schedules and the sensors."""
    calendar, horizon = calendar_of(settings), settings.horizon
    evening_assets = (*BARS, *FEATURES, *SERVED)

    @dg.schedule(
        name="evening",
        cron_schedule="* * * * *",
        execution_timezone="UTC",
        job_name=EVERY_ASSET,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            f"Makes every closed session of {calendar.name} that has no predictions yet, from the vendor's answer to "
            "the predictions, oldest first, in one run: on an ordinary evening one session, after an outage all "
            "that were missed. It looks every minute and asks for nothing on holidays, on weekends, before a "
            "session is due, and while another run is under way; the tick says which. A session that fails is tried "
            "again later and later, and those after it wait: first after "
            f"{RETRY.seconds // 60} minutes. Of one that fails after its predictions, only what follows them is made."
        ),
    )
    def evening(context: dg.ScheduleEvaluationContext, warehouse: dg.ResourceParam[Warehouse]):
        try:
            state = look(context.instance, warehouse.patient(PATIENCE), settings, context.scheduled_execution_time)
        except StoreBusyError as busy:
            return dg.SkipReason(str(busy))
        waits = None
        if rest := left_over(context.instance, state):
            work = evening_of(rest[0])
            plan = Plan(rest, f"{work} is predicted, but its run ended before {' and '.join(AFTERWARDS)}")
            waits = request_or_wait(context, work, state.now, plan, AFTERWARDS, "evening")
            if isinstance(waits, dg.RunRequest):
                return waits
        plan = chain_due(calendar, settings.after_close, state)
        if not plan.sessions:
            return waits or dg.SkipReason(plan.reason)
        context.log.info(plan.reason)
        work = evening_of(plan.sessions[0])
        return ask(evening_assets, plan.sessions[0], plan.sessions[-1], "evening", work, state.attempts)

    @dg.sensor(
        name="complete_labels",
        minimum_interval_seconds=30,
        job_name=EVERY_ASSET,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Makes the labels that became complete: a label is known {horizon} bars after its session. It follows the "
            "sessions that are predicted, so the bars of a session that stopped at a check decide no label."
        ),
    )
    def complete_labels(
        context: dg.SensorEvaluationContext,
        warehouse: dg.ResourceParam[Warehouse],
        clock: dg.ResourceParam[Clock],
    ):
        try:
            state = look(context.instance, warehouse.patient(PATIENCE), settings, clock())
        except StoreBusyError as busy:
            return dg.SkipReason(str(busy))
        plan = labels_due(calendar, horizon, state)
        if not plan.sessions:
            return dg.SkipReason(plan.reason)
        work = f"labels from {plan.sessions[0]}"
        return request_or_wait(context, work, state.now, plan, ("labels",), "complete_labels")

    @dg.sensor(
        name="new_model_year",
        minimum_interval_seconds=60,
        job_name=EVERY_ASSET,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Trains the models of the next year as soon as the last session of a year is predicted and every label it "
            "completes is there, so that the first evening of the new year finds them."
        ),
    )
    def new_model_year(
        context: dg.SensorEvaluationContext,
        warehouse: dg.ResourceParam[Warehouse],
        clock: dg.ResourceParam[Clock],
    ):
        try:
            state = look(context.instance, warehouse.patient(PATIENCE), settings, clock())
        except StoreBusyError as busy:
            return dg.SkipReason(str(busy))
        year = model_year_due(calendar, horizon, state)
        if year is None:
            return dg.SkipReason(
                f"{state.under_way} is under way"
                if state.under_way
                else f"the session after {state.predicted_through} has its models, or has to wait for labels"
            )
        plan = Plan((date(year, 1, 1),), f"model year {year} has no models yet")
        return request_or_wait(context, f"model year {year}", state.now, plan, MODELS, "new_model_year", str(year))

    @dg.sensor(
        name="restated_bars",
        minimum_interval_seconds=60,
        job_name=EVERY_ASSET,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "When the vendor changes a bar that is stored already, makes again exactly what it reaches, once: from "
            "daily_bars to predictions forward as far as a look-back goes, then the labels whose horizon holds it. The "
            "first tick begins to watch; a split or dividend announced later changes no bar."
        ),
    )
    def restated_bars(
        context: dg.SensorEvaluationContext,
        warehouse: dg.ResourceParam[Warehouse],
        clock: dg.ResourceParam[Clock],
    ):
        store = warehouse.patient(PATIENCE)
        try:
            state = look(context.instance, store, settings, clock())
            newest = last_fetch(store)
        except StoreBusyError as busy:
            return dg.SkipReason(str(busy))
        if newest is None or state.predicted_through is None or state.labelled_through is None:
            return dg.SkipReason("nothing is predicted or labelled yet, so nothing can be restated")
        if state.under_way:
            return dg.SkipReason(f"{state.under_way} is under way")
        watch = json.loads(context.cursor) if context.cursor else {"through": newest.isoformat(), "steps": []}
        if not watch["steps"]:
            changed = changed_since(store, datetime.fromisoformat(watch["through"]), state.predicted_through)
            watch = {"through": newest.isoformat(), "steps": []}
            if changed.is_empty():
                context.update_cursor(json.dumps(watch))
                return dg.SkipReason(f"no stored bar was changed by what was fetched up to {newest:%Y-%m-%d %H:%M} UTC")
            found = affected(
                calendar, changed, labels_around(store, changed), state.predicted_through, state.labelled_through
            )
            watch["steps"] = steps_of(found, calendar.between(date(settings.model_start_year, 1, 1), date.max)[0])
            named = ", ".join(f"{ticker} {session}" for ticker, session in changed.head(5).rows())
            context.log.info(f"{changed.height} bar(s) were restated: {named}")
        # kept until all is done, so that a step whose run was killed is asked for again
        context.update_cursor(json.dumps(watch))
        for assets, first, last in watch["steps"]:
            work = f"restated {assets[0]} of {watch['through']}"
            if not attempts(context.instance, work).succeeded:
                plan = Plan((date.fromisoformat(first), date.fromisoformat(last)), f"{work}: {first} to {last}")
                return request_or_wait(context, work, state.now, plan, assets, "restated_bars")
        context.update_cursor(json.dumps({"through": watch["through"], "steps": []}))
        return dg.SkipReason("all that the restated bars reach is made again")

    return [evening], [complete_labels, new_model_year, restated_bars]


def request_or_wait(
    context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext,
    work: str,
    now: datetime,
    plan: Plan,
    assets: Sequence[str],
    asked_by: str,
    partition: str | None = None,
    config: Mapping[str, object] | None = None,
) -> dg.RunRequest | dg.SkipReason:
    """The run for `work`, or why it has to wait after it failed."""
    tried = attempts(context.instance, work)
    if tried.failed_at and now < (again := tried.failed_at + RETRY * 2 ** min(tried.failures - 1, 4)):
        return dg.SkipReason(f"{work} failed {tried.failures} time(s); it is tried again at {again:%Y-%m-%d %H:%M} UTC")
    context.log.info(plan.reason)
    first, last = (partition, partition) if partition else (str(plan.sessions[0]), str(plan.sessions[-1]))
    return ask(assets, first, last, asked_by, work, tried.runs, config)


def last_fetch(warehouse: Warehouse) -> datetime | None:
    try:
        found = warehouse.read_sql("raw_ohlcv", "SELECT max(fetched_at) AS newest FROM raw_ohlcv")["newest"][0]
    except MissingTableError:
        return None
    return found.astimezone(UTC) if found else None


def changed_since(warehouse: Warehouse, moment: datetime, last: date) -> pl.DataFrame:
    """ticker, session of the bars up to session `last` that what was fetched after `moment` contradicts."""
    raw = warehouse.read_sql(
        "raw_ohlcv", "SELECT * FROM raw_ohlcv WHERE fetched_at > ? AND session <= ?", [moment, last]
    )
    if raw.is_empty():
        return raw.select("ticker", "session")
    bars = warehouse.read("daily_bars", raw["session"].min(), raw["session"].max())  # pyright: ignore[reportArgumentType]
    return stale_bars(continued(raw, warehouse.read("universe")), bars)


def labels_around(warehouse: Warehouse, changed: pl.DataFrame) -> pl.DataFrame:
    """The labels of the tickers of `changed` whose horizon reaches its first session, and of all sessions after it."""
    rows = warehouse.read_sql(
        "labels",
        "SELECT ticker, session, horizon_end FROM labels WHERE horizon_end >= ? AND session <= ?",
        [changed["session"].min(), changed["session"].max()],
    )
    return rows.join(changed.select("ticker").unique(), on="ticker", how="semi")


def steps_of(found: Affected, first_served: date) -> list[tuple[Sequence[str], str, str]]:
    """(assets, first, last) of the runs to make one after the other; no model serves before `first_served`."""
    first, last = found.chain
    steps: list[tuple[Sequence[str], date, date]]
    if first >= first_served:
        steps = [((*FEATURES, *SERVED), first, last)]
    else:
        steps = [(FEATURES, first, last)]
        if last >= first_served:
            steps.append((SERVED, first_served, last))
    if found.labels:
        steps.append((("labels",), *found.labels))
    return [(assets, str(start), str(end)) for assets, start, end in steps]
