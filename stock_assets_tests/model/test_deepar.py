from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from scipy import integrate, stats

from stock_assets.errors import ArtifactError, BadBarsError, CutoffError, SettingsError, StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.frames import CLASSES, KEYS, PROBABILITIES
from stock_assets.model.baselines.naive import fit_class_prior
from stock_assets.model.config import DeepArConfig, NetworkConfig
from stock_assets.model.lesson import InputFrames
from stock_assets.model.networks.deepar import (
    DeepAr,
    StudentLSTM,
    class_probabilities,
    forecast_to_probabilities,
    negative_log_density,
)
from stock_assets.model.networks.trained import ClassifierEpoch
from stock_assets.model.splits import label_of_rows_ago, training_rows
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import HORIZON, sessions_of, synthetic_panel
from stock_assets_tests.model.tiny import teach_deepar, tiny_deepar

DAYS = sessions_of(300)
CUTOFF = DAYS[239]
CONFIG = tiny_deepar()
FEATURES, LABELS = synthetic_panel(tickers=4, sessions=300)
KNOWN = label_of_rows_ago(FEATURES, LABELS, HORIZON)
PAST = training_rows(LABELS, CUTOFF)


@pytest.fixture(scope="module")
def trained() -> DeepAr:
    return teach_deepar(FEATURES, PAST, KNOWN, CONFIG, CUTOFF, seed=1)


