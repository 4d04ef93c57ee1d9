from collections.abc import Collection
from dataclasses import replace
from datetime import date
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import ArtifactError, BadBarsError, CutoffError, StockAssetsError
from stock_assets.evaluation import metrics
from stock_assets.features.labels import barrier_labels
from stock_assets.model.baselines.naive import fit_ticker_prior
from stock_assets.model.lesson import InputFrames
from stock_assets.model.networks.rnn import Rnn
from stock_assets.model.splits import training_rows
from stock_assets.model.targets import TARGETS, volatility_targets
from stock_assets.setting_values import LabelRule
from stock_assets.storage.artifacts import load_artifact, save_artifact
from stock_assets_tests.model.synthetic import HORIZON, sessions_of
from stock_assets_tests.model.tiny import teach_rnn, tiny_rnn

DAYS = sessions_of(400)
CUTOFF = DAYS[299]
CONFIG = tiny_rnn(epochs=3, segments_per_epoch=256, learning_rate=5e-3)
NONE_SUSPECT = pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date})


def volatile_market(tickers: int = 12, sessions: int = 400, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(features, labels): volatility is persistent, different between tickers and days, and `hint` shows the drift."""
    rng = np.random.default_rng(seed)
    market, own = np.zeros(sessions), np.zeros((tickers, sessions))
    for t in range(1, sessions):
        market[t] = 0.97 * market[t - 1] + rng.normal(0, 0.07)
        own[:, t] = 0.97 * own[:, t - 1] + rng.normal(0, 0.09, tickers)
    log_sigma = np.log(0.013) + market + own
    hint = rng.normal(size=(tickers, sessions))
    drift = np.column_stack([np.zeros(tickers), hint[:, :-1]]) * 0.004
    r = np.exp(log_sigma) * rng.normal(size=(tickers, sessions)) + drift
    keys = pl.DataFrame(
        {"ticker": np.repeat([f"T{i:02d}" for i in range(tickers)], sessions), "session": DAYS[:sessions] * tickers}
    )
    features = keys.with_columns(
        vol_total_1=pl.Series((log_sigma + rng.normal(0, 0.2, r.shape)).ravel()),
        log_return_1=pl.Series(r.ravel()),
        hint=pl.Series(hint.ravel()),
        noise=pl.Series(rng.normal(size=r.size)),
    )
    bars = keys.with_columns(total_return=pl.Series(np.expm1(r).ravel()))
    return features, barrier_labels(bars, LabelRule(HORIZON))


FEATURES, LABELS = volatile_market()
KNOWN = training_rows(LABELS, CUTOFF)


@pytest.fixture(scope="module")
def trained() -> Rnn:
    return teach_rnn(FEATURES, KNOWN, NONE_SUSPECT, CONFIG, CUTOFF, 1)


def predict(trained: Rnn, features: pl.DataFrame, suspects: pl.DataFrame, sessions: Collection[date]) -> pl.DataFrame:
    return trained.predict(InputFrames(features=features, suspects=suspects), sessions)


def predicted(trained: Rnn, features: pl.DataFrame = FEATURES, suspects: pl.DataFrame = NONE_SUSPECT):
    return predict(trained, features, suspects, DAYS[300:])


def test_it_beats_the_ticker_prior_and_finds_the_planted_drift(trained: Rnn):
    answer = predicted(trained)
    rows = answer.join(LABELS, on=["ticker", "session"])
    truth = rows["label"].cast(pl.Int64).to_numpy()
    prior = fit_ticker_prior(KNOWN, CUTOFF).predict(rows.select("ticker", "session"))
    columns = ["p_sell", "p_hold", "p_buy"]
    skill = metrics.log_loss(truth, prior.select(columns).to_numpy()) - metrics.log_loss(
        truth, rows.select(columns).to_numpy()
    )
    assert skill > 0.02
    ic = metrics.daily_rank_ic(rows.with_columns(model=pl.lit("rnn")))["rank_ic"].mean()
    assert isinstance(ic, float)
    assert ic > 0.05
    assert (trained.curve[trained.best_epoch].r2 or 0.0) > 0.1
    assert trained.validation_log_loss < 1.1


def test_targets_equal_their_formulas():
    targets = volatility_targets(FEATURES, LABELS, HORIZON)
    row = targets.row(500, named=True)
    own = FEATURES.filter((pl.col("ticker") == row["ticker"]) & (pl.col("session") > row["session"])).head(HORIZON)
    variance = np.exp(2 * own["vol_total_1"].to_numpy()) - 1e-5
    path = np.append(0.0, np.cumsum(own["log_return_1"].to_numpy()))
    assert row["log_total"] == pytest.approx(np.log(variance.mean() + 1e-5) / 2)
    assert row["log_close"] == pytest.approx(np.log((own["log_return_1"].to_numpy() ** 2).mean() + 1e-5) / 2)
    assert row["log_range"] == pytest.approx(np.log(path.max() - path.min() + 0.002))
    day = LABELS.filter(pl.col("session") == row["session"])
    mine = day.filter(pl.col("ticker") == row["ticker"])["forward_return_1"][0]
    share = ((day["forward_return_1"] < mine).sum() + 0.5) / day.height
    assert row["direction"] == pytest.approx(NormalDist().inv_cdf(share))
    assert targets.columns == ["ticker", "session", *TARGETS]


def test_a_horizon_with_a_missing_row_has_no_target():
    gone = (pl.col("ticker") == "T03") & (pl.col("session") == DAYS[103])
    found = volatility_targets(FEATURES.filter(~gone), LABELS, HORIZON).filter(pl.col("ticker") == "T03")
    without = set(DAYS[:-HORIZON]) - set(found["session"])
    assert without == set(DAYS[96:104])


def test_the_same_seed_gives_the_same_model_whatever_comes_after_the_cutoff(trained: Rnn):
    wild = FEATURES.with_columns(
        pl.when(pl.col("session") > CUTOFF).then(pl.col(name) * 1e6).otherwise(name).alias(name)
        for name in ("noise", "log_return_1")
    ).sample(fraction=1.0, shuffle=True, seed=0)
    again = teach_rnn(wild, KNOWN.reverse(), NONE_SUSPECT, CONFIG, CUTOFF, 1)
    assert again.curve == trained.curve
    np.testing.assert_array_equal(again.level.pooled.weights, trained.level.pooled.weights)
    np.testing.assert_array_equal(again.level.daily.weights, trained.level.daily.weights)
    np.testing.assert_array_equal(again.barriers.move, trained.barriers.move)
    np.testing.assert_array_equal(again.walk.up_to_down, trained.walk.up_to_down)
    other = teach_rnn(FEATURES, KNOWN, NONE_SUSPECT, CONFIG, CUTOFF, 2)
    assert other.curve != trained.curve


def test_a_day_predicted_alone_equals_the_day_in_a_range(trained: Rnn):
    together = predicted(trained)
    for day in (300, 341, 399):
        past = FEATURES.filter(pl.col("session").is_between(DAYS[day - CONFIG.context + 1], DAYS[day]))
        alone = predict(trained, past, NONE_SUSPECT, [DAYS[day]])
        assert_frame_equal(alone, together.filter(pl.col("session") == DAYS[day]), abs_tol=1e-9, rel_tol=0)
    assert together.columns == ["ticker", "session", "p_sell", "p_hold", "p_buy", "score"]
    np.testing.assert_allclose(together.select(pl.sum_horizontal("p_sell", "p_hold", "p_buy")).to_series(), 1.0)


def test_a_suspect_row_moves_no_mean_of_its_session(trained: Rnn):
    suspects = FEATURES.filter(pl.col("ticker") == "T05").select("ticker", "session")
    absurd = FEATURES.with_columns(
        pl.when(pl.col("ticker") == "T05").then(100.0).otherwise(pl.col(name)).alias(name)
        for name in ("vol_total_1", "log_return_1", "hint", "noise")
    )
    others = pl.col("ticker") != "T05"
    assert_frame_equal(
        predicted(trained, absurd, suspects).filter(others),
        predicted(trained, FEATURES, suspects).filter(others),
        abs_tol=1e-9,
    )


def test_too_short_a_history_gives_no_row(trained: Rnn):
    late = FEATURES.filter((pl.col("ticker") != "T03") | (pl.col("session") >= DAYS[305]))
    answer = predicted(trained, late).filter(pl.col("ticker") == "T03")
    assert answer["session"].min() == DAYS[305 + CONFIG.context - 1]


def test_a_saved_model_answers_as_before(trained: Rnn, tmp_path):
    save_artifact(tmp_path / "model", *trained.to_artifact())
    artifact = load_artifact(tmp_path / "model")
    loaded = Rnn.from_artifact(artifact.tensors, artifact.description)
    assert loaded.curve == trained.curve
    assert_frame_equal(predicted(loaded), predicted(trained), check_exact=True)


def test_an_artifact_that_is_none_of_its_kind_is_refused(trained: Rnn):
    tensors, description = trained.to_artifact()
    with pytest.raises(ArtifactError, match=r"is a 'rnn' .*expected 'volatility_members'"):
        Rnn.from_artifact(tensors, description | {"kind": "rnn"})
    with pytest.raises(ArtifactError, match="incomplete: KeyError\\('level_weights'\\)"):
        Rnn.from_artifact({k: v for k, v in tensors.items() if k != "level_weights"}, description)
    with pytest.raises(ArtifactError, match="weights do not fit their configuration"):
        Rnn.from_artifact(tensors, description | {"features": ["noise"]})


def test_what_is_not_known_yet_is_refused(trained: Rnn):
    with pytest.raises(CutoffError, match=f"look past the cutoff {CUTOFF}"):
        teach_rnn(FEATURES, LABELS, NONE_SUSPECT, CONFIG, CUTOFF, 0)
    with pytest.raises(CutoffError, match=f"trained through {CUTOFF} was asked to predict {CUTOFF}"):
        predict(trained, FEATURES, NONE_SUSPECT, [CUTOFF])


def test_bad_features_are_named(trained: Rnn):
    with pytest.raises(ArtifactError, match="columns that the features lack: noise"):
        predicted(trained, FEATURES.drop("noise"))
    with pytest.raises(BadBarsError, match=f"features of T00 at {DAYS[0]}: hint is nan"):
        teach_rnn(FEATURES.with_columns(hint=float("nan")), KNOWN, NONE_SUSPECT, CONFIG, CUTOFF, 0)
    with pytest.raises(StockAssetsError, match="has features over its horizon; expected rows of the same tickers"):
        teach_rnn(
            FEATURES.with_columns(ticker=pl.lit("X") + pl.col("ticker")),
            KNOWN,
            NONE_SUSPECT,
            CONFIG,
            CUTOFF,
            0,
        )


def test_a_constant_feature_and_a_ticker_of_ten_rows_do_no_harm():
    features = FEATURES.with_columns(constant=pl.lit(3.0)).filter(
        (pl.col("ticker") != "T07") | (pl.col("session") >= DAYS[289])
    )
    config = replace(CONFIG, epochs=1)
    model = teach_rnn(features, KNOWN, NONE_SUSPECT, config, CUTOFF, 0)
    answer = predict(model, features, NONE_SUSPECT, DAYS[300:310])
    assert answer["p_hold"].is_finite().all()


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(StockAssetsError, match=r"the loss of epoch 1, step \d+, became (nan|inf)"):
        teach_rnn(FEATURES, KNOWN, NONE_SUSPECT, replace(CONFIG, learning_rate=1e12, weight_decay=1e10), CUTOFF, 0)


def with_market_context(absent: list[date]) -> pl.DataFrame:
    """FEATURES and a level of ^VIX that follows the market's volatility, null on the sessions of `absent`."""
    level = pl.when(~pl.col("session").is_in(absent)).then(pl.col("vol_total_1").mean().over("session"))
    return FEATURES.with_columns(vix_level=level)


def test_six_sessions_without_vix_stop_neither_training_nor_predictions():
    absent = [*DAYS[200:206], *DAYS[320:326]]
    features, whole = with_market_context(absent), with_market_context([])
    model = teach_rnn(features, KNOWN, NONE_SUSPECT, CONFIG, CUTOFF, 1)
    answer = predict(model, features, NONE_SUSPECT, DAYS[300:])
    assert set(answer["session"]) == set(DAYS[300:])  # on these sessions and after them
    assert answer["p_hold"].is_finite().all()
    # where the context is there again, and the networks have seen it, nothing differs from a market without a gap
    again = pl.col("session") > DAYS[325 + CONFIG.context]
    with_it = predict(model, whole, NONE_SUSPECT, DAYS[300:])
    assert_frame_equal(answer.filter(again), with_it.filter(again), check_exact=True)


def test_an_unknown_level_of_the_market_counts_as_its_training_mean():
    features = with_market_context([])
    model = teach_rnn(features, KNOWN, NONE_SUSPECT, replace(CONFIG, epochs=1), CUTOFF, 1)
    place = model.features.index("vix_level")
    level = replace(model.level, daily=replace(model.level.daily, weights=np.zeros_like(model.level.daily.weights)))
    scaling = model.scaling._replace(of_session=np.zeros(0, np.int64), mean=np.zeros(0))
    pooled = replace(model, level=level, scaling=scaling)  # the other parts have means of their own
    mean = float(model.level.pooled.mean[place])
    unknown, filled = (features.with_columns(vix_level=pl.lit(value, pl.Float64)) for value in (None, mean))
    one, other = (predict(pooled, rows, NONE_SUSPECT, DAYS[300:310]) for rows in (unknown, filled))
    assert_frame_equal(one, other, abs_tol=1e-6)


def test_what_the_market_announces_reaches_the_level_and_its_absence_stops_nothing():
    place = np.arange(400) % 60
    coming = pl.DataFrame(
        {
            "session": DAYS,
            "market_ahead": ((place >= 14) & (place < 27)).astype(float),
            "loud": (place >= 20) & (place < 27),
        }
    )
    features = FEATURES.join(coming, on="session", maintain_order="left")
    louder = pl.when("loud").then(1.0).otherwise(0.0)
    features = features.with_columns(pl.col("vol_total_1") + louder, pl.col("log_return_1") * louder.exp()).drop("loud")
    bars = features.select("ticker", "session", total_return=pl.col("log_return_1").exp() - 1)
    known = training_rows(barrier_labels(bars, LabelRule(HORIZON)), CUTOFF)
    model = teach_rnn(features, known, NONE_SUSPECT, replace(CONFIG, epochs=1), CUTOFF, 1)
    before = [day for day, at in zip(DAYS, place, strict=True) if at == 15 and day > CUTOFF]

    def holds(ahead: float | None) -> float:
        rows = features.with_columns(market_ahead=pl.lit(ahead, pl.Float64))
        return float(predict(model, rows, NONE_SUSPECT, before)["p_hold"].to_numpy().mean())

    assert holds(1.0) < holds(None) - 0.005
    assert holds(1.0) < holds(0.0) - 0.01


def test_the_map_is_fitted_on_what_the_members_have_not_learned(trained: Rnn):
    """A column that is the answer on the training rows would make them sure of it everywhere."""
    rng = np.random.default_rng(3)
    noise = FEATURES.with_columns(noise=pl.Series(rng.normal(size=FEATURES.height)))
    model = teach_rnn(noise, KNOWN, NONE_SUSPECT, replace(CONFIG, epochs=3, dropout=0.0), CUTOFF, 1)
    answer = predict(model, noise, NONE_SUSPECT, DAYS[300:])
    rows = answer.join(LABELS, on=["ticker", "session"])
    moved = (rows["label"] != 0).to_numpy().mean()
    assert abs((1 - rows["p_hold"].to_numpy()).mean() - moved) < 0.1  # neither surer nor less sure than it may be
    assert trained.share == pytest.approx((KNOWN["label"] != 0).to_numpy().mean(), abs=0.02)


def test_on_a_wilder_day_the_nearer_barrier_loses_its_lead(trained: Rnn):
    wilder = FEATURES.with_columns(pl.col("vol_total_1") + 0.6)
    odds = [
        answer.select((pl.col("p_buy") / pl.col("p_sell")).log().mean()).item()
        for answer in (predicted(trained), predicted(trained, wilder))
    ]
    assert odds[0] < odds[1]
    assert trained.buy_threshold > trained.sell_threshold


def test_a_context_without_a_gap_trains_as_any_other_column():
    whole = with_market_context([])
    named = whole.rename({"vix_level": "other"})
    one, other = (teach_rnn(rows, KNOWN, NONE_SUSPECT, CONFIG, CUTOFF, 1) for rows in (whole, named))
    np.testing.assert_array_equal(one.level.pooled.weights, other.level.pooled.weights)
