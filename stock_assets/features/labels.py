"""Which of two returns a ticker reaches first: the triple-barrier label (López de Prado 2018, chapter 3).

Labels look ahead, so they are late: the label of a session exists once its ticker has `horizon` later bars. A ticker
that skips a session has its label later than the others.
"""

from datetime import date

import numpy as np
import polars as pl

from stock_assets.features.lookback import panel
from stock_assets.features.tables import LABELS
from stock_assets.frames import CLASS_NAMES, KEYS
from stock_assets.setting_values import LabelRule


def barrier_labels(
    bars: pl.DataFrame, rule: LabelRule, *, first: date | None = None, last: date | None = None
) -> pl.DataFrame:
    """The label of every session from `first` to `last`, using the `rule.horizon` later bars of its ticker only.

    With r_i the total return from the close of t to the close of the ticker's i-th later bar: the first of
    r_1 … r_horizon above `buy_threshold` makes 1, the first below `-sell_threshold` makes -1, neither 0. Both
    limits are strict. Thresholds are fractions. `bars` are rows of `daily_bars`, in any order.

    Returns the columns of the table `labels` (label i8, forward returns f64), sorted by session and ticker. No row
    where the ticker has fewer later bars, or a return among them is null, not finite or below -1.

    Raises BadBarsError for bars without keys, ValueError for a horizon below 1.

    >>> bars = pl.DataFrame(
    ...     {
    ...         "ticker": ["A"] * 3,
    ...         "session": [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4)],
    ...         "total_return": [None, 0.0, 0.25],
    ...     }
    ... )
    >>> barrier_labels(bars, LabelRule(horizon=2)).select("label", "touch_session", "forward_return_1").row(0)
    (1, datetime.date(2024, 1, 4), 0.0)
    """
    horizon = rule.horizon
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}; expected at least 1")
    rows = panel(bars, ["total_return"])
    usable = pl.col("total_return").is_finite() & (pl.col("total_return") >= -1)
    growth = 1 + rows.select(pl.when(usable).then(pl.col("total_return"))).to_series().fill_null(np.nan).to_numpy()
    session = rows["session"].to_physical().to_numpy()
    count = max(0, rows.height - horizon)  # rows that have `horizon` later ones, of their ticker or the next

    label, bars_to_touch, total = _first_touches(growth, count, rule)
    touch_session = session[np.arange(count) + bars_to_touch]
    labels = rows.head(count).select(
        *KEYS,
        pl.Series("label", label),
        pl.Series("touch_session", touch_session, dtype=pl.Int32).cast(pl.Date),
        pl.Series("horizon_end", session[horizon:][:count], dtype=pl.Int32).cast(pl.Date),
        pl.Series("forward_return_1", growth[1:][:count] - 1),
        pl.Series("forward_return_horizon", total - 1),
    )
    same_ticker = pl.col("ticker") == rows["ticker"].slice(horizon, count)
    in_range = pl.col("session").is_between(first or date.min, last or date.max)
    return (
        labels.filter(same_ticker & in_range & pl.col("forward_return_horizon").is_not_nan())
        .with_columns(pl.when(pl.col("label") != 0).then("touch_session").alias("touch_session"))
        .select(LABELS.names)
        .sort("session", "ticker")
    )


def _first_touches(growth: np.ndarray, count: int, rule: LabelRule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(label, int8; bars until its threshold is crossed, 0 on hold, int64; growth over the horizon, float64), [count].

    `growth` is 1 + total return of each row and has `horizon` entries more than `count`.
    """
    total, bars_to_touch, label = np.ones(count), np.zeros(count, np.int64), np.zeros(count, np.int8)
    for i in range(1, rule.horizon + 1):
        # a product from t on, instead of a ratio of two points of an index: exact whatever lies before t
        total = total * growth[i : i + count]
        is_undecided = bars_to_touch == 0
        label[is_undecided & (total - 1 > rule.buy_threshold)] = 1
        label[is_undecided & (total - 1 < -rule.sell_threshold)] = -1
        bars_to_touch[is_undecided & (label != 0)] = i
    return label, bars_to_touch, total


def late_labels(labels: pl.DataFrame, stored_labels: pl.DataFrame, due_sessions: pl.DataFrame) -> pl.DataFrame:
    """Those of `labels` that `stored_labels` lacks, on sessions that were labelled before: their tickers skipped
    sessions.

    `labels` (rows of that table) are all that the bars of today allow for some sessions, `stored_labels` has ticker and
    session of those that the store holds of the same sessions, `due_sessions` the session and the session
    `due` on which labels of tickers without a gap are complete. A session that never was labelled has no
    stored row, and its labels are left to the run that makes it, unless all of them are late: then none could be
    stored, and all are returned.
    """
    in_time = labels.join(due_sessions, on="session").filter(pl.col("horizon_end") <= pl.col("due"))["session"]
    in_labelled_session = pl.col("session").is_in(stored_labels["session"].unique().implode())
    never_due = ~pl.col("session").is_in(in_time.unique().implode())
    return labels.filter(in_labelled_session | never_due).join(
        stored_labels, on=KEYS, how="anti", maintain_order="left"
    )


def class_shares(labels: pl.DataFrame) -> dict[str, float]:
    """The share of each class among `labels` (a column label) by its name, 0 where there is none.

    >>> class_shares(pl.DataFrame({"label": [1, 1, 0, -1]}))
    {'sell': 0.25, 'hold': 0.25, 'buy': 0.5}
    """
    rows = max(labels.height, 1)
    return {name: int((labels["label"] == label).sum()) / rows for label, name in CLASS_NAMES.items()}
