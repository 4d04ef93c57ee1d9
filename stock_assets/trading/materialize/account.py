"""The account at the broker: what is stored of it, an evening's reconciliation, and the kill switch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from stock_assets.errors import TradingError
from stock_assets.files import ACCOUNT_LOCK, locked
from stock_assets.market.calendar import TradingCalendar, calendar_of, currency_of
from stock_assets.market.sources.simulated_laws import announced_splits
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import Table
from stock_assets.trading.book_files import books_of
from stock_assets.trading.books import Book
from stock_assets.trading.broker.orders import account_problem
from stock_assets.trading.broker.protocol import Broker
from stock_assets.trading.broker.simulated import SimulatedBroker
from stock_assets.trading.broker.simulated_file import Opening
from stock_assets.trading.gates import NONE, SPLITS
from stock_assets.trading.materialize.bars import read_panel
from stock_assets.trading.panel import Panel
from stock_assets.trading.reconcile import (
    Causes,
    Reconciled,
    Record,
    Sent,
    Shown,
    backtest,
    break_rows,
    opening_record,
    reconcile,
    restored,
)
from stock_assets.trading.simulation import grid_of
from stock_assets.trading.switch import HALT, RESUME, halted, switched
from stock_assets.trading.tables import (
    BREAKS,
    EQUITY,
    ORDER_EVENTS,
    ORDER_GATES,
    ORDERS,
    PAPER_EQUITY,
    PAPER_POSITIONS,
    TARGET_WEIGHTS,
    TRADING_SWITCH,
)

#: How far back orders are looked up beyond the record before: clocks differ, and an order may hang for days.
MARGIN = timedelta(days=3)
#: What a person's acceptance of a break is recorded as.
ACCEPTED = "accepted by "


@dataclass(frozen=True)
class Desk:
    """The account of one book, and all that its steps need."""

    store: Warehouse
    settings: Settings
    book: Book
    broker: Broker
    clock: Callable[[], datetime]

    @cached_property
    def calendar(self) -> TradingCalendar:
        return calendar_of(self.settings)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time has the account between the lines."""
        with locked(self.settings.data_dir / ACCOUNT_LOCK):
            yield

    def rows(self, table: Table) -> pl.DataFrame:
        """The rows of the book in `table`, times in UTC; none before anything was written to it."""
        return all_rows(self.store, table).filter(pl.col("book") == self.book.name)


def all_rows(store: Warehouse, table: Table) -> pl.DataFrame:
    """The rows of `table`, times in UTC; none before anything was written to it."""
    return table.fit(store.read_or(table.empty(), table.name))


def paper_book(settings: Settings) -> Book:
    """The book that the account follows, as an opening auction takes it: in whole shares, at the open. Raises
    SettingsError where the settings name none."""
    book = next(book for book in books_of(settings) if book.name == settings.paper_book)
    return replace(book, whole_shares=True, fill="open")


def open_desk(store: Warehouse, settings: Settings, *, clock: Callable[[], datetime]) -> Desk:
    """The account that the settings name. Raises TradingError where no broker is set."""
    book = paper_book(settings)
    return Desk(store, settings, book, open_broker(settings, book, clock=clock), clock)


def open_broker(settings: Settings, book: Book, *, clock: Callable[[], datetime]) -> Broker:
    """The broker that the settings name. Raises SettingsError where alpaca-py is not installed."""
    if settings.broker == "simulated":
        opening = Opening(
            settings.account_number or f"PA-{book.name}", currency_of(settings) or "USD", capital=book.capital
        )
        file, days = account_file(settings, book), calendar_of(settings)

        def announced(session: date) -> dict[str, float]:  # no other source says of a split before its session
            return announced_splits(settings.seed, days.position(session)) if settings.source == "simulated" else {}

        return SimulatedBroker(file, opening, clock=clock, calendar=days, costs=book.costs, announced=announced)
    if settings.broker != "alpaca" or settings.alpaca_key is None or settings.alpaca_secret is None:
        raise TradingError(f"STOCK_ASSETS_BROKER={settings.broker}: there is no account; expected simulated or alpaca")
    from stock_assets.trading.broker.alpaca import Access, AlpacaBroker

    keys = settings.alpaca_key.get_secret_value(), settings.alpaca_secret.get_secret_value()
    return AlpacaBroker(Access(*keys, mode=settings.trading, account=settings.account_number))


def account_file(settings: Settings, book: Book) -> Path:
    """Where the simulated account of `book` is kept."""
    return settings.data_dir / "paper" / f"{book.name}.sqlite"


