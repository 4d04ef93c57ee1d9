"""The decision to train again: what each rule rings at, what silences all, and how far a model is ahead."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.lifecycle import retraining
from stock_assets.lifecycle.retraining import RULES, Decision, Facts, Policy, daily_losses, decide, skill_of
from stock_assets_tests.model.synthetic import sessions_of

QUICK = settings(derandomize=True, deadline=None, max_examples=200)
POLICY = Policy()
QUIET = Facts(
    session=date(2019, 5, 3),
    cutoff=date(2018, 12, 31),
    new_labels=85,
    input_drift=0.12,
    prediction_drift=0.2,
    skill=0.05,
    skill_sessions=70,
    restated=0.0,
    sessions_since_decision=None,
    in_flight=None,
    behind=0,
)
#: What makes each rule ring alone.
RINGING = {
    "restated": {"restated": POLICY.restated},
    "decayed": {"skill": POLICY.skill},
    "drifted": {"input_drift": POLICY.input_drift},
    "enough_labels": {"new_labels": POLICY.new_labels},
}

shares = st.floats(0, 1)
perhaps = st.none() | shares
facts_of_any_kind = st.builds(
    Facts,
    session=st.dates(date(2014, 1, 2), date(2030, 1, 1)),
    cutoff=st.just(date(2013, 12, 31)),
    new_labels=st.integers(0, 600),
    input_drift=perhaps,
    prediction_drift=perhaps,
    skill=st.none() | st.floats(-0.3, 0.3),
    skill_sessions=st.integers(0, 200),
    restated=shares,
    sessions_since_decision=st.none() | st.integers(0, 300),
    in_flight=st.none() | st.just("run-1"),
    behind=st.integers(0, 3),
)


def test_an_ordinary_evening_trains_nothing_and_says_all_it_saw():
    decision = decide(QUIET, POLICY)
    assert (decision.retrain, decision.rule) == (False, "nothing_due")
    assert decision.reason == (
        "nothing is due: 0.00% of the rows learned from were restated since the cutoff 2018-12-31 (limit "
        f"{POLICY.restated:.2%}); skill against the best naive baseline is +0.0500 over 70 sessions (limit "
        f"{POLICY.skill:+.4f} over 63); drift of the inputs is 0.120 (limit {POLICY.input_drift:.3f}); drift of the "
        f"predictions is 0.200 (limit {POLICY.prediction_drift:.3f}); labels of 85 sessions became known since the "
        f"cutoff 2018-12-31 (limit {POLICY.new_labels})"
    )
    unknown = replace(QUIET, skill=None, skill_sessions=0, input_drift=None, prediction_drift=None)
    reason = decide(unknown, POLICY).reason
    assert "skill unknown" in reason
    assert reason.count("unknown (limit") == 2


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_rings_at_its_limit_and_not_before(rule: str):
    ringing = replace(QUIET, **RINGING[rule])
    decision = decide(ringing, POLICY)
    assert (decision.retrain, decision.rule) == (True, rule)
    assert decision.reason == RULES[rule](ringing, POLICY)
    assert "limit" in decision.reason
    assert [name for name in RULES if RULES[name](ringing, POLICY)] == [rule]
    ((name, limit),) = RINGING[rule].items()
    step = {"skill": 1e-9, "new_labels": -1}.get(name, -1e-9)
    assert not decide(replace(ringing, **{name: limit + step}), POLICY).retrain


def test_predictions_alone_can_drift():
    decision = decide(replace(QUIET, prediction_drift=POLICY.prediction_drift), POLICY)
    assert decision.rule == "drifted"
    assert "predictions" in decision.reason
    assert "inputs" not in decision.reason


def test_a_bad_week_is_no_decay():
    few = replace(QUIET, skill=-0.5, skill_sessions=POLICY.skill_sessions - 1)
    assert retraining.decayed(few, POLICY) is None
    assert retraining.decayed(replace(few, skill_sessions=POLICY.skill_sessions), POLICY)


def test_rules_come_in_their_order_of_priority():
    ringing = replace(QUIET, **{name: value for fact in RINGING.values() for name, value in fact.items()})
    for rule in ("restated", "decayed", "drifted", "enough_labels"):
        assert decide(ringing, POLICY).rule == rule
        calm = {name: getattr(QUIET, name) for name in RINGING[rule]}
        ringing = replace(ringing, **calm)
    assert not decide(ringing, POLICY).retrain


@given(facts_of_any_kind)
@QUICK
def test_a_training_has_a_reason_and_nothing_that_speaks_against_it(facts: Facts):
    decision = decide(facts, POLICY)
    assert isinstance(decision, Decision)
    assert decision.reason
    since = facts.sessions_since_decision
    free = facts.in_flight is None and not facts.behind and (since is None or since >= POLICY.cool_down)
    assert decision.retrain == (free and any(rule(facts, POLICY) for rule in RULES.values()))
    assert (decision.rule in RULES) == decision.retrain


@given(facts_of_any_kind, st.integers(0, POLICY.cool_down - 1), st.integers(1, 30))
@QUICK
def test_during_the_cool_down_a_later_session_alone_never_flips_the_answer(facts: Facts, since: int, later: int):
    now = replace(facts, sessions_since_decision=since, in_flight=None, behind=0)
    assert decide(now, POLICY).rule == "cool_down"
    then = replace(now, session=date.fromordinal(now.session.toordinal() + later))
    assert decide(then, POLICY) == decide(now, POLICY)
    # nor do figures that move with it, until the cool-down is over
    still = min(since + later, POLICY.cool_down - 1)
    wild = replace(then, sessions_since_decision=still, input_drift=1.0, skill=-1.0, new_labels=9999, restated=1.0)
    assert not decide(wild, POLICY).retrain
    assert decide(replace(wild, sessions_since_decision=POLICY.cool_down), POLICY).retrain


@given(facts_of_any_kind)
@QUICK
def test_the_session_itself_is_no_reason(facts: Facts):
    other = replace(facts, session=date(2030, 6, 3))
    assert (decide(facts, POLICY).retrain, decide(facts, POLICY).rule) == (
        decide(other, POLICY).retrain,
        decide(other, POLICY).rule,
    )


@given(facts_of_any_kind, st.floats(0, 1), st.integers(0, 100))
@QUICK
def test_what_is_worse_never_silences_a_training(facts: Facts, more: float, days: int):
    worse = replace(
        facts,
        new_labels=facts.new_labels + days,
        input_drift=None if facts.input_drift is None else facts.input_drift + more,
        prediction_drift=None if facts.prediction_drift is None else facts.prediction_drift + more,
        skill=None if facts.skill is None else facts.skill - more,
        skill_sessions=facts.skill_sessions + days,
        restated=facts.restated + more,
    )
    assert decide(worse, POLICY).retrain >= decide(facts, POLICY).retrain


@given(facts_of_any_kind, st.integers(1, 5))
@QUICK
def test_an_outage_starts_nothing_until_it_is_caught_up(facts: Facts, behind: int):
    assert not decide(replace(facts, behind=behind), POLICY).retrain
    assert not decide(replace(facts, in_flight="run-1"), POLICY).retrain


def test_what_speaks_against_a_training_is_said_with_its_numbers():
    ringing = replace(QUIET, restated=0.5)
    assert decide(replace(ringing, in_flight="ab12"), POLICY).reason == (
        "run ab12 is training already; limit: one at a time"
    )
    assert decide(replace(ringing, behind=1), POLICY).reason == (
        "1 closed session after 2019-05-03 not predicted yet; limit: 0"
    )
    assert decide(replace(ringing, sessions_since_decision=4), POLICY).reason == (
        f"the last decision to retrain is 4 sessions old; limit: {POLICY.cool_down}"
    )


# ---------------------------------------------------------------- how far a model is ahead

DAYS = sessions_of(40)
TICKERS = ("A", "B", "C")


def answers(model: str, p_buy: float, days=DAYS, tickers=TICKERS) -> pl.DataFrame:
    keys = pl.DataFrame({"ticker": list(tickers)}).join(pl.DataFrame({"session": days}), how="cross")
    rest = (1 - p_buy) / 2
    return keys.with_columns(
        model=pl.lit(model),
        trained_through=pl.lit(date(2009, 12, 31)),
        p_sell=pl.lit(rest),
        p_hold=pl.lit(rest),
        p_buy=pl.lit(p_buy),
        score=pl.lit(p_buy - rest),
    )


def bought(days=DAYS) -> pl.DataFrame:
    """Labels that are all buy."""
    keys = pl.DataFrame({"ticker": list(TICKERS)}).join(pl.DataFrame({"session": days}), how="cross")
    return keys.with_columns(label=pl.lit(1, pl.Int8), forward_return_1=pl.lit(0.01))


def test_skill_is_the_lead_over_the_best_naive_baseline():
    said = pl.concat([answers("rnn", 0.6), answers("prior", 0.4), answers("other", 0.3)])
    found = skill_of(said, bought(), "rnn", naive_models=["prior", "other"], sessions=DAYS[10:30])
    assert found is not None
    assert found.mean == pytest.approx(np.log(0.6 / 0.4))
    assert found.low == pytest.approx(found.high) == pytest.approx(found.mean)  # every session is alike
    assert (found.sessions, found.naive) == (20, "prior")
    behind = skill_of(said, bought(), "other", naive_models=["prior"], sessions=DAYS)
    assert behind is not None
    assert behind.mean < 0


def test_every_session_counts_the_same_and_only_rows_that_all_answered():
    few = answers("rnn", 0.9, DAYS[:1], ["A"])
    said = pl.concat([few, answers("rnn", 0.5, DAYS[1:2]), answers("prior", 0.4, DAYS[:2])])
    losses = daily_losses(said, bought(), ["rnn", "prior"])
    np.testing.assert_allclose(losses["rnn"], -np.log([0.9, 0.5]))
    found = skill_of(said, bought(), "rnn", naive_models=["prior"], sessions=DAYS)
    assert found is not None
    assert found.mean == pytest.approx((np.log(0.9 / 0.4) + np.log(0.5 / 0.4)) / 2)


def test_the_interval_is_wide_where_sessions_differ():
    said = pl.concat([answers("rnn", 0.6, DAYS[:20]), answers("rnn", 0.45, DAYS[20:]), answers("prior", 0.4)])
    found = skill_of(said, bought(), "rnn", naive_models=["prior"], sessions=DAYS)
    assert found is not None
    assert found.low < found.mean < found.high


def test_labels_that_are_not_known_yet_are_not_judged():
    said = pl.concat([answers("rnn", 0.6), answers("prior", 0.4)])
    found = skill_of(said, bought(DAYS[:25]), "rnn", naive_models=["prior"], sessions=DAYS[20:])
    assert found is not None
    assert found.sessions == 5
    assert skill_of(said, bought(DAYS[:20]), "rnn", naive_models=["prior"], sessions=DAYS[20:]) is None


def test_what_lies_outside_the_sessions_does_not_count():
    said = pl.concat([answers("rnn", 0.6), answers("prior", 0.4)])
    other = pl.concat([said.filter(pl.col("session") < DAYS[20]), answers("rnn", 0.01, DAYS[20:])])
    assert skill_of(said, bought(), "rnn", naive_models=["prior"], sessions=DAYS[:20]) == skill_of(
        other, bought(), "rnn", naive_models=["prior"], sessions=DAYS[:20]
    )


def test_a_model_that_never_answered_is_named():
    with pytest.raises(StockAssetsError, match=r"no prediction of prior; expected some of each of rnn, prior"):
        skill_of(answers("rnn", 0.6), bought(), "rnn", naive_models=["prior"], sessions=DAYS)
    late = answers("rnn", 0.6).with_columns(trained_through=pl.lit(DAYS[3]))
    with pytest.raises(CutoffError):
        skill_of(late, bought(), "rnn", naive_models=[], sessions=DAYS)
