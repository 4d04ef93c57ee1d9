"""The step that makes `backtest`: every book in every way that matters, each of them counted as a trial."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from stock_assets.errors import MissingTableError, TradingError
from stock_assets.market.calendar import calendar_of
from stock_assets.model.registry import ENSEMBLE, naive_baselines
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.book_files import books_of, model_of
from stock_assets.trading.books import Book
from stock_assets.trading.materialize.bars import read_panel
from stock_assets.trading.materialize.targets import first_session, read_own_targets
from stock_assets.trading.materialize.trials import add_trials, count_trials
from stock_assets.trading.panel import Panel
from stock_assets.trading.sensitivities import Cell, cells_of, rows_of_book
from stock_assets.trading.trials import Trials

#: The naive baseline with the lowest mean log-loss among those that were predicted, by its name.
_BEST_NAIVE = """
SELECT model, avg(-ln(greatest(CASE label WHEN 1 THEN p_buy WHEN 0 THEN p_hold ELSE p_sell END, 1e-15))) AS log_loss
FROM model.predictions JOIN features.labels USING (ticker, session)
WHERE label IS NOT NULL AND list_contains(?, model) GROUP BY ALL ORDER BY log_loss, model LIMIT 1
"""


@dataclass(frozen=True)
class MadeBacktest:
    """What `make_backtest` wrote."""

    table: pl.DataFrame
    """the table `backtest`"""
    trials: Trials
    """those of the store by then"""
    models: tuple[str, ...]
    """the models that were tried beside each book's own"""


def make_backtest(store: Warehouse, settings: Settings, *, now: datetime, models: Sequence[str] = ()) -> MadeBacktest:
    """Makes the table `backtest` of every book: with its own model, the ensemble, the best naive model and `models`.

    Its own model is tried at every number of sleeves, scale of the spread and capital, and in every variant; the others
    at every number of sleeves and scale. Each back-test is added to `backtests` as soon as its model is done, so that a
    run that is cut short is counted; then all of them are judged by the trials that the store holds.

    Raises MissingTableError and MissingSessionsError before there are predictions and bars, TradingError for a model of
    `models` that was not predicted.
    """
    predicted_models = _predicted_models(store)
    if missing_models := sorted(set(models) - predicted_models):
        raise TradingError(
            f"a back-test of the model {', '.join(missing_models)} was asked for, which has no predictions; expected "
            f"some of {', '.join(sorted(predicted_models))}"
        )
    others = [model for model in (ENSEMBLE, best_naive(store), *models) if model in predicted_models]
    by_book: dict[Book, list[Cell]] = {}
    for book, frontier, panel in _tasks(store, settings, others):
        targets, _ = read_own_targets(store, settings, book, sessions=panel.sessions, panel=panel)
        cells = [*cells_of(targets, book, frontier=frontier)]
        add_trials(store, [cell.computed for cell in cells], now=now)
        configured = next(other_book for other_book in books_of(settings) if other_book.name == book.name)
        by_book.setdefault(configured, []).extend(cells)
    table = pl.concat(
        rows_of_book(cells, book, count_trials(store, book.name), seed=settings.seed) for book, cells in by_book.items()
    )
    store.replace_table("backtest", table)
    return MadeBacktest(table, count_trials(store), tuple(others))


def _tasks(store: Warehouse, settings: Settings, others: Sequence[str]) -> Iterator[tuple[Book, bool, Panel]]:
    """(book with its model, whether it is its own one, panel): the own model of each book first."""
    last = store.last_session("predictions")
    sessions = calendar_of(settings).between(first_session(settings), last) if last else ()
    if not sessions:
        raise MissingTableError("predictions")
    panels: dict[int, Panel] = {}
    for book in books_of(settings):
        ended_sessions = book.limits.ended_sessions
        if ended_sessions not in panels:
            panels[ended_sessions] = read_panel(store, settings, sessions, limits=book.limits, needed_by="backtest")
        for model in dict.fromkeys((model_of(book), *others)):
            yield replace(book, model=model), model == model_of(book), panels[ended_sessions]


def best_naive(store: Warehouse) -> str | None:
    """The naive baseline whose predictions have the lowest mean log-loss; None where none has a label yet."""
    try:
        rows = store.read_sql("labels", _BEST_NAIVE, [list(naive_baselines())])
    except MissingTableError:
        return None
    return rows["model"][0] if rows.height else None


def _predicted_models(store: Warehouse) -> set[str]:
    return set(store.read_sql("predictions", "SELECT DISTINCT model FROM model.predictions")["model"])
