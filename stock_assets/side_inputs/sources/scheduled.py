"""Sources of scheduled events: rules, pages of the Fed, the release calendar of FRED, and files of one's own."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import polars as pl

from stock_assets.addresses import redacted
from stock_assets.errors import SourceError
from stock_assets.escape import shortened
from stock_assets.market.calendar import TradingCalendar
from stock_assets.market.sources import Failure
from stock_assets.market.sources.budget import Exhausted, GivenUp
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.fed_pages import scheduled_meetings
from stock_assets.side_inputs.scheduled_days import expiry_days, payroll_days
from stock_assets.side_inputs.scheduling import ROWS, Event, by_rule_or_seen, event_rows, new_york
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.side_inputs.sources.fred import Fred
from stock_assets.side_inputs.sources.own_files import moments, read_table, texts

#: So far ahead of its day a day that follows from a rule counts as known: for ever, in truth.
A_YEAR = timedelta(days=365)
#: So far ahead a day of a file counts as known where the file does not say since when.
NOTICE = timedelta(days=28)
#: When the decision of a meeting, and the two reports of the Bureau of Labor Statistics, are published in New York.
DECISION, REPORT = time(14), time(8, 30)
#: The releases of FRED that hold the reports, https://fred.stlouisfed.org/releases, and the day of a month near which
#: each comes; the calendar has further days of some months, on which factors and not figures were revised.
RELEASES: Mapping[str, tuple[int, int]] = {"payrolls": (50, 4), "cpi": (10, 13)}


class ScheduleRules:
    """Expiries of monthly options and employment reports, by rule."""

    name: ClassVar[str] = "rule"

    def __init__(self, calendar: TradingCalendar) -> None:
        self.calendar = calendar

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: those from `first` to a year after `last`. Nothing is asked for."""
        closes, until = self.calendar.closes, last + A_YEAR
        events = [
            Event("payrolls", new_york(day, REPORT), _midnight(day) - A_YEAR) for day in payroll_days(first, until)
        ]
        events += [
            Event("expiry", closes[day], _midnight(day) - A_YEAR)
            for day in expiry_days(first, until, self.calendar)
            if day in closes
        ]
        return SideAnswer(_of(subjects, event_rows(events, self.calendar, source=self.name, fetched_at=fetched_at)))


class FedCalendar:
    """Decisions of the Federal Open Market Committee, from pages of the Federal Reserve or saved copies of them."""

    name: ClassVar[str] = "federal_reserve"

    def __init__(self, calendar: TradingCalendar, places: Sequence[str], client: Client) -> None:
        """`places` are files and http(s) addresses."""
        self.calendar, self.places, self.client = calendar, tuple(places), client

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: every scheduled meeting of the pages.

        The Fed publishes the schedule of a year in the course of the year before: a meeting of the past counts as known
        from the beginning of its year on, a coming one from the moment at which it was first seen. Where a page cannot
        be had the subject fails as a whole, since a meeting that is only on that page would seem to be called off.
        """
        del last  # a page is short, and has all of its years
        days: set[date] = set()
        for place in self.places:
            place_text = redacted(place) if _is_address(place) else place
            try:
                days.update(scheduled_meetings(self._page(place), place_text))
            except (Exhausted, GivenUp, SourceError, OSError) as error:
                return SideAnswer(ROWS.to_frame(), {"fomc": Failure(f"{place_text}: {error}")})
        meetings = [
            Event("fomc", new_york(day, DECISION), new_york(date(day.year, 1, 1), time())) for day in sorted(days)
        ]
        events = by_rule_or_seen(meetings, first, fetched_at)
        rows = event_rows(events, self.calendar, source=self.name, fetched_at=fetched_at)
        return SideAnswer(_of(subjects, rows), states_all_of=("fomc",))

    def _page(self, place: str) -> bytes:
        if not _is_address(place):
            return Path(place).read_bytes()

        def read(status: int, body: bytes) -> bytes:
            if status != 200:
                raise SourceError(f"it answered HTTP {status}, expected 200")
            return body

        return self.client.get("fomc", place, read)


class FredReleases:
    """Employment and consumer price reports, by the release calendar of FRED."""

    name: ClassVar[str] = "fred"

    def __init__(self, calendar: TradingCalendar, fred: Fred) -> None:
        self.calendar, self.fred = calendar, fred

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: reports from `first` on and those that are announced.

        Every report names the day of the next one, so that a day counts as known from the report before it on. A report
        that was put off in between has the day on which it came. Raises SourceError where FRED does not take the key.
        """
        del last  # the calendar goes on to what is announced
        requested_releases = sorted(set(subjects) & set(RELEASES) if subjects else RELEASES)
        since = first - timedelta(days=70)

        def ask(subject: str) -> list[Event]:
            release, usual = RELEASES[subject]
            days = one_a_month(self.fred.release_dates(release, since), usual)
            reports = [new_york(day, REPORT) for day in days]
            return [Event(subject, at, before) for before, at in pairwise(reports)]

        answers, failures = self.fred.answers(requested_releases, ask, lambda _count, _total: None)
        events = by_rule_or_seen([event for answer in answers.values() for event in answer], first, fetched_at)
        rows = event_rows(events, self.calendar, source=self.name, fetched_at=fetched_at)
        return SideAnswer(rows, failures, states_all_of=tuple(answers))


class EventFile:
    """Events of a file of one's own: subject and day, with time (of New York) and known_at where they are there."""

    name: ClassVar[str] = "file"

    def __init__(self, calendar: TradingCalendar, path: Path) -> None:
        self.calendar, self.path = calendar, path

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`: all rows of the file. Raises SourceError that names the file, row and column."""
        del first, last  # the file may have changed anywhere
        table = read_table(self.path, required_columns=("subject", "day"))
        known_moments = moments(table, "known_at", self.path) if "known_at" in table.columns else [None] * table.height
        times = texts(table, "time") if "time" in table.columns else [None] * table.height
        events = []
        for row, (subject, day, at, since) in enumerate(
            zip(texts(table, "subject"), texts(table, "day"), times, known_moments, strict=True), 1
        ):
            try:
                moment = new_york(date.fromisoformat(day or ""), time.fromisoformat(at or "12:00"))
            except ValueError:
                raise SourceError(
                    f"{self.path}, row {row}: found the day {shortened(str(day), 40)!r} and the time "
                    f"{shortened(str(at), 40)!r}, expected some such as 2024-07-31 and 14:00"
                ) from None
            if not subject:
                raise SourceError(f"{self.path}, row {row}: found no subject, expected one such as fomc")
            events.append(Event(subject, moment, since or moment - NOTICE, assumed=since is None))
        return SideAnswer(_of(subjects, event_rows(events, self.calendar, source=self.name, fetched_at=fetched_at)))


def one_a_month(days: Sequence[date], usual: int) -> list[date]:
    """Of each month the one of `days` that is nearest to its `usual` day.

    >>> [str(day) for day in one_a_month([date(2024, 2, 9), date(2024, 2, 13), date(2024, 3, 12)], 13)]
    ['2024-02-13', '2024-03-12']
    """
    nearest: dict[tuple[int, int], date] = {}
    for day in sorted(days):
        month = day.year, day.month
        if month not in nearest or abs(day.day - usual) < abs(nearest[month].day - usual):
            nearest[month] = day
    return list(nearest.values())


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _of(subjects: Sequence[str], rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("subject").is_in(list(subjects))) if subjects else rows


def _is_address(place: str) -> bool:
    return place.lower().startswith(("http://", "https://"))
