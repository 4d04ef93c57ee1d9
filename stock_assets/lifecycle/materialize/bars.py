"""What the store holds of a market of bars, for the decisions of `lifecycle.bars`."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.lifecycle.bars import BarState, bar_freshness
from stock_assets.lifecycle.freshness import Freshness
from stock_assets.lifecycle.materialize.bar_champions import bar_challengers
from stock_assets.market.bar_tables import BAR_REQUESTS
from stock_assets.market.calendar import calendar_of
from stock_assets.market.intervals import Interval, bar_grace
from stock_assets.market.sources import SETTLE
from stock_assets.model.bar_models import BAR_MODELS
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import UTC_TIME

_MADE = "SELECT partition FROM lifecycle.stored_partitions WHERE table_name = 'bar_labels'"
_TRAINED = "SELECT session FROM model.trained_bar_models GROUP BY session HAVING count(DISTINCT model) >= ?"
_JUDGED = "SELECT DISTINCT session FROM model.bar_predictions WHERE model IN (SELECT unnest(?::VARCHAR[]))"
_IN_PARTS = "SELECT session FROM publication.bar_publication GROUP BY session HAVING min(digest) <> max(digest)"


def read_bar_state(store: Warehouse, now: datetime, settle: timedelta = SETTLE) -> BarState:
    """How far everything is at `now`, where a session is over `settle` after its close.

    Raises StoreBusyError while a writer holds the store.
    """
    with store.reading():
        try:
            records = store.read_sql("stored_partitions", _MADE)
            labelled_sessions = {date.fromisoformat(day) for day in records["partition"]}
        except MissingTableError:
            labelled_sessions = set()
        references = [name for name, entry in BAR_MODELS.items() if entry.role == "reference"]
        return BarState(
            now,
            labelled_sessions,
            _sessions(store, "trained_bar_models", _TRAINED, parameters=[len(BAR_MODELS)]),
            _sessions(store, "bar_predictions", _JUDGED, parameters=[references])
            - _sessions(store, "bar_publication", _IN_PARTS),
            bar_challengers(store)["session"].to_list(),
            _asked_at(store),
            settle,
        )


def bar_freshness_of(store: Warehouse, settings: Settings, now: datetime) -> Freshness:
    """How fresh the published bars are at `now`; a closed snapshot is never late."""
    if settings.end is not None:
        return Freshness(True, settings.end, 0, f"the market ends at {settings.end}: no bar is expected", "bar")
    try:
        newest = store.read_sql("bar_publication", "SELECT max(bar_end) AS bar_end FROM publication.bar_publication")
    except MissingTableError:
        newest = pl.DataFrame({"bar_end": [None]})
    interval = Interval.parse(settings.interval)
    newest_end = newest.select(pl.col("bar_end").cast(UTC_TIME)).item()
    return bar_freshness(calendar_of(settings), interval, newest=newest_end, now=now, grace=bar_grace(settings))


def _asked_at(store: Warehouse) -> dict[date, datetime]:
    return dict(BAR_REQUESTS.fit(store.read_or(BAR_REQUESTS.empty(), "bar_requests")).iter_rows())


def _sessions(store: Warehouse, table: str, statement: str, *, parameters: Sequence[object] = ()) -> set[date]:
    try:
        return set(store.read_sql(table, statement, parameters)["session"])
    except MissingTableError:
        return set()
