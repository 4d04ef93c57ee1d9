"""A trained network follows the labels that became known since, and looks at nothing else."""

from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch

from benchmarks.updating import UPDATES, UpdateConfig, follow, update_rnn_classifier
from stock_assets.errors import ArtifactError, CutoffError, SettingsError, StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.model.config import RnnClassifierConfig
from stock_assets.model.lesson import InputFrames
from stock_assets.model.networks.layers import SegmentLSTM
from stock_assets.model.registry import MODELS
from stock_assets.model.splits import training_rows
from stock_assets.model.windows import Panel, build_panel
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import synthetic_panel
from stock_assets_tests.model.test_rnn import CUTOFF, DAYS, FEATURES, LABELS, NONE_SUSPECT
from stock_assets_tests.model.tiny import lesson, teach_classifier, teach_rnn, tiny_classifier, tiny_rnn

LATER = DAYS[314]  # so that rows after the first cutoff have labels
UPDATE = UpdateConfig(rate=0.5)


class Case(NamedTuple):
    network: str
    trained: Any
    features: pl.DataFrame
    labels: pl.DataFrame

    def update(
        self, model: Any, features: pl.DataFrame, labels: pl.DataFrame, cutoff: date, update: UpdateConfig
    ) -> Any:
        given = lesson(InputFrames(features, features), labels, cutoff, seed=99)
        return UPDATES[self.network](model, given, update)

    def predict(self, model: Any) -> pl.DataFrame:
        return model.predict(InputFrames(self.features, self.features), DAYS[320:340])

    def updated(self, cutoff: date = LATER, update: UpdateConfig = UPDATE, features: pl.DataFrame | None = None) -> Any:
        labels = training_rows(self.labels, cutoff)
        return self.update(self.trained, self.features if features is None else features, labels, cutoff, update)


def volatility() -> Case:
    trained = teach_rnn(FEATURES, training_rows(LABELS, CUTOFF), NONE_SUSPECT, tiny_rnn(epochs=1), CUTOFF, 1)
    return Case("rnn", trained, FEATURES, LABELS)


def classifier() -> Case:
    features, labels = synthetic_panel(tickers=6, sessions=400)
    config = tiny_classifier(learning_rate=5e-3)
    trained = teach_classifier(features, training_rows(labels, CUTOFF), config, CUTOFF, 1)
    return Case("rnn_classifier", trained, features, labels)


