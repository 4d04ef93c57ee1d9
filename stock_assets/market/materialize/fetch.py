"""The tables `raw_ohlcv` and `fetch_outcomes`: what a source answered, and why it did not."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import NamedTuple

import polars as pl

from stock_assets.errors import EmptySourceError, MissingTableError, SourceError
from stock_assets.frames import KEYS, RowSummary
from stock_assets.market import adjustments, splits
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.clock import require_past
from stock_assets.market.materialize.one_source import require_one_interval, require_one_source
from stock_assets.market.materialize.quarantine import new_in_quarantine
from stock_assets.market.outcomes import expected_tickers, outcomes_of, owed_since, updated_outcomes
from stock_assets.market.requests import LOOK_AGAIN, Request, requests_for, too_many_failures
from stock_assets.market.sources import Answer, Source
from stock_assets.market.tables import FETCH_OUTCOMES, RAW_SCHEMA
from stock_assets.memory import Memory
from stock_assets.settings import Settings
from stock_assets.storage.changes import ALL_ROWS, Change
from stock_assets.storage.partitions import made_without_rows
from stock_assets.storage.ranges import blocks_of, rows_within, session_blocks
from stock_assets.storage.scratch import scratch
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tickers import require_tickers

#: More sessions without any bar, and a larger share of those asked for, are no closure: Moscow closed for 18 in 2022.
LONGEST_CLOSURE, SHARE_CLOSED = 25, 0.10
#: So many tickers show whether there are bars of later sessions.
TICKERS_LOOKED_AT = 5

#: Columns of a bar as it is fetched, compared and stored, in memory.
_COLUMNS = 2 * len(RAW_SCHEMA)
#: A range of no more blocks is asked for at once.
_AT_ONCE = 4


class FetchedBars(NamedTuple):
    """What one fetch brought."""

    bars: RowSummary
    """the answered bars of the asked sessions, also those that were stored already"""
    members: int
    """tickers of which an answer was expected"""
    failures: Mapping[str, str]
    """why there is no answer of some of them, by ticker"""
    new_versions: int
    """rows of the asked sessions that were added to raw_ohlcv"""
    restated_earlier: int
    """rows of earlier sessions that were added to it"""
    unapplied_splits: int
    """findings about splits that were added to quarantine"""
    skipped: tuple[date, ...]
    """the asked sessions of which no ticker has a bar, though some have later ones"""
    held_out: int
    """findings about rows that are no bars that were added to quarantine"""
    uncovered: int
    """findings about sessions that the source's bars of minutes do not cover, likewise"""


class _Answered(NamedTuple):
    """The answer to one request, or to the part of it that is about some tickers."""

    request: Request
    whole: int
    """which of the requests it is a part of"""
    answer: Answer
    """with ticker and session of its bars alone, and no findings"""
    stored_keys: pl.DataFrame
    """ticker, session of the bars that the store has of it"""
    findings: pl.DataFrame
    """those of splits, of rows that were held out and of sessions that minutes do not cover"""
    versions: int
    """bars that are new, or other than stored"""
    of_sessions: int
    """those of them that are of the asked sessions"""


def fetch_bars(
    store: Warehouse, settings: Settings, source: Source, *, sessions: Sequence[date], now: datetime
) -> FetchedBars:
    """Asks `source` for the bars of `sessions` (ascending) and appends what the store does not hold yet.

    It asks for the week before once more, and for what some tickers still owe. New versions, findings and outcomes are
    written in one transaction; then the source may forget what it kept for the case of a kill. A range that does not
    fit into memory is asked for some tickers at a time.

    A session of which no ticker has a bar though some have later ones is skipped: its partition is made without a row.
    Raises SourceError where too many tickers fail or the store holds another source, EmptySourceError where a session
    has no bar of any ticker and none is later, or where too many have none. Then nothing is written.
    """
    require_one_interval(store, settings)
    require_one_source(store, source)
    require_past(store, now)
    universe, outcomes, calendar = store.read("universe"), _stored_outcomes(store), calendar_of(settings)
    members = expected_tickers(universe, sessions[0])
    requests = _requests(store, calendar, universe, sessions=sessions, outcomes=outcomes)
    summary, days = RowSummary(), sorted({day for request in requests for day in request.sessions})
    blocks = session_blocks(dict.fromkeys(days, len(requests[0].tickers)), rows_within(store.memory.block, _COLUMNS))
    in_blocks, at_once, answers = len(blocks) > _AT_ONCE, list[pl.DataFrame](), list[_Answered]()
    with scratch(store.path, blocks) if in_blocks else nullcontext() as scratch_bars:
        for whole, request in enumerate(requests):
            for part in _in_parts(request, store.memory) if in_blocks else [request]:
                answer = _ask(source, part, now)
                summary.add(answer.bars.filter(pl.col("session").is_in(sessions)))
                request_answer, versions = _answer_of(
                    store, calendar, part, answer=answer, whole=whole, sessions=sessions
                )
                (scratch_bars.add if scratch_bars else at_once.append)(versions)
                answers.append(request_answer)
        closed_days, later = _closed_days(answers, source, settings, sessions=sessions, now=now)
        failures = _failures(answers, members, source.name, allowed=settings.max_failed_share)
        outcomes = _outcomes(answers, universe, calendar, later=later, outcomes=outcomes, now=now)
        findings = new_in_quarantine(
            store, pl.concat([request_answer.findings for request_answer in answers]).unique(), now
        )
        changes = [Change("quarantine", findings), Change("fetch_outcomes", outcomes, ALL_ROWS)]
        if scratch_bars:
            new_versions = Change("raw_ohlcv", RAW_SCHEMA.to_frame(), makes=sessions)
            store.write_in_blocks(new_versions, scratch_bars.each("raw_ohlcv", blocks), beside=changes)
        else:
            store.write([Change("raw_ohlcv", pl.concat(at_once), makes=sessions), *changes])
    for request_answer in answers:
        request_answer.answer.settle()
    of_sessions = sum(request_answer.of_sessions for request_answer in answers)
    return FetchedBars(
        summary,
        len(members),
        failures,
        new_versions=of_sessions,
        restated_earlier=sum(request_answer.versions for request_answer in answers) - of_sessions,
        unapplied_splits=findings.filter(pl.col("kind") == "split").height,
        skipped=closed_days,
        held_out=findings.filter(~pl.col("kind").is_in(["split", "minutes", "pause"])).height,
        uncovered=findings.filter(pl.col("kind") == "minutes").height,
    )


