"""Three simulated tickers with a model year, in a data folder with Dagster's own memory and a registry."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from stock_assets.cli.server import prepare_home
from stock_assets.definitions import build_definitions
from stock_assets.features.materialize import side_assets
from stock_assets.lifecycle.evening import BARS, FEATURES, SERVED, TRADED, with_side_inputs
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse

#: The plain settings, without the folder.
PLAIN = {
    "source": "simulated",
    "start": date(2018, 1, 2),
    "end": date(2019, 1, 16),
    "first_model_year": 2019,
    "tickers": ("SIM01", "SIM02", "SIM03"),
}
INSTANCE = """
storage:
  custom:
    module: stock_assets.storage.event_log
    class: BatchingSqliteStorage
    config:
      base_dir:
        env: DAGSTER_HOME
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
telemetry:
  enabled: false
"""


@dataclass
class MarketFolder:
    """A data folder and the instance in it."""

    settings: Settings
    instance: dg.DagsterInstance

    def __post_init__(self) -> None:
        self.defs = build_definitions(self.settings)
        self.store = Warehouse.of(self.settings)
        self.sessions = calendar_of(self.settings).sessions

    def make(self, assets: Sequence[str], first: object = None, last: object = None) -> None:
        ends = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
        result = dg.materialize(
            list(self.defs.assets or ()),  # pyright: ignore[reportArgumentType]
            selection=list(assets),
            tags=ends if first else {},
            instance=self.instance,
            resources=dict(self.defs.resources or {}),
        )
        assert result.success

    def fill(self, through: date) -> None:
        """Everything through a session, as a backfill makes it."""
        days = [day for day in self.sessions if day <= through]
        self.make(["universe"])
        chain = ["raw_ohlcv", "daily_bars", "context_series", "indicators", "stationary_features"]
        self.make(with_side_inputs(chain, side_assets(self.settings)), days[0], through)
        self.make(["labels"], days[0], days[-1 - self.settings.horizon])
        self.make(["pca_model"])
        self.make(["pca_components"], days[0], through)
        self.make(["trained_rnn", "trained_baselines", "trained_ensemble"], "2019", "2019")
        self.make(["predictions", *TRADED, "drift"], date(2019, 1, 2), through)
        self.make(["promotions"])

    def evening(self, session: date) -> None:
        """What the sensor `evening` asks for."""
        self.make(with_side_inputs((*BARS, *FEATURES), side_assets(self.settings)), session, session)
        self.make(SERVED, session, session)


@contextmanager
def market_in(folder: Path, **overrides: object) -> Iterator[MarketFolder]:
    """The data folder at `folder`."""
    settings = read_settings(data_dir=folder, **(PLAIN | overrides))
    home = prepare_home(settings, INSTANCE)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield MarketFolder(settings, instance)
