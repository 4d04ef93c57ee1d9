"""A year of evenings: the real sensors and runs, on a clock that is moved from evening to evening.

The market turns wilder, the machine is off twice, the vendor restates a bar and gets a day wrong, and one challenger
is spoilt. At the end the store holds what one straight backfill makes of the same prices.

`make drill` plays the year, this file by itself six weeks. After a month, in which all of this happens but the second
time off, `make drill` plays every fourteenth evening (DRILL_EVERY=14), which makes fourteen sessions at once, and every
one around the turn of the year; `make drill EVERY=1` plays each. `make test` plays neither.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.test_utils import freeze_time
from polars.testing import assert_frame_equal

from stock_assets.definitions import build_definitions
from stock_assets.lifecycle import retraining
from stock_assets.lifecycle.drift import RECENT
from stock_assets.lifecycle.materialize.champions import read_promotions
from stock_assets.market.calendar import calendar_of
from stock_assets.model import registry
from stock_assets.settings import PREFIX, Settings, settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.effort import EVERY, SESSIONS
from stock_assets_tests.system import drill_market
from stock_assets_tests.system.drill_market import Plants, planted
from stock_assets_tests.system.evenings import platform

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drill")]

#: Evenings that the machine is on one after the other: all that is planted, and the first training anew.
DAILY_EVENINGS = 21
FIRST, LAST_BEFORE = date(2020, 1, 2), date(2021, 3, 31)
TICKERS = tuple(f"SIM{number:02d}" for number in range(1, 13))
MEMORY = Path("/dev/shm")
SPOILT = "trees"
#: Models that the kills and the growth do without; the drill has them all.
UNUSED = ("deepar", "rnn_classifier", "svm", "mlp")
#: What every evening asks for: its session, the labels that it completes, and the orders of the account.
DAILY_WORK = ("session", "labels", "orders")
DAILY = (
    *("raw_ohlcv", "context_series", "announcements"),
    *("daily_bars", "indicators", "stationary_features", "side_features"),
)


@dataclass
class Drill:
    settings: Settings
    warehouse: Warehouse
    evenings: list[date]
    plants: Plants
    corrupt_at_its_evening: dict[str, bool]
    straight: Warehouse


def moment(day: date) -> datetime:
    """The evening of a session: twenty minutes after it was due."""
    return datetime.combine(day + timedelta(days=1), time(0, 20), UTC)


def fill(
    config: Settings, defs: dg.Definitions, instance: dg.DagsterInstance, last: date, *, now: datetime | None = None
) -> None:
    """Everything up to session `last` as a backfill makes it, at the evening of that session or at `now`."""
    days = calendar_of(config).between(calendar_of(config).sessions[0], last)
    years = sorted({day.year for day in days if day.year >= config.model_start_year})
    served = [day for day in days if day.year in years]

    def make(assets: list[str] | tuple[str, ...], first: object = None, through: object = None) -> None:
        tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(through)}
        dg.materialize(
            list(defs.assets or ()),  # pyright: ignore[reportArgumentType]
            selection=list(assets),
            instance=instance,
            resources=dict(defs.resources or {}),
            tags=tags if first else {},
        )

    with freeze_time(now or moment(last)):
        make(["universe"])
        make(DAILY, days[0], days[-1])
        make(["labels"], days[0], days[-1 - config.horizon])
        make(["pca_model"])
        make(["pca_components"], days[0], days[-1])
        make(["trained_rnn", "trained_baselines", "trained_ensemble"], years[0], years[-1])
        make(["predictions", "drift"], served[0], served[-1])


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training within a year spoils the model SPOILT: it learns hold for sell, buy for hold and sell for buy."""
    entry = registry.MODELS[SPOILT]

    def train(lesson):
        if (lesson.cutoff.month, lesson.cutoff.day) != (12, 31):
            turned = (pl.col("label") + 2) % 3 - 1
            lesson = replace(lesson, labels=lesson.labels.with_columns(turned.cast(lesson.labels["label"].dtype)))
        return entry.train(lesson)

    monkeypatch.setitem(registry.MODELS, SPOILT, replace(entry, train=train))


def fewer_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNUSED:
        monkeypatch.delitem(registry.MODELS, name)


