import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stock_assets.errors import ArtifactError, BadBarsError, CutoffError, StockAssetsError
from stock_assets.model.baselines import linear
from stock_assets.model.baselines.base import Baseline
from stock_assets.model.baselines.linear import Logistic, fit_logistic
from stock_assets.model.baselines.naive import (
    LABEL_LIFETIME,
    Persistence,
    fit_class_prior,
    fit_persistence,
    fit_ticker_prior,
    known_labels,
)
from stock_assets.model.registry import naive_baselines
from stock_assets.model.splits import training_rows
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import HORIZON, sessions_of, synthetic_panel

DAYS = sessions_of(300)
CUTOFF = DAYS[239]
FEATURES, LABELS = synthetic_panel(tickers=5, sessions=300)
KNOWN = training_rows(LABELS, CUTOFF)
NEWEST = known_labels(LABELS, FEATURES)
#: One frame that every baseline finds its inputs in.
LATER = FEATURES.join(NEWEST, on=["ticker", "session"]).filter(pl.col("session") > CUTOFF)


@pytest.fixture(scope="module")
def baselines() -> list[Baseline]:
    return [
        fit_class_prior(KNOWN, CUTOFF),
        fit_ticker_prior(KNOWN, CUTOFF),
        fit_logistic(FEATURES, KNOWN, CUTOFF),
        fit_persistence(NEWEST, KNOWN, CUTOFF),
    ]


def test_the_class_prior_is_the_counted_share():
    labels = KNOWN["label"].to_list()
    expected = [(labels.count(c) + 1) / (len(labels) + 3) for c in (-1, 0, 1)]
    answer = fit_class_prior(KNOWN, CUTOFF).predict(LATER)
    assert answer.height == LATER.height
    assert answer.select("p_sell", "p_hold", "p_buy").unique().row(0) == pytest.approx(expected)


def test_a_ticker_prior_lies_between_its_own_share_and_that_of_all():
    skewed = KNOWN.with_columns(label=pl.when(pl.col("ticker") == "T01").then(pl.lit(1, pl.Int8)).otherwise("label"))
    everyone = fit_class_prior(skewed, CUTOFF).prior
    count = skewed.filter(pl.col("ticker") == "T01").height
    answer = fit_ticker_prior(skewed, CUTOFF, pseudo_count=50).predict(LATER)
    own = answer.filter(pl.col("ticker") == "T01")["p_buy"].unique().item()
    assert own == pytest.approx((count + 50 * everyone[2]) / (count + 50))
    assert answer.filter(pl.col("ticker") == "T00")["p_buy"].unique().item() < own


def test_a_ticker_unknown_to_the_training_gets_the_class_prior():
    model = fit_ticker_prior(KNOWN, CUTOFF)
    answer = model.predict(LATER.with_columns(ticker=pl.lit("NEW")))
    assert answer.select("p_sell", "p_hold", "p_buy").unique().row(0) == pytest.approx(tuple(model.prior))


def test_the_known_label_is_that_of_a_horizon_ago_and_none_before():
    late = known_labels(LABELS.sample(fraction=1.0, shuffle=True, seed=0), LATER.sample(fraction=1.0, seed=1))
    assert late.equals(NEWEST.filter(pl.col("session") > CUTOFF))
    expected = FEATURES.select("ticker", "session").join(LABELS, on=["ticker", "session"], how="left")
    expected = expected.sort("ticker", "session").with_columns(pl.col("label").shift(HORIZON).over("ticker"))
    assert NEWEST["known_label"].to_list() == expected["label"].to_list()
    assert NEWEST.filter(pl.col("session") <= DAYS[HORIZON - 1])["known_label"].null_count() == 5 * HORIZON
    assert NEWEST.schema == {"ticker": pl.String, "session": pl.Date, "known_label": pl.Int8}


