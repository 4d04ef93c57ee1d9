"""Models of bars: what they may see, what they answer, and that each learns the law that it can."""

import json
import math
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import Ridge

from stock_assets.errors import ArtifactError, CutoffError, StockAssetsError
from stock_assets.features.bar_features import bar_features
from stock_assets.features.bar_labels import bar_labels
from stock_assets.frames import BAR_KEYS, PROBABILITIES, improper, surprise
from stock_assets.model.bar_baselines import CLIP, PSEUDO_HORIZONS, BarLinear, BarTimePrior
from stock_assets.model.bar_lesson import (
    INPUT_NAMES,
    REQUIRED,
    SHAPE_NAMES,
    BarLesson,
    BarRows,
    bar_inputs,
    known_by,
    level_and_unseen,
    newest_part,
    shape_of,
    slope,
)
from stock_assets.model.bar_models import (
    BAR_IN_SERVICE,
    BAR_MODELS,
    BarModelEntry,
    naive_bar_models,
    register_bar_model,
)
from stock_assets.model.bar_targets import bar_targets
from stock_assets.model.config import BarLstmConfig, BarRnnConfig
from stock_assets.model.crossfit import Blocks
from stock_assets.model.networks.bar_lstm import train_bar_lstm
from stock_assets.model.networks.bar_rnn import BarRnn, train_bar_rnn
from stock_assets.storage.artifacts import CheckpointFile, load_artifact, save_artifact
from stock_assets_tests.features.bars import exchange, make_bars
from stock_assets_tests.model.minutes import RULE, law_bars, lesson_of, small_lstm, small_rnn

MINUTES, CUT = 2600, 2000
BARS = law_bars(MINUTES)
LESSON = lesson_of(BARS, CUT)
LABELS = bar_labels(BARS, RULE, interval_minutes=1)
LATER = LESSON.features.filter(pl.col("bar_end") > LESSON.cutoff)
KEYS = LATER.select(BAR_KEYS)
SMALL = {
    "bar_rnn": lambda lesson: train_bar_rnn(lesson, small_rnn()),
    "bar_lstm": lambda lesson: train_bar_lstm(lesson, small_lstm()),
}
EACH = pytest.mark.parametrize("name", BAR_MODELS)


def train(name: str, lesson: BarLesson = LESSON) -> Any:
    return SMALL.get(name, BAR_MODELS[name].train)(lesson)


@cache
def trained(name: str) -> Any:
    return train(name)


def loss_of(predictions: pl.DataFrame, labels: pl.DataFrame = LABELS) -> float:
    return predictions.join(labels.drop_nulls("label"), on=BAR_KEYS).select(surprise().mean()).item()


def same(one: Any, other: Any) -> bool:
    (a, b), (c, d) = one.to_artifact(), other.to_artifact()
    return (
        a.keys() == c.keys() and all(np.allclose(a[k], c[k], atol=1e-6) for k in a) and json.dumps(b) == json.dumps(d)
    )


# ---------------------------------------------------------------- what they answer


@EACH
def test_a_prediction_is_made_of_every_bar_that_can_be_answered(name: str):
    made = BAR_MODELS[name].predict(trained(name), LESSON.features, KEYS)
    assert made.columns == [*BAR_KEYS, "expected_return", *PROBABILITIES, "score"]
    assert made.select(BAR_KEYS).equals(KEYS)
    assert improper(made).is_empty()
    assert made["expected_return"].is_finite().all()
    np.testing.assert_allclose(made["score"], made["p_buy"] - made["p_sell"])
    assert (made["expected_return"] == 0.0).all() == (
        BAR_MODELS[name].role == "naive" or getattr(trained(name), "gain", 1.0) == 0
    )


@EACH
def test_a_bar_alone_gets_what_it_gets_in_the_range(name: str):
    entry, model = BAR_MODELS[name], trained(name)
    whole = entry.predict(model, LESSON.features, KEYS)
    for end in KEYS["bar_end"].unique().sort()[[0, 7, 300]]:
        near = LESSON.features.filter(
            pl.col("bar_end").is_between(end - timedelta(minutes=entry.lookback_rows - 1), end)
        )
        alone = entry.predict(model, near, near.filter(pl.col("bar_end") == end).select(BAR_KEYS))
        theirs = whole.filter(pl.col("bar_end") == end)
        assert alone.height == 2
        np.testing.assert_allclose(alone.drop(BAR_KEYS).to_numpy(), theirs.drop(BAR_KEYS).to_numpy(), rtol=0, atol=1e-9)


