"""The filings of a company as EDGAR lists them, and the moments at which they were accepted and could be read.

`acceptanceDateTime` looks like UTC ("2025-05-01T16:21:59.000Z") and is not always: of 808 members of the S&P 500, 624
have it in UTC, 181 have the clock of New York with the same Z, and 3 have both
(github.com/john-friedman/datamule-python/issues/115, which compared 64,936 filings with their headers; also
github.com/dgunning/edgartools/issues/557). Which one it is belongs to the company. EDGAR's own hours tell them apart:
it accepts filings from 6:00 to 22:00 in New York, and one that is accepted until 17:30 has the date of its day, a later
one that of the next working day.
"""

from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any, NamedTuple

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.tables import UTC_TIME

NEW_YORK = "America/New_York"
#: `accession` names a filing, `filed` is its official date, `report` the end of the period of a report or the day of
#: what an 8-K reports, `items` those of an 8-K. `accepted` is null where EDGAR has no time, `known_at` never.
FILINGS = pl.Schema(
    {
        "accession": pl.String,
        "form": pl.String,
        "filed": pl.Date,
        "report": pl.Date,
        "items": pl.String,
        "accepted": UTC_TIME,
        "known_at": UTC_TIME,
    }
)
_COLUMNS = {
    "accessionNumber": "accession",
    "form": "form",
    "filingDate": "filed",
    "reportDate": "report",
    "items": "items",
    "acceptanceDateTime": "stated",
}
#: Forms whose date follows the rule of 17:30; ownership reports, for one, have the date of the day until 22:00.
_DATED_FORMS = ("8-K", "10-Q", "10-K", "10-KT", "10-QT")
_ACCEPTED = (time(6), time(22))
#: A transmission that began before 17:30 may be accepted some while later with the date of its day.
_SAME_DAY_UNTIL = time(18, 30)
_NEXT_DAY_FROM = time(17, 30)


