"""Databases of an older Dagster or MLflow are copied and migrated when they are opened; newer ones are refused."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.errors import StockAssetsError
from stock_assets.storage import event_log
from stock_assets.storage.event_log import BatchingSqliteStorage
from stock_assets.storage.registry import MlflowRegistry
from stock_assets.storage.revisions import revision_of

#: A revision before the newest, as an older program leaves it; the migrations after it find their work done.
DAGSTER_FILES = {
    "history/runs.db": "6b7fb194ff9c",
    "history/runs/index.db": "6b7fb194ff9c",
    "schedules/schedules.db": "6b7fb194ff9c",
}
NEWER = "ffffffffffff"


def set_revision(file: Path, revision: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
        connection.commit()


def forget() -> None:
    """As a new process begins."""
    event_log._migrated.cache_clear()
    for engine, _ in event_log._ENGINES.values():
        engine.dispose()
    event_log._ENGINES.clear()


def used(home: Path) -> None:
    forget()
    with dg.DagsterInstance.local_temp(
        str(home), overrides={"telemetry": {"enabled": False}, **storage(home)}
    ) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("labels"))
        assert instance.get_latest_materialization_event(dg.AssetKey("labels"))
        assert instance.get_runs() == []
        assert not instance.all_instigator_state()


def storage(home: Path) -> dict[str, object]:
    name = BatchingSqliteStorage
    return {
        "storage": {"custom": {"module": name.__module__, "class": name.__name__, "config": {"base_dir": str(home)}}}
    }


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    used(home)
    forget()
    return home


@pytest.fixture
def home(made_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_home, tmp_path / "home"))


@pytest.mark.parametrize("name", DAGSTER_FILES)
def test_an_older_dagster_is_migrated_with_a_copy_before(home: Path, name: str):
    newest = revision_of(home / name)
    set_revision(home / name, DAGSTER_FILES[name])
    used(home)
    assert revision_of(home / name) == newest != DAGSTER_FILES[name]
    assert revision_of(home / f"{name}.v{DAGSTER_FILES[name]}") == DAGSTER_FILES[name]


@pytest.mark.parametrize("name", DAGSTER_FILES)
def test_a_newer_dagster_is_refused_in_one_line(home: Path, name: str):
    set_revision(home / name, NEWER)
    with pytest.raises(StockAssetsError, match="a newer dagster wrote it; install that version again") as refused:
        used(home)
    assert "\n" not in str(refused.value)
    assert str(home / name) in str(refused.value)
    assert revision_of(home / name) == NEWER


@pytest.fixture(scope="module")
def made_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    with MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")._asking():
        return folder


def test_an_older_and_a_newer_mlflow(made_registry: Path, tmp_path: Path):
    from alembic import command
    from sqlalchemy import create_engine

    from stock_assets.private.mlflow import migrations

    folder = Path(shutil.copytree(made_registry, tmp_path / "mlflow"))
    file = folder / "mlflow.db"
    newest = revision_of(file)
    set_revision(file, NEWER)
    with pytest.raises(StockAssetsError, match="a newer mlflow wrote it; install that version again") as refused:
        MlflowRegistry(f"sqlite:///{file}", folder / "artifacts").aliases()
    assert "\n" not in str(refused.value)
    set_revision(file, str(newest))
    config = migrations(file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()
    older = revision_of(file)
    assert older != newest
    assert MlflowRegistry(f"sqlite:///{file}", folder / "artifacts").aliases() == {}
    assert revision_of(file) == newest
    assert revision_of(file.with_name(f"mlflow.db.v{older}")) == older
