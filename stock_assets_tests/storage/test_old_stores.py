"""Stores that older commits made: opened by today's code, they hold what it makes of the same answers of the vendor.

`old_stores/make.py` made them. What today's steps make of their `raw_ohlcv` is equal: the bars, the labels, the classic
columns, the features and their components, and what the models of both times say that read no market context. Others
differ on purpose:

- columns that came later (`currency`, `provisional`, `fetched_at`, those of market context) are absent or null;
- `pca_version` and the versions of the models are names made of the columns they read, whose set has changed;
- the networks have changed, and the simulated market has announcements today.
"""

import lzma
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.model.materialize.inputs import inputs_for
from stock_assets.model.materialize.versions import VERSION_COLUMNS, answers_of, usable
from stock_assets.platform import Platform
from stock_assets.settings import read_settings
from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import SCHEMA_VERSION
from stock_assets_tests.storage.test_migrations import version_of

STORES = Path(__file__).parent / "old_stores"
COMMITS = ("16a4e64", "72d6462")
#: Columns that hold when a row was written, or a name made of a set of columns.
NAMED_OR_TIMED = ("fetched_at", "trained_at", "decided_at", "pca_version", "model_version", "trained_through")
BY_SESSION = ("daily_bars", "indicators", "stationary_features", "pca_components")
#: Models of both times that read no market context, and are no networks.
SAME_MODELS = ("class_prior", "ticker_prior", "logistic", "trees")
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=COMMITS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    file = tmp_path / "stock_assets.duckdb"
    file.write_bytes(lzma.decompress((STORES / f"{request.param}.duckdb.xz").read_bytes()))
    return Warehouse(file)


def test_the_stores_are_small():
    assert all((STORES / f"{commit}.duckdb.xz").stat().st_size < 200_000 for commit in COMMITS)


def test_an_old_store_holds_what_todays_code_makes_of_its_answers(old: Warehouse):
    before = {table: old.read(table) for table in (*BY_SESSION, "labels", "pca_model", "predictions")}
    assert version_of(old) == SCHEMA_VERSION
    market = read_settings(
        data_dir=old.path.parent,
        start="2018-01-02",
        end="2019-01-16",
        first_model_year=2019,
        tickers="SIM01,SIM02,SIM03",
        mlflow="off",
        side_inputs="off",
    )
    platform = Platform(market)
    first, last = (getattr(before["daily_bars"]["session"], end)() for end in ("min", "max"))
    platform.materialize("daily_bars", first, last, now=MADE_AT)
    platform.materialize("indicators", first, last, now=MADE_AT)
    platform.materialize("stationary_features", first, last, now=MADE_AT)
    platform.materialize("labels", first, before["labels"]["session"].max(), now=MADE_AT)
    platform.materialize("pca_model", now=MADE_AT)
    platform.materialize("pca_components", first, last, now=MADE_AT)
    for table in (*BY_SESSION, "labels", "pca_model"):
        assert_same_values(before[table], old.read(table))

    platform.materialize("trained_baselines", last, last, now=MADE_AT)
    served = before["predictions"]["session"].unique().sort().to_list()
    inputs = inputs_for(old, market, served, needed_by="predictions")
    trained = old.read("trained_baselines").filter(pl.col("model").is_in(SAME_MODELS))
    assert set(trained["model"]) == set(SAME_MODELS)
    versions = [usable(row, served[0], inputs.pca_version) for row in trained.select(VERSION_COLUMNS).to_dicts()]
    answers = answers_of(versions, market, inputs, sessions=served)
    assert_same_values(before["predictions"].filter(pl.col("model").is_in(SAME_MODELS)), answers)


def assert_same_values(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """The columns and the sessions of both are equal."""
    columns = [name for name in ours.columns if name in theirs.columns and name not in NAMED_OR_TIMED]
    ours, theirs = ours.select(columns), theirs.select(columns)
    if "session" in columns:
        both = set(ours["session"]) & set(theirs["session"])
        assert both
        ours, theirs = (frame.filter(pl.col("session").is_in(both)) for frame in (ours, theirs))
    assert_frame_equal(ours, theirs, check_row_order=False, abs_tol=1e-9)


def test_the_store_as_it_was_stays_beside_the_migrated_one(old: Warehouse):
    before = counts(old.path)
    old.read("labels")
    (copy,) = old.path.parent.glob("stock_assets.duckdb.v0-*")
    assert counts(copy) == before
    assert version_of(Warehouse(copy)) == 0
    migrated = counts(old.path)
    assert {table: migrated[table] for table in before} == before


def counts(file: Path) -> dict[str, int]:
    """The rows of each table of a file, which stays as it is."""
    import duckdb

    with duckdb.connect(file, read_only=True) as connection:
        tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        return {
            table: connection.execute(f"SELECT count(*) FROM {schema}.{table}").fetchall()[0][0]
            for schema, table in tables
        }


def test_a_migrated_store_misses_only_the_artifacts_that_were_not_kept(old: Warehouse):
    old.read("labels")
    shutil.rmtree(old.path.parent / "artifacts", ignore_errors=True)
    problems = list(problems_of(old.path.parent))
    assert problems
    assert all("which is not in" in problem for problem in problems)
