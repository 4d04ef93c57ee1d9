"""The step `bar_publication`: the files first, then the pointer, and last the rows of the store."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.frames import BAR_KEYS, RowSummary
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.publication.bar_files import BarPointer, point_to, put_bars
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

    Raises MissingSessionsError where a session is not predicted. A kill leaves a file that the store does not know:
    the next look publishes its bars again, and readers take what was said first.
    """
    store.require(["bar_features", "bar_predictions"], sessions, "bar_publication")
    summary, newest = RowSummary(), None
    served = [name for name, entry in BAR_MODELS.items() if entry.role != "reference"]
    for session in sessions:
        predicted = BAR_PREDICTIONS.fit(store.read("bar_predictions", session, session))
        predicted = predicted.filter(pl.col("model").is_in(served))
        empty = BAR_PUBLICATION.empty()
        said = BAR_PUBLICATION.fit(store.read_or(empty, "bar_publication", session, last=session))
        new = predicted.join(said, on=BAR_KEYS, how="anti")
        rows = empty
        if new.height:
            digest = put_bars(settings.published, session, new, now=now)
            latest = new["bar_end"].max()
            point_to(settings.published, BarPointer(session, latest, now, digest, _facts(settings)))  # pyright: ignore[reportArgumentType]
            keys = new.select(BAR_KEYS).unique().sort(BAR_KEYS)
            rows = keys.with_columns(digest=pl.lit(digest), published_at=pl.lit(now).cast(UTC_TIME))
            newest = latest
        store.write([Change("bar_publication", rows, makes=[session])])
        summary.add(rows)
    return PublishedBars(summary, newest)  # pyright: ignore[reportArgumentType]


def _facts(settings: Settings) -> dict[str, object]:
    return {
        "source": settings.source,
        "exchange": settings.exchange,
        "interval": settings.interval,
        "horizon": settings.horizon,
        "barrier_width": settings.barrier_width,
        "in_service": BAR_IN_SERVICE,
    }
