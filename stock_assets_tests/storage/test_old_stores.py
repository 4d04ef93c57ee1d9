"""Stores that older commits made: opened by today's code, they hold what it makes for the same settings.

`old_stores/make.py` made them. Equal are the bars, the labels, the classic columns, the features and their components.
Others differ on purpose:

- columns that came later (`currency`, `provisional`, `fetched_at`, those of market context) are absent or null;
- `pca_version` and the versions of the models are names made of the columns they read, whose set has changed;
- the reference models are in `predictions`, and have a table of their own today;
- `16a4e64` had no market context, so its networks predict otherwise.
"""

import lzma
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.storage.verification import problems_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import SCHEMA_VERSION
from stock_assets_tests.storage.test_migrations import version_of

pytestmark = pytest.mark.xdist_group("market")

STORES = Path(__file__).parent / "old_stores"
COMMITS = ("16a4e64", "72d6462")
#: Columns that hold when a row was written, or a name made of a set of columns.
NAMED_OR_TIMED = ("fetched_at", "trained_at", "decided_at", "pca_version", "model_version")
EQUAL = (
    *("universe", "raw_ohlcv", "daily_bars", "context_series", "labels"),
    *("indicators", "stationary_features", "pca_model", "pca_components"),
)
#: Models of both times that read no market context.
WITHOUT_CONTEXT = ("class_prior", "ticker_prior", "logistic", "trees", "rnn_classifier")
WITH_CONTEXT = ("rnn", "mlp", "ensemble")


@pytest.fixture(params=COMMITS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Warehouse:
    file = tmp_path / "stock_assets.duckdb"
    file.write_bytes(lzma.decompress((STORES / f"{request.param}.duckdb.xz").read_bytes()))
    return Warehouse(file)


def test_the_stores_are_small():
    assert all((STORES / f"{commit}.duckdb.xz").stat().st_size < 200_000 for commit in COMMITS)


def test_an_old_store_holds_what_todays_code_makes(old: Warehouse, market: Path, request: pytest.FixtureRequest):
    fresh, first = Warehouse(market / "stock_assets.duckdb"), "16a4e64" in request.node.name
    for table in EQUAL:
        if table == "context_series" and first:
            continue
        assert_same_values(old.read(table), fresh.read(table))
    models = WITHOUT_CONTEXT if first else WITHOUT_CONTEXT + WITH_CONTEXT
    ours, theirs = (
        store.read("predictions").filter(pl.col("model").is_in(models)).drop("trained_through")
        for store in (old, fresh)
    )
    assert set(ours["model"]) == set(theirs["model"]) == set(models)
    assert_same_values(ours, theirs)
    assert version_of(old) == SCHEMA_VERSION


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