def test_the_known_label_is_the_newest_that_was_over_by_then():
    """Worked by hand: a ticker whose labels have gaps, beside one that has none yet."""
    labels = pl.DataFrame(
        {
            "ticker": ["A"] * 4,
            "session": [date(2018, 1, 2), date(2018, 1, 3), date(2018, 1, 4), date(2018, 1, 5)],
            "label": [1, -1, None, 0],
            "horizon_end": [date(2018, 1, 11), date(2018, 1, 12), date(2018, 1, 16), date(2018, 1, 17)],
        }
    )
    asked = {10: None, 11: 1, 12: -1, 16: -1, 17: 0, 31: 0}
    rows = pl.DataFrame({"ticker": ["A"] * len(asked), "session": [date(2018, 1, day) for day in asked]})
    rows = pl.concat([rows, rows.head(1).with_columns(ticker=pl.lit("B"), session=date(2018, 1, 31))])
    assert known_labels(labels, rows)["known_label"].to_list() == [*asked.values(), None]


def test_an_old_label_counts_as_none_so_that_how_far_back_labels_were_read_never_shows():
    labelled = LABELS.filter(pl.col("ticker") == "T00").row(-1, named=True)["session"]
    last = labelled + timedelta(days=LABEL_LIFETIME)
    days = [last, last + timedelta(days=1)]
    rows = pl.DataFrame({"ticker": ["T00"] * 2, "session": days})
    answer = known_labels(LABELS, rows)
    assert answer["known_label"].is_null().to_list() == [False, True]
    read = LABELS.filter(pl.col("session") >= days[0] - timedelta(days=LABEL_LIFETIME))
    assert known_labels(read, rows).equals(answer)
    assert known_labels(LABELS.clear(), rows)["known_label"].null_count() == 2
    assert known_labels(LABELS, rows.clear()).is_empty()


def test_no_label_that_ends_later_touches_the_known_one():
    day = DAYS[200]
    rows = FEATURES.filter(pl.col("session") <= day)
    assert known_labels(training_rows(LABELS, day), rows).equals(NEWEST.filter(pl.col("session") <= day))


def test_persistence_counts_what_followed_each_known_label():
    model = fit_persistence(NEWEST.sample(fraction=1.0, shuffle=True, seed=0), KNOWN, CUTOFF, pseudo_count=50)
    prior = fit_class_prior(KNOWN, CUTOFF).prior
    pairs = KNOWN.join(NEWEST, on=["ticker", "session"])
    for position, known in enumerate((-1, 0, 1, None)):
        followed = pairs.filter(pl.col("known_label").eq_missing(known))["label"].to_list()
        assert len(followed) > 20
        expected = [(followed.count(c) + 50 * prior[i]) / (len(followed) + 50) for i, c in enumerate((-1, 0, 1))]
        np.testing.assert_allclose(model.after[position], expected)
        asked = LATER.with_columns(known_label=pl.lit(known, pl.Int8))
        assert model.predict(asked).select("p_sell", "p_hold", "p_buy").unique().row(0) == pytest.approx(expected)
    # the panel's state is persistent, and so must be what persistence says
    assert model.after[2, 2] > prior[2] + 0.02 > model.after[0, 2] + 0.02


def test_a_known_label_never_seen_in_training_is_answered_with_the_prior():
    model = fit_persistence(NEWEST.with_columns(known_label=pl.lit(None, pl.Int8)), KNOWN, CUTOFF)
    for position in (0, 1, 2):
        np.testing.assert_allclose(model.after[position], fit_class_prior(KNOWN, CUTOFF).prior)


def test_persistence_refuses_what_is_no_known_label(baselines: list[Baseline]):
    with pytest.raises(ArtifactError, match="known_label, which the rows lack"):
        baselines[3].predict(LATER.drop("known_label"))
    with pytest.raises(BadBarsError, match=f"known_label of T00 at {DAYS[240]} is 2; expected null or one of"):
        baselines[3].predict(LATER.with_columns(known_label=pl.lit(2, pl.Int8)))


def test_every_baseline_says_what_it_reads(baselines: list[Baseline]):
    assert {model.name: model.reads for model in baselines} == {
        "class_prior": "none",
        "ticker_prior": "none",
        "logistic": "components",
        "persistence": "known_labels",
    }
    looks_at_none = {model.name for model in baselines if isinstance(model, Persistence) or model.reads == "none"}
    assert looks_at_none == set(naive_baselines()) == {model.name for model in baselines if model.naive}


