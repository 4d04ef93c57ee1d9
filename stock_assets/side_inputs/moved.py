"""Dates that a vendor moved: its answer lacks a coming date that stood, which is then withdrawn by a new version."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol, runtime_checkable

import polars as pl

from stock_assets.tables import UTC_TIME


@runtime_checkable
class ReadsStored(Protocol):
    """A source whose answer depends on what is stored: which dates no longer stand, and which subjects are due."""

    def with_stored(self, rows: pl.DataFrame) -> "ReadsStored":
        """The same source, which knows the versions `rows` that the store has of its side input."""
        ...


def standing(stored: pl.DataFrame, source: str, *, by: datetime) -> pl.DataFrame:
    """The newest version of every date of `source` in `stored` that was known by `by`, less those withdrawn."""
    versions = stored.filter(pl.col("source") == source, pl.col("known_at") <= by)
    newest = versions.sort("known_at", "fetched_at", maintain_order=True)
    newest = newest.unique(["subject", "event_time"], keep="last", maintain_order=True)
    return newest.filter(~pl.col("withdrawn"))


def moved(
    stored: pl.DataFrame, answered: pl.DataFrame, *, source: str, subjects: Collection[str], fetched_at: datetime
) -> pl.DataFrame:
    """The coming dates of `source` that stood in `stored` and that `answered` lacks, each as a version that withdraws
    it, known at `fetched_at`.

    `answered` has subject and event_time of all dates in the answer, `subjects` are those that were answered: of others
    nothing is withdrawn, and neither is a date that has passed.

    Returns the columns of `stored` without session.
    """
    coming = standing(stored, source, by=fetched_at).filter(
        pl.col("event_time") > fetched_at, pl.col("subject").is_in(list(subjects))
    )
    gone = coming.join(answered.select("subject", "event_time"), on=["subject", "event_time"], how="anti")
    now = pl.lit(fetched_at).cast(UTC_TIME)
    return gone.with_columns(
        withdrawn=pl.lit(value=True), assumed=pl.lit(value=False), known_at=now, fetched_at=now
    ).select(pl.exclude("session"))
