"""The steps that make `operations`: what is read, and then the page and the table of recent sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from stock_assets.errors import MissingTableError, SourceError
from stock_assets.evaluation import metrics
from stock_assets.lifecycle.freshness import GRACE, Freshness, freshness
from stock_assets.lifecycle.operations import (
    NOTHING_SCORED,
    NOTHING_SERVED,
    OperationsFacts,
    live_skill,
    naive_baseline,
    render_operations,
    scored_models,
    session_table,
    with_age,
)
from stock_assets.market.calendar import calendar_of
from stock_assets.market.closing import newer_session
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.objects import Place, put
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: Predicted sessions that the page looks at.
SESSIONS = 250
#: Tables that are shown once they exist, with the column that orders their rows, and how many of the newest are shown.
HISTORIES = {"alerts": "last_at", "retraining_decisions": "decided_at", "promotions": "decided_at"}
MOST_ROWS = 50

_SERVED = """
SELECT session, model, model_version AS version, any_value(trained_through) AS trained_through, count(*) AS rows
FROM model.predictions WHERE session >= ? GROUP BY session, model, model_version
"""
_SCORED = """
SELECT model, model_version, trained_through, ticker, session, p_sell, p_hold, p_buy, score
FROM model.predictions WHERE session >= ? AND model IN (SELECT unnest(?))
"""
_SUSPECTS = "SELECT session, count(suspect) AS suspects FROM market.daily_bars WHERE session >= ? GROUP BY session"
_NO_SUSPECTS = pl.DataFrame(schema={"session": pl.Date, "suspects": pl.Int64})


@dataclass(frozen=True)
class OperationsData:
    """Everything the page shows."""

    sessions: pl.DataFrame
    """the rows of the table `operations`"""
    skill: pl.DataFrame
    """`operations.live_skill`, which the figure of that name draws"""
    drift: pl.DataFrame | None
    """the rows of `drift` of these sessions; None without the table"""
    tables: Mapping[str, pl.DataFrame | None]
    """those of `operations.TABLES`"""
    facts: OperationsFacts


def read_operations(
    store: Warehouse,
    settings: Settings,
    failures: pl.DataFrame,
    *,
    now: datetime,
    paper: Mapping[str, pl.DataFrame] | None = None,
) -> OperationsData:
    """The rows of the table `operations` and what its page shows; empty where nothing is predicted.

    `failures` are the failed runs to list: at, what, partitions, run_id, the newest first. `paper` are the frames of
    the account at the broker, of a later room (`pages.paper.TABLES`).
    """
    with store.reading():
        last = store.last_session("predictions")
        served_rows, scored_rows, suspects = recent_sessions(store, settings, last)
        sessions = session_table(served_rows, scored_rows, suspects)
        drift = rows_or_none(store, "drift", sessions["session"].min())  # pyright: ignore[reportArgumentType]: a date
        tables: dict[str, pl.DataFrame | None] = {
            "in_service": served_rows.filter(pl.col("session") == pl.col("session").max()).sort("model"),
            "failures": failures,
            "drift": None if drift is None else drift.filter(pl.col("session") == pl.col("session").max()),
        }
        for name, column in HISTORIES.items():
            rows = rows_or_none(store, name)
            tables[name] = None if rows is None else rows.sort(column, descending=True).head(MOST_ROWS)
    tables |= paper or {}
    facts = OperationsFacts(settings.source, now, last, freshness_of(settings, last, now), naive_baseline(scored_rows))
    return OperationsData(sessions, live_skill(sessions), drift, tables, facts)


def write_operations(store: Warehouse, settings: Settings, data: OperationsData) -> Place:
    """Writes the page, then the table, and returns the path of the page.

    The table comes last: while it is older than the predictions, page and table are made again.
    """
    path = settings.artifacts / "operations" / "operations.html"
    put(path, render_operations(data.sessions, {**data.tables, "drift": data.drift}, facts=data.facts).encode())
    store.replace_table("operations", data.sessions)
    return path


def recent_sessions(
    store: Warehouse, settings: Settings, last: date | None
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(served, scored, suspects) of `operations.session_table` for the SESSIONS up to `last`; no row for None."""
    if last is None:
        return NOTHING_SERVED, NOTHING_SCORED, _NO_SUSPECTS
    before = calendar_of(settings).before(last, SESSIONS - 1)
    first = before[0] if before else last
    served_rows = with_age(store.read_sql("predictions", _SERVED, [first]), calendar_of(settings))
    suspects = store.read_sql("daily_bars", _SUSPECTS, [first])
    try:
        labels, _ = usable_between(store, settings, first)
    except MissingTableError:  # predictions come a horizon before their labels
        return served_rows, NOTHING_SCORED, suspects
    predictions = store.read_sql("predictions", _SCORED, [first, list(scored_models())])
    return served_rows, metrics.scored_rows(predictions, labels), suspects


def rows_or_none(store: Warehouse, table: str, first: date | None = None) -> pl.DataFrame | None:
    """The rows of `table` from session `first` on; None before anything was written to it."""
    try:
        return store.read(table, first)
    except MissingTableError:
        return None


def freshness_of(settings: Settings, predicted_through: date | None, now: datetime) -> Freshness:
    """How fresh the predictions are at `now`. A closed snapshot is never late: no session is expected of it, unless its
    files have got newer ones since it was closed by itself."""
    state = freshness(calendar_of(settings), settings.after_close, GRACE, predicted_through=predicted_through, now=now)
    if settings.end is None:
        return state
    try:
        newer = newer_session(settings)
    except SourceError as error:
        return Freshness(False, state.last_expected, 0, f"the files of the closed snapshot have changed: {error}")
    if newer is not None:
        reason = f"the files hold sessions to {newer}, and the snapshot is closed at {settings.end}: start it again"
        behind = calendar_of(settings.model_copy(update={"end": None})).between(settings.end, newer)[1:]
        return Freshness(False, newer, len(behind), reason)
    return Freshness(True, state.last_expected, 0, f"the snapshot is closed at {settings.end}: no session is expected")
