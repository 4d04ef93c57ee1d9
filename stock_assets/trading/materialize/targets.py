"""The step that makes `target_weights`: what every book wants to hold after a close."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import books_of, digest_of, model_of
from stock_assets.trading.books import Book
from stock_assets.trading.materialize.bars import read_panel, universe_of
from stock_assets.trading.panel import Panel
from stock_assets.trading.targets import (
    PREDICTION_COLUMNS,
    OwnTargets,
    choose_sleeves,
    lookback_of,
    own_targets,
    scores_of,
    target_rows,
)

#: SQL: the number of sleeves of each year that rows outside a range were made with.
_SLEEVES = """
SELECT year(session) AS year, min(sleeves) AS sleeves FROM trading.target_weights
WHERE book = ? AND settings = ? AND session NOT BETWEEN ? AND ? GROUP BY ALL
"""
_NO_RANGE = (date.max, date.min)


@dataclass(frozen=True)
class MadeTargets:
    """The rows of `target_weights` that were stored."""

    rows: pl.DataFrame
    """those of the asked sessions, and of later ones whose targets look back at them"""
    sectors: pl.DataFrame
    """ticker, sector"""
    notes: tuple[str, ...]
    """sentences about books that hold what they have, and about the number of sleeves"""


def first_session(settings: Settings) -> date:
    """The first session of a book: the first that a model may serve."""
    calendar = calendar_of(settings)
    return calendar.between(date(settings.model_start_year, 1, 1), calendar.sessions[-1])[0]


def make_target_weights(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeTargets:
    """Makes `target_weights` of `sessions`, ascending, of every book, in one transaction.

    Sessions after them that are stored already and look back at them are made again with them. A book whose number of
    sleeves is open gets that of each year from the net returns of the years before; a year that has stored rows outside
    `sessions` keeps theirs. Raises MissingSessionsError where bars or predictions are missing.
    """
    books, calendar = books_of(settings), calendar_of(settings)
    reach = max(map(lookback_of, books))
    end = calendar.shift(sessions[-1], reach) or calendar.sessions[-1]
    present_sessions = {*sessions} | store.sessions("target_weights", sessions[0], end)
    made_sessions = [session for session in calendar.between(sessions[0], end) if session in present_sessions]
    sleeves = {book.name: _decided_sleeves(store, book, made_sessions, requested_sessions=sessions) for book in books}
    is_open = any(len(of_book) < len({session.year for session in made_sessions}) for of_book in sleeves.values())
    first = first_session(settings)
    begin = first if is_open else max(first, (*calendar.before(made_sessions[0], reach), made_sessions[0])[0])
    parts, notes, panels = [], [], {}
    for book in books:
        ends = book.limits.ended_sessions
        if ends not in panels:
            span = calendar.between(begin, made_sessions[-1])
            panels[ends] = read_panel(store, settings, span, limits=book.limits, needed_by="target_weights")
        panel = panels[ends]
        targets, predictions = read_own_targets(store, settings, book, sessions=panel.sessions, panel=panel)
        sleeves_of_years = sleeves[book.name]
        sleeves_of_years |= choose_sleeves(
            targets, book, {session.year for session in made_sessions} - set(sleeves_of_years)
        )
        parts.append(target_rows(targets, predictions, made_sessions, book=book, sleeves=sleeves_of_years))
        notes += _notes(book, targets, sessions=made_sessions, sleeves=sleeves_of_years)
    rows = pl.concat(parts).sort("session", "book", "ticker")
    store.replace_sessions("target_weights", made_sessions, rows)
    sectors = universe_of(store).select("ticker", "sector").unique("ticker", keep="last", maintain_order=True)
    return MadeTargets(rows, sectors, tuple(notes))


def read_own_targets(
    store: Warehouse, settings: Settings, book: Book, *, sessions: Sequence[date], panel: Panel | None = None
) -> tuple[OwnTargets, pl.DataFrame]:
    """(own targets, predictions of the book's model) of `sessions`, ascending and without gaps."""
    store.require(["predictions"], sessions, "target_weights")
    panel = panel or read_panel(store, settings, sessions, limits=book.limits, needed_by="target_weights")
    predictions = read_predictions(store, model_of(book), sessions)
    return own_targets(panel, scores_of(predictions, panel, book), book), predictions


def read_predictions(store: Warehouse, model: str, sessions: Sequence[date]) -> pl.DataFrame:
    """The rows of `model` from the first to the last of `sessions`."""
    columns = ", ".join(PREDICTION_COLUMNS)
    statement = f"SELECT {columns} FROM model.predictions WHERE model = ? AND session BETWEEN ? AND ?"
    return store.read_sql("predictions", statement, [model, sessions[0], sessions[-1]])


def _decided_sleeves(
    store: Warehouse, book: Book, sessions: Sequence[date], *, requested_sessions: Sequence[date]
) -> dict[int, int]:
    """The number of sleeves of those years of `sessions` that have it: configured, or in rows outside of
    `requested_sessions`."""
    years = {session.year for session in sessions}
    if book.sleeves is not None:
        return dict.fromkeys(years, book.sleeves)
    stored_sleeves = sleeves_by_year(store, book, without=(requested_sessions[0], requested_sessions[-1]))
    return {year: number for year, number in stored_sleeves.items() if year in years}


def sleeves_by_year(store: Warehouse, book: Book, *, without: tuple[date, date] = _NO_RANGE) -> dict[int, int]:
    """The number of sleeves that the stored rows of `book` were made with, by year; those of `without` do not count."""
    try:
        rows = store.read_sql("target_weights", _SLEEVES, [book.name, digest_of(book), *without])
    except MissingTableError:
        return {}
    return dict(rows.drop_nulls().iter_rows())


def _notes(book: Book, targets: OwnTargets, *, sessions: Sequence[date], sleeves: Mapping[int, int]) -> list[str]:
    """What a person should see of a book: that it holds what it has, and its sleeves."""
    number = ", ".join(f"{year}: {of_year}" for year, of_year in sleeves.items())
    notes = [f"book {book.name}: sleeves by year {number}"]
    in_sessions = np.isin(
        np.array(targets.panel.sessions, dtype="datetime64[D]"), np.array(sessions, dtype="datetime64[D]")
    )
    few = in_sessions & (targets.eligible < book.limits.fewest_names)
    if few.any():
        least = int(targets.eligible[few].min())
        notes.append(
            f"book {book.name}: on {int(few.sum())} session(s) it holds what it has, since as few as {least} tickers "
            f"could be chosen; its limit fewest_names is {book.limits.fewest_names}"
        )
    return notes
