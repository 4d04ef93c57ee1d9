import builtins
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import ArtifactError, BadBarsError, CutoffError, StockAssetsError
from stock_assets.model.baselines.base import Baseline
from stock_assets.model.baselines.linear import fit_logistic
from stock_assets.model.baselines.mlp import fit_mlp
from stock_assets.model.baselines.naive import fit_class_prior
from stock_assets.model.baselines.samples import EVERY, thinned
from stock_assets.model.baselines.svm import Svm, fit_svm
from stock_assets.model.baselines.trees import fit_trees
from stock_assets.model.splits import training_rows
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import FEATURES as COLUMNS
from stock_assets_tests.model.synthetic import sessions_of, synthetic_panel

DAYS = sessions_of(400)
CUTOFF = DAYS[329]
FEATURES, LABELS = synthetic_panel(tickers=30, sessions=400)
KNOWN = training_rows(LABELS, CUTOFF)
LATER = FEATURES.filter(pl.col("session") > CUTOFF)
PROBABILITIES = ["p_sell", "p_hold", "p_buy"]


def grow(features: pl.DataFrame, labels: pl.DataFrame, cutoff: Any = CUTOFF, seed: int = 0, **changes: Any) -> Baseline:
    """Trees with leaves small enough for a small panel."""
    return fit_trees(features, labels, cutoff, seed=seed, **({"rows_per_leaf": 50, "share": 0.7} | changes))


FITS: dict[str, Callable[..., Baseline]] = {"svm": fit_svm, "mlp": fit_mlp, "trees": grow}
every_fit = pytest.mark.parametrize("fit", FITS.values(), ids=FITS)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Baseline]:
    return {name: fit(FEATURES, KNOWN, CUTOFF) for name, fit in FITS.items()}


def log_loss(model: Baseline, features: pl.DataFrame = LATER, labels: pl.DataFrame = LABELS) -> float:
    rows = model.predict(features).join(labels, on=["ticker", "session"])
    return float(-np.log(rows.select(PROBABILITIES).to_numpy()[np.arange(rows.height), rows["label"] + 1]).mean())


def same(one: Baseline, other: Baseline) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def test_each_beats_the_prior_and_comes_near_the_logistic_regression(fitted: dict[str, Baseline]):
    prior, logistic = (
        log_loss(model) for model in (fit_class_prior(KNOWN, CUTOFF), fit_logistic(FEATURES, KNOWN, CUTOFF))
    )
    for name, model in fitted.items():
        assert (model.name, model.reads) == (name, "features")
        assert log_loss(model) < prior - 0.1
        assert log_loss(model) < logistic + 0.02


@pytest.mark.parametrize(
    ("fit", "changes"),
    [(fit_svm, {"width": 1.5}), (fit_mlp, {"penalty": 0.0001}), (grow, {"share": 1.0})],
    ids=FITS,
)
def test_each_learns_what_no_line_can_tell(fit: Callable[..., Baseline], changes: dict[str, float]):
    rows = FEATURES.join(LABELS.select("ticker", "session", "horizon_end"), on=["ticker", "session"])
    labels = rows.with_columns((pl.col("shock") * pl.col("noise")).sign().cast(pl.Int8).alias("label"))
    known = training_rows(labels.drop(COLUMNS), CUTOFF)
    assert log_loss(fit_logistic(FEATURES, known, CUTOFF), labels=labels) > 0.68  # ln 2 = 0.693
    assert log_loss(fit(FEATURES, known, CUTOFF, **changes), labels=labels) < 0.45


@every_fit
def test_zero_signal_leaves_it_near_the_prior(fit: Callable[..., Baseline]):
    features, labels = synthetic_panel(tickers=30, sessions=400, signal=0.0)
    known = training_rows(labels, CUTOFF)
    later = features.filter(pl.col("session") > CUTOFF)
    prior = log_loss(fit_class_prior(known, CUTOFF), later, labels)
    assert log_loss(fit(features, known, CUTOFF), later, labels) < prior + 0.01


