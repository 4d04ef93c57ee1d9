"""What every test may ask for."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# a settings file of the person who runs the tests is none of theirs
os.environ["STOCK_ASSETS_CONFIG"] = "off"

REAL_DATA = Path(os.environ.get("REAL_DATA_DIR", Path(__file__).parent.parent.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The path of a file of real prices; the test is skipped where the folder is not beside the clone."""

    def path_of(name: str) -> Path:
        path = REAL_DATA / name
        if not path.exists():
            pytest.skip(f"no {name} in the folder of real data (REAL_DATA_DIR)")
        return path

    return path_of


@pytest.fixture(scope="session")
def bug_file() -> Callable[[str], Path]:
    """The path of a file or folder that users of other tools reported; the test is skipped where there is none."""

    def path_of(name: str) -> Path:
        path = REAL_DATA.parent / "bugs" / name
        if not path.exists():
            pytest.skip(f"no {name} in the folder of reported files, which lies beside that of real data")
        return path

    return path_of


@pytest.fixture(scope="session")
def demo_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `stock_assets_tests.demo`, filled. Its tests share a worker: `xdist_group("demo")`."""
    from stock_assets_tests import demo

    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**demo.ENVIRONMENT, "STOCK_ASSETS_DATA_DIR": str(folder)}.items():
            environment.setenv(name, value)
        demo.fill()
    return folder


@pytest.fixture
def demo(demo_market: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with the environment in which `stock_assets.open()` opens it."""
    from stock_assets_tests import demo

    for name, value in {**demo.ENVIRONMENT, "STOCK_ASSETS_DATA_DIR": str(demo_market)}.items():
        monkeypatch.setenv(name, value)
    return demo_market


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the API over the small publication of `stock_assets_tests.publication.folders`."""
    from stock_assets.settings import read_settings
    from stock_assets_tests.publication.folders import published_folder
    from stock_assets_tests.serving.running import running_api

    settings = read_settings(data_dir=tmp_path_factory.mktemp("api"))
    published_folder(settings.published)
    with running_api(settings) as url:
        yield url
