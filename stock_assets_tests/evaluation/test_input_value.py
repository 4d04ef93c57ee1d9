"""What inputs are worth, on a market where one group says how volatile a ticker will be and the others say nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.input_groups import FAMILIES, NOISE, OTHERS, input_groups
from stock_assets.evaluation.input_value import FULL, Variant, permuted, value_table, verdicts, without
from stock_assets.evaluation.materialize.input_value import MadeValues, ValueQuestion, measure_inputs
from stock_assets.features.labels import barrier_labels
from stock_assets.features.market_context import MARKET_CONTEXT
from stock_assets.features.side_features import GROUPS as SIDE_GROUPS
from stock_assets.features.side_features import SideColumn, SideFrames, SideGroup
from stock_assets.features.stationary import STATIONARY
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.model.lesson import Lesson
from stock_assets.model.network_entries import RNN
from stock_assets.model.networks import trainer
from stock_assets.model.networks.rnn import RnnEpoch, train_rnn
from stock_assets.model.registry import MODELS
from stock_assets.model.scaling import feature_columns
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.model.store import QUICK, Quick, only
from stock_assets_tests.model.tiny import tiny_rnn
from stock_assets_tests.tables import rows_of

TICKERS = [f"T{i:02d}" for i in range(12)]
YEAR = 2019
#: How many sessions a ticker stays calm or wild.
SPELL = 20
SMALL = replace(RNN, train=lambda lesson: train_rnn(lesson, tiny_rnn(segments_per_epoch=256, learning_rate=5e-3)))


# ---------------------------------------------------------------- groups of inputs


def test_every_input_of_the_package_is_of_a_family():
    groups = input_groups([*STATIONARY, *MARKET_CONTEXT], {})
    assert OTHERS not in groups
    assert set(FAMILIES) | {NOISE} == set(groups)
    members = [name for group in groups.values() if group.in_model for name in group.columns]
    assert sorted(members) == sorted([*STATIONARY, *MARKET_CONTEXT])
    assert groups["ranks"].columns == ("rank_return_5", "rank_return_21", "rank_vol_22", "rank_volume")
    assert "vol_idiosyncratic_66" in groups["own_volatility"].columns
    assert all(group.text for group in groups.values())


def side_group(name: str, *columns: str) -> SideGroup:
    about = dict.fromkeys(columns, SideColumn("a figure", -1.0, 1.0))
    return SideGroup(
        name=name, reads=("figures",), columns=about, compute=lambda _: pl.DataFrame(), lookback=0, in_model=False
    )


def test_a_side_input_is_a_group_of_its_own_and_one_of_no_family_is_said():
    sides = {"reports": side_group("reports", "vol_of_reports", "days"), "texts": side_group("texts", "tone")}
    groups = input_groups(["vol_total_1", "vol_of_reports", "my_column"], sides, {"texts": ["tone"]})
    assert {name: (group.columns, group.in_model) for name, group in groups.items() if name != NOISE} == {
        "own_volatility": (("vol_total_1",), True),
        OTHERS: (("my_column",), True),
        "reports": (("vol_of_reports",), True),
        "texts": (("tone",), False),
    }
    assert groups["texts"].text == "made from figures"


# ---------------------------------------------------------------- without a group

DAYS = [date(2019, 1, day) for day in (2, 3, 4, 7)]
ROWS = pl.DataFrame(
    {"ticker": np.repeat(["A", "B", "C"], 4), "session": DAYS * 3, "vol_total_1": np.arange(12.0)}
).with_columns(rank_volume=10 * pl.col("vol_total_1"), vix_level=pl.col("session").dt.day().cast(pl.Float64))


def test_rows_of_a_session_exchange_the_columns_of_a_group_and_nothing_else():
    changed = permuted(ROWS, ["vol_total_1", "rank_volume"], seed=3)
    assert_frame_equal(changed.select(*KEYS, "vix_level"), ROWS.select(*KEYS, "vix_level"))
    assert (changed["rank_volume"] == 10 * changed["vol_total_1"]).all()
    for day in DAYS:
        own, other = (frame.filter(pl.col("session") == day)["vol_total_1"] for frame in (ROWS, changed))
        assert sorted(own) == sorted(other)
    assert not changed["vol_total_1"].equals(ROWS["vol_total_1"])
    assert_frame_equal(permuted(ROWS, ["vol_total_1", "rank_volume"], seed=3), changed)
    # the targets are made of what really was
    assert changed["outcome_vol_total_1"].equals(ROWS["vol_total_1"])


def test_what_a_session_shares_is_exchanged_among_sessions():
    changed = permuted(ROWS, ["vix_level"], seed=2)
    of_session = changed.group_by("session").agg(pl.col("vix_level").unique()).sort("session")
    assert of_session["vix_level"].list.len().to_list() == [1] * 4
    shuffled = of_session["vix_level"].list.first().to_list()
    assert sorted(shuffled) == [2.0, 3.0, 4.0, 7.0] != shuffled
    assert_frame_equal(changed.drop("vix_level"), ROWS.drop("vix_level"))


def test_nothing_is_permuted_without_a_column():
    assert permuted(ROWS, [], seed=0) is ROWS


def test_a_column_that_is_left_out_stays_for_the_targets_alone():
    kept = without(ROWS, ["vol_total_1", "vix_level"])
    assert kept.columns == [*KEYS, "rank_volume", "outcome_vol_total_1"]
    assert feature_columns(kept) == ("rank_volume",)


# ---------------------------------------------------------------- the table


def scores(loss: float, noise: float, seed: int = 0, ic: float | None = 0.02) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    days = pl.date_range(date(2018, 1, 1), date(2019, 12, 31), "7d", eager=True)
    return pl.DataFrame({"session": days}).with_columns(
        pl.col("session").dt.year().alias("model_year"),
        rows=pl.lit(100),
        log_loss=loss + noise * pl.Series(rng.normal(size=len(days))),
        accuracy=pl.lit(0.4),
        rank_ic=pl.lit(ic, pl.Float64),
        seed=pl.lit(seed),
    )


def test_a_difference_is_with_the_group_less_without_it():
    full, worse = scores(1.00, 0.0), scores(1.02, 0.01)
    asked = {FULL: full, Variant("a", "left_out"): worse, Variant("b", "added"): worse, Variant("a", "permuted"): full}
    table = value_table(asked, {"a": 3, "b": 4}, model="rnn")
    assert table["variants"].unique().to_list() == [3]
    assert table["years"].unique().to_list() == ["2018, 2019"]
    assert table["rows"].unique().to_list() == [100 * full.height]
    loss = {(row["group"], row["way"]): row for row in table.filter(metric="log_loss").to_dicts()}
    out, added, nothing = loss["a", "left_out"], loss["b", "added"], loss["a", "permuted"]
    assert out["difference"] == pytest.approx(-0.02, abs=0.002)
    assert out["low"] < out["difference"] < out["high"] < 0
    assert (added["difference"], added["low"], added["high"]) == (-out["difference"], -out["high"], -out["low"])
    assert (nothing["difference"], nothing["low"], nothing["high"]) == (0.0, 0.0, 0.0)
    assert out["score"] == pytest.approx(1.0)
    # yearly means alike, whatever their sessions
    by_year = (full["log_loss"] - worse["log_loss"]).to_frame("d").with_columns(full["model_year"])
    assert out["difference"] == pytest.approx(by_year.group_by("model_year").mean()["d"].mean())
    assert dict(verdicts(table).select(pl.concat_str("group", "way", separator=" "), "verdict").iter_rows()) == {
        "a left_out": "helps",
        "b added": "hurts",
        "a permuted": "not told from luck",
    }


def test_seeds_are_averaged_and_a_score_that_no_session_has_is_null():
    other = pl.concat([scores(1.01, 0.0, seed=0, ic=None), scores(1.03, 0.0, seed=1, ic=None)])
    full = pl.concat([scores(1.0, 0.0, seed=0, ic=None), scores(1.0, 0.0, seed=1, ic=None)])
    table = value_table({FULL: full, Variant("a", "left_out"): other}, {"a": 1}, model="rnn")
    by_metric = {row["metric"]: row["difference"] for row in table.to_dicts()}
    assert by_metric["log_loss"] == pytest.approx(-0.02)
    assert by_metric["rank_ic"] is None


def test_scores_of_other_rows_are_refused():
    full = scores(1.0, 0.0)
    with pytest.raises(
        StockAssetsError, match=r"left_out a was scored on 10[34]00 rows, rnn on 10[45]00; expected the"
    ):
        value_table({FULL: full, Variant("a", "left_out"): full.head(-1)}, {"a": 1}, model="rnn")
    with pytest.raises(StockAssetsError, match="nothing to compare"):
        value_table({FULL: full}, {}, model="rnn")


# ---------------------------------------------------------------- a market with a planted truth


def market(settings: Settings) -> dict[str, pl.DataFrame]:
    """Returns of spells of 1 % and 4 % a day. The `event_*` columns say how many of the next 7 sessions are wild, the
    `volume_*` columns are noise, and every other input is 0, but for what targets are made of."""
    days, rng = list(calendar_of(settings).sessions), np.random.default_rng(0)
    wild = np.repeat(rng.random((len(TICKERS), len(days) // SPELL + 2)) < 0.5, SPELL, axis=1).astype(float)
    wild = np.stack([np.roll(row, i)[: len(days) + 7] for i, row in enumerate(wild)])
    ahead = np.lib.stride_tricks.sliding_window_view(wild[:, 1:], 7, axis=1).mean(axis=2)[:, : len(days)]
    returns = np.where(wild[:, : len(days)] > 0, 0.04, 0.01) * rng.normal(size=ahead.shape)
    keys = pl.DataFrame({"ticker": np.repeat(TICKERS, len(days)), "session": days * len(TICKERS)})
    planted: dict[str, Any] = {"log_return_1": returns, "vol_total_1": 0.5 * np.log(returns**2 + 1e-5)}
    planted |= {f"event_{lag}": ahead for lag in (91, 182, 273, 364, 728)}
    planted |= {name: rng.normal(size=ahead.shape) for name in ("volume_ratio", "volume_ratio_5")}
    zero = np.zeros(ahead.shape)
    columns = [pl.Series(name, planted.get(name, zero).ravel()) for name in STATIONARY]
    bars = keys.with_columns(
        suspect=pl.lit(None, pl.String), total_return=pl.Series(np.expm1(returns).ravel()), is_member=pl.lit(value=True)
    )
    return {
        "raw_ohlcv": keys,
        "daily_bars": bars,
        "stationary_features": keys.with_columns(columns),
        "pca_components": keys.with_columns(pc_1=pl.lit(0.0), pca_version=pl.lit("x")),
        "labels": barrier_labels(bars, settings.label_rule),
    }


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return read_settings(
        source="simulated",
        data_dir=tmp_path_factory.mktemp("market"),
        start=date(2017, 9, 1),
        end=date(2019, 8, 30),
        first_model_year=YEAR,
    )


@pytest.fixture(scope="module")
def store(settings: Settings) -> Warehouse:
    store = Warehouse(settings.database)
    for table, frame in market(settings).items():
        store.replace_table(table, rows_of(table, frame))
    return store


GROUPS = ("past_bursts", "volume", NOISE)


@pytest.fixture(scope="module")
def made(store: Warehouse, settings: Settings) -> tuple[MadeValues, list[str]]:
    """The values, and the lines of progress."""
    lines: list[str] = []
    with only(SMALL):
        return measure_inputs(store, settings, ValueQuestion(groups=GROUPS), say=lines.append), lines


def test_the_group_that_says_it_is_told_from_luck_and_the_others_are_not(made: tuple[MadeValues, list[str]]):
    rows, lines = made[0].rows, made[1]
    loss = {(row["group"], row["way"]): row for row in rows.filter(metric="log_loss").to_dicts()}
    assert set(loss) == {
        *((group, way) for group in ("past_bursts", "volume") for way in ("left_out", "permuted")),
        (NOISE, "added"),
    }
    for way in ("left_out", "permuted"):
        assert loss["past_bursts", way]["high"] < -0.03, way
        assert loss["volume", way]["low"] < 0 < loss["volume", way]["high"], way
    assert loss[NOISE, "added"]["low"] < 0 < loss[NOISE, "added"]["high"]
    assert rows["variants"].unique().to_list() == [5]
    assert made[0].trainings == 2 * 4  # as it is, without either, with noise; two seeds
    assert any("2019 without past_bursts: epoch 2/2" in line for line in lines)


def test_what_is_stored_is_what_was_made(made: tuple[MadeValues, list[str]], store: Warehouse, settings: Settings):
    assert_frame_equal(store.read("input_value"), made[0].rows)
    assert not list(settings.artifacts.rglob("*.checkpoint"))


# ---------------------------------------------------------------- side inputs that no model reads


def test_a_side_input_that_no_model_reads_is_added_and_one_without_rows_is_said(
    store: Warehouse, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def compute(frames: SideFrames) -> pl.DataFrame:
        assert frames.rows["macro"].height == 1
        late = frames.bars.filter(pl.col("session").is_in(list(frames.sessions))).with_columns(
            never=pl.lit(None, pl.Float64), cpi=5.0
        )
        return late.with_columns(cpi=pl.when(pl.col("ticker") != "T00").then("cpi"))

    about = {name: SideColumn("a figure", -1.0, 1.0) for name in ("cpi", "never")}
    toy = SideGroup(name="toy", reads=("macro",), columns=about, compute=compute, lookback=3, in_model=False)
    figures = pl.DataFrame({"subject": ["CPI"], "session": [date(2018, 1, 2)], "value": [2.0]})
    store.replace_table("macro", rows_of("macro", figures))
    monkeypatch.setitem(SIDE_GROUPS, "toy", toy)
    own = settings.model_copy(update={"data_dir": tmp_path, "artifacts": tmp_path / "artifacts"})
    question = ValueQuestion(groups=("toy", "fundamentals", "vix"), seeds=1, workers=1)
    with quick_models() as trained:
        rows = measure_inputs(store, own, question).rows
    assert len(trained) == 2
    assert set(trained[0]) ^ set(trained[1]) == {"cpi"}  # no session has the other column
    assert rows.filter(group="toy").select("way", "metric", "columns").rows() == [
        ("added", metric, 1) for metric in ("log_loss", "accuracy", "rank_ic")
    ]
    notes = {row["group"]: (row["way"], row["note"]) for row in rows.filter(pl.col("difference").is_null()).to_dicts()}
    assert notes.pop("toy", None) in (None, ("added", None))  # a model that looks at nothing ranks no ticker
    assert notes["vix"] == (
        "left_out",
        "its series is not among the market context of the store (STOCK_ASSETS_CONTEXT)",
    )
    assert notes["fundamentals"][0] == "added"
    assert notes["fundamentals"][1].startswith("the store has no row of fundamentals: ")
    assert set(notes) == {"vix", "fundamentals"}


# ---------------------------------------------------------------- a run that is cut off


class CutOff(Exception):
    """The end of a process, before it could do anything about it."""


@contextmanager
def quick_models(dies_at: int | None = None) -> Iterator[list[tuple[str, ...]]]:
    """A model that trains at once in the place of the network; the columns of each training. One of them never ends."""
    trained: list[tuple[str, ...]] = []

    def train(lesson: Lesson) -> Quick:
        trained.append(feature_columns(lesson.inputs.features))
        if len(trained) == dies_at:
            raise CutOff
        return Quick.fit(lesson)

    with only(replace(QUICK, train=train)):
        yield trained


def test_a_run_that_was_cut_off_goes_on_where_it_was(store: Warehouse, settings: Settings, tmp_path: Path):
    cut, whole = (
        settings.model_copy(update={"data_dir": tmp_path / name, "artifacts": tmp_path / name / "artifacts"})
        for name in ("cut", "whole")
    )
    before = store.read("input_value") if "input_value" in store.row_counts() else None
    question = ValueQuestion(groups=("past_bursts", "peers", NOISE), workers=1)
    with quick_models(dies_at=4) as first, pytest.raises(CutOff):
        measure_inputs(store, cut, question)
    if before is not None:
        assert_frame_equal(store.read("input_value"), before)
    with quick_models() as trained:
        resumed = measure_inputs(store, cut, question)
        assert resumed.trainings == len(trained) == 8 - (len(first) - 1) < 8
        assert measure_inputs(store, cut, question).trainings == 0
        again = measure_inputs(store, whole, question)
    assert again.trainings == 8
    assert_frame_equal(again.rows, resumed.rows)
    # a model that looks at nothing is worth the same without anything
    assert resumed.rows["difference"].drop_nulls().to_list() == [0.0] * 10


def test_a_network_that_was_cut_off_goes_on_from_its_last_epoch(
    store: Warehouse, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def dies(report: RnnEpoch) -> None:
        if report.epoch == 1:
            raise CutOff

    own, epochs = settings.model_copy(update={"data_dir": tmp_path, "artifacts": tmp_path / "artifacts"}), []
    question = ValueQuestion(groups=("volume",), ways=("permuted",), seeds=1)
    dying = replace(SMALL, train=lambda lesson: SMALL.train(replace(lesson, on_epoch=dies)))
    with only(dying), pytest.raises(CutOff):
        measure_inputs(store, own, question)
    assert [path.suffix for path in own.artifacts.rglob("2019-*")] == [".checkpoint"]
    run_epoch = trainer.run_epoch
    monkeypatch.setattr(
        trainer, "run_epoch", lambda *given, **named: epochs.append(named["epoch"]) or run_epoch(*given, **named)
    )
    with only(SMALL):
        assert measure_inputs(store, own, question).trainings == 1
    assert epochs == [2]
    assert [path.suffix for path in own.artifacts.rglob("2019-*")] == [".arrow"] * 2


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (ValueQuestion(model="logistic"), "logistic, which reads the principal components; expected one of rnn"),
        (ValueQuestion(model="gpt"), "was asked about gpt, which is none; expected one of rnn"),
        (ValueQuestion(ways=("halved",)), "the way 'halved'; expected some of left_out, permuted, added"),
        (ValueQuestion(years=(2019, 2031)), "was asked for 2031; expected some of 2019 to 2019"),
        (ValueQuestion(groups=("moon",)), "no group of inputs 'moon'; expected some of market_level, peers"),
        (ValueQuestion(groups=("volume",), ways=("added",)), "nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_training(
    question: ValueQuestion, message: str, store: Warehouse, settings: Settings, tmp_path: Path
):
    with only(replace(QUICK), MODELS["logistic"]), pytest.raises(StockAssetsError, match=message):
        measure_inputs(
            store, settings.model_copy(update={"data_dir": tmp_path, "artifacts": tmp_path / "artifacts"}), question
        )


def test_a_sample_of_the_tickers_is_the_same_every_time(store: Warehouse, settings: Settings, tmp_path: Path):
    own = settings.model_copy(update={"data_dir": tmp_path, "artifacts": tmp_path / "artifacts"})
    with quick_models() as trained:
        few = measure_inputs(store, own, ValueQuestion(groups=(NOISE,), tickers=4, seeds=1))
        assert measure_inputs(store, own, ValueQuestion(groups=(NOISE,), tickers=4, seeds=1)).trainings == 0
    assert len(trained) == 2
    assert few.rows["rows"].unique().to_list() == [4 * 161]
