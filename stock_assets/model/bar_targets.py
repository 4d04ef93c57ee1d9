"""What the model `bar_rnn` learns to forecast: three readings of the next bars' volatility, and the return.

The readings are those of the daily model (`targets`), over the bars that a label looks at, less the volatility that its
barriers are measured by: what is left is how much more, or less, the next bars move than the barriers expect.
"""

import numpy as np

from stock_assets.features.bar_features import TRAILING, log_volatility
from stock_assets.features.bar_grid import shifted
from stock_assets.model.bar_lesson import BarRows
from stock_assets.model.scaling import column_values
from stock_assets.model.targets import TARGETS

#: Added to the range of the log closes: a quote that does not move has one of 0.001 %.
_RANGE_FLOOR = 1e-5
#: The return is cut to ± this many times the barriers' distance at width 1.
_MOST = 4.0


def bar_targets(rows: BarRows) -> np.ndarray:
    """float64 [N, 4]: TARGETS of the learnable rows, NaN elsewhere.

    With r and v the log return and the range variance of the bars after the row up to the last one that its label looks
    at, n of them expected, and s = `vol_60` of the row:
    - log_total: ½ ln(mean v + 1e-10) - s, log_close: ½ ln(mean r² + 1e-10) - s;
    - log_range: ln(highest - lowest log close, that of the row among them, + 1e-5) - s - ½ ln n;
    - direction: the return in units of the barriers at width 1, cut to ± 4.
    A mean is over the bars that are there.
    """
    trailing = column_values(rows.frame, f"vol_{TRAILING}")
    returns, ranges = column_values(rows.frame, "return_1"), column_values(rows.frame, "range_1")
    log_close = np.log(column_values(rows.frame, "close"))
    count = int((rows.known - rows.time).max(initial=0))
    squares, highest, lowest = _Mean(len(trailing)), log_close.copy(), log_close.copy()
    variances = _Mean(len(trailing))
    ticker = np.repeat(np.arange(len(rows.starts)), rows.ends - rows.starts)
    for step in range(1, count + 1):
        # a row of later bars may come earlier than one expected bar after another: the number of the bar decides
        inside = (_later(ticker, step, -1) == ticker) & (_later(rows.time, step, 0) <= rows.known)
        squares.add(np.where(inside, _later(returns, step, np.nan) ** 2, np.nan))
        variances.add(np.where(inside, np.exp(2 * _later(ranges, step, np.nan)), np.nan))
        ahead = np.where(inside, _later(log_close, step, np.nan), np.nan)
        highest, lowest = np.fmax(highest, ahead), np.fmin(lowest, ahead)
    length = 0.5 * np.log(np.maximum(rows.known - rows.time, 1))
    targets = np.column_stack(
        [
            log_volatility(variances.mean) - trailing,
            log_volatility(squares.mean) - trailing,
            np.log(highest - lowest + _RANGE_FLOOR) - trailing - length,
            np.clip(rows.moves, -_MOST, _MOST),
        ]
    )
    assert targets.shape[1] == len(TARGETS)
    return np.where(rows.learnable[:, None], targets, np.nan)


class _Mean:
    """The mean of N rows over numbers that are added one by one; NaN numbers do not count."""

    def __init__(self, rows: int) -> None:
        self._sum, self._count = np.zeros(rows), np.zeros(rows)

    def add(self, values: np.ndarray) -> None:
        is_number = ~np.isnan(values)
        self._sum += np.where(is_number, values, 0.0)
        self._count += is_number

    @property
    def mean(self) -> np.ndarray:
        """NaN where nothing was added."""
        return np.divide(self._sum, self._count, out=np.full_like(self._sum, np.nan), where=self._count > 0)


def _later(values: np.ndarray, rows: int, fill: float) -> np.ndarray:
    """[N]: the value of so many rows later."""
    return shifted(values[None], -rows, fill)[0]
