"""Whether to train again: the facts, read from the store, and the table of decisions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.evening import State, Work, chain_due
from stock_assets.lifecycle.materialize.drift import cutoffs_of
from stock_assets.lifecycle.retraining import (
    JUDGED,
    Decision,
    Facts,
    Policy,
    decide,
    skill_of,
    training_cutoff,
)
from stock_assets.lifecycle.tables import RETRAINING_DECISIONS
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.model.materialize.versions import TRAINED
from stock_assets.model.registry import IN_SERVICE, live_yardsticks
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: What a retraining makes.
RETRAINED = (*TRAINED, "promotions")


def read_decisions(store: Warehouse) -> pl.DataFrame:
    """The table `retraining_decisions`, oldest session first; no row before the first decision."""
    table = RETRAINING_DECISIONS
    return table.fit(store.read_or(table.empty(), table.name)).sort("session")


def decide_retraining(
    store: Warehouse, settings: Settings, state: State, *, policy: Policy
) -> tuple[pl.DataFrame, bool]:
    """(all decisions, whether one is new): decides once for the last predicted session and records the decision.

    `state` has predictions and labels, and a session after the last predicted one.
    """
    history = read_decisions(store)
    if state.predicted_through in history["session"]:
        return history, False
    row = decision_on(store, settings, state, policy=policy, history=history)
    store.replace_rows(RETRAINING_DECISIONS.name, row.select("session"), row)
    return pl.concat([history, row]), True


def decision_waited_for(store: Warehouse, calendar: TradingCalendar, state: State) -> str | None:
    """The decision that is still to be made of the rows as an evening left them, in words: what changes older rows
    waits for it. None where it is made, and where the session before has none either, since nobody decides then."""
    session = state.predicted_through
    if session is None or calendar.shift(session, 1) is None:
        return None
    last_decided = read_decisions(store)["session"].max()
    return f"the decision on {session} is still to be made" if last_decided == calendar.shift(session, -1) else None


def training_due(
    calendar: TradingCalendar, decisions: pl.DataFrame, *, policy: Policy, predicted_through: date
) -> Work | None:
    """The training that the newest decision asks for; None without one and once its cool-down is over."""
    retrainings = decisions.filter("retrain")
    if retrainings.is_empty():
        return None
    newest = retrainings.row(-1, named=True)
    session = newest["session"]
    if calendar.position(predicted_through) - calendar.position(session) >= policy.cool_down:
        return None
    year = str(newest["model_year"])
    config = {"cutoff": str(newest["cutoff"])}
    return Work(f"retraining of {session}", RETRAINED, year, year, f"{session}: {newest['reason']}", config)


def decision_on(
    store: Warehouse, settings: Settings, state: State, *, policy: Policy, history: pl.DataFrame
) -> pl.DataFrame:
    """The row of `retraining_decisions` for the last predicted session."""
    calendar, session, last_labelled = calendar_of(settings), state.predicted_through, state.labelled_through
    assert session is not None
    assert last_labelled is not None
    facts = facts_of(store, settings, state, policy=policy, history=history)
    decision, upcoming = decide(facts, policy), calendar.shift(session, 1)
    assert upcoming is not None
    year = upcoming.year
    # the base version of a year is trained through the last session before it
    base = calendar.before(date(year, 1, 1), 1)[0]
    cutoff = training_cutoff(calendar, last_labelled, max(facts.cutoff, base)) if decision.retrain else None
    if decision.retrain and cutoff is None:
        decision = Decision(
            False,
            "too_young",
            f"{decision.reason}; but the model is trained through {max(facts.cutoff, base)}, and a challenger's cutoff "
            f"lies {JUDGED} sessions before {last_labelled}, the last that is labelled",
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
        schema=RETRAINING_DECISIONS.schema,
    )


def facts_of(store: Warehouse, settings: Settings, state: State, *, policy: Policy, history: pl.DataFrame) -> Facts:
    """What the rules decide on after the last predicted session."""
    calendar, session, last_labelled = calendar_of(settings), state.predicted_through, state.labelled_through
    assert session is not None
    assert last_labelled is not None
    cutoff = cutoffs_of(store, [session])[session]
    labelled_at_cutoff = calendar.shift(cutoff, -settings.horizon) or calendar.sessions[0]
    # sessions that the version in service has predicted itself
    scored_sessions = [day for day in calendar.between(cutoff, last_labelled) if day > cutoff][-policy.skill_sessions :]
    mean, sessions = _skill(store, settings, scored_sessions) if scored_sessions else (None, 0)
    last_asked = history.filter("retrain")["session"].max()
    age = calendar.position(session) - calendar.position(last_asked) if isinstance(last_asked, date) else None
    return Facts(
        session=session,
        cutoff=cutoff,
        new_labels=len(
            [day for day in calendar.between(labelled_at_cutoff, last_labelled) if day > labelled_at_cutoff]
        ),
        input_drift=drift_at(store, session, drift.INPUT),
        prediction_drift=drift_at(store, session, drift.PREDICTION),
        skill=mean,
        skill_sessions=sessions,
        restated=restated_share(store, session, cutoff),
        sessions_since_decision=age,
        in_flight=None,  # the sensor waits for whatever is under way
        behind=len(chain_due(calendar, settings.after_close, replace(state, failures=0)).sessions),
    )


def _skill(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> tuple[float | None, int]:
    """(mean skill of the model in service over `sessions`, the number of them that have labels)."""
    naive = live_yardsticks()
    models = [IN_SERVICE, *naive]
    statement = "SELECT * FROM model.predictions WHERE session BETWEEN ? AND ? AND list_contains(?, model)"
    predictions = store.read_sql("predictions", statement, [sessions[0], sessions[-1], models])
    labels, _ = usable_between(store, settings, sessions[0], last=sessions[-1])
    skill = skill_of(predictions, labels, IN_SERVICE, naive_models=naive, sessions=sessions)
    return (skill.mean, skill.sessions) if skill else (None, 0)


def drift_at(store: Warehouse, session: date, kind: str) -> float | None:
    """`drift.summary` of `kind` at `session`; None where the table `drift` has no row of it."""
    try:
        rows = store.read("drift", session, session)
    except MissingTableError:
        return None
    summary = drift.summary(rows, kind)
    return None if summary.is_empty() else summary["drift"][0]


def restated_share(store: Warehouse, session: date, cutoff: date) -> float:
    """The share, 0 to 1, of the rows that the version serving `session` learned from whose bar was restated since."""
    version = store.read_sql(
        "trained_rnn",
        "SELECT training_rows, trained_at FROM model.trained_rnn WHERE version = (SELECT any_value(model_version) "
        "FROM model.predictions WHERE model = ? AND session = ?)",
        [IN_SERVICE, session],
    )
    if version.is_empty():
        return 0.0
    rows, trained_at = version.row(0)
    try:
        changed_rows = store.read_sql(
            "restatements",
            "SELECT count(DISTINCT (ticker, session)) AS bars FROM market.restatements "
            "WHERE session <= ? AND seen_at > ?",
            [cutoff, trained_at],
        )["bars"][0]
    except MissingTableError:
        return 0.0
    return changed_rows / rows
