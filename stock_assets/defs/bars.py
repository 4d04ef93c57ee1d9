"""The graph of bars below a day: its assets, and the sensors that make them. Loaded at such an interval alone."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

import dagster as dg

from stock_assets.defs import checks
from stock_assets.defs.bar_backtest import bar_backtest_asset
from stock_assets.defs.bar_lifecycle import bar_drift_asset, bar_promotions_asset
from stock_assets.defs.market import universe_asset
from stock_assets.defs.partitions import LEARNS_TWO_SESSIONS_BEFORE, running_days
from stock_assets.defs.runs import UNFINISHED, next_request
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.defs.tables import SIMULATED, Clock, chosen_sessions, report_sessions, table_asset
from stock_assets.evaluation.materialize.bars import make_bar_evaluation
from stock_assets.features.materialize.bars import make_bar_features, make_bar_labels
from stock_assets.lifecycle.bars import (
    FINISHED,
    JUDGED,
    JUDGED_SESSIONS,
    LOOK,
    PROMOTED,
    TRAINED,
    finished_due,
    judging_due,
    look_due,
    promotion_due,
    revision_due,
    training_due,
)
from stock_assets.lifecycle.evening import ASKED_BY, WORK
from stock_assets.lifecycle.materialize.bar_champions import serving_bar_versions
from stock_assets.lifecycle.materialize.bars import read_bar_state
from stock_assets.market.calendar import calendar_of
from stock_assets.market.intervals import Interval
from stock_assets.market.materialize.bars import clean_bars, fetch_raw_bars
from stock_assets.market.sources import Source
from stock_assets.market.sources.registry import settle_time
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS
from stock_assets.model.bar_schedule import training_of
from stock_assets.model.materialize.bars import first_served_session, make_bar_predictions, train_bar_models
from stock_assets.publication.materialize.bars import publish_bars
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse

#: Seconds between two looks of the sensor of the running session: a bar is seen so long after its end.
LOOK_SECONDS = 2
#: Runs of looks that are kept, the newest ones; the others go with their events.
LOOKS_KEPT = 20
#: The sensor of the running session.
LOOKING = "running_session"


def prune_looks(instance: dg.DagsterInstance) -> int:
    """Deletes the runs of looks that are over but for the newest LOOKS_KEPT, with their events; returns their number.

    The partitions stay materialized by the newest look, and by the run that makes the session once it is over.
    """
    end_statuses = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE]
    looks = instance.get_run_records(dg.RunsFilter(tags={ASKED_BY: LOOKING}, statuses=end_statuses))  # newest first
    for record in looks[LOOKS_KEPT:]:
        instance.delete_run(record.dagster_run.run_id)
    return len(looks[LOOKS_KEPT:])


def _run_of(tick: Tick, asked_by: str) -> str | None:
    """The run of a sensor that is not over, in words; None without one."""
    runs = tick.context.instance.get_run_records(dg.RunsFilter(tags={ASKED_BY: asked_by}, statuses=UNFINISHED), limit=1)
    return f"run {runs[0].dagster_run.run_id[:8]} ({runs[0].dagster_run.tags.get(WORK)})" if runs else None


def _counts(values: Mapping[str, int]) -> dict[str, dg.MetadataValue]:
    return {name: dg.MetadataValue.int(value) for name, value in values.items()}


def _since(moment: datetime | None) -> dict[str, dg.MetadataValue]:
    return {"made_from_bar": dg.MetadataValue.text("nothing was new" if moment is None else str(moment))}


def bar_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Every asset of a market of bars, in flow order."""
    note = SIMULATED if settings.source == "simulated" else f" Source: {settings.source}."
    market_and_features = (_raw_bars, _bars, _bar_features, _bar_labels)
    model_functions = (_trained_bar_models, _bar_predictions, _bar_report, _bar_publication)
    asset_functions = (*market_and_features, *model_functions, bar_drift_asset, bar_backtest_asset)
    return [
        universe_asset(settings, note),
        *(asset(settings, note) for asset in asset_functions),
        bar_promotions_asset(settings),
    ]


