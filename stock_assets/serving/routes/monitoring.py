"""`/v1/monitoring`: the tables of the operations page, the open alerts, and how fresh the publication is."""

from typing import Any

import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.publication.tables import MONITORING
from stock_assets.serving.current import Served
from stock_assets.serving.forms import RANGES, form_of
from stock_assets.serving.health import freshness
from stock_assets.serving.parameters import TABLE, Parameters
from stock_assets.serving.routes.asked import Range, beside, described, now_of, send, served_of
from stock_assets.serving.schemas import MonitoringTable
from stock_assets.serving.tables import ALERT_COLUMNS, open_alerts, rows_of_table
from stock_assets.tables import UTC_TIME

router = APIRouter(prefix="/v1", tags=["monitoring"])
MONITORED = Parameters((TABLE,))

FRESHNESS_COLUMNS = pl.Schema(
    {
        "session": pl.Date(),
        "published_at": UTC_TIME,
        "age_seconds": pl.Float64(),
        "sessions_behind": pl.Int64(),
        "next_session": pl.Date(),
        "due_at": UTC_TIME,
    }
)
#: Another name of a table.
ALSO = {"skill": "rolling_skill"}


@router.get(
    "/monitoring/{name}",
    summary="A monitoring table",
    response_model=MonitoringTable,
    **described(MONITORED, ranges=True),
)
async def monitoring_table(request: Request) -> Response:
    """The rows of a table under its own name. `skill` is `rolling_skill`; `alerts` are as of now, and `freshness` is
    the age of what is published; every other table is as of the publication."""
    form = form_of(request, RANGES)
    name = MONITORED.of(request)["name"]
    served_state = served_of(request)
    rows, schema = await _rows(request, served_state, name)
    body = Range(name, rows, {"publication": served_state.pointer.entry}, schema)
    return send(request, served_state, await beside(len(rows), lambda: body.body(served_state, form)))


async def _rows(request: Request, served_state: Served, name: str) -> tuple[list[dict[str, Any]], pl.Schema]:
    if name == "alerts":
        return await open_alerts(served_state), ALERT_COLUMNS
    if name == "freshness":
        return [freshness(served_state, now_of(request))], FRESHNESS_COLUMNS
    table = ALSO.get(name, name)
    return await rows_of_table(served_state, table), MONITORING[table].schema
