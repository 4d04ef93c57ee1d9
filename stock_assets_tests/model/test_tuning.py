"""What a configuration is judged on, what a search does when its processes die, and what the best of many is worth."""

import json
import os
import signal
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import StockAssetsError
from stock_assets.market.calendar import trading_calendar
from stock_assets.model import trials, tuned, tuning
from stock_assets.model.lesson import InputFrames
from stock_assets.model.tuned import deflate, expected_best, improvement_per_session
from stock_assets.model.tuning import (
    TUNABLE,
    Budget,
    Score,
    evaluate,
    judged_rows,
    prepare,
    read_study,
    validation_folds,
    write_study,
)
from stock_assets_tests.model.synthetic import HORIZON, synthetic_panel
from stock_assets_tests.waiting import HANG_SECONDS

#: With the panel's first session: what is judged are the second half of 2010 and the first of 2011.
FIRST, CUTOFF = date(2010, 3, 22), date(2011, 6, 30)
TINY = Budget(tickers=6, rows_per_epoch=1_024, steps_per_epoch=2)
QUICK = {"epochs": 2, "context": 10, "batch": 32, "hidden": 30, "layers": 1, "learning_rate": 1e-3, "dropout": 0.0}


def study(features: pl.DataFrame, labels: pl.DataFrame, **changes) -> tuning.Study:
    plain = {"cutoff": CUTOFF, "horizon": HORIZON, "seed": 0, "budget": TINY}
    return prepare("deepar", InputFrames(components=features), labels, **(plain | changes))


@pytest.fixture(scope="module")
def panel() -> tuple[pl.DataFrame, pl.DataFrame]:
    features, labels = synthetic_panel(sessions=420)
    return features.filter(pl.col("session") >= FIRST), labels.filter(pl.col("session") >= FIRST)


# ---------------------------------------------------------------- what is searched


@pytest.mark.parametrize("name", TUNABLE)
def test_the_defaults_lie_within_the_ranges_and_both_ends_are_configurations(name: str):
    network = TUNABLE[name]
    for field, wanted in network.space.items():
        assert wanted.low <= network.default_params()[field] <= wanted.high, field
    for end in ("low", "high"):
        config = network.configuration({field: getattr(wanted, end) for field, wanted in network.space.items()})
        assert type(config) is type(network.defaults)
        assert config.patience == config.epochs  # nothing but the pruner ends a training early


def test_the_ranges_of_the_study_are_its_own():
    found = {name: (wanted.low, wanted.high) for name, wanted in TUNABLE["deepar"].space.items()}
    assert found == {
        "epochs": (20, 100),
        "context": (10, 60),
        "batch": (32, 256),
        "learning_rate": (1e-5, 1e-3),
        "hidden": (30, 200),
        "dropout": (0.0, 0.1),
        "layers": (1, 3),
    }


# ---------------------------------------------------------------- what it is judged on


CALENDAR = trading_calendar("XNYS", date(2010, 1, 4), date(2019, 12, 31))


def days(first: date, last: date) -> list[date]:
    return list(CALENDAR.between(first, last))


def test_the_last_two_years_are_judged_each_after_what_lies_before_it():
    folds = validation_folds(days(date(2010, 4, 12), date(2013, 12, 19)), HORIZON)
    assert [(fold.name, fold.cutoff, fold.first, fold.last) for fold in folds] == [
        ("2012", date(2011, 12, 30), date(2012, 1, 3), date(2012, 12, 31)),
        ("2013", date(2012, 12, 31), date(2013, 1, 2), date(2013, 12, 19)),
    ]
    assert {fold.tail for fold in folds} == {126}


