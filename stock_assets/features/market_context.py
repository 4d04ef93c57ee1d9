"""The market context: what ^VIX and ^GSPC show of the market, the same for every ticker of a session.

A volatility index is what option prices expect of the next month. ^VIX is quoted for a quarter of an hour after the
shares have closed: its last value is known when a prediction is made, not at the very close. Columns are null where
their series is not there, or had no bar for STALE sessions; a session without one carries the last close forward.
Models read their training mean in the place of a null.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from math import log, sqrt

import polars as pl

from stock_assets.features.formulas import Feature
from stock_assets.market.context import INDEX, VOLATILITY

#: Sessions that a close may be carried forward.
STALE = 5
#: Sessions before a row that it may look at: the longest window and what is carried into it.
LOOKBACK = 22 + STALE
#: The share of the sessions of a training window on which a column has to be there to be an input.
MOST = 0.5

_V, _X = pl.col(VOLATILITY).log(), pl.col(INDEX).log().diff()
_LEVEL = _V - log(100 * sqrt(252))

#: Every column in order, with formulas over the closes of the series. V is the close of ^VIX, percent a year; x the
#: log return of the close of ^GSPC.
FEATURES: dict[str, Feature] = {
    "vix_level": Feature(
        "ln(V / (100 √252)), a day's volatility as option prices expect it (CBOE 2003)", -6.0, 1.0, _LEVEL, "session"
    ),
    "vix_change_1": Feature("ln of V over V of the session before", -1.0, 1.0, _V.diff(), "session"),
    "vix_change_5": Feature("ln of V over V 5 sessions before", -2.0, 2.0, _V.diff(5), "session"),
    "vix_gap_22": Feature("vix_level minus its mean over 22 sessions", -2.0, 2.0, _V - _V.rolling_mean(22), "session"),
    "index_return_5": Feature("Sum of x over 5 sessions", -1.0, 1.0, _X.rolling_sum(5), "session"),
    "index_vol_22": Feature(
        "½ ln(1e-5 + mean of x² over 22 sessions)",
        -6.0,
        1.0,
        0.5 * ((_X**2).rolling_mean(22) + 1e-5).log(),
        "session",
    ),
}
#: The names, in the order of the table. Only these columns of `stationary_features` may be null.
MARKET_CONTEXT: tuple[str, ...] = tuple(FEATURES)


def context_features(closes: pl.DataFrame, sessions: Sequence[date]) -> pl.DataFrame:
    """session and the MARKET_CONTEXT columns (f64, null without the series) of `sessions`, ascending, without gaps.

    `closes` has series, session and close, in any order. A row looks at LOOKBACK sessions before it.
    """
    days = pl.DataFrame({"session": sessions}, schema={"session": pl.Date})
    for series in (VOLATILITY, INDEX):
        of_series = closes.filter(pl.col("series") == series).select("session", pl.col("close").alias(series))
        days = days.join(of_series, on="session", how="left", maintain_order="left")
    closes_by_session = days.with_columns(pl.col(VOLATILITY, INDEX).forward_fill(limit=STALE))
    return closes_by_session.select(
        "session", *(feature.cut(feature.formula).alias(name) for name, feature in FEATURES.items())
    )


def context_inputs(features: pl.DataFrame, names: Sequence[str] = MARKET_CONTEXT) -> list[str]:
    """The columns `names` of `features`, the rows of a training window, that a model trained on them reads.

    A column is one where its first session has it, so that its series did not begin later, and MOST of the sessions
    have: a gap of some weeks does not take a column away. A session has it where a ticker has. `features` has session
    and any of the columns.
    """
    of_session = features.group_by("session").agg(
        pl.col(name).drop_nulls().first() for name in names if name in features.columns
    )
    of_session = of_session.sort("session")
    return [
        name
        for name in of_session.columns[1:]
        if of_session.height
        and of_session[name][0] is not None
        and of_session[name].count() >= MOST * of_session.height
    ]


def context_gaps(context: pl.DataFrame, begins: Mapping[str, date], sessions: Collection[date]) -> pl.DataFrame:
    """session, columns (str) of those of `sessions` that lack MARKET_CONTEXT columns whose series has begun.

    `context` are rows of `context_features`, which begin LOOKBACK sessions before the first of `sessions` or with the
    calendar; `begins` holds the first session of each stored series. A column is expected from LOOKBACK sessions after
    its series began, when every window is full.
    """
    places = context.select("session").with_row_index("place")
    gaps = []
    for name, feature in FEATURES.items():
        starts = [begins.get(series) for series in feature.formula.meta.root_names()]
        if any(start is None for start in starts):
            continue
        before = places.filter(pl.col("session") < max(start for start in starts if start)).height
        gap_rows = context.with_row_index("place").filter(pl.col(name).is_null(), pl.col("place") >= before + LOOKBACK)
        gaps.append(gap_rows.select("session", columns=pl.lit(name)))
    schema = {"session": pl.Date, "columns": pl.String}
    all_gaps = pl.concat([pl.DataFrame(schema=schema), *gaps]).filter(pl.col("session").is_in(list(sessions)))
    return all_gaps.group_by("session").agg(pl.col("columns").str.join(", ")).sort("session")
