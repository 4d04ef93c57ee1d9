"""Bars within the session on the clock of their exchange: one row per ticker, one place per bar that was expected.

A look-back counts expected bars, not the bars that happen to be there. So a bar that is missing stays a hole, and a
statistic over too many holes is null, instead of reaching further back than its name says. The last bar of a session
and the first of the next one are neighbours; they do not adjoin where the exchange was closed in between.

Sums and extremes of a window are made of the same parts in the same order wherever the window stands (`window_sum`):
a row has the same figures to the last bit in a range, in a session alone, and one bar at a time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import polars as pl

from stock_assets.errors import BadBarsError
from stock_assets.features.lookback import refuse
from stock_assets.frames import BAR_KEYS

#: A statistic over a window is null where more than this share of its bars is missing.
MAX_MISSING = 0.2
#: What a bar has to have where it is not suspect.
_NUMBERS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class BarGrid:
    """N bars of T tickers over the P bars that were expected of each."""

    rows: pl.DataFrame
    """BAR_KEYS of the bars, sorted by them"""
    ticker: np.ndarray
    """int64 [N]: the number of the row's ticker, from 0"""
    slot: np.ndarray
    """int64 [N]: the number of the row's bar among those expected, from 0"""
    ends: np.ndarray
    """int64 [P], ascending: when each expected bar ends, in microseconds since 1970, UTC"""
    step: int
    """Microseconds of a bar"""
    numbers: pl.DataFrame
    """open, high, low, close, volume of the rows; null where the bar is suspect"""

    @classmethod
    def of(cls, bars: pl.DataFrame, interval_minutes: int, expected: pl.DataFrame | None = None) -> Self:
        """The grid of `bars`, rows of the table `bars` in any order.

        `expected` has session and bar_end of the bars that the calendar expects of every ticker, at least over the
        sessions of `bars`. Unset, a session is expected to have a bar at every interval from the first to the last one
        that any ticker of `bars` has: a lunch break then counts as missing bars, and an outage of all tickers at the
        beginning or the end of a session does not.

        Raises BadBarsError for a column that is missing, a key that is null or comes twice, a bar that was not
        expected, and a bar that is not suspect without finite numbers, or with a price that is not above 0.
        """
        if missing := [name for name in (*BAR_KEYS, *_NUMBERS, "suspect") if name not in bars.columns]:
            raise BadBarsError(f"bars lack {', '.join(missing)}; found {', '.join(bars.columns)}")
        rows = bars.sort(BAR_KEYS)
        _refuse_bad(rows)
        step = interval_minutes * 60_000_000
        bar_end = rows["bar_end"].dt.epoch("us").to_numpy()
        ends = _expected_ends(rows if expected is None else expected, step, complete=expected is not None)
        slot = np.searchsorted(ends, bar_end)
        strays = ends[np.minimum(slot, len(ends) - 1)] != bar_end if len(ends) else np.ones(len(bar_end), bool)
        refuse(
            rows.with_columns(_stray=pl.Series(strays)),
            pl.col("_stray"),
            "bar_end",
            expected=f"the end of a bar of {interval_minutes} minute(s) that the session has",
        )
        ticker = rows["ticker"].rle_id().cast(pl.Int64).to_numpy()
        trusted = rows["suspect"].is_null()
        numbers = rows.select(pl.when(trusted).then(pl.col(name)).alias(name) for name in _NUMBERS)
        return cls(rows.select(BAR_KEYS), ticker, slot.astype(np.int64), ends, step, numbers)

    def matrix(self, column: str) -> np.ndarray:
        """float64 [T, P]: `column` of `numbers`, NaN where the ticker has no bar or a suspect one."""
        tickers = int(self.ticker[-1]) + 1 if len(self.ticker) else 0
        values = np.full((tickers, len(self.ends)), np.nan)
        values[self.ticker, self.slot] = self.numbers[column].fill_null(np.nan).to_numpy()
        return values

    def at_rows(self, values: np.ndarray) -> np.ndarray:
        """[N]: the values [T, P] at the rows."""
        return values[self.ticker, self.slot]

    @cached_property
    def adjoins(self) -> np.ndarray:
        """bool [P]: whether the bar begins when the one before it ends; not where the exchange was closed between. The
        last bar of a session may be shorter than the others."""
        return np.diff(self.ends, prepend=self.ends[:1] - 2 * self.step) <= self.step

    def returns(self, close: np.ndarray) -> np.ndarray:
        """float64 [T, P]: the log return of each bar from the one before it, of closes [T, P].

        NaN where either is missing, and over hours in which the exchange was closed.
        """
        log = np.log(close)
        return np.where(self.adjoins, log - shifted(log, 1, np.nan), np.nan)


