"""Panels of bars to test features on: a few tickers with all that a real market does to them."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl
from hypothesis import strategies as st

from stock_assets.market.tables import BAR_SCHEMA

START = date(2015, 1, 1)


def calendar(count: int) -> list[date]:
    """`count` weekdays."""
    days = (START + timedelta(days=i) for i in range(2 * count))
    return [day for day in days if day.weekday() < 5][:count]


def make_bars(
    seed: int,
    tickers: int = 3,
    sessions: int = 160,
    events: bool = True,
    gaps: bool = False,
    wild: bool = False,
) -> pl.DataFrame:
    """Rows of daily_bars (`BAR_SCHEMA`), sorted by ticker and session.

    `events` adds splits, dividends and sessions without trades; `gaps` late listings, absences of up to 120
    sessions and scattered missing bars; `wild` a jump of 700 times the price and back, a frozen quote,
    suspect bars and bars whose prices are in no order.
    """
    days = calendar(sessions)
    panels = [_ticker(np.random.default_rng((seed, i)), f"T{i}", days, events, gaps, wild) for i in range(tickers)]
    return pl.concat(panels)


def _ticker(
    rng: np.random.Generator, name: str, days: Sequence[date], events: bool, gaps: bool, wild: bool
) -> pl.DataFrame:
    count = len(days)
    present = np.ones(count, bool)
    if gaps:
        present[: rng.integers(0, 1 + count // 3) * rng.integers(0, 2)] = False
        for _ in range(rng.integers(0, 3)):
            begin = rng.integers(0, count)
            present[begin : begin + rng.integers(1, 121)] = False
        present &= rng.random(count) > rng.choice([0.0, 0.02, 0.06])
        present[rng.integers(0, count)] = True
    size = int(present.sum())

    volatility = 0.015 * np.exp(np.cumsum(rng.normal(0, 0.05, size)).clip(-1, 1))
    change = volatility * rng.standard_t(4, size).clip(-6, 6)
    suspect: list[str | None] = [None] * size
    if wild and size > 20:
        at = int(rng.integers(5, size - 5))
        change[at], change[at + int(rng.integers(1, 5))] = np.log(700.0), -np.log(700.0)
        frozen = int(rng.integers(0, size))
        change[frozen : frozen + int(rng.integers(1, 90))] = 0.0
        for i in (at, *rng.integers(0, size, 3)):
            suspect[i] = "absurd return"
    price = 50.0 * np.exp(np.cumsum(change))  # on the total-return basis

    split, dividend = np.ones(size), np.zeros(size)
    if events and size > 10:
        split[rng.integers(1, size, 2)] = rng.choice([2.0, 4.0, 1.281, 0.1], 2)
        dividend[rng.integers(1, size, 3)] = 0.3
    close = np.empty(size)
    for i in range(size):  # (close[i] + dividend[i]) * split[i] / close[i-1] = price[i] / price[i-1]
        close[i] = price[0] if i == 0 else close[i - 1] * price[i] / price[i - 1] / split[i]
        if close[i] > 20 * dividend[i]:
            close[i] -= dividend[i]
        else:
            dividend[i] = 0.0
    total_return: list[float | None] = [None, *((close[1:] + dividend[1:]) * split[1:] / close[:-1] - 1)]

    opened = close * np.exp(rng.normal(0, 0.006, size))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.006, size)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.006, size)))
    volume = np.round(np.exp(rng.normal(13, 0.5, size)) * np.cumprod(split))
    if events:
        volume[rng.random(size) < 0.01] = 0.0
    if wild:
        bad = rng.random((3, size)) < 0.02
        opened[bad[0]], high[bad[1]], low[bad[2]] = 0.0, low[bad[1]] / 2, -1.0
    return pl.DataFrame(
        {
            "ticker": [name] * size,
            "session": [day for day, here in zip(days, present, strict=True) if here],
            "open": opened,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "dividend": dividend,
            "split_ratio": split,
            "total_return": total_return,
            "is_member": [True] * size,
            "suspect": suspect,
            "provisional": [False] * size,
            "fetched_at": [None] * size,
        },
        schema=BAR_SCHEMA,
    )


def panels(sessions: int = 160, **options: bool) -> st.SearchStrategy[pl.DataFrame]:
    """Panels of one to four tickers."""
    return st.builds(
        lambda seed, tickers: make_bars(seed, tickers, sessions, **options),
        st.integers(0, 10_000),
        st.integers(1, 4),
    )


def add_split(bars: pl.DataFrame, ticker: str, ex_date: date, ratio: float) -> pl.DataFrame:
    """The same history with one more split: lower prices and more shares from `ex_date` on, same returns."""
    after = (pl.col("ticker") == ticker) & (pl.col("session") >= ex_date)
    on = (pl.col("ticker") == ticker) & (pl.col("session") == ex_date)
    factor = pl.when(after).then(ratio).otherwise(1.0)
    return bars.with_columns(
        pl.col("open", "high", "low", "close", "dividend") / factor,
        pl.col("volume") * factor,
        pl.col("split_ratio") * pl.when(on).then(ratio).otherwise(1.0),
    )
