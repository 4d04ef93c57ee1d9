"""The level of the volatilities of a session, the same for all its tickers: the mean of two ridge regressions.

One reads the rows of all tickers and averages what it says of them; the other reads the session itself: means over its
tickers, their exponential means over the last sessions, and what the whole market knows. The first sees more, the
second is fitted to what is asked; their mean is better than either (HAR, Corsi 2009, with implied volatility).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stock_assets.model.crossfit import Blocks
from stock_assets.model.linear import Level, fit_levels
from stock_assets.model.market_rows import MarketRows

#: Columns whose means over a session's tickers the second regression reads, where the model has them.
OF_SESSION = (
    "vol_total_1",
    "vol_log_5",
    "vol_log_22",
    "vol_log_66",
    "market_dispersion",
    "vix_level",
    "vix_change_1",
    "vix_change_5",
    "vix_gap_22",
    "market_ahead",
)
#: Columns and half-lives in sessions of the exponential means of their session means. The longest is one of means over
#: 66 bars: within the context it reaches twice as far back as one of single sessions would.
SMOOTHED: tuple[tuple[str, float], ...] = (
    ("vol_total_1", 3.0),
    ("vol_total_1", 10.0),
    ("vol_log_66", 60.0),
    ("market_dispersion", 3.0),
    ("market_dispersion", 10.0),
)
#: Those of levels that were stored before they named theirs.
SMOOTHED_BEFORE = tuple(("vol_total_1", 60.0) if name == "vol_log_66" else (name, days) for name, days in SMOOTHED)


@dataclass(frozen=True)
class OfSessions:
    """Numbers that are the same for all rows of a session, as float64 [N, D] that is made where it is read."""

    by_session: np.ndarray
    """float64 [S, D]"""
    day: np.ndarray
    """int64 [N]: the number of the row's session"""

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.day), self.by_session.shape[1]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.by_session[self.day[rows]]


@dataclass(frozen=True)
class MarketLevel:
    """A forecast of VOLATILITIES by session."""

    pooled: Level
    """of the columns of a row"""
    daily: Level
    """of `session_inputs`"""
    context: int
    """sessions that the exponential means look at"""
    smoothed: tuple[tuple[str, float], ...] = SMOOTHED
    """of which columns the exponential means are, and their half-lives"""

    def inputs(self, market: MarketRows, columns: Sequence[str]) -> OfSessions:
        """The `session_inputs` that it was fitted to."""
        return session_inputs(market, columns, self.context, smoothed=self.smoothed)

    def forecast(self, market: MarketRows, rows: np.ndarray, sessions: OfSessions) -> np.ndarray:
        """float64 [N, 3], meaningful at `rows` (bool [N], whole sessions), of `session_inputs`."""
        by_row = np.zeros((len(rows), self.pooled.weights.shape[1]))
        by_row[rows] = self.pooled.forecast(market.values, np.flatnonzero(rows))
        daily = np.zeros_like(by_row)
        daily[rows] = self.daily.forecast(sessions, np.flatnonzero(rows))
        return (market.mean(by_row, rows) + daily) / 2

    def tensors(self) -> dict[str, np.ndarray]:
        return {
            f"{name}_{part}": getattr(level, part)
            for name, level in (("level", self.pooled), ("daily", self.daily))
            for part in ("mean", "scale", "weights")
        }

    @classmethod
    def of_tensors(
        cls,
        tensors: Mapping[str, np.ndarray],
        *,
        clip: float,
        context: int,
        smoothed: Sequence[Sequence[Any]] | None,
    ) -> Self:
        """What `tensors` gave; `smoothed` is None for one that did not name it. Raises KeyError for a tensor that is
        missing."""
        pooled_level, daily = (
            Level(*(tensors[f"{name}_{part}"] for part in ("mean", "scale", "weights")), clip=clip)
            for name in ("level", "daily")
        )
        named_half_lives = (
            SMOOTHED_BEFORE if smoothed is None else tuple((str(name), float(days)) for name, days in smoothed)
        )
        return cls(pooled_level, daily, context, named_half_lives)


def session_inputs(
    market: MarketRows, columns: Sequence[str], context: int, *, smoothed: Sequence[tuple[str, float]] = SMOOTHED
) -> OfSessions:
    """What the daily regression reads of each row's session; NaN where it is unknown.

    Of OF_SESSION and `smoothed` those among `columns`, the columns of `market`; the last `context` sessions count.
    """
    means = {name: market.session_mean(columns.index(name)) for name in OF_SESSION if name in columns}
    slow = [market.smoothed(means[name], half_life, context) for name, half_life in smoothed if name in means]
    by_session = [*means.values(), *slow]
    none = np.zeros((int(market.day.max()) + 1 if len(market.day) else 0, 0))
    return OfSessions(np.column_stack(by_session) if by_session else none, market.day)


def fit_market_levels(
    market: MarketRows,
    targets: np.ndarray,
    rows: np.ndarray,
    *,
    blocks: Blocks,
    sessions: OfSessions,
    config: Any,
) -> list[MarketLevel]:
    """The `MarketLevel` of `targets` [N, 3] at `rows` (bool [N]), then one that has not learned from each block.

    `sessions` are `session_inputs`; `config` is an RnnConfig.
    """
    fit = {"clip": config.input_clip, "penalty": config.level_ridge}
    count = len(blocks.edges) - 1
    without = [blocks.touching(k) for k in range(count)]
    pooled_levels = fit_levels(market.values, targets, rows, without=without, **fit)
    one_each = market.first_of_session(rows)
    of_day = market.mean(targets, rows)
    daily = fit_levels(sessions, of_day, one_each, without=without, **fit)
    return [
        MarketLevel(rows_level, day_level, config.context)
        for rows_level, day_level in zip(pooled_levels, daily, strict=True)
    ]
