"""The account as a person looks at it in the morning: equity, tomorrow's orders, limits used, breaks, kill switch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import Table
from stock_assets.trading.materialize.account import all_rows, read_switch
from stock_assets.trading.switch import halted
from stock_assets.trading.tables import BREAKS, ORDER_EVENTS, ORDER_GATES, ORDERS, PAPER_EQUITY, PAPER_POSITIONS

#: Sessions of the account that are shown, and breaks and switches.
SESSIONS, MOST = 500, 50


@dataclass(frozen=True)
class Overview:
    """What the store holds of the account of one book."""

    book: str
    equity: pl.DataFrame
    """the rows of paper_equity, ascending"""
    orders: pl.DataFrame
    """the orders of the newest plan, with `status`, `filled` and `text` of their last events"""
    positions: pl.DataFrame
    """of the newest session"""
    gates: pl.DataFrame
    """the rows of order_gates of the newest decision"""
    breaks: pl.DataFrame
    """the rows of breaks, open ones first"""
    switch: pl.DataFrame
    """the rows of trading_switch, ascending"""

    @property
    def halted(self) -> str | None:
        """Who halted trading, when and why; None where it is not halted."""
        return halted(self.switch)

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        """By the names under which they are published."""
        return {
            "paper_equity": self.equity.tail(SESSIONS),
            "paper_orders": self.orders,
            "paper_positions": self.positions,
            "paper_gates": self.gates,
            "paper_breaks": self.breaks.head(MOST),
            "paper_switch": self.switch.tail(MOST),
        }

    @property
    def last(self) -> dict[str, Any] | None:
        """The newest row of paper_equity."""
        return self.equity.row(-1, named=True) if self.equity.height else None

    @property
    def troubles(self) -> list[str]:
        """What keeps orders from being sent, in words."""
        open_breaks = self.breaks.filter(pl.col("resolved_at").is_null())
        failed_gates = self.gates.filter(~pl.col("passed"))
        return [
            *([self.halted] if self.halted else []),
            *(f"break {row['subject']}: {row['cause']}" for row in open_breaks.iter_rows(named=True)),
            *failed_gates["reason"],
        ]


def overview(store: Warehouse, book: str) -> Overview:
    """What the store holds of the account of `book`; empty before its first evening."""
    with store.reading():
        return _read(store, book)


def _read(store: Warehouse, book: str) -> Overview:
    def rows(table: Table) -> pl.DataFrame:
        return all_rows(store, table).filter(pl.col("book") == book)

    gates, equity, positions = rows(ORDER_GATES), rows(PAPER_EQUITY).sort("session"), rows(PAPER_POSITIONS)
    newest = gates["session"].max()
    orders = rows(ORDERS)
    orders = orders.clear() if newest is None else orders.filter(pl.col("session") == newest)
    last = all_rows(store, ORDER_EVENTS).sort("number").group_by("client_order_id", maintain_order=True).last()
    events = last.select("client_order_id", "event", "status", "filled", "text")
    return Overview(
        book,
        equity,
        orders.join(events, on="client_order_id", how="left").sort("ticker"),
        positions.filter(pl.col("session") == pl.col("session").max()).sort("ticker"),
        gates.filter(pl.col("decided_at") == pl.col("decided_at").max()),
        rows(BREAKS).sort(pl.col("resolved_at").is_not_null(), "session", descending=[False, True]),
        read_switch(store),
    )


def lines_of(account: Overview) -> Iterator[str]:
    """The account in lines of a terminal."""
    last = account.last
    if last is None:
        yield f"{account.book}: no evening of the account yet; the first orders are due in the evening of a session"
        return
    difference = last["equity"] - last["backtest_equity"]
    yield f"{account.book} at {last['broker']}, account {last['account']}, {last['session']}"
    yield f"equity {last['equity']:,.2f}, cash {last['cash']:,.2f}, {last['positions']} position(s)"
    yield f"to the back-test {difference:+,.2f}, unexplained {last['unexplained']:+,.2f}"
    if account.orders.height:
        session = account.orders["fill_session"][0]
        yield f"{account.orders.height} order(s) for the open of {session}:"
        for row in account.orders.iter_rows(named=True):
            state = row["status"] or row["event"] or "not sent"
            size = f"{row['side']} {row['shares']:,.0f} {row['ticker']}"
            yield f"  {size} at about {row['reference_price']:,.2f}: {state}"
    else:
        yield "no order for the next open"
    passed_count = account.gates["passed"].sum()
    switch = "ON" if account.halted else "off"
    yield f"{passed_count} of {account.gates.height} gates passed; the kill switch is {switch}"
    yield from (f"! {trouble}" for trouble in account.troubles)
