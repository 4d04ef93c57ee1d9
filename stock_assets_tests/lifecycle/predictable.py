"""A store that can be predicted from within milliseconds: models that look at no feature, with versions of a year."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from stock_assets.features.stationary import STATIONARY
from stock_assets.lifecycle.materialize.champions import champions_of
from stock_assets.market.calendar import calendar_of
from stock_assets.model.baselines.naive import fit_class_prior, fit_ticker_prior
from stock_assets.model.materialize.inputs import StoredInputs
from stock_assets.model.materialize.predict import make_predictions
from stock_assets.model.materialize.versions import save
from stock_assets.model.registry import MODELS
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

TICKERS = ("AAA", "BBB", "CCC", "DDD")
#: The last three predicted sessions; the newest is a Friday, and NEXT the session after it.
SESSIONS, NEXT = (date(2019, 5, 29), date(2019, 5, 30), date(2019, 5, 31)), date(2019, 6, 3)
NEWEST = SESSIONS[-1]
#: The cutoffs of the versions of `class_prior`: the last one is trained through the newest predicted session.
CUTOFFS = (date(2018, 12, 31), date(2019, 2, 28), NEWEST)
#: The evening after the newest session, and the model whose versions the tests move.
NOW, MODEL = datetime(2019, 6, 1, 1, tzinfo=UTC), "class_prior"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """(the data folder of a predictable store, the versions of MODEL)."""
    folder = tmp_path_factory.mktemp("republish") / "data"
    _, versions = predictable_store(read_settings(**settings_of(folder)))
    return folder, versions


@pytest.fixture
def versions(filled: tuple[Path, list[str]]) -> list[str]:
    """Of MODEL, by ascending cutoff; the last was trained through the newest predicted session."""
    return filled[1]


@pytest.fixture
def config(filled: tuple[Path, list[str]], tmp_path: Path) -> Settings:
    """Of a copy of the data folder that the test may change."""
    return read_settings(**settings_of(shutil.copytree(filled[0], tmp_path / "market")))


def settings_of(folder: object) -> dict[str, object]:
    """The settings of such a market in `folder`, for `read_settings` or the environment."""
    return {
        "source": "simulated",
        "data_dir": folder,
        "start": "2018-01-02",
        "end": "2019-12-31",
        "first_model_year": 2019,
        "mlflow": "off",
    }


def labels_of(holds: int, buys: int) -> pl.DataFrame:
    """Labels whose class frequencies a prior learns."""
    labels = pl.DataFrame({"label": [0] * holds + [1] * buys + [-1] * buys}, schema={"label": pl.Int8})
    return labels.with_columns(
        ticker=pl.lit("AAA"), session=pl.lit(date(2018, 1, 2)), horizon_end=pl.lit(date(2018, 1, 11))
    )


def predictable_store(settings: Settings) -> tuple[Warehouse, list[str]]:
    """(the store, the versions of `class_prior` by ascending cutoff): SESSIONS are predicted by the first of them, by
    `ticker_prior` and by the ensemble of the two."""
    store, calendar = Warehouse(settings.database), calendar_of(settings)
    days = calendar.between(date(2018, 1, 2), NEWEST)
    keys = pl.DataFrame({"session": days}).join(pl.DataFrame({"ticker": TICKERS}), how="cross")
    rows = {
        "universe": pl.DataFrame({"ticker": TICKERS}),
        "raw_ohlcv": keys,
        "daily_bars": keys.with_columns(is_member=pl.lit(value=True), total_return=pl.lit(0.0), close=pl.lit(10.0)),
        "stationary_features": keys.with_columns(**{name: pl.lit(0.0) for name in STATIONARY}),
        "pca_components": keys.with_columns(pc_1=pl.lit(0.0), pca_version=pl.lit("x")),
        "labels": keys.filter(pl.col("session") < date(2019, 5, 21)),
    }
    for table, frame in rows.items():
        store.replace_table(table, rows_of(table, frame))
    inputs = StoredInputs(store, settings, first=days[0], last=NEWEST)

    def trained(table: str, model: str, **fitted: object) -> list[str]:
        saved = [save(settings, MODELS[model], 2019, model=artifact, inputs=inputs) for artifact in fitted.values()]
        versions = pl.DataFrame(saved, schema=["version", "artifact"], orient="row").with_columns(
            trained_through=pl.Series([artifact.cutoff for artifact in fitted.values()]),  # pyright: ignore[reportAttributeAccessIssue]
            pca_version=pl.lit("x"),
            model=pl.lit(model),
            model_year=pl.lit(2019, pl.Int32),
        )
        store.replace_table(table, rows_of(table, versions))
        return versions["version"].to_list()

    priors = {f"version_{i}": fit_class_prior(labels_of(6 + 2 * i, 2), cutoff) for i, cutoff in enumerate(CUTOFFS)}
    versions = trained("trained_rnn", "class_prior", **priors)
    trained("trained_baselines", "ticker_prior", base=fit_ticker_prior(labels_of(5, 3), CUTOFFS[0]))
    members = pl.DataFrame({"member": ["class_prior", "ticker_prior"]}).with_columns(
        model_year=pl.lit(2019, pl.Int32), weight=0.5, version=pl.lit("ensemble-1"), trained_through=pl.lit(CUTOFFS[0])
    )
    store.replace_table("trained_ensemble", rows_of("trained_ensemble", members))
    make_predictions(store, settings, SESSIONS, assign=lambda pca: champions_of(store, SESSIONS, pca_version=pca))
    return store, versions


def versions_at(store: Warehouse, session: date) -> dict[str, str]:
    """The version of each model that predicted `session`."""
    rows = store.read("predictions", session, session, columns=["model", "model_version"]).unique()
    return dict(rows.iter_rows())
