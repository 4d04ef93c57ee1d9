"""The trials that the store counts: each once, none lost, whichever process adds it."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets.trading.books import LONG_ONLY, LONG_SHORT
from stock_assets.trading.materialize.trials import add_trials, count_trials
from stock_assets.trading.overfitting import deflated_sharpe
from stock_assets.trading.statistics import moments
from stock_assets.trading.trials import Computed, Trials, digest_of_scores
from stock_assets_tests.tables import rows_of
from stock_assets_tests.waiting import HANG_SECONDS

NOW = datetime(2026, 11, 27, 22, tzinfo=UTC)


def computed(sleeves: int = 1, *, seed: int = 0, sessions: int = 60, **changes) -> Computed:
    returns = np.random.default_rng(seed).normal(0.001, 0.01, sessions)
    back_test = Computed(LONG_ONLY, "rnn", sleeves, "base", date(2020, 1, 2), date(2020, 3, 30), "scores", returns)
    return replace(back_test, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "store.duckdb")


def test_a_store_without_a_back_test_has_no_trial(store: Warehouse):
    trials = count_trials(store)
    assert (trials.count, trials.variance) == (0, None)
    assert trials.benchmark(250) == 0.0


def test_a_rerun_adds_none_and_keeps_the_moment_of_the_first(store: Warehouse):
    back_tests = [computed(k, seed=k) for k in (1, 3, 7)]
    add_trials(store, [*back_tests, back_tests[0]], now=NOW)
    before = store.read("backtests").sort("digest")
    add_trials(store, back_tests, now=NOW.replace(hour=23))
    assert store.read("backtests").sort("digest").equals(before)
    assert count_trials(store).count == 3
    assert before["computed_at"].unique().to_list() == [NOW]


@pytest.mark.parametrize(
    "changes",
    [
        {"sleeves": 2},
        {"model": "ensemble"},
        {"book": LONG_SHORT},
        {"book": replace(LONG_ONLY, costs=replace(LONG_ONLY.costs, spread_scale=2.0))},
        {"book": replace(LONG_ONLY, capital=1e8)},
        {"book": replace(LONG_ONLY, limits=replace(LONG_ONLY.limits, position=0.02))},
        {"book": replace(LONG_ONLY, fill="close")},
        {"first": date(2019, 1, 2)},
    ],
    ids=str,
)
def test_whatever_is_tried_otherwise_is_another_trial(store: Warehouse, changes: dict):
    add_trials(store, [computed(), computed(**changes)], now=NOW)
    assert count_trials(store).count == 2


def test_a_span_that_grows_is_another_row_and_the_same_trial(store: Warehouse):
    add_trials(store, [computed(), computed(last=date(2020, 3, 31), sessions=61), computed(scores="restated")], now=NOW)
    assert store.read("backtests").height == 3
    assert count_trials(store).count == 1


def test_tunings_and_challengers_count(store: Warehouse):
    import polars as pl

    tuned = pl.DataFrame({"study": ["a", "a", "b"], "trial": [0, 1, 0], "state": ["complete", "pruned", "fail"]})
    store.append("tuned_hyperparameters", rows_of("tuned_hyperparameters", tuned))
    judged = pl.DataFrame({"model": ["rnn"] * 3, "version": ["v1", "v1", "v2"], "decided_at": [NOW] * 3})
    store.append("promotions", rows_of("promotions", judged))
    add_trials(store, [computed()], now=NOW)
    trials = count_trials(store)
    assert (trials.backtests, trials.tunings, trials.challengers, trials.count) == (1, 3, 2, 6)


def test_the_deflated_sharpe_ratio_is_that_of_the_counted_trials(store: Warehouse):
    back_tests = [computed(k, seed=k) for k in (1, 3, 7, 14)]
    worse = [replace(each, variant="spread x4", book=replace(each.book, capital=2.0)) for each in back_tests]
    add_trials(store, [*back_tests, *worse], now=NOW)
    observed = moments(back_tests[0].returns)
    assert observed is not None
    ratios = [each.returns.mean() / each.returns.std(ddof=1) for each in back_tests]
    expected = deflated_sharpe(observed, trials=8, variance=float(np.var(ratios, ddof=1)))
    trials = count_trials(store)
    assert trials.deflated(observed) == pytest.approx(expected, rel=1e-12)
    assert trials.deflated(None) is None


def test_without_other_trials_luck_is_that_of_a_worthless_strategy():
    assert Trials(10, 0, 0, None).benchmark(400) == pytest.approx(0.05 * 1.5746, rel=1e-3)


def test_a_back_test_without_variance_is_a_trial_without_a_ratio(store: Warehouse):
    add_trials(store, [computed(returns=np.zeros(60)), computed(3, returns=np.empty(0))], now=NOW)
    assert store.read("backtests")["sharpe"].to_list() == [None, None]
    assert count_trials(store).count == 2


def test_the_digest_of_scores_sees_the_smallest_change():
    scores = np.array([[0.1, np.nan], [0.0, 0.3]])
    again = scores.copy()
    again[1, 0] = -0.0
    assert digest_of_scores(scores) == digest_of_scores(again)
    again[0, 0] = np.nextafter(0.1, 1)
    assert digest_of_scores(scores) != digest_of_scores(again)


ADDS = """
import sys
from pathlib import Path
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.trials import add_trials
from stock_assets_tests.trading.test_trials import NOW, computed
store = Warehouse(Path(sys.argv[1]))
for k in range(1, 5):
    add_trials(store, [computed(k), computed(k + 100 * int(sys.argv[2]))], now=NOW)
"""


def test_two_processes_that_add_the_same_trials_leave_each_once(store: Warehouse):
    runs = [subprocess.Popen([sys.executable, "-c", ADDS, str(store.path), str(i)]) for i in (1, 2)]
    assert [run.wait(HANG_SECONDS) for run in runs] == [0, 0]
    digests = store.read("backtests")["digest"]
    assert len(digests) == digests.n_unique() == 4 + 8


def test_a_writer_that_dies_leaves_all_of_its_trials_or_none(store: Warehouse, monkeypatch: pytest.MonkeyPatch):
    add_trials(store, [computed()], now=NOW)
    from stock_assets.storage import warehouse

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(warehouse, "record_partitions", dies)
    with pytest.raises(KeyboardInterrupt):
        add_trials(store, [computed(k) for k in (3, 7)], now=NOW)
    assert store.read("backtests").height == 1


def test_the_table_is_keyed_by_the_digest():
    assert declared("backtests").keys == ("digest",)
    assert declared("backtests").history
