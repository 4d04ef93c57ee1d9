"""What is new in the table `quarantine`."""

from datetime import date, datetime

import polars as pl

from stock_assets.market.findings import new_findings
from stock_assets.market.tables import QUARANTINE_SCHEMA
from stock_assets.storage.warehouse import Warehouse


def new_in_quarantine(store: Warehouse, findings: pl.DataFrame, seen_at: datetime) -> pl.DataFrame:
    """Those of `findings` that `quarantine` does not hold yet, as rows to append (`QUARANTINE_SCHEMA`)."""
    empty = QUARANTINE_SCHEMA.to_frame()
    if findings.is_empty():
        return empty
    first, last = findings["session"].min(), findings["session"].max()
    stored_findings = store.read_or(empty, "quarantine", first, last=last)  # pyright: ignore[reportArgumentType]: dates
    return new_findings(stored_findings, findings, seen_at)


def doubts_of(store: Warehouse, first: date, last: date) -> pl.DataFrame:
    """The findings that `quarantine` holds about sessions from `first` to `last` (`QUARANTINE_SCHEMA`)."""
    return store.read_or(QUARANTINE_SCHEMA.to_frame(), "quarantine", first, last=last)
