"""The sensor that trains again when it pays: the facts it gathers, and where its decisions are kept."""

import json
from dataclasses import asdict, replace
from datetime import date

import dagster as dg
import polars as pl

from stock_assets.defs.alerts import PATIENCE
from stock_assets.defs.automation import (
    EVERY_ASSET,
    Clock,
    attempts,
    evening_of,
    left_over,
    look,
    request_or_wait,
)
from stock_assets.defs.lifecycle import SERVING, cutoffs
from stock_assets.errors import MissingTableError, StoreBusyError
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.evening import Plan, State, chain_due
from stock_assets.lifecycle.retraining import (
    COOL_DOWN,
    JUDGED,
    Decision,
    Facts,
    Policy,
    decide,
    skill_of,
    training_cutoff,
)
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.model.materialize.versions import TRAINED
from stock_assets.model.registry import live_yardsticks
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

RETRAINED = (*TRAINED, "promotions")
DECISION_SCHEMA = pl.Schema(
    {
        "session": pl.Date,
        "decided_at": pl.Datetime("us", "UTC"),
        "retrain": pl.Boolean,
        "rule": pl.String,
        "reason": pl.String,
        "model_year": pl.Int32,
        "cutoff": pl.Date,
        "facts": pl.String,
    }
)


def retraining_sensor(settings: Settings) -> dg.SensorDefinition:
    calendar, policy = calendar_of(settings), Policy()

    @dg.sensor(
        name="retraining",
        minimum_interval_seconds=60,
        job_name=EVERY_ASSET,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Decides once after every session whether the serving model is trained again, and keeps the decision with "
            "its facts in the table retraining_decisions. It asks for a training when the bars it learned from were "
            "restated, when it has lost its lead over the best naive baseline, when inputs or predictions have "
            f"drifted, or when many labels are new; never within {COOL_DOWN} sessions of the last training, while one "
            f"is under way, or before every closed session is predicted. What it trains stands back {JUDGED} labelled "
            "sessions, on which it is judged against the champion: a challenger that is not better never serves."
        ),
    )
    def retraining(
        context: dg.SensorEvaluationContext,
        warehouse: dg.ResourceParam[Warehouse],
        clock: dg.ResourceParam[Clock],
    ):
        store = warehouse.patient(PATIENCE)
        try:
            state = look(context.instance, store, settings, clock())
            if state.predicted_through is None or state.labelled_through is None:
                return dg.SkipReason("nothing is predicted or labelled yet, so there is nothing to decide on")
            if state.under_way:
                return dg.SkipReason(f"{state.under_way} is under way")
            rest = left_over(context.instance, state)
            if rest and not attempts(context.instance, evening_of(rest[0])).failures:
                return dg.SkipReason(f"the drift of {state.predicted_through} is still to be made")
            if calendar.shift(state.predicted_through, 1) is None:
                return dg.SkipReason(
                    f"the calendar of the settings ends with {state.predicted_through}: no model serves"
                )
            history = decisions(store)
            if state.predicted_through not in history["session"]:
                row = decide_now(store, settings, policy, state, history)
                context.log.info(row["reason"][0])
                store.replace_rows("retraining_decisions", row.select("session"), row)
                history = pl.concat([history, row])
        except StoreBusyError as busy:
            return dg.SkipReason(str(busy))
        newest, asked = history.row(-1, named=True), history.filter("retrain")
        said = f"{newest['session']}: {newest['reason']}"
        if asked.is_empty():
            return dg.SkipReason(said)
        wanted = asked.row(-1, named=True)
        work = f"retraining of {wanted['session']}"
        # one that failed is tried again until the next decision could ask for another
        age = calendar.position(state.predicted_through) - calendar.position(wanted["session"])
        if age >= policy.cool_down or attempts(context.instance, work).succeeded:
            return dg.SkipReason(said)
        plan = Plan((wanted["session"],), f"{wanted['session']}: {wanted['reason']}")
        config, year = {"cutoff": str(wanted["cutoff"])}, str(wanted["model_year"])
        return request_or_wait(context, work, state.now, plan, RETRAINED, "retraining", year, config)

    return retraining


def decisions(warehouse: Warehouse) -> pl.DataFrame:
    """The table `retraining_decisions`, oldest session first."""
    try:
        rows = warehouse.read("retraining_decisions")
    except MissingTableError:
        return DECISION_SCHEMA.to_frame()
    decided = pl.col("decided_at").dt.convert_time_zone("UTC").cast(DECISION_SCHEMA["decided_at"])
    return rows.with_columns(decided).select(DECISION_SCHEMA.names()).sort("session")


