"""The published tables of an account at a broker: one that trades, and one that is halted over a break."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl

from stock_assets.publication.tables import MONITORING

BOOK = {"book": "long_only"}


def account_tables(
    sessions: Sequence[date], tickers: Sequence[str], rng: np.random.Generator, *, trouble: bool = False
) -> dict[str, pl.DataFrame]:
    """`MONITORING` of the account: a position in every second ticker, an order in every third."""
    last = sessions[-1]
    at = datetime.combine(last, time(0, 5), UTC) + timedelta(days=1)
    returns = rng.normal(0.0005, 0.008, len(sessions))
    backtest = 1e6 * np.exp(np.cumsum(returns) - returns[0])
    drift = np.cumsum(np.abs(rng.normal(0, 25, len(sessions))))
    equity = pl.DataFrame({"session": sessions, "backtest_equity": backtest, "equity": backtest - drift}).with_columns(
        broker=pl.lit("simulated"),
        account=pl.lit("PA-long_only"),
        by_price=pl.Series(-0.7 * drift),
        by_quantity=pl.Series(-0.2 * drift),
        by_cost=pl.Series(-0.1 * drift),
        by_event=0.0,
        by_revision=0.0,
        unexplained=pl.Series([0.0] * (len(sessions) - 1) + [-120.5 if trouble else 0.0]),
        positions=pl.lit(len(tickers[::2])),
        seen_at=pl.lit(at),
        cash=pl.lit(21_432.17),
    )
    held = pl.DataFrame({"ticker": tickers[::2]}).with_columns(
        session=pl.lit(last), shares=pl.Series(rng.integers(20, 900, len(tickers[::2])).astype(float)), mark=87.25
    )
    held = held.with_columns(value=pl.col("shares") * pl.col("mark"), frozen=0).with_columns(
        weight=pl.col("value") / 1e6
    )
    orders = [_order(ticker, last, at, k) for k, ticker in enumerate(tickers[::3])]
    frames = {
        "paper_equity": equity,
        "paper_positions": held,
        "paper_orders": pl.DataFrame([] if trouble else orders, infer_schema_length=None),
        "paper_gates": pl.DataFrame(_gates(last, at, trouble=trouble)),
        "paper_breaks": pl.DataFrame(_breaks(last, at, tickers[0], trouble=trouble), infer_schema_length=None),
        "paper_switch": pl.DataFrame(
            [{"at": at, "action": "halt", "by": "ada", "reason": "a break", "canceled": 3}] if trouble else []
        ),
    }
    return {name: _filled(name, frame) for name, frame in frames.items()}


def _filled(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the columns of the published table that it lacks."""
    table = MONITORING[name]
    if frame.is_empty():
        return table.empty()
    more = {column: pl.lit(BOOK.get(column)).cast(dtype) for column, dtype in table.schema.items()}
    frame = frame.with_columns(value.alias(name) for name, value in more.items() if name not in frame.columns)
    return table.fit(frame.select(pl.col(name).cast(dtype) for name, dtype in table.schema.items()))


def _order(ticker: str, session: date, at: datetime, k: int) -> dict[str, Any]:
    fill = session + timedelta(days=3 if session.weekday() == 4 else 1)
    return {
        "session": session,
        "ticker": ticker,
        "fill_session": fill,
        "client_order_id": f"sa-long_only-{fill:%Y%m%d}-{ticker}-1",
        "side": ("buy", "sell")[k % 2],
        "shares": 40.0 + 13 * k,
        "reference_price": 87.25 + k,
        "weight": 0.03,
        "equity": 1e6,
        "model_version": "rnn-2025-12-31-4f1d2a90",
        "plan": "ab12cd34ef56ab12",
        "decided_at": at,
        "event": "accepted",
        "status": "accepted",
    }


def _gates(session: date, at: datetime, *, trouble: bool) -> list[dict[str, Any]]:
    rows = [
        ("kill_switch", "halted by ada at 2026-11-21 00:05 UTC: a break" if trouble else "off", "off"),
        ("breaks", "SIM01" if trouble else "none", "none open"),
        ("session", f"{session} closed last by both calendars, and is predicted", f"{session} in all three"),
        ("predicted", "58 of 60 tickers", "95% or more"),
        ("largest_order", "1.9% (SIM07)", "10.0% or less"),
        ("all_orders", "24.4%", "60.0% or less"),
        ("peak_drop", "2.1%", "15.0% or less"),
    ]
    return [
        {"session": session, "decided_at": at, "gate": gate, "value": value, "limit": limit}
        | {"passed": not trouble or gate not in ("kill_switch", "breaks"), "reason": f"{gate}: {value}"}
        for gate, value, limit in rows
    ]


def _breaks(session: date, at: datetime, ticker: str, *, trouble: bool) -> list[dict[str, Any]]:
    if not trouble:
        return []
    cause = "the broker has not booked the split of 2 for 1"
    row = {"session": session, "subject": ticker, "ours": 400.0, "theirs": 200.0, "cause": cause, "seen_at": at}
    return [row | {"resolved_at": None, "resolved_by": None}]
