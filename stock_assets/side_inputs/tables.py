"""What the side inputs keep. Every table has the same five columns first, and versions that are only ever added.

`session` is the first session at whose close a row was known, so a feature of session t reads rows with `session <= t`
and no others (`as_of.rows_by`). It follows from `known_at` and the calendar.
"""

from collections.abc import Collection

import polars as pl

from stock_assets.errors import TableError
from stock_assets.tables import SESSION, UTC_TIME, Column, Table, declare

#: What an announcement's date comes from, the surest first: a filing or a file of what happened, the vendor's calendar
#: of what is to come, or the date of a year before plus 364 days.
ORIGINS = ("filed", "file", "calendar", "replayed")
#: When on its day: before the open, during the session, after the close, or nobody says.
MOMENTS = ("pre", "during", "post", "unknown")

ROOM = "side_inputs"
#: What every row begins with, and of these what names the thing that it is a version of.
_TIMES = ("known_at", "fetched_at", "session")
_NAMES = ("subject", "event_time", "source")
#: The columns beside _NAMES that name a thing, of all side inputs.
_NAMING: set[str] = set()
_VALUES: set[str] = set()


def side_table(
    name: str,
    text: str,
    *,
    subject: str,
    event: str,
    values: tuple[Column, ...],
    keys: tuple[str, ...] = (),
    null_keys: tuple[str, ...] = (),
) -> Table:
    """The declaration of a side input: `subject` and `event` say what these two columns hold, `keys` and `null_keys`,
    which may be null, which of the `values` name what a row is a version of, beside subject, event_time and source.

    Raises TableError for a column that names rows in one table and is a value in another.
    """
    naming = {*keys, *null_keys}
    others = {column.name for column in values} - naming
    if shared_columns := sorted((naming & _VALUES) | (others & _NAMING)):
        raise TableError(f"{name}: the column {shared_columns[0]} is a key of one side input and a value of another")
    _NAMING.update(naming)
    _VALUES.update(others)
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
        ROOM,
        text,
        (*first, *values),
        keys=("subject", "event_time", *keys, "known_at", "fetched_at"),
        partitions="session",
    )


def naming_columns(columns: Collection[str]) -> list[str]:
    """Those of the `columns` of a side input that name the thing of which a row is a version.

    >>> naming_columns(["subject", "event_time", "known_at", "fetched_at", "session", "source", "value"])
    ['subject', 'event_time', 'source']
    """
    return [name for name in columns if name in _NAMES or name in _NAMING]


def value_columns(columns: Collection[str]) -> list[str]:
    """Those of the `columns` of a side input in which two versions of a thing may differ, besides the times."""
    return [name for name in columns if name not in (*_TIMES, *naming_columns(columns))]


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
            Column("reported", pl.Boolean(), "whether this version of a vendor's calendar says that it happened"),
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
        keys=("concept", "filing"),
        null_keys=("period_start",),
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