@every_fit
def test_its_seed_and_its_past_decide_and_nothing_else(fit: Callable[..., Baseline], fitted: dict[str, Baseline]):
    first = fitted[fit(FEATURES, KNOWN, CUTOFF).name]
    shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=1) for frame in (FEATURES, KNOWN)]
    assert same(first, fit(*shuffled, CUTOFF))
    past = FEATURES.filter(pl.col("session") <= CUTOFF)
    assert same(first, fit(past, KNOWN, CUTOFF))
    unknowable = FEATURES.with_columns(noise=pl.when(pl.col("session") <= CUTOFF).then("noise").otherwise(float("nan")))
    assert same(first, fit(unknowable, KNOWN, CUTOFF))
    assert not same(first, fit(FEATURES, KNOWN, CUTOFF, seed=1))
    assert same(first, fit(FEATURES.with_columns(pca_version=pl.lit("abc")), KNOWN, CUTOFF))


@every_fit
def test_single_precision_makes_no_difference(fit: Callable[..., Baseline], fitted: dict[str, Baseline]):
    single = FEATURES.cast({pl.Float64: pl.Float32})
    model = fit(single, KNOWN, CUTOFF)
    answer = model.predict(single.filter(pl.col("session") > CUTOFF)).select(PROBABILITIES)
    np.testing.assert_allclose(answer, fitted[model.name].predict(LATER).select(PROBABILITIES), atol=0.01)


def test_a_day_alone_is_the_day_in_a_range(fitted: dict[str, Baseline]):
    for model in fitted.values():
        whole = model.predict(LATER.sample(fraction=1.0, shuffle=True, seed=2))
        assert whole.select("ticker", "session").equals(LATER.select("ticker", "session").sort("ticker", "session"))
        for day in DAYS[330:340]:
            alone = model.predict(LATER, [day]).select(PROBABILITIES)
            inside = whole.filter(pl.col("session") == day).select(PROBABILITIES)
            np.testing.assert_allclose(alone, inside, rtol=0, atol=1e-9)
        one = LATER.filter(pl.col("ticker") == "T03", pl.col("session") == DAYS[335])
        np.testing.assert_allclose(
            model.predict(one).select(PROBABILITIES),
            whole.join(one, on=["ticker", "session"], how="semi").select(PROBABILITIES),
            rtol=0,
            atol=1e-9,
        )


@every_fit
@pytest.mark.parametrize("kept", [[-1, 1], [0, 1], [-1, 0]])
def test_an_absent_class_gets_no_probability(fit: Callable[..., Baseline], kept: list[int]):
    known = KNOWN.filter(pl.col("label").is_in(kept))
    model = fit(FEATURES, known, CUTOFF)
    answer = model.predict(LATER)
    (absent,) = (name for name, c in zip(PROBABILITIES, (-1, 0, 1), strict=True) if c not in kept)
    assert answer[absent].max() < 1e-12  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    np.testing.assert_allclose(answer.select(pl.sum_horizontal(PROBABILITIES)).to_series(), 1.0)
    prior = fit_class_prior(known, CUTOFF)
    judged = LABELS.filter(pl.col("label").is_in(kept))
    assert log_loss(model, labels=judged) < log_loss(prior, labels=judged) - 0.02


@every_fit
@pytest.mark.parametrize("absent_from", ["old", "new"])
def test_a_class_that_came_or_went_keeps_the_answer_finite(fit: Callable[..., Baseline], absent_from: str):
    old = pl.col("session") < DAYS[150]
    gone = old if absent_from == "old" else ~old
    model = fit(FEATURES, KNOWN.filter(~(gone & (pl.col("label") == 1))), CUTOFF)
    answer = model.predict(LATER).select(PROBABILITIES).to_numpy()
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer.sum(axis=1), 1.0)
    assert answer[:, 2].mean() > 0.01


@every_fit
def test_constant_features_tell_nothing_and_break_nothing(fit: Callable[..., Baseline], fitted: dict[str, Baseline]):
    model = fit(FEATURES.with_columns(constant=pl.lit(0.1)), KNOWN, CUTOFF)
    assert log_loss(model, LATER.with_columns(constant=pl.lit(0.1))) < log_loss(fitted[model.name]) + 0.02
    blank = FEATURES.with_columns(pl.lit(0.1).alias(name) for name in COLUMNS)
    answer = fit(blank, KNOWN, CUTOFF).predict(LATER.with_columns(pl.lit(0.1).alias(name) for name in COLUMNS))
    shares = fit_class_prior(KNOWN, CUTOFF).prior
    np.testing.assert_allclose(answer.select(PROBABILITIES).unique(), shares[None], atol=0.03)


