"""`/v1/predictions`: one, those of a session, and a batch."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl
from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.publication.tables import PREDICTIONS_FILE
from stock_assets.serving.answers import common, prediction, result_of, text_of
from stock_assets.serving.bodies import Body
from stock_assets.serving.days import Day
from stock_assets.serving.etags import answer
from stock_assets.serving.forms import RANGES, form_of
from stock_assets.serving.lookup import resolve, rows_of
from stock_assets.serving.parameters import (
    AS_OF,
    CURSOR_OF_PAGE,
    MODEL_NAME,
    SESSION,
    TICKER_OF_PATH,
    TICKERS,
    Parameters,
    limit,
)
from stock_assets.serving.routes.asked import (
    OF_A_PAGE,
    OF_A_ROW,
    OF_A_SESSION,
    Page,
    Range,
    beside,
    described,
    now_of,
    page_of,
    send,
    served_as_of,
)
from stock_assets.serving.schemas import OnePrediction, PredictionsOfADay
from stock_assets.tables import SESSION as SESSION_COLUMN
from stock_assets.tables import UTC_TIME

router = APIRouter(prefix="/v1", tags=["predictions"])

ONE = Parameters((TICKER_OF_PATH, SESSION, MODEL_NAME, AS_OF))
DAY = Parameters((SESSION, MODEL_NAME, TICKERS, limit(5_000, 1_000), CURSOR_OF_PAGE, AS_OF))

#: The columns of a range of predictions as CSV and Parquet.
COLUMNS = pl.Schema(
    {
        "session": SESSION_COLUMN.dtype,
        **PREDICTIONS_FILE.schema,
        "suspect": pl.String(),
        "label": pl.Int8(),
        "horizon_end": pl.Date(),
        "publication": pl.String(),
        "published_at": UTC_TIME,
        "simulated": pl.Boolean(),
    }
)


@router.get(
    "/predictions/{ticker:path}",
    summary="One prediction",
    response_model=OnePrediction,
    **described(ONE, *OF_A_ROW),
)
async def one_prediction(request: Request) -> Response:
    """What is published of a ticker in a session: its probabilities, or why it has none (`status`, `reason`)."""
    form_of(request)
    values = ONE.of(request)
    served_state, root = await served_as_of(request, values["as_of"])
    session = resolve(served_state, values["session"], now_of(request), root=root)
    day = await served_state.day(session)
    assert day is not None
    row = prediction(served_state, day, values["ticker"], model=values["model"] or served_state.facts.in_service)
    version = row["model_version"]
    return answer(request, served_state, text_of(row), headers={"x-model-version": version} if version else None)


@router.get(
    "/predictions",
    summary="The predictions of a session",
    response_model=PredictionsOfADay,
    **described(DAY, *OF_A_SESSION, *OF_A_PAGE, ranges=True),
)
async def predictions_of_a_day(request: Request) -> Response:
    """Every ticker of a session, sorted, those that are left out included. `next` leads to the next page, of the same
    publication. A ticker of `tickers` that the session does not know has the status `unknown_ticker`."""
    form = form_of(request, RANGES)
    values = DAY.of(request)
    page = await page_of(request, values)
    session = resolve(page.served, values["session"], now_of(request), root=page.root)
    model = values["model"] or page.served.facts.in_service
    # a cursor in the answer is for these very words, so `latest` and its date are two answers
    key = (page.served.pointer.entry, values["session"], values["model"], values["limit"], form)
    whole = values["tickers"] is None and page.after is None
    body = page.served.bodies.get(key) if whole and values["as_of"] is None else None
    if body is None:
        body = await _day_body(page, session, {**values, "model": model, "form": form})
        if whole and values["as_of"] is None:
            page.served.bodies.put(key, body)
    return send(request, page.served, body)


async def _day_body(page: Page, session: date, values: dict[str, Any]) -> Body:
    served_state, row_limit = page.served, values["limit"]
    day = await served_state.day(session)
    assert day is not None
    rows_of(day, values["model"])
    tickers: Sequence[str] = day.tickers if values["tickers"] is None else sorted(values["tickers"])
    if page.after is not None:
        tickers = [ticker for ticker in tickers if ticker > page.after]
    further = len(tickers) > row_limit
    tickers = tickers[:row_limit]

    def make() -> Body:
        rows = rows_of_day(day, values["model"], tickers)
        next_page = page.cursor(tickers[-1]) if further else None
        shared_fields = {
            **common(served_state, session, values["model"]),
            "model_version": the_version(day, values["model"]),
        }
        body = Range("predictions", rows, shared_fields, COLUMNS, next_page).body(served_state, values["form"])
        if shared_fields["model_version"]:
            body.headers["x-model-version"] = shared_fields["model_version"]
        return body

    return await beside(len(tickers), make)


def rows_of_day(day: Day, model: str, tickers: Sequence[str]) -> list[dict[str, Any]]:
    """What `model` says of each of `tickers`."""
    return [{"ticker": ticker, **result_of(day, model, ticker)} for ticker in tickers]


def the_version(day: Day, model: str) -> str | None:
    """The version that made the rows of `model`; None where there were several."""
    versions = day.models[model].versions
    return versions[0][0] if len(versions) == 1 else None
