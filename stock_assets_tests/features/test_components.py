from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, BadBarsError
from stock_assets.features.components import (
    PcaModel,
    explained_out_of_sample,
    fit_pca,
    from_frame,
    to_frame,
    transform,
)
from stock_assets.features.tables import PCA_MODEL
from stock_assets_tests.features.generators import calendar

QUICK = settings(derandomize=True, deadline=None, max_examples=15)
DAYS = calendar(100)
COLUMNS = ("a", "b", "c", "d", "e", "f")
CUTOFF = DAYS[59]


def features(seed: int = 0, driven_by: int = 2) -> pl.DataFrame:
    """Six columns of different size, driven by few factors; four tickers on a hundred sessions."""
    rng = np.random.default_rng(seed)
    rows = 4 * len(DAYS)
    factors = rng.normal(size=(rows, driven_by)) @ np.random.default_rng(1).normal(size=(driven_by, 6))
    numbers = (factors + 0.1 * rng.normal(size=(rows, 6))) * [1, 10, 0.01, 1, 1, 100] + [0, 5, 0, -3, 1, 0]
    keys = {
        "ticker": [f"T{i}" for i in range(4)] * len(DAYS),
        "session": [day for day in DAYS for _ in range(4)],
    }
    return pl.DataFrame(keys).hstack(pl.DataFrame(numbers, schema=list(COLUMNS)))


@pytest.fixture(scope="module")
def model() -> PcaModel:
    return fit_pca(features(), COLUMNS, fit_through=CUTOFF)


@QUICK
@given(seed=st.integers(0, 1000), explained=st.sampled_from([0.5, 0.9, 0.95, 0.999, 1.0]))
def test_equal_to_the_singular_values_of_the_standardised_window(seed, explained):
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    fitted = features(seed, driven_by=4)
    window = fitted.filter(pl.col("session") <= CUTOFF).select(COLUMNS).to_numpy()
    scaler = StandardScaler().fit(window)
    pca = PCA(explained if explained < 1 else None, svd_solver="full").fit(scaler.transform(window))
    model = fit_pca(fitted, COLUMNS, fit_through=CUTOFF, explained=explained)
    assert model.n_rows == len(window) == 240
    axes = np.asarray(pca.components_)
    assert model.components.shape == axes.shape
    np.testing.assert_allclose(model.mean, np.asarray(scaler.mean_))
    np.testing.assert_allclose(model.scale, np.asarray(scaler.scale_))
    shares = np.asarray(pca.explained_variance_ratio_)
    np.testing.assert_allclose(model.explained_variance_ratio, shares, atol=1e-12)
    signs = np.sign((model.components * axes).sum(axis=1))
    np.testing.assert_allclose(model.components * signs[:, None], axes, atol=1e-9)
    scores = transform(model, fitted).select(pl.col("^pc_.*$").exclude("pca_version")).to_numpy()
    expected = pca.transform(scaler.transform(fitted.select(COLUMNS).to_numpy())) * signs
    np.testing.assert_allclose(scores, expected, atol=1e-9)


@QUICK
@given(seed=st.integers(0, 1000), explained=st.sampled_from([0.5, 0.95, 0.999]))
def test_equal_to_the_eigenvectors_of_the_correlation_matrix(seed, explained):
    fitted = features(seed, driven_by=4).with_columns(b=pl.lit(3.7))  # constant, so it takes no part
    window = fitted.filter(pl.col("session") <= CUTOFF).select(COLUMNS).to_numpy()
    varying = [0, 2, 3, 4, 5]
    variances, axes = np.linalg.eigh(np.corrcoef(window[:, varying], rowvar=False))
    shares, axes = variances[::-1] / len(varying), axes.T[::-1]
    count = int((np.cumsum(shares) < explained).sum()) + 1
    model = fit_pca(fitted, COLUMNS, fit_through=CUTOFF, explained=explained)
    np.testing.assert_allclose(model.explained_variance_ratio, shares[:count], rtol=1e-9)
    assert not model.components[:, 1].any()
    signs = np.sign((model.components[:, varying] * axes[:count]).sum(axis=1))
    np.testing.assert_allclose(model.components[:, varying] * signs[:, None], axes[:count], rtol=1e-9, atol=1e-12)


