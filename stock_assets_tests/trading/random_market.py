"""Small markets in which everything happens that the ledger has to book, as rows of daily_bars and as panels."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from stock_assets.trading.books import LONG_SHORT, Book, Costs, Limits
from stock_assets.trading.ledger import Account, Run
from stock_assets.trading.panel import Panel, panel_of
from stock_assets.trading.simulation import frames_of, grid_of

SESSIONS = [day for day in (date(2023, 1, 2) + timedelta(n) for n in range(200)) if day.weekday() < 5]
#: Listings end quickly here, so that a short market has some.
LIMITS = Limits(ended_sessions=3, frozen_sessions=2)
#: Every cost is charged, and orders of this size are capped now and then.
COSTLY = Costs(
    commission=0.0003,
    commission_minimum=1.0,
    sale_fee=0.00003,
    participation=0.05,
    credit=0.02,
    debit=0.06,
    hard_adv=2e6,
)
COSTLY_BOOK = replace(LONG_SHORT, costs=COSTLY, limits=LIMITS)
FREE = Costs(
    commission=0.0,
    spread_scale=0.0,
    impact=0.0,
    participation=1e9,
    borrow=0.0,
    borrow_hard=0.0,
    tick=0.0,
    hard_price=0.0,
)


def random_bars(seed: int, sessions: int = 30, tickers: int = 8) -> pl.DataFrame:
    """Bars with splits, dividends, halts, suspect bars, bars without an open or a volume, and listings that end."""
    generator = np.random.default_rng(seed)
    shape = sessions, tickers
    growth = np.exp(generator.normal(0, 0.03, shape))
    split = np.where(generator.random(shape) < 0.04, generator.choice([2.0, 0.25, 1.5], shape), 1.0)
    close = generator.uniform(4, 200, tickers) * np.cumprod(growth / split, axis=0)
    dividend = np.where(generator.random(shape) < 0.06, np.round(close * 0.02, 2), 0.0)
    before = np.concatenate([close[:1], close[:-1]])
    end = generator.integers(sessions // 2, 2 * sessions, tickers)
    there = (generator.random(shape) > 0.05) & (np.arange(sessions)[:, None] < end)
    opened = close * np.exp(generator.normal(0, 0.01, shape))
    reason = generator.choice(["", "absurd_return", "frozen"], shape, p=[0.94, 0.03, 0.03])
    return (
        pl.DataFrame(
            {
                "session": np.repeat(np.array(SESSIONS[:sessions], dtype="datetime64[D]"), tickers),
                "ticker": [f"T{i:02d}" for i in range(tickers)] * sessions,
                "open": np.where(generator.random(shape) < 0.03, np.nan, opened).ravel(),
                "high": np.where(generator.random(shape) < 0.02, opened * 0.99, np.maximum(opened, close)).ravel(),
                "low": np.minimum(opened, close).ravel() * 0.98,
                "close": close.ravel(),
                "volume": (generator.integers(0, 40, shape) * 10_000.0).ravel(),
                "dividend": dividend.ravel(),
                "split_ratio": split.ravel(),
                "total_return": ((close + dividend) * split / before - 1).ravel(),
                "is_member": True,
                "suspect": reason.ravel(),
            }
        )
        .with_columns(
            pl.col("session").cast(pl.Date), pl.col("open").fill_nan(None), pl.col("suspect").replace("", None)
        )
        .filter(pl.Series(there.ravel()))
    )


def panel(bars: pl.DataFrame, sessions: Sequence[date] | None = None, limits: Limits = LIMITS) -> Panel:
    """The panel of `sessions`, by default of all that the bars have."""
    universe = pl.DataFrame({"ticker": ["T00"], "sector": ["A"]})
    context = pl.DataFrame(
        {"series": ["SPY"] * len(SESSIONS), "session": SESSIONS, "total_return": [0.001] * len(SESSIONS)}
    )
    if sessions is None:
        sessions = bars["session"].unique().sort().to_list()
    context = context.filter(pl.col("session") >= bars["session"].min())
    return panel_of(bars, universe, context, sessions=sessions, limits=limits)


def random_weights(seed: int, panel: Panel) -> np.ndarray:
    """Targets of every session, a tenth of them to be held, some of them zero."""
    generator = np.random.default_rng(seed)
    shape = len(panel.sessions), len(panel.tickers)
    weights = np.where(generator.random(shape) < 0.3, 0.0, generator.normal(0, 0.3, shape))
    return np.where(generator.random(shape) < 0.1, np.nan, weights)


def book(costs: Costs = FREE, **fields: object) -> Book:
    """A book of fractional shares, without any cost unless they are given."""
    return replace(COSTLY_BOOK, costs=costs, whole_shares=False, **fields)


class Frames(NamedTuple):
    """Rows of the tables of the same names."""

    fills: pl.DataFrame
    positions: pl.DataFrame
    equity: pl.DataFrame

    @classmethod
    def of(cls, run: Run) -> "Frames":
        return cls(**frames_of(run, np.ones(len(run.totals["equity"]))))

    def account(self, session: date, panel: Panel) -> Account:
        """The account that the rows of `session` describe."""
        held = self.positions.filter(pl.col("session") == session, pl.col("shares") != 0)
        shares, marks, frozen = (
            grid_of(held, name, sessions=[session], tickers=panel.tickers)[0] for name in ("shares", "mark", "frozen")
        )
        cash = self.equity.filter(pl.col("session") == session)["cash"][0]
        return Account(np.asarray(cash), np.nan_to_num(shares), marks, np.nan_to_num(frozen).astype(np.int64))
