"""Rollbacks and promotions at the same moment, in threads and processes, on a real MLflow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stock_assets.lifecycle.champions import champion_at
from stock_assets.lifecycle.materialize.champions import follow_aliases, read_promotions, trained_versions
from stock_assets.storage.registry import MlflowRegistry, Training
from stock_assets_tests.effort import tries
from stock_assets_tests.lifecycle.deciding import decide
from stock_assets_tests.lifecycle.store import CALENDAR, CUTOFFS, NEXT, NOW, handmade_store
from stock_assets_tests.waiting import HANG_SECONDS

#: Rounds of each of four threads in two processes; `make drill` plays many more.
ROUNDS = tries(8, drill=75)

pytestmark = pytest.mark.drill


# the registry silences warnings of mlflow's own for the whole process, which two threads undo for each other
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_real_registry_and_the_table_agree_after_many_decisions_at_once(tmp_path: Path):
    store = handmade_store(tmp_path / "stock_assets.duckdb")
    uri, artifacts = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"
    registry = MlflowRegistry(uri, artifacts)
    for version, cutoff in CUTOFFS.items():
        registry.track(Training("rnn", version, 2019, cutoff, {}, {}, "test"))
    follow_aliases(store, registry, ["rnn"], session=NEXT, now=NOW)
    command = [sys.executable, "-m", "stock_assets_tests.lifecycle.deciding", str(store.path), uri, str(artifacts)]
    with subprocess.Popen([*command, str(ROUNDS), "1"], stdout=subprocess.PIPE, text=True) as other:
        here = decide(store, registry, rounds=ROUNDS, seed=0)
        out, _ = other.communicate(timeout=10 * HANG_SECONDS)
    assert other.returncode == 0
    there = json.loads(out)
    assert here, "this process decided something"
    assert there, "so did the other"
    rows = read_promotions(store)
    assert sorted(rows["reason"]) == sorted([*here, *there]), "no decision is lost, and none is there twice"
    assert rows["decided_at"].n_unique() == rows.height, "each has its place in the order"
    for before, after in zip(rows.to_dicts(), rows.to_dicts()[1:], strict=False):
        assert after["replaced"] == before["version"] != after["version"], "each was made knowing the one before"
    serving = champion_at(rows, trained_versions(store), "rnn", session=NEXT)
    assert serving == rows["version"][-1]
    assert registry.aliases()["rnn"] == {"champion": serving, "serving": serving}
    assert follow_aliases(store, registry, ["rnn"], session=CALENDAR.shift(NEXT, 1) or NEXT, now=NOW) == []
