"""Versions are ordered by when they were fetched: one from the future would hide what is fetched now."""

from collections.abc import Mapping
from datetime import UTC, datetime

from stock_assets.errors import SourceError
from stock_assets.storage.warehouse import Warehouse

_NEWEST = {
    "raw_ohlcv": "SELECT ticker AS name, session, fetched_at FROM market.raw_ohlcv",
    "context_series": "SELECT series AS name, session, fetched_at FROM market.context_series",
}


def require_past(store: Warehouse, now: datetime, versions: Mapping[str, str] = _NEWEST) -> None:
    """Raises SourceError that names the row where `store` holds a version that was fetched after `now`, UTC: the clock
    is behind, or it was ahead when that was fetched. `versions` selects name, session and fetched_at, by table."""
    newest = store.read_each({table: f"{rows} ORDER BY fetched_at DESC LIMIT 1" for table, rows in versions.items()})
    for table, rows in newest.items():
        if rows is None or rows.is_empty():
            continue
        name, session, fetched_at = rows.row(0)
        fetched_at = fetched_at.astimezone(UTC)
        if fetched_at > now:
            raise SourceError(
                f"{table} holds {name} of {session} as fetched at {fetched_at:%Y-%m-%d %H:%M} UTC, and the clock says "
                f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC; expected nothing from the future, which would hide what "
                "is fetched now. Set the clock of this machine; where it is right and was ahead then, fetching goes on "
                "at that time, or at once after `stock-assets restore` of an earlier backup"
            )
