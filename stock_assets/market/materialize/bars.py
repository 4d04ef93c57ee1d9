"""The tables `raw_bars` and `bars`: what a source answered of an interval below a day, and the one clean bar."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

import polars as pl

from stock_assets.errors import EmptySourceError, MissingTableError, SourceError
from stock_assets.frames import BAR_KEYS, RowSummary, differing
from stock_assets.market.bar_quality import gaps_of, on_two_bases, with_suspects
from stock_assets.market.bar_tables import BAR_SPLITS, BARS, RAW_BARS, SOURCE_BAR_SCHEMA
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.intervals import Interval, expected_bars, lookback_start
from stock_assets.market.materialize.clock import require_past
from stock_assets.market.materialize.one_source import require_one_interval
from stock_assets.market.outcomes import expected_tickers
from stock_assets.market.requests import too_many_failures
from stock_assets.market.sources import BarAnswer, IntradaySource, Source
from stock_assets.market.sources.registry import settle_time
from stock_assets.settings import PREFIX, Settings
from stock_assets.storage.changes import NO_ROW, Change
from stock_assets.storage.ranges import blocks_of
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import UTC_TIME
from stock_assets.tickers import require_tickers

#: Rows that are asked for, compared and written at once.
BLOCK_ROWS = 1_000_000
#: Bars before its newest one that a ticker is asked for again while a session runs: vendors revise the newest bars, and
#: some come late. An answer of any exchange holds so many and those of an hour at once.
OVERLAP_BARS = 120
_NEWEST = {"raw_bars": "SELECT ticker AS name, session, fetched_at FROM market.raw_bars"}
_FIGURES = ["open", "high", "low", "close", "volume", "source"]


class FetchedRawBars(NamedTuple):
    """What one fetch brought."""

    bars: RowSummary
    """the answered bars, also those that were stored already"""
    members: int
    """tickers of which an answer was expected"""
    failures: Mapping[str, str]
    """why there is no answer of some of them, by ticker"""
    new_versions: int
    """rows that were added to raw_bars"""
    missing: Mapping[str, int]
    """bars that are missing of the sessions, by outcome"""


class CleanedBars(NamedTuple):
    """What one cleaning made."""

    rows: RowSummary
    """the bars of the sessions"""
    changed: int
    """rows that are new, or other than stored"""
    suspect: Mapping[str, int]
    """bars of the sessions that are suspect, by reason"""


def fetch_raw_bars(
    store: Warehouse, settings: Settings, source: Source | IntradaySource, *, sessions: Sequence[date], now: datetime
) -> FetchedRawBars:
    """Asks `source` for the finished bars of `sessions` (ascending, the last one may be running) and appends the
    versions that the store does not hold yet; what is missing is written to `bar_gaps`, and the moment to
    `bar_requests`. Of sessions that are running, a ticker is asked from OVERLAP_BARS before its newest stored bar on.

    A long range is asked for and written some sessions at a time, each part in one transaction.

    Raises SourceError where the source has no bars below a day, where too many tickers fail, where the store holds
    another source or interval, and for an answer that breaks the protocol; EmptySourceError where a closed session has
    no bar of any ticker and no later one has. Then nothing of that part is written.
    """
    if not isinstance(source, IntradaySource):
        raise SourceError(
            f"the source {source.name} has no bars of {settings.interval}; expected {PREFIX}INTERVAL=1d, or another "
            f"{PREFIX}SOURCE"
        )
    require_one_interval(store, settings)
    _require_one_source(store, source)
    require_past(store, now, _NEWEST)
    universe, calendar = store.read("universe"), calendar_of(settings)
    interval, members = Interval.parse(settings.interval), expected_tickers(universe, sessions[0])
    sizes = {day: len(members) * expected_bars(calendar, [day], interval).height for day in sessions}
    summary, failures, new_count, missing = RowSummary(), dict[str, str](), 0, dict[str, int]()
    for part in blocks_of(sizes.items(), BLOCK_ROWS):
        stored_versions = newest_versions(store, part[0], part[-1])
        running = all(calendar.opens[day] < now < calendar.closes[day] + settle_time(settings) for day in part)
        since = _stored_through(stored_versions, calendar, interval, first=part[0]) if running else {}
        answer = source.fetch_bars(sorted(members), part[0], part[-1], fetched_at=now, since=since)
        expected = expected_bars(calendar, part, interval)
        _check(answer, source.name, expected, now=now)
        failed_tickers = {ticker: failure.reason for ticker, failure in answer.failures.items() if ticker in members}
        if message := too_many_failures(failed_tickers, len(members), settings.max_failed_share):
            raise SourceError(f"{source.name}: {message}")
        _require_bars(
            answer, source.name, calendar, sessions=part, now=now, stored_versions=stored_versions if since else None
        )
        versions, gaps = _new_versions(stored_versions, answer, universe, expected=expected, now=now)
        part_sessions = pl.DataFrame({"session": part}, {"session": pl.Date})
        store.write(
            [
                Change("raw_bars", versions, makes=part),
                Change("bar_gaps", gaps, part_sessions),
                Change("bar_requests", part_sessions.with_columns(asked_at=pl.lit(now).cast(UTC_TIME)), part_sessions),
                Change("bar_splits", _splits(answer, part, now), NO_ROW),
                Change("bar_interval", pl.DataFrame({"interval": [settings.interval]}), NO_ROW),
            ]
        )
        answer.settle()
        summary.add(answer.bars)
        failures |= failed_tickers
        new_count += versions.height
        for outcome, bars in gaps.group_by("outcome").agg(pl.col("bars").sum()).iter_rows():
            missing[outcome] = missing.get(outcome, 0) + bars
    return FetchedRawBars(summary, len(members), failures, new_count, missing)


def _splits(answer: BarAnswer, sessions: Sequence[date], now: datetime) -> pl.DataFrame:
    """`BAR_SPLITS` of `sessions` that the answer states."""
    rows = [(ticker, day, ratio, now) for (ticker, day), ratio in sorted(answer.splits.items()) if day in sessions]
    return pl.DataFrame(rows, BAR_SPLITS.schema, orient="row")


def _require_one_source(store: Warehouse, source: IntradaySource) -> None:
    try:
        stored_sources = store.read_sql("raw_bars", "SELECT DISTINCT source FROM market.raw_bars")["source"]
    except MissingTableError:
        return
    if other := sorted(set(stored_sources) - {source.name}):
        raise SourceError(
            f"the store {store.place.name} holds {other[0]} prices and {PREFIX}SOURCE is {source.name}; expected one "
            f"source per store: set {PREFIX}DATA_DIR to another folder"
        )


def _check(answer: BarAnswer, source: str, expected: pl.DataFrame, *, now: datetime) -> None:
    """Raises SourceError for an answer that is none of `IntradaySource.fetch_bars`, naming ticker and bar."""
    bars = answer.bars
    if bars.schema != SOURCE_BAR_SCHEMA:
        raise SourceError(f"{source} answered the columns {dict(bars.schema)}; expected {dict(SOURCE_BAR_SCHEMA)}")
    require_tickers(bars["ticker"].unique(), f"the bars of the source {source}")
    ends = expected.select("bar_end", of="session")
    rows = bars.join(ends, on="bar_end", how="left", maintain_order="left")
    faults = {
        "an unfinished bar; expected none that ends after the request": pl.col("bar_end") > now,
        "a bar that the sessions asked for do not have; expected the ends of their bars": pl.col("of").is_null(),
        "another session than the calendar's": pl.col("of") != pl.col("session"),
        "a bar twice; expected one row per ticker and bar_end": pl.struct("ticker", "bar_end").is_duplicated(),
    }
    for fault, condition in faults.items():
        faulty_rows = rows.filter(condition)
        if faulty_rows.height:
            row = faulty_rows.row(0, named=True)
            raise SourceError(
                f"{source}, ticker {row['ticker']}, session {row['session']}, column bar_end, {row['bar_end']}: found "
                f"{fault} ({faulty_rows.height} such row(s))"
            )


def _stored_through(
    stored_versions: pl.DataFrame, calendar: TradingCalendar, interval: Interval, *, first: date
) -> dict[str, datetime]:
    """By ticker, the end of the bar OVERLAP_BARS before its newest of `stored_versions`, in sessions from `first` on
    that are running: one that is over is asked for as a whole, so what came later than the overlap is found then."""
    newest = stored_versions.group_by("ticker").agg(pl.col("bar_end").max())
    begins = {end: lookback_start(calendar, interval, end, bars=OVERLAP_BARS)[1] for end in newest["bar_end"].unique()}
    since = {ticker: begins[end] for ticker, end in newest.iter_rows()}
    return {ticker: begin for ticker, begin in since.items() if begin > calendar.opens[first] + interval.length}


def _require_bars(
    answer: BarAnswer,
    source: str,
    calendar: TradingCalendar,
    *,
    sessions: Sequence[date],
    now: datetime,
    stored_versions: pl.DataFrame | None,
) -> None:
    """Raises EmptySourceError where closed sessions at the end of `sessions` have no bar of any ticker, answered or,
    where those were not asked for again, `stored_versions`; but for those that are older than what the vendor still
    has."""
    newest = pl.concat(
        [answer.bars["session"], *([] if stored_versions is None else [stored_versions["session"]])]
    ).max()
    oldest = min(answer.limits.values(), default=date.min)
    empty = [day for day in sessions if calendar.closes[day] <= now and (newest is None or day > newest)]  # pyright: ignore[reportOperatorIssue]
    empty = [day for day in empty if day >= oldest]
    if empty:
        raise EmptySourceError(
            f"{source} has no bar of any ticker in {len(empty)} session(s) from {empty[0]} on, as of "
            f"{now:%Y-%m-%d %H:%M} UTC; {calendar.name} was open, so there should be some. A closed snapshot ends with "
            f"{PREFIX}END; a day on which the exchange was closed is named in {PREFIX}MISSING_SESSIONS"
        )


def _new_versions(
    stored_versions: pl.DataFrame, answer: BarAnswer, universe: pl.DataFrame, *, expected: pl.DataFrame, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The versions to append to `stored_versions`, the newest ones (`RAW_BARS`), and all of `BAR_GAPS` after them."""
    columns = [*BAR_KEYS, *_FIGURES]
    new_bars, _ = differing(stored_versions.select(columns), answer.bars.select(columns), BAR_KEYS)
    versions = new_bars.sort(BAR_KEYS).with_columns(fetched_at=pl.lit(now).cast(UTC_TIME))
    present_bars = pl.concat(
        [stored_versions.select("ticker", "bar_end"), answer.bars.select("ticker", "bar_end")]
    ).unique()
    running = expected.filter(pl.col("bar_end") > now).height > 0
    # of a running session the newest bars may still be on their way
    newest: datetime = present_bars["bar_end"].max() or now  # pyright: ignore[reportAssignmentType]: a moment
    through = min(now, newest) if running else now
    failures = {
        ticker: ("unknown" if failure.unknown else "error", failure.reason)
        for ticker, failure in answer.failures.items()
    }
    gaps = gaps_of(expected, present_bars, universe, failures=failures, limits=answer.limits, through=through)
    return versions, gaps


