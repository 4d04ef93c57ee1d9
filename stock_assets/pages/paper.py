"""The account at the broker: what it is worth, what it will do at the next open, and what would keep it from that."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts import lines
from stock_assets.pages.charts.lines import Line

#: The frames of the section, by the names under which they are published.
TABLES = ("paper_equity", "paper_orders", "paper_positions", "paper_gates", "paper_breaks", "paper_switch")
#: Causes of a difference to the back-test, by column.
CAUSES = {
    "by_price": "prices of fills",
    "by_quantity": "quantities filled",
    "by_cost": "fees, borrow, interest",
    "by_event": "dividends, splits, endings",
    "by_revision": "bars or predictions that changed",
    "unexplained": "unexplained",
}
MONEY = lines.Format(lambda tick: f"{tick:,.0f}", lambda value: numbers.count(value))
#: Positions that are listed, the largest first, and breaks that are over.
LISTED, OVER = 30, 5


@dataclass(frozen=True)
class PaperView:
    """What the section shows; of an account without an evening, nothing but `published` is false."""

    published: bool
    """whether there was an evening; the navigation leads to the screen only then"""
    last: Mapping[str, Any]
    """the newest row of paper_equity"""
    first_equity: float | None
    sessions: tuple[date, ...] = ()
    drawn: tuple[Line, ...] = ()
    """the equity of the back-test and of the account"""
    orders: tuple[dict[str, Any], ...] = ()
    positions: tuple[dict[str, Any], ...] = ()
    positions_left: int = 0
    """positions that are not listed"""
    gates: tuple[dict[str, Any], ...] = ()
    """failed ones first"""
    breaks: tuple[dict[str, Any], ...] = ()
    """open ones, then some that are over"""
    halted: Mapping[str, Any] | None = None
    """the row of the halt; None while trading is not halted"""

    @property
    def difference(self) -> float | None:
        """The account less the back-test of the same sessions."""
        return self.last["equity"] - self.last["backtest_equity"] if self.last else None

    @property
    def gain(self) -> float | None:
        """Of the account since its first session, as a fraction."""
        return self.last["equity"] / self.first_equity - 1 if self.last and self.first_equity else None

    @property
    def causes(self) -> list[tuple[str, float]]:
        """(cause, money) of the difference."""
        return [(title, self.last[column]) for column, title in CAUSES.items()] if self.last else []

    @property
    def open_breaks(self) -> int:
        return sum(row["resolved_at"] is None for row in self.breaks)

    @property
    def failed(self) -> int:
        """Gates that did not hold."""
        return sum(not row["passed"] for row in self.gates)

    @property
    def fill_session(self) -> date | None:
        return self.orders[0]["fill_session"] if self.orders else None

    @property
    def traded(self) -> float:
        """Value of tomorrow's orders."""
        return sum(row["shares"] * row["reference_price"] for row in self.orders)

    @property
    def verdict(self) -> str:
        """What will happen at the next open, in a sentence."""
        if self.halted:
            return f"Trading is halted by {self.halted['by']}: {self.halted['reason']}. Only a person resumes it."
        if self.open_breaks:
            return "The broker's account differs from the ledger: nothing is traded until the difference is gone."
        if self.failed:
            return f"{numbers.plural(self.failed, 'gate')} did not hold, so no order was sent."
        if not self.orders:
            return "Every gate holds, and the book wants nothing changed at the next open."
        return f"{numbers.plural(len(self.orders), 'order')} for the open of {self.fill_session}; every gate holds."

    @cached_property
    def chart(self) -> Markup:
        return lines.LineChart(
            "Equity",
            self.sessions,
            self.drawn,
            form=MONEY,
            note="at the closes, after all costs; the back-test begins with the account's first session and capital",
            whole=True,
            height=260,
        ).figure()


def paper_view(frames: Mapping[str, pl.DataFrame | None]) -> PaperView:
    """The view of the frames of TABLES; one that is None or missing has no row."""
    empty = pl.DataFrame()
    tables = {name: frame if (frame := frames.get(name)) is not None else empty for name in TABLES}
    equity = tables["paper_equity"]
    if equity.is_empty():
        return PaperView(False, {}, None)
    equity = equity.sort("session")
    positions, switch = tables["paper_positions"], tables["paper_switch"]
    if positions.height:
        positions = positions.sort(pl.col("value").abs(), descending=True)
    last_switch = switch.sort("at").row(-1, named=True) if switch.height else None
    breaks = sorted(tables["paper_breaks"].to_dicts(), key=lambda row: (row["resolved_at"] is not None, row["subject"]))
    open_breaks = [row for row in breaks if row["resolved_at"] is None]
    return PaperView(
        True,
        equity.row(-1, named=True),
        equity["equity"][0],
        tuple(equity["session"]),
        (
            Line("back-test", tuple(equity["backtest_equity"]), "expected"),
            Line("account", tuple(equity["equity"]), "service"),
        ),
        tuple(tables["paper_orders"].sort("ticker").to_dicts() if tables["paper_orders"].height else ()),
        tuple(positions.head(LISTED).to_dicts()),
        max(positions.height - LISTED, 0),
        tuple(sorted(tables["paper_gates"].to_dicts(), key=lambda row: row["passed"])),
        tuple(breaks[: len(open_breaks) + OVER]),
        last_switch if last_switch and last_switch["action"] == "halt" else None,
    )
