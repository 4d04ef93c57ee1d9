"""The rows that a request of another protocol is answered with, from the one lookup of the API."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from stock_assets.serving.answers import prediction
from stock_assets.serving.current import Served
from stock_assets.serving.days import Day
from stock_assets.serving.lookup import resolve
from stock_assets.serving.problems import Problem
from stock_assets.serving.protocols.items import Item

#: Problems of one row: the other rows of an invocation are answered beside it.
OF_A_ROW = ("unknown-ticker", "not-a-session", "not-published", "not-published-yet", "late")


async def predicted_rows(
    served_state: Served, items: Sequence[Item], now: datetime, *, model: str, version: str | None
) -> list[dict[str, Any]]:
    """The prediction of every item, by `version` where one is named.

    Raises Problem, which names the row, where one of them has none: a tensor has no place for a reason.
    """
    days: dict[date, Day] = {}
    rows = []
    for place, item in enumerate(items):
        try:
            row = await _row(served_state, item, now, days=days, model=model)
        except Problem as problem:
            raise Problem(problem.kind, f"row {place}: {problem.detail}", headers=problem.headers) from problem
        if row["status"] != "predicted":
            detail = f"row {place}: {item.ticker} has no prediction of {row['session']}: {row['reason']}"
            raise Problem("not-published", detail)
        if version is not None and row["model_version"] != version:
            detail = f"row {place}: {item.ticker} was predicted in {row['session']} by {row['model_version']}"
            raise Problem("not-published", f"{detail}, not by {version}")
        rows.append(row)
    return rows


async def rows_with_status(
    served_state: Served, items: Sequence[Item], now: datetime, *, model: str
) -> list[Mapping[str, Any]]:
    """Every item's prediction, or with null probabilities the status that says why there is none.

    Raises Problem for what is wrong with the request as a whole, and for a damaged file.
    """
    days: dict[date, Day] = {}
    rows: list[Mapping[str, Any]] = []
    for item in items:
        try:
            rows.append(await _row(served_state, item, now, days=days, model=model))
        except Problem as problem:
            if problem.kind not in OF_A_ROW:
                raise
            session = str(item.session or served_state.newest or "")
            status = problem.kind.replace("-", "_")
            rows.append({"ticker": item.ticker, "session": session, "status": status})
    return rows


async def _row(served_state: Served, item: Item, now: datetime, *, days: dict[date, Day], model: str) -> dict[str, Any]:
    session = resolve(served_state, item.session, now)
    if session not in days:
        day = await served_state.day(session)
        assert day is not None  # it is published: `resolve`
        days[session] = day
    return prediction(served_state, days[session], item.ticker, model=model)