def newest_versions(store: Warehouse, first: date, last: date) -> pl.DataFrame:
    """The version of every bar of raw_bars that was fetched last, of sessions from `first` to `last` (`RAW_BARS`)."""
    rows = RAW_BARS.fit(store.read_or(RAW_BARS.empty(), "raw_bars", first, last=last))
    return rows.sort(*BAR_KEYS, "fetched_at").unique(BAR_KEYS, keep="last", maintain_order=True)


def clean_bars(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> CleanedBars:
    """Makes the bars of `sessions` (ascending) of the newest versions, and writes those that changed.

    Raises MissingSessionsError where raw_bars lacks one of the sessions, or the one before, which the rules for suspect
    bars look at.
    """
    calendar = calendar_of(settings)
    before = calendar.before(sessions[0], 1)
    store.require(["raw_bars"], [*before, *sessions], "bars")
    summary, changed_rows, suspect = RowSummary(), 0, dict[str, int]()
    splits = BAR_SPLITS.fit(store.read_or(BAR_SPLITS.empty(), "bar_splits"))
    sizes = store.rows_by("raw_bars", "session", sessions[0], last=sessions[-1])
    for part in blocks_of([(day, sizes.get(day, 0)) for day in sessions], BLOCK_ROWS):
        first = (calendar.before(part[0], 1) or (part[0],))[0]
        raw = newest_versions(store, first, part[-1]).drop("source")
        bases = on_two_bases(raw, splits.filter(pl.col("session").is_in(part)), calendar)
        rows = BARS.fit(with_suspects(raw, calendar, bases).filter(pl.col("session").is_in(part)))
        stored_bars = BARS.fit(store.read_or(BARS.empty(), "bars", part[0], last=part[-1]))
        changed_bars, replaced_keys = differing(stored_bars, rows, BAR_KEYS)
        store.write([Change("bars", changed_bars, replaced_keys if replaced_keys.height else None, makes=part)])
        summary.add(rows)
        changed_rows += changed_bars.height
        for reason, count in rows.drop_nulls("suspect").group_by("suspect").len().iter_rows():
            suspect[reason] = suspect.get(reason, 0) + count
    return CleanedBars(summary, changed_rows, suspect)
