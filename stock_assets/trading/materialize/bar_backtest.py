"""The step that makes `backtest`, `bar_equity` and `bar_fills` of a market of bars."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.market.bar_tables import BARS
from stock_assets.market.calendar import calendar_of
from stock_assets.market.intervals import Interval, expected_bars
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.settings import Settings
from stock_assets.storage.changes import ALL_ROWS, Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.bar_backtest import BookedBars, back_test_bars, baselines
from stock_assets.trading.bar_panel import BarMarket, bar_market
from stock_assets.trading.bar_tables import BAR_EQUITY, BAR_FILLS
from stock_assets.trading.book_files import books_of
from stock_assets.trading.books import Book
from stock_assets.trading.materialize.bars import universe_of
from stock_assets.trading.materialize.trials import add_trials, count_trials
from stock_assets.trading.measures import VOLATILITY_SESSIONS
from stock_assets.trading.sensitivities import Cell, rows_of_book
from stock_assets.trading.tables import BACKTEST

#: The back-test is of the newest sessions that every model has predicted, so many at most.
SESSIONS = 30
#: SQL: the sessions that every model has predicted.
_PREDICTED = """
SELECT session FROM model.bar_predictions GROUP BY session HAVING count(DISTINCT model) >= ? ORDER BY session
"""


@dataclass(frozen=True)
class MadeBarBacktest:
    """What `make_bar_backtest` wrote."""

    table: pl.DataFrame
    """the table `backtest`: every book, and the baselines"""
    equity: pl.DataFrame
    """the table `bar_equity`"""


def make_bar_backtest(store: Warehouse, settings: Settings, *, now: datetime) -> MadeBarBacktest:
    """Makes `backtest`, `bar_equity` and `bar_fills` of the newest SESSIONS sessions that are over and predicted: every
    book at every scale of the spread and filled one bar later; the first one with the reference models in the place of
    its own; and the baselines at its costs.

    Every back-test of a book is added to `backtests` as a trial; the first session of a market's models names it.
    Raises MissingTableError before a session is over that every model has predicted, MissingSessionsError for bars
    that are missing.
    """
    predicted_sessions = store.read_sql("bar_predictions", _PREDICTED, [len(BAR_MODELS)])["session"].to_list()
    if not predicted_sessions:
        raise MissingTableError("bar_predictions")
    sessions, books, markets = predicted_sessions[-SESSIONS:], books_of(settings), dict[int, BarMarket]()
    references = [name for name, entry in BAR_MODELS.items() if entry.role == "reference"]
    booked_books: list[BookedBars] = []
    for configured in books:
        book = replace(configured, model=configured.model or BAR_IN_SERVICE)
        market = _market(store, settings, sessions[0], last=sessions[-1], book=book, markets=markets)
        cells: list[Cell] = []
        for model in dict.fromkeys((str(book.model), *(references if not booked_books else ()))):
            own = back_test_bars(
                market,
                _predictions(store, model, sessions),
                replace(book, model=model),
                sleeves=settings.horizon,
                overnight=settings.hold_overnight,
                began=predicted_sessions[0],
                frontier=model == book.model,
            )
            cells += own.cells
            if model == book.model:
                booked_books.append(own)
        add_trials(store, [cell.computed for cell in cells], now=now)
        booked_books[-1] = replace(booked_books[-1], cells=tuple(cells))
    naive = [*baselines(markets[books[0].limits.ended_sessions], booked_books[0].book)]
    table = pl.concat(
        rows_of_book(
            book_bars.cells, book_bars.book, count_trials(store, book_bars.book.name), seed=settings.seed, block=1
        )
        for book_bars in [*booked_books, *naive]
    ).with_columns(first=pl.lit(sessions[0]))
    back_test = MadeBarBacktest(table, pl.concat(book_bars.equity for book_bars in [*booked_books, *naive]))
    fills = pl.concat(book_bars.fills for book_bars in [*booked_books, *naive])
    rows = {
        "backtest": BACKTEST.fit(table),
        "bar_equity": BAR_EQUITY.fit(back_test.equity),
        "bar_fills": BAR_FILLS.fit(fills),
    }
    store.write([Change(name, frame, ALL_ROWS) for name, frame in rows.items()])
    return back_test


def _predictions(store: Warehouse, model: str, sessions: Sequence[date]) -> pl.DataFrame:
    """Rows of `bar_predictions` of `model`, from the first to the last of `sessions`."""
    statement = "SELECT * FROM model.bar_predictions WHERE model = ? AND session BETWEEN ? AND ?"
    return BAR_PREDICTIONS.fit(store.read_sql("bar_predictions", statement, [model, sessions[0], sessions[-1]]))


def _market(
    store: Warehouse, settings: Settings, first: date, *, last: date, book: Book, markets: dict[int, BarMarket]
) -> BarMarket:
    """The market of the sessions from `first` to `last`, one for all books after whose limit a listing ends alike."""
    ends = book.limits.ended_sessions
    if ends not in markets:
        calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
        before, sessions = calendar.before(first, VOLATILITY_SESSIONS), calendar.between(first, last)
        store.require(["bars"], [*before, *sessions], "backtest", why="bars, and what they show of the value traded")
        begin = (*before, first)[0]
        markets[ends] = bar_market(
            BARS.fit(store.read("bars", begin, last)),
            universe_of(store),
            expected_bars(
                calendar, [*before, *sessions, *calendar.between(last, calendar.sessions[-1])[1:2]], interval
            ),
            sessions=sessions,
            length=interval.length,
            limits=book.limits,
        )
    return markets[ends]