def _refuse_bad(rows: pl.DataFrame) -> None:
    refuse(rows, pl.any_horizontal(pl.col(BAR_KEYS).is_null()), "bar_end", expected="a ticker, a session and a bar_end")
    same_bar = (pl.col("ticker") == pl.col("ticker").shift()) & (pl.col("bar_end") == pl.col("bar_end").shift())
    refuse(rows, same_bar, "bar_end", expected="one bar per ticker and bar_end")
    trusted = pl.col("suspect").is_null()
    for name in _NUMBERS:
        low = pl.col(name) >= 0 if name == "volume" else pl.col(name) > 0
        good = (pl.col(name).is_finite() & low).fill_null(value=False)
        expectation = "a finite number, 0 or more" if name == "volume" else "a finite number above 0"
        refuse(rows, trusted & ~good, name, expected=f"{expectation} in a bar that is not suspect")


def _expected_ends(expected: pl.DataFrame, step: int, *, complete: bool) -> np.ndarray:
    """int64 [P]: when the expected bars end, of `expected` (session, bar_end); filled from the first to the last bar of
    each session where it is not `complete`."""
    if complete:
        return np.unique(expected["bar_end"].dt.epoch("us").to_numpy())
    spans = expected.group_by("session").agg(
        first=pl.col("bar_end").min().dt.epoch("us"), last=pl.col("bar_end").max().dt.epoch("us")
    )
    first, last = (spans.sort("first")[name].to_numpy() for name in ("first", "last"))
    counts = (last - first) // step + 1
    place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.unique(np.append(np.repeat(first, counts) + step * place, last))


# ---------------------------------------------------------------- windows along the slots


def shifted(values: np.ndarray, slots: int, fill: float) -> np.ndarray:
    """[T, P]: at each slot the value of `slots` slots earlier (later where it is negative), `fill` where none is."""
    result = np.full_like(values, fill)
    if abs(slots) >= values.shape[1]:
        return result
    if slots >= 0:
        result[:, slots:] = values[:, : values.shape[1] - slots]
    else:
        result[:, :slots] = values[:, -slots:]
    return result


def window_sum(values: np.ndarray, length: int) -> np.ndarray:
    """[T, P]: the sum of the last `length` slots of `values` [T, P]; slots before the first count as 0.

    Sums of 1, 2, 4, … slots are added up, so that the order of additions depends on `length` alone.

    >>> window_sum(np.array([[1.0, 2.0, 3.0, 4.0]]), 3).tolist()
    [[1.0, 3.0, 6.0, 9.0]]
    """
    total, covered_length, part, width = np.zeros_like(values), 0, values, 1
    while True:
        if length & width:
            total += shifted(part, covered_length, 0)
            covered_length += width
        if covered_length == length:
            return total
        part = part + shifted(part, width, 0)
        width *= 2


def window_mean(values: np.ndarray, length: int) -> np.ndarray:
    """float64 [T, P]: the mean of those of the last `length` slots that are there.

    NaN where more than MAX_MISSING of them are missing; slots before the first are.
    """
    present = ~np.isnan(values)
    number = window_sum(present.astype(np.int32), length)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = window_sum(np.where(present, values, 0.0), length) / number
    mean[number < fewest(length)] = np.nan
    return mean


def fewest(length: int) -> int:
    """How many of `length` bars have to be there.

    >>> fewest(5), fewest(60), fewest(1)
    (4, 48, 1)
    """
    return max(1, length - int(MAX_MISSING * length))