@dataclass(frozen=True)
class Standing:
    """The account after an evening's reconciliation, and the bars it was made with."""

    panel: Panel
    weights: np.ndarray
    """float64 [T, N]: the targets of the sessions of the panel"""
    shown: Shown
    reconciled: Reconciled
    breaks: pl.DataFrame
    """the rows of `breaks` that are open"""


def reconcile_account(desk: Desk, session: date) -> Standing:
    """Reconciles the account at the close of `session`, and stores what it found in one transaction.

    A simulated broker gets the bars of the sessions since it was booked first. Twice gives the same rows. Raises
    TradingError where the account is not that of the book, and MissingSessionsError where bars are missing.
    """
    history = desk.rows(PAPER_EQUITY).sort("session")
    first = history["session"].min() or session
    panel = _panel(desk, first, session)  # pyright: ignore[reportArgumentType]: a date
    weights = read_weights(desk, panel)
    feed(desk.broker, panel, session)
    before = _record(desk, panel, history.filter(pl.col("session") < session))
    broker_view = look(desk, session, before)
    require_account(desk, broker_view, history)
    orders = desk.rows(ORDERS)
    stored_breaks = desk.rows(BREAKS)
    if before is None:
        before = opening_record(panel, session, broker_view)
    capital = float(before.account.cash) if history.is_empty() else float(history["equity"][0])
    not_sent = _left_out(desk, panel, orders)
    backtest_run = backtest(panel, weights, desk.book, capital=capital, first=first, left_out=not_sent)  # pyright: ignore[reportArgumentType]
    result = reconcile(
        before,
        broker_view,
        backtest_run,
        sent_orders=_sent_orders(desk, orders, broker_view),
        accepted_breaks=_accepted_breaks(stored_breaks, before.seen_at),
    )
    changes = break_rows(stored_breaks, result.breaks, book=desk.book.name, session=session, now=broker_view.seen_at)
    desk.store.write(
        [
            *_replacement(PAPER_EQUITY.name, _equity_row(desk, broker_view, result)),
            Change(
                PAPER_POSITIONS.name,
                _position_rows(desk, panel, result),
                pl.DataFrame({"book": [desk.book.name], "session": [session]}),
            ),
            *_replacement(BREAKS.name, changes),
            *([Change(ORDER_EVENTS.name, events)] if (events := _new_states(desk, broker_view, orders)).height else []),
        ]
    )
    open_breaks = desk.rows(BREAKS).filter(pl.col("resolved_at").is_null())
    return Standing(panel, weights, broker_view, result, open_breaks)


def _panel(desk: Desk, first: date, last: date) -> Panel:
    """The bars from the session before `first`, so that what was known before it is there, to `last`."""
    before = desk.calendar.before(first, 1)
    sessions = desk.calendar.between((*before, first)[0], last)
    stored_sessions = desk.store.sessions("daily_bars", sessions[0], sessions[0])
    sessions = sessions if sessions[0] in stored_sessions or sessions[0] == first else sessions[1:]
    return read_panel(desk.store, desk.settings, sessions, limits=desk.book.limits, needed_by="orders")


def read_weights(desk: Desk, panel: Panel) -> np.ndarray:
    """float64 [T, N]: the book's targets of the sessions of `panel`; NaN where there are none."""
    rows = desk.store.read_or(TARGET_WEIGHTS.empty(), TARGET_WEIGHTS.name, panel.sessions[0], last=panel.sessions[-1])
    rows = rows.filter(pl.col("book") == desk.book.name)
    scales = (
        all_rows(desk.store, EQUITY).filter(pl.col("book") == desk.book.name) if desk.book.volatility_target else None
    )
    scale = dict(scales.select("session", "scale").drop_nulls().iter_rows()) if scales is not None else {}
    rows = rows.filter(pl.col("ticker").is_in(list(panel.tickers)))
    weights = grid_of(rows, "weight", sessions=panel.sessions, tickers=panel.tickers)
    return weights * np.array([[scale.get(session, 1.0)] for session in panel.sessions])


def feed(broker: Broker, panel: Panel, session: date) -> None:
    """Gives a simulated broker the sessions up to `session` that it has not booked: first that session alone."""
    if not isinstance(broker, SimulatedBroker):
        return
    last = broker.last_session
    for t, day in enumerate(panel.sessions):
        if day == session if last is None else last < day <= session:
            broker.advance(panel.day(t), panel.tickers)