@every_fit
def test_a_ticker_of_ten_rows_is_learned_from_and_answered(fit: Callable[..., Baseline]):
    young = (pl.col("ticker") != "T05") | pl.col("session").is_between(DAYS[321], DAYS[330])
    model = fit(FEATURES.filter(young), KNOWN.filter(young), CUTOFF)
    answer = model.predict(FEATURES.filter(young), [DAYS[330]])
    assert "T05" in answer["ticker"]
    assert model.predict(LATER.with_columns(ticker=pl.lit("NEW"))).height == LATER.height


@every_fit
def test_features_that_are_not_finite_are_named(fit: Callable[..., Baseline], fitted: dict[str, Baseline]):
    bad = FEATURES.with_columns(shock=pl.when(pl.col("session") == DAYS[100]).then(None).otherwise("shock"))
    with pytest.raises(BadBarsError, match=f"at {DAYS[100]}: shock is None"):
        fit(bad, KNOWN, CUTOFF)
    model = fitted[fit(FEATURES, KNOWN, CUTOFF).name]
    with pytest.raises(BadBarsError, match=f"features of T00 at {DAYS[330]}: noise is inf"):
        model.predict(LATER.with_columns(noise=float("inf")))
    with pytest.raises(ArtifactError, match="columns that the features lack: shock"):
        model.predict(LATER.drop("shock"))


@every_fit
def test_nothing_to_learn_is_one_clear_error(fit: Callable[..., Baseline], fitted: dict[str, Baseline]):
    with pytest.raises(StockAssetsError, match=r"row\(s\) of 1 class\(es\) to learn from"):
        fit(FEATURES, KNOWN.filter(pl.col("label") == 0), CUTOFF)
    with pytest.raises(StockAssetsError, match=f"no label is known by the cutoff {CUTOFF}"):
        fit(FEATURES, KNOWN.clear(), CUTOFF)
    with pytest.raises(StockAssetsError, match=r"has features for 0 label\(s\) to learn from"):
        fit(FEATURES.filter(pl.col("session") >= DAYS[300]), KNOWN, CUTOFF)
    with pytest.raises(StockAssetsError, match="expected more than"):
        fit(FEATURES, KNOWN.filter(pl.col("session") > DAYS[315]), CUTOFF)
    with pytest.raises(CutoffError, match="look past the cutoff"):
        fit(FEATURES, LABELS, CUTOFF)
    with pytest.raises(CutoffError, match=f"trained through {CUTOFF} was asked to predict {DAYS[0]}"):
        fitted["svm"].predict(FEATURES)


def test_a_network_without_a_pass_is_the_class_prior():
    answer = fit_mlp(FEATURES, KNOWN, CUTOFF, passes=0).predict(LATER).select(PROBABILITIES)
    shares = fit_class_prior(KNOWN, CUTOFF).prior
    np.testing.assert_allclose(answer.unique(maintain_order=True).head(1), shares[None], atol=0.02)
    assert np.ptp(answer.to_numpy(), axis=0).max() < 1e-12


def test_random_waves_come_near_the_kernel():
    model = fit_svm(FEATURES, KNOWN, CUTOFF, waves=4096, width=1.5)
    rows = LATER.head(60)
    scaled = np.clip((rows.select(COLUMNS).to_numpy() - model.mean) / model.std, -model.clip, model.clip)
    squares = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=-1)
    waves = model.waves(rows)
    np.testing.assert_allclose(waves @ waves.T, np.exp(-(1.5**2) * squares / (2 * len(COLUMNS))), atol=0.09)


