"""The tables `raw_ohlcv` and `fetch_outcomes`: what a source answered, and why it did not."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import NamedTuple

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market import adjustments, splits
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.clock import require_past
from stock_assets.market.materialize.one_source import require_one_source
from stock_assets.market.materialize.quarantine import new_in_quarantine
from stock_assets.market.outcomes import expected_tickers, outcomes_of, owed_since, updated_outcomes
from stock_assets.market.requests import LOOK_AGAIN, Request, requests_for, too_many_failures
from stock_assets.market.sources import Answer, Source
from stock_assets.market.tables import FETCH_OUTCOMES, RAW_SCHEMA
from stock_assets.settings import Settings
from stock_assets.storage.changes import ALL_ROWS, Change
from stock_assets.storage.partitions import made_without_rows
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tickers import require_tickers

#: More sessions without any bar, and a larger share of those asked for, are no closure: Moscow closed for 18 in 2022.
LONGEST_CLOSURE, SHARE_CLOSED = 25, 0.10
#: So many tickers show whether there are bars of later sessions.
TICKERS_LOOKED_AT = 5


class FetchedBars(NamedTuple):
    """What one fetch brought."""

    bars: pl.DataFrame
    """the answered bars of the asked sessions (`RAW_SCHEMA`), also those that were stored already"""
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


class _News(NamedTuple):
    """What the answers of a source change in the store."""

    versions: pl.DataFrame
    """bars that are new, or other than stored (`RAW_SCHEMA`)"""
    outcomes: pl.DataFrame
    """all of `fetch_outcomes` (`OUTCOME_SCHEMA`)"""
    findings: pl.DataFrame
    """those of splits, of rows that were held out and of sessions that minutes do not cover, as far as they are new"""


def fetch_bars(
    store: Warehouse, settings: Settings, source: Source, *, sessions: Sequence[date], now: datetime
) -> FetchedBars:
    """Asks `source` for the bars of `sessions` (ascending) and appends what the store does not hold yet.

    It asks for the week before once more, and for what some tickers still owe. New versions, findings and outcomes are
    written in one transaction; then the source may forget what it kept for the case of a kill.

    A session of which no ticker has a bar though some have later ones is skipped: its partition is made without a row.
    Raises SourceError where too many tickers fail or the store holds another source, EmptySourceError where a session
    has no bar of any ticker and none is later, or where too many have none. Then nothing is written.
    """
    require_one_source(store, source)
    require_past(store, now)
    universe, outcomes = store.read("universe"), _stored_outcomes(store)
    members = expected_tickers(universe, sessions[0])
    requests = _requests(store, calendar_of(settings), universe, sessions=sessions, outcomes=outcomes)
    answered = [(request, _ask(source, request, now)) for request in requests]
    skipped, later = _closed_days(answered[0], source, settings, sessions=sessions, now=now)
    failures = _failures([answer for _, answer in answered], members, source.name, allowed=settings.max_failed_share)
    news = _news(store, calendar_of(settings), universe, answered=answered, later=later, outcomes=outcomes, now=now)
    bars = answered[0][1].bars.filter(pl.col("session").is_in(sessions))
    changes = [
        Change("raw_ohlcv", news.versions, makes=sessions),
        Change("quarantine", news.findings),
        Change("fetch_outcomes", news.outcomes, ALL_ROWS),
    ]
    store.write(changes)
    for _, answer in answered:
        answer.settle()
    of_sessions = news.versions.filter(pl.col("session").is_in(sessions)).height
    return FetchedBars(
        bars,
        len(members),
        failures,
        new_versions=of_sessions,
        restated_earlier=news.versions.height - of_sessions,
        unapplied_splits=news.findings.filter(pl.col("kind") == "split").height,
        skipped=skipped,
        held_out=news.findings.filter(~pl.col("kind").is_in(["split", "minutes", "pause"])).height,
        uncovered=news.findings.filter(pl.col("kind") == "minutes").height,
    )


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
    again = store.sessions("raw_ohlcv", before[0], before[-1]) if before else set()
    without_rows = made_without_rows(store.read_sql, "raw_ohlcv")
    again |= {session for session in before if str(session) in without_rows}
    asked = sorted({*again, *sessions})
    return requests_for(
        tickers, asked, owed=owed_since(outcomes, tickers), stored_sessions=partial(store.sessions, "raw_ohlcv")
    )


def _failures(answers: Sequence[Answer], members: set[str], source: str, *, allowed: float) -> dict[str, str]:
    """The failed `members` and why they failed, by ticker.

    The first of `answers` is that to the request for all tickers. Raises SourceError that names the failed members
    where their share in it exceeds `allowed`.
    """
    first, *of_owed = (
        {ticker: failure.reason for ticker, failure in answer.failures.items() if ticker in members}
        for answer in answers
    )
    if message := too_many_failures(first, len(members), allowed):
        raise SourceError(f"{source}: {message}")
    for more in of_owed:
        first |= more
    return first


def _news(
    store: Warehouse,
    calendar: TradingCalendar,
    universe: pl.DataFrame,
    *,
    answered: Sequence[tuple[Request, Answer]],
    later: pl.DataFrame,
    outcomes: pl.DataFrame,
    now: datetime,
) -> _News:
    """What the `answered` requests change in the store, which holds `outcomes`; `later` bars are only known to be."""
    versions: list[pl.DataFrame] = []
    findings: list[pl.DataFrame] = []
    for (tickers, sessions), answer in answered:
        rows = answer.bars.filter(pl.col("session").is_in(sessions))
        stored = store.read_or(RAW_SCHEMA.to_frame(), "raw_ohlcv", sessions[0], last=sessions[-1])
        # the store names UTC as the machine does
        stored = adjustments.latest_versions(stored).with_columns(fetched_at=adjustments.utc("fetched_at"))
        bars_there = pl.concat(frame.select("ticker", "session") for frame in (stored, later))
        new = outcomes_of(
            answer,
            bars_there,
            tickers=tickers,
            sessions=sessions,
            universe=universe,
            calendar=calendar,
            fetched_at=now,
        )
        outcomes = updated_outcomes(outcomes, new, tickers=tickers, sessions=sessions, calendar=calendar)
        versions.append(adjustments.new_versions(stored, rows, calendar.closes))
        of_splits = pl.concat([splits.unapplied_splits(answer.bars), splits.uncertain_splits(answer.bars)])
        held_out = answer.findings.filter(pl.col("session").is_in(sessions))
        findings += [of_splits.join(rows, on=["ticker", "session"], how="semi"), held_out]
    quarantine = new_in_quarantine(store, pl.concat(findings).unique(), now)
    return _News(pl.concat(versions), outcomes, quarantine)


def _stored_outcomes(store: Warehouse) -> pl.DataFrame:
    """The table `fetch_outcomes`; no row before the first write."""
    return FETCH_OUTCOMES.fit(store.read_or(FETCH_OUTCOMES.empty(), "fetch_outcomes"))


def _closed_days(
    answered: tuple[Request, Answer], source: Source, settings: Settings, *, sessions: Sequence[date], now: datetime
) -> tuple[tuple[date, ...], pl.DataFrame]:
    """Those of `sessions` without a bar of any ticker, and later bars (`RAW_SCHEMA`), which show that the exchange was
    closed on them.

    Raises EmptySourceError for a session of `sessions` without any bar where there is no later one, and where there are
    more such sessions than a closure explains.
    """
    (tickers, _), answer = answered
    absent = sorted(set(sessions) - set(answer.bars["session"].unique()))
    if not absent:
        return (), RAW_SCHEMA.to_frame()
    later = answer.bars.filter(pl.col("session") > absent[-1])
    last_closed = calendar_of(settings).last_closed(now)
    if later.is_empty() and last_closed and last_closed > absent[-1]:
        # any bar since will do, so few tickers are requested
        later = _ask(source, Request(tickers[:TICKERS_LOOKED_AT], [absent[-1], last_closed]), now).bars
        later = later.filter(pl.col("session") > absent[-1])
    spelled = f"{', '.join(map(str, absent[:5]))}{', …' if len(absent) > 5 else ''}"
    what = f"{source.name} has no bar of any of {len(tickers)} tickers for {len(absent)} session(s): {spelled}"
    if later.is_empty():
        end = answer.bars["session"].max()
        if source.name == "snapshot" and end is not None:
            what += f", its bars end on {end}: set STOCK_ASSETS_END={end} where it is closed"
        raise EmptySourceError(
            f"{what}; {settings.exchange} was open, so every session should have some. If it was closed, the day is "
            "skipped once a later session has bars, or at once where STOCK_ASSETS_MISSING_SESSIONS names it"
        )
    if len(absent) > max(LONGEST_CLOSURE, SHARE_CLOSED * len(sessions)):
        raise EmptySourceError(
            f"{what}; expected at most {LONGEST_CLOSURE}, or {SHARE_CLOSED:.0%} of the {len(sessions)} sessions asked "
            f"for. Is {settings.exchange} the exchange of these prices (STOCK_ASSETS_EXCHANGE)?"
        )
    return tuple(absent), later
