"""Bars within the session to test features and labels on: a market that never closes, and an exchange that does."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from stock_assets.tables import UTC_TIME

FIRST = date(2025, 6, 6)


def always_open(minutes: int, *, start: datetime | None = None, step: int = 1) -> pl.DataFrame:
    """session, bar_end of so many bars from `start` on of a market that never closes."""
    start = start or datetime(FIRST.year, FIRST.month, FIRST.day, 20, 0, tzinfo=UTC)
    ends = [start + timedelta(minutes=step * (i + 1)) for i in range(minutes)]
    return pl.DataFrame({"bar_end": ends}, schema={"bar_end": UTC_TIME}).select(
        session=(pl.col("bar_end") - pl.duration(minutes=1)).dt.date(), bar_end="bar_end"
    )


def exchange(
    sessions: Sequence[date], *, bars: int = 78, step: int = 5, zone: str = "America/New_York"
) -> pl.DataFrame:
    """session, bar_end of sessions that open at 9:30 in `zone`."""
    rows = [
        (
            session,
            datetime(session.year, session.month, session.day, 9, 30, tzinfo=ZoneInfo(zone))
            + i * timedelta(minutes=step),
        )
        for session in sessions
        for i in range(1, bars + 1)
    ]
    frame = pl.DataFrame(
        {"session": [row[0] for row in rows], "bar_end": [row[1].astimezone(UTC) for row in rows]},
        schema={"session": pl.Date, "bar_end": UTC_TIME},
    )
    return frame.sort("bar_end")


def make_bars(
    expected: pl.DataFrame, seed: int, *, tickers: int = 2, missing: float = 0.0, outage: tuple[int, int] | None = None
) -> pl.DataFrame:
    """Rows of the table `bars`: random walks over `expected`, of which a share is `missing` and, for all tickers,
    those from and to the places of `outage`."""
    parts = []
    for i in range(tickers):
        rng, count = np.random.default_rng((seed, i)), expected.height
        close = 100.0 * (i + 1) * np.exp(np.cumsum(1e-3 * rng.standard_t(4, count)))
        wide = np.exp(5e-4 * rng.exponential(1, (2, count)))
        frame = expected.with_columns(
            ticker=pl.lit(f"C{i}"),
            open=pl.Series(close),
            high=pl.Series(close * wide[0]),
            low=pl.Series(close / wide[1]),
            close=pl.Series(close),
            volume=pl.Series(np.round(rng.exponential(3.0, count), 2)),
            suspect=pl.lit(None, pl.String),
        )
        kept = rng.random(count) >= missing
        if outage:
            kept[outage[0] : outage[1]] = False
        parts.append(frame.filter(pl.Series(kept)))
    columns = ["ticker", "session", "bar_end", "open", "high", "low", "close", "volume", "suspect"]
    return pl.concat(parts).select(columns)
