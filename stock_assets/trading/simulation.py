"""A book through the sessions of a panel: `ledger.run`, with the volatility target, as rows of the tables.

The step that makes `fills`, `positions` and `equity`, the choice of K and the replay call it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from stock_assets.trading.book_files import digest_of
from stock_assets.trading.books import Book
from stock_assets.trading.ledger import Account, Run, run
from stock_assets.trading.panel import REASONS, Panel
from stock_assets.trading.portfolio import VOLATILITY_WINDOW, volatility_scale
from stock_assets.trading.tables import EQUITY, FILLS, POSITIONS

#: The tables of a simulation, by name.
TABLES = {table.name: table for table in (FILLS, POSITIONS, EQUITY)}


@dataclass(frozen=True)
class State:
    """How a book stands at a close."""

    account: Account
    scales: tuple[float, ...] = (1.0,)
    """what the targets of the closes before were multiplied by, that of this close last"""
    net_returns: tuple[float, ...] = ()
    """of the unscaled book, that of this session last; as many as the volatility target looks at"""


@dataclass(frozen=True)
class Simulation:
    """What the sessions did to a book."""

    frames: Mapping[str, pl.DataFrame]
    """the rows of fills, positions and equity, by table"""
    account: Account
    """at the last close"""
    orders: np.ndarray
    """float64 [N]: shares for the session after the last one"""


def simulate(
    panel: Panel, weights: np.ndarray, book: Book, *, state: State | None = None, after: int = 0
) -> Simulation:
    """`book` through the sessions of `panel` after that at position `after`, at whose close it stands as `state`.

    Without a state it is opened there with its capital, and that session has the first row. `weights` [T, N] are the
    targets of each close; NaN holds what there is. Raises as `ledger.run`.
    """
    if book.volatility_target is None:
        finished_run = run(panel, weights, book, account=state.account if state else None, after=after)
        scales = np.ones(len(finished_run.totals["equity"]))
        return Simulation(frames_of(finished_run, scales), finished_run.account, finished_run.orders)
    return _scaled(panel, weights, book, state=state, after=after)


def _scaled(panel: Panel, weights: np.ndarray, book: Book, *, state: State | None, after: int) -> Simulation:
    """As `simulate`, session by session: the scale of a close follows from the returns up to it.

    The returns of the unscaled book are those of the scaled one over the scale of the close before.
    """
    scaled, parts = weights.copy(), []
    if state is None:
        opening = run(_until(panel, after), weights[: after + 1], book, after=after)
        parts.append(frames_of(opening, np.ones(1)))
        state = State(opening.account)
    account, scales, returns = state.account, list(state.scales), list(state.net_returns)
    for back, scale in enumerate(reversed(scales[-2:])):
        if after - back >= 0:
            scaled[after - back] = weights[after - back] * scale
    finished_run = run(_until(panel, after), scaled[: after + 1], book, account=account, after=after)
    for t in range(after + 1, len(panel.sessions)):
        finished_run = run(_until(panel, t), scaled[: t + 1], book, account=account, after=t - 1)
        account = finished_run.account
        returns.append(float(np.nan_to_num(finished_run.totals["net_return"][0])) / scales[-1])
        scales.append(volatility_scale(np.array(returns[-VOLATILITY_WINDOW:]), book.volatility_target))
        scaled[t] = weights[t] * scales[-1]
        parts.append(frames_of(finished_run, np.array(scales[-1:])))
    last = len(panel.sessions) - 1
    orders = run(panel, scaled, book, account=account, after=last).orders
    frames = {name: pl.concat([table.empty(), *(part[name] for part in parts)]) for name, table in TABLES.items()}
    return Simulation(frames, account, orders)


def _until(panel: Panel, t: int) -> Panel:
    """The same panel, whose last session is that at position `t`."""
    return replace(panel, sessions=panel.sessions[: t + 1])


def net_returns(panel: Panel, weights: np.ndarray, book: Book) -> np.ndarray:
    """float64 [T]: the net return of every session of `panel` of an account that is opened at the first close; that of
    the first session is 0. The volatility target does not count."""
    return np.nan_to_num(run(panel, weights, book, details=False).totals["net_return"])


def frames_of(finished_run: Run, scales: np.ndarray) -> dict[str, pl.DataFrame]:
    """The rows of fills, positions and equity of a run of one account, by table; `scales` are those of its closes."""
    panel, book, totals = finished_run.panel, finished_run.book, finished_run.totals
    span = slice(finished_run.first, len(panel.sessions))
    days = pl.Series("session", panel.sessions, dtype=pl.Date)
    equity = pl.DataFrame(
        {
            "session": days[span],
            **{name: totals[name] for name in EQUITY.names if name in totals},
            "market": panel.market[: len(panel.sessions)][span],
            "equal_weight": panel.equal_weight[: len(panel.sessions)][span],
            "scale": scales,
            "settings": [digest_of(book)] * len(scales),
        }
    )
    at, positions_held = finished_run.positions["t"].astype(np.int64), finished_run.positions
    value = np.nan_to_num(positions_held["shares"] * positions_held["mark"])
    of_equity = totals["equity"][at - finished_run.first]
    weight = np.where(of_equity > 0, value / np.where(of_equity > 0, of_equity, 1.0), np.nan)
    positions = keyed(panel, finished_run.positions, days).with_columns(value=value, weight=weight)
    fills = keyed(panel, finished_run.fills, days).with_columns(
        price=pl.when(pl.col("filled") != 0).then("price"),
        reason=pl.Series(REASONS, dtype=pl.String).gather(finished_run.fills["reason"].astype(np.int64)),
    )
    frames = {"fills": fills, "positions": positions, "equity": equity}
    return {name: _fitted(rows, name, book) for name, rows in frames.items()}


def keyed(panel: Panel, columns: Mapping[str, np.ndarray], days: pl.Series) -> pl.DataFrame:
    """`columns` with session and ticker in the place of their positions in `days` and in the panel."""
    figures = {name: values for name, values in columns.items() if name not in ("t", "ticker")}
    return pl.DataFrame(
        {
            "session": days.gather(columns["t"].astype(np.int64)),
            "ticker": pl.Series(panel.tickers, dtype=pl.String).gather(columns["ticker"].astype(np.int64)),
            **figures,
        }
    )


def _fitted(rows: pl.DataFrame, table: str, book: Book) -> pl.DataFrame:
    """`rows` with the name of the book, in the columns and types of `table`; what does not exist is null."""
    schema = TABLES[table].schema
    values = [
        pl.col(name).fill_nan(None).cast(dtype) if rows.schema[name].is_float() else pl.col(name).cast(dtype)
        for name, dtype in schema.items()
        if name != "book"
    ]
    return rows.select(pl.lit(book.name).alias("book"), *values)


def grid_of(rows: pl.DataFrame, column: str, *, sessions: Sequence[object], tickers: Sequence[str]) -> np.ndarray:
    """float64 [T, N]: `column` of `rows` (session, ticker, …) over ascending sessions and tickers; NaN without one.

    >>> rows = pl.DataFrame({"session": [1, 2], "ticker": ["a", "b"], "weight": [0.5, None]})
    >>> grid_of(rows, "weight", sessions=[1, 2], tickers=["a", "b"])
    array([[0.5, nan],
           [nan, nan]])
    """
    grid = np.full((len(sessions), len(tickers)), np.nan)
    grid[places(rows["session"], sessions), places(rows["ticker"], tickers)] = (
        rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    )
    return grid


def places(values: pl.Series, order: Sequence[object]) -> np.ndarray:
    """Where each of `values` stands in `order`, which is ascending and holds all of them."""
    return pl.Series(order, dtype=values.dtype).search_sorted(values).to_numpy()
