"""Screen 8: which companies report in the coming weeks, and how far past announcements moved them."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from stock_assets.publication.read import Publication

#: Reactions that are listed; the sessions that they may lie back.
LISTED, SESSIONS_BACK = 20, 7
MOMENTS = {"pre": "before the open", "during": "during the session", "post": "after the close", "unknown": "–"}
ORIGINS = {"filed": "filing", "file": "file", "calendar": "vendor's calendar", "replayed": "a year before"}


@dataclass(frozen=True)
class ReportingDay:
    """The companies of one reaction session, by ticker."""

    session: date
    rows: tuple[dict[str, Any], ...]

    @property
    def groups(self) -> tuple[tuple[str, tuple[dict[str, Any], ...]], ...]:
        """(when on the day, rows), in the order of the day."""
        groups = {when: tuple(row for row in self.rows if row["when"] == when) for when in MOMENTS.values()}
        return tuple((when if when != "–" else "time unknown", rows) for when, rows in groups.items() if rows)


@dataclass(frozen=True)
class AnnouncementsView:
    """What the screen shows."""

    session: date | None
    days: tuple[ReportingDay, ...]
    """of sessions to come, ascending"""
    reactions: tuple[dict[str, Any], ...]
    """of the last sessions, the largest move first"""

    @property
    def expected(self) -> int:
        return sum(len(day.rows) for day in self.days)


def announcements_view(publication: Publication | None) -> AnnouncementsView:
    """The view of `publication`; None before anything was published."""
    if publication is None or not publication.pointer.sessions:
        return AnnouncementsView(None, (), ())
    sessions = publication.pointer.sessions
    rows = _with_names(publication, publication.monitoring("announcements"))
    coming = rows.filter(~pl.col("happened")).sort("reaction_session", "ticker")
    lately = rows.filter("happened", pl.col("reaction_session") >= sessions[-SESSIONS_BACK:][0])
    largest_moves = lately.drop_nulls("residual_return").sort(-pl.col("residual_return").abs(), "ticker").head(LISTED)
    days = coming.partition_by("reaction_session", as_dict=True, maintain_order=True)
    return AnnouncementsView(
        sessions[-1],
        tuple(ReportingDay(of_day["reaction_session"][0], tuple(of_day.to_dicts())) for of_day in days.values()),
        tuple(largest_moves.to_dicts()),
    )


def of_ticker(publication: Publication, ticker: str) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """(what is expected of `ticker`, ascending; its last reactions, the newest first)."""
    own = publication.monitoring("announcements").filter(pl.col("ticker") == ticker).sort("reaction_session")
    own = _in_words(own)
    past = own.filter("happened").sort("reaction_session", descending=True)
    return tuple(own.filter(~pl.col("happened")).to_dicts()), tuple(past.to_dicts())


def _with_names(publication: Publication, rows: pl.DataFrame) -> pl.DataFrame:
    names = publication.bars(publication.pointer.sessions[-1]).select("ticker", "name")
    return _in_words(rows).join(names, on="ticker", how="left", maintain_order="left")


def _in_words(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        when=pl.col("moment").replace_strict(MOMENTS, default="–", return_dtype=pl.String),
        says=pl.col("origin").replace_strict(ORIGINS, default="–", return_dtype=pl.String),
    )
