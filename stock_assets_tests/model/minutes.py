"""Minute bars with a law that models can learn, and lessons of them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from stock_assets.features.bar_features import bar_features
from stock_assets.features.bar_labels import BarLabelRule, bar_labels
from stock_assets.model.bar_lesson import BarLesson, known_by
from stock_assets.model.config import BarLstmConfig, BarRnnConfig
from stock_assets_tests.features.bars import always_open, make_bars

RULE = BarLabelRule(horizon_bars=10, width=1.0)
START = datetime(2025, 6, 2, tzinfo=UTC)
#: Bars after a burst of trades until the price moves more, and how long it does.
DELAY, WILD = 8, 12


def law_bars(
    minutes: int, seed: int = 0, *, drift: float = 0.0, bursts: bool = False, waves: bool = True
) -> pl.DataFrame:
    """Rows of `bars` of two tickers. Volatility comes in waves; with `bursts`, ten times the volume is followed, DELAY
    bars later, by WILD bars of thrice the volatility; with `drift`, the price goes on where it went over 20 bars."""
    grid, parts = always_open(minutes, start=START), []
    for i in range(2):
        rng = np.random.default_rng((seed, i))
        log = np.zeros(minutes)
        for t in range(1, minutes):
            log[t] = 0.98 * log[t - 1] + (0.12 * rng.standard_normal() if waves else 0.0)
        volatility, volume = 5e-4 * np.exp(log), rng.uniform(0.8, 1.2, minutes)
        for t in np.flatnonzero(rng.random(minutes) < 0.02) if bursts else ():
            volume[t] *= 10
            volatility[t + DELAY : t + DELAY + WILD] *= 3
        noise, returns = rng.standard_normal(minutes), np.zeros(minutes)
        for t in range(minutes):
            went = np.sign(returns[max(0, t - 20) : t].sum())
            returns[t] = volatility[t] * (noise[t] + drift * went)
        close = 100 * np.exp(np.cumsum(returns))
        wide = np.exp(0.5 * volatility * rng.uniform(0.5, 1.5, minutes))
        frame = make_bars(grid, seed, tickers=1).with_columns(
            ticker=pl.lit(f"L{i}"),
            open=pl.Series(close),
            close=pl.Series(close),
            high=pl.Series(close * wide),
            low=pl.Series(close / wide),
            volume=pl.Series(volume),
        )
        parts.append(frame)
    return pl.concat(parts)


def lesson_of(bars: pl.DataFrame, minutes: int, seed: int = 0, **options: Any) -> BarLesson:
    """What was known `minutes` after the first bar began."""
    cutoff = START + timedelta(minutes=minutes)
    return BarLesson(
        features=bar_features(bars, date.min, interval_minutes=1),
        labels=known_by(bar_labels(bars, RULE, interval_minutes=1), cutoff),
        cutoff=cutoff,
        seed=seed,
        rule=RULE,
        interval_minutes=1,
        **options,
    )


def small_rnn(**changes: Any) -> BarRnnConfig:
    small = {"hidden": 12, "projection": 12, "epochs": 3, "members": 3, "batch": 32, "learning_rate": 3e-3}
    return BarRnnConfig(**(small | changes))


def small_lstm(**changes: Any) -> BarLstmConfig:
    small = {"hidden": 8, "epochs": 2, "segment": 32, "context": 16, "learning_rate": 3e-3}
    return BarLstmConfig(**(small | changes))
