"""A small panel whose best achievable score is known."""

from datetime import date

import numpy as np
import polars as pl

from stock_assets.market.calendar import trading_calendar

HORIZON = 7
FEATURES = ("memory", "shock", "noise")


def sessions_of(count: int) -> list[date]:
    return list(trading_calendar("XNYS", date(2010, 1, 4), date(2019, 12, 31)).sessions[:count])


def synthetic_panel(
    tickers: int = 6, sessions: int = 300, signal: float = 1.5, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(features, labels). The label is drawn from a softmax of a persistent state that only its history
    shows.

    `shock` is the state's innovation, `memory` a noisy view of it, `noise` nothing. `signal` 0 makes labels
    that nothing can predict. The last HORIZON sessions have no label.
    """
    rng = np.random.default_rng(seed)
    days = sessions_of(sessions)
    shock = rng.normal(size=(tickers, sessions))
    state = np.zeros((tickers, sessions))
    for t in range(1, sessions):
        state[:, t] = 0.8 * state[:, t - 1] + 0.6 * shock[:, t]
    logits = signal * np.stack([-state, -0.5 * np.abs(state), state], axis=-1)
    label = (logits + rng.gumbel(size=logits.shape)).argmax(axis=-1) - 1
    names = [f"T{i:02d}" for i in range(tickers)]
    features = pl.DataFrame(
        {
            "ticker": np.repeat(names, sessions),
            "session": days * tickers,
            "memory": (state + rng.normal(size=state.shape)).ravel(),
            "shock": shock.ravel(),
            "noise": rng.normal(size=state.size),
        }
    )
    forward = 0.01 * signal * state + rng.normal(scale=0.02, size=state.shape)
    labels = (
        features.select("ticker", "session")
        .with_columns(
            label=pl.Series(label.ravel(), dtype=pl.Int8),
            horizon_end=pl.col("session").shift(-HORIZON).over("ticker"),
            forward_return_1=pl.Series(forward.ravel()),
        )
        .drop_nulls("horizon_end")
    )
    return features, labels