@EACH
def test_what_comes_later_changes_nothing(name: str):
    entry, model = BAR_MODELS[name], trained(name)
    end = KEYS["bar_end"].unique().sort()[100]
    keys = KEYS.filter(pl.col("bar_end") <= end)
    now = entry.predict(model, LESSON.features.filter(pl.col("bar_end") <= end), keys)
    later = entry.predict(model, LESSON.features, keys)
    np.testing.assert_allclose(now.drop(BAR_KEYS).to_numpy(), later.drop(BAR_KEYS).to_numpy(), rtol=0, atol=1e-9)


@EACH
def test_rows_without_what_is_required_have_no_answer_and_other_holes_do(name: str):
    end = KEYS["bar_end"].unique().sort()[50]
    there = pl.col("bar_end") != end
    entry, model = BAR_MODELS[name], trained(name)
    for column in REQUIRED:
        holed = LESSON.features.with_columns(pl.when(there).then(column).alias(column))
        made = entry.predict(model, holed, KEYS)
        assert made.height == KEYS.height - 2
        assert end not in made["bar_end"].to_list()
    holed = LESSON.features.with_columns(
        pl.when(there).then(name).alias(name) for name in ("return_1", "volume_1", "gap_5")
    )
    made = entry.predict(model, holed, KEYS)
    assert made.height == KEYS.height
    assert improper(made).is_empty()


@EACH
def test_no_model_predicts_what_it_was_trained_on(name: str):
    early = LESSON.features.filter(pl.col("bar_end") == LESSON.cutoff).select(BAR_KEYS)
    with pytest.raises(CutoffError, match="after its cutoff"):
        BAR_MODELS[name].predict(trained(name), LESSON.features, early)


@EACH
def test_features_of_another_form_are_refused_by_name(name: str):
    if BAR_MODELS[name].role == "naive":
        return
    with pytest.raises(ArtifactError, match="lack gap_5"):
        BAR_MODELS[name].predict(trained(name), LESSON.features.drop("gap_5"), KEYS)


# ---------------------------------------------------------------- what they may see


@EACH
def test_nothing_after_the_cutoff_is_learned_from(name: str):
    past = BarLesson(
        LESSON.features.filter(pl.col("bar_end") <= LESSON.cutoff), LESSON.labels, LESSON.cutoff, 0, RULE, 1
    )
    wild = LESSON.features.with_columns(
        pl.when(pl.col("bar_end") > LESSON.cutoff).then(1e3).otherwise(pl.col(column)).alias(column)
        for column in REQUIRED
    )
    assert same(train(name, past), trained(name))
    assert same(train(name, BarLesson(wild, LESSON.labels, LESSON.cutoff, 0, RULE, 1)), trained(name))


@EACH
def test_a_label_that_was_not_known_is_refused(name: str):
    late = BarLesson(LESSON.features, LABELS, LESSON.cutoff, 0, RULE, 1)
    with pytest.raises(CutoffError, match="purged by known_by"):
        train(name, late)


@EACH
def test_the_same_seed_gives_the_same_model(name: str):
    assert same(train(name), trained(name))


@EACH
def test_too_little_history_is_said(name: str):
    with pytest.raises(StockAssetsError, match="expected more than 240 bars"):
        train(name, lesson_of(BARS, 200))


def test_purged_labels_end_by_the_cutoff_and_those_that_wait_are_none():
    known = known_by(LABELS, LESSON.cutoff)
    assert known["known_at"].max() == LESSON.cutoff
    assert known["known_at"].null_count() == 0
    assert known["bar_end"].max() == LESSON.cutoff - timedelta(minutes=RULE.horizon_bars)


