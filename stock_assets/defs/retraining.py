"""The sensor that trains again when the rules of `lifecycle.retraining` ask for it."""

import dagster as dg

from stock_assets.defs.runs import attempts, evening_comes_first, request_or_wait
from stock_assets.defs.sensors import Answer, Tick, platform_sensor
from stock_assets.lifecycle.evening import State
from stock_assets.lifecycle.materialize.retraining import RETRAINED, decide_retraining, training_due
from stock_assets.lifecycle.retraining import COOL_DOWN, JUDGED, Policy
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings


def retraining_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `retraining`."""
    policy = Policy()

    @platform_sensor(
        settings,
        "retraining",
        makes=RETRAINED,
        description=(
            "Decides once after every session whether the model in service is trained again, and keeps the decision "
            "with its facts in the table retraining_decisions. It asks for a training when the bars the model learned "
            "from were restated, when it has lost its lead over the best naive baseline, when inputs or predictions "
            f"have drifted, or when many labels are new; never within {COOL_DOWN} sessions of the last training, while "
            "another one runs, or before every closed session is predicted. The new version's cutoff lies "
            f"{JUDGED} labelled sessions back; on those it is judged against the champion, and a challenger that is "
            "not better never serves."
        ),
    )
    def retraining(tick: Tick) -> Answer:
        if waits := reason_to_wait(tick.context.instance, settings, tick.state):
            return dg.SkipReason(waits)
        decisions, is_new = decide_retraining(tick.store, settings, tick.state, policy=policy)
        newest = decisions.row(-1, named=True)
        if is_new:
            tick.context.log.info(newest["reason"])
        through = tick.state.predicted_through or newest["session"]
        work = training_due(calendar_of(settings), decisions, policy=policy, predicted_through=through)
        if work is None or attempts(tick.context.instance, work.name).succeeded:
            return dg.SkipReason(f"{newest['session']}: {newest['reason']}")
        return request_or_wait(tick.context, work, "retraining", now=tick.now)

    return retraining


def reason_to_wait(instance: dg.DagsterInstance, settings: Settings, state: State) -> str | None:
    """Why there can be no decision yet, None where there can: the facts are what the drift and all labels
    are made of, whenever the decision is made."""
    if state.predicted_through is None or state.labelled_through is None:
        return "nothing is predicted or labelled yet, so there is nothing to decide on"
    if waits := evening_comes_first(instance, settings, state):
        return waits
    if calendar_of(settings).shift(state.predicted_through, 1) is None:
        return f"the calendar of the settings ends with {state.predicted_through}: no model serves after it"
    return None
