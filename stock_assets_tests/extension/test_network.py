"""A network from outside the package: one entry. Its epochs, checkpoint and learning curve are kept as any others."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import StockAssetsError
from stock_assets.model.baselines.base import entry_of
from stock_assets.model.baselines.naive import ClassPrior
from stock_assets.model.lesson import Inputs, Lesson
from stock_assets.model.probabilities import probability_frame, softmax
from stock_assets.model.registry import CurveTitles, ModelEntry, register_model
from stock_assets.settings import Settings
from stock_assets.storage.registry import Training
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

DAY = date(2019, 5, 2)


@dataclass(frozen=True)
class ToyConfig:
    epochs: int = 3

    def to_dict(self) -> dict[str, int]:
        return {"epochs": self.epochs}


@dataclass(frozen=True)
class ToyEpoch:
    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float
    hits: float


@dataclass(frozen=True)
class Toy:
    """A bias that walks towards the class frequencies."""

    cutoff: date
    bias: np.ndarray
    """float64 [3]"""
    curve: tuple[ToyEpoch, ...]
    config: ToyConfig = ToyConfig()

    @property
    def best_epoch(self) -> int:
        return self.curve[-1].epoch

    @property
    def validation_log_loss(self) -> float:
        return self.curve[-1].validation_loss

    @property
    def validation_accuracy(self) -> float:
        return self.curve[-1].hits

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"bias": self.bias}, {"kind": "toy", "cutoff": self.cutoff.isoformat()}


def train(lesson: Lesson) -> Toy:
    counts = np.bincount(lesson.labels["label"].to_numpy() + 1, minlength=3) + 1.0
    goal, bias, curve = np.log(counts / counts.sum()), np.zeros(3), []
    start = 0
    assert lesson.checkpoint is not None
    if saved := lesson.checkpoint.load():
        bias, start = saved[0]["bias"], int(saved[1]["epoch"])
    for epoch in range(start, 4):
        loss = float(-(softmax(goal[None]) * np.log(softmax(bias[None]))).sum())
        curve.append(ToyEpoch(epoch, 3, loss, loss, float(softmax(bias[None]).max())))
        if lesson.on_epoch:
            lesson.on_epoch(curve[-1])
        bias = (bias + goal) / 2
        lesson.checkpoint.save({"bias": bias}, {"epoch": epoch + 1})
    return Toy(lesson.cutoff, bias, tuple(curve))


def load(tensors: dict[str, np.ndarray], description: dict[str, Any]) -> Toy:
    return Toy(date.fromisoformat(description["cutoff"]), tensors["bias"], ())


def predict(model: Toy, inputs: Inputs, sessions: Collection[date]) -> pl.DataFrame:
    rows = inputs.features.filter(pl.col("session").is_in(list(sessions)))
    return probability_frame(rows, np.tile(softmax(model.bias[None]), (rows.height, 1)))


TOY = ModelEntry(
    name="toy",
    role="champion",
    title="a bias that walks towards the class frequencies",
    reads="features",
    table="trained_rnn",
    train=train,
    load=load,
    predict=predict,
    lookback_rows=5,
    curve=CurveTitles("cross-entropy", "largest probability", "hits"),
)


class Tracked(MemoryRegistry):
    """A registry that keeps the trainings as well."""

    def __init__(self) -> None:
        super().__init__()
        self.trainings: list[Training] = []

    def track(self, training: Training) -> None:
        super().track(training)
        self.trainings.append(training)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


def test_a_network_from_outside_is_trained_saved_loaded_and_predicted(settings: Settings):
    with only(QUICK, TOY, entry_of(ClassPrior, table="trained_baselines")):
        store, registry = small_store(settings), Tracked()
        weighed = model_years(store, settings, 2018, 2019, registry=registry)
        assert {"rnn", "toy", "class_prior"} == set(weighed.rows.filter(pl.col("model_year") == 2019)["member"])
        row = store.read("trained_rnn").row(
            by_predicate=(pl.col("model") == "toy") & (pl.col("model_year") == 2019), named=True
        )
        assert row["best_epoch"] == 3
        assert row["validation_accuracy"] > 1 / 3
        made = predicted(store, settings, [DAY])
        assert made.notes == []
        answers = made.rows.filter(pl.col("model") == "toy")
        assert answers.height == 5
        assert set(answers["model_version"]) == {row["version"]}
        assert models_at(made.rows, DAY) == {"rnn", "toy", "class_prior", "ensemble"}
    (kept,) = (t for t in registry.trainings if t.version == row["version"])
    assert [epoch["epoch"] for epoch in kept.curve] == [0, 1, 2, 3]
    assert kept.params == {"epochs": 3, "seed": settings.seed}
    assert kept.figures == {"learning_curve": b"4 cross-entropy largest probability"}
    assert not list(settings.artifacts.rglob(".checkpoint-*"))


def test_a_training_that_failed_goes_on_from_its_last_epoch(settings: Settings):
    class Stops(Exception):
        pass

    def stops(lesson: Lesson) -> Toy:
        assert lesson.checkpoint is not None
        lesson.checkpoint.save({"bias": np.zeros(3)}, {"epoch": 2})
        raise Stops

    with only(QUICK, replace(TOY, train=stops)):
        store = small_store(settings)
        with pytest.raises(Stops):
            trained(store, settings, 2019, table="trained_rnn")
        assert "trained_rnn" not in store.row_counts()
    with only(QUICK, TOY):
        rows = trained(store, settings, 2019, table="trained_rnn")
        assert rows.curves["toy"][0]["epoch"].to_list() == [2, 3]


def test_two_models_of_one_name_are_refused():
    with only(TOY):
        register_model(TOY)  # the same again
        with pytest.raises(StockAssetsError, match="there is a model toy already"):
            register_model(replace(TOY, title="another"))
        with pytest.raises(StockAssetsError, match="there is a model ensemble already"):
            register_model(replace(TOY, name="ensemble"))
