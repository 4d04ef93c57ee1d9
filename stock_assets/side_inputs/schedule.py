"""Which announcements stand on which session: the versions of all origins, resolved into intervals."""

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.side_inputs.tables import ORIGINS

#: A surer row replaces a less sure one whose day is at most so far from its own.
NEAR = timedelta(days=45)
#: One that states a date of its own, a file or a vendor's calendar, keeps a date so long after a surer one: a company
#: that announces twice in a quarter still announces the second time. A replayed date states none.
LATER = timedelta(days=10)
#: No older row decides when one stands: a replayed one ends with that of a year before, any with one NEAR that may have
#: ended with one NEAR of its own.
_DECIDED_BY = timedelta(days=364) + 3 * NEAR

SCHEDULE = pl.Schema(
    {
        "ticker": pl.String,
        "reaction_session": pl.Date,
        "day": pl.Date,
        "moment": pl.String,
        "origin": pl.String,
        "known_from": pl.Date,
        "known_until": pl.Date,
    }
)

_THING = ("subject", "event_time", "origin", "source")
#: After every session: the end of what still stands.
_OPEN = pl.lit("9999-12-31").str.to_date()


def schedule_of(rows: pl.DataFrame, calendar: TradingCalendar, since: date = date.min) -> pl.DataFrame:
    """`SCHEDULE`, sorted by ticker, reaction_session and known_from, of versions `rows` (of `announcements`).

    At session t the rows with known_from <= t and known_until after t, or null, are the schedule: those with
    reaction_session <= t are past reactions, the others expected ones. A row of one origin is replaced by one of a
    surer origin (ORIGINS) within NEAR from its known_from on, and does not come back. An expected date that passed
    without a filing stops standing after its session, unless the vendor's calendar says that it happened; a replayed
    one stops with the announcement that it repeats. Of two rows with one reaction session and origin the one that was
    known first stands. Rows known later than t change nothing at t. Announcements before the day `since` may be left
    out, which takes less time.
    """
    if since - date.min > _DECIDED_BY:
        rows = rows.filter(pl.col("day") >= since - _DECIDED_BY)
    versions = _ends_with_the_next_version(rows, calendar)
    standing: dict[str, pl.DataFrame] = {}
    for origin in ORIGINS:
        less_sure = versions.filter(pl.col("origin") == origin)
        if origin == "replayed":
            less_sure = _ends_with_what_it_repeats(less_sure, standing)
        surer = pl.concat(standing.values()) if standing else less_sure.clear()
        standing[origin] = _first_known(
            _without_replaced_rows(less_sure, surer, later=NEAR if origin == "replayed" else LATER)
        )
    return (
        pl.concat(standing.values())
        .filter(pl.col("reaction_session").is_not_null())  # an older one is there for the date that repeats it
        .rename({"subject": "ticker"})
        .with_columns(known_until=pl.when(pl.col("known_until") < _OPEN).then("known_until"))
        .select(SCHEDULE.names())
        .sort("ticker", "reaction_session", "known_from", "origin")
    )


def _ends_with_the_next_version(rows: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """The versions that stand at some session, with known_from and known_until: to the next version of the same thing,
    and a date that is only expected to its session at most."""
    sessions = pl.Series(calendar.sessions, dtype=pl.Date)
    after = sessions.extend_constant(None, 1).gather(sessions.search_sorted(rows["reaction_session"], side="right"))
    only_expected = (pl.col("origin") == "replayed") | (
        (pl.col("origin") == "calendar") & ~pl.col("reported").fill_null(value=False)
    )
    rows_in_order = rows.with_columns(after=after).sort("session", "known_at", "fetched_at", maintain_order=True)
    return (
        rows_in_order.with_columns(
            known_from=pl.col("session"),
            known_until=pl.min_horizontal(
                pl.col("session").shift(-1).over(_THING).fill_null(_OPEN),
                pl.when(only_expected).then("after").fill_null(_OPEN),
            ),
        )
        .filter(
            pl.col("known_from") < pl.col("known_until"),
            ~pl.col("withdrawn").fill_null(value=False),
        )
        .select(*_THING, "reaction_session", "day", "moment", "known_from", "known_until")
        .with_row_index("row")
    )


def _ends_with_what_it_repeats(replayed_rows: pl.DataFrame, standing: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """`replayed_rows` until the filed row, or that of a file, of a year before stops standing."""
    # it was replaced as a whole where no interval of it is left
    originals = pl.concat([standing["filed"], standing["file"]]).group_by("subject", "source", "event_time")
    ends = originals.agg(ended=pl.col("known_until").max()).with_columns(pl.col("event_time") + timedelta(days=364))
    repeated_rows = replayed_rows.join(ends, on=["subject", "source", "event_time"], how="inner", maintain_order="left")
    until = repeated_rows.with_columns(known_until=pl.min_horizontal("known_until", "ended")).drop("ended")
    return until.filter(pl.col("known_from") < pl.col("known_until"))


def _without_replaced_rows(less_sure: pl.DataFrame, surer: pl.DataFrame, *, later: timedelta) -> pl.DataFrame:
    """`less_sure` until the first of `surer` near it stands; its day may be `later` than the surer one at most."""
    other = surer.select("subject", other="day", begins="known_from", ends="known_until")
    cuts = (
        less_sure.select("row", "subject", "day", "known_from", "known_until")
        .join(other, on="subject")
        .filter(
            (pl.col("day") - pl.col("other")).is_between(-NEAR, later),
            pl.col("begins") < pl.col("known_until"),
            pl.col("ends") > pl.col("known_from"),
        )
        .group_by("row")
        .agg(cut=pl.col("begins").min())
    )
    remaining_rows = less_sure.join(cuts, on="row", how="left", maintain_order="left")
    remaining_rows = remaining_rows.with_columns(known_until=pl.min_horizontal("known_until", "cut")).drop("cut")
    return remaining_rows.filter(pl.col("known_from") < pl.col("known_until"))


def _first_known(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of one origin without the time in which another of the same reaction session stands that was known
    before."""
    rows_in_order = rows.sort("known_from", "event_time", "source", "row").with_row_index("place")
    pairs = rows_in_order.select("place", "subject", "reaction_session", "known_from", "known_until")
    earlier = pairs.join(pairs, on=["subject", "reaction_session"], suffix="_first").filter(
        pl.col("place_first") < pl.col("place"), pl.col("known_until_first") > pl.col("known_from")
    )
    begins = earlier.group_by("place").agg(begins=pl.col("known_until_first").max())
    later_rows = rows_in_order.join(begins, on="place", how="left", maintain_order="left")
    later_rows = later_rows.with_columns(known_from=pl.max_horizontal("known_from", "begins")).drop("begins", "place")
    return later_rows.filter(pl.col("known_from") < pl.col("known_until"))
