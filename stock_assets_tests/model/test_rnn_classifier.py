import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, BadBarsError, CutoffError, StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.model.baselines.naive import fit_class_prior
from stock_assets.model.lesson import InputFrames
from stock_assets.model.networks.deepar import DeepAr
from stock_assets.model.networks.earlier_rnn import EarlierRnn
from stock_assets.model.networks.rnn import Rnn
from stock_assets.model.networks.rnn_classifier import RnnClassifier
from stock_assets.model.networks.trained import ClassifierEpoch
from stock_assets.model.splits import training_rows
from stock_assets.model.windows import missing_history
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import HORIZON, sessions_of, synthetic_panel
from stock_assets_tests.model.tiny import teach_classifier, tiny_classifier

DAYS = sessions_of(300)
CUTOFF = DAYS[239]
CONFIG = tiny_classifier()
FEATURES, LABELS = synthetic_panel(tickers=4, sessions=300)


@pytest.fixture(scope="module")
def trained() -> RnnClassifier:
    return teach_classifier(FEATURES, training_rows(LABELS, CUTOFF), CONFIG, CUTOFF, seed=1)


def predict(trained: RnnClassifier, components: pl.DataFrame, sessions: Collection[date]) -> pl.DataFrame:
    return trained.predict(InputFrames(components=components), sessions)


def losses(answer: pl.DataFrame, labels: pl.DataFrame) -> tuple[float, float]:
    rows = answer.join(labels, on=["ticker", "session"])
    truth = rows["label"].cast(pl.Int64).to_numpy()
    probabilities = rows.select("p_sell", "p_hold", "p_buy").to_numpy()
    return metrics.log_loss(truth, probabilities), metrics.accuracy(truth, probabilities)


def test_it_beats_the_class_prior_where_there_is_something_to_learn():
    features, labels = synthetic_panel(tickers=20, sessions=400)
    cutoff, test = sessions_of(400)[299], sessions_of(400)[300:]
    known = training_rows(labels, cutoff)
    network = teach_classifier(features, known, tiny_classifier(hidden=16, epochs=5, learning_rate=0.02), cutoff, 0)
    loss, accuracy = losses(predict(network, features, test), labels)
    prior_loss, prior_accuracy = losses(fit_class_prior(known, cutoff).predict(features, test), labels)
    assert loss < prior_loss - 0.15
    assert accuracy > prior_accuracy + 0.1


def test_without_a_signal_it_is_no_better_than_the_class_prior():
    features, labels = synthetic_panel(tickers=20, sessions=400, signal=0.0)
    cutoff, test = sessions_of(400)[299], sessions_of(400)[300:]
    known = training_rows(labels, cutoff)
    network = teach_classifier(features, known, tiny_classifier(epochs=3), cutoff, 0)
    loss, _ = losses(predict(network, features, test), labels)
    prior_loss, _ = losses(fit_class_prior(known, cutoff).predict(features, test), labels)
    assert prior_loss - 0.003 < loss < prior_loss + 0.02


