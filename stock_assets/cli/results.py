"""What the book of the account would have earned, beside the market's fund, in a few lines of a terminal."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from stock_assets.escape import one_line
from stock_assets.evaluation.bootstrap import block_bootstrap
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.tables import EQUITY

#: Sessions of a year, and the fewest that a result is shown of.
YEAR, FEWEST = 252, 20


@dataclass(frozen=True)
class Result:
    """Mean returns of a year, as fractions, over the sessions of a book's back-test."""

    book: str
    sessions: int
    net: float
    """after all costs"""
    interval: tuple[float, float] | None
    """95 %, by blocks of sessions"""
    market: float | None
    """of the market's fund over the same sessions; None without one"""
    lead: tuple[float, float] | None
    """the 95 % interval of the net return less the market's"""
    equity: float | None
    """of the account at the broker; None before its first evening"""


def result_of(store: Warehouse, book: str) -> Result | None:
    """The result of `book`; None where it has fewer than FEWEST sessions."""
    rows = store.read_or(EQUITY.empty(), EQUITY.name).filter(pl.col("book") == book).sort("session")
    rows = rows.slice(1).drop_nulls("net_return")  # an account is opened at the first close
    if rows.height < FEWEST:
        return None
    net = rows["net_return"].to_numpy()
    days_of_both = rows.drop_nulls("market")
    market = days_of_both["market"].to_numpy() if days_of_both.height == rows.height else None
    account = store.read_or(pl.DataFrame(schema={"book": pl.String}), "paper_equity").filter(pl.col("book") == book)
    return Result(
        book,
        rows.height,
        float(net.mean()) * YEAR,
        _yearly(net),
        None if market is None else float(market.mean()) * YEAR,
        None if market is None else _yearly(net - market),
        float(account.sort("session")["equity"][-1]) if account.height else None,
    )


def result_lines(result: Result) -> list[str]:
    """The lines, none wider than 40 columns.

    >>> result_lines(Result("long_only", 250, 0.123, (-0.031, 0.277), 0.081, (-0.1, 0.18), None))[:3]
    ['long_only, 250 sessions after costs', '  a year +12.3 % [-3.1, +27.7]', '  SPY    +8.1 %']
    """
    reach = "" if result.interval is None else " [{:+.1f}, {:+.1f}]".format(*(100 * end for end in result.interval))
    lines = [f"{one_line(result.book)[:11]}, {result.sessions} sessions after costs"]
    lines.append(f"  a year {100 * result.net:+.1f} %{reach}")
    if result.market is not None:
        lines.append(f"  SPY    {100 * result.market:+.1f} %")
    if result.lead is None:
        lines.append("no fund of the market to compare with")
    else:
        low, high = result.lead
        lines.append("better than SPY" if low > 0 else "WORSE than SPY" if high < 0 else "NOT told apart from SPY")
    return [*lines, *([f"paper account {result.equity:,.0f}"] if result.equity is not None else [])]


def _yearly(returns: np.ndarray) -> tuple[float, float] | None:
    ends = block_bootstrap(returns)
    return None if ends is None else (ends[0] * YEAR, ends[1] * YEAR)
