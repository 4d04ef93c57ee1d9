"""The files of sessions: what was predicted of them, their bars, and what came true, read from the store."""

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.market.tables import FETCH_OUTCOMES, UNIVERSE
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.model.materialize.versions import by_year
from stock_assets.model.registry import IN_SERVICE, MODELS
from stock_assets.publication.layout import Kind
from stock_assets.publication.rows import bar_rows, expected_tickers, left_out_rows, outcome_rows, prediction_rows
from stock_assets.publication.write import NewFiles
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

_BARS = ("ticker", "session", "suspect", "is_member")


def put_sessions(store: Warehouse, settings: Settings, sessions: Sequence[date], *, into: NewFiles) -> pl.DataFrame:
    """Puts predictions and bars of `sessions`, ascending, into files; returns session, rows of the first."""
    counts = [pl.DataFrame(schema={"session": pl.Date, "rows": pl.Int64})]
    universe = store.read_or(UNIVERSE.empty(), "universe")
    for _, days in by_year(sessions):  # a year at a time, for the memory's sake
        in_sessions = pl.col("session").is_in(days)
        predictions = store.read("predictions", days[0], days[-1]).filter(in_sessions)
        in_service = predictions.filter(pl.col("model") == IN_SERVICE)
        left_out = left_out_between(store, settings, days, predictions=in_service)
        rows = prediction_rows(predictions, left_out)
        _put(into, "predictions", rows, sessions=days)
        bars = store.read("daily_bars", days[0], days[-1]).filter(in_sessions)
        _put(into, "bars", bar_rows(bars, universe), sessions=days)
        counts.append(
            pl.DataFrame({"session": days}).join(rows.group_by("session").agg(rows=pl.len()), "session", "left")
        )
    return pl.concat(counts, how="vertical_relaxed").with_columns(pl.col("rows").fill_null(0))


def put_outcomes(store: Warehouse, settings: Settings, sessions: Sequence[date], *, into: NewFiles) -> None:
    """Puts what came true of `sessions`, ascending, into files, where a label of them is known by now."""
    for _, days in by_year(sessions):
        try:
            labels = store.read("labels", days[0], days[-1]).filter(pl.col("session").is_in(days))
            usable, _ = usable_between(store, settings, days[0], last=days[-1])
        except MissingTableError:  # predictions come a horizon before their labels
            return
        _put(into, "outcomes", outcome_rows(labels, usable), sessions=sorted(labels["session"].unique()))


def awaited(settings: Settings, published_sessions: Collection[date], sessions: Sequence[date]) -> list[date]:
    """`sessions` and those before the newest of `published_sessions` whose labels may have appeared since they were
    published, ascending: the label of a ticker that skips sessions comes as much later."""
    recent = calendar_of(settings).before(max(published_sessions), settings.horizon + MAX_MISSED)
    return sorted({*sessions, *(day for day in recent if day in set(published_sessions))})


def left_out_between(
    store: Warehouse, settings: Settings, sessions: Sequence[date], *, predictions: pl.DataFrame
) -> pl.DataFrame:
    """ticker, session, reason (`left_out_rows`) of the tickers of `sessions`, ascending, that are not in
    `predictions`."""
    if not sessions:
        return pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date, "reason": pl.String})
    in_sessions = pl.col("session").is_in(list(sessions))
    bars = store.read("daily_bars", sessions[0], sessions[-1], columns=_BARS).filter(in_sessions)
    universe = store.read_or(UNIVERSE.empty(), "universe")
    outcomes = store.read_or(FETCH_OUTCOMES.empty(), "fetch_outcomes").filter(
        pl.col("first") <= sessions[-1], pl.col("last") >= sessions[0]
    )
    return left_out_rows(
        expected_tickers(universe, bars, sessions),
        predictions.select(KEYS),
        bars=bars,
        outcomes=outcomes,
        features=store.read("stationary_features", sessions[0], sessions[-1], columns=KEYS),
        lookback_rows=MODELS[IN_SERVICE].lookback_rows,
        members_only=settings.members_only,
    )


def _put(into: NewFiles, kind: Kind, rows: pl.DataFrame, *, sessions: Collection[date]) -> None:
    """One file for each of `sessions`, of its rows."""
    rows_of_session = rows.partition_by("session", as_dict=True, include_key=False)
    for session in sessions:
        into.put(kind, str(session), rows_of_session.get((session,), rows.clear().drop("session")))
