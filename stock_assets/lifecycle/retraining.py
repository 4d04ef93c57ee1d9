"""Whether the model in service should be trained again: rules over facts, without a store or a clock.

A rule returns a reason or None. `decide` applies the rules only where nothing forbids a training, in this order: no
training while another one runs, none before the last closed session is predicted (after an outage the sessions are
caught up first, since facts of weeks ago start nothing), none within the cool-down after the last one. The first rule
with a reason decides: what the model learned was wrong (`restated`), it has lost its lead (`decayed`), the market has
moved (`drifted`), there is more to learn (`enough_labels`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.bootstrap import block_bootstrap
from stock_assets.evaluation.metrics import scored_rows
from stock_assets.frames import KEYS
from stock_assets.market.calendar import TradingCalendar

# The limits were set on ten real years, with a model trained every year, so that each rule applies at most about once
# in five years: `python -m benchmarks drift`, the section "Drift: when it rings" of BENCHMARKS.md.

#: Sessions. No year has so many, so this rule applies only where the yearly training was left out.
NEW_LABELS = 260
#: A Kolmogorov-Smirnov distance, `drift.summary`. Reached twice in nine years: in March 2018, after the calmest year of
#: all, and on the last day of 2018; in years that were not used to set it, in March 2020 and after April 2025.
INPUT_DRIFT = 0.65
#: Likewise. Probabilities are more restless. Reached once in five years, in December 2018.
PREDICTION_DRIFT = 0.70
#: Log-loss of the best naive baseline less that of the model, in nats: no better than it. The least lead of a quarter
#: in six years is .012.
SKILL = 0.0
#: A quarter; labels of neighbouring sessions share six of their seven days, so these are nine independent weeks.
SKILL_SESSIONS = 63
#: Five tickers of 500 whose whole history was rewritten. A provisional last bar of every ticker is a twentieth of it.
RESTATED = 0.01
#: The recent window of drift: after so many sessions nothing in it was seen at the last decision.
COOL_DOWN = 21
#: A model trained within the year learns up to so many labelled sessions ago: on those after its cutoff it is judged
#: against the champion. Two months are the least that three blocks of days come out of.
JUDGED = 42


@dataclass(frozen=True)
class Facts:
    """What the decision rests on, after `session` was predicted."""

    session: date
    """The last session that was predicted."""
    cutoff: date
    """That of the model in service."""
    new_labels: int
    """Sessions whose labels became known after the cutoff."""
    input_drift: float | None
    """`drift.summary` of the inputs at `session`; None if unknown."""
    prediction_drift: float | None
    """Likewise of the predictions."""
    skill: float | None
    """`Skill.mean` of the model in service over the last scored sessions after its cutoff; None without one."""
    skill_sessions: int
    """The number of these sessions."""
    restated: float
    """Share of the rows that the model in service learned from whose bar was restated since, from 0 to 1."""
    sessions_since_decision: int | None
    """Since the last decision to retrain; None where there was none."""
    in_flight: str | None
    """The id of the training run under way."""
    behind: int
    """Sessions that are closed but not predicted yet."""


@dataclass(frozen=True)
class Policy:
    """From which figure on a fact is a reason to train again."""

    new_labels: int = NEW_LABELS
    input_drift: float = INPUT_DRIFT
    prediction_drift: float = PREDICTION_DRIFT
    skill: float = SKILL
    skill_sessions: int = SKILL_SESSIONS
    restated: float = RESTATED
    cool_down: int = COOL_DOWN
    """Sessions after a decision to retrain in which there is no other."""


@dataclass(frozen=True)
class Decision:
    retrain: bool
    rule: str
    """The rule that asked for it, or what forbade it: in_flight, behind, cool_down, too_young, nothing_due."""
    reason: str
    """One sentence with the figure and its limit."""


@dataclass(frozen=True)
class Skill:
    """Mean over sessions of the log-loss of the best naive baseline less that of the model, in nats."""

    mean: float
    low: float
    high: float
    """Ends of the 95 % interval, day-block bootstrap."""
    sessions: int
    naive: str
    """The naive baseline with the lowest log-loss over these sessions."""


def decide(facts: Facts, policy: Policy) -> Decision:
    """Whether to train again, and why, or why not."""
    if facts.in_flight is not None:
        return Decision(False, "in_flight", f"run {facts.in_flight} is training already; limit: one at a time")
    if facts.behind > 0:
        return Decision(
            False,
            "behind",
            f"{_count(facts.behind, 'closed session')} after {facts.session} not predicted yet; limit: 0",
        )
    since = facts.sessions_since_decision
    if since is not None and since < policy.cool_down:
        return Decision(
            False,
            "cool_down",
            f"the last decision to retrain is {_count(since, 'session')} old; limit: {policy.cool_down}",
        )
    for name, rule in RULES.items():
        if reason := rule(facts, policy):
            return Decision(True, name, reason)
    return Decision(
        False, "nothing_due", f"nothing is due: {'; '.join(sentence(facts, policy) for sentence in _SENTENCES)}"
    )


def training_cutoff(calendar: TradingCalendar, labelled_through: date, serving: date) -> date | None:
    """The cutoff of a challenger: JUDGED sessions before the last label. None where it is not after `serving`, the
    cutoff in service, so that the challenger would learn nothing new."""
    cutoff = calendar.shift(labelled_through, -JUDGED)
    return cutoff if cutoff and cutoff > serving else None


def restated(facts: Facts, policy: Policy) -> str | None:
    """The model learned from bars that have turned out wrong."""
    return _restated_reason(facts, policy) if facts.restated >= policy.restated else None


def decayed(facts: Facts, policy: Policy) -> str | None:
    """The model has lost its lead over the best naive baseline, on a full window of sessions that it served."""
    if facts.skill is None or facts.skill_sessions < policy.skill_sessions:
        return None
    return _skill(facts, policy) if facts.skill <= policy.skill else None


def drifted(facts: Facts, policy: Policy) -> str | None:
    """The inputs, or else the predictions, no longer look like those of the year before the cutoff."""
    if facts.input_drift is not None and facts.input_drift >= policy.input_drift:
        return _inputs(facts, policy)
    if facts.prediction_drift is not None and facts.prediction_drift >= policy.prediction_drift:
        return _predictions(facts, policy)
    return None


def enough_labels(facts: Facts, policy: Policy) -> str | None:
    """There is much to learn from that the model has not seen."""
    return _labels(facts, policy) if facts.new_labels >= policy.new_labels else None


Rule = Callable[[Facts, Policy], str | None]
#: In order of priority.
RULES: dict[str, Rule] = {
    "restated": restated,
    "decayed": decayed,
    "drifted": drifted,
    "enough_labels": enough_labels,
}


def daily_losses(predictions: pl.DataFrame, labels: pl.DataFrame, models: Sequence[str]) -> pl.DataFrame:
    """session and one column per model of `models`: its mean log-loss on the session's rows that all of them predict.

    `predictions` and `labels` are those of `metrics.scored_rows`: only usable labels. Sorted by session; sessions
    without a label have no row.

    Raises StockAssetsError for a model without any prediction, and as `scored_rows`.
    """
    rows = predictions.filter(pl.col("model").is_in(list(models)))
    if missing := [name for name in models if name not in set(rows["model"])]:
        raise StockAssetsError(
            f"no prediction of {', '.join(missing)}; expected some of each of {', '.join(models)} "
            f"(found {', '.join(sorted(set(predictions['model']))) or 'none'})"
        )
    scored_predictions = scored_rows(rows, labels)
    losses = [pl.col("surprise").filter(pl.col("model") == name).first().alias(name) for name in models]
    # in a fixed order: a mean depends on it in its last digits, which the facts of a decision are kept with
    losses_of_pairs = scored_predictions.group_by(KEYS, maintain_order=True).agg(losses).drop_nulls()
    return losses_of_pairs.group_by("session").agg(pl.col(list(models)).mean()).sort("session")


def skill_of(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    model: str,
    *,
    naive_models: Sequence[str],
    sessions: Collection[date],
) -> Skill | None:
    """How far `model` was ahead of the best of `naive_models` on `sessions`; None where none of them has a label.

    Every session of `daily_losses` counts the same. To judge one version, give sessions that it served. Raises as
    `daily_losses`.
    """
    losses = daily_losses(predictions.filter(pl.col("session").is_in(list(sessions))), labels, [model, *naive_models])
    if losses.is_empty():
        return None
    naive = min(naive_models, key=lambda name: (losses[name].mean(), name))
    lead = (losses[naive] - losses[model]).to_numpy()
    low, high = block_bootstrap(lead) or (lead.mean(), lead.mean())
    return Skill(float(lead.mean()), low, high, len(lead), naive)


def _restated_reason(facts: Facts, policy: Policy) -> str:
    return (
        f"{facts.restated:.2%} of the rows learned from were restated since the cutoff {facts.cutoff} "
        f"(limit {policy.restated:.2%})"
    )


def _skill(facts: Facts, policy: Policy) -> str:
    if facts.skill is None:
        return "skill unknown"
    return (
        f"skill against the best naive baseline is {facts.skill:+.4f} over {_count(facts.skill_sessions, 'session')} "
        f"(limit {policy.skill:+.4f} over {policy.skill_sessions})"
    )


def _inputs(facts: Facts, policy: Policy) -> str:
    return _drift("inputs", facts.input_drift, policy.input_drift)


def _predictions(facts: Facts, policy: Policy) -> str:
    return _drift("predictions", facts.prediction_drift, policy.prediction_drift)


def _drift(kind: str, figure: float | None, limit: float) -> str:
    return f"drift of the {kind} {'unknown' if figure is None else f'is {figure:.3f}'} (limit {limit:.3f})"


def _labels(facts: Facts, policy: Policy) -> str:
    return (
        f"labels of {_count(facts.new_labels, 'session')} became known since the cutoff {facts.cutoff} "
        f"(limit {policy.new_labels})"
    )


_SENTENCES = (_restated_reason, _skill, _inputs, _predictions, _labels)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
