"""Which tickers were members of an index when: Wikipedia's tables of the S&P 500, or a file of intervals.

Wikipedia states which are members now and which changes led there. Rolled back from today, the changes give every
membership with its first and last day. A ticker that was renamed without a change stays under its newest name.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from stock_assets.errors import EmptySourceError, OutgoingError, SourceError
from stock_assets.files import write_file
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.html_tables import tables_of
from stock_assets.market.tables import UNIVERSE_SCHEMA
from stock_assets.outgoing import call
from stock_assets.tickers import require_tickers

#: The page has less than a megabyte.
PAGE_BYTES = 20_000_000
WIKIPEDIA = "https://en.wikipedia.org/wiki/List_of_S%26P_500_companies"
#: A copy younger than this is not asked for again: the index changes a few times a quarter.
FRESH = timedelta(hours=12)
#: With fewer members than this, the page is not what it was.
FEWEST = 400
#: Bytes of a file of intervals: a million of them.
MOST_BYTES_OF_A_FILE = 100_000_000
#: A ticker of a US exchange, as the page spells it.
_TICKER = r"^[A-Z0-9][A-Z0-9.\-]{0,9}$"
#: The smallest sector has twenty members; a shifted row has a name, a town or an industry there.
_FEWEST_OF_A_SECTOR = 3
#: The changes of twenty years add no ticker more often than this.
_MOST_RETURNS = 5

CURRENT_SCHEMA = pl.Schema({"ticker": pl.String, "name": pl.String, "sector": pl.String, "added": pl.Date})
#: `added` or `removed` is null where a change has one side alone.
CHANGES_SCHEMA = pl.Schema(
    {
        "day": pl.Date,
        "added": pl.String,
        "added_name": pl.String,
        "removed": pl.String,
        "removed_name": pl.String,
    }
)


def current_table(html: str) -> pl.DataFrame:
    """The members that the page states (`CURRENT_SCHEMA`), sorted by ticker; `added` is null where it states no date.

    Raises SourceError when the page has no such table, or one of fewer than FEWEST rows.
    """
    for table in tables_of(html):
        columns = {_name(column): column for column in table.columns}
        if {"symbol", "security", "gicssector"} <= set(columns):
            date_column = columns.get("dateadded") or columns.get("datefirstadded")
            rows = table.select(
                ticker=_ticker(columns["symbol"]),
                name=_text(columns["security"]),
                sector=_text(columns["gicssector"]),
                added=_day(date_column) if date_column else pl.lit(None, pl.Date),
            ).filter(pl.col("ticker").is_not_null())
            _require_members(rows)
            return rows.sort("ticker").match_to_schema(CURRENT_SCHEMA)
    raise SourceError(
        "the page has no table with Symbol, Security and GICS Sector, expected the members of the S&P 500"
    )


def _require_members(rows: pl.DataFrame) -> None:
    """Raises SourceError where `rows` are too few, or no table of members: one cell over several rows shifts others."""
    if rows.height < FEWEST:
        raise SourceError(f"the table of members has {rows.height} row(s), expected {FEWEST} or more")
    if (twice := rows.filter(pl.col("ticker").is_duplicated())).height:
        raise SourceError(
            f"the table of members has {twice['ticker'][0]} more than once ({twice.height} row(s) of {rows.height} "
            "repeat a ticker), expected every ticker once"
        )
    require_tickers(rows["ticker"], "the table of members")
    _require_tickers(rows["ticker"], "members")
    rare = rows["sector"].value_counts(sort=True).filter(pl.col("count") < _FEWEST_OF_A_SECTOR)["sector"]
    if rare.len():
        raise SourceError(
            f"the table of members has the sector {str(rare[0])[:40]!r} in fewer than {_FEWEST_OF_A_SECTOR} rows, "
            "expected the sectors of the GICS: cells seem to be shifted"
        )


def _require_tickers(tickers: pl.Series, table: str) -> None:
    if (odd_tickers := tickers.drop_nulls().filter(~tickers.drop_nulls().str.contains(_TICKER))).len():
        raise SourceError(f"the table of {table} has the ticker {odd_tickers[0][:40]!r}, expected one as BRK.B")


def changes_table(html: str) -> pl.DataFrame:
    """The changes that the page states (`CHANGES_SCHEMA`), the oldest first; a change is in force from `day` on.

    Raises SourceError when the page has no such table, and where a date of it cannot be read.
    """
    for table in tables_of(html):
        columns = {_name(column): column for column in table.columns}
        day = columns.get("effectivedateeffectivedate") or columns.get("datedate")
        if day and {"addedticker", "removedticker"} <= set(columns):
            rows = table.select(
                _day(day).alias("day"),
                _text(day).alias("as_written"),
                _ticker(columns["addedticker"]).alias("added"),
                _text(columns.get("addedsecurity", "")).alias("added_name"),
                _ticker(columns["removedticker"]).alias("removed"),
                _text(columns.get("removedsecurity", "")).alias("removed_name"),
            ).filter(pl.any_horizontal(pl.col("added", "removed").is_not_null()))
            require_tickers([*rows["added"], *rows["removed"]], "the table of changes")
            if (unread_rows := rows.filter(pl.col("day").is_null())).height:
                raise SourceError(
                    f"the table of changes has the date {unread_rows['as_written'][0]!r}, expected one as June 24, 2024"
                )
            for side in ("added", "removed"):
                _require_tickers(rows[side], "changes")
                often = rows[side].drop_nulls().value_counts(sort=True).filter(pl.col("count") > _MOST_RETURNS)
                if often.height:
                    ticker, times = often.row(0)
                    raise SourceError(f"the table of changes has {ticker} {side} {times} times, expected far fewer")
            return rows.drop("as_written").sort("day", maintain_order=True).match_to_schema(CHANGES_SCHEMA)
    raise SourceError("the page has no table of Date, Added and Removed, expected the changes of the S&P 500")


class RolledBack(NamedTuple):
    """Memberships, and where the two tables contradict each other."""

    intervals: pl.DataFrame
    """ticker, name, sector, start (null: before the first change), end (null: a member now; else the day it left)"""
    contradictions: list[str]
    """Changes that add a ticker which is no member after them: most were renamed later."""


def roll_back(current: pl.DataFrame, changes: pl.DataFrame) -> RolledBack:
    """Every membership that `current` and `changes` state, the last change undone first.

    A ticker that is added becomes one that was no member before; one that is removed was. A member whose joining is in
    no change has joined on its `added` day, if that is known and no later change contradicts it.
    """
    open_since: dict[str, date | None] = dict.fromkeys(current["ticker"])  # ticker → the day it leaves
    names = {row[0]: row[1:3] for row in current.iter_rows()}
    rows: list[tuple[str, date | None, date | None]] = []
    contradictions = []
    for day, added_ticker, added_name, removed_ticker, removed_name in (
        changes.sort("day", maintain_order=True).reverse().iter_rows()
    ):
        for ticker, name in ((added_ticker, added_name), (removed_ticker, removed_name)):
            if ticker:
                names.setdefault(ticker, (name, None))
        if added_ticker in open_since:
            rows.append((added_ticker, day, open_since.pop(added_ticker)))
        elif added_ticker:
            contradictions.append(f"{day}: {added_ticker} was added, and is no member after it")
        if removed_ticker and removed_ticker not in open_since:
            open_since[removed_ticker] = day
        elif removed_ticker:  # it must have come back in between, which is in no change
            rows.append((removed_ticker, None, open_since[removed_ticker]))
            contradictions.append(f"{day}: {removed_ticker} was removed, and is a member after it")
            open_since[removed_ticker] = day
    joining_dates = dict(current.select("ticker", "added").iter_rows())
    for ticker, end in open_since.items():
        start = joining_dates.get(ticker)
        rows.append((ticker, start if end is None or (start and start < end) else None, end))
    intervals = pl.DataFrame(
        [(ticker, *names[ticker], start, end) for ticker, start, end in rows], _INTERVALS, orient="row"
    )
    return RolledBack(intervals.sort("ticker", "start", nulls_last=False), contradictions[::-1])


_INTERVALS = pl.Schema({"ticker": pl.String, "name": pl.String, "sector": pl.String, "start": pl.Date, "end": pl.Date})


def as_universe(intervals: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    """`intervals` (as `RolledBack.intervals`: the day of `end` is no member's) on the sessions of `calendar`.

    `UNIVERSE_SCHEMA`, sorted by ticker and session, without memberships that hold none of its sessions.
    """
    first = calendar.sessions[0]
    rows = []
    for ticker, name, sector, start, end in intervals.iter_rows():
        begins = calendar.between(start or first, calendar.sessions[-1])[:1]
        last = max(calendar.before(end, 1), default=None) if end else calendar.sessions[-1]
        if begins and last and begins[0] <= last:
            has_ended = end is not None and end <= calendar.sessions[-1]
            rows.append((ticker, name, sector, begins[0], last if has_ended else None))
    return pl.DataFrame(rows, UNIVERSE_SCHEMA, orient="row").sort("ticker", "from_session")


def read_intervals(path: Path) -> pl.DataFrame:
    """The intervals of a Parquet or CSV file, as `RolledBack.intervals`.

    It needs ticker, and either start_date and end_date, the day from which it is a member no more, or from_session and
    to_session, the last one on which it is; an empty end says that the membership lasts. name and sector may be there.
    Raises SourceError.
    """
    if path.is_file() and path.stat().st_size > MOST_BYTES_OF_A_FILE:
        raise SourceError(
            f"{path} has {path.stat().st_size / 1e6:,.0f} MB; expected intervals, at most "
            f"{MOST_BYTES_OF_A_FILE / 1e6:,.0f} MB of them"
        )
    try:
        table = (
            pl.read_parquet(path)
            if path.suffix.lower() in (".parquet", ".pq")
            else pl.read_csv(path, infer_schema=False)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path} cannot be read as Parquet or CSV: {str(error).splitlines()[0]}") from error
    columns = {_name(column): column for column in table.columns}
    exclusive = {"startdate", "enddate"} <= set(columns)
    start, end = ("startdate", "enddate") if exclusive else ("fromsession", "tosession")
    if not {"ticker", start, end} <= set(columns):
        raise SourceError(
            f"{path} has the columns {', '.join(table.columns)}; expected ticker, start_date and end_date (the day it "
            "left), or ticker, from_session and to_session (the last session it was a member)"
        )
    rows = table.select(
        ticker=_ticker(columns["ticker"]),
        name=_text(columns.get("name", "")),
        sector=_text(columns.get("sector", "")),
        start=_day(columns[start]),
        end=_day(columns[end]),
        as_written=_text(columns[end]),
    )
    wrong_rows = rows.filter(
        pl.any_horizontal(
            pl.col("ticker", "start").is_null(),
            pl.col("end").is_null() & pl.col("as_written").is_not_null(),
            pl.col("end") < pl.col("start"),
        )
    )
    if wrong_rows.height:
        row = wrong_rows.row(0, named=True)
        raise SourceError(
            f"{path}, ticker {row['ticker']}: found the interval {row['start']} to {row['as_written']}, expected two "
            f"dates in order, or an empty end ({wrong_rows.height} such row(s))"
        )
    if rows.is_empty():
        raise EmptySourceError(f"{path} has no rows, expected intervals")
    require_tickers(rows["ticker"], str(path))
    last = pl.col("end") if exclusive else pl.col("end") + pl.duration(days=1)
    return rows.with_columns(end=last).select(_INTERVALS.names())


def restricted(universe: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """The parts of `universe` on which `members` holds the ticker too (both `UNIVERSE_SCHEMA`).

    Tickers keep the spelling of `universe`; a dot and a hyphen are the same (BRK.B, BRK-B). Name and sector are those
    of `universe` where it states more than the ticker, else those of `members`.
    """
    spelling = hyphenated().alias("_key")
    forever = pl.lit(date.max)
    joint_members = universe.with_columns(spelling).join(members.with_columns(spelling), on="_key", suffix="_then")
    ends = pl.min_horizontal(pl.col("to_session").fill_null(forever), pl.col("to_session_then").fill_null(forever))
    own_name = pl.when(pl.col("name") != pl.col("ticker")).then("name")
    return (
        joint_members.with_columns(
            pl.max_horizontal("from_session", "from_session_then").alias("from_session"),
            ends.alias("to_session"),
            pl.coalesce(own_name, "name_then", "name").alias("name"),
            pl.coalesce("sector", "sector_then").alias("sector"),
        )
        .filter(pl.col("from_session") <= pl.col("to_session"))
        .with_columns(to_session=pl.when(pl.col("to_session") < forever).then("to_session"))
        .select(UNIVERSE_SCHEMA.names())
        .sort("ticker", "from_session")
    )


class Page(NamedTuple):
    """A page and where it is from."""

    html: str
    fetched_at: datetime
    warning: str | None
    """Why it is an old copy, and how old; None for one that is fresh."""


def fetch_page(url: str, cache: Path, now: datetime, *, check: Callable[[str], object], timeout: float = 20.0) -> Page:
    """The page at `url`, or the copy in `cache`: while it is FRESH, and where `url` cannot be reached or fails `check`.

    `check` raises SourceError for a page that is not what is wanted; such a page replaces no copy. Raises SourceError
    where there is no copy either.
    """
    copy = _copy(cache, url)
    if copy is not None and timedelta(0) <= now - copy.fetched_at < FRESH:
        return copy
    try:
        agent = {"User-Agent": "stock_assets (index membership)"}
        answer = call("GET", url, headers=agent, seconds=timeout, most_bytes=PAGE_BYTES)
        if answer.status != 200:
            raise SourceError(f"it answered {answer.status}; expected 200")
        html = answer.body.decode(errors="replace")
        check(html)
    except (OutgoingError, SourceError) as error:
        if copy is None:
            raise SourceError(f"{url} cannot be used ({error}), and there is no copy in {cache}") from error
        age = now - copy.fetched_at
        old = f"{age.days} day(s)" if age.days else f"{age.seconds // 3600} hour(s)"
        return copy._replace(
            warning=f"{url} cannot be used ({error}); the copy of {copy.fetched_at:%Y-%m-%d %H:%M} UTC is {old} old"
        )
    write_file(cache, f"{_heading(url, now)}\n{html}".encode())
    return Page(html, now, None)


def sp500(
    calendar: TradingCalendar, cache: Path, now: datetime, *, url: str = WIKIPEDIA
) -> tuple[pl.DataFrame, str | None]:
    """(every membership of the S&P 500 on the sessions of `calendar`, `UNIVERSE_SCHEMA`; the warning of an old copy).

    Raises SourceError where neither the page nor a copy can be used.
    """

    def check(html: str) -> None:
        current_table(html)
        changes_table(html)

    page = fetch_page(url, cache, now, check=check)
    history = roll_back(current_table(page.html), changes_table(page.html))
    return as_universe(history.intervals, calendar), page.warning


def current_members(
    calendar: TradingCalendar, cache: Path, now: datetime, *, url: str = WIKIPEDIA
) -> tuple[pl.DataFrame, str | None]:
    """`sp500` of today's members alone, spelt as Yahoo does (BRK-B)."""
    members, warning = sp500(calendar, cache, now, url=url)
    return members.filter(pl.col("to_session").is_null()).with_columns(hyphenated()), warning


def hyphenated() -> pl.Expr:
    """The ticker with hyphens for dots."""
    return pl.col("ticker").str.replace_all(".", "-", literal=True)


def _copy(cache: Path, url: str) -> Page | None:
    """The copy of `url`; None where there is none, or one of another address."""
    if not cache.is_file() or cache.stat().st_size > 2 * PAGE_BYTES:
        return None
    heading, _, html = cache.read_text("utf-8").partition("\n")
    origin = re.fullmatch(r"<!-- (\S+) fetched (\S+) -->", heading)
    if origin is None or origin[1] != url:
        return None
    return Page(html, datetime.fromisoformat(origin[2]), None)


def _heading(url: str, now: datetime) -> str:
    return f"<!-- {url} fetched {now.astimezone(UTC).isoformat()} -->"


def _name(column: str) -> str:
    """Letters alone: headings carry footnotes, spaces and hyphens."""
    return re.sub(r"[^a-z]", "", re.sub(r"\[[^\]]*\]", "", column.lower()))


def _text(column: str) -> pl.Expr:
    """Without footnotes; null where the cell is empty or there is no such column."""
    if not column:
        return pl.lit(None, pl.String)
    text = pl.col(column).cast(pl.String).str.replace_all(r"\[[^\]]*\]", "").str.strip_chars()
    return pl.when(text != "").then(text)


def _ticker(column: str) -> pl.Expr:
    return _text(column).str.to_uppercase()


def _day(column: str) -> pl.Expr:
    """2024-06-24 or June 24, 2024; null where it is neither."""
    text = _text(column)
    iso = text.str.extract(r"(\d{4}-\d{2}-\d{2})").str.to_date("%Y-%m-%d", strict=False)
    return pl.coalesce(iso, text.str.to_date("%B %d, %Y", strict=False))
