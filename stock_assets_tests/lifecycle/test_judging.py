"""Challengers judged on members alone, and evenings that a shipped or removed model never stops."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from stock_assets.errors import ArtifactError
from stock_assets.features.stationary import STATIONARY
from stock_assets.lifecycle.materialize.champions import (
    champions_of,
    follow_aliases,
    judge_challengers,
    read_promotions,
)
from stock_assets.market.calendar import calendar_of
from stock_assets.model.baselines.naive import fit_class_prior
from stock_assets.model.materialize.inputs import StoredInputs
from stock_assets.model.materialize.versions import save
from stock_assets.model.registry import MODELS
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.lifecycle.store import CALENDAR, NEXT, NOW, MemoryRegistry, handmade_store
from stock_assets_tests.tables import rows_of

MEMBERS, OUTSIDERS = ("AAA", "BBB"), ("SIM06", "SIM07")
BASE_CUTOFF, NEWER_CUTOFF, LABELLED, PREDICTED = (
    date(2018, 12, 31),
    date(2019, 2, 28),
    date(2019, 5, 21),
    date(2019, 5, 31),
)
AT = datetime(2019, 6, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(source="simulated", data_dir=tmp_path, start="2018-01-02", first_model_year=2019)


def labels_of(holds: int, buys: int) -> pl.DataFrame:
    """Labels whose class frequencies a prior learns."""
    labels = [0] * holds + [1] * buys + [-1] * buys
    keys = {"ticker": "AAA", "session": date(2018, 1, 2), "horizon_end": date(2018, 1, 11)}
    return pl.DataFrame({"label": labels}, schema={"label": pl.Int8}).with_columns(
        **{k: pl.lit(v) for k, v in keys.items()}
    )


@pytest.fixture
def store(settings: Settings) -> Warehouse:
    """Members always hold and outsiders always buy; two versions of class_prior, the newer one surer of hold."""
    store, calendar = Warehouse(settings.database), calendar_of(settings)
    days = calendar.between(date(2018, 1, 2), PREDICTED)
    tickers = pl.DataFrame({"ticker": [*MEMBERS, *OUTSIDERS]})
    keys = pl.DataFrame({"session": days}, schema={"session": pl.Date}).join(tickers, how="cross")
    member = pl.col("ticker").is_in(list(MEMBERS))
    components = keys.with_columns(pc_1=pl.lit(0.0), pca_version=pl.lit("x"))
    rows = {
        "raw_ohlcv": keys,
        "daily_bars": keys.with_columns(is_member=member, total_return=pl.lit(0.0)),
        "stationary_features": keys.with_columns(**{name: pl.lit(0.0) for name in STATIONARY}),
        "pca_components": components,
        "labels": keys.filter(pl.col("session") <= LABELLED).with_columns(
            label=pl.when(member).then(0).otherwise(1).cast(pl.Int8),
            horizon_end=pl.col("session").replace_strict({day: calendar.shift(day, 7) for day in days}, default=None),
        ),
        "predictions": pl.DataFrame({"session": [PREDICTED]}, schema={"session": pl.Date}),
    }
    for table, frame in rows.items():
        store.replace_table(table, rows_of(table, frame))
    inputs = StoredInputs(store, settings, first=days[0], last=PREDICTED)
    versions = []
    for cutoff, learned in ((BASE_CUTOFF, labels_of(6, 2)), (NEWER_CUTOFF, labels_of(8, 1))):
        version, folder = save(
            settings, MODELS["class_prior"], 2019, model=fit_class_prior(learned, cutoff), inputs=inputs
        )
        versions.append({"version": version, "trained_through": cutoff, "artifact": folder, "pca_version": "x"})
    trained = pl.DataFrame(versions).with_columns(model=pl.lit("class_prior"), model_year=pl.lit(2019, pl.Int32))
    store.replace_table("trained_baselines", rows_of("trained_baselines", trained))
    return store


@pytest.mark.parametrize(("members_only", "outcome", "judged"), [(True, "champion", 2), (False, "challenger", 4)])
def test_only_members_decide_who_serves_unless_everyone_counts(
    settings: Settings, store: Warehouse, members_only: bool, outcome: str, judged: int
):
    config = settings.model_copy(update={"members_only": members_only})
    decided = judge_challengers(store, config, NoRegistry(), now=AT)
    (row,) = read_promotions(store).rows(named=True)
    assert (row["outcome"], row["kind"], row["decided_at"]) == (outcome, "judged", AT)
    days = calendar_of(settings).between(date(2019, 3, 1), LABELLED)
    assert (row["window_first"], row["window_last"], row["rows"]) == (days[0], days[-1], judged * len(days))
    assert decided.messages == [f"{row['version']} {row['reason']}"]
    assert judge_challengers(store, config, NoRegistry(), now=AT).promotions == [], "it is judged once"


def test_a_challenger_waits_for_labels_after_its_cutoff(settings: Settings, store: Warehouse):
    store.replace_table("labels", store.read("labels").filter(pl.col("session") <= NEWER_CUTOFF))
    decided = judge_challengers(store, settings, NoRegistry(), now=AT)
    assert decided.promotions == []
    assert [message.endswith("waits: no label after its cutoff is known yet") for message in decided.messages] == [True]


# ---------------------------------------------------------------- models come and go


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """The store of `handmade_store`, whose models are all that are registered."""
    for name in set(MODELS) - {"rnn", "trees"}:
        monkeypatch.delitem(MODELS, name)
    store = handmade_store(tmp_path / "stock_assets.duckdb")
    for table in ("trained_rnn", "trained_baselines"):
        store.replace_table(table, store.read(table).with_columns(pca_version=pl.lit("x"), artifact=pl.lit("folder")))
    return store


def serving(store: Warehouse) -> tuple[set[str], list[str]]:
    assignment = champions_of(store, CALENDAR.between(NEXT, date(2019, 6, 7)), pca_version="x")
    return {version.model for versions, _ in assignment.spans for version in versions}, list(assignment.notes)


def test_a_model_that_ships_within_the_year_is_named_and_stops_nothing(
    models: Warehouse, monkeypatch: pytest.MonkeyPatch
):
    assert serving(models) == ({"rnn", "trees"}, [])
    monkeypatch.setitem(MODELS, "toy", replace(MODELS["trees"], name="toy"))
    served, (note,) = serving(models)
    assert served == {"rnn", "trees"}
    assert note.startswith("toy has no version for model year 2019")
    registry = MemoryRegistry("rnn-2018-12-31-aaa", "trees-1")
    done = follow_aliases(models, registry, ("rnn", "trees", "toy"), session=NEXT, now=NOW)
    assert [line.partition(":")[0] for line in done] == ["rnn", "trees"]
    assert set(registry.kept) == {"rnn", "trees"}


def test_a_model_that_is_removed_is_named_and_stops_nothing(models: Warehouse, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(MODELS, "trees")
    served, (note,) = serving(models)
    assert served == {"rnn"}
    assert "versions of trees for model year 2019 are skipped" in note


def test_a_model_first_trained_within_the_year_serves_after_its_cutoff(models: Warehouse):
    late = {"model_year": 2019, "model": "trees", "version": "trees-2", "trained_through": date(2019, 6, 4)}
    rows = rows_of("trained_baselines", pl.DataFrame([late])).with_columns(
        pca_version=pl.lit("x"), artifact=pl.lit("folder")
    )
    models.replace_table("trained_baselines", rows)
    assignment = champions_of(models, CALENDAR.between(NEXT, date(2019, 6, 7)), pca_version="x")
    assert {(version.model, day) for versions, days in assignment.spans for version in versions for day in days} == {
        *(("rnn", day) for day in CALENDAR.between(NEXT, date(2019, 6, 7))),
        *(("trees", day) for day in CALENDAR.between(date(2019, 6, 5), date(2019, 6, 7))),
    }


def test_a_year_without_any_version_is_an_error_that_names_the_step(models: Warehouse):
    with pytest.raises(ArtifactError, match=r"2020-01-02 need trained_rnn of model year 2020\. Materialize"):
        champions_of(models, [date(2020, 1, 2)], pca_version="x")
