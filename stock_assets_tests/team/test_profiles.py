"""The profiles: addresses in the settings, what `init` writes, and whose database it is."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
import yaml
from typer.testing import CliRunner

from stock_assets.cli import daemon_lock, team_home
from stock_assets.cli.commands import app
from stock_assets.cli.daemon_lock import DaemonLock, lock_database
from stock_assets.cli.home import ProjectStorage
from stock_assets.errors import SettingsError, StockAssetsError
from stock_assets.settings import PROJECT_DIR, read_settings, settings
from stock_assets.storage import platform_row
from stock_assets.storage.platform_row import IDENTITY, Platform, require_platform
from stock_assets.storage.postgres import BatchingPostgresEventLogStorage, pooled_engine
from stock_assets_tests.leaks import as_in_a_process_of_its_own
from stock_assets_tests.team.postgres import Server

_NUMBERS = count()


@pytest.fixture(autouse=True)
def _process_of_its_own() -> Iterator[None]:
    with as_in_a_process_of_its_own():
        yield


@pytest.fixture
def address(postgres: Server) -> Iterator[str]:
    made = postgres.database(f"profile_{next(_NUMBERS)}")
    yield made
    pooled_engine(made).dispose()
    team_home._CHECKED.discard(made)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("dagster", "postgresql://me:secret@host/dagster", "driver"),
        ("dagster", "mysql://me:secret@host/dagster", "neither a folder nor Postgres"),
        ("dagster", "postgresql+psycopg2://me:secret@host", "without a database"),
        ("store", "ducklake:postgres:password=secret", "catalog of a DuckLake is no"),
        ("store", "s3://bucket/secret", "is no file"),
    ],
)
def test_a_wrong_address_is_refused_without_its_secret(setting: str, value: str, reason: str):
    with pytest.raises(SettingsError, match=reason) as refused:
        read_settings(**{setting: value})
    assert "secret" not in str(refused.value)


def test_addresses_name_the_places(tmp_path: Path):
    chosen = read_settings(
        data_dir=tmp_path, dagster="postgresql+psycopg2://me@host/dagster", store=tmp_path / "a.duckdb"
    )
    assert (chosen.dagster_home, chosen.database) == (tmp_path / "dagster", tmp_path / "a.duckdb")
    assert read_settings(data_dir=tmp_path, dagster=str(tmp_path / "d")).dagster_home == tmp_path / "d"


@pytest.mark.parametrize("profile", ["team", "cloud"])
def test_init_writes_an_instance_that_dagster_reads(
    profile: str, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    config = tmp_path / "stock_assets.toml"
    answers = ["--profile", profile, "--source", "simulated", "--prices", "", "--data-dir", str(tmp_path / "data")]
    done = CliRunner().invoke(app, ["--config", str(config), "init", *answers, "--start", "2023-01-03"])
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((tmp_path / "dagster.yaml").read_text())
    own = yaml.safe_load((PROJECT_DIR / "dagster.yaml").read_text())
    differing = {key for key in own if own[key] != written[key]}
    assert differing == {"storage", "concurrency"}
    assert written["concurrency"]["pools"] == own["concurrency"]["pools"]
    assert (written.keys() - own.keys()) == ({"run_launcher"} if profile == "cloud" else set())

    monkeypatch.setenv("STOCK_ASSETS_DAGSTER", address)
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", str(tmp_path / "data"))
    for name in ("RUN_NAMESPACE", "RUN_SERVICE_ACCOUNT", "RUN_IMAGE", "DAGSTER_CONFIG_MAP"):
        monkeypatch.setenv(name, "stocks")
    settings.cache_clear()
    try:
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert isinstance(instance.event_log_storage, BatchingPostgresEventLogStorage)
            assert instance.get_runs() == []
            assert instance.get_ref().run_launcher_data.class_name == (  # pyright: ignore[reportOptionalMemberAccess]
                "K8sRunLauncher" if profile == "cloud" else "DefaultRunLauncher"
            )
    finally:
        settings.cache_clear()


def test_init_leaves_the_projects_own_instance_alone():
    before = (PROJECT_DIR / "dagster.yaml").read_text()
    config = PROJECT_DIR / "another.toml"
    answers = ["--profile", "team", "--source", "simulated", "--prices", "", "--start", "2023-01-03", "--data-dir", "d"]
    done = CliRunner().invoke(app, ["--config", str(config), "init", *answers])
    assert isinstance(done.exception, SettingsError)
    assert "a folder of its own" in str(done.exception)
    assert not config.exists()
    assert (PROJECT_DIR / "dagster.yaml").read_text() == before


def test_the_projects_dagster_yaml_follows_the_setting(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STOCK_ASSETS_DAGSTER", address)
    monkeypatch.setenv("STOCK_ASSETS_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        storage = ProjectStorage.from_config_value(None, {})
        assert isinstance(storage, team_home.TeamStorage)
    finally:
        settings.cache_clear()


def a_platform(folder: Path, *, store: bool = True) -> Platform:
    folder.mkdir(exist_ok=True)
    if store:
        (folder / "s.duckdb").touch()
    return Platform(folder, folder / "s.duckdb")


def test_one_platform_per_database(tmp_path: Path, address: str):
    first, other = a_platform(tmp_path / "first"), a_platform(tmp_path / "other")
    require_platform(address, first, now=datetime.now(UTC))
    require_platform(address, first, now=datetime.now(UTC))
    with pytest.raises(SettingsError, match="the database of another platform") as refused:
        require_platform(address, other, now=datetime.now(UTC))
    assert str(first.data_dir) in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not (other.data_dir / IDENTITY).exists()
    require_platform(address, a_platform(tmp_path / "a host without a store", store=False), now=datetime.now(UTC))


def test_a_moved_data_folder_keeps_its_database(tmp_path: Path, address: str):
    require_platform(address, a_platform(tmp_path / "first"), now=datetime.now(UTC))
    (tmp_path / "first").rename(tmp_path / "moved")
    require_platform(address, a_platform(tmp_path / "moved"), now=datetime.now(UTC))


def test_a_newer_schema_is_refused_and_an_older_one_brought_up(
    tmp_path: Path, address: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
):
    platform = a_platform(tmp_path / "data")
    monkeypatch.setattr(platform_row, "SCHEMA_VERSION", 7)
    require_platform(address, platform, now=datetime.now(UTC))
    monkeypatch.setattr(platform_row, "SCHEMA_VERSION", 8)
    require_platform(address, platform, now=datetime.now(UTC))
    database = address.rpartition("/")[2]
    assert postgres.execute("SELECT schema_version FROM stock_assets_platform", database) == [(8,)]
    monkeypatch.setattr(platform_row, "SCHEMA_VERSION", 7)
    with pytest.raises(SettingsError, match="schema version is 8; this one has 7"):
        require_platform(address, platform, now=datetime.now(UTC))


@pytest.mark.parametrize(("off", "word"), [(timedelta(minutes=3), "ahead of"), (timedelta(minutes=-3), "behind")])
def test_a_clock_that_differs_by_minutes_is_refused(tmp_path: Path, address: str, off: timedelta, word: str):
    with pytest.raises(SettingsError, match=word) as refused:
        require_platform(address, a_platform(tmp_path / "data"), now=datetime.now(UTC) + off)
    assert socket.gethostname() in str(refused.value)
    assert not (tmp_path / "data" / IDENTITY).exists()


def test_an_old_server_is_refused(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(platform_row, "OLDEST_SERVER", 99)
    with pytest.raises(SettingsError, match="expected 99 or newer"):
        require_platform(address, a_platform(tmp_path / "data"), now=datetime.now(UTC))


def test_a_wrong_password_and_an_absent_database_are_one_line(tmp_path: Path, address: str):
    platform = a_platform(tmp_path / "data")
    for wrong in (address.replace("secret", "wrong-one"), address.rpartition("/")[0] + "/absent"):
        with pytest.raises(StockAssetsError, match="cannot be reached") as refused:
            require_platform(wrong, platform, now=datetime.now(UTC))
        assert "\n" not in str(refused.value)
        assert "secret" not in str(refused.value)
        assert "wrong-one" not in str(refused.value)


def test_one_daemon_per_database(address: str):
    held = lock_database(address)
    with another_process(), pytest.raises(StockAssetsError, match="another dagster-daemon works on") as refused:
        lock_database(address)
    assert socket.gethostname() in str(refused.value)
    held.close()
    lock_database(address).close()


@contextmanager
def another_process() -> Iterator[None]:
    """This process counts as another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daemon_lock.os, "getpid", lambda: 1)
        yield


