import importlib.util
import os
from collections.abc import Iterator

import pytest

from stock_assets_tests.team.postgres import Server, binaries, running_server


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
