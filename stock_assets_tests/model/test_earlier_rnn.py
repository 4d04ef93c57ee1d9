"""Versions that were trained before the recipe go on serving."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, CutoffError
from stock_assets.model.lesson import InputFrames
from stock_assets.model.level import SMOOTHED_BEFORE
from stock_assets.model.market_rows import MarketRows
from stock_assets.model.networks.earlier_rnn import EarlierRnn
from stock_assets.model.networks.rnn import Rnn, load_rnn
from stock_assets.model.registry import MODELS
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import HORIZON
from stock_assets_tests.model.test_rnn import CUTOFF, DAYS, FEATURES, NONE_SUSPECT

#: A version of the features of `test_rnn` through CUTOFF, as it was saved then, and what it predicted.
STORED = Path(__file__).parent / "artifacts" / "volatility"
#: One of today's kind, from before its level read means over 66 bars and its walk took the steps of real paths.
MEMBERS = Path(__file__).parent / "artifacts" / "volatility_members"


@pytest.fixture(scope="module")
def stored() -> EarlierRnn:
    artifact = load_artifact(STORED)
    model = MODELS["rnn"].load(artifact.tensors, artifact.description)
    assert isinstance(model, EarlierRnn)
    return model


def predicted(model: EarlierRnn, features: pl.DataFrame = FEATURES) -> pl.DataFrame:
    return model.predict(InputFrames(features=features, suspects=NONE_SUSPECT), DAYS[320:323])


def test_a_stored_version_predicts_what_it_predicted_when_it_was_saved(stored: EarlierRnn):
    expected = pl.read_csv(STORED / "predictions.csv", schema_overrides={"session": pl.Date})
    assert_frame_equal(predicted(stored), expected, abs_tol=1e-6)


def test_members_that_name_no_means_and_no_walk_predict_what_they_predicted(tmp_path: Path):
    artifact = load_artifact(MEMBERS)
    slow = pl.col("vol_total_1").rolling_mean(66, min_samples=1).over("ticker", order_by="session")
    inputs = InputFrames(features=FEATURES.with_columns(vol_log_66=slow), suspects=NONE_SUSPECT)
    expected = pl.read_csv(MEMBERS / "predictions.csv", schema_overrides={"session": pl.Date})
    model = load_rnn(artifact.tensors, artifact.description)
    assert isinstance(model, Rnn)
    assert_frame_equal(model.predict(inputs, DAYS[320:323]), expected, abs_tol=1e-6)
    again = load_artifact(save_artifact(tmp_path / "model", *model.to_artifact()))
    loaded = Rnn.from_artifact(again.tensors, again.description)
    assert loaded.level.smoothed == SMOOTHED_BEFORE
    assert_frame_equal(loaded.predict(inputs, DAYS[320:323]), expected, abs_tol=1e-6)


def test_it_is_saved_again_as_it_was(stored: EarlierRnn, tmp_path: Path):
    again = load_artifact(save_artifact(tmp_path / "model", *stored.to_artifact()))
    assert again.description == load_artifact(STORED).description
    assert_frame_equal(predicted(load_rnn(again.tensors, again.description)), predicted(stored), check_exact=True)  # pyright: ignore[reportArgumentType]


def test_a_day_alone_equals_the_day_in_a_range_and_a_known_day_is_refused(stored: EarlierRnn):
    past = FEATURES.filter(pl.col("session").is_between(DAYS[322 - stored.config.context + 1], DAYS[322]))
    alone = stored.predict(InputFrames(features=past, suspects=NONE_SUSPECT), [DAYS[322]])
    assert_frame_equal(alone, predicted(stored).filter(pl.col("session") == DAYS[322]), abs_tol=1e-9, rel_tol=0)
    with pytest.raises(CutoffError, match=f"trained through {CUTOFF}"):
        stored.predict(InputFrames(features=FEATURES, suspects=NONE_SUSPECT), [CUTOFF])


def test_one_that_is_cut_short_is_refused():
    artifact = load_artifact(STORED)
    tensors = {name: value for name, value in artifact.tensors.items() if name != "level_weights"}
    with pytest.raises(ArtifactError, match="incomplete: KeyError\\('level_weights'\\)"):
        load_rnn(tensors, artifact.description)


def test_a_horizon_that_steps_over_a_suspect_row_corrects_no_level():
    bad = (pl.col("ticker") == "T05") & (pl.col("session") == DAYS[310])
    suspects = FEATURES.filter(bad).select("ticker", "session")
    absurd = FEATURES.with_columns(
        pl.when(bad).then(3.0).otherwise(pl.col(name)).alias(name) for name in ("vol_total_1", "log_return_1")
    )

    def errors(features: pl.DataFrame, suspects: pl.DataFrame) -> np.ndarray:
        market = MarketRows(features, suspects, ("hint",), horizon=HORIZON)
        return market.recent_error(np.zeros((features.height, 3)), 20)

    np.testing.assert_array_equal(errors(absurd, suspects), errors(FEATURES, suspects))
    assert not np.allclose(errors(absurd, NONE_SUSPECT), errors(FEATURES, NONE_SUSPECT))
