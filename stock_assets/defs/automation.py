"""The sensors that make sessions, labels, models and reports by themselves. What is due is decided in `lifecycle/`."""

import dagster as dg

from stock_assets.defs.lost import settle_lost_runs
from stock_assets.defs.runs import evening_comes_first, next_request, request, request_or_wait
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.features.materialize import side_assets
from stock_assets.lifecycle.evening import (
    EVENING,
    FEATURES,
    RETRY,
    SERVED,
    Work,
    chain_due,
    evening_work,
    labels_due,
    labels_work,
    model_year_due,
    rest_due,
    with_side_inputs,
)
from stock_assets.lifecycle.materialize.evening import MODELS
from stock_assets.lifecycle.materialize.references import next_references
from stock_assets.lifecycle.materialize.restatements import watch_restatements
from stock_assets.lifecycle.materialize.retraining import decision_waited_for
from stock_assets.lifecycle.references import BACK_TESTS, PUBLICATION, REFERENCES, parse_works, text_of_works
from stock_assets.lifecycle.restatements import Watch
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings

#: Seconds between two looks of the sensor `evening`.
EVENING_SECONDS = 60


def evening_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `evening`: a sensor and no schedule, since only a sensor names the assets of several partition sets
    that it makes."""
    calendar, assets = calendar_of(settings), with_side_inputs(EVENING, side_assets(settings))

    @platform_sensor(
        settings,
        "evening",
        makes=assets,
        seconds=EVENING_SECONDS,
        description=(
            f"Makes every closed session of {calendar.name} that has no predictions yet, from the vendor's answer to "
            "the predictions, oldest first, in one run: on an ordinary evening one session, after an outage all "
            "that were missed. It looks every minute and asks for nothing on holidays, on weekends, before a "
            "session is due, and while another run is under way; the tick names the reason. A session that fails is "
            f"tried again, first after {RETRY.seconds // 60} minutes and then at longer intervals, and later sessions "
            "wait for it. What a predicted session lacks, or has lost, is made again: those assets alone, unless it "
            "was never made before its predictions."
        ),
    )
    def evening(tick: Tick) -> Answer:
        settle_lost_runs(tick.context.instance, now=tick.now)  # else it waits for the tick of `freshness` as well
        if tick.state.under_way:
            return dg.SkipReason(f"{tick.state.under_way} is under way")
        waits = None
        if remaining_work := rest_due(calendar, tick.state.gaps, tick.state.predicted_through):
            waits = request_or_wait(tick.context, remaining_work, "evening", now=tick.now)
            if isinstance(waits, dg.RunRequest):
                return waits
        plan = chain_due(calendar, settings.after_close, tick.state)
        if not plan.sessions:
            return waits or dg.SkipReason(plan.reason)
        tick.context.log.info(plan.reason)
        first, last = plan.sessions[0], plan.sessions[-1]
        work = Work(evening_work(first), assets, str(first), str(last), plan.reason)
        return request(work, "evening", tick.state.attempts)

    return evening


def labels_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `complete_labels`."""
    calendar, horizon = calendar_of(settings), settings.horizon

    @platform_sensor(
        settings,
        "complete_labels",
        makes=("labels", "operations", PUBLICATION),
        seconds=30,
        description=(
            "Makes the labels that became complete, and shows and publishes them as outcomes: a label is known "
            f"{horizon} bars after its session. It follows the predicted sessions, so the bars of a session that "
            "stopped at a check decide no label."
        ),
    )
    def complete_labels(tick: Tick) -> Answer:
        plan = labels_due(calendar, horizon, tick.state)
        if not plan.sessions:
            return dg.SkipReason(plan.reason)
        first, last = str(plan.sessions[0]), str(plan.sessions[-1])
        # a session before the first model has labels to learn from, and nothing is said of it
        shown_assets = ("operations", PUBLICATION) if plan.sessions[0].year >= settings.model_start_year else ()
        work = Work(labels_work(plan.sessions[0]), ("labels", *shown_assets), first, last, plan.reason)
        return request_or_wait(tick.context, work, "complete_labels", now=tick.now)

    return complete_labels