def end_connections(server: Server, address: str) -> None:
    """As a server does that is started anew."""
    name = address.rpartition("/")[2]
    server.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'")


def test_a_daemon_takes_its_lock_again_when_the_server_is_started_anew(address: str, postgres: Server):
    lock = DaemonLock(address)
    end_connections(postgres, address)
    lock.keep()
    lock.keep()
    with another_process(), pytest.raises(StockAssetsError, match="another dagster-daemon works on"):
        lock_database(address)
    lock.connection.close()


def test_a_daemon_that_was_cut_off_ends_its_own_old_connection(address: str):
    lock = DaemonLock(address)
    cut_off, lock.connection = lock.connection, lock_database(address)
    with pytest.raises(psycopg2.OperationalError), cut_off.cursor() as cursor:
        cursor.execute("SELECT 1")
    lock.keep()
    lock.connection.close()


def test_a_daemon_whose_lock_another_took_ends_with_one_line(
    address: str, postgres: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    lock, ended = DaemonLock(address), []
    end_connections(postgres, address)
    with another_process():
        other = lock_database(address)
    monkeypatch.setattr(daemon_lock, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(daemon_lock.os, "kill", lambda *signalled: ended.append(signalled))
    lock._watch()
    assert ended == [(os.getpid(), signal.SIGTERM)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dagster-daemon ends: another dagster-daemon works on")
    other.close()
