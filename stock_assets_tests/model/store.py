"""A store of noise on which models train within a second, the steps of an evening, and a quick model in service."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.features.labels import barrier_labels
from stock_assets.features.stationary import STATIONARY
from stock_assets.lifecycle.materialize.serving import serving_versions
from stock_assets.market.calendar import calendar_of
from stock_assets.model.baselines.base import Baseline, entry_of
from stock_assets.model.cutoffs import cutoffs_of
from stock_assets.model.lesson import Lesson
from stock_assets.model.materialize.ensemble import WeighedEnsembles, weigh_ensembles
from stock_assets.model.materialize.predict import Predictions, make_predictions
from stock_assets.model.materialize.train import Tracking, TrainedModels, train_models
from stock_assets.model.registry import MODELS, ModelEntry, register_model
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.registry import NoRegistry, Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

TICKERS = tuple(f"T{i}" for i in range(6))
#: T5 is no member of the universe from this session on.
LEAVES = date(2018, 7, 2)
NOW = datetime(2019, 7, 1, tzinfo=UTC)


def small_settings(folder: Path, **overrides: object) -> Settings:
    """Model years 2018 and 2019 of a market that begins in 2017."""
    plain = {"start": date(2017, 1, 3), "end": date(2019, 6, 28), "first_model_year": 2018}
    return read_settings(source="simulated", data_dir=folder, **(plain | overrides))


def small_store(settings: Settings) -> Warehouse:
    """Everything below the models, for TICKERS on every session; T5 leaves the universe."""
    days, rng = list(calendar_of(settings).sessions), np.random.default_rng(0)
    keys = pl.DataFrame({"ticker": np.repeat(TICKERS, len(days)), "session": days * len(TICKERS)})
    member = (pl.col("ticker") != "T5") | (pl.col("session") < LEAVES)
    bars = keys.with_columns(
        suspect=pl.lit(None, pl.String), total_return=pl.Series(rng.normal(0, 0.02, keys.height)), is_member=member
    )
    noise = [pl.Series(name, rng.normal(size=keys.height)) for name in STATIONARY]
    rows = {
        "raw_ohlcv": keys,
        "daily_bars": bars,
        "stationary_features": keys.with_columns(noise),
        "pca_components": keys.with_columns(pc_1=rng.normal(size=keys.height), pca_version=pl.lit("x")),
        "labels": barrier_labels(bars, settings.label_rule).drop_nulls(),
    }
    store = Warehouse(settings.database)
    for table, frame in rows.items():
        store.replace_table(table, rows_of(table, frame))
    return store


@dataclass(frozen=True)
class Quick(Baseline):
    """The class frequencies, in the place of the network in service."""

    name, role, reads, title = "rnn", "champion", "features", "the class frequencies"
    prior: np.ndarray
    """float64 [3]"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "Quick":
        counts = np.bincount(lesson.labels["label"].to_numpy() + 1, minlength=3) + 1.0
        return cls(lesson.cutoff, counts / counts.sum())

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return np.tile(self.prior, (rows.height, 1))


QUICK = entry_of(Quick, table="trained_rnn")


@contextmanager
def only(*entries: ModelEntry) -> Iterator[None]:
    """The registry with `entries` alone, as it was before afterwards."""
    before = dict(MODELS)
    MODELS.clear()
    try:
        for entry in entries:
            register_model(entry)
        yield
    finally:
        MODELS.clear()
        MODELS.update(before)


def trained(
    store: Warehouse, settings: Settings, *years: int, table: str, registry: Registry | None = None
) -> TrainedModels:
    """The step that trains, for the first versions of `years`."""
    tracking = Tracking(registry or NoRegistry(), lambda frame, loss, skill: f"{frame.height} {loss} {skill}".encode())
    cutoffs = cutoffs_of(calendar_of(settings), years)
    return train_models(store, settings, cutoffs, table=table, tracking=tracking, now=NOW, say=lambda _: None)


def model_years(
    store: Warehouse, settings: Settings, *years: int, registry: Registry | None = None
) -> WeighedEnsembles:
    """Networks, baselines and the ensemble of `years`."""
    for table in ("trained_rnn", "trained_baselines"):
        trained(store, settings, *years, table=table, registry=registry)
    return weigh_ensembles(store, settings, years, registry=registry or NoRegistry())


def predicted(
    store: Warehouse, settings: Settings, sessions: Sequence[date], registry: Registry | None = None
) -> Predictions:
    """The predictions of `sessions`, as an evening makes them."""

    def assign(pca_version: str):
        return serving_versions(store, registry or NoRegistry(), sessions, pca_version=pca_version, now=NOW)

    return make_predictions(store, settings, sessions, assign=assign)


def models_at(rows: pl.DataFrame, session: date) -> set[str]:
    """The models that have a row at `session`."""
    return set(rows.filter(pl.col("session") == session)["model"])