def use(patch: pytest.MonkeyPatch, data_dir: Path, tickers: tuple[str, ...] = TICKERS) -> Settings:
    """The drill's market with its store in `data_dir`, in the environment, as the definitions of the drill read it."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        patch.delenv(name)
    chosen = {
        "CONFIG": "off",
        "START": FIRST,
        "FIRST_MODEL_YEAR": 2021,
        "DATA_DIR": data_dir,
        "TICKERS": ",".join(tickers),
    }
    for name, value in chosen.items():
        patch.setenv(PREFIX + name, str(value))
    settings.cache_clear()
    config = settings()
    patch.setenv("DAGSTER_HOME", str(config.dagster_home))
    return config


def seldom_on(evenings: list[date]) -> list[date]:
    """The evenings on which the machine is off once it was on for DAILY_EVENINGS: it is then on every EVERY-th evening,
    and every evening around the turn of the year, when models of the next one are trained."""
    turn = next((place for place, day in enumerate(evenings) if day.year > evenings[0].year), len(evenings))
    return [
        day
        for place, day in enumerate(evenings[:-1])
        if place >= DAILY_EVENINGS and place % EVERY and abs(place - turn) > 2
    ]


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    folder = tmp_path_factory.mktemp("drill")
    if MEMORY.is_dir():  # a year of commits to a disk takes minutes
        folder = Path(tempfile.mkdtemp(dir=MEMORY))
    with pytest.MonkeyPatch.context() as patch:
        config = use(patch, folder / "platform")
        start = calendar_of(config).position(LAST_BEFORE) + 1
        evenings = list(calendar_of(config).sessions[start : start + SESSIONS])
        plants = Plants(
            regime=evenings[1],
            restated=("SIM06", evenings[4], evenings[6]),
            corrupt=(evenings[8], evenings[10]),
        )
        away = {*evenings[12:14], *evenings[-6:-3], *seldom_on(evenings)}
        patch.setenv("DRILL_PLANTS", plants.text())
        spoil(patch)
        stopped = {}
        with platform(config, Path(drill_market.__file__)) as running:
            fill(config, planted(build_definitions(config), plants), running.instance, LAST_BEFORE)
            warehouse = Warehouse(config.database)
            running.tick(moment(LAST_BEFORE) + timedelta(minutes=10))
            for session in evenings:
                if session in away:
                    continue
                running.evening(moment(session), DAILY_WORK)
                if session == plants.corrupt[0]:
                    stopped = {
                        "bars": session in warehouse.sessions("daily_bars"),
                        "features": session in warehouse.sessions("stationary_features"),
                        "predictions": session in warehouse.sessions("predictions"),
                    }
            running.evening(moment(evenings[-1]) + timedelta(hours=1))
        aside = use(patch, folder / "straight")
        with platform(aside, Path(drill_market.__file__)) as straight:
            fill(aside, planted(build_definitions(aside), plants), straight.instance, evenings[-1])
        yield Drill(config, warehouse, evenings, plants, stopped, Warehouse(aside.database))
    settings.cache_clear()
    shutil.rmtree(folder)


def compared(frame: pl.DataFrame) -> pl.DataFrame:
    keys = [name for name in ("session", "ticker", "model") if name in frame.columns]
    return frame.drop("fetched_at", "provisional", strict=False).sort(keys)


def test_every_session_is_predicted_by_models_that_end_before_it(drill: Drill):
    rows = drill.warehouse.read("predictions", drill.evenings[0])
    assert set(rows["session"]) == set(drill.evenings)
    assert (rows["trained_through"] < rows["session"]).all()
    assert rows["model_version"].null_count() == 0
    assert not rows.select("session", "ticker", "model").is_duplicated().any()


def test_every_label_that_is_complete_is_there(drill: Drill):
    calendar, horizon = calendar_of(drill.settings), drill.settings.horizon
    known = calendar.between(FIRST, calendar.shift(drill.evenings[-1], -horizon) or FIRST)
    assert drill.warehouse.sessions("labels") == set(known)


def test_the_corrupt_day_stopped_at_a_check_and_was_made_when_it_was_mended(drill: Drill):
    assert drill.corrupt_at_its_evening == {"bars": True, "features": False, "predictions": False}
    session, _ = drill.plants.corrupt
    assert drill.warehouse.read("daily_bars", session, session)["suspect"].null_count() > 0
    (alert,) = drill.warehouse.read("alerts").filter(pl.col("title").str.contains(str(session))).rows(named=True)
    assert "no_ohlc" in alert["text"]
    assert alert["resolved_at"] is not None, "the day was made after all"


def test_the_restatement_is_kept_and_travelled(drill: Drill):
    ticker, session, _ = drill.plants.restated
    seen = drill.warehouse.read("restatements").filter((pl.col("ticker") == ticker) & (pl.col("session") == session))
    close = seen.filter(pl.col("column") == "close").row(0, named=True)
    assert close["after"] == pytest.approx(close["before"] * 1.02)


def test_the_store_equals_that_of_one_straight_backfill(drill: Drill):
    for table in (*DAILY[3:], "labels", "pca_components"):
        assert_frame_equal(
            compared(drill.warehouse.read(table)), compared(drill.straight.read(table)), rel_tol=1e-9, abs_tol=1e-12
        )
    shared = ["session", "ticker", "model", "model_version", "trained_through"]
    ours, theirs = (store.read("predictions") for store in (drill.warehouse, drill.straight))
    both = ours.join(theirs, on=shared, suffix="_straight")
    changed = set(read_promotions(drill.warehouse).filter(pl.col("outcome") == "champion")["model"])
    assert both.filter(~pl.col("model").is_in([*changed, "ensemble"])).height == (
        theirs.filter(~pl.col("model").is_in([*changed, "ensemble"])).height
    )
    for name in ("p_sell", "p_hold", "p_buy"):
        np.testing.assert_allclose(both[name], both[f"{name}_straight"], atol=1e-6)


def test_every_session_was_decided_on_once(drill: Drill):
    decided = drill.warehouse.read("retraining_decisions")
    assert not decided["session"].is_duplicated().any()
    asked = decided.filter("retrain").sort("session")
    calendar = calendar_of(drill.settings)
    places = [calendar.position(session) for session in asked["session"]]
    assert all(later - earlier >= retraining.COOL_DOWN for earlier, later in pairwise(places))


def test_the_wilder_market_is_noticed_and_trained_on(drill: Drill):
    asked = drill.warehouse.read("retraining_decisions").filter("retrain").sort("session")
    calendar = calendar_of(drill.settings)
    first = asked.filter(pl.col("session") > drill.plants.regime).row(0, named=True)
    late = calendar.position(first["session"]) - calendar.position(drill.plants.regime)
    assert late <= RECENT + 5, first["reason"]
    versions = drill.warehouse.read("trained_rnn").filter(pl.col("trained_through") == first["cutoff"])
    assert set(versions["model"]) == set(registry.models_into("trained_rnn"))


def test_the_spoilt_challenger_never_serves(drill: Drill):
    judged = read_promotions(drill.warehouse).filter((pl.col("model") == SPOILT) & (pl.col("kind") == "judged"))
    assert judged.height > 0
    assert set(judged["outcome"]) == {"challenger"}
    served = drill.warehouse.read("predictions", drill.evenings[0]).filter(pl.col("model") == SPOILT)
    assert set(served["trained_through"].dt.strftime("%m-%d")) == {"12-31"}


@pytest.mark.xdist_group("new_year")
def test_a_new_year_begins_with_models_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = use(monkeypatch, tmp_path / "data", TICKERS[:4])
    never = date(2030, 1, 2)
    plants = Plants(regime=never, restated=("SIM01", never, never), corrupt=(never, never))
    monkeypatch.setenv("DRILL_PLANTS", plants.text())
    fewer_models(monkeypatch)  # the year above has them all
    with platform(config, Path(drill_market.__file__)) as running:
        fill(config, planted(build_definitions(config), plants), running.instance, date(2021, 12, 30))
        warehouse = Warehouse(config.database)
        running.evening(moment(date(2021, 12, 31)))
        models = warehouse.read("trained_rnn").filter(pl.col("model_year") == 2022)
        assert set(models["trained_through"]) == {date(2021, 12, 31)}, (
            "trained on the evening of the year's last session"
        )
        running.evening(moment(date(2022, 1, 3)))
    settings.cache_clear()
    served = (
        warehouse.read("predictions", date(2021, 12, 31)).group_by("session").agg(pl.col("trained_through").unique())
    )
    assert dict(served.iter_rows()) == {
        date(2021, 12, 31): [date(2020, 12, 31)],
        date(2022, 1, 3): [date(2021, 12, 31)],
    }
