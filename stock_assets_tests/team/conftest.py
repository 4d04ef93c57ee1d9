import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stock_assets import buckets
from stock_assets.objects import Place
from stock_assets_tests.team.postgres import Server, binaries, running_server
from stock_assets_tests.team.s3 import S3, Proxy, running_proxy, running_s3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stock_assets_tests/team/" in item.nodeid:
            item.add_marker(pytest.mark.team)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    if binaries() is None and "REQUIRE_POSTGRES" not in os.environ:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("dagster-postgres is not installed: pip install '.[team]'")
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def _server() -> Iterator[S3]:
    if importlib.util.find_spec("obstore") is None or importlib.util.find_spec("moto") is None:
        pytest.skip("obstore or moto is not installed: pip install '.[dev]'")
    with running_s3() as server:
        yield server


@pytest.fixture
def s3(_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A server, and the environment that reaches it."""
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    return _server


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What stands before the server; requests go through it, are tried twice, and wait for a second."""
    with running_proxy(s3) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(buckets, "RETRIES", 1)
        monkeypatch.setattr(buckets, "FIRST_WAIT", 0.1)
        monkeypatch.setattr(buckets, "REQUEST_SECONDS", 1.0)
        yield running


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind."""
    if request.param == "folder":
        return tmp_path / "objects"
    return request.getfixturevalue("s3").bucket() / "team"
