"""A small publication and servers over it, for every test of the API that brings none of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stock_assets_tests.publication.folders import published_folder
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.ports import Served, served
from stock_assets_tests.serving.wire import Wire


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    return folder


@pytest.fixture(scope="module")
def wire(folder: Path) -> Wire:
    return Wire(app_of(folder))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with served(app_of(folder)) as server:
        yield server
