"""Moments as files state them: text in many forms, seconds since 1970 and their fractions, or typed columns.

A form is read where it can mean one moment alone. `02/01/2018 14:30` is no such form: 2 January or 1 February.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.tables import UTC_TIME

#: A number is taken for a time between these years; no two units of the same number then agree.
FIRST_YEAR, LAST_YEAR = 1980, 2100
_SECONDS = (315_532_800, 4_102_444_800)
#: Units of one second, the finest last.
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}

_COUNTS = "seconds, milliseconds, microseconds or nanoseconds"

#: Letters that stand for one offset from UTC, in hours. Others (CST, IST, BST) stand for several.
_LETTERS = {"Z": 0, "UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CET": 1, "CEST": 2, "HKT": 8, "JST": 9, "KST": 9}

_CLOCK = r"(?P<hour>\d{1,2}):?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
_ZONE = (
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\b\.?)?\s*(?P<zone>[+-]\d\d(?::?\d\d)?|[A-Za-z][\w/+-]*)?(?: UTC)?(?:\[[\w/+-]+\])?"
)
_DATE = r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})"
_TEXT = rf"^{_DATE}(?:(?:T|\s*,\s*|\s+){_CLOCK}{_ZONE})?$"
#: What a date in a stated format leaves over: the text from the first time of the day on.
_REST = rf"^(?:{_CLOCK}{_ZONE})?$"
_NUMBER = r"^-?\d+(?:\.\d*)?(?:[eE]\+?\d+)?$"
#: 20180102, 201801021430 and 20180102143000: digits that are a date, whose number is no plausible time.
_COMPACT = r"^(\d{4})(\d\d)(\d\d)(?:T|\s*,\s*|\s*)(\d{4,6}|\d{1,2}:.*)?(\D.*)?$"
_EXPECTED = (
    "expected a date with the year first and a time, such as 2018-01-02 14:30, 2018-01-02T14:30:00Z or "
    f"2018-01-02 09:30:00-05:00, or the {_COUNTS} since 1970"
)


class Moments(NamedTuple):
    """What a column of times says, row by row; null where a cell is empty."""

    at: pl.Series
    """the moment, Datetime in microseconds, UTC"""
    wall: pl.Series
    """date and time of the day as they are written, without a zone"""
    zoned: bool
    """whether the column itself says the zone; numbers count from 1970 in UTC"""
    dated: bool
    """whether no cell has a time of the day"""


def parse_moments(
    column: pl.Series, date_format: str | None = None, *, zone: str | None = None, place: str = "the file"
) -> Moments:
    """Reads `column`: text, numbers, dates or datetimes, of which each may mean one moment alone.

    `date_format` is a strptime format of the text; one of the date alone leaves the time of the day to us. Times that
    name no zone are those of `zone` (an IANA name), or of UTC.

    Raises SourceError, which names `place`, the row and the text, for a cell that is no time, for a column in which
    some times name a zone and others do not, and for a number that would be a time before 1980 or after 2100.

    >>> column = pl.Series(["2018-01-02 09:30:00-05:00", "2018-07-02 09:30:00-04:00"])
    >>> parse_moments(column).at.dt.strftime("%H:%M").to_list()
    ['14:30', '13:30']
    >>> parse_moments(pl.Series(["02/01/2018 14:30"]), "%m/%d/%Y").at[0].date()
    datetime.date(2018, 2, 1)
    """
    kind = column.dtype
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return _of_datetimes(column, zone, place)
    if kind.is_numeric():
        whole = column.cast(pl.Int64, strict=False)
        text = pl.select(pl.when(whole == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String)))
        text = text.to_series()
    else:
        text = column.cast(pl.String).str.strip_chars()
    text = text.set(text == "", None).alias("text")
    rows = text.to_frame()
    if date_format is not None:
        parts = _in_format(rows, date_format)
    else:
        numbers = rows.select(pl.col("text").str.contains(_NUMBER).fill_null(value=False)).to_series()
        compact = text.str.contains(r"^(19[89]\d|20\d\d)\d{4}(\d{4}|\d{6})?$").fill_null(value=False)
        if bool((numbers & ~compact).any()):
            return _of_numbers(text, place, without_text=bool((numbers | text.is_null()).all()))
        parts = _of_text(rows)
    return _moments_of_parts(text, parts, zone, date_format=date_format, place=place)


def _of_datetimes(column: pl.Series, zone: str | None, place: str) -> Moments:
    """Typed columns: a datetime without a zone is of `zone`."""
    written_zone = getattr(column.dtype, "time_zone", None)
    wall = column.cast(pl.Datetime("us")) if written_zone is None else column.dt.replace_time_zone(None)
    wall = wall.cast(pl.Datetime("us")).alias("wall")
    at = column.dt.convert_time_zone("UTC").cast(UTC_TIME) if written_zone else _in_zone(wall, zone or "UTC")
    nowhere = at.is_null() & wall.is_not_null()
    if nowhere.any():  # the text of a million times takes longer than reading them
        _refuse(wall.cast(pl.String), nowhere, f"expected a time that {zone} has once", place=place)
    return Moments(at.alias("at"), wall, zoned=written_zone is not None, dated=column.dtype == pl.Date)


def _of_numbers(text: pl.Series, place: str, *, without_text: bool) -> Moments:
    """Seconds since 1970 or their fractions: the unit of a number is the one in which it is a plausible time."""
    if not without_text:
        is_text = ~text.str.contains(_NUMBER).fill_null(value=True)
        _refuse(text, is_text, "expected a number as in the other rows, or all times as text", place=place)
    number, exact = text.cast(pl.Float64), text.cast(pl.Int64, strict=False)
    first, last = _SECONDS
    micros = pl.select(
        pl.coalesce(
            pl.when(number.is_between(first * unit, last * unit)).then(
                pl.coalesce(
                    exact * 10**6 // unit if unit < 10**6 else exact // (unit // 10**6),
                    (number / unit * 10**6).round().cast(pl.Int64, strict=False),
                )
            )
            for unit in _UNITS.values()
        )
    ).to_series()
    is_unread = micros.is_null() & number.is_not_null()
    if bool(is_unread.any()):
        first_number = number.filter(is_unread)[0]
        reading = min(_UNITS, key=lambda name: abs(first_number / _UNITS[name] - sum(_SECONDS) / 2))
        moment = datetime(1970, 1, 1) + timedelta(seconds=max(-6e10, min(first_number / _UNITS[reading], 2.5e11)))
        meaning = (
            f"which as {reading} since 1970 would be {moment:%Y-%m-%d %H:%M:%S}; expected a time from {FIRST_YEAR} to"
        )
        _refuse(text, is_unread, f"{meaning} {LAST_YEAR}, as text or as the {_COUNTS} since 1970", place=place)
    is_rounded = text.str.contains("[eE]").fill_null(value=False) & (micros % 60_000_000 != 0)
    _refuse(text, is_rounded, "a number that was rounded when it was written; expected all its digits", place=place)
    wall = micros.cast(pl.Datetime("us")).alias("wall")
    return Moments(wall.dt.replace_time_zone("UTC").alias("at"), wall, zoned=True, dated=False)


def _of_text(rows: pl.DataFrame) -> pl.DataFrame:
    """year, month, day, hour, minute, second, fraction, half, zone as text; year is null in a row that has no form."""
    compact = pl.col("text").str.replace(_COMPACT, "${1}-${2}-${3}T${4}${5}").str.replace(r"(\d)T$", "${1}")
    compact = compact.str.replace(r"(\d)-([AaPp][Mm])$", "${1}:00 ${2}")  # of CryptoDataDownload
    return rows.select(compact.str.extract_groups(_TEXT)).unnest("text")


def _in_format(rows: pl.DataFrame, date_format: str) -> pl.DataFrame:
    """As `_of_text`, of dates in `date_format`; the parts of the time are read by it too where it has an hour."""
    if any(sign in date_format for sign in ("%H", "%I", "%T", "%R", "%s", "%c", "%k", "%l")):
        kind = pl.Datetime("us", "UTC") if "%z" in date_format or "%:z" in date_format else pl.Datetime("us")
        moment = pl.col("text").str.strptime(kind, date_format, strict=False)
        zone = pl.lit("UTC") if kind.time_zone else pl.lit(None, pl.String)
        signs = {"hour": "%H", "minute": "%M", "second": "%S", "fraction": "%6f"}
        times = [moment.dt.strftime(sign).alias(name) for name, sign in signs.items()]
    else:
        split = r"^(.*?)(?:(?:T|\s*,\s*|\s+)(\d{1,2}:\d\d.*))?$"
        moment = pl.col("text").str.extract(split, 1).str.strptime(pl.Date, date_format, strict=False)
        rest_parts = pl.col("text").str.extract(split, 2).fill_null("").str.extract_groups(_REST)
        times = [rest_parts.struct.field(name) for name in ("hour", "minute", "second", "fraction", "half")]
        zone = rest_parts.struct.field("zone")
    date = [moment.dt.strftime(sign).alias(name) for name, sign in {"year": "%Y", "month": "%m", "day": "%d"}.items()]
    return rows.select(*date, *times, zone.alias("zone"))


def _moments_of_parts(
    text: pl.Series, parts: pl.DataFrame, zone: str | None, *, date_format: str | None, place: str
) -> Moments:
    """The moments of `parts` (`_of_text`), the parts of `text`."""
    numbers = {name: pl.col(name).cast(pl.Int64, strict=False) for name in ("year", "month", "day")}
    hour = pl.col("hour").cast(pl.Int64, strict=False).fill_null(0)
    if "half" in parts.columns:
        in_half = pl.when(hour.is_between(1, 12)).then(hour % 12 + 12 * pl.col("half").str.to_lowercase().eq("p"))
        hour = pl.when(pl.col("half").is_null()).then(hour).otherwise(in_half)
    minute, second = (pl.col(name).cast(pl.Int64, strict=False).fill_null(0) for name in ("minute", "second"))
    micro = pl.col("fraction").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64, strict=False).fill_null(0)
    possible = hour.is_between(0, 23) & minute.is_between(0, 59) & second.is_between(0, 59)
    possible &= numbers["month"].is_between(1, 12) & numbers["day"].is_between(1, 31)
    date = pl.concat_str(pl.col("year"), pl.col("month").str.zfill(2), pl.col("day").str.zfill(2))
    clock = pl.duration(hours=hour, minutes=minute, seconds=second, microseconds=micro)
    wall = parts.select(
        wall=pl.when(possible).then(date.str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us")) + clock)
    )["wall"]
    is_unread = wall.is_null() & text.is_not_null()
    if bool(is_unread.any()):
        year_first = parts.filter(is_unread)["year"][0] is not None
        _refuse(text, is_unread, _advice(text.filter(is_unread)[0], year_first, date_format), place=place)
    zones = parts["zone"]
    named_count = (parts["zone"].is_not_null() & wall.is_not_null()).sum()
    if 0 < named_count < wall.drop_nulls().len():
        _refuse(text, zones.is_null() & wall.is_not_null(), "without a zone, which other rows name", place=place)
    at = pl.Series("at", [None] * len(wall), UTC_TIME)
    for name in [zone or "UTC"] if named_count == 0 else zones.unique().drop_nulls():
        here = pl.Series([True]).new_from_index(0, len(wall)) if named_count == 0 else zones == name
        times_of_zone = _in_zone(wall.set(~here.fill_null(value=False), None), name)
        is_lost = here.fill_null(value=False) & times_of_zone.is_null() & wall.is_not_null()
        _refuse(text, is_lost, f"but {name} is no one offset from UTC then; expected one such as -05:00", place=place)
        at = at.zip_with(times_of_zone.is_null(), times_of_zone)
    return Moments(at.alias("at"), wall, zoned=named_count > 0, dated=bool(parts["hour"].is_null().all()))


def _in_zone(wall: pl.Series, zone: str) -> pl.Series:
    """`wall` in UTC; null where `zone` has that time twice, or never, or is no zone."""
    hours = _LETTERS.get(zone.upper())
    if hours is None and zone[0] in "+-":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        hours = (int(digits[:2]) + int(digits[2:]) / 60) * (-1 if zone[0] == "-" else 1)
    if hours is not None:
        shift = pl.duration(minutes=round(hours * 60))
        return wall.to_frame("at").select((pl.col("at") - shift).dt.replace_time_zone("UTC"))["at"].cast(UTC_TIME)
    try:
        local = wall.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    except pl.exceptions.PolarsError:
        return pl.Series([None] * len(wall), dtype=UTC_TIME)
    return local.dt.convert_time_zone("UTC").cast(UTC_TIME)


def _advice(text: str, year_first: bool, date_format: str | None) -> str:
    if date_format is not None:
        return f"which STOCK_ASSETS_DATE_FORMAT={date_format} does not fit"
    if year_first or not any(sign.isdigit() for sign in text):
        return _EXPECTED
    return (
        f"whose order of day and month is not certain; {_EXPECTED}, or STOCK_ASSETS_DATE_FORMAT set to the format of "
        "the dates, such as %m/%d/%Y or %d.%m.%Y"
    )


def _refuse(text: pl.Series, is_wrong: pl.Series, expected: str, *, place: str) -> None:
    """SourceError for the first row that is `is_wrong`."""
    rows = is_wrong.fill_null(value=False).arg_true()
    if len(rows):
        further_rows = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
        raise SourceError(f"{place}, row {rows[0] + 1}, a time: found {text[rows[0]]!r}, {expected}{further_rows}")