def _in_parts(request: Request, memory: Memory) -> list[Request]:
    """`request` some tickers at a time."""
    sizes = ((ticker, len(request.sessions)) for ticker in request.tickers)
    return [Request(part, request.sessions) for part in blocks_of(sizes, rows_within(memory.block, _COLUMNS))]


def _ask(source: Source, request: Request, now: datetime) -> Answer:
    try:
        answer = source.fetch(request.tickers, request.sessions[0], request.sessions[-1], fetched_at=now)
    except EmptySourceError:  # perhaps of a day on which the exchange was closed
        return Answer(RAW_SCHEMA.to_frame())
    require_tickers(answer.bars["ticker"].unique(), f"the bars of the source {source.name}")
    return answer


def _requests(
    store: Warehouse,
    calendar: TradingCalendar,
    universe: pl.DataFrame,
    *,
    sessions: Sequence[date],
    outcomes: pl.DataFrame,
) -> list[Request]:
    """`requests_for` the tickers of `universe`: `sessions`, the stored ones of the week before, and what is owed."""
    tickers = universe["ticker"].unique().sort().to_list()
    before = calendar.before(sessions[0], LOOK_AGAIN)
    sessions_again = store.sessions("raw_ohlcv", before[0], before[-1]) if before else set()
    without_rows = made_without_rows(store.read_sql, "raw_ohlcv")
    sessions_again |= {session for session in before if str(session) in without_rows}
    requested_sessions = sorted({*sessions_again, *sessions})
    return requests_for(
        tickers,
        requested_sessions,
        owed_since=owed_since(outcomes, tickers),
        stored_sessions=partial(store.sessions, "raw_ohlcv"),
    )


def _failures(answers: Sequence[_Answered], members: set[str], source: str, *, allowed: float) -> dict[str, str]:
    """The failed `members` and why they failed, by ticker.

    Raises SourceError that names the failed members where their share in the request for all tickers, which is the
    first, exceeds `allowed`.
    """
    of_first: dict[str, str] = {}
    of_owed: dict[str, str] = {}
    for request_answer in answers:
        reasons = of_owed if request_answer.whole else of_first
        reasons |= {
            ticker: failure.reason for ticker, failure in request_answer.answer.failures.items() if ticker in members
        }
    if message := too_many_failures(of_first, len(members), allowed):
        raise SourceError(f"{source}: {message}")
    return of_first | of_owed


def _answer_of(
    store: Warehouse,
    calendar: TradingCalendar,
    request: Request,
    *,
    answer: Answer,
    whole: int,
    sessions: Sequence[date],
) -> tuple[_Answered, pl.DataFrame]:
    """What the answer to `request` changes in the store, and the versions to append (`RAW_SCHEMA`)."""
    rows = answer.bars.filter(pl.col("session").is_in(request.sessions))
    first, last = request.sessions[0], request.sessions[-1]
    try:
        stored_versions = store.read_tickers("raw_ohlcv", request.tickers, first, last=last)
    except MissingTableError:
        stored_versions = RAW_SCHEMA.to_frame()
    # the store names UTC as the machine does
    stored_versions = adjustments.latest_versions(stored_versions).with_columns(
        fetched_at=adjustments.utc("fetched_at")
    )
    versions = adjustments.new_versions(stored_versions, rows, calendar.closes)
    of_splits = pl.concat([splits.unapplied_splits(answer.bars), splits.uncertain_splits(answer.bars)])
    held_out = answer.findings.filter(pl.col("session").is_in(request.sessions))
    ticker_type = pl.Enum(
        sorted({*request.tickers, *answer.bars["ticker"].unique()})
    )  # a number in the place of a text
    keys = answer.bars.select(pl.col("ticker").cast(ticker_type), "session")
    request_answer = _Answered(
        request,
        whole,
        replace(answer, bars=keys, findings=held_out.clear()),
        stored_versions.select("ticker", "session"),
        pl.concat([of_splits.join(rows, on=KEYS, how="semi"), held_out]),
        versions.height,
        versions.filter(pl.col("session").is_in(sessions)).height,
    )
    return request_answer, versions