def decide_now(
    warehouse: Warehouse, settings: Settings, policy: Policy, state: State, history: pl.DataFrame
) -> pl.DataFrame:
    """The row of `retraining_decisions` for the last session that is predicted."""
    calendar, session, labelled = calendar_of(settings), state.predicted_through, state.labelled_through
    assert session is not None
    assert labelled is not None
    facts = facts_of(warehouse, settings, policy, state, history)
    decision, upcoming = decide(facts, policy), calendar.shift(session, 1)
    assert upcoming is not None  # the sensor sees to it
    year = upcoming.year
    # the first version of a year has its last session but one behind it
    base = calendar.before(date(year, 1, 1), 1)[0]
    cutoff = training_cutoff(calendar, labelled, max(facts.cutoff, base)) if decision.retrain else None
    if decision.retrain and cutoff is None:
        decision = Decision(
            False,
            "too_young",
            f"{decision.reason}; but the model is trained through {max(facts.cutoff, base)}, and a challenger has to "
            f"stand back {JUDGED} sessions from {labelled}, the last that is labelled",
        )
    return pl.DataFrame(
        {
            "session": [session],
            "decided_at": [state.now],
            "retrain": [decision.retrain],
            "rule": [decision.rule],
            "reason": [decision.reason],
            "model_year": [year],
            "cutoff": [cutoff],
            "facts": [json.dumps(asdict(facts), default=str)],
        },
        schema=DECISION_SCHEMA,
    )


def facts_of(warehouse: Warehouse, settings: Settings, policy: Policy, state: State, history: pl.DataFrame) -> Facts:
    """Everything the rules ask for, out of the store."""
    calendar, session, labelled = calendar_of(settings), state.predicted_through, state.labelled_through
    assert session is not None
    assert labelled is not None
    cutoff = cutoffs(warehouse, [session])[session]
    known_before = calendar.shift(cutoff, -settings.horizon) or calendar.sessions[0]
    skill = None
    # those the serving version itself has answered
    scored = [day for day in calendar.between(cutoff, labelled) if day > cutoff][-policy.skill_sessions :]
    if scored:
        answers = warehouse.read_sql(
            "predictions",
            "SELECT * FROM model.predictions WHERE session BETWEEN ? AND ? AND list_contains(?, model)",
            [scored[0], scored[-1], [SERVING, *live_yardsticks()]],
        )
        labels, _ = usable_between(warehouse, settings, scored[0], scored[-1])
        skill = skill_of(answers, labels, SERVING, live_yardsticks(), scored)
    asked = history.filter("retrain")["session"].max()
    return Facts(
        session=session,
        cutoff=cutoff,
        new_labels=len([day for day in calendar.between(known_before, labelled) if day > known_before]),
        input_drift=drift_of(warehouse, session, drift.INPUT),
        prediction_drift=drift_of(warehouse, session, drift.PREDICTION),
        skill=skill.mean if skill else None,
        skill_sessions=skill.sessions if skill else 0,
        restated=restated_share(warehouse, session, cutoff),
        sessions_since_decision=calendar.position(session) - calendar.position(asked)
        if isinstance(asked, date)
        else None,
        in_flight=None,  # the sensor waits for whatever is under way
        behind=len(chain_due(calendar, settings.after_close, replace(state, failures=0)).sessions),
    )


def drift_of(warehouse: Warehouse, session: date, kind: str) -> float | None:
    try:
        rows = warehouse.read("drift", session, session)
    except MissingTableError:
        return None
    found = drift.summary(rows, kind)
    return None if found.is_empty() else found["drift"][0]


def restated_share(warehouse: Warehouse, session: date, cutoff: date) -> float:
    """The share of the rows that the version serving `session` learned from whose bar was restated since."""
    version = warehouse.read_sql(
        "trained_rnn",
        "SELECT training_rows, trained_at FROM model.trained_rnn WHERE version = (SELECT any_value(model_version) "
        "FROM model.predictions WHERE model = ? AND session = ?)",
        [SERVING, session],
    )
    if version.is_empty():
        return 0.0
    rows, trained_at = version.row(0)
    try:
        changed = warehouse.read_sql(
            "restatements",
            "SELECT count(DISTINCT (ticker, session)) AS bars FROM market.restatements "
            "WHERE session <= ? AND seen_at > ?",
            [cutoff, trained_at],
        )["bars"][0]
    except MissingTableError:
        return 0.0
    return changed / rows
