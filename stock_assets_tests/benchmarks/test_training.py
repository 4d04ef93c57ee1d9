"""What the training benchmark measures with. The parts that need GluonTS run where GLUONTS_PYTHON names its Python."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from benchmarks.judging import HALFWAY, best_cuts, log_loss, student_t_probabilities
from benchmarks.learning import Epoch, Learned, Material, Watch, sampled_validation
from benchmarks.training import GluonTS, gluonts_python, panel_of, reached, report, run_gluonts
from benchmarks.training_scale import Size, exponent, networks_of, sizes_of
from stock_assets.evaluation import metrics
from stock_assets.model.networks import deepar, rnn_classifier
from stock_assets.settings import PROJECT_DIR
from stock_assets_tests.model.synthetic import synthetic_panel
from stock_assets_tests.model.tiny import teach_classifier, tiny_classifier

FORECASTS = np.array([[3.0, 2.5, 40.0, 8.0], [0.1, -0.9, 0.0, 30.0], [0.7, 0.2, 1.5, 0.1]])
TRUTH = np.array([1, 0, 2, 2])


def test_class_probabilities_are_the_masses_between_the_cuts():
    found = student_t_probabilities(*FORECASTS, (-0.4, 0.6))
    freedom, location, scale = FORECASTS
    below = stats.t.cdf([[-0.4], [0.6]], freedom, location, scale)
    expected = np.stack([below[0], below[1] - below[0], 1 - below[1]], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_both_sides_are_judged_alike():
    ours = deepar.class_probabilities(FORECASTS[[1, 2, 0]].T)
    theirs = student_t_probabilities(*FORECASTS)
    np.testing.assert_allclose(theirs, ours, atol=1e-12)
    assert log_loss(theirs, TRUTH) == pytest.approx(metrics.log_loss(TRUTH - 1, ours), abs=1e-9)


def test_fitted_cuts_repair_the_shape_of_the_distribution():
    # every label as likely: at the halves the normal-like middle takes too much
    freedom, location, scale = np.full((3, 3000), [[30.0], [0.0], [0.8]])
    truth = np.repeat([0, 1, 2], 1000)
    cuts = best_cuts(freedom, location, scale, truth)
    at_cuts, at_halves = (
        log_loss(student_t_probabilities(freedom, location, scale, c), truth) for c in (cuts, HALFWAY)
    )
    assert at_cuts == pytest.approx(np.log(3), abs=1e-6)
    assert at_halves > at_cuts + 0.01


def material_of(tickers: int = 5) -> tuple[Material, pl.DataFrame, pl.DataFrame]:
    features, labels = synthetic_panel(tickers=tickers)
    cutoff = features["session"].max()
    train, judged = sampled_validation(labels, cutoff, 20, 80, seed=1)  # pyright: ignore[reportArgumentType]
    nobody = features.select("ticker", "session").clear()
    return Material(features, features, labels, nobody), train, judged


def test_the_panel_of_gluonts_is_the_one_that_we_train_on():
    material, train, judged = material_of()
    panel = panel_of(material.components, material.labels, train, judged_rows=judged, clip=6.0, seed=0)
    rows = material.components.sort("ticker", "session")
    keys = rows.select("ticker", "session").with_row_index("row")
    expected = keys.join(judged, on=["ticker", "session"])
    assert sorted(expected["row"]) == panel["judged"].tolist()
    np.testing.assert_array_equal(panel["truth"], expected.sort("row")["label"].to_numpy() + 1)
    assert np.isnan(panel["labels"]).sum() == rows.height - material.labels.height
    # the last row that trains ends before the validation begins
    last = panel["starts"] + panel["train_lengths"] - 1
    assert set(panel["sessions"][last]) == {np.datetime64(train["session"].max())}
    assert not np.intersect1d(panel["calibrating"], panel["judged"]).size
    trained = np.concatenate([np.arange(a, b + 1) for a, b in zip(panel["starts"], last, strict=True)])
    np.testing.assert_allclose(panel["values"][trained].mean(axis=0), 0, atol=1e-5)


def test_a_draw_that_leaves_a_session_out_is_refused():
    features, labels = synthetic_panel()
    with pytest.raises(ValueError, match="expected all 20: draw more"):
        sampled_validation(labels, features["session"].max(), 20, 12, seed=0)  # pyright: ignore[reportArgumentType]


def test_the_watch_counts_what_enters_the_loss(monkeypatch: pytest.MonkeyPatch):
    material, train, judged = material_of()
    config, watch = tiny_classifier(segments_per_epoch=1000), Watch()
    cutoff = material.components["session"].max()
    labels = pl.concat([train, judged])
    plain = teach_classifier(material.components, labels, config, cutoff)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(rnn_classifier, "descend", watch.descend(rnn_classifier.descend))
    watched = teach_classifier(material.components, labels, config, cutoff)  # pyright: ignore[reportArgumentType]
    assert [epoch.log_loss for epoch in watch.epochs] == [epoch.validation_loss for epoch in plain.curve]
    assert watched.curve == plain.curve
    assert [(e.targets, e.distinct) for e in watch.epochs] == [(0, 0)] + [(train.height, train.height)] * config.epochs
    assert watch.ever == train.height
    assert all(earlier.clock < later.clock for earlier, later in zip(watch.epochs, watch.epochs[1:], strict=False))


def learned(network: str, losses: list[float], seconds: float) -> Learned:
    epochs = [Epoch(seconds, seconds, seconds * (i + 1), 2000 * i, 1000 * i, loss) for i, loss in enumerate(losses)]
    return Learned(network, epochs, seconds * len(losses), 1500, min(losses), 2**27, 2**28)


def test_the_report_says_never_and_missed():
    slow = GluonTS(learned("GluonTS", [1.3, 1.2, 1.1], 10.0), [1.02, 1.06, 1.05], 2, {"gluonts": "0.17.0"})
    text = report(slow, [learned("deepar", [1.3, 1.07, 1.06], 0.1)])
    assert "| deepar | 1.0600 | 0.2 | never | 256 | 128 |" in text
    assert "| deepar: times faster to its best log-loss | 150.0 | at least 10 | met |" in text
    assert "| deepar: times faster to that with fitted cuts | 0.0 | at least 10 | missed |" in text
    assert "seconds to 1.0500, that with fitted cuts" in text
    assert "| deepar: times the distinct targets per second | 100.0 | at least 50 | met |" in text
    assert reached(slow.learned, 1.2) == 20.0
    blind = learned("rnn", [1.0], 3.0)
    blind = blind._replace(epochs=[epoch._replace(log_loss=None) for epoch in blind.epochs])
    assert [reached(blind, level) for level in (1.01, 0.99)] == [3.0, np.inf]


def test_a_budget_without_an_epoch_is_an_error():
    with pytest.raises(RuntimeError, match="no epoch"):
        GluonTS.of({"epochs": []})


def test_an_interpreter_without_gluonts_is_named():
    with pytest.raises(SystemExit, match=r"no such file; expected the Python"):
        gluonts_python(Path("nowhere/python"))
    with pytest.raises(SystemExit, match=r"No module named 'gluonts'; expected what gluonts-requirements.txt lists"):
        gluonts_python(Path(sys.executable))


def test_sizes_and_networks():
    assert sizes_of("10x1,20x2,30x4") == [Size(10, 1), Size(20, 2), Size(30, 4)]
    with pytest.raises(ValueError, match="expected three"):
        sizes_of("10x1,20x2")
    with pytest.raises(ValueError, match="no network tcn"):
        networks_of("rnn,tcn")
    assert exponent([100, 200, 400], [3.0, 6.0, 12.0]) == pytest.approx(1)


def test_peak_memory_is_of_this_process():
    code = (
        "import numpy as np; from benchmarks.judging import peak_memory; before = peak_memory(); "
        "block = np.ones(2**26); assert peak_memory() >= before + block.nbytes // 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT_DIR)


HONEST = """
import sys, numpy as np
from benchmarks.gluonts_worker import Judge, estimator_of, series_of
with np.load(sys.argv[1]) as arrays:
    panel = {name: arrays[name] for name in arrays.files}