@pytest.fixture(scope="module", params=[volatility, classifier], ids=["rnn", "rnn_classifier"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param()


@pytest.fixture(scope="module")
def updated(case: Case) -> Any:
    return case.updated()


def same(one: Any, other: Any) -> bool:
    (tensors, description), (others, other_description) = one.to_artifact(), other.to_artifact()
    return description == other_description and all(np.array_equal(others[k], v) for k, v in tensors.items())


def test_an_update_moves_the_cutoff_and_the_weights_and_keeps_what_the_inputs_mean(case: Case, updated: Any):
    assert updated.cutoff == LATER
    moved = {f.name for f in fields(updated) if getattr(updated, f.name) is not getattr(case.trained, f.name)}
    level = {"level"} if case.network == "rnn" else set()
    assert moved == {"cutoff", "weights"} | level
    skip = "members.0.skip.weight" if case.network == "rnn" else "skip.weight"
    assert not np.array_equal(updated.weights[skip], case.trained.weights[skip])


def test_nothing_after_the_new_cutoff_and_no_order_of_rows_reaches_it(case: Case, updated: Any):
    numbers = [name for name, kind in case.features.schema.items() if kind.is_float()]
    wild = case.features.with_columns(
        pl.when(pl.col("session") > LATER).then(pl.col(name) * 1e6).otherwise(name).alias(name) for name in numbers
    ).sample(fraction=1.0, shuffle=True, seed=0)
    past = case.features.filter(pl.col("session") <= LATER)
    assert all(same(case.updated(features=features), updated) for features in (wild, past))


def test_what_became_known_since_reaches_it(case: Case, updated: Any):
    new = pl.col("session").is_between(CUTOFF, LATER, closed="right")
    changed = case.features.with_columns(pl.when(new).then(-pl.col("noise")).otherwise("noise").alias("noise"))
    assert not same(case.updated(features=changed), updated)


def test_without_a_pass_the_weights_stay_and_what_stands_beside_them_is_fitted_again(case: Case):
    still = case.updated(update=UpdateConfig(passes=0))
    assert all(np.array_equal(value, case.trained.weights[name]) for name, value in still.weights.items())
    if case.network == "rnn":
        assert not np.array_equal(still.level.pooled.weights, case.trained.level.pooled.weights)
        assert not np.array_equal(still.level.daily.weights, case.trained.level.daily.weights)


def test_an_updated_model_is_saved_and_answers_as_before(case: Case, updated: Any, tmp_path: Path):
    artifact = load_artifact(save_artifact(tmp_path / "model", *updated.to_artifact()))
    loaded = MODELS[case.network].load(artifact.tensors, artifact.description)
    assert loaded.cutoff == LATER
    assert case.predict(loaded).equals(case.predict(updated))
    assert not case.predict(loaded).equals(case.predict(case.trained))


def test_an_updated_model_can_be_updated_again_and_refuses_what_it_knows(case: Case, updated: Any):
    known = training_rows(case.labels, DAYS[319])
    again = case.update(updated, case.features, known, DAYS[319], UPDATE)
    assert again.cutoff == DAYS[319]
    assert case.predict(again).height == case.predict(updated).height > 0
    late = case.update(again, case.features, training_rows(case.labels, DAYS[320]), DAYS[320], UPDATE)
    with pytest.raises(CutoffError, match=f"trained through {DAYS[320]} was asked to predict {DAYS[320]}"):
        case.predict(late)


@pytest.mark.parametrize("cutoff", [CUTOFF, DAYS[290]])
def test_a_cutoff_that_is_not_later_is_refused(case: Case, cutoff: date):
    with pytest.raises(CutoffError, match=f"trained through {CUTOFF} was to be updated to {cutoff}; expected a later"):
        case.updated(cutoff)


def test_labels_that_are_not_purged_or_not_new_and_other_columns_are_refused(case: Case):
    with pytest.raises(CutoffError, match=f"look past the cutoff {LATER}"):
        case.update(case.trained, case.features, case.labels, LATER, UPDATE)
    with pytest.raises(StockAssetsError, match=f"no label became known after {CUTOFF} and by {LATER}"):
        case.update(case.trained, case.features, training_rows(case.labels, CUTOFF), LATER, UPDATE)
    with pytest.raises(ArtifactError, match="columns that the features lack: noise"):
        case.updated(features=case.features.drop("noise"))
    with pytest.raises(StockAssetsError, match="none of the new labels has features"):
        case.updated(features=case.features.filter(pl.col("session") < DAYS[290]))


def test_an_update_learns_a_new_rule_and_memory_keeps_the_old_one():
    features, labels = synthetic_panel(tickers=20, sessions=400)
    turned = labels.with_columns(
        pl.when(pl.col("session") > CUTOFF).then(-pl.col("label")).otherwise("label").alias("label")
    )
    config = tiny_classifier(hidden=16, epochs=5, learning_rate=0.02)
    trained = teach_classifier(features, training_rows(turned, CUTOFF), config, CUTOFF)

    def losses(update: UpdateConfig) -> tuple[float, float]:
        """By the new rule, after the update, and by the old one."""
        cutoff = DAYS[359]
        inputs = InputFrames(components=features)
        model = update_rnn_classifier(trained, lesson(inputs, training_rows(turned, cutoff), cutoff), update)
        rows = model.predict(inputs, DAYS[360:]).join(labels, on=["ticker", "session"])
        probabilities = rows.select("p_sell", "p_hold", "p_buy").to_numpy()
        old = rows["label"].cast(pl.Int64).to_numpy()
        return metrics.log_loss(-old, probabilities), metrics.log_loss(old, probabilities)

    still, moved = losses(UpdateConfig(passes=0)), losses(UpdateConfig(rate=1.0, passes=8, memory=0.0))
    remembered = losses(UpdateConfig(rate=1.0, passes=8, memory=4.0))
    assert moved[0] < still[0] - 0.2
    assert still[1] < remembered[1] < moved[1] - 0.1


class Recording:
    """A `trainer.Network` that keeps the segments it meets, and never judges."""

    report: Any = None

    def __init__(self, config: RnnClassifierConfig, panel: Panel) -> None:
        self.config, self.panel = config, panel
        self.met: list[torch.Tensor] = []

    def build(self, generator: torch.Generator) -> SegmentLSTM:
        return SegmentLSTM(3, self.config, 3, generator=generator)

    def loss(self, module: SegmentLSTM, segments: torch.Tensor) -> tuple[torch.Tensor, int]:
        self.met.append(segments)
        return module(torch.from_numpy(self.panel.values)[segments]).square().mean(), 1

    def judge(self, *_: Any) -> Any:
        raise AssertionError


def test_every_new_label_and_the_stated_share_of_older_segments_enter_the_loss():
    features, labels = synthetic_panel(tickers=5, sessions=300)
    config = tiny_classifier(batch=4)
    columns = ("memory", "shock", "noise")
    panel = build_panel(features, columns, mean=np.zeros(3), std=np.ones(3), clip=6.0)
    new = panel.labelled(labels.filter(pl.col("session") >= DAYS[285]))
    recorded = Recording(config, panel.labelled(labels))
    follow(recorded, recorded.build(torch.Generator().manual_seed(0)), new, UpdateConfig(passes=2, memory=1.4), 0)
    rows = torch.cat(recorded.met)
    assert len(rows) == 2 * (5 + 7)
    assert set(np.flatnonzero(new.labels >= 0)) <= set(rows.flatten().tolist())
    newest = (rows[:, :, None] == torch.from_numpy(np.flatnonzero(new.labels >= 0))).any(dim=(1, 2))
    assert (~newest).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "UpdateConfig.rate=0.0; expected more than 0"),
        ({"passes": -1}, "UpdateConfig.passes=-1; expected 0 or more"),
        ({"memory": -0.5}, "UpdateConfig.memory=-0.5; expected 0 or more"),
        ({"memory": float("nan")}, "UpdateConfig.memory=nan; expected 0 or more"),
    ],
)
def test_settings_out_of_their_range_are_named(change: dict[str, Any], message: str):
    with pytest.raises(SettingsError, match=message):
        replace(UpdateConfig(), **change)