def test_half_years_are_judged_where_a_year_would_leave_too_little_to_learn_from():
    folds = validation_folds(days(date(2018, 4, 9), date(2019, 12, 19)), HORIZON)
    assert [fold.name for fold in folds] == ["2019-H1", "2019-H2"]
    learned = [len(days(date(2018, 4, 9), fold.cutoff)) - HORIZON for fold in folds]
    assert [fold.tail for fold in folds] == [learned[0] // 3, learned[1] // 3]  # two thirds of it learn


def test_too_little_history_is_one_clear_error():
    with pytest.raises(StockAssetsError, match=r"found 59 session\(s\).*2018-04-09 to 2018-06-29; expected 57 or more"):
        validation_folds(days(date(2018, 4, 9), date(2018, 6, 29)), HORIZON)
    with pytest.raises(StockAssetsError, match=r"found 0 session\(s\)"):
        validation_folds([], HORIZON)


def test_nothing_after_the_cutoff_is_ever_read(panel):
    features, labels = panel
    rng = np.random.default_rng(1)
    later, unknown = pl.col("session") > CUTOFF, pl.col("horizon_end") > CUTOFF
    noise = [pl.when(later).then(pl.lit(rng.normal() * 99)).otherwise(pl.col(c)).alias(c) for c in ("memory", "shock")]
    flipped = labels.with_columns(pl.when(unknown).then(-pl.col("label")).otherwise("label").alias("label"))
    assert labels.filter(unknown).height > 0
    assert features.filter(later).height > 0
    changed, plain = study(features.with_columns(noise), flipped), study(features, labels)
    assert changed.name == plain.name
    assert evaluate(changed, QUICK) == evaluate(plain, QUICK)
    assert plain.labels["horizon_end"].max() <= CUTOFF


def test_each_fold_learns_from_labels_known_by_its_cutoff_alone(panel, monkeypatch: pytest.MonkeyPatch):
    from stock_assets.model.networks import deepar

    seen = []
    train = deepar.train_deepar

    def spying(lesson, config):
        seen.append((lesson.labels["horizon_end"].max(), lesson.cutoff, config.segment, config.context))
        return train(lesson, config)

    monkeypatch.setattr(deepar, "train_deepar", spying)
    small = study(*panel)
    evaluate(small, QUICK)
    assert [cutoff for _, cutoff, *_ in seen] == [fold.cutoff for fold in reversed(small.folds)]
    assert all(last <= cutoff for last, cutoff, *_ in seen)
    assert all(segment == context == QUICK["context"] for *_, segment, context in seen)


def test_every_configuration_is_scored_on_the_same_rows(panel):
    small = study(*panel)
    short, long = (evaluate(small, QUICK | {"context": context}) for context in (10, 60))
    assert len(short.per_session) == len(long.per_session) > 20
    rows = pl.concat([judged_rows(small, fold) for fold in small.folds])
    first_row = small.features.filter(pl.int_range(pl.len()).over("ticker") == 59).select("ticker", start="session")
    assert (rows.join(first_row, on="ticker").select(pl.col("session") >= pl.col("start")))["session"].all()


def test_the_value_is_the_mean_of_the_folds_log_losses(panel):
    """Against the network's own answers, scored with other code."""
    from sklearn.metrics import log_loss

    small = study(*panel)
    config = TUNABLE["deepar"].configuration(QUICK)
    wanted = []
    for fold in small.folds:
        judged = judged_rows(small, fold)
        answers = tuning.answers_on(
            small, fold, tuning._within_budget(config, TINY, fold), rows=judged, on_epoch=lambda _: None
        )
        both = judged.join(answers, on=["ticker", "session"])
        assert both.height == judged.height
        wanted.append(log_loss(both["label"], both.select("p_sell", "p_hold", "p_buy").to_numpy(), labels=[-1, 0, 1]))
    assert evaluate(small, QUICK).log_loss == pytest.approx(np.mean(wanted), rel=1e-6)


def test_epochs_are_reported_fold_by_fold_against_the_untrained_network(panel):
    told = []
    score = evaluate(study(*panel), QUICK, lambda *report: told.append(report))
    assert [(fold, epoch) for fold, epoch, _ in told] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert all(abs(loss) < 0.5 for *_, loss in told)
    assert score.epochs == 4


def test_another_input_is_another_study_and_the_order_of_rows_is_none(panel):
    features, labels = panel
    name = study(features, labels).name
    assert study(features.sample(fraction=1, shuffle=True, seed=3), labels.reverse()).name == name
    others = {
        study(features.with_columns(pl.col("noise") + 1e-3), labels).name,
        study(features, labels, cutoff=CUTOFF - timedelta(days=20)).name,
        study(features, labels, seed=1).name,
        study(features, labels, budget=Budget(tickers=5)).name,
    }
    assert len(others) == 4
    assert name not in others


def test_a_study_is_read_as_it_was_written(panel, tmp_path: Path):
    written = study(*panel)
    write_study(written, tmp_path)
    found = read_study(tmp_path)
    for frame in ("features", "labels", "suspects"):
        assert_frame_equal(getattr(found, frame), getattr(written, frame))
    assert (found.folds, found.budget, found.name) == (written.folds, written.budget, written.name)


def test_an_unknown_network_is_named(panel):
    with pytest.raises(StockAssetsError, match="no network 'transformer' to tune; expected one of deepar, rnn"):
        prepare("transformer", InputFrames(), panel[1], cutoff=CUTOFF, horizon=HORIZON, seed=0)


# ---------------------------------------------------------------- what the best of many is worth


@pytest.mark.parametrize("tries", [5, 30, 200])
def test_the_expected_best_is_that_of_a_simulation(tries: int):
    drawn = np.random.default_rng(0).normal(scale=0.01, size=(20_000, tries)).max(axis=1).mean()
    assert expected_best(tries, 0.01) == pytest.approx(drawn, rel=0.03)


def test_one_try_is_not_deflated():
    assert expected_best(1, 1.0) == 0.0
    assert deflate([1.02], 1.03, tries=1).deflated == pytest.approx(0.01)


def test_luck_is_taken_off_and_skill_remains():
    rng = np.random.default_rng(0)
    left = [deflate([*values], values[0], 30).deflated for values in rng.normal(1.05, 0.004, size=(2_000, 30))]
    assert np.mean(left) == pytest.approx(0, abs=2e-4)  # nobody is better: on average nothing remains
    skilled = [*rng.normal(1.05, 0.004, size=29), 1.0]
    worth = deflate(skilled, skilled[0], 30)
    assert worth.improvement == pytest.approx(skilled[0] - 1.0)
    assert worth.deflated == pytest.approx(worth.improvement - worth.by_luck)
    assert deflate(skilled, skilled[0], 60).by_luck > worth.by_luck


def test_the_improvement_is_the_defaults_loss_less_the_bests():
    gains = improvement_per_session(Score(1.05, (1.0, 1.1), 1), Score(1.0, (1.0, 1.0), 1))
    assert gains.tolist() == pytest.approx([0.0, 0.1])


# ---------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def small(panel) -> tuning.Study:
    """Two tickers, and a segment or two an epoch: a trial of a hundred epochs takes a second or two."""
    return study(*panel, budget=Budget(tickers=2, rows_per_epoch=64, steps_per_epoch=1, every=9))


#: A worker is taken for dead after five seconds without a sign of life.
QUICKLY = trials.Heartbeat(1, 5)


def workers_of(parent: int) -> list[int]:
    """The workers of a search that `parent` has started: it has other children too."""
    children = [
        pid for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return [int(pid) for pid in children if b"stock_assets.model.trials" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kill_a_worker(folder: Path, name: str, killed: list[int]) -> None:
    """As soon as a trial is under way."""
    found, deadline = None, time.monotonic() + HANG_SECONDS
    while not killed and time.monotonic() < deadline:
        time.sleep(0.2)
        if found is None and (folder / name / "worker-0.log").exists():  # the storage is made by then
            found = trials.open_storage(folder, name)
        if found and any(trial.state.name == "RUNNING" and trial.intermediate_values for trial in found.trials):
            killed.append(workers_of(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)


@pytest.mark.drill
def test_a_killed_worker_costs_its_trial_and_nothing_else(small: tuning.Study, tmp_path: Path):
    killed: list[int] = []
    reported: list[dict] = []
    killer = Thread(target=kill_a_worker, args=(tmp_path, small.name, killed))
    killer.start()
    found = trials.search(small, tmp_path, trials=3, workers=1, on_trial=reported.append, heartbeat=QUICKLY)
    killer.join()
    assert killed
    table = tuned.trial_table(found)
    assert table.filter(pl.col("state") != "fail").height == 3
    assert table.filter(pl.col("state") == "fail").height == 1
    assert {row["trial"] for row in reported} == set(table["trial"])
    # the killed trial was the default configuration, which is tried again before any other
    assert table.filter("is_default")["state"].to_list() == ["fail", "complete"]
    assert table["is_default"].to_list() == [True, True, False, False]
    assert table["params"][1] == json.dumps(TUNABLE["deepar"].default_params(), sort_keys=True)
    assert [path.name for path in tmp_path.iterdir()] == ["trials.sqlite"]

    # what is done stays done, and more can be asked for; a trial that a search left under way is given up
    with pytest.warns(UserWarning, match="supposed to be used with Study.optimize"):
        orphan = found.ask()
    again = trials.search(small, tmp_path, trials=4, workers=1, heartbeat=QUICKLY)
    grown = tuned.trial_table(again)
    assert_frame_equal(grown.filter(pl.col("trial") < orphan.number), table)
    assert grown.filter(pl.col("state") != "fail").height == 4
    assert grown.filter(pl.col("trial") == orphan.number)["state"].to_list() == ["fail"]

    complete = grown.filter(pl.col("state") == "complete")
    assert complete["value"].is_between(0.5, 2.0).all()
    assert (complete["epochs"] > 0).all()
    ranges = TUNABLE["deepar"].space
    for params in map(json.loads, complete["params"]):
        assert set(params) == set(ranges)
        assert all(ranges[name].low <= value <= ranges[name].high for name, value in params.items())
    best = again.best_trial
    assert evaluate(small, best.params) == tuned.score_of(best)  # a trial can be had again from its row
    assert set(tuned.importances(again, seed=0)) <= set(ranges)
    summary = tuned.tuned_network(small, again)
    assert summary.worth.tries == 4
    assert f"Trial {best.number} scores {best.value:.4f} on {summary.periods}" in summary.verdict(0.0, 0.0)


@pytest.mark.drill
def test_several_workers_share_the_trials(small: tuning.Study, tmp_path: Path):
    table = tuned.trial_table(trials.search(small, tmp_path, trials=3, workers=2))
    assert table.height in (3, 4)  # one more where two end in the same instant
    assert table["is_default"].to_list() == [True, *[False] * (table.height - 1)]
    assert table["params"].n_unique() == table.height


def test_a_search_whose_workers_are_all_killed_gives_up(
    small: tuning.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials, "run_workers", lambda *_, **__: 2)
    with pytest.raises(StockAssetsError, match=r"6 workers of .* were killed; expected enough memory"):
        trials.search(small, tmp_path, trials=2, workers=2)


def test_a_worker_that_fails_says_why(small: tuning.Study, tmp_path: Path):
    broken = replace(small, features=small.features.with_columns(noise=pl.lit(np.nan, pl.Float32)))
    message = r"a worker of deepar-\w+ failed: trial 0 with .*learning_rate.*: features of T0\d at .*: noise is nan"
    with pytest.raises(StockAssetsError, match=message):
        trials.search(broken, tmp_path, trials=1, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["trials.sqlite"]


def test_nothing_to_do_is_refused(small: tuning.Study, tmp_path: Path):
    with pytest.raises(StockAssetsError, match="0 trial"):
        trials.search(small, tmp_path, trials=0, workers=1)
