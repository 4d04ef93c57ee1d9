"""What is borrowed from the inside of MLflow, and the calls that use it.

MLflow makes its tables one by one when a client first asks for something: several processes at once, and a killed one
leaves half of them. `make_tables` makes them in a file that no other process knows yet. Importing this file checks that
the borrowed names are there.
"""

import importlib
import warnings
from pathlib import Path
from typing import Any

import mlflow

from stock_assets.errors import PrivateApiError

#: The version that this was tried with; constraints.txt pins it.
TRIED_WITH = "3.17.2"
#: Module and name of what is borrowed: the store behind a tracking URI of SQLite, whose constructor makes all tables.
BORROWED = ("mlflow.store.tracking.sqlalchemy_store", "SqlAlchemyStore")
#: The migrations of its tables.
BORROWED_MIGRATIONS = ("mlflow.store.db.utils", "_get_alembic_config")


def borrowed(module: str, name: str) -> Any:
    """The symbol `name` of `module`. Raises PrivateApiError, with the way out, where MLflow does not have it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # MLflow declares its tables in an old way
            return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PrivateApiError(
            f"MLflow {mlflow.__version__} has no {module}.{name}, which stock_assets borrows and has tried with MLflow "
            f"{TRIED_WITH}; expected that version: pip install 'mlflow=={TRIED_WITH}', or set STOCK_ASSETS_MLFLOW=off "
            "to run without a model registry"
        ) from error


_SqlAlchemyStore = borrowed(*BORROWED)
_get_alembic_config = borrowed(*BORROWED_MIGRATIONS)


def make_tables(file: Path, artifacts: Path) -> None:
    """Makes the SQLite database `file` with all tables of a registry, whose runs keep their files in `artifacts`."""
    _SqlAlchemyStore(f"sqlite:///{file}", artifacts.absolute().as_uri()).engine.dispose()


def migrations(file: Path) -> Any:
    """alembic's configuration of MLflow's migrations, for the SQLite database `file`."""
    return _get_alembic_config(f"sqlite:///{file}")


def remove_run(uri: str, artifacts: Path, run: str) -> None:
    """Removes a run from the database at `uri`; MLflow's client alone marks it as deleted and keeps every row."""
    store = _SqlAlchemyStore(uri, artifacts.absolute().as_uri())
    try:
        if not hasattr(store, "_hard_delete_run"):
            raise PrivateApiError(
                f"MLflow {mlflow.__version__} has no {BORROWED[1]}._hard_delete_run; tried {TRIED_WITH}"
            )
        store._hard_delete_run(run)
    finally:
        store.engine.dispose()
