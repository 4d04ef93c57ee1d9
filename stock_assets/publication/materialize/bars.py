"""The step `bar_publication`: the files first, then the pointer, and last the rows of the store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.frames import BAR_KEYS, RowSummary
from stock_assets.market.calendar import calendar_of
from stock_assets.market.intervals import bar_grace, next_bar_end
from stock_assets.market.sources.registry import settle_time
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.publication.bar_files import (
    BarPointer,
    merge_bars,
    point_to,
    put_bars,
    read_bar_pointer,
    remove_merged,
)
from stock_assets.publication.bar_tables import BAR_PUBLICATION
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import UTC_TIME


class PublishedBars(NamedTuple):
    """What a publication published."""

    rows: RowSummary
    """of the table bar_publication, that are new"""
    newest: datetime | None
    """the end of the newest bar among them"""


def publish_bars(store: Warehouse, settings: Settings, sessions: Sequence[date], *, now: datetime) -> PublishedBars:
    """Publishes the bars of `sessions` (ascending) that are predicted and not published yet, by the model in service
    and the naive ones: one file per session. What is published already stays as it was said.

    The files of a session that is over at `now`, as long after its close as the source takes, are merged into one.

    Raises MissingSessionsError where a session is not predicted. A kill leaves a file that the store does not know:
    the next look publishes its bars again, and readers take what was said first.
    """
    store.require(["bar_features", "bar_predictions"], sessions, "bar_publication")
    calendar, summary, newest = calendar_of(settings), RowSummary(), None
    served_models = [name for name, entry in BAR_MODELS.items() if entry.role != "reference"]
    for session in sessions:
        predictions = BAR_PREDICTIONS.fit(store.read("bar_predictions", session, session))
        predictions = predictions.filter(pl.col("model").is_in(served_models))
        empty = BAR_PUBLICATION.empty()
        published_rows = BAR_PUBLICATION.fit(store.read_or(empty, "bar_publication", session, last=session))
        new = predictions.join(published_rows, on=BAR_KEYS, how="anti")
        rows = empty
        if new.height:
            digest = put_bars(settings.published, session, new, now=now)
            latest = new["bar_end"].max()
            facts = _facts(settings, new, latest)  # pyright: ignore[reportArgumentType]: a moment
            point_to(settings.published, BarPointer(session, latest, now, digest, facts))  # pyright: ignore[reportArgumentType]
            keys = new.select(BAR_KEYS).unique().sort(BAR_KEYS)
            rows = keys.with_columns(digest=pl.lit(digest), published_at=pl.lit(now).cast(UTC_TIME))
            newest = latest
        store.write([Change("bar_publication", rows, makes=[session])])
        summary.add(rows)
        if calendar.closes[session] + settle_time(settings) <= now:
            _merge(store, settings, session)
    return PublishedBars(summary, newest)  # pyright: ignore[reportArgumentType]


def _merge(store: Warehouse, settings: Settings, session: date) -> None:
    """One file of `session` in place of several, the pointer to it, and last the rows of the store: until these name
    one file, `read_bar_state` has the session published again."""
    folder = settings.published
    digest = merge_bars(folder, session)
    if digest is None:
        return
    pointer = read_bar_pointer(folder)
    if pointer is not None and pointer.session == session and pointer.digest != digest:
        point_to(folder, replace(pointer, digest=digest))
    remove_merged(folder, session, digest)
    rows = BAR_PUBLICATION.fit(store.read("bar_publication", session, session)).filter(pl.col("digest") != digest)
    if rows.height:
        rows_of_file = rows.with_columns(digest=pl.lit(digest))
        store.write([Change("bar_publication", rows_of_file, rows.select(BAR_KEYS), makes=[session])])


def _facts(settings: Settings, published_rows: pl.DataFrame, newest: datetime) -> dict[str, object]:
    """What a reader needs to know beside `published_rows`, of which the newest bar ended at
    `newest`."""
    champion = published_rows.filter(pl.col("model") == BAR_IN_SERVICE).sort("bar_end").tail(1)
    following = next_bar_end(settings, newest)
    return {
        "champion": champion["model_version"].to_list()[0] if champion.height else None,
        "trained_through": champion["trained_through"][0].isoformat() if champion.height else None,
        "next_bar_end": following and following.isoformat(),
        "late_after": following and (following + bar_grace(settings)).isoformat(),
        "simulated": settings.source == "simulated",
        "source": settings.source,
        "exchange": settings.exchange,
        "interval": settings.interval,
        "horizon": settings.horizon,
        "barrier_width": settings.barrier_width,
        "in_service": BAR_IN_SERVICE,
    }