def test_the_part_that_judges_is_a_horizon_away_from_what_learns():
    rows = LESSON.rows
    learns, judges = newest_part(rows, RULE.horizon_bars)
    assert not (learns & judges).any()
    assert rows.known[learns].max() + RULE.horizon_bars < rows.time[judges].min()
    assert judges.sum() == pytest.approx(rows.learnable.sum() / 5, rel=0.02)
    with pytest.raises(StockAssetsError, match="too few"):
        newest_part(lesson_of(BARS, 260).rows, 60)


# ---------------------------------------------------------------- saved and loaded


@EACH
def test_a_saved_model_predicts_the_same(name: str, tmp_path: Path):
    entry = BAR_MODELS[name]
    tensors, description = trained(name).to_artifact()
    save_artifact(tmp_path / name, tensors, description)
    saved = load_artifact(tmp_path / name)
    loaded = entry.load(saved.tensors, saved.description)
    assert loaded.cutoff == LESSON.cutoff
    keys = KEYS.tail(40)
    assert entry.predict(loaded, LESSON.features, keys).equals(entry.predict(trained(name), LESSON.features, keys))


@EACH
def test_an_artifact_of_another_kind_or_without_a_part_is_refused(name: str):
    tensors, description = trained(name).to_artifact()
    entry = BAR_MODELS[name]
    with pytest.raises(ArtifactError):
        entry.load(tensors, description | {"kind": "another"})
    with pytest.raises(ArtifactError):
        entry.load(tensors, {key: value for key, value in description.items() if key != "cutoff"})
    if tensors:
        with pytest.raises(ArtifactError):
            entry.load({}, description)


@pytest.mark.parametrize("name", ["bar_rnn", "bar_lstm"])
def test_an_artifact_for_other_features_is_refused(name: str):
    tensors, description = trained(name).to_artifact()
    with pytest.raises(ArtifactError, match="other features"):
        BAR_MODELS[name].load(tensors, description | {"features": description["features"][:-1]})


class CutOff(Exception):
    pass


def test_a_training_that_was_cut_off_goes_on_as_if_it_never_had_been(tmp_path: Path):
    def stop(report: Any) -> None:
        if report.epoch == 2:
            raise CutOff

    file = CheckpointFile(tmp_path / "checkpoint")
    with pytest.raises(CutOff):
        train("bar_rnn", lesson_of(BARS, CUT, checkpoint=file, on_epoch=stop))
    heard = []
    resumed = train(
        "bar_rnn", lesson_of(BARS, CUT, checkpoint=file, on_epoch=lambda report: heard.append(report.epoch))
    )
    assert same(resumed, trained("bar_rnn"))
    assert heard == [report.epoch for report in resumed.curve]


# ---------------------------------------------------------------- that they learn


def test_the_champion_forecasts_volatility_that_comes_in_waves():
    losses = {name: loss_of(BAR_MODELS[name].predict(trained(name), LESSON.features, KEYS)) for name in BAR_MODELS}
    best = min(losses[name] for name in naive_bar_models())
    assert losses[BAR_IN_SERVICE] < best - 0.01
    assert losses[BAR_IN_SERVICE] == min(losses.values())


def test_the_networks_find_what_only_a_sequence_shows():
    """A burst of volume moves the price eight bars later: the level reads the last bar alone, and cannot know."""
    bars = law_bars(7000, 1, bursts=True, waves=False)
    lesson = lesson_of(bars, 5500)
    model = train_bar_rnn(lesson, small_rnn(epochs=5, batch=8, patience=5))
    keys = lesson.features.filter(pl.col("bar_end") > lesson.cutoff).select(BAR_KEYS)
    labels = bar_labels(bars, RULE, interval_minutes=1)
    level = train_bar_rnn(lesson, small_rnn(learning_rate=1e-9, epochs=1))
    assert model.best_epoch > 0
    assert model.curve[model.best_epoch].r2 > 0.2
    assert (
        loss_of(model.predict(lesson.features, keys), labels)
        < loss_of(level.predict(lesson.features, keys), labels) - 0.004
    )


