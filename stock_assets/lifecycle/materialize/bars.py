"""What the store holds of a market of bars, for the decisions of `lifecycle.bars`."""

from datetime import date, datetime, timedelta

from stock_assets.errors import MissingTableError
from stock_assets.lifecycle.bars import BarState
from stock_assets.market.sources import SETTLE
from stock_assets.model.bar_models import BAR_MODELS
from stock_assets.storage.warehouse import Warehouse

_MADE = "SELECT partition FROM lifecycle.stored_partitions WHERE table_name = 'bar_labels'"
_TRAINED = "SELECT session FROM model.trained_bar_models GROUP BY session HAVING count(DISTINCT model) >= ?"
_JUDGED = "SELECT DISTINCT session FROM model.bar_predictions WHERE model IN (SELECT unnest(?::VARCHAR[]))"


def read_bar_state(store: Warehouse, now: datetime, settle: timedelta = SETTLE) -> BarState:
    """How far everything is at `now`, where a session is over `settle` after its close.

    Raises StoreBusyError while a writer holds the store.
    """
    with store.reading():
        try:
            made = store.read_sql("stored_partitions", _MADE)
            labelled = {date.fromisoformat(day) for day in made["partition"]}
        except MissingTableError:
            labelled = set()
        references = [name for name, entry in BAR_MODELS.items() if entry.role == "reference"]
        return BarState(
            now,
            labelled,
            _sessions(store, "trained_bar_models", _TRAINED, parameters=[len(BAR_MODELS)]),
            _sessions(store, "bar_predictions", _JUDGED, parameters=[references]),
            settle,
        )


def _sessions(store: Warehouse, table: str, statement: str, *, parameters: list[object]) -> set[date]:
    try:
        return set(store.read_sql(table, statement, parameters)["session"])
    except MissingTableError:
        return set()