def test_a_day_alone_is_the_day_in_a_range_and_no_session_is_no_row(baselines: list[Baseline]):
    for model in baselines:
        whole = model.predict(LATER).filter(pl.col("session") == DAYS[250])
        alone = model.predict(LATER, [DAYS[250]])
        columns = ["p_sell", "p_hold", "p_buy", "score"]
        np.testing.assert_allclose(alone.select(columns), whole.select(columns), rtol=0, atol=1e-12)
        assert model.predict(LATER, []).schema == whole.schema


def test_the_logistic_regression_beats_the_prior_and_is_at_its_optimum(baselines: list[Baseline]):
    prior, _, logistic, _ = baselines
    assert isinstance(logistic, Logistic)
    truth = LATER.join(LABELS, on=["ticker", "session"]).sort("ticker", "session")
    rows = np.arange(truth.height)

    def loss(model: Baseline) -> float:
        answer = model.predict(truth.select(FEATURES.columns)).select("p_sell", "p_hold", "p_buy").to_numpy()
        return float(-np.log(answer[rows, truth["label"].to_numpy() + 1]).mean())

    assert loss(logistic) < loss(prior) - 0.1
    # where the penalised log-loss is least, the mean error against each input is the pull of the penalty
    train = FEATURES.join(KNOWN, on=["ticker", "session"]).sort("ticker", "session")
    values = (train.select(logistic.features).to_numpy() - logistic.mean) / logistic.std
    error = logistic.probabilities(train) - (train["label"].to_numpy()[:, None] == np.array([-1, 0, 1]))
    np.testing.assert_allclose(values.T @ error + logistic.weights, 0, atol=0.5)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=0.5)