def predict(trained: DeepAr, components: pl.DataFrame, known: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    return trained.predict(InputFrames(components=components, known_labels=known), sessions)


def forecast(trained: DeepAr, components: pl.DataFrame, known: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    return trained.forecast(InputFrames(components=components, known_labels=known), sessions)


def autoregressive_panel(tickers: int, sessions: int, stay: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(one component of noise, labels). A label is that of HORIZON rows ago with probability `stay`, else any."""
    rng = np.random.default_rng(0)
    label = rng.integers(-1, 2, (tickers, sessions))
    kept = rng.random(label.shape) < stay
    for t in range(HORIZON, sessions):
        label[:, t] = np.where(kept[:, t], label[:, t - HORIZON], label[:, t])
    components = pl.DataFrame(
        {
            "ticker": np.repeat([f"T{i:02d}" for i in range(tickers)], sessions),
            "session": sessions_of(sessions) * tickers,
            "pc_1": rng.normal(size=label.size),
        }
    )
    labels = components.select(KEYS).with_columns(
        label=pl.Series(label.ravel(), dtype=pl.Int8), horizon_end=pl.col("session").shift(-HORIZON).over("ticker")
    )
    return components, labels.drop_nulls("horizon_end")


def scores(answer: pl.DataFrame, labels: pl.DataFrame) -> tuple[float, float]:
    rows = answer.join(labels, on=KEYS)
    truth, probabilities = rows["label"].cast(pl.Int64).to_numpy(), rows.select(PROBABILITIES).to_numpy()
    return metrics.log_loss(truth, probabilities), metrics.accuracy(truth, probabilities)


def test_the_configuration_is_the_study_s():
    config = DeepArConfig()
    assert (config.layers, config.hidden, config.context, config.batch) == (1, 177, 59, 244)
    assert (config.learning_rate, config.dropout, config.epochs, config.weight_decay) == (1.04e-4, 0.022, 41, 0.0)
    assert DeepArConfig.from_dict(config.to_dict()) == config
    assert isinstance(CONFIG, NetworkConfig)
    with pytest.raises(SettingsError, match=r"DeepArConfig\.embedding=0; expected 1 or more"):
        DeepArConfig(embedding=0)


def test_it_learns_that_a_label_follows_the_one_of_a_horizon_ago():
    components, labels = autoregressive_panel(tickers=20, sessions=400, stay=0.7)
    days = sessions_of(400)
    cutoff, past = days[299], training_rows(labels, days[299])
    known = label_of_rows_ago(components, labels, HORIZON)
    config = tiny_deepar(hidden=16, epochs=8, segments_per_epoch=512, learning_rate=0.02)
    network = teach_deepar(components, past, known, config, cutoff, seed=0)
    loss, accuracy = scores(predict(network, components, known, days[300:]), labels)
    prior, _ = scores(fit_class_prior(past, cutoff).predict(components, days[300:]), labels)
    assert accuracy > 0.75  # copying is right in 80 % of the rows
    assert loss < prior - 0.2
    blind = known.with_columns(known_label=pl.lit(None, pl.Int8))
    unaware = teach_deepar(components, past, blind, config, cutoff, seed=0)
    assert scores(predict(unaware, components, blind, days[300:]), labels)[1] < 0.4


def test_the_same_seed_gives_the_same_network_and_another_seed_another(trained: DeepAr):
    before = torch.get_rng_state()
    again = teach_deepar(FEATURES, PAST, KNOWN, CONFIG, CUTOFF, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.curve == trained.curve
    assert all(np.array_equal(again.weights[name], value) for name, value in trained.weights.items())
    assert teach_deepar(FEATURES, PAST, KNOWN, CONFIG, CUTOFF, seed=2).curve != trained.curve


def test_nothing_after_the_cutoff_and_no_order_of_rows_reaches_the_training(trained: DeepAr):
    wild = FEATURES.with_columns(
        pl.when(pl.col("session") > CUTOFF).then(pl.col(name) * 1e6).otherwise(name).alias(name)
        for name in ("memory", "shock", "noise")
    )
    shuffled = wild.sample(fraction=1.0, shuffle=True, seed=0)
    known = KNOWN.with_columns(
        known_label=pl.when(pl.col("session") > CUTOFF).then(pl.lit(1, pl.Int8)).otherwise("known_label")
    ).reverse()
    again = teach_deepar(shuffled, PAST.reverse(), known, CONFIG, CUTOFF, seed=1)
    assert again.curve == trained.curve
    assert all(np.array_equal(again.weights[name], value) for name, value in trained.weights.items())


def test_a_day_predicted_alone_equals_the_day_in_a_range_and_rows_may_come_in_any_order(trained: DeepAr):
    days = DAYS[240:300]
    together = predict(trained, FEATURES, KNOWN, days)
    assert together.height == 4 * 60
    assert together.columns == [*KEYS, *PROBABILITIES, "score"]
    for day in (days[0], days[17], days[-1]):
        past = pl.col("session") <= day
        alone = predict(trained, FEATURES.filter(past), KNOWN.filter(past), [day])
        assert_frame_equal(alone, together.filter(pl.col("session") == day), abs_tol=1e-9, rel_tol=0)
    shuffled = predict(trained, FEATURES.sample(fraction=1.0, shuffle=True, seed=3), KNOWN.reverse(), days)
    assert shuffled.equals(together)


def test_only_the_context_counts_and_short_history_gives_no_row(trained: DeepAr):
    day, first = DAYS[260], DAYS[260 - CONFIG.context + 1]
    context = FEATURES.filter(pl.col("session") >= first)
    whole = predict(trained, FEATURES, KNOWN, [day])
    assert_frame_equal(predict(trained, context, KNOWN, [day]), whole, abs_tol=1e-6, rel_tol=0)
    assert predict(trained, context.filter(pl.col("session") > first), KNOWN, [day]).is_empty()


def test_a_prediction_is_the_network_run_over_its_context(trained: DeepAr):
    day = 250
    rows = FEATURES.filter(pl.col("ticker") == "T01")[day - CONFIG.context + 1 : day + 1]
    known = LABELS.filter(pl.col("ticker") == "T01")["label"][day - CONFIG.context + 1 - HORIZON : day + 1 - HORIZON]
    values = ((rows.select(trained.features).to_numpy() - trained.mean) / trained.std).clip(-6, 6)
    inputs = np.column_stack([values, known.to_numpy(), np.ones(CONFIG.context)])
    with torch.inference_mode():
        expected = trained.module()(torch.tensor(inputs[None], dtype=torch.float32), torch.tensor([1]))[0, -1]
    answer = forecast(trained, FEATURES, KNOWN, [DAYS[day]]).filter(pl.col("ticker") == "T01")
    np.testing.assert_allclose(answer.select("location", "scale", "degrees").row(0), expected, atol=1e-5)


def test_every_input_reaches_the_answer_and_an_unknown_label_is_not_a_hold(trained: DeepAr):
    day = [DAYS[270]]
    answer = forecast(trained, FEATURES, KNOWN, day)["location"]
    blind = KNOWN.with_columns(known_label=pl.lit(None, pl.Int8))
    held = KNOWN.with_columns(known_label=pl.lit(0, pl.Int8))
    unaware = forecast(trained, FEATURES, blind, day)["location"]
    assert (answer - unaware).abs().min() > 0  # pyright: ignore[reportOperatorIssue]
    assert (unaware - forecast(trained, FEATURES, held, day)["location"]).abs().min() > 0  # pyright: ignore[reportOperatorIssue]
    assert forecast(trained, FEATURES, KNOWN.clear(), day)["location"].equals(unaware)


def test_an_unknown_ticker_has_the_mean_embedding(trained: DeepAr):
    renamed = [frame.with_columns(ticker="X" + pl.col("ticker")) for frame in (FEATURES, KNOWN)]
    weights = dict(trained.weights)
    assert np.ptp(weights["embedding"], axis=0).min() > 0
    weights["embedding"] = np.tile(weights["embedding"].mean(axis=0), (4, 1))
    stranger = predict(trained, *renamed, DAYS[250:260])
    average = predict(replace(trained, weights=weights), FEATURES, KNOWN, DAYS[250:260])
    assert_frame_equal(stranger.drop("ticker"), average.drop("ticker"), abs_tol=1e-6, rel_tol=0)


def test_a_label_of_rows_ago_is_the_ticker_s_own_row_and_not_a_label():
    rows = pl.DataFrame({"ticker": ["B"] * 4 + ["A"] * 3, "session": [*DAYS[:4], *DAYS[2:5]]})
    labels = rows.with_columns(label=pl.Series([1, 0, -1, 1, 0, 1, 1], dtype=pl.Int8)).filter(
        ~((pl.col("ticker") == "B") & (pl.col("session") == DAYS[1]))  # no label there, and yet a row
    )
    known = label_of_rows_ago(rows.sample(fraction=1.0, shuffle=True, seed=1), labels, 2)
    assert known.rows() == [
        ("A", DAYS[2], None),
        ("A", DAYS[3], None),
        ("A", DAYS[4], 0),
        ("B", DAYS[0], None),
        ("B", DAYS[1], None),
        ("B", DAYS[2], 1),
        ("B", DAYS[3], None),
    ]


def test_the_honest_label_is_fully_known_at_the_close():
    ended = LABELS.select("ticker", "label", session="horizon_end")
    joined = KNOWN.drop_nulls().join(ended, on=KEYS)
    assert joined.height == KNOWN["known_label"].count()
    assert (joined["known_label"] == joined["label"]).all()


@pytest.mark.parametrize("row", [(0.1, 0.8, 10.0), (-0.9, 0.3, 2.01), (3.0, 0.3, 50.0), (0.0, 5.0, 4.0)])
def test_probabilities_are_the_mass_of_the_distribution(row: tuple[float, float, float]):
    location, scale, degrees = row
    density = stats.t(degrees, location, scale).pdf
    (answer,) = class_probabilities(np.array([row]))
    ends = (-np.inf, -0.5, 0.5, np.inf)
    masses = [integrate.quad(density, ends[i], ends[i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(answer, masses, atol=1e-7)
    assert answer.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_loss_is_the_negative_log_density():
    rows = np.array([(0.1, 0.8, 10.0), (-0.9, 0.3, 2.01), (3.0, 0.3, 50.0)])
    labels = np.array([1.0, -1.0, 0.0])
    expected = -stats.t(rows[:, 2], rows[:, 0], rows[:, 1]).logpdf(labels)
    found = negative_log_density(torch.from_numpy(rows), torch.from_numpy(labels))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_the_untrained_network_answers_near_the_distribution_of_all_labels():
    torch.manual_seed(0)
    network = StudentLSTM(3, 2, CONFIG, prior=(0.1, 0.8)).eval()
    network.head.weight.data.zero_()
    with torch.inference_mode():
        location, scale, degrees = network(torch.zeros(1, 4, 5), torch.tensor([0]))[0, -1].tolist()
    assert location == pytest.approx(0.1)
    assert stats.t(degrees, location, scale).std() == pytest.approx(0.8, abs=1e-5)


def test_answers_are_probabilities_and_the_location_lies_with_them(trained: DeepAr):
    distributions = forecast(trained, FEATURES, KNOWN, DAYS[240:])
    answer = forecast_to_probabilities(distributions)
    np.testing.assert_allclose(answer.select(pl.sum_horizontal(PROBABILITIES)).to_series(), 1.0, atol=1e-12)
    assert answer.select(pl.min_horizontal(PROBABILITIES).min()).item() > 0
    np.testing.assert_allclose(answer["score"], answer["p_buy"] - answer["p_sell"])
    assert (answer["score"].sign() == distributions["location"].sign()).all()
    assert answer.equals(predict(trained, FEATURES, KNOWN, DAYS[240:]))


def test_every_epoch_is_reported_and_the_best_is_kept():
    seen: list[ClassifierEpoch] = []
    network = teach_deepar(FEATURES, PAST, KNOWN, replace(CONFIG, epochs=4, learning_rate=0.02), CUTOFF, 0, seen.append)
    assert tuple(seen) == network.curve
    losses = [report.validation_loss for report in seen]
    assert losses[network.best_epoch] == min(losses)
    assert network.best_epoch > 0


def test_a_constant_column_an_absent_class_and_a_ticker_of_ten_rows_are_no_obstacle():
    features = FEATURES.with_columns(noise=pl.lit(0.1)).filter(
        (pl.col("ticker") != "T03") | pl.col("session").is_in(DAYS[230:240])
    )
    labels = PAST.filter(pl.col("label") != 0)
    network = teach_deepar(features, labels, KNOWN, CONFIG, CUTOFF, 0)
    answer = predict(network, features, KNOWN, DAYS[240:])
    assert network.std[2] == 1.0
    assert answer["ticker"].unique().sort().to_list() == ["T00", "T01", "T02"]
    assert answer.select(pl.all_horizontal(pl.col(PROBABILITIES).is_finite()).all()).item()


def test_bad_input_is_one_clear_error(trained: DeepAr):
    with pytest.raises(CutoffError, match=rf"trained through {CUTOFF} was asked to predict {CUTOFF}"):
        predict(trained, FEATURES, KNOWN, [CUTOFF, DAYS[250]])
    with pytest.raises(CutoffError, match=f"look past the cutoff {CUTOFF}"):
        teach_deepar(FEATURES, LABELS, KNOWN, CONFIG, CUTOFF, 0)
    with pytest.raises(BadBarsError, match=f"known labels hold T00 at {DAYS[0]} twice"):
        teach_deepar(FEATURES, PAST, pl.concat([KNOWN, KNOWN.head(1)]), CONFIG, CUTOFF, 0)
    with pytest.raises(BadBarsError, match=f"known label of T00 at {DAYS[0]} is 2; expected -1, 0, 1 or null"):
        teach_deepar(FEATURES, PAST, KNOWN.with_columns(known_label=pl.lit(2)), CONFIG, CUTOFF, 0)
    with pytest.raises(ArtifactError, match="columns that the features lack: noise"):
        predict(trained, FEATURES.drop("noise"), KNOWN, [DAYS[250]])
    with pytest.raises(BadBarsError, match=f"features of T00 at {DAYS[0]}: shock is nan"):
        teach_deepar(FEATURES.with_columns(shock=float("nan")), PAST, KNOWN, CONFIG, CUTOFF, 0)
    with pytest.raises(StockAssetsError, match="has features; expected rows of the same"):
        teach_deepar(FEATURES.with_columns(ticker=pl.lit("X") + pl.col("ticker")), PAST, KNOWN, CONFIG, CUTOFF, 0)


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(StockAssetsError, match=r"the loss of epoch 1, step \d+, became (nan|inf)"):
        teach_deepar(FEATURES, PAST, KNOWN, replace(CONFIG, batch=4, learning_rate=1e38), CUTOFF, 0)


def test_an_artifact_brings_everything_back(trained: DeepAr, tmp_path: Path):
    artifact = load_artifact(save_artifact(tmp_path / "deepar", *trained.to_artifact()))
    loaded = DeepAr.from_artifact(artifact.tensors, artifact.description)
    for name in ("config", "features", "tickers", "cutoff", "seed", "curve", "best_epoch"):
        assert getattr(loaded, name) == getattr(trained, name)
    assert isinstance(loaded.cutoff, date)
    days = DAYS[280:290]
    assert predict(loaded, FEATURES, KNOWN, days).equals(predict(trained, FEATURES, KNOWN, days))


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ("description", "tickers", None, "incomplete: "),
        ("description", "kind", "rnn", "is a 'rnn'"),
        ("description", "classes", list(CLASSES)[:2], r"with classes \[-1, 0\]"),
        ("description", "features", ["memory", "shock"], "3 means and 3 deviations; expected one each of its 2"),
        ("description", "tickers", ["A"], "weights do not fit"),
        ("config", "hidden", 9, "weights do not fit"),
        ("config", "wings", 2, "incomplete: TypeError"),
        ("tensors", "std", None, "incomplete: KeyError"),
        ("tensors", "weights/head.bias", None, "weights do not fit"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused(trained: DeepAr, where: str, key: str, value, message: str):
    tensors, description = trained.to_artifact()
    part = {"tensors": tensors, "description": description, "config": description["config"]}[where]
    if value is None:
        del part[key]
    else:
        part[key] = value
    with pytest.raises(ArtifactError, match=message):
        DeepAr.from_artifact(tensors, description)
