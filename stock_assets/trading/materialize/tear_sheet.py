"""The step that makes `tear_sheet`: a self-contained HTML page per book, and one that lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from stock_assets.market.calendar import calendar_of, currency_of
from stock_assets.objects import Place, put
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.attainable import attainable
from stock_assets.trading.book_files import books_of, model_of
from stock_assets.trading.books import Book
from stock_assets.trading.findings import Replayed, TearSheetInputs
from stock_assets.trading.materialize.bars import universe_of
from stock_assets.trading.materialize.trials import count_trials
from stock_assets.trading.statistics import ANNUAL
from stock_assets.trading.tables import BACKTEST
from stock_assets.trading.tear_sheet import TearSheet, make_tear_sheet, page_of, render_index, render_tear_sheet

BAR_COLUMNS = ("ticker", "session", "open", "close", "volume", "dividend", "split_ratio", "suspect")


@dataclass(frozen=True)
class MadeTearSheets:
    """What `make_tear_sheets` wrote."""

    sheets: tuple[TearSheet, ...]
    """one per book"""
    index: Place
    """the page that lists them"""

    @property
    def table(self) -> pl.DataFrame:
        """The table `tear_sheet`."""
        return pl.concat([sheet.table for sheet in self.sheets])


def folder_of(settings: Settings) -> Place:
    """Where the pages are."""
    return settings.artifacts / "tear_sheet"


def make_tear_sheets(
    store: Warehouse, settings: Settings, *, replays: Mapping[str, Replayed] | None = None
) -> MadeTearSheets:
    """Makes the table `tear_sheet` and the pages of every book, from its ledger and from `backtest` where it is made.

    `replays` are those of what was predicted each evening, by the name of the book.
    Raises MissingTableError before there is a ledger.
    """
    books = books_of(settings)
    replay_of_book = replays or {}
    inputs = [replace(read_inputs(store, settings, book), replay=replay_of_book.get(book.name)) for book in books]
    sheets = tuple(map(make_tear_sheet, inputs))
    names, folder = [book.name for book in books], folder_of(settings)
    for sheet in sheets:
        page = render_tear_sheet(sheet, others=names)
        put(folder / page_of(sheet.findings.inputs.book.name), page.encode())
    put(folder / "index.html", render_index(sheets, source=settings.source).encode())
    tear_sheets = MadeTearSheets(sheets, folder / "index.html")
    store.replace_table("tear_sheet", tear_sheets.table)
    return tear_sheets


def read_inputs(store: Warehouse, settings: Settings, book: Book) -> TearSheetInputs:
    """Everything that the tear sheet of `book` is made from."""
    equity = _of_book(store, "equity", book)
    first, last = equity["session"].min(), equity["session"].max()
    return TearSheetInputs(
        book=book,
        model=model_of(book),
        source=settings.source,
        currency=currency_of(settings),
        equity=equity,
        positions=_of_book(store, "positions", book),
        fills=_of_book(store, "fills", book),
        targets=_of_book(store, "target_weights", book, columns=("session", "ticker", "score", "reason")),
        backtest=store.read_or(BACKTEST.empty(), "backtest").filter(pl.col("book") == book.name),
        trials=count_trials(store, book.name),
        bars=store.read("daily_bars", first, last, columns=BAR_COLUMNS),  # pyright: ignore[reportArgumentType]: dates
        universe=universe_of(store).select("ticker", "sector"),
        seed=settings.seed,
        attainable=_attainable(settings, equity),
    )


def _attainable(settings: Settings, equity: pl.DataFrame) -> float | None:
    """The highest Sharpe ratio of a year that the simulated market allows in the sessions of `equity`; None for another
    source, and without a session that has a return."""
    sessions = equity.filter(pl.col("net_return").is_not_null())["session"].sort()
    if settings.source != "simulated" or sessions.is_empty():
        return None
    calendar = calendar_of(settings)
    return attainable(settings.seed, [calendar.position(session) for session in sessions]).limit * ANNUAL


def _of_book(store: Warehouse, table: str, book: Book, *, columns: Sequence[str] = ("*",)) -> pl.DataFrame:
    return store.read_sql(table, f"SELECT {', '.join(columns)} FROM trading.{table} WHERE book = ?", [book.name])