def test_rows_are_read_in_parts(monkeypatch, model):
    monkeypatch.setattr("stock_assets.features.components._CHUNK_ROWS", 37)
    again = fit_pca(features(), COLUMNS, fit_through=CUTOFF)
    for name in ("mean", "scale", "components", "explained_variance_ratio"):
        np.testing.assert_allclose(getattr(again, name), getattr(model, name), rtol=1e-9, atol=1e-15)
    assert_frame_equal(
        transform(again, features()).drop("pca_version"),
        transform(model, features()).drop("pca_version"),
        abs_tol=1e-9,
    )


@QUICK
@given(seed=st.integers(0, 1000))
def test_sessions_after_the_window_change_nothing(seed):
    fitted = features(seed)
    after = pl.col("session") > CUTOFF
    spoilt = fitted.with_columns(pl.when(after).then(float("nan")).otherwise(pl.col(COLUMNS)).name.keep())
    version = fit_pca(fitted, COLUMNS, fit_through=CUTOFF).version
    assert fit_pca(spoilt, COLUMNS, fit_through=CUTOFF).version == version
    assert fit_pca(fitted.filter(~after), COLUMNS, fit_through=CUTOFF).version == version
    within = pl.col("session") == CUTOFF
    other = fitted.with_columns(pl.when(within).then(pl.col("a") + 1).otherwise(pl.col("a")).alias("a"))
    assert fit_pca(other, COLUMNS, fit_through=CUTOFF).version != version


@QUICK
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(seed):
    fitted = features(seed)
    shuffled = fitted.sample(fraction=1, shuffle=True, seed=seed)
    model = fit_pca(shuffled, COLUMNS, fit_through=CUTOFF)
    assert model.version == fit_pca(fitted, COLUMNS, fit_through=CUTOFF).version
    keys = ["session", "ticker"]
    assert_frame_equal(transform(model, shuffled).sort(keys), transform(model, fitted).sort(keys), abs_tol=1e-12)


def test_a_session_alone_equals_the_same_session_of_the_whole_history(model):
    one = pl.col("session") == DAYS[80]
    alone = transform(model, features().filter(one))
    assert alone.height == 4
    assert_frame_equal(alone, transform(model, features()).filter(one), abs_tol=1e-12)


@QUICK
@given(seed=st.integers(0, 1000), factor=st.sampled_from([1e-3, 7.0]))
def test_the_unit_of_a_feature_does_not_matter(seed, factor):
    fitted = features(seed)
    scaled = fitted.with_columns(pl.col("b") * factor)
    ours, theirs = fit_pca(fitted, COLUMNS, fit_through=CUTOFF), fit_pca(scaled, COLUMNS, fit_through=CUTOFF)
    np.testing.assert_allclose(theirs.components, ours.components, atol=1e-9)
    assert explained_out_of_sample(theirs, scaled) == pytest.approx(explained_out_of_sample(ours, fitted))


def test_a_model_knows_what_it_was_fitted_on(model):
    assert (model.fit_from, model.fit_through, model.n_rows) == (DAYS[0], CUTOFF, 240)
    assert model.components.shape == (2, 6)
    assert model.explained_variance_ratio.sum() >= 0.95
    assert (np.take_along_axis(model.components, np.abs(model.components).argmax(axis=1)[:, None], 1) > 0).all()
    assert transform(model, features())["pca_version"].unique().to_list() == [model.version]