@pytest.mark.parametrize("name", ["bar_rnn", "linear", "trees", "bar_lstm"])
def test_a_price_that_goes_on_is_forecast(name: str):
    bars = law_bars(4000, 2, drift=0.35, waves=False)
    lesson = lesson_of(bars, 3000)
    model = train(name, lesson)
    keys = lesson.features.filter(pl.col("bar_end") > lesson.cutoff).select(BAR_KEYS)
    made = BAR_MODELS[name].predict(model, lesson.features, keys)
    made = made.join(bar_labels(bars, RULE, interval_minutes=1).drop_nulls("label"), on=BAR_KEYS)
    error = ((made["expected_return"] - made["future_return"]) ** 2).sum() / (made["future_return"] ** 2).sum()
    assert error < 0.97
    assert made.select(pl.corr("score", "future_return")).item() > 0.2


def test_without_a_direction_the_champion_names_none():
    # of this seed; the slope of noise is above its own uncertainty now and then
    model = trained("bar_rnn")
    assert isinstance(model, BarRnn)
    assert model.tilt == pytest.approx(0, abs=0.15)
    made = model.predict(LESSON.features, KEYS).join(LABELS.drop_nulls("label"), on=BAR_KEYS)
    error = ((made["expected_return"] - made["future_return"]) ** 2).sum() / (made["future_return"] ** 2).sum()
    assert error < 1.01


# ---------------------------------------------------------------- parts, against independent answers


