"""What every test may ask for."""

import atexit
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

# a settings file of the person who runs the tests is none of theirs
os.environ["STOCK_ASSETS_CONFIG"] = "off"
# the workers share the cores and the tables are small: threads of theirs would only wait for each other
for _threads in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
# a commit waits for the disk, and tests commit tens of thousands of times
MEMORY, TEMPROOT = Path("/dev/shm"), "PYTEST_DEBUG_TEMPROOT"
if MEMORY.is_dir() and min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > 6e9:
    os.environ.setdefault(TEMPROOT, str(MEMORY))

from stock_assets_tests.calendars import keep_hours  # noqa: E402 - polars reads the threads
from stock_assets_tests.leaks import as_in_a_process_of_its_own, restored  # noqa: E402 - the same

# an example of a property takes as long as it takes: hypothesis ends one after 200 ms, as it does not where CI is set
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")

REAL_DATA = Path(os.environ.get("REAL_DATA_DIR", Path(__file__).parent.parent.parent / "shared" / "data"))

#: Groups of tests that take longest, in the order in which workers begin them: one of them begun last would end alone.
LONGEST = (
    *("system", "kills", "drill", "defs/test_flow.py", "model/test_skill.py", "trading/test_account.py"),
    *("defs/test_markets.py", "model/test_tuning.py", "serving/test_schema.py", "market", "defs/test_few_tickers.py"),
    *("serving/test_swaps.py", "lifecycle/test_deciding.py", "evaluation/test_leakage.py", "pages", "demo"),
    *("publication/test_republish.py", "system/test_growth.py", "system/test_crash.py", "new_year"),
    *("lifecycle/test_bars.py", "trading/test_reconcile.py", "cli/test_query.py", "features/test_materialize.py"),
    *("team/test_hosts.py", "cli/test_home.py", "market/test_fetch_drill.py", "defs/test_bars.py"),
    *("defs/test_automation.py", "extension/test_baseline.py", "team/test_postgres.py", "team/test_migrate.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    if config.cache is not None:  # it is None where the plugin is turned off
        keep_hours(config.cache.mkdir("calendars"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests of a file, or of a group that several files name, on one worker: what they share is made once."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    places = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark is None:
            item.add_marker(mark := pytest.mark.xdist_group(item.nodeid.split("::")[0].split("/", 1)[-1]))
        group = mark.args[0]
        places[item] = LONGEST.index(group) if group in LONGEST else len(LONGEST)
    items.sort(key=places.__getitem__)


def pytest_collectstart() -> None:
    """What is imported and collected stays: full collections of garbage among it would take a quarter of the time. The
    definitions, which are imported meanwhile, turn them on again."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # DuckDB complains about objects that are still there when the process ends


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing stays in memory of tests that passed."""
    if exitstatus == 0 and "PYTEST_XDIST_WORKER" not in os.environ and os.environ.get(TEMPROOT) == str(MEMORY):
        shutil.rmtree(session.config._tmp_path_factory.getbasetemp(), ignore_errors=True)  # pyright: ignore


@pytest.fixture(autouse=True)
def _each_test_restores_what_it_changes() -> Iterator[None]:
    with restored():
        yield


@pytest.fixture(scope="module", autouse=True)
def _each_module_restores_what_it_changes() -> Iterator[None]:
    with restored():
        yield


@pytest.fixture
def own_process() -> Iterator[None]:
    """What our commands and storages set for their whole process ends with the test."""
    with as_in_a_process_of_its_own():
        yield


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