def _outcomes(
    answers: Sequence[_Answered],
    universe: pl.DataFrame,
    calendar: TradingCalendar,
    *,
    later: pl.DataFrame,
    outcomes: pl.DataFrame,
    now: datetime,
) -> pl.DataFrame:
    """All of `fetch_outcomes` after the `answers`; `later` bars are only known to be."""
    by_session = [_one_a_session(request_answer) for request_answer in answers]
    for place, request_answer in enumerate(answers):
        keys = request_answer.answer.bars.with_columns(pl.col("ticker").cast(pl.String))
        # of the others of the same request one bar a session: it shows that the exchange was open
        others = [
            by_session[k]
            for k, other_answer in enumerate(answers)
            if other_answer.whole == request_answer.whole and k != place
        ]
        new = outcomes_of(
            replace(request_answer.answer, bars=keys),
            pl.concat([request_answer.stored_keys, later.select(KEYS), *others]),
            tickers=request_answer.request.tickers,
            sessions=request_answer.request.sessions,
            universe=universe,
            calendar=calendar,
            fetched_at=now,
        )
        outcomes = updated_outcomes(
            outcomes,
            new,
            tickers=request_answer.request.tickers,
            sessions=request_answer.request.sessions,
            calendar=calendar,
        )
    return outcomes


def _one_a_session(request_answer: _Answered) -> pl.DataFrame:
    """ticker, session of one bar of each session."""
    answered_keys = request_answer.answer.bars.unique("session").with_columns(pl.col("ticker").cast(pl.String))
    return pl.concat([answered_keys, request_answer.stored_keys.unique("session")])


def _stored_outcomes(store: Warehouse) -> pl.DataFrame:
    """The table `fetch_outcomes`; no row before the first write."""
    return FETCH_OUTCOMES.fit(store.read_or(FETCH_OUTCOMES.empty(), "fetch_outcomes"))


def _closed_days(
    answers: Sequence[_Answered], source: Source, settings: Settings, *, sessions: Sequence[date], now: datetime
) -> tuple[tuple[date, ...], pl.DataFrame]:
    """Those of `sessions` without a bar of any ticker, and later bars (ticker, session), which show that the exchange
    was closed on them.

    Raises EmptySourceError for a session of `sessions` without any bar where there is no later one, and where there are
    more such sessions than a closure explains.
    """
    first = [request_answer for request_answer in answers if not request_answer.whole]
    tickers = [ticker for request_answer in first for ticker in request_answer.request.tickers]
    traded_sessions = set[date]().union(*(request_answer.answer.bars["session"].unique() for request_answer in first))
    absent_sessions = sorted(set(sessions) - traded_sessions)
    if not absent_sessions:
        return (), RAW_SCHEMA.to_frame()
    later = pl.concat([_one_a_session(request_answer) for request_answer in first]).filter(
        pl.col("session") > absent_sessions[-1]
    )
    last_closed = calendar_of(settings).last_closed(now)
    if later.is_empty() and last_closed and last_closed > absent_sessions[-1]:
        # any bar since will do, so few tickers are requested
        later = _ask(source, Request(tickers[:TICKERS_LOOKED_AT], [absent_sessions[-1], last_closed]), now).bars
        later = later.filter(pl.col("session") > absent_sessions[-1])
    session_names = f"{', '.join(map(str, absent_sessions[:5]))}{', …' if len(absent_sessions) > 5 else ''}"
    count = f"{len(absent_sessions)} session(s)"
    message = f"{source.name} has no bar of any of {len(tickers)} tickers for {count}: {session_names}"
    if later.is_empty():
        end = max(traded_sessions, default=None)
        if source.name == "snapshot" and end is not None:
            message += f", its bars end on {end}: set STOCK_ASSETS_END={end} where it is closed"
        raise EmptySourceError(
            f"{message}; {settings.exchange} was open, so every session should have some. If it was closed, the day is "
            "skipped once a later session has bars, or at once where STOCK_ASSETS_MISSING_SESSIONS names it"
        )
    if len(absent_sessions) > max(LONGEST_CLOSURE, SHARE_CLOSED * len(sessions)):
        raise EmptySourceError(
            f"{message}; expected at most {LONGEST_CLOSURE}, or {SHARE_CLOSED:.0%} of the {len(sessions)} sessions "
            f"asked for. Is {settings.exchange} the exchange of these prices (STOCK_ASSETS_EXCHANGE)?"
        )
    return tuple(absent_sessions), later
