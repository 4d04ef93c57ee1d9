"""A small simulated market on a real DuckDB file and a real instance, materialized as a run would."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from stock_assets.definitions import build_definitions
from stock_assets.evaluation import plots
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse

DAILY_CHAIN = (
    *("raw_ohlcv", "daily_bars", "context_series", "announcements"),
    *("indicators", "stationary_features", "side_features"),
)
#: Those of them that there are only where the settings have a source for them.
SIDE = ("announcements", "side_features")


@dataclass
class Graph:
    """The definitions under some settings, with the instance and the store that they run on."""

    settings: Settings
    instance: dg.DagsterInstance
    resources: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.defs = build_definitions(self.settings)
        self.keys = {key for asset in self.defs.assets or () for key in asset.keys}  # pyright: ignore[reportAttributeAccessIssue]
        self.warehouse = Warehouse(self.settings.database)
        self.calendar = calendar_of(self.settings)

    def materialize(
        self,
        keys: Sequence[str],
        first: date | str | None = None,
        last: date | str | None = None,
        *,
        fail: bool = False,
        config: Mapping[str, object] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """One run of `keys` over the partitions from `first` to `last`, as a range backfill launches it; `config` is
        that of the first key."""
        tags = (
            {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last or first)}
            if first
            else {}
        )
        result = dg.materialize(
            list(self.defs.assets or ()),  # pyright: ignore[reportArgumentType]
            selection=[key for key in keys if key not in SIDE or dg.AssetKey(key) in self.keys],
            tags=tags,
            instance=self.instance,
            resources=dict(self.defs.resources or {}) | self.resources,
            raise_on_error=not fail,
            run_config={"ops": {keys[0]: {"config": dict(config)}}} if config else None,
        )
        assert result.success is not fail
        return result

    def materialize_everything(self) -> None:
        """All that is not made on demand, as a backfill of the whole graph does it; one model year."""
        days, year = self.calendar.sessions, self.settings.first_model_year
        served = [day for day in days if day.year >= year]
        self.materialize(["universe"])
        self.materialize(DAILY_CHAIN, days[0], days[-1])
        self.materialize(["labels"], days[0], days[-1 - self.settings.horizon])
        self.materialize(["pca_model"])
        self.materialize(["pca_components"], days[0], days[-1])
        self.materialize(["trained_rnn", "trained_baselines", "trained_ensemble"], str(year))
        self.materialize(["trained_references"], str(year))
        self.materialize(["predictions", "reference_predictions"], served[0], served[-1])
        self.materialize(["target_weights", "fills", "positions", "equity"], served[0], served[-1])
        self.materialize(["drift"], served[0], served[-1])
        self.materialize(["promotions"])
        self.materialize(["evaluation_report", "leakage_audit", "backtest", "tear_sheet", "operations"])
        self.materialize(["publication"], served[0], served[-1])

    def table(self, name: str) -> pl.DataFrame:
        rows = self.warehouse.read(name)
        keys = ("session", "book", "ticker", "model", "kind", "column")
        return rows.sort([key for key in keys if key in rows.columns])


@pytest.fixture
def planned_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn on their figures and not painted, which takes longest; test_flow paints them all."""
    from matplotlib.figure import Figure

    painted = plots.explained_variance([1.0])

    def plan(draw: Callable[[Figure], None], height: float) -> bytes:
        draw(Figure(figsize=(plots.style.WIDTH, height)))
        return painted

    monkeypatch.setattr(plots.style, "picture", plan)


@contextmanager
def instance_in(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance in a folder, on the project's own storage. What steps print is not kept: for every step with it
    Dagster starts four processes, two of them of Python."""
    storage = {
        "module": "stock_assets.storage.event_log",
        "class": "BatchingSqliteStorage",
        "config": {"base_dir": str(home)},
    }
    overrides = {
        "storage": {"custom": storage},
        "compute_logs": {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        },
        "telemetry": {"enabled": False},
    }
    with dg.DagsterInstance.local_temp(str(home), overrides=overrides) as instance:
        yield instance


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an instance that has seen nothing: Dagster reads all of its migrations to make them."""
    home = tmp_path_factory.mktemp("empty_home")
    with instance_in(home):
        pass
    return home


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, empty_home: Path) -> Iterator[dg.DagsterInstance]:
    """One instance for all tests of a file."""
    with instance_in(Path(shutil.copytree(empty_home, tmp_path_factory.mktemp("dagster") / "home"))) as instance:
        yield instance


@pytest.fixture
def fresh_instance(tmp_path: Path, empty_home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance of the test's own."""
    with instance_in(Path(shutil.copytree(empty_home, tmp_path / "home"))) as instance:
        yield instance


def small_market(folder: Path, **overrides: object) -> Settings:
    """Eight simulated tickers over two years, the second of them served by a model."""
    plain: dict[str, object] = {
        "source": "simulated",
        "data_dir": folder,
        "start": date(2018, 1, 2),
        "end": date(2019, 6, 28),
        "first_model_year": 2019,
        "tickers": (*(f"SIM{i:02d}" for i in range(1, 8)), "SIM55"),  # SIM55 is listed in April 2019
    }
    return read_settings(**(plain | overrides))
