"""The days of a file."""

import re

import polars as pl

from stock_assets.errors import SourceError

#: Dates that can mean one day alone, perhaps with a time after them; each with the format of what it captures.
_FORMS = (
    (r"^(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(?:[ T,].*)?$", "%Y-%m-%d"),
    (r"^(\d{4})(\d{2})(\d{2})(?:[ T].*|\.0)?$", "%Y-%m-%d"),
    (r"^(?:[A-Za-z]{3,9},? )?([A-Za-z]{3})[a-z]*\.? (\d{1,2}),? (\d{4})(?:[ ,].*)?$", "%b-%d-%Y"),
    (r"^(?:[A-Za-z]{3,9},? )?(\d{1,2})[- ]([A-Za-z]{3})[a-z]*\.?[- ,]+(\d{4})(?:[ ,].*)?$", "%d-%b-%Y"),
    (r"^(\d{1,2})-([A-Za-z]{3})-(\d{2})$", "%d-%b-%y"),
)
#: Either day or month comes first, or a year of two digits does.
_EITHER = r"^(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}|\d{2})(?:[ T,].*)?$"
_REST = r"(?:[ T]+\d{1,2}:\d\d.*)?$"


def sessions(column: pl.Series, date_format: str | None, place: str) -> pl.Series:
    """The local trading date of each row of `column`: dates, times, numbers or text; null where it cannot be read.

    Raises SourceError, which names the setting, where every date could be two.
    """
    if column.dtype == pl.Date:
        return column
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.date()
    text = pl.Series("date", column.cast(pl.String)).str.strip_chars()
    text = text.set(text == "", None)
    dates = text.to_frame().select(pl.coalesce(_days_in_format(date_format), *map(_form, *zip(*_FORMS, strict=True))))
    days = dates.to_series()
    if days.null_count() == len(days) and text.null_count() < len(text):
        _refuse(text.drop_nulls(), date_format, place)
    return days


def _days_in_format(date_format: str | None) -> pl.Expr:
    """By STOCK_ASSETS_DATE_FORMAT, with or without the time of the day that the text has."""
    if date_format is None:
        return pl.lit(None, pl.Date)
    text = pl.col("date")
    whole = text.str.strptime(pl.Date, date_format, strict=False)
    return pl.coalesce(whole, text.str.replace(_REST, "").str.strptime(pl.Date, date_format, strict=False))


def _form(pattern: str, date_format: str) -> pl.Expr:
    parts = pl.col("date").str.extract_groups(pattern)
    text = pl.concat_str([parts.struct.field(str(i)) for i in (1, 2, 3)], separator="-")
    return text.str.to_date(date_format, strict=False)


def _refuse(text: pl.Series, date_format: str | None, place: str) -> None:
    first = text[0]
    if date_format is not None:
        raise SourceError(
            f"{place} has dates such as {first!r}, which STOCK_ASSETS_DATE_FORMAT={date_format} does not read"
        )
    if not text.str.contains(_EITHER).all():
        return
    separator = re.sub(r"[\d]", "", first)[:1]
    year = "%Y" if re.match(r"^\d+\D\d+\D\d{4}", first) else "%y"
    day_first, month_first = separator.join(("%d", "%m", year)), separator.join(("%m", "%d", year))
    firsts, seconds = (text.str.extract(_EITHER, i).cast(pl.Int64).max() for i in (1, 2))
    message = f"{place} writes dates as {first!r}, in which day and month could be either"
    if firsts > 12 >= seconds:  # pyright: ignore[reportOperatorIssue]: integers
        message += f"; its other dates fit {day_first} alone"
    elif seconds > 12 >= firsts:  # pyright: ignore[reportOperatorIssue]
        message += f"; its other dates fit {month_first} alone"
    raise SourceError(f"{message}: set STOCK_ASSETS_DATE_FORMAT to {day_first} or {month_first}")