def test_of_too_many_labels_every_so_many_of_each_ticker_train_and_the_artifact_says_so(tmp_path, monkeypatch):
    place = pl.int_range(pl.len()).over("ticker") + pl.col("ticker").rank("dense")
    third = KNOWN.sort("ticker", "session").filter(place % 3 == 0)
    expected = fit_logistic(FEATURES, third, CUTOFF)
    assert "every" not in expected.to_artifact()[1]["values"]
    monkeypatch.setattr(linear, "MOST_LABELS", KNOWN.height // 3 + 1)
    model = fit_logistic(FEATURES, KNOWN, CUTOFF)
    np.testing.assert_array_equal(model.weights, expected.weights)
    artifact = load_artifact(save_artifact(tmp_path / "b", *model.to_artifact()))
    assert artifact.description["values"]["every"] == 3
    assert Logistic.from_artifact(artifact.tensors, artifact.description).every == 3


def test_zero_signal_leaves_the_logistic_regression_at_the_prior():
    features, labels = synthetic_panel(tickers=20, sessions=300, signal=0.0)
    known = training_rows(labels, CUTOFF)
    later = features.filter(pl.col("session") > CUTOFF)
    answer = fit_logistic(features, known, CUTOFF).predict(later)
    prior = fit_class_prior(known, CUTOFF).predict(later)
    assert np.abs(answer["p_buy"].to_numpy() - prior["p_buy"].to_numpy()).max() < 0.1


@pytest.mark.parametrize("kept", [[-1, 1], [0, 1]])
def test_an_absent_class_gets_no_probability_from_the_logistic_regression(kept: list[int]):
    known = KNOWN.filter(pl.col("label").is_in(kept))
    model = fit_logistic(FEATURES, known, CUTOFF)
    answer = model.predict(LATER)
    absent = ({-1: "p_sell", 0: "p_hold", 1: "p_buy"}[c] for c in (-1, 0, 1) if c not in kept)
    assert answer[next(absent)].to_list() == [0.0] * LATER.height
    np.testing.assert_allclose(answer.select(pl.sum_horizontal("p_sell", "p_hold", "p_buy")).to_series(), 1.0)
    rising = LATER.with_columns(memory=pl.lit(3.0))
    assert model.predict(rising)["p_buy"].to_numpy().mean() > answer["p_buy"].to_numpy().mean()


def test_nothing_to_learn_is_one_clear_error():
    with pytest.raises(StockAssetsError, match=r"of 1 class\(es\)"):
        fit_logistic(FEATURES, KNOWN.filter(pl.col("label") == 0), CUTOFF)
    for fit in (fit_class_prior, fit_ticker_prior):
        with pytest.raises(StockAssetsError, match=f"no label is known by the cutoff {CUTOFF}"):
            fit(KNOWN.clear(), CUTOFF)


def test_labels_past_the_cutoff_and_sessions_before_it_are_refused(baselines: list[Baseline]):
    for fit in (fit_class_prior, fit_ticker_prior):
        with pytest.raises(CutoffError, match="look past the cutoff"):
            fit(LABELS, CUTOFF)
    with pytest.raises(CutoffError, match="look past the cutoff"):
        fit_persistence(NEWEST, LABELS, CUTOFF)
    with pytest.raises(CutoffError, match="look past the cutoff"):
        fit_logistic(FEATURES, LABELS, CUTOFF)
    for model in baselines:
        with pytest.raises(CutoffError, match=f"trained through {CUTOFF} was asked to predict {DAYS[0]}"):
            model.predict(FEATURES)


def test_rows_come_back_sorted_for_the_sessions_asked(baselines: list[Baseline]):
    for model in baselines:
        answer = model.predict(LATER.sample(fraction=1.0, shuffle=True, seed=0), DAYS[250:260])
        assert answer.equals(model.predict(LATER).filter(pl.col("session").is_in(DAYS[250:260])))
        assert answer.columns == ["ticker", "session", "p_sell", "p_hold", "p_buy", "score"]
        assert answer.height == 50


def test_columns_that_are_no_numbers_feed_no_model():
    versioned = FEATURES.with_columns(pca_version=pl.lit("abc"))
    assert fit_logistic(versioned, KNOWN, CUTOFF).features == ("memory", "shock", "noise")


def test_features_that_do_not_fit_are_named(baselines: list[Baseline]):
    with pytest.raises(ArtifactError, match="columns that the features lack: shock"):
        baselines[2].predict(LATER.drop("shock"))
    with pytest.raises(BadBarsError, match=f"features of T00 at {DAYS[240]}: noise is inf"):
        baselines[2].predict(LATER.with_columns(noise=float("inf")))


def test_a_fresh_process_predicts_the_same_without_torch_or_scikit_learn(baselines: list[Baseline], tmp_path: Path):
    for model in baselines:
        save_artifact(tmp_path / model.name, *model.to_artifact())
    LATER.write_parquet(tmp_path / "later.parquet")
    script = """
import sys
from pathlib import Path
import polars as pl
from stock_assets.model.registry import MODELS
from stock_assets.storage.artifacts import load_artifact

folder = Path(sys.argv[1])
for name in sys.argv[2:]:
    artifact = load_artifact(folder / name)
    model = MODELS[artifact.description["name"]].load(artifact.tensors, artifact.description)
    assert model.name == name
    model.predict(pl.read_parquet(folder / "later.parquet")).write_parquet(folder / f"{name}.parquet")
assert not {"torch", "sklearn"} & sys.modules.keys()
"""
    names = [model.name for model in baselines]
    subprocess.run([sys.executable, "-c", script, str(tmp_path), *names], check=True)
    for model in baselines:
        assert pl.read_parquet(tmp_path / f"{model.name}.parquet").equals(model.predict(LATER))


def test_an_artifact_that_does_not_fit_is_refused(baselines: list[Baseline], tmp_path: Path):
    (logistic,) = (model for model in baselines if model.name == "logistic")
    artifact = load_artifact(save_artifact(tmp_path / "b", *logistic.to_artifact()))
    tensors, description = artifact.tensors, artifact.description
    with pytest.raises(ArtifactError, match="incomplete: TypeError"):
        Logistic.from_artifact({name: t for name, t in tensors.items() if name != "bias"}, description)
    for key in ("name", "kind"):
        with pytest.raises(ArtifactError, match=r"artifact is \(.*'oracle'.*expected \('baseline', 'logistic', "):
            Logistic.from_artifact(tensors, description | {key: "oracle"})
    with pytest.raises(ArtifactError, match="incomplete: KeyError"):
        Logistic.from_artifact(tensors, {name: value for name, value in description.items() if name != "values"})
