"""A store with versions and predictions made by hand, whose every evening is complete, and a registry in memory."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from stock_assets.errors import ArtifactError, RegistryError
from stock_assets.lifecycle.evening import BY_SESSION, with_side_inputs
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.storage.registry import TrackedRun, Training
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets_tests.stores import filled_store
from stock_assets_tests.tables import rows_of

CALENDAR: TradingCalendar = trading_calendar("XNYS", date(2018, 1, 2), date(2019, 12, 31))
#: The last session that is predicted, a Friday, and the one after it.
PREDICTED, NEXT = date(2019, 5, 31), date(2019, 6, 3)
NOW = datetime(2019, 6, 1, 1, tzinfo=UTC)
#: The side inputs that are on in a simulated market, and their features.
SIDE = ("announcements", "side_features")
BASE, NEWER, NEWEST = "rnn-2018-12-31-aaa", "rnn-2019-03-29-bbb", "rnn-2019-05-30-ccc"
CUTOFFS = {BASE: date(2018, 12, 31), NEWER: date(2019, 3, 29), NEWEST: date(2019, 5, 30)}


def handmade_store(path: Path) -> Warehouse:
    """Three versions of rnn and one of trees and of the ensemble for 2019, predictions up to PREDICTED."""
    return filled_store(path, "handmade", _fill)


def _fill(warehouse: Warehouse) -> None:
    rnn = [{"model_year": 2019, "model": "rnn", "version": v, "trained_through": c} for v, c in CUTOFFS.items()]
    trees = {"model_year": 2019, "model": "trees", "version": "trees-1", "trained_through": date(2018, 12, 31)}
    members = [
        {"model_year": 2019, "member": member, "weight": 0.5, "version": "ensemble-1", "trained_through": CUTOFFS[BASE]}
        for member in ("rnn", "trees")
    ]
    warehouse.replace_table("trained_rnn", rows_of("trained_rnn", pl.DataFrame(rnn)))
    warehouse.replace_table("trained_baselines", rows_of("trained_baselines", pl.DataFrame([trees])))
    warehouse.replace_table("trained_ensemble", rows_of("trained_ensemble", pl.DataFrame(members)))
    days = CALENDAR.between(date(2019, 5, 1), PREDICTED)
    warehouse.replace_table("predictions", rows_of("predictions", pl.DataFrame({"session": days, "model": "rnn"})))
    for table in with_side_inputs(BY_SESSION, SIDE):  # made, as of a market that has no row of them
        if table != "predictions":
            warehouse.replace_sessions(table, days, declared(table).empty())
    warehouse.replace_table("universe", declared("universe").empty())
    warehouse.replace_table("operations", rows_of("operations", pl.DataFrame({"session": days})))


def publish_nothing(warehouse: Warehouse, *sessions: date) -> None:
    """Records `sessions` as published, as the step does once their predictions or labels were made again."""
    warehouse.replace_sessions("publication", sessions, declared("publication").empty())


def lose(warehouse: Warehouse, table: str, *sessions: date) -> None:
    """Deletes rows behind the back of the store, as a person's own program or a damaged file may."""
    named = ", ".join(f"DATE '{session}'" for session in sessions)
    with warehouse.connect(read_only=False) as connection:
        connection.execute(f"DELETE FROM {table} WHERE session IN ({named})")


def forget(warehouse: Warehouse, table: str, *sessions: date) -> None:
    """Makes the store one in which `table` was never made of `sessions`."""
    lose(warehouse, table, *sessions)
    named = ", ".join(f"'{session}'" for session in sessions)
    with warehouse.connect(read_only=False) as connection:
        connection.execute(
            f"DELETE FROM lifecycle.stored_partitions WHERE table_name = '{table}' AND partition IN ({named})"
        )


class MemoryRegistry:
    """A registry that keeps names and aliases; `broken` does not answer."""

    def __init__(self, *versions: str, broken: bool = False) -> None:
        self.versions, self.broken = set(versions), broken
        self.kept: dict[str, dict[str, str]] = {}

    def track(self, training: Training) -> None:
        self.versions.add(training.version)

    def alias(self, model: str, alias: str) -> str | None:
        return self.aliases().get(model, {}).get(alias)

    def aliases(self) -> dict[str, dict[str, str]]:
        return {model: dict(aliases) for model, aliases in self.kept.items()}

    def set_alias(self, model: str, alias: str, version: str) -> None:
        if self.broken:
            raise RegistryError("the model registry does not answer")
        if version not in self.versions:
            raise ArtifactError(f"{version} of {model} was never registered")
        self.kept.setdefault(model, {})[alias] = version

    def runs(self) -> dict[str, TrackedRun]:
        return {}
