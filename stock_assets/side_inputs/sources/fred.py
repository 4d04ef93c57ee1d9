"""Economic series of FRED with every vintage that ALFRED has of them, and the days of releases.

The addresses, parameters and answers are those of https://fred.stlouisfed.org/docs/api/fred/ (series/observations,
series/vintagedates, release/dates). A vintage has a date and no time: a figure counts as known at the hour at which
its release is published where that is known, else at the end of the day in New York.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import polars as pl

from stock_assets.addresses import HIDDEN
from stock_assets.errors import SourceError, UnknownTickerError
from stock_assets.escape import one_line, shortened
from stock_assets.market.download import json_within
from stock_assets.market.sources import Failure
from stock_assets.market.sources.asking import of_each
from stock_assets.market.sources.budget import Budget, Politeness, Transient
from stock_assets.market.sources.replies import beginning
from stock_assets.side_inputs import SideAnswer
from stock_assets.side_inputs.sources.asking import Client
from stock_assets.tables import UTC_TIME

T = TypeVar("T")
NEW_YORK = ZoneInfo("America/New_York")
ADDRESS = "https://api.stlouisfed.org/fred"
#: FRED allows 120 requests a minute.
POLITENESS = Politeness(per_second=1.5)
#: When the release of a series is published, New York: https://www.bls.gov/schedule/ (PAYEMS, UNRATE, CPIAUCSL),
#: https://www.dol.gov/ui/data.pdf (ICSA), https://www.census.gov/retail/release_schedule.html (RSAFS) and
#: https://www.federalreserve.gov/releases/g17/ (INDPRO).
RELEASE_TIMES: Mapping[str, time] = {
    **dict.fromkeys(("PAYEMS", "UNRATE", "CPIAUCSL", "ICSA", "RSAFS"), time(8, 30)),
    "INDPRO": time(9, 15),
}
#: Rows of one answer, and vintages that one request may span; FRED refuses more.
PAGE, MOST_VINTAGES = 100_000, 1_000
#: Where nothing of a series is stored, so much of what was known before the first session is asked for as well; and
#: where there is something, so much again: an evening may have been missed.
HISTORY, AGAIN = timedelta(days=1_200), timedelta(days=10)
_FOREVER = date(9999, 12, 31)

OBSERVATIONS = pl.Schema({"begins": pl.Date, "ends": pl.Date, "day": pl.Date, "value": pl.Float64})
ROWS = pl.Schema(
    {
        "subject": pl.String,
        "event_time": UTC_TIME,
        "known_at": UTC_TIME,
        "fetched_at": UTC_TIME,
        "source": pl.String,
        "value": pl.Float64,
    }
)


class _KeyRefusedError(Exception):
    """FRED does not take the key: no request will be answered."""


class Fred:
    """Requests to FRED. Safe to share among threads; no error shows the key."""

    def __init__(self, key: str, *, base_url: str = ADDRESS, budget: Budget | None = None) -> None:
        self.budget = budget or Budget(POLITENESS)
        self._key, self._base_url, self._client = key, base_url.rstrip("/"), Client(self.budget, secret=key)

    def vintage_dates(self, series: str, since: date, until: date) -> list[date]:
        """The days from `since` to `until` on which a figure of `series` was new or revised, ascending."""
        span = {"series_id": series, "realtime_start": str(since), "realtime_end": str(until)}
        return [_day(text) for text in self._pages("series/vintagedates", "vintage_dates", span, page=10_000)]

    def observations(self, series: str, since: date, until: date) -> pl.DataFrame:
        """Every version of every figure of `series` that stood on a day from `since` to `until` (`OBSERVATIONS`):
        the days on which it began and ended to stand, of which FRED states none outside of these, and its value."""
        span = {"series_id": series, "realtime_start": str(since), "realtime_end": str(until), "output_type": 1}
        rows = [
            (_day(row["realtime_start"]), _day(row["realtime_end"]), _day(row["date"]), _figure(row["value"]))
            for row in self._pages("series/observations", "observations", span, page=PAGE)
        ]
        return pl.DataFrame(rows, OBSERVATIONS, orient="row")

    def release_dates(self, release: int, since: date) -> list[date]:
        """The days of a release from `since` on, the coming ones included as far as they are announced, ascending."""
        span = {
            "release_id": release,
            "realtime_start": str(since),
            "realtime_end": str(_FOREVER),
            "include_release_dates_with_no_data": "true",
        }
        return sorted({_day(row["date"]) for row in self._pages("release/dates", "release_dates", span, page=10_000)})

    def _pages(self, path: str, holds: str, parameters: Mapping[str, str | int], *, page: int) -> list[Any]:
        """The rows of all pages of an answer, which are under `holds`. Raises as `answers`."""
        subject = str(parameters.get("series_id", parameters.get("release_id")))
        rows: list[Any] = []

        def judge(status: int, body: bytes) -> Any:
            return self._judge(status, body, holds)

        while True:
            page_parameters = {
                **parameters,
                "api_key": self._key,
                "file_type": "json",
                "sort_order": "asc",
                "limit": page,
            }
            answer = self._client.get(
                subject, f"{self._base_url}/{path}", judge, params={**page_parameters, "offset": len(rows)}
            )
            rows += answer[holds]
            if not answer[holds] or len(rows) >= answer["count"]:
                return rows

    def _judge(self, status: int, body: bytes, holds: str) -> Any:
        """The JSON of an answer. Raises UnknownTickerError, SourceError or Transient for any other."""
        try:
            answer = json_within(body)
        except ValueError:
            text = self._without_key(body.decode(errors="replace"))
            raise Transient(f"HTTP {status}, no JSON but {beginning(text)}") from None
        message = self._without_key(str(answer.get("error_message", ""))) if isinstance(answer, dict) else ""
        if status == 200 and isinstance(answer, dict) and isinstance(answer.get(holds), list) and "count" in answer:
            return answer
        if "api_key" in message:
            raise _KeyRefusedError(f"FRED says {message!r}; expected STOCK_ASSETS_FRED_KEY to hold a key of FRED")
        if status == 404 or "does not exist" in message:
            raise UnknownTickerError(f"FRED says {message!r}")
        if status in (200, 423):
            raise Transient(f"HTTP {status}, an answer without {holds}: {beginning(message or 'nothing')}")
        raise SourceError(f"FRED answered HTTP {status}: {message!r}")

    def _without_key(self, text: str) -> str:
        return shortened(one_line(text.replace(self._key, HIDDEN)), 160)

    def answers(
        self, subjects: Sequence[str], ask: Callable[[str], T], on_progress: Callable[[int, int], None]
    ) -> tuple[dict[str, T], dict[str, Failure]]:
        """As `of_each`. Raises SourceError where FRED does not take the key."""
        try:
            return of_each(subjects, ask, budget=self.budget, on_progress=on_progress)
        except _KeyRefusedError as error:
            raise SourceError(str(error)) from None


class FredSeries:
    """Figures of chosen series, the first print and every revision (`macro`)."""

    name: ClassVar[str] = "fred"

    def __init__(
        self,
        fred: Fred,
        series: Sequence[str],
        *,
        stored_rows: pl.DataFrame | None = None,
        on_progress: Callable[[int, int], None] = lambda _count, _total: None,
    ) -> None:
        self.fred, self.series, self.stored_rows, self.on_progress = fred, tuple(series), stored_rows, on_progress

    def with_stored(self, rows: pl.DataFrame) -> "FredSeries":
        return FredSeries(self.fred, self.series, stored_rows=rows, on_progress=self.on_progress)

    def fetch(self, subjects: Sequence[str], first: date, last: date, *, fetched_at: datetime) -> SideAnswer:
        """As `SideSource.fetch`; without `subjects` of all series. A series without a new vintage costs one request.

        Raises SourceError where FRED does not take the key, and where it has no answer of any series.
        """
        requested_series = sorted(set(subjects) or set(self.series))
        until = min(last, fetched_at.astimezone(NEW_YORK).date())
        stored_series = (
            set()
            if self.stored_rows is None
            else set(self.stored_rows.filter(pl.col("source") == self.name)["subject"])
        )

        def ask(series: str) -> pl.DataFrame:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", series):
                raise SourceError(f"FRED, series {shortened(series, 40)!r}: expected letters, digits, _ . and -")
            since = first - (AGAIN if series in stored_series else HISTORY)
            vintages = self.fred.vintage_dates(series, since, until)
            if not vintages and series in stored_series:
                return ROWS.to_frame()
            parts = [self.fred.observations(series, *span) for span in spans(since, until, vintages)]
            return rows_of(series, pl.concat(parts), until=until, fetched_at=fetched_at)

        answers, failures = self.fred.answers(requested_series, ask, self.on_progress)
        if failures and not answers:
            raise SourceError(
                f"FRED has no answer of any series; {requested_series[0]}: {failures[requested_series[0]].reason}"
            )
        return SideAnswer(pl.concat([ROWS.to_frame(), *answers.values()]), failures)


class Span(NamedTuple):
    first: date
    last: date


def spans(since: date, until: date, vintages: Sequence[date], *, vintage_limit: int = MOST_VINTAGES) -> list[Span]:
    """`since` to `until` in stretches of at most `vintage_limit` of the `vintages`, one after another without a gap.

    >>> days = [date(2020, 1, day) for day in (3, 5, 7)]
    >>> [(span.first.day, span.last.day) for span in spans(date(2020, 1, 1), date(2020, 1, 9), days, vintage_limit=2)]
    [(1, 6), (7, 9)]
    """
    begins = [since, *(day for day in vintages[vintage_limit::vintage_limit] if since < day <= until)]
    ends = [*(day - timedelta(days=1) for day in begins[1:]), until]
    return [Span(*pair) for pair in zip(begins, ends, strict=True)]


def rows_of(series: str, observations: pl.DataFrame, *, until: date, fetched_at: datetime) -> pl.DataFrame:
    """`observations` (`OBSERVATIONS`, of stretches without a gap up to `until`) as rows of `macro` (`ROWS`).

    A figure that goes on is no new version, and one that ends without another was withdrawn: its value is null from
    then on. A figure that was missing from the start has no row.
    """
    per = pl.col("day")
    versions = observations.sort("day", "begins").with_columns(following=pl.col("begins").shift(-1).over(per))
    after = pl.col("ends") + pl.duration(days=1)
    ended_versions = versions.filter(
        pl.col("ends") < until, pl.col("following").is_null() | (pl.col("following") > after)
    )
    ends_without_value = ended_versions.select("day", begins=after, value=pl.lit(None, pl.Float64))
    news = (
        pl.concat([versions.select("day", "begins", "value"), ends_without_value])
        .sort("day", "begins")
        .filter(pl.col("value").ne_missing(pl.col("value").shift().over(per)))
    )
    hour = RELEASE_TIMES.get(series)
    local = pl.col("begins").cast(pl.Datetime("us")) + (
        pl.duration(days=1) if hour is None else pl.duration(hours=hour.hour, minutes=hour.minute)
    )
    moment = local.dt.replace_time_zone(str(NEW_YORK)).dt.convert_time_zone("UTC")
    now = pl.lit(fetched_at.astimezone(UTC)).cast(UTC_TIME)
    return news.select(
        subject=pl.lit(series),
        event_time=per.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        known_at=pl.min_horizontal(moment, now),
        fetched_at=now,
        source=pl.lit(FredSeries.name),
        value="value",
    ).select(pl.col(name).cast(kind) for name, kind in ROWS.items())


def _day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise SourceError(f"FRED: found the date {shortened(repr(text), 40)}, expected one as 2024-01-31") from None


def _figure(text: object) -> float | None:
    """FRED writes a point where there is no figure."""
    if text in (".", "", None):
        return None
    try:
        return float(str(text))
    except ValueError:
        raise SourceError(f"FRED: found the figure {shortened(repr(text), 40)}, expected a number or a point") from None
