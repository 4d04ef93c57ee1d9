"""Which model serves a session: only whole artifacts made for today's columns, and an average of what is there."""

from datetime import date
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.defs.model import weigh
from stock_assets.defs.serving import Learnable, Version, ensemble, save
from stock_assets.errors import ArtifactError
from stock_assets.model.recipes import RECIPES
from stock_assets.settings import Settings, read_settings
from stock_assets_tests.model.synthetic import sessions_of, synthetic_panel

DAYS = sessions_of(120)
CUTOFF = DAYS[99]
FEATURES, LABELS = synthetic_panel(tickers=3, sessions=120)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return read_settings(source="simulated", data_dir=tmp_path)


def inputs(components: pl.DataFrame) -> Learnable:
    return SimpleNamespace(components=components)  # pyright: ignore[reportReturnType]


@pytest.fixture
def version(settings: Settings) -> Version:
    recipe = RECIPES["logistic"]
    known = LABELS.filter(pl.col("horizon_end") <= CUTOFF)
    trained = recipe.train(SimpleNamespace(inputs=inputs(FEATURES), labels=known, cutoff=CUTOFF))  # pyright: ignore[reportArgumentType]
    name, folder = save(settings, "trained_baselines", 2012, "logistic", recipe, trained, inputs(FEATURES))
    return Version("logistic", name, CUTOFF, folder)


def test_a_saved_model_says_which_version_answered(settings: Settings, version: Version):
    answer = version.predict(settings, inputs(FEATURES), DAYS[100:])
    assert answer.height == 3 * 20
    assert answer.select("model", "model_version", "trained_through").unique().rows() == [
        ("logistic", version.version, CUTOFF)
    ]


def test_an_artifact_made_for_other_columns_is_refused_by_its_schema(settings: Settings, version: Version):
    other = FEATURES.with_columns(news=pl.lit(0.0))
    with pytest.raises(ArtifactError, match=f"{version.version} .*schema.*unknown to it: news"):
        version.predict(settings, inputs(other), DAYS[100:])


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_an_artifact_cut_short_is_refused(settings: Settings, version: Version, name: str):
    path = settings.artifacts / version.folder / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"cut short|holds no artifact"):
        version.predict(settings, inputs(FEATURES), DAYS[100:])


def answers(**p_buy: list[float | None]) -> pl.DataFrame:
    rows = [
        {"model": model, "ticker": f"T{i}", "session": DAYS[0], "p_sell": 0.2, "p_hold": 0.8 - p, "p_buy": p}
        for model, values in p_buy.items()
        for i, p in enumerate(values)
        if p is not None
    ]
    return pl.DataFrame(rows).with_columns(
        score=pl.col("p_buy") - pl.col("p_sell"), model_version=pl.col("model"), trained_through=CUTOFF
    )


def test_the_ensemble_is_the_weighted_mean_where_every_member_answers():
    weights = pl.DataFrame(
        {"member": ["a", "b", "c"], "weight": [0.25, 0.75, 0.0], "version": "e-1", "trained_through": CUTOFF}
    )
    found = ensemble(answers(a=[0.4, 0.1, 0.2], b=[0.6, None, 0.4], c=[0.1, 0.1, None]), weights).sort("ticker")
    assert found["ticker"].to_list() == ["T0", "T2"]
    np.testing.assert_allclose(found["p_buy"], [0.55, 0.35])
    np.testing.assert_allclose(found["score"], found["p_buy"] - found["p_sell"])
    np.testing.assert_allclose(found.select(pl.sum_horizontal("p_sell", "p_hold", "p_buy")).to_series(), 1.0)
    assert found.select("model", "model_version").unique().rows() == [("ensemble", "e-1")]


def test_the_weights_are_those_of_the_years_before_and_rnn_alone_where_there_are_none():
    rng = np.random.default_rng(0)
    judged = pl.DataFrame(
        {"ticker": "T0", "session": DAYS[:100], "rnn": rng.beta(5, 3, 100), "logistic": rng.beta(1, 8, 100)}
    )
    first, second = weigh(2015, CUTOFF, [judged])
    assert (first["member"], first["rows"]) == ("rnn", 100)
    assert first["weight"] == pytest.approx(1)
    assert second["weight"] == 0
    assert first["log_loss"] == pytest.approx(float(-np.log(judged["rnn"].to_numpy()).mean()))
    (alone,) = weigh(2014, date(2013, 12, 31), [])
    assert (alone["member"], alone["weight"], alone["log_loss"], alone["rows"]) == ("rnn", 1.0, None, 0)
    assert alone["version"] != first["version"]


def test_the_same_judgement_gives_the_same_version():
    judged = pl.DataFrame({"ticker": "T0", "session": DAYS[:2], "rnn": [0.5, 0.4], "trees": [0.4, 0.5]})
    assert_frame_equal(pl.DataFrame(weigh(2015, CUTOFF, [judged])), pl.DataFrame(weigh(2015, CUTOFF, [judged])))
