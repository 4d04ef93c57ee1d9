"""The step that makes `fills`, `positions` and `equity`: every book through its sessions, from how it stood before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import MissingTableError, TradingError
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared
from stock_assets.trading.book_files import books_of, digest_of
from stock_assets.trading.books import Book
from stock_assets.trading.ledger import Account
from stock_assets.trading.materialize.bars import read_panel
from stock_assets.trading.materialize.targets import first_session
from stock_assets.trading.panel import Panel
from stock_assets.trading.portfolio import VOLATILITY_WINDOW
from stock_assets.trading.simulation import TABLES, Simulation, State, grid_of, simulate

#: Sessions at whose closes the orders of a session may have been decided.
DECIDED_BEFORE = 2
#: Sessions whose returns show whether a book is too good to be honest: a year.
JUDGED = 252


@dataclass(frozen=True)
class MadeLedger:
    """The rows that were stored."""

    rows: Mapping[str, pl.DataFrame]
    """of fills, positions and equity, by table: of the asked sessions and of all later ones that were there"""
    returns: pl.DataFrame
    """book, session, gross_return of the JUDGED sessions up to the last of them"""


@dataclass(frozen=True)
class Standing:
    """A book at a close, with the orders that it decides there."""

    book: Book
    session: date
    panel: Panel
    """its last session is `session`"""
    state: State
    weights: np.ndarray
    """float64 [N]: the scaled targets; NaN holds what there is"""
    orders: np.ndarray
    """float64 [N]: shares for the next session"""


def make_ledger(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> MadeLedger:
    """Makes `fills`, `positions` and `equity` of `sessions`, ascending, of every book, in one transaction.

    A book stands at the close before as its rows say, and is opened at the first session that a model may serve. Later
    sessions that are there already follow from these, so they are made again with them. Raises MissingSessionsError for
    targets or bars that are missing, and TradingError where the session before has no rows of a book, or rows that were
    made under other settings of it.
    """
    calendar, first = calendar_of(settings), first_session(settings)
    last = max(sessions[-1], store.last_session("equity") or sessions[-1])
    made_sessions = calendar.between(sessions[0], last)
    before = calendar.between(first, sessions[0])[:-1][-DECIDED_BEFORE:]
    span = [*before, *made_sessions]
    store.require(["target_weights"], span[:-1], "equity", why="what its orders were decided on")
    frames: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    panels: dict[int, Panel] = {}
    for book in books_of(settings):
        panel = _panel(store, settings, span, book=book, panels=panels)
        state = read_state(store, settings, book, session=before[-1], panel=panel) if before else None
        weights = read_weights(store, book, panel)
        simulation = simulate(panel, weights, book, state=state, after=max(len(before) - 1, 0))
        for name, rows in simulation.frames.items():
            frames[name].append(rows)
    rows = {name: pl.concat(parts).sort(TABLES[name].keys) for name, parts in frames.items()}
    replaced_keys = pl.DataFrame({"session": made_sessions}, schema={"session": pl.Date})
    store.write([Change(name, rows[name], replaced_keys) for name in TABLES])
    since = (*calendar.before(last, JUDGED - 1), last)[0]
    returns = store.read("equity", since, last, columns=["book", "session", "gross_return"])
    return MadeLedger(rows, returns)


def standing(store: Warehouse, settings: Settings, book: Book, *, session: date) -> Standing:
    """How `book` stands at the close of `session`, and the orders that it decides there for the next one.

    Raises as `make_ledger`.
    """
    before = calendar_of(settings).between(first_session(settings), session)[-DECIDED_BEFORE:]
    store.require(["target_weights"], before, "orders", why="what its orders are decided on")
    panel = _panel(store, settings, before, book=book, panels={})
    state = read_state(store, settings, book, session=session, panel=panel)
    weights = read_weights(store, book, panel)
    simulation: Simulation = simulate(panel, weights, book, state=state, after=len(before) - 1)
    return Standing(book, session, panel, state, weights[-1] * state.scales[-1], simulation.orders)


def read_state(store: Warehouse, settings: Settings, book: Book, *, session: date, panel: Panel) -> State:
    """How `book` stands at the close of `session`, which `panel` has. Raises TradingError as `make_ledger`."""
    first = (*calendar_of(settings).before(session, VOLATILITY_WINDOW), session)[0]
    equity = _rows_of(
        store, "equity", "session, cash, net_return, scale, settings", book=book, first=first, last=session
    )
    _require_continuity(equity, settings, book, session=session)
    positions = _rows_of(
        store, "positions", "session, ticker, shares, mark, frozen", book=book, first=session, last=session
    )
    positions = positions.filter(pl.col("shares") != 0)
    if strange := sorted(set(positions["ticker"]) - set(panel.tickers)):
        raise TradingError(
            f"book {book.name}, session {session}: it holds {strange[0]}, of which daily_bars has no bar any more; "
            f"{_remedy(settings, session)}"
        )
    t = panel.position(session)
    close = np.where(panel.trusted[t], panel.close[t], np.nan)
    shares, marks, frozen = (
        grid_of(positions, name, sessions=[session], tickers=panel.tickers)[0] for name in ("shares", "mark", "frozen")
    )
    account = Account(
        np.asarray(float(equity["cash"][-1])),
        np.nan_to_num(shares),
        np.where(np.isnan(close), marks, close),
        np.nan_to_num(frozen).astype(np.int64),
    )
    scales = equity["scale"].to_list()
    returns = [(row or 0.0) / scale for row, scale in zip(equity["net_return"].to_list()[1:], scales[:-1], strict=True)]
    return State(account, tuple(scales), tuple(returns))


def _require_continuity(equity: pl.DataFrame, settings: Settings, book: Book, *, session: date) -> None:
    """Raises TradingError unless the last row of `equity` is of `session` and of the settings that `book` has now."""
    if equity.is_empty() or equity["session"][-1] != session:
        raise TradingError(
            f"book {book.name}, session {session}: it has no equity, from which the next session goes on; "
            f"{_remedy(settings, session)}"
        )
    if (stored_digest := equity["settings"][-1]) != (digest := digest_of(book)):
        raise TradingError(
            f"book {book.name}, session {session}: its equity was made under other settings ({stored_digest}, now "
            f"{digest}), and a book does not go on under new ones; {_remedy(settings, session)}, or configure the new "
            "book under another name"
        )


def _remedy(settings: Settings, session: date) -> str:
    first = first_session(settings)
    return f"materialize target_weights, fills, positions and equity from {first} to {session}, or to a later session"


def read_weights(store: Warehouse, book: Book, panel: Panel) -> np.ndarray:
    """float64 [T, N]: the targets of `book` at the closes of `panel`; NaN without a row, which holds what there is."""
    columns = "session, ticker, weight, settings"
    rows = _rows_of(store, "target_weights", columns, book=book, first=panel.sessions[0], last=panel.sessions[-1])
    if (other := rows.filter(pl.col("settings") != digest_of(book)).head(1)).height:
        raise TradingError(
            f"book {book.name}, session {other['session'][0]}: its targets were made under other settings "
            f"({other['settings'][0]}, now {digest_of(book)}); materialize target_weights from {panel.sessions[0]} to "
            f"{panel.sessions[-1]} first"
        )
    rows = rows.filter(pl.col("ticker").is_in(list(panel.tickers)))
    return grid_of(rows, "weight", sessions=panel.sessions, tickers=panel.tickers)


def _panel(
    store: Warehouse, settings: Settings, sessions: Sequence[date], *, book: Book, panels: dict[int, Panel]
) -> Panel:
    """The panel of `sessions`, one for all books after whose limit a listing ends alike."""
    ends = book.limits.ended_sessions
    if ends not in panels:
        panels[ends] = read_panel(store, settings, sessions, limits=book.limits, needed_by="equity")
    return panels[ends]


def _rows_of(store: Warehouse, table: str, columns: str, *, book: Book, first: date, last: date) -> pl.DataFrame:
    """`columns` of the rows of `book` from `first` to `last`, sorted by session; none before the first write."""
    statement = f"SELECT {columns} FROM trading.{table} WHERE book = ? AND session BETWEEN ? AND ? ORDER BY session"
    try:
        return store.read_sql(table, statement, [book.name, first, last])
    except MissingTableError:
        return declared(table).empty().select(columns.split(", "))
