"""`/v1/history` and `/v1/rankings`: one ticker through time, and the order of a session."""

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from stock_assets.serving.answers import common, result_of
from stock_assets.serving.current import Served
from stock_assets.serving.days import Day, Files
from stock_assets.serving.forms import JSON, RANGES, form_of
from stock_assets.serving.lookup import nothing_published, resolve, rows_of
from stock_assets.serving.parameters import (
    AS_OF,
    CURSOR_OF_PAGE,
    FIRST,
    LAST,
    MODEL_NAME,
    SESSION_OF_PATH,
    TICKER_OF_PATH,
    Parameters,
    limit,
    top,
)
from stock_assets.serving.problems import Problem
from stock_assets.serving.routes.asked import (
    OF_A_PAGE,
    OF_A_SESSION,
    Range,
    described,
    now_of,
    page_of,
    send,
    served_as_of,
)
from stock_assets.serving.routes.predictions import COLUMNS, rows_of_day, the_version
from stock_assets.serving.schemas import HistoryOfATicker, Ranking
from stock_assets.serving.ticker_days import read_days_of

router = APIRouter(prefix="/v1", tags=["predictions"])

HISTORY = Parameters((TICKER_OF_PATH, FIRST, LAST, MODEL_NAME, limit(1_000, 260), CURSOR_OF_PAGE, AS_OF))
RANKING = Parameters((SESSION_OF_PATH, MODEL_NAME, top(500, 20), AS_OF))


@router.get(
    "/history/{ticker:path}",
    summary="One ticker through time",
    response_model=HistoryOfATicker,
    **described(
        HISTORY, "empty-range", "unknown-ticker", "unknown-model", "moment-in-the-future", *OF_A_PAGE, ranges=True
    ),
)
async def history_of_a_ticker(request: Request) -> Response:
    """One row per published session of the range, the oldest first, each with its `status`. `next` leads to the next
    page, of the same publication."""
    form = form_of(request, RANGES)
    asked = HISTORY.of(request)
    first, last = asked["from"] or date.min, asked["to"] or date.max
    page = await page_of(request, asked)
    served, model, ticker = page.served, asked["model"] or page.served.facts.in_service, asked["ticker"]
    if not served.sessions:
        raise nothing_published()
    after = date.min if page.after is None else date.fromisoformat(page.after)
    sessions = [one for one in served.sessions if first <= one <= last and one > after]
    if not sessions:
        published = f"{served.sessions[0]} to {served.sessions[-1]}"
        raise Problem("empty-range", f"no published session lies in the range; those that are published: {published}")
    further = len(sessions) > asked["limit"]
    sessions = sessions[: asked["limit"]]
    rows = await _rows(served, sessions, ticker=ticker, model=model)
    if page.after is None:
        _require_some(served, rows, ticker=ticker, model=model)
    shared = {"ticker": ticker, "model": model, "horizon": served.facts.horizon}
    shared |= {"publication": served.pointer.entry, "simulated": served.facts.simulated}
    cursor = page.cursor(str(sessions[-1])) if further else None
    body = Range("predictions", rows, shared, COLUMNS, cursor)
    return send(request, served, body.body(served, form))


async def _rows(served: Served, sessions: Sequence[date], *, ticker: str, model: str) -> list[dict[str, Any]]:
    """The row of each session. Those that are not in memory are read outside the event loop."""
    files = [file for session in sessions if (file := Files.of(served.pointer, session))]
    days = {file: day for file in files if (day := served.days.get(file)) is not None}
    absent = [file for file in files if file not in days]
    if absent:
        days |= await asyncio.to_thread(read_days_of, served.publication, absent, ticker)
    return [_row(served, days[file], ticker=ticker, model=model) for file in files]


def _row(served: Served, day: Day, *, ticker: str, model: str) -> dict[str, Any]:
    shared = common(served, day.session, model)
    return {"session": shared["session"], "published_at": shared["published_at"], **result_of(day, model, ticker)}


def _require_some(served: Served, rows: Sequence[dict[str, Any]], *, ticker: str, model: str) -> None:
    """Raises Problem for a ticker or a model of which neither a row nor a session in memory says anything."""
    statuses = {row["status"] for row in rows}
    if statuses == {"unknown_ticker"} and not any(day.holds(ticker) for day in served.in_memory()):
        span = f"{rows[0]['session']} to {rows[-1]['session']}"
        raise Problem("unknown-ticker", f"none of the sessions {span} has a row of {ticker}")
    if statuses and statuses <= {"unknown_ticker", "unknown_model"}:
        models = sorted({name for day in served.in_memory() for name in day.models})
        if model not in models:
            raise Problem("unknown-model", f"no session has a row of the model {model}", models=models)


@router.get(
    "/rankings/{session}",
    summary="The strongest buys and sells",
    response_model=Ranking,
    **described(RANKING, *OF_A_SESSION, ranges=True),
)
async def ranking_of_a_session(request: Request) -> Response:
    """The tickers of the highest scores, the highest first, and those of the lowest, the lowest first. As CSV or
    Parquet both together by rank."""
    form = form_of(request, RANGES)
    asked = RANKING.of(request)
    served, root = await served_as_of(request, asked["as_of"])
    session = resolve(served, asked["session"], now_of(request), root=root)
    model = asked["model"] or served.facts.in_service
    day = await served.day(session)
    assert day is not None
    rows = rows_of(day, model)
    tickers = list(rows.tickers)
    order = [tickers[place] for place in np.argsort(rows.ranks, kind="stable")]
    best, worst = order[: asked["top"]], order[::-1][: asked["top"]]
    version = the_version(day, model)
    shared = {**common(served, session, model), "model_version": version, "tickers": len(tickers)}
    if form == JSON:
        shared["bottom"] = rows_of_day(day, model, worst)
        lists = Range("top", rows_of_day(day, model, best), shared, COLUMNS)
    else:
        both = [*best, *(ticker for ticker in worst[::-1] if ticker not in {*best})]
        lists = Range("top", rows_of_day(day, model, both), shared, COLUMNS)
    return send(request, served, lists.body(served, form), headers={"x-model-version": version} if version else {})
