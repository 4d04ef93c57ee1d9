"""The table `context_series`: versions of the bars of indices and funds, and its readers."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.market.adjustments import utc
from stock_assets.market.calendar import calendar_of
from stock_assets.market.context import changed_context, new_context_versions, newest_context
from stock_assets.market.materialize.clock import require_past
from stock_assets.market.materialize.one_source import require_one_source
from stock_assets.market.requests import LOOK_AGAIN
from stock_assets.market.sources import Source
from stock_assets.market.tables import CONTEXT_SERIES
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import UTC_TIME
from stock_assets.tickers import require_tickers


class FetchedContext(NamedTuple):
    """What one fetch of the context series brought."""

    rows: pl.DataFrame
    """the newest versions of the asked sessions (`CONTEXT_SCHEMA`)"""
    absent: pl.DataFrame
    """series, session: the bars that a series of the store lacks on the asked sessions"""
    new_versions: int
    """rows of the asked sessions that were added"""
    late: int
    """added rows of earlier sessions that had no bar of the series"""
    restated: int
    """added rows of earlier sessions that had another one"""
    off_session: Mapping[str, int]
    """rows of days without a session that were left out, by series"""
    failures: Mapping[str, str]
    """why there is no answer for a series"""


def fetch_context(
    store: Warehouse, settings: Settings, source: Source, *, sessions: Sequence[date], now: datetime
) -> FetchedContext:
    """Asks `source` for the context series of `sessions` (ascending) and appends the versions that the store lacks.

    It asks for the week before once more: of its sessions that were fetched already, a bar that came late or was
    restated is added too. Raises SourceError where the store holds another source.
    """
    require_one_source(store, source)
    require_past(store, now)
    before = calendar_of(settings).before(sessions[0], LOOK_AGAIN)
    first, last = (*before, sessions[0])[0], sessions[-1]
    answer = source.context(first, last, now)
    require_tickers(answer.rows["series"].unique(), f"the context series of the source {source.name}")
    stored_rows = read_context(store, first, last)
    fetched_before = {*stored_rows["session"], *store.sessions("raw_ohlcv", first, last)} & {*before}
    answered_rows = answer.rows.filter(pl.col("session").is_in([*fetched_before, *sessions]))
    new = new_context_versions(stored_rows, answered_rows)
    store.write([Change("context_series", new, makes=sessions)])
    rows = newest_context(pl.concat([stored_rows, new])).filter(pl.col("session").is_in(sessions))
    earlier = new.filter(~pl.col("session").is_in(sessions))
    late_count = earlier.join(stored_rows, on=["series", "session"], how="anti").height
    return FetchedContext(
        rows,
        _absent_series(store, sessions, rows),
        new_versions=new.height - earlier.height,
        late=late_count,
        restated=earlier.height - late_count,
        off_session=answer.off_session,
        failures=answer.failures,
    )


def _absent_series(store: Warehouse, sessions: Sequence[date], rows: pl.DataFrame) -> pl.DataFrame:
    """series, session, sorted by session: the bars that `rows` lack of any series that the store has, on `sessions`."""
    series = store.read_sql("context_series", "SELECT DISTINCT series FROM market.context_series")
    return (
        series.join(pl.DataFrame({"session": sessions}, schema={"session": pl.Date}), how="cross")
        .join(rows, on=["series", "session"], how="anti")
        .sort("session", "series")
        .select("series", "session")
    )


def read_context(store: Warehouse, first: date | None = None, last: date | None = None) -> pl.DataFrame:
    """The newest version of every bar of a series from session `first` to `last`, both included and open where None.

    `CONTEXT_SCHEMA`, sorted by series and session; no row before the first write.
    """
    return newest_context(_versions(store, first, last))


def changed_context_since(store: Warehouse, moment: datetime, last: date | None = None) -> pl.DataFrame:
    """series, session of the bars up to session `last` that what was fetched after `moment` restates or adds late.

    `moment` is any at which everything had been made of what had been fetched, such as an earlier
    `last_context_fetch`.
    """
    return changed_context(_versions(store, None, last), moment, bars_first_fetched(store))


def bars_first_fetched(store: Warehouse) -> pl.DataFrame:
    """session, first_fetched (UTC): since when the store has bars of each session."""
    with suppress(MissingTableError):
        statement = "SELECT session, min(fetched_at) AS first_fetched FROM market.raw_ohlcv GROUP BY session"
        return store.read_sql("raw_ohlcv", statement).with_columns(utc("first_fetched"))
    return pl.DataFrame(schema={"session": pl.Date, "first_fetched": UTC_TIME})


def _versions(store: Warehouse, first: date | None, last: date | None) -> pl.DataFrame:
    return CONTEXT_SERIES.fit(store.read_or(CONTEXT_SERIES.empty(), "context_series", first, last=last))


def last_context_fetch(store: Warehouse) -> datetime | None:
    """When the newest version of `context_series` was fetched, UTC; None without a row."""
    try:
        newest = store.read_sql("context_series", "SELECT max(fetched_at) AS newest FROM market.context_series")
    except MissingTableError:
        return None
    return newest["newest"].dt.convert_time_zone("UTC")[0]
