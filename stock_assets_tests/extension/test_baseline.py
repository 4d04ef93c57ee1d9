"""A baseline from outside the package: one class, one call. Neither shipping nor removing it stops an evening."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stock_assets.market.calendar import calendar_of
from stock_assets.model.baselines.base import Baseline, entry_of, register_baseline
from stock_assets.model.baselines.naive import ClassPrior, TickerPrior
from stock_assets.model.lesson import Lesson
from stock_assets.model.registry import MODELS
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import load_artifact
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import MemoryRegistry
from stock_assets_tests.model.store import (
    QUICK,
    model_years,
    models_at,
    only,
    predicted,
    small_settings,
    small_store,
    trained,
)

FIRST, SECOND, THIRD, FOURTH = (date(2019, 5, day) for day in (1, 2, 3, 6))


@dataclass(frozen=True)
class Coin(Baseline):
    """Heads is buy, tails is sell, and the edge is hold."""

    name, role, reads, title = "coin", "champion", "components", "a coin"
    edge: float

    @classmethod
    def fit(cls, lesson: Lesson) -> "Coin":
        return cls(lesson.cutoff, float((lesson.labels["label"] == 0).cast(pl.Float64).mean()))  # pyright: ignore[reportArgumentType]: labels are there

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        side = (1 - self.edge) / 2
        return np.tile([side, self.edge, side], (rows.height, 1))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[Warehouse]:
    """The store of a platform that has two model years of three models."""
    naive = [entry_of(kind, table="trained_baselines") for kind in (ClassPrior, TickerPrior)]
    with only(QUICK, *naive):
        store = small_store(settings)
        model_years(store, settings, 2018, 2019)
        yield store


def test_a_baseline_from_outside_is_trained_saved_loaded_and_predicted(store: Warehouse, settings: Settings):
    register_baseline(Coin)
    rows = trained(store, settings, 2019, table="trained_baselines").rows
    row = rows.row(by_predicate=pl.col("model") == "coin", named=True)
    artifact = load_artifact(settings.artifacts / row["artifact"])
    assert artifact.description["reads"] == "components"
    loaded = MODELS["coin"].load(artifact.tensors, artifact.description)
    made = predicted(store, settings, [FIRST])
    assert made.notes == []
    answers = made.rows.filter(pl.col("model") == "coin")
    assert answers["p_hold"].to_list() == [loaded.edge] * 5
    assert set(answers["model_version"]) == {row["version"]}


def test_a_model_that_was_shipped_is_skipped_until_it_is_trained(store: Warehouse, settings: Settings):
    registry = MemoryRegistry(*store.read("trained_rnn")["version"], *store.read("trained_baselines")["version"])
    registry.versions |= set(store.read("trained_ensemble")["version"])
    usual = {"rnn", "class_prior", "ticker_prior", "ensemble"}
    assert models_at(predicted(store, settings, [FIRST], registry).rows, FIRST) == usual
    register_baseline(Coin)
    made = predicted(store, settings, [SECOND], registry)
    assert models_at(made.rows, SECOND) == usual
    assert made.notes == [
        "coin has no version for model year 2019; it is predicted once trained_baselines 2019 is materialized again"
    ]
    trained(store, settings, 2019, table="trained_baselines", registry=registry)
    assert models_at(predicted(store, settings, [THIRD], registry).rows, THIRD) == usual | {"coin"}


def test_a_model_that_was_removed_is_skipped_with_its_versions(store: Warehouse, settings: Settings):
    register_baseline(Coin)
    model_years(store, settings, 2018, 2019)
    registry = MemoryRegistry(*store.read("trained_rnn")["version"], *store.read("trained_baselines")["version"])
    registry.versions |= set(store.read("trained_ensemble")["version"])
    assert "coin" in models_at(predicted(store, settings, [FIRST], registry).rows, FIRST)
    weights = store.read("trained_ensemble").with_columns(weight=pl.lit(0.25))
    store.replace_table("trained_ensemble", weights)

    del MODELS["coin"]
    made = predicted(store, settings, [SECOND], registry)
    assert models_at(made.rows, SECOND) == {"rnn", "class_prior", "ticker_prior"}
    assert made.notes == [
        "the versions of coin for model year 2019 are skipped: no model of that name is registered",
        f"the ensemble of 2019 has no rows from {SECOND} on, since it weighs coin; materialize trained_ensemble 2019 "
        "again",
    ]
    model_years(store, settings, 2019)
    assert "ensemble" in models_at(predicted(store, settings, [THIRD], registry).rows, THIRD)


def test_a_model_that_only_some_years_have_is_no_member_of_the_ensemble(tmp_path: Path):
    settings = small_settings(tmp_path, first_model_year=2018, end=date(2020, 1, 31))
    naive = [entry_of(kind, table="trained_baselines") for kind in (ClassPrior, TickerPrior)]
    with only(QUICK, *naive):
        store = small_store(settings)
        model_years(store, settings, 2018)
        register_baseline(Coin)
        model_years(store, settings, 2019)
        weighed = model_years(store, settings, 2020)
        assert weighed.notes == ["coin is no member of the ensemble of 2020: only 1 of the 2 years before have it"]
        assert set(weighed.rows["member"]) == {"rnn", "class_prior", "ticker_prior"}
        assert weighed.rows["weight"].sum() == pytest.approx(1)
        day = calendar_of(settings).sessions[-1]
        assert models_at(predicted(store, settings, [day]).rows, day) == {
            *("rnn", "class_prior", "ticker_prior", "coin", "ensemble")
        }


def test_a_model_first_trained_within_the_year_predicts_the_sessions_after_its_cutoff(
    store: Warehouse, settings: Settings
):
    register_baseline(Coin)
    trained(store, settings, 2019, table="trained_baselines")
    rows = store.read("trained_baselines")
    late = pl.when(pl.col("model") == "coin").then(pl.lit(SECOND)).otherwise("trained_through")
    store.replace_table("trained_baselines", rows.with_columns(trained_through=late))
    made = predicted(store, settings, [FIRST, SECOND, THIRD, FOURTH])
    assert [("coin" in models_at(made.rows, day)) for day in (FIRST, SECOND, THIRD, FOURTH)] == [
        False,
        False,
        True,
        True,
    ]
