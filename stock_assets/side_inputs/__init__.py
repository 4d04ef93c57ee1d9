"""What the market already knows beside prices: announcements, fundamentals, macro figures, texts.

Every row says when a reader could first have known it. A side input is one table declaration (`tables`), one or more
source classes (`SideSource`) and one entry (`registry`). Features read all of them through `as_of.rows_by` alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import ClassVar, Protocol, runtime_checkable

import polars as pl

from stock_assets.market.sources import Failure


@dataclass(frozen=True)
class SideAnswer:
    """What a source of a side input said."""

    rows: pl.DataFrame
    """of the table of the side input, without `session`, which follows from known_at and the calendar"""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """by subject: why there is no answer; these have no row"""
    notes: Sequence[str] = ()
    """what a reader should know of the answer, such as a date that is not sure, one line each"""
    states_all_of: Collection[str] = ()
    """subjects of which the answer states every coming event: of a table with the column `withdrawn`, a stored row of
    this source whose event_time is still to come and that the answer lacks is withdrawn"""


class SideSource(Protocol):
    """A source of one side input."""

    name: ClassVar[str]
    """written into the column `source`"""

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """What became known of `subjects` from session `first` to session `last`, as of `fetched_at` (UTC).

        `subjects` are tickers, or the series of the side input. An answer may hold more: rows that are stored already
        are not added again. Nothing that became known after `fetched_at` is used. Raises SourceError where the source
        as a whole cannot answer.
        """
        ...


@runtime_checkable
class ReadsStored(Protocol):
    """A source that asks for less where the store holds something already."""

    def with_stored(self, rows: pl.DataFrame) -> SideSource:
        """The same source, which knows the versions `rows` that the store has of its side input."""
        ...
