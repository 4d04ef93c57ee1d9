"""Who serves when, and what a difference is, in the benchmark of online learning."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from benchmarks.learning import Material
from benchmarks.online import SCRATCH, Learner, compare, paired, servings
from benchmarks.updating import UpdateConfig
from stock_assets.evaluation import metrics
from stock_assets_tests.model.synthetic import sessions_of, synthetic_panel

DAYS = sessions_of(1000)


@pytest.mark.parametrize(("schedule", "count"), [("yearly", 1), ("quarterly", 4), ("monthly", 12)])
def test_every_session_is_served_once_by_a_model_of_the_session_before_its_block(schedule: str, count: int):
    found = servings(DAYS, 2012, SCRATCH[schedule])
    assert [day for one in found for day in one.sessions] == [day for day in DAYS if day.year == 2012]
    assert len(found) == count
    assert all(DAYS.index(one.sessions[0]) == DAYS.index(one.cutoff) + 1 for one in found)
    assert found[0].cutoff == date(2011, 12, 30)


def test_a_difference_is_paired_by_session():
    days, tickers = DAYS[:40], [f"T{i}" for i in range(5)]
    rng = np.random.default_rng(0)
    keys = pl.DataFrame({"session": days, "ticker": [tickers] * 40}).explode("ticker")
    own = rng.normal(size=40).repeat(5)  # what a session does to both models
    base = keys.with_columns(model=pl.lit("a"), surprise=pl.Series(own), score=pl.Series(rng.normal(size=200)))
    base = base.with_columns(forward_return_1=pl.col("score"))
    other = base.with_columns(model=pl.lit("b"), surprise=pl.col("surprise") - 0.01, score=-pl.col("score"))
    found = paired(pl.concat([base, other]), "b", "a")
    assert found["log_loss"] == pytest.approx((-0.01, -0.01, -0.01))
    assert found["rank_ic"] == pytest.approx((-2.0, -2.0, -2.0))


def test_the_weekly_model_knows_what_the_monthly_one_does_and_all_answer_the_same_rows():
    features, labels = synthetic_panel(tickers=4, sessions=560)
    suspects = features.select("ticker", "session").clear()
    learner = Learner("rnn_classifier", Material(features, features, labels, suspects))
    answers = {
        "yearly": list(learner.scratch(2012, SCRATCH["yearly"])),
        "monthly": list(learner.scratch(2012, SCRATCH["monthly"])),
        "weekly": list(learner.weekly(2012, UpdateConfig(rate=1.0))),
    }
    through = {name: [part["trained_through"][0] for part in parts] for name, parts in answers.items()}
    assert set(through["yearly"]) < set(through["monthly"])
    assert len(through["weekly"]) > len(through["monthly"]) > 1
    assert len(learner.seconds["training"]) == len(through["monthly"])  # the yearly one is trained once
    weekly = pl.concat(answers["weekly"])
    assert weekly.filter(pl.col("trained_through") >= pl.col("session")).is_empty()
    assert "| weekly | " in compare(answers, labels)
    with pytest.raises(ValueError, match="did not answer the same rows"):
        compare(answers | {"weekly": answers["weekly"][1:]}, labels)
    assert not metrics.scored_rows(weekly.with_columns(model=pl.lit("w")), labels).is_empty()
