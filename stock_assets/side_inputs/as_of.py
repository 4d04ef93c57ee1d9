"""The one way in which time enters the side inputs: since which session a row is known, and which version stands.

Everything that reads a side input for session t reads `rows_by(rows, t)`, or rows with `session <= t`.
"""

from datetime import date, datetime

import polars as pl

from stock_assets.market.adjustments import SETTLING
from stock_assets.market.calendar import TradingCalendar
from stock_assets.side_inputs.tables import naming_columns, value_columns

#: The later of two versions is the one that was known later; of one moment, the one that was fetched later.
_ORDER = ("known_at", "fetched_at")


def known_session(known_at: pl.Series, calendar: TradingCalendar) -> pl.Series:
    """Date: the first session of `calendar` whose close is at or after each of `known_at` (UTC).

    The first session stands for all that was known before; null after the last close.

    >>> from stock_assets.market.calendar import trading_calendar
    >>> calendar = trading_calendar("XNYS", date(2024, 7, 1), date(2024, 7, 31))
    >>> closes = pl.Series(["2024-07-03 17:00", "2024-07-03 17:01"]).str.to_datetime(time_zone="UTC")
    >>> [str(session) for session in known_session(closes, calendar)]  # it closes at 13:00 in New York
    ['2024-07-03', '2024-07-05']
    """
    closes = pl.Series([calendar.closes.get(day) or calendar.day_over(day) for day in calendar.sessions])
    places = closes.cast(pl.Datetime("us", "UTC")).search_sorted(known_at.cast(pl.Datetime("us", "UTC")), side="left")
    sessions = pl.Series("session", [*calendar.sessions, None], dtype=pl.Date)
    return sessions.gather(places).set(known_at.is_null(), None)


def with_session(rows: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """`rows` of a side input with the column session, without those that no session of `calendar` knows."""
    rows_with_session = rows.with_columns(known_session(rows["known_at"], calendar).alias("session"))
    return rows_with_session.filter(pl.col("session").is_not_null())


def rows_by(rows: pl.DataFrame, session: date, *, fetched_by: datetime | None = None) -> pl.DataFrame:
    """The version of everything in `rows` (of one side input) that was known at the close of `session`, oldest first;
    one that was withdrawn is there, marked so.

    With `fetched_by` (an aware moment), only of what had been fetched by then.
    """
    known_rows = rows.filter(pl.col("session") <= session)
    if fetched_by is not None:
        known_rows = known_rows.filter(pl.col("fetched_at") <= fetched_by)
    return known_rows.sort(_ORDER, maintain_order=True).unique(
        naming_columns(rows.columns), keep="last", maintain_order=True
    )


def late_rows(rows: pl.DataFrame, moment: datetime, bars_fetched: pl.DataFrame) -> pl.DataFrame:
    """The versions of `rows` that were fetched after `moment` although the bars of their session were there long
    before, so that something had been made without them.

    `bars_fetched` (session, first_fetched in UTC) holds since when the bars are there. No row of a side input that is
    new after `moment` is late.
    """
    if rows.filter(pl.col("fetched_at") <= moment).is_empty():
        return rows.clear()
    later_rows = rows.filter(pl.col("fetched_at") > moment).join(bars_fetched, on="session")
    is_late = (pl.col("first_fetched") <= moment) & (pl.col("fetched_at") > pl.col("first_fetched") + SETTLING)
    return later_rows.filter(is_late).select(rows.columns)


def new_versions(stored_rows: pl.DataFrame, answered_rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `answered_rows` that `stored_rows` lacks, in the order in which they were known: what to append.

    A row whose values are those that stand already at its known_at, stored or answered, is no new version.
    """
    names, values = naming_columns(answered_rows.columns), value_columns(answered_rows.columns)
    # most of an answer is what was answered the evening before: those rows are found by one join
    newest = stored_rows.sort("fetched_at", maintain_order=True).unique([*names, "known_at"], keep="last")
    unseen_rows = answered_rows.join(newest, on=[*names, "known_at", *values], how="anti", nulls_equal=True)
    before = stored_rows.select(answered_rows.columns).join(unseen_rows, on="subject", how="semi")
    joint_rows = pl.concat([before.with_columns(new=False), unseen_rows.with_columns(new=True)])
    joint_in_order = joint_rows.sort("known_at", "new", "fetched_at", maintain_order=True)
    previous = joint_in_order.select(
        there=pl.col("new").shift().over(names).is_not_null(),
        same=pl.all_horizontal(
            pl.lit(value=True), *(pl.col(name).eq_missing(pl.col(name).shift().over(names)) for name in values)
        ),
    )
    return joint_in_order.filter(pl.col("new") & ~(previous["there"] & previous["same"])).drop("new")
