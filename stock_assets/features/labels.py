"""Which of two returns a ticker reaches first: the triple-barrier label (López de Prado 2018, chapter 3).

Labels look ahead, so they are late: the label of a session exists once its ticker has `horizon` later bars.
"""

from datetime import date

import numpy as np
import polars as pl

from stock_assets.features.lookback import panel

#: What each column is. The horizon counts the ticker's own bars, also over a gap.
DESCRIPTIONS: dict[str, str] = {
    "label": "1 buy, -1 sell, 0 hold: which threshold the total return since this close crosses first",
    "touch_session": "The session of that crossing; null on hold",
    "horizon_end": "The session of the last bar of the horizon; the label is known from its close on",
    "forward_return_1": "Total return from this close to the next bar's close (fraction)",
    "forward_return_horizon": "Total return from this close to the close of horizon_end (fraction)",
}


def labels(
    bars: pl.DataFrame,
    horizon: int = 7,
    buy_threshold: float = 0.027,
    sell_threshold: float = 0.022,
    first: date | None = None,
    last: date | None = None,
) -> pl.DataFrame:
    """The label of every session from `first` to `last`, using the `horizon` later bars of its ticker only.

    With r_i the total return from the close of t to the close of the ticker's i-th later bar: the first of
    r_1 … r_horizon above `buy_threshold` makes 1, the first below `-sell_threshold` makes -1, neither 0. Both
    limits are strict. Thresholds are fractions. `bars` are rows of `daily_bars`, in any order.

    Returns ticker, session, label (i8), touch_session (date, null on hold), horizon_end (date),
    forward_return_1, forward_return_horizon (f64; the latter over the whole horizon, whatever its length), sorted
    by session and ticker. No row where the ticker has fewer later bars, or a return among them is null, not
    finite or below -1.

    Raises BadBarsError for bars without keys, ValueError for a horizon below 1.
    """
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}; expected at least 1")
    rows = panel(bars, ["total_return"])
    known = pl.col("total_return").is_finite() & (pl.col("total_return") >= -1)
    growth = 1 + rows.select(pl.when(known).then(pl.col("total_return"))).to_series().fill_null(np.nan).to_numpy()
    session = rows["session"].to_physical().to_numpy()
    count = max(0, rows.height - horizon)  # rows that have `horizon` later ones, of their ticker or the next

    total, touched = np.ones(count), np.zeros(count, np.int64)
    label, forward_return_1 = np.zeros(count, np.int8), np.empty(count)
    for i in range(1, horizon + 1):
        # a product from t on, instead of a ratio of two points of an index: exact whatever lies before t
        total = total * growth[i : i + count]
        undecided = touched == 0
        label[undecided & (total - 1 > buy_threshold)] = 1
        label[undecided & (total - 1 < -sell_threshold)] = -1
        touched[undecided & (label != 0)] = i
        if i == 1:
            forward_return_1 = total - 1

    touch_session = session[np.arange(count) + touched]
    made = rows.head(count).select(
        "ticker",
        "session",
        pl.Series("label", label),
        pl.Series("touch_session", touch_session, dtype=pl.Int32).cast(pl.Date),
        pl.Series("horizon_end", session[horizon:][:count], dtype=pl.Int32).cast(pl.Date),
        pl.Series("forward_return_1", forward_return_1),
        pl.Series("forward_return_horizon", total - 1),
    )
    same_ticker = pl.col("ticker") == rows["ticker"].slice(horizon, count)
    in_range = pl.col("session").is_between(first or date.min, last or date.max)
    return (
        made.filter(same_ticker & in_range & pl.col("forward_return_horizon").is_not_nan())
        .with_columns(pl.when(pl.col("label") != 0).then("touch_session").alias("touch_session"))
        .sort("session", "ticker")
    )