def test_more_rounds_than_needed_are_cut_where_the_tail_says():
    long, short = (grow(FEATURES, KNOWN, rounds=rounds, rate=0.5) for rounds in (60, 2))
    rounds = [model.text.count("Tree=") / 3 for model in (long, short)]  # pyright: ignore[reportAttributeAccessIssue]
    assert rounds[1] == 2 < rounds[0] < 50
    assert (
        log_loss(long) < log_loss(grow(FEATURES, KNOWN, rounds=60, rate=0.5, patience=60, share=1.0, leaves=63)) + 0.1
    )


@settings(derandomize=True, deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=12), step=st.integers(EVERY, 9))
def test_thinned_labels_of_a_ticker_are_a_step_apart_and_every_session_keeps_some(counts: list[int], step: int):
    labels = pl.DataFrame(
        {
            "ticker": [f"T{i:02d}" for i, count in enumerate(counts) for _ in range(count)],
            "session": [day for count in counts for day in DAYS[:count]],
        },
        schema={"ticker": pl.String, "session": pl.Date},
    ).with_columns(label=pl.lit(0, pl.Int8))
    kept = thinned(labels.sample(fraction=1.0, shuffle=True, seed=0), step)
    for i, count in enumerate(counts):
        places = [DAYS.index(day) for day in kept.filter(pl.col("ticker") == f"T{i:02d}")["session"]]
        assert set(np.diff(places)) <= {step}
        assert count // step <= len(places) <= -(-count // step)
    if len(counts) >= step:
        assert set(DAYS[: min(counts)]) <= set(kept["session"])


def test_trees_learn_where_a_gap_of_the_market_context_goes():
    """Sessions without ^VIX on which every label is buy; elsewhere its value says nothing."""
    gap = pl.col("session").is_in(DAYS[100:150] + DAYS[340:350])
    features = FEATURES.with_columns(vix_level=pl.when(~gap).then(pl.lit(-4.0)))
    labels = KNOWN.with_columns(label=pl.when(gap).then(pl.lit(1, pl.Int8)).otherwise("label"))
    answer = grow(features, labels, share=1.0).predict(features.filter(pl.col("session") > CUTOFF))
    inside, outside = answer.filter(gap)["p_buy"].mean(), answer.filter(~gap)["p_buy"].mean()
    assert inside > outside + 0.3  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]: there are rows


def test_a_fresh_process_predicts_the_same(fitted: dict[str, Baseline], tmp_path: Path):
    """And without scikit-learn, but for the trees: lightgbm itself imports it where it is installed."""
    for name, model in fitted.items():
        save_artifact(tmp_path / name, *model.to_artifact())
    LATER.write_parquet(tmp_path / "later.parquet")
    script = """
import sys
from pathlib import Path
import polars as pl
from stock_assets.model.registry import MODELS
from stock_assets.storage.artifacts import load_artifact

folder = Path(sys.argv[1])
for name in ("svm", "mlp", "trees"):
    assert not {"torch", "sklearn", "lightgbm"} & sys.modules.keys()
    artifact = load_artifact(folder / name)
    model = MODELS[name].load(artifact.tensors, artifact.description)
    model.predict(pl.read_parquet(folder / "later.parquet")).write_parquet(folder / f"{model.name}.parquet")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], check=True)
    for name, model in fitted.items():
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(model.predict(LATER))


def test_an_artifact_that_does_not_fit_is_refused(fitted: dict[str, Baseline], tmp_path: Path):
    for name, model in fitted.items():
        artifact = load_artifact(save_artifact(tmp_path / name, *model.to_artifact()))
        assert same(type(model).from_artifact(artifact.tensors, artifact.description), model)
    tensors, description = fitted["svm"].to_artifact()
    less = {name: tensor for name, tensor in tensors.items() if name != "phases"}
    with pytest.raises(ArtifactError, match="incomplete: TypeError"):
        Svm.from_artifact(less, description)
    with pytest.raises(ArtifactError, match="the saved trees are no LightGBM model"):
        replace(fitted["trees"], text="tree\nversion=v4\n").predict(LATER)  # pyright: ignore[reportCallIssue]


def test_a_missing_system_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch):
    load = builtins.__import__

    def without_openmp(name: str, *rest: Any) -> Any:
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_openmp)
    with pytest.raises(StockAssetsError, match=r"libgomp\.so\.1: cannot open .* apt-get install libgomp1"):
        grow(FEATURES, KNOWN)
