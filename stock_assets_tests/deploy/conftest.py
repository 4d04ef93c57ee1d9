"""What deploy/ holds: image, compose files, chart, Terraform, workflows. `make test-team` runs what takes seconds,
`make test-deploy` what takes minutes. A tool that is missing skips its tests, with the reason."""

import pytest

from stock_assets_tests.team.conftest import postgres

__all__ = ["postgres"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stock_assets_tests/deploy/" in item.nodeid and item.get_closest_marker("deploy") is None:
            item.add_marker(pytest.mark.team)