def test_the_same_seed_gives_the_same_network_and_another_seed_another(trained: RnnClassifier):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = teach_classifier(FEATURES, training_rows(LABELS, CUTOFF), CONFIG, CUTOFF, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    other = teach_classifier(FEATURES, training_rows(LABELS, CUTOFF), CONFIG, CUTOFF, seed=2)
    assert again.curve == trained.curve
    assert all(np.array_equal(again.weights[name], value) for name, value in trained.weights.items())
    assert other.curve != trained.curve


def test_nothing_after_the_cutoff_and_no_order_of_rows_reaches_the_network(trained: RnnClassifier):
    past = FEATURES.filter(pl.col("session") <= CUTOFF)
    wild = FEATURES.filter(pl.col("session") > CUTOFF).with_columns(pl.col("memory", "shock", "noise") * 1e6)
    shuffled = pl.concat([past, wild]).sample(fraction=1.0, shuffle=True, seed=0)
    for features in (past, shuffled):
        again = teach_classifier(features, training_rows(LABELS, CUTOFF).reverse(), CONFIG, CUTOFF, seed=1)
        assert again.curve == trained.curve
        assert np.array_equal(again.mean, trained.mean)


def test_the_scaler_has_seen_no_validation_row(trained: RnnClassifier):
    sessions = training_rows(LABELS, CUTOFF)["session"].unique().sort()
    train = LABELS.filter(pl.col("horizon_end") < sessions[-CONFIG.validation_sessions])
    rows = FEATURES.join(train, on=["ticker", "session"], how="semi")
    assert trained.features == ("memory", "shock", "noise")
    values = rows.select(trained.features).to_numpy()
    np.testing.assert_allclose(trained.mean, values.mean(axis=0))
    np.testing.assert_allclose(trained.std, values.std(axis=0))


def test_every_epoch_is_reported_and_the_best_is_kept():
    seen: list[ClassifierEpoch] = []
    known = training_rows(LABELS, CUTOFF)
    network = teach_classifier(FEATURES, known, replace(CONFIG, epochs=4, learning_rate=0.02), CUTOFF, 0, seen.append)
    assert tuple(seen) == network.curve
    assert [report.epoch for report in seen] == list(range(len(seen)))
    validation = [report.validation_loss for report in seen]
    assert validation[network.best_epoch] == min(validation)
    assert network.best_epoch > 0


def test_training_stops_when_the_validation_no_longer_improves():
    features, labels = synthetic_panel(tickers=4, sessions=300, signal=0.0)
    config = replace(CONFIG, epochs=30, learning_rate=0.05, patience=2)
    network = teach_classifier(features, training_rows(labels, CUTOFF), config, CUTOFF, 0)
    assert len(network.curve) == network.best_epoch + config.patience + 1 < 31


def test_a_day_predicted_alone_equals_the_day_in_a_range(trained: RnnClassifier):
    days = DAYS[240:300]
    together = predict(trained, FEATURES, days)
    for day in (days[0], days[17], days[-1]):
        alone = predict(trained, FEATURES.filter(pl.col("session") <= day), [day])
        assert_frame_equal(alone, together.filter(pl.col("session") == day), abs_tol=1e-6, rel_tol=0)
    assert together.height == 4 * 60
    assert together.columns == ["ticker", "session", "p_sell", "p_hold", "p_buy", "score"]
    np.testing.assert_allclose(together.select(pl.sum_horizontal("p_sell", "p_hold", "p_buy")).to_series(), 1.0)
    np.testing.assert_allclose(together["score"], together["p_buy"] - together["p_sell"])


def test_only_the_context_counts_and_other_tickers_do_not(trained: RnnClassifier):
    day, first = DAYS[260], DAYS[260 - CONFIG.context + 1]
    whole = predict(trained, FEATURES, [day])
    context = FEATURES.filter(pl.col("session") >= first)
    assert_frame_equal(predict(trained, context, [day]), whole, abs_tol=1e-6, rel_tol=0)
    one = predict(trained, FEATURES.filter(pl.col("ticker") == "T02"), [day])
    assert_frame_equal(one, whole.filter(pl.col("ticker") == "T02"), abs_tol=1e-6, rel_tol=0)


def test_a_prediction_is_the_network_run_over_its_context(trained: RnnClassifier):
    day = 250
    rows = FEATURES.filter(pl.col("ticker") == "T01")[day - CONFIG.context + 1 : day + 1]
    values = (rows.select(trained.features).to_numpy() - trained.mean) / trained.std
    inputs = torch.tensor(values.clip(-CONFIG.input_clip, CONFIG.input_clip), dtype=torch.float32)
    with torch.inference_mode():
        expected = torch.softmax(trained.module()(inputs[None])[0, -1], dim=0)
    answer = predict(trained, FEATURES, [DAYS[day]]).filter(pl.col("ticker") == "T01")
    np.testing.assert_allclose(answer.select("p_sell", "p_hold", "p_buy").row(0), expected, atol=1e-6)


def test_short_history_gives_no_row_and_a_counted_reason(trained: RnnClassifier):
    late = FEATURES.filter((pl.col("ticker") != "T03") | (pl.col("session") >= DAYS[245]))
    days = DAYS[240:260]
    answer = predict(trained, late, days)
    first = answer.filter(pl.col("ticker") == "T03")["session"].min()
    assert first == DAYS[245 + CONFIG.context - 1]
    assert missing_history(late, days, CONFIG.context) == {f"fewer than {CONFIG.context} feature rows": 11}
    assert missing_history(FEATURES, days, CONFIG.context) == {}


def test_no_session_gives_an_empty_frame(trained: RnnClassifier):
    answer = predict(trained, FEATURES, [])
    assert answer.is_empty()
    assert answer.schema == predict(trained, FEATURES, DAYS[299:]).schema


def test_a_session_the_model_may_know_is_refused(trained: RnnClassifier):
    with pytest.raises(CutoffError, match=rf"trained through {CUTOFF} was asked to predict {CUTOFF}"):
        predict(trained, FEATURES, [CUTOFF, DAYS[250]])


def test_labels_that_are_not_purged_are_refused():
    with pytest.raises(CutoffError, match=f"look past the cutoff {CUTOFF}"):
        teach_classifier(FEATURES, LABELS, CONFIG, CUTOFF, 0)


def test_a_loss_that_is_not_finite_stops_the_training():
    config = replace(CONFIG, batch=4, learning_rate=1e10, weight_decay=1e10)
    with pytest.raises(StockAssetsError, match=r"the loss of epoch 1, step \d+, became (nan|inf)"):
        teach_classifier(FEATURES, training_rows(LABELS, CUTOFF), config, CUTOFF, 0)


def test_features_that_do_not_fit_are_named(trained: RnnClassifier):
    known = training_rows(LABELS, CUTOFF)
    with pytest.raises(ArtifactError, match="columns that the features lack: noise"):
        predict(trained, FEATURES.drop("noise"), [DAYS[250]])
    with pytest.raises(BadBarsError, match=f"features of T00 at {DAYS[0]}: shock is nan"):
        teach_classifier(FEATURES.with_columns(shock=float("nan")), known, CONFIG, CUTOFF, 0)
    with pytest.raises(StockAssetsError, match="has features; expected rows of the same tickers"):
        teach_classifier(FEATURES.with_columns(ticker=pl.lit("X")), known, CONFIG, CUTOFF, 0)


def test_a_constant_column_and_an_absent_class_are_no_obstacle():
    features = FEATURES.with_columns(noise=pl.lit(0.1))
    known = training_rows(LABELS, CUTOFF).filter(pl.col("label") != 0)
    network = teach_classifier(features, known, CONFIG, CUTOFF, 0)
    answer = predict(network, features, DAYS[240:])
    assert network.std[2] == 1.0
    assert answer.select(pl.all_horizontal(pl.col("p_sell", "p_hold", "p_buy").is_finite()).all()).item()
    assert answer["p_hold"].to_numpy().mean() < 0.1


def test_a_fresh_process_predicts_the_same(trained: RnnClassifier, tmp_path: Path):
    save_artifact(tmp_path / "rnn", *trained.to_artifact())
    FEATURES.write_parquet(tmp_path / "features.parquet")
    script = """
import sys
from datetime import date
from pathlib import Path
import polars as pl
from stock_assets.model.lesson import InputFrames
from stock_assets.model.networks.rnn_classifier import RnnClassifier
from stock_assets.storage.artifacts import load_artifact

folder = Path(sys.argv[1])
artifact = load_artifact(folder / "rnn")
trained = RnnClassifier.from_artifact(artifact.tensors, artifact.description)
days = [date.fromisoformat(day) for day in sys.argv[2:]]
inputs = InputFrames(components=pl.read_parquet(folder / "features.parquet"))
trained.predict(inputs, days).write_parquet(folder / "answer.parquet")
"""
    days = DAYS[280:290]
    subprocess.run([sys.executable, "-c", script, str(tmp_path), *map(str, days)], check=True)
    assert pl.read_parquet(tmp_path / "answer.parquet").equals(predict(trained, FEATURES, days))


def test_an_artifact_brings_everything_back(trained: RnnClassifier, tmp_path: Path):
    artifact = load_artifact(save_artifact(tmp_path / "rnn", *trained.to_artifact()))
    loaded = RnnClassifier.from_artifact(artifact.tensors, artifact.description)
    assert (loaded.config, loaded.cutoff, loaded.seed, loaded.curve, loaded.best_epoch, loaded.features) == (
        trained.config,
        trained.cutoff,
        trained.seed,
        trained.curve,
        trained.best_epoch,
        trained.features,
    )


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("description", "cutoff", None, "incomplete: "),
        ("description", "kind", "tree", "is a 'tree'"),
        ("description", "features", ["memory", "shock"], "3 means and 3 deviations; expected one each of its 2"),
        ("config", "hidden", 9, "weights do not fit"),
        ("config", "wings", 2, "incomplete: TypeError"),
        ("tensors", "mean", None, "incomplete: KeyError"),
        ("tensors", "weights/head.bias", None, "weights do not fit"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused(trained: RnnClassifier, where: str, key: str, value, message: str):
    tensors, description = trained.to_artifact()
    part = {"tensors": tensors, "description": description, "config": description["config"]}[where]
    if value is None:
        del part[key]
    else:
        part[key] = value
    with pytest.raises(ArtifactError, match=message):
        RnnClassifier.from_artifact(tensors, description)


def test_purging_is_as_long_as_the_horizon():
    last = training_rows(LABELS, CUTOFF)["session"].max()
    assert last == DAYS[239 - HORIZON]


def test_the_kinds_in_stored_artifacts_never_change():
    assert (RnnClassifier.kind, EarlierRnn.kind, DeepAr.kind) == ("rnn", "volatility", "deepar")
    assert Rnn.kind == "volatility_members"
