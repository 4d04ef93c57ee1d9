"""Labels of bars within the session: the return of the next bars, its direction, and the barrier that is reached first.

**What a label looks at.** The next `horizon_bars` expected bars of its ticker. On a market that never closes they
cross midnight. On an exchange that closes, a label ends with the last bar before it closes: one bar before that, it
looks at a single bar, its barriers are as near as one bar asks for, and the last bar of a session has no label. That
the exchange closed is seen by a later expected bar that does not adjoin, so the last labels of a session are there
once such a bar is: give `expected` through the next session.

**When it is known.** At the end of the last bar that it looks at, `known_at`, also where a barrier was reached before.
Where that bar is missing or suspect, or more than MAX_MISSING of the bars on the way are, there is no label, and
`known_at` is null; a bar that comes late completes it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from stock_assets.errors import SettingsError
from stock_assets.features.bar_features import trailing_volatility
from stock_assets.features.bar_grid import BarGrid, fewest, shifted
from stock_assets.features.bar_tables import BAR_LABELS


@dataclass(frozen=True)
class BarLabelRule:
    """What a label of bars looks at. Raises SettingsError for a horizon below 1 and a width that is not above 0."""

    horizon_bars: int = 15
    """Bars that it looks ahead."""
    width: float = 1.0
    """The barriers are at ± width × the volatility of a bar over the last 60 bars × √(bars looked ahead)."""

    def __post_init__(self) -> None:
        if self.horizon_bars < 1:
            raise SettingsError(f"horizon_bars is {self.horizon_bars}; expected 1 or more")
        if not (np.isfinite(self.width) and self.width > 0):
            raise SettingsError(f"width is {self.width}; expected a number above 0")


def bar_labels(
    bars: pl.DataFrame, rule: BarLabelRule, *, interval_minutes: int, expected: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The columns of the table `bar_labels` of every row of `bars`, sorted by BAR_KEYS.

    `label` is null, too, where fewer bars came before than the volatility of the barriers asks for: give the 60 bars
    before the first one. With r_i the return from the close of t to that of the i-th later bar, `label` is 1 where
    r_i > barrier comes first, -1 where r_i < -barrier does, both strict; a bar that is missing passes nothing.
    `bars` and `expected` are as for `bar_features`.

    Raises BadBarsError as `BarGrid.of`.
    """
    grid = BarGrid.of(bars, interval_minutes, expected)
    close, slots = grid.matrix("close"), np.arange(len(grid.ends))
    # the slot that ends a label: `horizon_bars` ahead, or the last one before the exchange closes
    closes_after = np.append(~grid.adjoins[1:], False) if len(slots) else np.zeros(0, bool)
    last_open = np.minimum.accumulate(np.where(closes_after, slots, len(slots) + rule.horizon_bars)[::-1])[::-1]
    ahead = np.minimum(rule.horizon_bars, last_open - slots)  # int64 [P]
    end = slots + ahead
    inside = np.minimum(end, len(slots) - 1)

    present = ~np.isnan(close)
    counts = np.cumsum(present, axis=1)
    fewest_bars = np.array([fewest(bars_ahead) for bars_ahead in range(rule.horizon_bars + 1)])[np.maximum(ahead, 0)]
    has_future = (
        (ahead > 0) & (end < len(slots)) & present & present[:, inside] & (counts[:, inside] - counts >= fewest_bars)
    )
    future = np.where(has_future, close[:, inside] / close - 1, np.nan)
    barrier = rule.width * trailing_volatility(grid, close) * np.sqrt(np.maximum(ahead, 0))
    labels = _first_passes(close, barrier, ahead)
    is_known = grid.at_rows(has_future)
    has_label = is_known & ~np.isnan(grid.at_rows(barrier))
    future_return = grid.at_rows(future)
    return grid.rows.with_columns(
        known_at=_where(is_known, grid.ends[inside[grid.slot]]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        future_return=pl.Series(future_return).fill_nan(None),
        direction=_where(is_known, np.sign(np.nan_to_num(future_return)).astype(np.int8)),
        label=_where(has_label, grid.at_rows(labels)),
    ).select(BAR_LABELS.names)


def _first_passes(close: np.ndarray, barrier: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """int8 [T, P]: the side of ± `barrier` [T, P] that the next `ahead` [P] closes pass first, 0 where none does."""
    label = np.zeros(close.shape, np.int8)
    with np.errstate(invalid="ignore"):
        for i in range(1, int(ahead.max(initial=0)) + 1):
            move = shifted(close, -i, np.nan) / close - 1
            is_undecided = (label == 0) & (ahead >= i)
            label[is_undecided & (move > barrier)] = 1
            label[is_undecided & (move < -barrier)] = -1
    return label


def _where(condition: np.ndarray, values: np.ndarray) -> pl.Series:
    """`values`, null where not `condition`."""
    return pl.select(pl.when(pl.Series(condition)).then(pl.Series(values))).to_series()
