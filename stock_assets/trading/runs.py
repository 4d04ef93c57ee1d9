"""The rows of the tables fills, positions and equity that a run makes, and the account that such rows describe."""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from stock_assets.errors import TradingError
from stock_assets.trading.book_files import digest_of
from stock_assets.trading.ledger import Account, Run
from stock_assets.trading.panel import REASONS, Panel
from stock_assets.trading.tables import EQUITY, FILLS, POSITIONS


class Frames(NamedTuple):
    """Rows of the tables of the same names, sorted by session and ticker."""

    fills: pl.DataFrame
    positions: pl.DataFrame
    equity: pl.DataFrame


def frames_of(run: Run) -> Frames:
    """The rows of a run of one account, with details. A session at whose close it was opened has a row of equity alone,
    without a return."""
    return Frames(_fills(run), _positions(run), _equity(run))


def account_of(positions: pl.DataFrame, equity: pl.DataFrame, panel: Panel, *, session: date) -> Account:
    """The account at the close of `session`, of its rows of the tables positions and equity of one book.

    `ledger.run(panel, …, account=…, after=panel.position(session))` goes on from it as if it had never stopped.
    Raises TradingError without a row of equity, and for a position in a ticker that the panel has not.
    """
    rows = equity.filter(pl.col("session") == session)
    if rows.height != 1:
        raise TradingError(f"found {rows.height} rows of equity of {session}, expected the one of the book")
    held = positions.filter(pl.col("session") == session, pl.col("shares") != 0)
    places = {ticker: i for i, ticker in enumerate(panel.tickers)}
    if absent := sorted(set(held["ticker"]) - set(places)):
        raise TradingError(f"{session}: a position in {absent[0]}, of which there is no bar. Load its bars first.")
    at = np.array([places[ticker] for ticker in held["ticker"]], dtype=np.int64)
    bars = panel.day(panel.position(rows["session"][0]))
    shares, frozen = np.zeros(len(places)), np.zeros(len(places), dtype=np.int64)
    marks = np.where(bars.trusted, bars.close, np.nan)
    for column, name in ((shares, "shares"), (marks, "mark"), (frozen, "frozen")):
        column[at] = held[name].to_numpy()
    return Account(np.asarray(rows["cash"][0], dtype=np.float64), shares, marks, frozen)


def _keys(run: Run, columns: Mapping[str, np.ndarray]) -> dict[str, pl.Series]:
    """session and ticker of rows that give their positions in the panel."""
    sessions, tickers = pl.Series(run.panel.sessions, dtype=pl.Date), pl.Series(run.panel.tickers, dtype=pl.String)
    t, i = (columns[name].astype(np.int64) for name in ("t", "ticker"))
    return {"session": sessions.gather(t), "ticker": tickers.gather(i)}


def _fills(run: Run) -> pl.DataFrame:
    columns = run.fills
    figures = {name: columns[name] for name in ("ordered", "filled", "spread", "impact", "commission")}
    price = np.where(columns["filled"] == 0, np.nan, columns["price"])
    reason = pl.Series(REASONS).gather(columns["reason"].astype(np.int64))
    frame = pl.DataFrame(_keys(run, columns) | figures | {"price": price, "reason": reason})
    return _as_table(frame, run, FILLS.schema)


def _positions(run: Run) -> pl.DataFrame:
    columns = run.positions
    names = ("shares", "mark", "frozen", "price_gain", "dividend", "ending", "borrow")
    figures = {name: columns[name] for name in names}
    value = np.where(columns["shares"] == 0, 0.0, columns["shares"] * columns["mark"])
    equity = run.totals["equity"][columns["t"].astype(np.int64) - run.first]
    weight = np.divide(value, equity, out=np.full_like(value, np.nan), where=equity > 0)
    frame = pl.DataFrame(_keys(run, columns) | figures | {"value": value, "weight": weight})
    return _as_table(frame, run, POSITIONS.schema)


def _equity(run: Run) -> pl.DataFrame:
    sessions = run.panel.sessions[run.first :]
    benchmarks = {name: getattr(run.panel, name)[run.first :] for name in ("market", "equal_weight")}
    frame = pl.DataFrame({"session": sessions} | dict(run.totals) | benchmarks, schema_overrides={"session": pl.Date})
    return _as_table(frame.with_columns(settings=pl.lit(digest_of(run.book))), run, EQUITY.schema)


def _as_table(frame: pl.DataFrame, run: Run, schema: pl.Schema) -> pl.DataFrame:
    """`frame` in the columns of a table; a figure that does not exist is null."""
    frame = frame.with_columns(pl.lit(run.book.name).alias("book")).select(schema.names()).cast(schema)  # pyright: ignore[reportArgumentType]
    return frame.with_columns(pl.selectors.float().fill_nan(None))
