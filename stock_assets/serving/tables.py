"""The monitoring tables and cards as the API reads them, kept like the sessions: by the digest of their file."""

import asyncio
import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

from stock_assets.errors import PublicationError
from stock_assets.publication.layout import ALERTS, parse_json, path_of
from stock_assets.publication.tables import MONITORING
from stock_assets.serving.current import Served
from stock_assets.serving.days import DamagedFile, content_of, frame_of, relative
from stock_assets.serving.lookup import stamp

#: The open alerts, as `live/alerts.json` lists them.
ALERT_COLUMNS = pl.Schema(
    {
        "key": pl.String(),
        "title": pl.String(),
        "text": pl.String(),
        "run_id": pl.String(),
        "first_at": pl.Datetime("us", "UTC"),
        "last_at": pl.Datetime("us", "UTC"),
        "count": pl.Int64(),
        "resolved_at": pl.Datetime("us", "UTC"),
    }
)


async def rows_of_table(served_state: Served, name: str) -> list[dict[str, Any]]:
    """The rows of a monitoring table as JSON has them; none where it is not published. Raises DamagedFile."""
    return await asyncio.to_thread(read_table, served_state, name)


def read_table(served_state: Served, name: str) -> list[dict[str, Any]]:
    frame = frame_of(served_state.publication, MONITORING[name], kind="monitoring", key=name)
    return [plain(row) for row in frame.iter_rows(named=True)]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with dates and moments as texts."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return stamp(value)
    return str(value) if isinstance(value, date) else value


async def card_of(served_state: Served, version: str) -> dict[str, Any] | None:
    """The card of a model version; None where it has none. Raises DamagedFile."""
    if version not in served_state.pointer.files["cards"]:
        return None
    return await asyncio.to_thread(_read_card, served_state, version)


def _read_card(served_state: Served, version: str) -> dict[str, Any]:
    content = content_of(served_state.publication, "cards", version)
    file = path_of("cards", version, served_state.pointer.files["cards"][version])
    try:
        card = parse_json(served_state.publication.folder / file, content)
        json.dumps(card, allow_nan=False)
    except (PublicationError, ValueError) as error:
        reason = (
            "holds a number that is not finite"
            if isinstance(error, ValueError)
            else relative(error, served_state.publication.folder)
        )
        raise DamagedFile(file, f"is damaged: {reason}") from error
    return card


async def open_alerts(served_state: Served) -> list[dict[str, Any]]:
    """The open alerts and those that ended lately; none before any was written. Raises DamagedFile."""
    return await asyncio.to_thread(_read_alerts, served_state)


def _read_alerts(served_state: Served) -> list[dict[str, Any]]:
    path = served_state.publication.folder / ALERTS
    try:
        values = parse_json(path, path.read_bytes())
        rows = values["alerts"]
        if not isinstance(rows, list):
            raise TypeError("alerts")
        return [{name: row.get(name) for name in ALERT_COLUMNS} for row in rows]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedFile(ALERTS, f"cannot be read: {error.strerror}") from error
    except (PublicationError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(ALERTS, f"is damaged: {type(error).__name__}; expected a list of alerts") from error
