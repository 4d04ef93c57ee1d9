"""What the context series say of the market: the same for every ticker of a session.

A volatility index is what option prices expect of the next month. ^VIX is quoted for a quarter of an hour after the
shares have closed: its last value is known when a prediction is made, not at the very close. Columns are null where
their series is not there, or had no bar for STALE sessions; a session without one carries the last close forward.
"""

from collections.abc import Sequence
from datetime import date
from math import log, sqrt

import polars as pl

from stock_assets.features.stationary import Feature
from stock_assets.market.context import INDEX, VOLATILITY

#: Sessions that a close may be carried forward.
STALE = 5
#: Sessions before a row that it may look at: the longest window and what is carried into it.
LOOKBACK = 22 + STALE

#: Every column in order. V is the close of ^VIX, percent a year; x the log return of the close of ^GSPC.
FEATURES: dict[str, Feature] = {
    "vix_level": Feature("ln(V / (100 √252)), a day's volatility as option prices expect it (CBOE 2003)", -6.0, 1.0),
    "vix_change_1": Feature("ln of V over V of the session before", -1.0, 1.0),
    "vix_change_5": Feature("ln of V over V 5 sessions before", -2.0, 2.0),
    "vix_gap_22": Feature("vix_level minus its mean over 22 sessions", -2.0, 2.0),
    "index_return_5": Feature("Sum of x over 5 sessions", -1.0, 1.0),
    "index_vol_22": Feature("½ ln(1e-5 + mean of x² over 22 sessions)", -6.0, 1.0),
}
CONTEXT: tuple[str, ...] = tuple(FEATURES)
DESCRIPTIONS: dict[str, str] = {
    name: f"{feature.description}; cut at {feature.low:g} and {feature.high:g}; null without the series"
    for name, feature in FEATURES.items()
}


def context_features(context: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """session and the CONTEXT columns (f64, null where unknown) of each of `sessions`, ascending and without gaps.

    `context` has series, session and close, in any order. A row looks at LOOKBACK sessions before it.
    """
    days = pl.DataFrame({"session": sessions}, schema={"session": pl.Date})
    for series in (VOLATILITY, INDEX):
        closes = context.filter(pl.col("series") == series).select("session", pl.col("close").alias(series))
        days = days.join(closes, on="session", how="left", maintain_order="left")
    levels = days.with_columns(pl.col(VOLATILITY, INDEX).forward_fill(limit=STALE))
    level, x = pl.col(VOLATILITY).log(), pl.col(INDEX).log().diff()
    made = levels.select(
        "session",
        vix_level=level - log(100 * sqrt(252)),
        vix_change_1=level.diff(),
        vix_change_5=level.diff(5),
        vix_gap_22=level - level.rolling_mean(22),
        index_return_5=x.rolling_sum(5),
        index_vol_22=0.5 * ((x**2).rolling_mean(22) + 1e-5).log(),
    )
    return made.select("session", *(pl.col(name).clip(f.low, f.high) for name, f in FEATURES.items()))


def present(features: pl.DataFrame) -> list[str]:
    """The CONTEXT columns among those of `features` that are known on its first session, and so on all after it."""
    known = features.filter(pl.col("session") == pl.col("session").min())
    return [name for name in CONTEXT if name in features.columns and known[name].null_count() == 0 < known.height]
