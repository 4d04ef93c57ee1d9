"""The tables `raw_ohlcv` and `fetch_outcomes`: what a source answered, and why it did not."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import NamedTuple

import polars as pl

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market import adjustments, splits
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.materialize.one_source import require_one_source
from stock_assets.market.materialize.quarantine import new_in_quarantine
from stock_assets.market.outcomes import expected_tickers, outcomes_of, owed_since, updated_outcomes
from stock_assets.market.requests import LOOK_AGAIN, Request, requests_for, too_many_failures
from stock_assets.market.sources import Answer, Source
from stock_assets.market.tables import FETCH_OUTCOMES, RAW_SCHEMA
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import ALL_ROWS, Change, Warehouse


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
    """those of splits and of what the source held out, as far as they are new (`QUARANTINE_SCHEMA`)"""


def fetch_bars(
    store: Warehouse, settings: Settings, source: Source, *, sessions: Sequence[date], now: datetime
) -> FetchedBars:
    """Asks `source` for the bars of `sessions` (ascending) and appends what the store does not hold yet.

    It asks for the week before once more, and for what some tickers still owe. New versions, findings and outcomes are
    written in one transaction; then the source may forget what it kept for the case of a kill.

    Raises SourceError where too many tickers fail or the store holds another source, EmptySourceError where a session
    has no bar of any ticker. Then nothing is written.
    """
    require_one_source(store, source)
    universe, outcomes = store.read("universe"), _stored_outcomes(store)
    members = expected_tickers(universe, sessions[0])
    requests = _requests(store, calendar_of(settings), universe, sessions=sessions, outcomes=outcomes)
    answered = [(request, _ask(source, request, now)) for request in requests]
    failures = _failures([answer for _, answer in answered], members, source.name, allowed=settings.max_failed_share)
    news = _news(store, calendar_of(settings), universe, answered=answered, outcomes=outcomes, now=now)
    bars = answered[0][1].bars.filter(pl.col("session").is_in(sessions))
    _require_every_session(bars, sessions, universe, source=source.name, exchange=settings.exchange)
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
        held_out=news.findings.filter(~pl.col("kind").is_in(["split", "minutes"])).height,
        uncovered=news.findings.filter(pl.col("kind") == "minutes").height,
    )


def _ask(source: Source, request: Request, now: datetime) -> Answer:
    return source.fetch(request.tickers, request.sessions[0], request.sessions[-1], fetched_at=now)


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
    outcomes: pl.DataFrame,
    now: datetime,
) -> _News:
    """What the `answered` requests change in the store, which holds `outcomes`."""
    versions: list[pl.DataFrame] = []
    findings: list[pl.DataFrame] = []
    for (tickers, sessions), answer in answered:
        rows = answer.bars.filter(pl.col("session").is_in(sessions))
        stored = store.read_or(RAW_SCHEMA.to_frame(), "raw_ohlcv", sessions[0], last=sessions[-1])
        stored = adjustments.latest_versions(stored)
        new = outcomes_of(
            answer, stored, tickers=tickers, sessions=sessions, universe=universe, calendar=calendar, fetched_at=now
        )
        outcomes = updated_outcomes(outcomes, new, tickers=tickers, sessions=sessions, calendar=calendar)
        versions.append(adjustments.new_versions(stored, rows, calendar.closes))
        of_splits = pl.concat([splits.unapplied_splits(answer.bars), splits.uncertain_splits(answer.bars)])
        findings += [of_splits.join(rows, on=["ticker", "session"], how="semi"), answer.findings]
    quarantine = new_in_quarantine(store, pl.concat(findings).unique(), now)
    return _News(pl.concat(versions), outcomes, quarantine)


def _stored_outcomes(store: Warehouse) -> pl.DataFrame:
    """The table `fetch_outcomes`; no row before the first write."""
    return FETCH_OUTCOMES.fit(store.read_or(FETCH_OUTCOMES.empty(), "fetch_outcomes"))


def _require_every_session(
    bars: pl.DataFrame, sessions: Sequence[date], universe: pl.DataFrame, *, source: str, exchange: str
) -> None:
    if absent := sorted(set(sessions) - set(bars["session"])):
        raise EmptySourceError(
            f"{source} has no bar of any of {universe['ticker'].n_unique()} tickers for {len(absent)} "
            f"session(s): {', '.join(map(str, absent[:5]))}{', …' if len(absent) > 5 else ''}; "
            f"{exchange} was open, so every session should have some"
        )