def test_shares_are_those_counted_by_hand():
    rows = LESSON.features.join(LESSON.labels, on=BAR_KEYS).drop_nulls(["label", *REQUIRED])
    counts = np.array([(rows["label"] == c).sum() for c in (-1, 0, 1)])
    prior = (counts + 1) / (counts + 1).sum()
    made = BAR_MODELS["class_prior"].predict(trained("class_prior"), LESSON.features, KEYS)
    np.testing.assert_allclose(made.select(PROBABILITIES).unique().to_numpy(), [prior])
    weight = PSEUDO_HORIZONS * RULE.horizon_bars
    for name, group in (("ticker_prior", "ticker"), ("time_prior", pl.col("minute_of_day") // 30)):
        made = BAR_MODELS[name].predict(trained(name), LESSON.features, KEYS).join(LESSON.features, on=BAR_KEYS)
        for (value,), own in rows.group_by(group):
            of_group = made.filter((pl.col(group) if isinstance(group, str) else group) == value)
            own_counts = np.array([(own["label"] == c).sum() for c in (-1, 0, 1)])
            expected = (own_counts + weight * prior) / (len(own) + weight)
            if of_group.height:
                np.testing.assert_allclose(of_group.select(PROBABILITIES).unique().to_numpy(), [expected])


def test_a_ticker_that_was_never_seen_gets_the_shares_of_all():
    stranger = LESSON.features.with_columns(ticker=pl.lit("NEW")).unique("bar_end")
    keys = stranger.filter(pl.col("bar_end") > LESSON.cutoff).select(BAR_KEYS)
    made = BAR_MODELS["ticker_prior"].predict(trained("ticker_prior"), stranger, keys)
    prior = BAR_MODELS["class_prior"].predict(trained("class_prior"), LESSON.features, KEYS)
    np.testing.assert_allclose(
        made.select(PROBABILITIES).unique().to_numpy(), prior.select(PROBABILITIES).unique().to_numpy()
    )


def test_the_linear_model_is_the_ridge_regression_of_scikit_learn():
    rows, model = LESSON.rows, trained("linear")
    assert isinstance(model, BarLinear)
    at = rows.learnable
    scaled = np.clip(np.nan_to_num((rows.inputs[at] - model.mean) / model.scale), -CLIP, CLIP)
    theirs = Ridge(alpha=1e-4 * at.sum()).fit(scaled, rows.moves[at])
    np.testing.assert_allclose(model.weights[:-1, 0], theirs.coef_, atol=1e-6)
    made = model.predict(LESSON.features, KEYS)
    later = bar_inputs(LATER)
    forecast = theirs.predict(np.clip(np.nan_to_num((later - model.mean) / model.scale), -CLIP, CLIP))
    expected = forecast * np.exp(LATER["vol_60"].to_numpy()) * math.sqrt(RULE.horizon_bars)
    np.testing.assert_allclose(made["expected_return"], expected, atol=1e-9)


def test_targets_are_those_of_a_loop():
    rows = LESSON.rows
    made, frame = bar_targets(rows), rows.frame
    own = {key: group for (key,), group in frame.group_by("ticker", maintain_order=True)}
    for place in np.flatnonzero(rows.learnable)[::371]:
        row = frame.row(int(place), named=True)
        ahead = own[row["ticker"]].filter(pl.col("bar_end") > row["bar_end"], pl.col("bar_end") <= row["known_at"])
        n, s = RULE.horizon_bars, row["vol_60"]
        closes = [math.log(row["close"]), *ahead["close"].log()]
        variance = np.mean(np.exp(2 * ahead["range_1"].to_numpy()))
        squares = np.mean(np.diff(closes) ** 2)
        naive = [
            0.5 * math.log(variance + 1e-10) - s,
            0.5 * math.log(squares + 1e-10) - s,
            math.log(max(closes) - min(closes) + 1e-5) - s - 0.5 * math.log(n),
            np.clip(row["future_return"] / (math.exp(s) * math.sqrt(n)), -4, 4),
        ]
        np.testing.assert_allclose(made[place], naive, atol=1e-9)
    assert np.isnan(made[~rows.learnable]).all()


def test_targets_look_over_a_hole_by_the_clock_and_not_by_rows():
    holed = BARS.filter(pl.col("bar_end").dt.minute() % 17 != 3)
    rows = lesson_of(holed, CUT).rows
    made, frame = bar_targets(rows), rows.frame
    for place in np.flatnonzero(rows.learnable)[5::501]:
        row = frame.row(int(place), named=True)
        ahead = frame.filter(
            pl.col("ticker") == row["ticker"], pl.col("bar_end") > row["bar_end"], pl.col("bar_end") <= row["known_at"]
        )
        squares = (ahead["return_1"].drop_nulls().to_numpy() ** 2).mean()
        assert made[place, 1] == pytest.approx(0.5 * math.log(squares + 1e-10) - row["vol_60"], abs=1e-9)


def test_inputs_keep_their_names_and_the_shape_has_no_level():
    inputs = bar_inputs(LATER)
    assert inputs.shape == (LATER.height, len(INPUT_NAMES))
    for name in ("gap_5", "vol_240"):
        np.testing.assert_array_equal(inputs[:, INPUT_NAMES.index(name)], LATER[name])
    angle = LATER["minute_of_day"].to_numpy() * 2 * np.pi / 1440
    np.testing.assert_allclose(inputs[:, INPUT_NAMES.index("time_cos_3")], np.cos(3 * angle))
    shape = shape_of(inputs)
    assert shape.shape[1] == len(SHAPE_NAMES)
    np.testing.assert_allclose(shape[:, SHAPE_NAMES.index("vol_5")], LATER["vol_5"] - LATER["vol_60"])
    np.testing.assert_array_equal(shape[:, SHAPE_NAMES.index("return_5")], LATER["return_5"])
    calm = LATER.with_columns(pl.col("^(vol|range)_.*$") + 1.0)
    np.testing.assert_allclose(shape_of(bar_inputs(calm)), shape)


def test_a_slope_is_shrunk_by_what_it_is_not_sure_of():
    rng = np.random.default_rng(0)
    groups, forecast = np.repeat(np.arange(40), 50), rng.normal(size=2000)
    clear = slope(forecast, 0.5 * forecast + 0.1 * rng.normal(size=2000), groups)
    assert clear == pytest.approx(0.5, abs=0.02)
    assert slope(forecast, -0.5 * forecast, groups) == 0.0
    assert slope(np.zeros(5), np.ones(5), np.arange(5)) == 0.0
    assert slope(forecast[:50], 0.5 * forecast[:50], groups[:50]) == 0.0  # one session says nothing
    luck = [slope(forecast, rng.normal(size=2000), groups) for _ in range(200)]
    raw = [max(0.0, forecast @ rng.normal(size=2000) / (forecast @ forecast)) for _ in range(200)]
    assert np.mean(luck) < 0.6 * np.mean(raw)


def test_unknown_hours_of_the_day_get_the_shares_of_all():
    model = BarTimePrior(LESSON.cutoff, ("0",), np.array([[0.1, 0.8, 0.1], [0.2, 0.5, 0.3]]))
    noon = LATER.head(2).with_columns(minute_of_day=pl.Series([10, 720], dtype=pl.Int32))
    assert model.answer(noon)[0].tolist() == [[0.1, 0.8, 0.1], [0.2, 0.5, 0.3]]


# ---------------------------------------------------------------- the registry


def test_every_role_is_there_and_the_champion_is_in_service():
    roles = {name: entry.role for name, entry in BAR_MODELS.items()}
    assert roles[BAR_IN_SERVICE] == "champion"
    assert {*roles.values()} == {"champion", "naive", "reference"}
    assert set(naive_bar_models()) == {"class_prior", "ticker_prior", "time_prior"}
    assert BAR_MODELS["bar_rnn"].lookback_rows == BarRnnConfig().steps
    assert BAR_MODELS["bar_lstm"].lookback_rows == BarLstmConfig().context


def test_another_model_of_the_same_name_is_refused():
    entry = BAR_MODELS["linear"]
    assert register_bar_model(entry) is entry
    with pytest.raises(StockAssetsError, match="linear already"):
        register_bar_model(BarModelEntry(name="linear", role="reference", title="", train=entry.train, load=entry.load))


def test_rows_know_their_tickers():
    rows = BarRows(LATER, 1)
    assert rows.starts.tolist() == [0, LATER.height // 2]
    assert rows.ends.tolist() == [LATER.height // 2, LATER.height]
    panel = rows.panel(np.ones((LATER.height, 3)))
    assert panel.values[-1].tolist() == [0, 0, 0]
    assert not panel.has_label().any()


# ---------------------------------------------------------------- an exchange that closes


@EACH
def test_on_an_exchange_every_bar_of_the_next_session_is_predicted(name: str):
    days = [date(2025, 2, 24) + timedelta(days=i) for i in range(26)]
    sessions = [day for day in days if day.weekday() < 5]  # over the turn of New York's clocks
    grid = exchange(sessions)
    bars = make_bars(grid, 3, tickers=3, missing=0.02)
    options = {"interval_minutes": 5, "expected": grid}
    features = bar_features(bars, date.min, time_zone="America/New_York", **options)
    labels = bar_labels(bars, RULE, **options)
    cutoff = grid.filter(pl.col("session") == sessions[-2])["bar_end"].max()
    lesson = BarLesson(features, known_by(labels, cutoff), cutoff, 0, RULE, 5)
    # a label of the last bars before the close looks at fewer, and none over the night
    assert ((lesson.rows.known - lesson.rows.time)[lesson.rows.learnable] <= RULE.horizon_bars).all()
    keys = features.filter(pl.col("session") == sessions[-1]).select(BAR_KEYS)
    made = BAR_MODELS[name].predict(train(name, lesson), features, keys)
    assert made.height == keys.height > 200
    assert improper(made).is_empty()


def test_a_block_is_forecast_without_its_labels_and_those_that_share_bars_with_it():
    rows = LESSON.rows
    blocks = Blocks.of(rows.time, rows.learnable, count=4, horizon=RULE.horizon_bars)
    targets = rows.moves[:, None]

    def unseen(own: np.ndarray) -> np.ndarray:
        fit = {"blocks": blocks, "clip": CLIP, "penalty": 0.02}
        return level_and_unseen(rows, own, rows.learnable, **fit)[1][:, 0]

    first, last = blocks.edges[1], blocks.edges[2] - 1  # of the second block
    before, others = unseen(targets), rows.learnable & ~blocks.inside(1)
    for nearest, same_forecast in ((RULE.horizon_bars, True), (RULE.horizon_bars + 1, False)):
        wild = targets.copy()
        wild[(rows.time >= first - nearest) & (rows.time <= last + nearest)] += 9.0
        after = unseen(wild)
        inside = rows.learnable & blocks.inside(1)
        assert np.allclose(after[inside], before[inside], atol=1e-9) == same_forecast
        assert not np.allclose(after[others], before[others], atol=1e-9)