def test_explained_out_of_sample_is_the_fit_on_the_window_and_falls_where_the_axes_no_longer_hold(model):
    window = features().filter(pl.col("session") <= CUTOFF)
    assert explained_out_of_sample(model, window) == pytest.approx(model.explained_variance_ratio.sum())
    rng = np.random.default_rng(0)
    broken = window.with_columns(pl.Series(name, rng.permutation(window[name])) for name in COLUMNS)
    assert explained_out_of_sample(model, broken) < 0.6


def test_a_constant_feature_takes_no_part():
    fitted = features().with_columns(pl.lit(0.1).alias("c"))
    model = fit_pca(fitted, COLUMNS, fit_through=CUTOFF, explained=1.0)
    assert model.scale[2] == 1.0
    assert model.components.shape == (5, 6)
    np.testing.assert_allclose(model.components[:, 2], 0.0, atol=1e-12)
    assert model.explained_variance_ratio.sum() == pytest.approx(1.0)


def test_a_model_survives_its_table_bit_for_bit(model):
    frame = to_frame(model)
    assert frame.schema == PCA_MODEL.schema
    again = from_frame(frame.sample(fraction=1, shuffle=True, seed=3).select(reversed(frame.columns)))
    assert again.version == model.version
    assert again.columns == model.columns
    for name in ("mean", "scale", "components", "explained_variance_ratio"):
        assert np.array_equal(getattr(again, name), getattr(model, name))
    assert (again.fit_from, again.fit_through, again.n_rows) == (
        model.fit_from,
        model.fit_through,
        model.n_rows,
    )
    assert transform(again, features()).equals(transform(model, features()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.clear(), r"holds 0 models \[\]; expected one"),
        (lambda frame: frame.drop("scale"), "lacks scale"),
        (lambda frame: frame.head(11), "has 11 rows; expected 2 components of 6 features"),
        (lambda frame: frame.with_columns(pl.col("loading") * 1.0000001), "numbers are those of"),
        (
            lambda frame: pl.concat([frame, frame.with_columns(pca_version=pl.lit("other"))]),
            "holds 2 models",
        ),
    ],
)
def test_a_table_that_is_no_model_is_refused(model, change, message):
    with pytest.raises(ArtifactError, match=message):
        from_frame(change(to_frame(model)))


def test_features_that_make_no_sense_are_refused(model):
    rows = features()
    with pytest.raises(BadBarsError, match=r"0 row\(s\) up to 2014-12-31"):
        fit_pca(rows, COLUMNS, fit_through=date(2014, 12, 31))
    with pytest.raises(BadBarsError, match="features lack g; expected"):
        fit_pca(rows, (*COLUMNS, "g"), fit_through=CUTOFF)
    with pytest.raises(BadBarsError, match="lack any column"):
        fit_pca(rows, (), fit_through=CUTOFF)
    with pytest.raises(BadBarsError, match="no column of a, b varies"):
        fit_pca(rows.with_columns(a=0.1, b=1e9), ("a", "b"), fit_through=CUTOFF)
    with pytest.raises(ValueError, match="explained is 95"):
        fit_pca(rows, COLUMNS, fit_through=CUTOFF, explained=95)
    for wrong in (None, float("nan"), float("inf")):
        at = (pl.col("ticker") == "T2") & (pl.col("session") == DAYS[3])
        bad = rows.with_columns(pl.when(at).then(pl.lit(wrong, pl.Float64)).otherwise(pl.col("d")).alias("d"))
        for use in (
            lambda bad=bad: fit_pca(bad, COLUMNS, fit_through=CUTOFF),
            lambda bad=bad: transform(model, bad),
            lambda bad=bad: explained_out_of_sample(model, bad),
        ):
            with pytest.raises(BadBarsError, match=f"T2 {DAYS[3]}: d is {wrong}; expected a finite number"):
                use()
    with pytest.raises(BadBarsError, match="features lack f"):
        transform(model, rows.drop("f"))
    with pytest.raises(BadBarsError, match="no rows of features"):
        explained_out_of_sample(model, rows.clear())
    assert transform(model, rows.clear()).columns == ["ticker", "session", "pc_1", "pc_2", "pca_version"]