def _raw_bars(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "raw_bars",
        description=(
            f"Every finished bar of {settings.interval} as the vendor stated it, and when it was fetched. Append-only. "
            "Bars that are missing are not filled: the table `bar_gaps` names them and why." + note
        ),
        deps=["universe"],
        partitions=running_days(settings),
        checks=checks.specs("raw_bars", checks.RAW_CHECKS, blocking=False),
    )
    def raw_bars(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        source: dg.ResourceParam[Source],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        fetched_bars = fetch_raw_bars(warehouse, settings, source, sessions=sessions, now=clock())
        answer_check = checks.answered_result(fetched_bars.failures, fetched_bars.members, "raw_bars")
        details = _counts({"new_versions": fetched_bars.new_versions}) | {
            "missing_bars": dg.MetadataValue.json(dict(fetched_bars.missing))
        }
        return report_sessions(context, fetched_bars.bars, sessions, checks=[answer_check], about_last=details)

    return raw_bars


def _bars(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "bars",
        description=(
            "The one clean bar of every ticker and end: the version fetched last. A `suspect` bar stays here; models "
            "and labels take it for missing." + note
        ),
        deps=["raw_bars"],
        partitions=running_days(settings),
    )
    def bars(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        clean_rows = clean_bars(warehouse, settings, sessions)
        details = _counts({"changed": clean_rows.changed}) | {
            "suspect_bars": dg.MetadataValue.json(dict(clean_rows.suspect))
        }
        return report_sessions(context, clean_rows.rows, sessions, about_last=details)

    return bars


def _bar_features(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "bar_features",
        description=(
            "Moving means and their differences, volatility, range, volume and the time of day at the end of every "
            "bar. A run makes the rows of bars that came or changed, and all after them." + note
        ),
        deps=["bars"],
        partitions=running_days(settings),
    )
    def bar_features(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        features = make_bar_features(warehouse, settings, sessions)
        return report_sessions(context, features.rows, sessions, about_last=_since(features.since))

    return bar_features


def _bar_labels(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "bar_labels",
        description=(
            f"What the next {settings.horizon} bars did: return, direction, and the barrier that was passed first, "
            f"{settings.barrier_width:g} volatilities of the horizon away. The last ones are known with the next "
            "session." + note
        ),
        deps=["bars"],
        partitions=running_days(settings),
    )
    def bar_labels(context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        labels = make_bar_labels(warehouse, settings, sessions)
        return report_sessions(context, labels.rows, sessions, about_last=_since(labels.since))

    return bar_labels


def _trained_bar_models(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "trained_bar_models",
        description=(
            f"The newest versions of a session: {', '.join(BAR_MODELS)}. They are trained every "
            f"{settings.training_every} session(s) on {settings.training_sessions} at most, through the opening of the "
            f"session before the first of them. {BAR_IN_SERVICE} serves once it has beaten the champion (`promotions`)."
            + note
        ),
        deps=[
            dg.AssetDep(table, partition_mapping=LEARNS_TWO_SESSIONS_BEFORE) for table in ("bar_features", "bar_labels")
        ],
        partitions=running_days(settings, first_served_session(settings), ahead=1),
        kinds=("pytorch",),
        order="beside",
    )
    def trained_bar_models(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        trained_models = train_bar_models(
            warehouse, settings, sessions, now=clock(), registry=registry, say=context.log.info
        )
        return report_sessions(
            context, trained_models.rows, sessions, about_last=_counts({"trainings": len(trained_models.trainings)})
        )

    return trained_bar_models


def _bar_predictions(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "bar_predictions",
        description=(
            "Probabilities of the barriers and expected return at the end of every bar. While a session runs, the "
            "model in service and the naive ones answer; the references answer once it is over." + note
        ),
        deps=["bar_features", "trained_bar_models"],
        partitions=running_days(settings, first_served_session(settings)),
        kinds=("pytorch",),
    )
    def bar_predictions(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        registry: dg.ResourceParam[Registry],
        clock: dg.ResourceParam[Clock],
    ) -> dg.MaterializeResult:
        sessions, now = chosen_sessions(context), clock()
        champions = serving_bar_versions(warehouse, registry, sessions, now=now)
        predictions = make_bar_predictions(warehouse, settings, sessions, now=now, champions=champions)
        return report_sessions(context, predictions.rows, sessions, about_last=_since(predictions.since))

    return bar_predictions


def _bar_publication(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "bar_publication",
        description=(
            "Immutable files of the predictions of every bar, and a pointer to the newest one; a bar is said once. "
            "docs/minutes.md names the form." + note
        ),
        deps=["bar_predictions"],
        partitions=running_days(settings, first_served_session(settings)),
    )
    def bar_publication(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse], clock: dg.ResourceParam[Clock]
    ) -> dg.MaterializeResult:
        sessions = chosen_sessions(context)
        new_publication = publish_bars(warehouse, settings, sessions, now=clock())
        return report_sessions(context, new_publication.rows, sessions, about_last=_since(new_publication.newest))

    return bar_publication


def _bar_report(settings: Settings, note: str) -> dg.AssetsDefinition:
    @table_asset(
        "bar_report",
        description="Scores of the predictions of bars beside the best naive model, with intervals, and a page." + note,
        deps=["bar_predictions", "bar_labels"],
    )
    def bar_report(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult:
        evaluation = make_bar_evaluation(warehouse, settings)
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(str(evaluation.page)),
                "scores": dg.MetadataValue.md(evaluation.markdown),
                "sessions": str(evaluation.report.last_session),
            }
        )

    return bar_report


def bar_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors of a market of bars."""
    return [_running_session(settings), _finished_sessions(settings), _bar_training(settings)]


def _running_session(settings: Settings) -> dg.SensorDefinition:
    """The sensor `running_session`."""
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
    pause = timedelta(minutes=settings.look_minutes or interval.minutes)

    @platform_sensor(
        settings,
        LOOKING,
        makes=LOOK,
        seconds=LOOK_SECONDS,
        description=(
            f"Once a bar of the running session is over, and every {pause.seconds // 60} minute(s) at most: its bars, "
            "features, predictions and publication, in one run, which makes what is new. It waits for the models that "
            f"serve the session. Of the runs of looks the newest {LOOKS_KEPT} stay, and the others go with their "
            "events: a day of looks leaves no more than that."
        ),
    )
    def running_session(tick: Tick) -> Answer:
        if run := _run_of(tick, LOOKING):
            return dg.SkipReason(f"{run} is under way")
        last_look = datetime.fromisoformat(tick.context.cursor) if tick.context.cursor else None
        state = read_bar_state(tick.store, tick.now, settle_time(settings))
        work_or_reason = look_due(calendar, interval, state, looked=last_look, every=pause)
        if isinstance(work_or_reason, str):
            return dg.SkipReason(work_or_reason)
        work, newest = work_or_reason
        prune_looks(tick.context.instance)
        answer = next_request(tick.context, [work], LOOKING, now=tick.now)
        if isinstance(answer, dg.RunRequest):
            tick.context.update_cursor(newest.isoformat())
        return answer or dg.SkipReason("the newest bar is predicted already")

    return running_session


def _finished_sessions(settings: Settings) -> dg.SensorDefinition:
    """The sensor `finished_sessions`."""
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)

    @platform_sensor(
        settings,
        "finished_sessions",
        makes=dg.AssetSelection.assets(*FINISHED, *JUDGED),
        seconds=30,
        description=(
            "Makes the sessions that are over, all that are missing in one run: their bars once more, features and "
            "labels; then, where models serve them, the answers of the reference models and the report. Once the next "
            "session has begun, the vendor is asked once more for what it revised."
        ),
    )
    def finished_sessions(tick: Tick) -> Answer:
        if run := _run_of(tick, "finished_sessions"):
            return dg.SkipReason(f"{run} is under way")
        state = read_bar_state(tick.store, tick.now, settle_time(settings))
        works_or_none = (
            finished_due(calendar, state),
            judging_due(calendar, state),
            revision_due(calendar, interval, state),
        )
        works = [work for work in works_or_none if work]
        answer = next_request(tick.context, works, "finished_sessions", now=tick.now)
        return answer or dg.SkipReason("every session that is over is complete")

    return finished_sessions


def _bar_training(settings: Settings) -> dg.SensorDefinition:
    """The sensor `bar_training`."""
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
    training = partial(training_of, calendar, interval, most=settings.training_sessions, every=settings.training_every)

    @platform_sensor(
        settings,
        "bar_training",
        makes=(*TRAINED, *PROMOTED),
        seconds=30,
        description=(
            f"Trains the models every {settings.training_every} session(s), one session before the first that they may "
            f"serve, and judges a challenger once the first {JUDGED_SESSIONS} of these are over. No look waits for it."
        ),
    )
    def bar_training(tick: Tick) -> Answer:
        if run := _run_of(tick, "bar_training"):
            return dg.SkipReason(f"{run} is under way")
        state = read_bar_state(tick.store, tick.now, settle_time(settings))
        works_or_none = (promotion_due(calendar, state), training_due(calendar, interval, state, training=training))
        answer = next_request(tick.context, [work for work in works_or_none if work], "bar_training", now=tick.now)
        return answer or dg.SkipReason("the next session has its models, or has to wait for labels")

    return bar_training
