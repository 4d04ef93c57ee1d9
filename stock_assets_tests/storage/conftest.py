"""What several files of tests about stored data share."""

from pathlib import Path

import pytest

from stock_assets_tests.storage.markets import market_in


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with everything through the session before the last. Its tests share a worker:
    `xdist_group("market")`, and copy it before they write."""
    folder = tmp_path_factory.mktemp("market") / "data"
    with market_in(folder) as market:
        market.fill(market.sessions[-2])
    return folder