def model_year_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `new_model_year`."""
    calendar, horizon = calendar_of(settings), settings.horizon

    @platform_sensor(
        settings,
        "new_model_year",
        makes=MODELS,
        description=(
            "Trains the models of the next year as soon as the last session of a year is predicted and every label it "
            "completes is there, so that they serve from the first evening of the new year on."
        ),
    )
    def new_model_year(tick: Tick) -> Answer:
        if tick.state.under_way:
            return dg.SkipReason(f"{tick.state.under_way} is under way")
        year = model_year_due(calendar, horizon, tick.state)
        if year is None:
            through = tick.state.predicted_through
            return dg.SkipReason(f"the session after {through} has its models, or has to wait for labels")
        name = f"model year {year}"
        work = Work(name, MODELS, str(year), str(year), f"{name} has no models yet")
        return request_or_wait(tick.context, work, "new_model_year", now=tick.now)

    return new_model_year


def restatements_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `restated_bars`."""
    calendar, features = calendar_of(settings), with_side_inputs(FEATURES, side_assets(settings))

    @platform_sensor(
        settings,
        "restated_bars",
        makes=(*features, *SERVED, "labels"),
        description=(
            "When the vendor changes a stored bar, or market context or a side input comes late or changes, makes "
            "again exactly what that reaches, once: from daily_bars to predictions forward as far as a look-back goes, "
            "then the labels whose horizon holds the bar. It follows the evening, its labels and the decision on it. "
            "The first tick begins to watch; a split or dividend announced later changes no bar."
        ),
    )
    def restated_bars(tick: Tick) -> Answer:
        # the page and the decision of an evening are made of the rows that it found, whatever was killed meanwhile
        if waits := evening_comes_first(tick.context.instance, settings, tick.state):
            return dg.SkipReason(waits)
        watch = Watch.parse(tick.context.cursor) if tick.context.cursor else None
        watch, message = watch_restatements(tick.store, settings, tick.state, watch=watch)
        if watch is None:
            return dg.SkipReason(message)
        # kept until all is done, so that a step whose run was killed is asked for again
        tick.context.update_cursor(watch.text())
        if watch.steps and (waits := decision_waited_for(tick.store, calendar, tick.state)):
            return dg.SkipReason(f"{message}; {waits}")
        answer = next_request(tick.context, watch.works(), "restated_bars", now=tick.now)
        if answer is None and watch.steps:
            tick.context.update_cursor(Watch(watch.through).text())
            message = "all that was restated is made again"
        return answer or dg.SkipReason(message)

    return restated_bars


def references_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `reference_models`."""

    @platform_sensor(
        settings,
        "reference_models",
        makes=(*REFERENCES, PUBLICATION, *BACK_TESTS),
        description=(
            "Trains and scores the models that never serve, such as the study's own network, makes the report again "
            "and publishes its scores: when a model year has none of them, and once their predictions lag a month "
            "behind. One run follows the other, while nothing else is under way and no session or label of an evening "
            "is still to be made."
        ),
    )
    def reference_models(tick: Tick) -> Answer:
        if waits := evening_comes_first(tick.context.instance, settings, tick.state):
            return dg.SkipReason(waits)
        works = parse_works(tick.context.cursor) if tick.context.cursor else []
        works = works or next_references(tick.store, settings, tick.state)
        tick.context.update_cursor(text_of_works(works))
        if not works:
            return dg.SkipReason("the reference models are up to date")
        answer = next_request(tick.context, works, "reference_models", now=tick.now)
        if answer is None:
            tick.context.update_cursor(text_of_works([]))
        return answer or dg.SkipReason("the reference models and the report are made")

    return reference_models


def automation_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors of this file, in the order of an evening."""
    return [
        evening_sensor(settings),
        labels_sensor(settings),
        model_year_sensor(settings),
        restatements_sensor(settings),
        references_sensor(settings),
    ]
