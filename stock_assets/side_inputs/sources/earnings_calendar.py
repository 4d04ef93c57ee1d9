"""Coming and past announcements in Yahoo's calendar, through yfinance, one page per ticker.

`Ticker.get_earnings_dates` of yfinance 1.7 reads the table of https://finance.yahoo.com/calendar/earnings?symbol=AAPL,
whose dates have an hour and no minutes. Two things of that page are guarded here: for weeks it showed the companies of
the day in place of the one that was asked for (github.com/ranaroussi/yfinance/issues/1932), and yfinance gives later
rows the date of another where one row has none.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from zlib import crc32
from zoneinfo import ZoneInfo

import polars as pl

from stock_assets.errors import SourceError, UnknownTickerError
from stock_assets.escape import shortened
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.html_tables import tables_of
from stock_assets.market.sources.answers import check_request
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Budget, Politeness, Transient
from stock_assets.market.sources.replies import beginning, require_service
from stock_assets.market.sources.staging import staging
from stock_assets.market.sources.yahoo import require_address
from stock_assets.market.sources.yahoo_session import polite_session
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.announcing import ROWS, announcement_rows, day_and_moment
from stock_assets.tables import UTC_TIME

if TYPE_CHECKING:
    import pandas as pd

#: Dates beyond are estimates, which change with every answer; a model looks seven sessions ahead.
AHEAD = timedelta(days=100)
#: A ticker whose date is so near is asked for every second session, any other one every tenth.
NEAR, OFTEN, SELDOM = timedelta(days=14), 2, 10
#: A longer range is no evening: then every ticker is asked for, and for a longer page.
EVENING = timedelta(days=31)
ROWS_OF_AN_EVENING, ROWS_OF_A_RANGE = 25, 100
#: Yahoo cuts the minutes off: what happened at 4 PM was known an hour later at the latest.
HOUR = timedelta(hours=1)
#: Yahoo's columns.
_SYMBOL, _DATE, _REPORTED = "Symbol", "Earnings Date", "Reported EPS"
#: What the page says of a ticker: `event_time` is null where it has a day alone.
DATES = pl.Schema({"day": pl.Date, "moment": pl.String, "event_time": UTC_TIME, "reported": pl.Boolean})
_ASKED = pl.Schema({"fetched_at": UTC_TIME, **DATES})


class EarningsCalendar:
    """Announcements as Yahoo's calendar states them at the time of the call."""

    name: ClassVar[str] = "yahoo_calendar"

    def __init__(
        self,
        calendar: TradingCalendar,
        *,
        base_url: str | None = None,
        budget: Budget | None = None,
        staged: Path | None = None,
        stored_rows: pl.DataFrame | None = None,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    ) -> None:
        """`base_url` gets every request in place of Yahoo. In the folder `staged` the answers of a day wait, so that a
        killed fetch goes on; without one it begins anew. `stored_rows` are the versions of `announcements` in the
        store."""
        self.calendar, self.base_url, self.staged, self.stored_rows = calendar, base_url, staged, stored_rows
        self.budget, self.on_progress = budget or Budget(Politeness()), on_progress

    def with_stored(self, rows: pl.DataFrame) -> "EarningsCalendar":
        return EarningsCalendar(
            self.calendar,
            base_url=self.base_url,
            budget=self.budget,
            staged=self.staged,
            stored_rows=rows,
            on_progress=self.on_progress,
        )

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`, of the `subjects` that are due (`due_subjects`): the coming announcements of the next
        AHEAD, known at `fetched_at`, and those since `first` that Yahoo marks as reported.

        A past one was public when it happened, whenever Yahoo is asked: it counts as known from the end of its hour on,
        or of its day where Yahoo has no hour, and is `assumed`. A past date without reported earnings has no row.
        """
        check_request(first, last, fetched_at)
        ranged = last - first > EVENING
        requested_tickers = (
            list(subjects)
            if ranged
            else due_subjects(subjects, self.stored_rows, self.calendar, source=self.name, session=last)
        )
        staged_answers = None
        if self.staged is not None:
            staged_answers = staging(self.staged, asked_on=fetched_at.astimezone(UTC).date(), first=first, last=last)
        session = polite_session(self.budget, self.base_url, place="/calendar/earnings", judge=_judge)
        row_limit = ROWS_OF_A_RANGE if ranged else ROWS_OF_AN_EVENING

        def ask(ticker: str) -> pl.DataFrame:
            if (
                staged_answers is not None
                and (staged_answer := staged_answers.load(ticker)) is not None
                and staged_answer.schema == _ASKED
            ):
                return staged_answer
            require_address(ticker)
            dates = self.budget.patiently(ticker, lambda: _dates(session, ticker, self.calendar, row_limit=row_limit))
            answer = dates.select(pl.lit(fetched_at.astimezone(UTC)).cast(UTC_TIME).alias("fetched_at"), *DATES)
            if staged_answers is not None:
                staged_answers.save(ticker, answer)
            return answer

        answers, failures = of_each(requested_tickers, ask, budget=self.budget, on_progress=self.on_progress)
        frames = [
            rows_of(dates, self.calendar, ticker=ticker, source=self.name, since=first)
            for ticker, dates in answers.items()
        ]
        return SideAnswer(pl.concat([ROWS.to_frame(), *frames]), failures, states_all_of=tuple(answers))


def due_subjects(
    subjects: Sequence[str], stored_rows: pl.DataFrame | None, calendar: TradingCalendar, *, source: str, session: date
) -> list[str]:
    """Those of `subjects` that Yahoo is asked for on the evening of `session`: a vendor bears two requests a second.

    All where `stored_rows` (versions of `announcements`) has no row of `source` yet. Else a ticker whose next date, by
    whatever origin, is within NEAR every second session, and any other every tenth; which one follows from its name.
    """
    if stored_rows is None or stored_rows.filter(pl.col("source") == source).is_empty():
        return list(subjects)
    newest = stored_rows.sort("known_at", "fetched_at").unique(
        ["subject", "event_time", "origin", "source"], keep="last"
    )
    near_announcements = newest.filter(
        ~pl.col("withdrawn").fill_null(value=False),
        pl.col("day").is_between(session - timedelta(days=3), session + NEAR),
    )
    near_subjects, place = set(near_announcements["subject"]), calendar.position(session)
    return [
        subject
        for subject in subjects
        if (crc32(subject.encode()) + place) % (OFTEN if subject in near_subjects else SELDOM) == 0
    ]


def rows_of(dates: pl.DataFrame, calendar: TradingCalendar, *, ticker: str, source: str, since: date) -> pl.DataFrame:
    """The rows of `announcements` (`announcing.ROWS`) of `dates` (`DATES` and fetched_at) of one ticker."""
    if dates.is_empty():
        return ROWS.to_frame()
    fetched_at: datetime = dates["fetched_at"][0]
    midnight = (pl.col("day").cast(pl.Datetime("us")) + pl.duration(days=1)).dt.replace_time_zone(calendar.local_zone)
    end_of_day = midnight.dt.convert_time_zone("UTC")
    noon = (pl.col("day").cast(pl.Datetime("us")) + pl.duration(hours=12)).dt.replace_time_zone(calendar.local_zone)
    timed_dates = dates.with_columns(
        happens=pl.coalesce("event_time", end_of_day), public=pl.coalesce(pl.col("event_time") + HOUR, end_of_day)
    ).with_columns(
        past=pl.col("reported") & (pl.col("happens") <= fetched_at),
        coming=(pl.col("happens") > fetched_at) & (pl.col("happens") <= fetched_at + AHEAD),
    )
    stated_dates = timed_dates.filter(pl.col("coming") | (pl.col("past") & (pl.col("day") >= since))).select(
        "day",
        "moment",
        ticker=pl.lit(ticker),
        event_time=pl.coalesce("event_time", noon.dt.convert_time_zone("UTC")),
        known_at=pl.when("past").then(pl.min_horizontal("public", "fetched_at")).otherwise("fetched_at"),
        reported="past",
        assumed="past",
    )
    return announcement_rows(stated_dates, calendar, origin="calendar", source=source, fetched_at=fetched_at)


def _dates(session: Any, ticker: str, calendar: TradingCalendar, *, row_limit: int) -> pl.DataFrame:
    """What the page says of `ticker` (`DATES`). Raises Transient, UnknownTickerError or SourceError where it says
    nothing; an error of our own is raised as it is."""
    from curl_cffi.requests.exceptions import RequestException

    from stock_assets.private.yfinance import UnreadableAnswerError, earnings_dates

    session.renewed.crumb = False
    try:
        table = earnings_dates(session, ticker, row_limit=row_limit)
    except UnreadableAnswerError as error:
        raise Transient(str(error)) from error
    except RequestException as error:
        raise Transient(f"no answer ({type(error).__name__}, curl {error.code})") from error
    return dates_of(table, calendar)


def dates_of(table: "pd.DataFrame", calendar: TradingCalendar) -> pl.DataFrame:
    """`table` as yfinance returns it, as `DATES`, each once.

    Midnight in UTC, or of the table's own time zone, stands for a day without an hour; 16:00 in UTC does as well, which
    is the noon or 11 AM of many companies that announce after the close.
    """
    rows = []
    for moment, figure in zip(table.index, table[_REPORTED], strict=True):
        local = moment.to_pydatetime()
        at = local.astimezone(UTC)
        if at.time() == time(0):
            rows.append((at.date(), None, figure == figure))
        elif at.time() == time(16) or local.time() == time(0):
            rows.append((local.date(), None, figure == figure))
        else:
            rows.append((at.astimezone(ZoneInfo(calendar.local_zone)).date(), at, figure == figure))
    frame = pl.DataFrame(rows, {"day": pl.Date, "event_time": UTC_TIME, "reported": pl.Boolean}, orient="row")
    moments = day_and_moment(frame["event_time"], calendar)["moment"]
    moment = pl.when(pl.col("event_time").is_null()).then(pl.lit("unknown")).otherwise(moments)
    return frame.with_columns(moment=moment).select(DATES.names()).unique(maintain_order=True)


def _judge(response: Any, options: Mapping[str, Any]) -> None:
    del options  # yfinance writes the ticker into the address
    judge(
        response.status_code,
        response.text,
        ticker=parse_qs(urlsplit(str(response.url)).query).get("symbol", ["nothing"])[0],
        retry_after=response.headers.get("Retry-After"),
        now=datetime.now(UTC),
    )


def judge(status: int, text: str, *, ticker: str, retry_after: str | None, now: datetime) -> None:
    """Nothing where a page holds the dates of `ticker`, each row with its own.

    Raises UnknownTickerError where the calendar has nothing of it, SourceError where it shows something else, and
    Transient for the rest.
    """
    require_service(status, text, retry_after=retry_after, now=now)
    if status != 200:
        raise Transient(f"HTTP {status}: {beginning(text)}")
    try:
        tables = tables_of(text, f"the announcements of {ticker}")
    except SourceError as error:
        if "<table" in text.lower():
            raise
        if "calendar/earnings" in text and re.search(rf"(?<!\w){re.escape(escape(ticker))}(?!\w)", text):
            raise UnknownTickerError(f"Yahoo's calendar has no announcement of {ticker}") from error
        raise Transient(f"no calendar but {beginning(text)}") from error
    table = next(iter(tables), pl.DataFrame())
    if missing := [name for name in (_SYMBOL, _DATE, _REPORTED) if name not in table.columns]:
        column_names = shortened(", ".join(table.columns), 80)
        raise SourceError(f"Yahoo's calendar, {ticker}: a table of {column_names}, expected {', '.join(missing)} in it")
    others = table.filter(pl.col(_SYMBOL).str.strip_chars().str.to_uppercase() != ticker.upper())
    if others.height:
        raise SourceError(
            f"Yahoo's calendar, {ticker}: found {shortened(others[_SYMBOL][0], 40)!r} in {others.height} row(s) of "
            f"{table.height}, expected {ticker} alone"
        )
    if undated_rows := table.filter(pl.col(_DATE).str.strip_chars().is_in(["", "-"])).height:
        raise SourceError(f"Yahoo's calendar, {ticker}: found no date in {undated_rows} row(s) of {table.height}")
