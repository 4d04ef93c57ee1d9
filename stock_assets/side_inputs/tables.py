"""What the side inputs keep. Every table has the same five columns first, and versions that are only ever added.

`session` is the first session at whose close a row was known, so a feature of session t reads rows with `session <= t`
and no others (`as_of.rows_by`). It follows from `known_at` and the calendar.
"""

import polars as pl

from stock_assets.tables import SESSION, UTC_TIME, Column, Table, declare

#: What an announcement's date comes from, the surest first: a filing or a file of what happened, the vendor's calendar
#: of what is to come, or the date of a year before plus 364 days.
ORIGINS = ("filed", "file", "calendar", "replayed")
#: When on its day: before the open, during the session, after the close, or nobody says.
MOMENTS = ("pre", "during", "post", "unknown")


def side_table(
    name: str, text: str, *, subject: str, event: str, values: tuple[Column, ...], keys: tuple[str, ...] = ()
) -> Table:
    """The declaration of a side input: `subject` and `event` say what these two columns hold, `keys` which of the
    `values` name a row beside subject, event_time and fetched_at."""
    first = (
        Column("subject", pl.String(), subject),
        Column("event_time", UTC_TIME, event, unit="UTC"),
        Column("known_at", UTC_TIME, "when a reader could first have known the row", unit="UTC"),
        Column("fetched_at", UTC_TIME, "when the source was asked", unit="UTC"),
        Column(SESSION.name, SESSION.dtype, "the first session at whose close it was known"),
        Column("source", pl.String(), "the source that said so"),
    )
    return Table(
        name,
        "side_inputs",
        text,
        (*first, *values),
        keys=("subject", "event_time", *keys, "known_at", "fetched_at"),
        partitions="session",
    )


ANNOUNCEMENTS = declare(
    side_table(
        "announcements",
        "every version of the date of an earnings announcement: filed, in a vendor's calendar or replayed from a year "
        "before; append-only",
        subject="the ticker",
        event="the moment of the announcement; the open, noon or the close of its day where only that much is known",
        values=(
            Column("day", pl.Date(), "its day in the exchange's own time zone"),
            Column("moment", pl.String(), f"when on that day: {', '.join(MOMENTS)}"),
            Column(
                "reaction_session",
                pl.Date(),
                "the first session whose close can show the reaction: that of the day, or the next one after `post`",
            ),
            Column("origin", pl.String(), f"what says so: {', '.join(ORIGINS)}"),
            Column("withdrawn", pl.Boolean(), "whether this version says that the date no longer stands"),
            Column(
                "assumed",
                pl.Boolean(),
                "whether known_at is no observation: a file without one counts as known "
                "STOCK_ASSETS_ANNOUNCEMENT_NOTICE days ahead",
            ),
        ),
        keys=("origin",),
    )
)

FUNDAMENTALS = declare(
    side_table(
        "fundamentals",
        "every version of a figure of a company's reports, as filed and as restated; append-only",
        subject="the ticker",
        event="the end of the period that the figure is about, midnight UTC",
        values=(
            Column("concept", pl.String(), "what is reported, such as net_income (side_inputs.concepts)"),
            Column("period_start", pl.Date(), "the first day of the period; null for a figure of one day"),
            Column("period_end", pl.Date(), "the last day of the period"),
            Column("value", pl.Float64(), "the figure, in `unit`"),
            Column("unit", pl.String(), "USD, shares or USD/shares"),
            Column("form", pl.String(), "the form that holds it, such as 10-Q or 10-K/A"),
            Column("filing", pl.String(), "the accession number of the filing"),
        ),
        keys=("concept", "period_start", "filing"),
    )
)

MACRO = declare(
    side_table(
        "macro",
        "every version of a figure of an economic series: the first print and its revisions; append-only",
        subject="the series, as the source spells it",
        event="the first day of the period that the figure is about, midnight UTC",
        values=(Column("value", pl.Float64(), "the figure, in the unit of the series; null where it was withdrawn"),),
    )
)

SCHEDULED_EVENTS = declare(
    side_table(
        "scheduled_events",
        "days that the whole market knows ahead: decisions of the central bank, payrolls, consumer prices, expiries",
        subject="what happens: fomc, payrolls, cpi or expiry",
        event="when it happens",
        values=(
            Column("day", pl.Date(), "its day in the exchange's own time zone"),
            Column("reaction_session", pl.Date(), "the first session whose close can show the reaction"),
            Column("withdrawn", pl.Boolean(), "whether this version says that the date no longer stands"),
            Column(
                "assumed", pl.Boolean(), "whether known_at follows from the rule of the schedule, not from a record"
            ),
        ),
    )
)

TEXTS = declare(
    side_table(
        "texts",
        "a headline, a filing or a message about a ticker, with its tone; append-only",
        subject="the ticker",
        event="when it was published",
        values=(
            Column("kind", pl.String(), "headline, filing or message"),
            Column("name", pl.String(), "what names it at its source: an address, an accession number, an id"),
            Column("title", pl.String(), "its headline or the form of the filing"),
            Column("words", pl.Int64(), "words that were read"),
            Column("tone", pl.Float64(), "from -1 to 1, by the `method`"),
            Column(
                "method", pl.String(), "what judged the tone: loughran_mcdonald, vader or the name of a transformer"
            ),
        ),
        keys=("kind", "name", "method"),
    )
)