def look(desk: Desk, session: date, before: Record | None) -> Shown:
    """What the broker shows now. Orders, activities and corporate actions are those since the record `before`, the last
    to the open after `session`."""
    now = desk.clock()
    begin = before.seen_at if before else now
    return Shown(
        desk.broker.account(),
        desk.broker.positions(),
        desk.broker.orders(begin - MARGIN),
        [activity for activity in desk.broker.activities(begin) if begin < activity.at <= now] if before else (),
        now,
        desk.broker.actions(before.session if before else session, desk.calendar.shift(session, 1) or session),
    )


def require_account(desk: Desk, broker_view: Shown, history: pl.DataFrame) -> None:
    """Raises TradingError where the broker's account is none that the book may trade on: one in another currency,
    another one than before, or one that follows another book."""
    account, currency = broker_view.account, currency_of(desk.settings) or broker_view.account.currency
    problem = account_problem(account, currency=currency, number=desk.settings.account_number)
    if problem and "blocked" not in problem and "ACTIVE" not in problem:  # those are gates
        raise TradingError(f"{problem}. Nothing is sent")
    numbers = history["account"].unique().to_list()
    if numbers and numbers != [account.number]:
        raise TradingError(
            f"{desk.book.name} follows the account {numbers[0]}, and the broker shows {account.number}; expected one "
            "account for a book. Nothing is sent: name another book in paper_book, or the account in account_number"
        )
    rows = all_rows(desk.store, PAPER_EQUITY)
    others = rows.filter(pl.col("account") == account.number, pl.col("book") != desk.book.name)["book"].unique()
    if len(others):
        raise TradingError(
            f"the account {account.number} follows the book {others[0]}, and {desk.book.name} would trade on it too; "
            "expected one book for an account. Nothing is sent"
        )


def _record(desk: Desk, panel: Panel, history: pl.DataFrame) -> Record | None:
    """The record of the newest row of `history`; None without one."""
    if history.is_empty():
        return None
    row = history.row(-1, named=True)
    positions = desk.rows(PAPER_POSITIONS).filter(pl.col("session") == row["session"])
    names = {"price": "by_price", "quantity": "by_quantity", "cost": "by_cost", "event": "by_event"}
    causes = Causes(**{name: row[column] for name, column in (names | {"revision": "by_revision"}).items()})
    account = restored(panel, row["session"], positions, cash=row["ledger_cash"])
    return Record(row["session"], account, row["backtest_equity"], causes, row["seen_at"])


def _sent_orders(desk: Desk, orders: pl.DataFrame, broker_view: Shown) -> dict[str, Sent]:
    """The orders of ours that the broker had accepted, or shows."""
    events = all_rows(desk.store, ORDER_EVENTS)
    accepted_ids = {*events.filter(pl.col("event").is_in(["accepted", "state"]))["client_order_id"]}
    accepted_ids |= {state.client_order_id for state in broker_view.orders}
    rows = orders.select("client_order_id", "ticker", "fill_session").iter_rows()
    return {name: Sent(ticker, session) for name, ticker, session in rows if name in accepted_ids}


def _left_out(desk: Desk, panel: Panel, orders: pl.DataFrame) -> np.ndarray:
    """bool [T, N]: at the close of a session, the tickers that split at the next open and that its plan left out."""
    gates = desk.rows(ORDER_GATES).filter(pl.col("gate") == SPLITS, pl.col("value") != NONE)
    sessions, ordered_keys = {*gates["session"]}, {*orders.select("session", "ticker").iter_rows()}
    left_out = np.zeros(panel.close.shape, dtype=bool)
    for t, session in enumerate(panel.sessions[:-1]):
        if session in sessions:
            splits = panel.day(t + 1).split_ratio != 1
            left_out[t] = splits & [(session, ticker) not in ordered_keys for ticker in panel.tickers]
    return left_out


def _accepted_breaks(breaks: pl.DataFrame, since: datetime) -> dict[str, float]:
    """By subject, what a person accepted after `since`: the broker's figure less ours."""
    rows = breaks.filter(pl.col("resolved_by").str.starts_with(ACCEPTED), pl.col("resolved_at") > since)
    return {row["subject"]: row["theirs"] - row["ours"] for row in rows.iter_rows(named=True)}


def _replacement(table: str, rows: pl.DataFrame) -> list[Change]:
    """The change that puts `rows` in the place of those of their keys."""
    keys = {"breaks": ["book", "session", "subject"]}.get(table, ["book", "session"])
    return [Change(table, rows, rows.select(keys))] if rows.height else []


