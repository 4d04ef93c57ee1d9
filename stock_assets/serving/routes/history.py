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
    values = HISTORY.of(request)
    first, last = values["from"] or date.min, values["to"] or date.max
    page = await page_of(request, values)
    served_state, model, ticker = page.served, values["model"] or page.served.facts.in_service, values["ticker"]
    if not served_state.sessions:
        raise nothing_published()
    after = date.min if page.after is None else date.fromisoformat(page.after)
    sessions = [session for session in served_state.sessions if first <= session <= last and session > after]
    if not sessions:
        published_range = f"{served_state.sessions[0]} to {served_state.sessions[-1]}"
        raise Problem(
            "empty-range", f"no published session lies in the range; those that are published: {published_range}"
        )
    further = len(sessions) > values["limit"]
    sessions = sessions[: values["limit"]]
    rows = await _rows(served_state, sessions, ticker=ticker, model=model)
    if page.after is None:
        _require_some(served_state, rows, ticker=ticker, model=model)
    shared_fields = {"ticker": ticker, "model": model, "horizon": served_state.facts.horizon}
    shared_fields |= {"publication": served_state.pointer.entry, "simulated": served_state.facts.simulated}
    cursor = page.cursor(str(sessions[-1])) if further else None
    body = Range("predictions", rows, shared_fields, COLUMNS, cursor)
    return send(request, served_state, body.body(served_state, form))


async def _rows(served_state: Served, sessions: Sequence[date], *, ticker: str, model: str) -> list[dict[str, Any]]:
    """The row of each session. Those that are not in memory are read outside the event loop."""
    files = [file for session in sessions if (file := Files.of(served_state.pointer, session))]
    days = {file: day for file in files if (day := served_state.days.get(file)) is not None}
    absent_files = [file for file in files if file not in days]
    if absent_files:
        days |= await asyncio.to_thread(read_days_of, served_state.publication, absent_files, ticker)
    return [_row(served_state, days[file], ticker=ticker, model=model) for file in files]


def _row(served_state: Served, day: Day, *, ticker: str, model: str) -> dict[str, Any]:
    shared_fields = common(served_state, day.session, model)
    return {
        "session": shared_fields["session"],
        "published_at": shared_fields["published_at"],
        **result_of(day, model, ticker),
    }


def _require_some(served_state: Served, rows: Sequence[dict[str, Any]], *, ticker: str, model: str) -> None:
    """Raises Problem for a ticker or a model of which neither a row nor a session in memory says anything."""
    statuses = {row["status"] for row in rows}
    if statuses == {"unknown_ticker"} and not any(day.holds(ticker) for day in served_state.in_memory()):
        span = f"{rows[0]['session']} to {rows[-1]['session']}"
        raise Problem("unknown-ticker", f"none of the sessions {span} has a row of {ticker}")
    if statuses and statuses <= {"unknown_ticker", "unknown_model"}:
        models = sorted({name for day in served_state.in_memory() for name in day.models})
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
    values = RANKING.of(request)
    served_state, root = await served_as_of(request, values["as_of"])
    session = resolve(served_state, values["session"], now_of(request), root=root)
    model = values["model"] or served_state.facts.in_service
    day = await served_state.day(session)
    assert day is not None
    rows = rows_of(day, model)
    tickers = list(rows.tickers)
    order = [tickers[place] for place in np.argsort(rows.ranks, kind="stable")]
    best, worst = order[: values["top"]], order[::-1][: values["top"]]
    version = the_version(day, model)
    shared_fields = {**common(served_state, session, model), "model_version": version, "tickers": len(tickers)}
    if form == JSON:
        shared_fields["bottom"] = rows_of_day(day, model, worst)
        lists = Range("top", rows_of_day(day, model, best), shared_fields, COLUMNS)
    else:
        tickers_of_both_ends = [*best, *(ticker for ticker in worst[::-1] if ticker not in {*best})]
        lists = Range("top", rows_of_day(day, model, tickers_of_both_ends), shared_fields, COLUMNS)
    return send(
        request, served_state, lists.body(served_state, form), headers={"x-model-version": version} if version else {}
    )
