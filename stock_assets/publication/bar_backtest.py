"""What is published of the back-test of bars (`bar_files.BACKTEST`), made of its tables."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Any

import polars as pl

from stock_assets.publication.bar_files import SCHEMA
from stock_assets.trading.bar_page import BarBacktestFacts, book_rows
from stock_assets.trading.bar_tables import COSTS
from stock_assets.trading.books import EQUAL_WEIGHT, HOLD

_FIGURES = (
    *("book", "model", "sleeves", "capital", "sessions", "total", "net_return", "gross_return", "turnover"),
    *("net_sharpe", "net_sharpe_low", "net_sharpe_high", "break_even", "break_even_low", "break_even_high", "deepest"),
    *COSTS,
)


def backtest_document(
    table: pl.DataFrame, sessions: pl.DataFrame, facts: BarBacktestFacts, *, now: datetime
) -> dict[str, Any]:
    """What is published of the table `backtest` and of `bar_page.session_equity`, as JSON has it."""
    rows = book_rows(table, sessions)
    equity = {
        row["book"]: [
            {name: _plain(value) for name, value in each.items()}
            for each in sessions.filter(pl.col("book") == row["book"])
            .select("session", "equity", "drawdown", "traded")
            .iter_rows(named=True)
        ]
        for row in rows
    }
    books = [
        {
            **{name: row[name] for name in _FIGURES},
            "is_baseline": row["book"] in (HOLD, EQUAL_WEIGHT),
            "equity": equity[row["book"]],
        }
        for row in rows
    ]
    return {
        "schema": list(SCHEMA),
        "made_at": now.isoformat(),
        **asdict(facts),
        "simulated": facts.source == "simulated",
        "first": _plain(table["first"].min()),
        "last": _plain(table["last"].max()),
        "books": books,
    }


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value