def _equity_row(desk: Desk, broker_view: Shown, reconciliation: Reconciled) -> pl.DataFrame:
    record = reconciliation.record
    row = {
        "book": desk.book.name,
        "session": record.session,
        "broker": desk.broker.name,
        "account": broker_view.account.number,
        "equity": reconciliation.equity,
        "cash": float(broker_view.account.cash),
        "ledger_cash": float(record.account.cash),
        "backtest_equity": record.backtest_equity,
        "by_price": record.causes.price,
        "by_quantity": record.causes.quantity,
        "by_cost": record.causes.cost,
        "by_event": record.causes.event,
        "by_revision": record.causes.revision,
        "unexplained": reconciliation.unexplained,
        "positions": len(broker_view.holdings),
        "seen_at": broker_view.seen_at,
    }
    return pl.DataFrame([row], PAPER_EQUITY.schema, orient="row")


def _position_rows(desk: Desk, panel: Panel, reconciliation: Reconciled) -> pl.DataFrame:
    account = reconciliation.record.account
    values, equity = account.values, float(account.equity)
    rows = [
        (
            desk.book.name,
            reconciliation.record.session,
            panel.tickers[i],
            float(account.shares[i]),
            float(account.marks[i]),
            float(values[i]),
            float(values[i]) / equity if equity else None,
            int(account.frozen[i]),
        )
        for i in np.flatnonzero(account.shares)
    ]
    return pl.DataFrame(rows, PAPER_POSITIONS.schema, orient="row")


def _new_states(desk: Desk, broker_view: Shown, orders: pl.DataFrame) -> pl.DataFrame:
    """What the broker says of our orders where it is another thing than the last event holds."""
    events = all_rows(desk.store, ORDER_EVENTS).sort("client_order_id", "number")
    newest = {row["client_order_id"]: row for row in events.iter_rows(named=True)}
    ids, rows = {*orders["client_order_id"]}, []
    for state in broker_view.orders:
        last = newest.get(state.client_order_id)
        shares = float(state.filled)
        if state.client_order_id not in ids or (last and (last["status"], last["filled"]) == (state.status, shares)):
            continue
        number = last["number"] + 1 if last else 0
        price = None if state.average_price is None else float(state.average_price)
        text = state.reason
        rows.append((state.client_order_id, broker_view.seen_at, number, "state", state.status, shares, price, text))
    return pl.DataFrame(rows, ORDER_EVENTS.schema, orient="row")


# ---------------------------------------------------------------- what a person does


def read_switch(store: Warehouse) -> pl.DataFrame:
    return all_rows(store, TRADING_SWITCH).sort("at")


def halt_trading(desk: Desk, *, by: str, reason: str) -> int:
    """Halts trading and cancels the open orders; returns how many the broker took. It is halted even where the broker
    does not answer: then BrokerError is raised after the row is stored."""
    row = switched(read_switch(desk.store), HALT, by=by, reason=reason, now=desk.clock(), order_count=0)
    desk.store.append(TRADING_SWITCH.name, row)
    order_count = desk.broker.cancel_all()
    desk.store.replace_rows(TRADING_SWITCH.name, row.select("at"), row.with_columns(canceled=pl.lit(order_count)))
    return order_count


def resume_trading(desk: Desk, *, by: str, reason: str) -> None:
    """Resumes trading after a halt. Raises TradingError where it is not halted or nobody is named."""
    row = switched(read_switch(desk.store), RESUME, by=by, reason=reason, now=desk.clock(), order_count=0)
    desk.store.append(TRADING_SWITCH.name, row)


def accept_break(desk: Desk, subject: str, *, by: str) -> pl.DataFrame:
    """Accepts the broker's figure of the open break of `subject`; returns its row. The ledger takes it over at the next
    reconciliation. Raises TradingError where no such break is open."""
    rows = desk.rows(BREAKS).filter(pl.col("resolved_at").is_null())
    row = rows.filter(pl.col("subject") == subject)
    if row.is_empty():
        names = ", ".join(rows["subject"].sort()) or "none"
        raise TradingError(f"no break of {subject} is open in {desk.book.name}; expected one of: {names}")
    row = row.with_columns(resolved_at=pl.lit(desk.clock()), resolved_by=pl.lit(f"{ACCEPTED}{by}"))
    desk.store.write(_replacement(BREAKS.name, BREAKS.fit(row)))
    return row


def is_halted(store: Warehouse) -> str | None:
    """Who halted trading, when and why; None where it is not."""
    return halted(read_switch(store))