def filings_of(pages: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The filings of the `pages` of a company (`page_of`), as `FILINGS`, by `known_at`.

    A filing is known from its acceptance on, but not before 6:00 of its official date: one that is accepted after 17:30
    is published the next working day. Without a time it is known at the end of its date.
    """
    unique_filings = pl.concat(pages).unique("accession", keep="first", maintain_order=True)
    opening = pl.col("filed").cast(pl.Datetime("us")) + pl.duration(hours=6)
    day_end = pl.col("filed").cast(pl.Datetime("us")) + pl.duration(days=1)
    return (
        accepted(unique_filings)
        .with_columns(
            known_at=pl.when(pl.col("accepted").is_null())
            .then(_in_utc(day_end))
            .otherwise(pl.max_horizontal("accepted", _in_utc(opening)))
        )
        .sort("known_at", "accession")
        .select(FILINGS.names())
        .match_to_schema(FILINGS)
    )


def accepted(filings: pl.DataFrame) -> pl.DataFrame:
    """`filings` (form, filed and the text `stated`) with `accepted`, in UTC; null where the text is empty.

    A text without a zone, as in the headers of filings (20250501162159), has the clock of New York. One with a Z has
    that of UTC or of New York: the one that EDGAR's hours and the date allow; where they allow both, the one that most
    filings of these have that allow one; and UTC, as it is written, where none decides.

    >>> when = ["2025-05-01T16:21:59.000Z", "2025-05-01T06:21:59.000Z"]  # 6:21 in UTC is 2:21 in New York
    >>> filings = pl.DataFrame({"form": "8-K", "filed": [date(2025, 5, 1)] * 2, "stated": when})
    >>> [moment.hour for moment in accepted(filings)["accepted"]]
    [20, 10]
    """
    text = pl.col("stated").fill_null("")
    digits = text.str.replace_all(r"\D", "").str.slice(0, 14)
    offset = text.str.extract(r"T.*([+-]\d\d:?\d\d)$")
    minutes = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1) * (
        offset.str.slice(1, 2).cast(pl.Int64) * 60 + offset.str.slice(-2).cast(pl.Int64)
    )
    frame = filings.with_columns(clock=digits.str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False))
    frame = frame.with_columns(
        as_utc=pl.col("clock").dt.replace_time_zone("UTC").cast(UTC_TIME),
        as_local=_in_utc(pl.col("clock")),
        zoned=text.str.ends_with("Z"),
        minutes=minutes,
    ).with_columns(utc_fits=_fits("as_utc"), local_fits=_fits("as_local"))
    is_decided = pl.col("zoned") & (pl.col("utc_fits") != pl.col("local_fits"))
    local = frame.select((is_decided & pl.col("local_fits")).sum() > (is_decided & pl.col("utc_fits")).sum()).item()
    by_rule = pl.when(is_decided).then("local_fits").otherwise(pl.lit(local))
    return frame.with_columns(
        accepted=pl.when(pl.col("minutes").is_not_null())
        .then(pl.col("as_utc") - pl.duration(minutes="minutes"))
        .when(pl.col("zoned") & ~by_rule)
        .then("as_utc")
        .otherwise("as_local")
    ).drop("clock", "as_utc", "as_local", "zoned", "minutes", "utc_fits", "local_fits")


def _fits(column: str) -> pl.Expr:
    """Whether EDGAR can have accepted the filing at this moment and given it its date."""
    local = pl.col(column).dt.convert_time_zone(NEW_YORK)
    clock = local.dt.time()
    day = local.dt.date()
    is_dated = pl.col("form").str.strip_suffix("/A").is_in(_DATED_FORMS)
    same_day, later = pl.col("filed") == day, pl.col("filed") > day
    by_date = (same_day & (clock <= _SAME_DAY_UNTIL)) | (later & (clock > _NEXT_DAY_FROM))
    return (clock.is_between(*_ACCEPTED) & (~is_dated | by_date)).fill_null(value=False)


def _in_utc(local: pl.Expr) -> pl.Expr:
    """The clock of New York in UTC; the later of the two where it was set back."""
    zoned = local.dt.replace_time_zone(NEW_YORK, ambiguous="latest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC").cast(UTC_TIME)


class Page(NamedTuple):
    """A page of older filings: its name, and the dates of the first and the last filing on it."""

    name: str
    first: date
    last: date


def older_pages(document: Mapping[str, Any]) -> list[Page]:
    """The pages of a company's older filings. Raises SourceError."""
    try:
        pages = document["filings"].get("files") or []
        days = [tuple(date.fromisoformat(page[end]) for end in ("filingFrom", "filingTo")) for page in pages]
        return [Page(page["name"], first, last) for page, (first, last) in zip(pages, days, strict=True)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"EDGAR, CIK {document.get('cik')}: the list of pages of older filings is none ({error!r}), expected name, "
            "filingFrom and filingTo of each"
        ) from error


def recent(document: Mapping[str, Any], cik: int) -> Mapping[str, Any]:
    """The newest filings in a company's document. Raises SourceError where it has none, or is of another company."""
    try:
        if int(document["cik"]) != cik:
            raise SourceError(f"EDGAR, CIK {cik}: found the filings of CIK {document['cik']}, expected its own")
        return document["filings"]["recent"]
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"EDGAR, CIK {cik}: found an answer without filings ({error!r}), expected cik and filings.recent"
        ) from error


def page_of(page: Mapping[str, Any], cik: int) -> pl.DataFrame:
    """accession, form, filed, report, items and stated (the text of the acceptance) of one page of filings: that of the
    newest (`recent`), or one of older ones. Raises SourceError for a page that holds something else."""
    missing = [name for name in _COLUMNS if name not in page] if isinstance(page, Mapping) else [*_COLUMNS]
    if missing:
        raise SourceError(
            f"EDGAR, CIK {cik}: a page of filings lacks {', '.join(missing)}; expected {', '.join(_COLUMNS)}"
        )
    lists: dict[str, Sequence[Any]] = {column: page[page_column] for page_column, column in _COLUMNS.items()}
    try:
        frame = pl.DataFrame(lists, schema=dict.fromkeys(lists, pl.String))
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise SourceError(
            f"EDGAR, CIK {cik}: a page of filings is no table ({str(error).splitlines()[0]}), expected lists of texts "
            "of one length"
        ) from error
    frame = frame.with_columns(
        pl.col("filed", "report").replace("", None).str.to_date("%Y-%m-%d", strict=False), pl.col("items").fill_null("")
    )
    wrong_filings = frame.filter(pl.any_horizontal(pl.col("accession", "form", "filed").is_null()))
    if wrong_filings.height:
        raise SourceError(
            f"EDGAR, CIK {cik}: found a filing {wrong_filings.row(0)}, expected a number, a form and a date such as "
            "2025-05-01"
        )
    return frame
