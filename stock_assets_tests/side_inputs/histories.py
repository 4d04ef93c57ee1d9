"""Made-up rows of any side input: of the tables of the package as their sources write them, of others at random."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from stock_assets.market.calendar import TradingCalendar
from stock_assets.side_inputs.announcing import announcement_rows, reaction_session, with_replays
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.concepts import CONCEPTS
from stock_assets.side_inputs.tables import MOMENTS
from stock_assets.tables import UTC_TIME, Table, declared

#: What the columns of text hold, by name.
CHOICES: Mapping[str, Sequence[str]] = {
    "moment": MOMENTS,
    "kind": ("headline", "filing", "message"),
    "method": ("loughran_mcdonald", "vader"),
    "unit": ("USD",),
    "form": ("10-Q", "10-K"),
}
#: What each side input is about, where that is no ticker.
SUBJECTS: Mapping[str, Sequence[str]] = {
    "macro": ("DGS10", "T10Y2Y", "UNRATE", "CPIAUCSL", "PAYEMS", "BAA10Y", "DFF", "NFCI"),
    "scheduled_events": ("fomc", "payrolls", "cpi", "expiry"),
}


def history(name: str, calendar: TradingCalendar, tickers: Sequence[str], seed: int) -> pl.DataFrame:
    """Versions of the side input `name` over all of `calendar`, with session."""
    rng = np.random.default_rng(seed)
    make = _OF_TABLES.get(name, _anything)
    return with_session(make(declared(name), calendar, SUBJECTS.get(name, tickers), rng), calendar)


def _days(calendar: TradingCalendar, subjects: Sequence[str], each: int, rng: np.random.Generator) -> pl.DataFrame:
    """subject, day and known_at of `each` days of every subject; about a third are known ahead."""
    number = len(subjects) * each
    first, last = calendar.sessions[0].toordinal(), calendar.sessions[-1].toordinal()
    days = [datetime.fromordinal(int(day)).date() for day in rng.integers(first - 100, last + 30, number)]
    # to the second of a close, too
    lag = rng.choice([-20, -5, 0, 1, 3, 40], number) * 86400 + rng.choice([0, 3600, 72000, 75600, 80000], number)
    at = [
        datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=int(s))
        for day, s in zip(days, lag, strict=True)
    ]
    return pl.DataFrame(
        {"subject": [*subjects] * each, "day": days, "known_at": at},
        {"subject": pl.String, "day": pl.Date, "known_at": UTC_TIME},
    )


def _anything(
    table: Table, calendar: TradingCalendar, subjects: Sequence[str], rng: np.random.Generator
) -> pl.DataFrame:
    dates = _days(calendar, subjects, 40, rng)
    times = {
        "event_time": pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        "fetched_at": pl.col("known_at"),
        "source": pl.lit("made up"),
    }
    rows = dates.with_columns(**times)
    for column in table.columns:
        if column.name in (*rows.columns, "session"):
            continue
        if column.name == "reaction_session":
            values = reaction_session(rows["day"], pl.Series(["pre"]).new_from_index(0, rows.height), calendar)
        elif column.dtype == pl.String():
            values = pl.Series(rng.choice(CHOICES.get(column.name, ("a", "b", "c")), rows.height).tolist())
        elif column.dtype == pl.Date():
            values = rows["day"]
        elif column.dtype == pl.Boolean():
            values = pl.Series(rng.random(rows.height) < 0.1)
        else:
            values = pl.Series(100 * rng.random(rows.height)).cast(column.dtype)
        rows = rows.with_columns(values.alias(column.name))
    return rows.select(pl.col(name).cast(dtype) for name, dtype in table.schema.items() if name != "session")


def _announcements(
    table: Table, calendar: TradingCalendar, subjects: Sequence[str], rng: np.random.Generator
) -> pl.DataFrame:
    """A filed announcement a quarter, whose date a calendar stated before, sometimes moved or never filed."""
    assert table.name == "announcements"
    first, last = calendar.sessions[0].toordinal(), calendar.sessions[-1].toordinal()
    filed, stated = [], []
    for subject in subjects:
        for day in range(first - 300 + int(rng.integers(91)), last, 91):
            held, moment = day + int(rng.integers(-6, 7)), str(rng.choice(MOMENTS))
            published = datetime.fromordinal(day - int(rng.integers(15, 40))).replace(hour=21, tzinfo=UTC)
            before = day if rng.random() < 0.3 else held
            stated.append((subject, datetime.fromordinal(before).date(), moment, published, False))
            if before != held:
                moved = datetime.fromordinal(min(before, held) - 8).replace(hour=15, tzinfo=UTC)
                stated.append((subject, datetime.fromordinal(before).date(), moment, moved, True))
                stated.append((subject, datetime.fromordinal(held).date(), moment, moved, False))
            if rng.random() < 0.9:
                hour = {"pre": 12, "post": 21}.get(moment, 16)
                accepted = datetime.fromordinal(held).replace(hour=hour, minute=30, tzinfo=UTC)
                filed.append((subject, datetime.fromordinal(held).date(), moment, accepted, False))
    types = {"ticker": pl.String, "day": pl.Date, "moment": pl.String, "known_at": UTC_TIME, "withdrawn": pl.Boolean}
    fetched = datetime.fromordinal(last).replace(tzinfo=UTC) + timedelta(days=400)
    rows = pl.concat(
        announcement_rows(
            pl.DataFrame(each, types, orient="row"), calendar, origin=origin, source=origin, fetched_at=fetched
        )
        for origin, each in (("filed", filed), ("calendar", stated))
    )
    return with_replays(rows, calendar)


def _fundamentals(
    table: Table, calendar: TradingCalendar, subjects: Sequence[str], rng: np.random.Generator
) -> pl.DataFrame:
    """All concepts of a report each quarter, filed a month later, sometimes amended."""
    first, last = calendar.sessions[0].toordinal(), calendar.sessions[-1].toordinal()
    rows = []
    for subject in subjects:
        for number, end in enumerate(range(first - 800, last, 91)):
            for amended in (False, True) if rng.random() < 0.2 else (False,):
                filed = datetime.fromordinal(end + 30 + 25 * amended).replace(
                    hour=int(rng.integers(11, 23)), tzinfo=UTC
                )
                for concept in CONCEPTS:
                    of_day = concept in ("assets", "equity", "liabilities", "shares", "reported_shares")
                    rows.append(
                        {
                            "subject": subject,
                            "event_time": datetime.fromordinal(end).replace(tzinfo=UTC),
                            "known_at": filed,
                            "fetched_at": filed,
                            "source": "made up",
                            "concept": concept,
                            "period_start": None if of_day else datetime.fromordinal(end - 90).date(),
                            "period_end": datetime.fromordinal(end).date(),
                            "value": float(100 + 10 * rng.random() + number),
                            "unit": CONCEPTS[concept].unit,
                            "form": "10-Q/A" if amended else "10-Q",
                            "filing": f"{subject}-{number}-{amended}",
                        }
                    )
    schema = {name: dtype for name, dtype in table.schema.items() if name != "session"}
    return pl.DataFrame(rows, schema)


_OF_TABLES: Mapping[str, Callable[[Table, TradingCalendar, Sequence[str], np.random.Generator], pl.DataFrame]] = {
    "announcements": _announcements,
    "fundamentals": _fundamentals,
}