def forecast(ago):
    changed = panel | {"labels": panel["labels"].copy()}
    row = panel["judged"][:1]
    for step in ago:
        changed["labels"][row - step] = 2.0
    series = series_of(changed)
    return Judge(estimator, series, changed).parameters(network, row)[:, 0]
estimator = estimator_of(series_of(panel), 2, sys.argv[2], [])
network = estimator.create_lightning_module().model
plain = forecast([])
print(np.abs(forecast(range(-20, 7)) - plain).max() == 0, np.abs(forecast([7]) - plain).max() > 1e-6)
"""


@pytest.fixture(scope="module")
def gluonts() -> Path:
    if "GLUONTS_PYTHON" not in os.environ:
        pytest.skip("GLUONTS_PYTHON names no interpreter with benchmarks/gluonts-requirements.txt")
    return Path(os.environ["GLUONTS_PYTHON"])


def test_gluonts_knows_no_label_that_is_not_complete(gluonts: Path, tmp_path: Path):
    material, train, judged = material_of()
    panel = panel_of(material.components, material.labels, train, judged_rows=judged, clip=6.0, seed=0)
    np.savez(tmp_path / "panel.npz", **panel)  # pyright: ignore[reportArgumentType]
    command = [gluonts, "-W", "ignore", "-c", HONEST, tmp_path / "panel.npz", tmp_path]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_gluonts_answers_what_is_parsed(gluonts: Path, tmp_path: Path):
    material, train, judged = material_of()
    panel = panel_of(material.components, material.labels, train, judged_rows=judged, clip=6.0, seed=0)
    answer = run_gluonts(gluonts, tmp_path, panel, budget=0.0, seed=0, batches=2)
    assert len(answer.learned.epochs) == len(answer.calibrated) == 2  # the untrained network, and one epoch
    first, one = answer.learned.epochs
    assert first.targets == 0
    assert 0 < one.distinct <= one.targets <= 2 * 244 * 59
    assert answer.learned.ever == one.distinct <= train.height
    assert 0.9 < min(answer.calibrated) < 2
