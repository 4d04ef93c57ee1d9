"""How far back a row of the features room may look, and which rows have seen enough.

An exponential mean has no end. So that a session computed alone equals the same session of a ten-year range,
every run reads the bars of `LOOKBACK_SESSIONS` sessions, which end at the first session that it computes. A history
that reaches further back has at least 900 bars in there, and the slowest mean, span 50, gives older ones a weight below
1e-15. Two rules make it so, both decided by the bars inside the window alone:

- **A new history.** A ticker that missed more than `MAX_MISSED` sessions in a row, or whose total return is
  null, begins anew, like a new listing: no window reaches over the break.
- **Enough history.** A row counts only where its history missed at most `MAX_MISSED` sessions within the
  window, from its oldest bar there.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import BadBarsError
from stock_assets.frames import KEYS

#: Sessions of bars that a row of session t may look at, t included.
LOOKBACK_SESSIONS = 1000

#: Sessions that a ticker may miss within the look-back.
MAX_MISSED = 50

#: About how many rows are computed at once.
_PART_ROWS = 100_000


def panel(bars: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """`ticker`, `session` and `columns` of `bars`, sorted by ticker and session.

    Raises BadBarsError where a column is missing, a key is null, or a (ticker, session) comes twice.
    """
    missing = [name for name in (*KEYS, *columns) if name not in bars.columns]
    if missing:
        raise BadBarsError(f"bars lack {', '.join(missing)}; found {', '.join(bars.columns)}")
    rows = bars.select(*KEYS, *columns)
    refuse(rows, pl.any_horizontal(pl.col(KEYS).is_null()), "session", expected="a ticker and a session")
    rows = _sorted(rows)
    is_repeated = pl.struct(KEYS) == pl.struct(KEYS).shift(1)
    refuse(rows, is_repeated, "session", expected="one bar per ticker and session")
    return rows


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` by ticker and session. Numbers in the place of tickers are sorted five times as fast as texts."""
    tickers = rows["ticker"].unique().sort()
    number = rows["ticker"].cast(pl.Enum(tickers)).to_physical().to_numpy()
    by_session = np.argsort(rows["session"].to_physical().to_numpy(), kind="stable")
    small = number.astype(np.uint16) if len(tickers) < 1 << 16 else number
    return rows[by_session[np.argsort(small[by_session], kind="stable")]]


def refuse(rows: pl.DataFrame, is_wrong: pl.Expr, column: str, *, expected: str) -> None:
    """Raises BadBarsError that names the first of `rows` for which `is_wrong` holds."""
    offenders = rows.filter(is_wrong)
    if offenders.height:
        first = offenders.row(0, named=True)
        raise BadBarsError(
            f"{first['ticker']} {first['session']}: {column} is {first[column]}; expected {expected}"
            f"{f' ({offenders.height} such rows)' if offenders.height > 1 else ''}"
        )


def histories(
    bars: pl.DataFrame,
    columns: Sequence[str] = (),
    sessions: Iterable[date] | None = None,
    *,
    lookback: int = LOOKBACK_SESSIONS,
) -> pl.DataFrame:
    """The bars sorted by ticker and session, each with its place in its ticker's history.

    `sessions` are those of the calendar, in any order; unset, those that any ticker of `bars` traded on.

    Returns ticker, session, total_return (null exactly where a history begins), `columns`, and
    - `history` (u32): the same for all bars of one history, different between histories;
    - `bar` (i64): 1 for the first bar of the history that is in `bars`, then 2, 3, …;
    - `enough` (bool): missed at most MAX_MISSED of the last `lookback` sessions, see above.

    Raises BadBarsError as `panel` does, where a session is none of `sessions`, and where a total return is
    not a number above -1.
    """
    rows = panel(bars, ["total_return", *columns])
    day_of = rows["session"] if sessions is None else pl.Series(list(sessions), dtype=pl.Date)
    day_of = day_of.unique().sort()
    position = day_of.search_sorted(rows["session"])
    rows = rows.with_columns(position.cast(pl.Int64).alias("position"))
    nearest = day_of.gather(position.clip(upper_bound=max(0, day_of.len() - 1))) if day_of.len() else day_of
    if not nearest.equals(rows["session"], check_dtypes=False):
        refuse(rows, ~pl.col("session").is_in(day_of.implode()), "session", expected="a session of the calendar")
    refuse(
        rows,
        ~(pl.col("total_return").is_finite() & (pl.col("total_return") > -1)),
        "total_return",
        expected="a number above -1, or null at the first bar",
    )

    new_ticker = (pl.col("ticker") != pl.col("ticker").shift(1)).fill_null(True)
    away = pl.col("position").diff().fill_null(0) - 1 > MAX_MISSED
    begins = new_ticker | away | pl.col("total_return").is_null()
    # what is known to be sorted is looked back over without gathering each history's rows
    rows = rows.with_columns(begins.cum_sum().cast(pl.UInt32).set_sorted().alias("history"))
    rows = rows.with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("history").alias("bar"),
    ).with_columns(pl.when(pl.col("bar") > 1).then(pl.col("total_return")).alias("total_return"))
    return rows.with_columns(pl.Series("enough", _missed(rows, lookback) <= MAX_MISSED)).drop("position")


def _missed(rows: pl.DataFrame, lookback: int) -> np.ndarray:
    """Sessions missed within the `lookback` of each row, from the oldest bar of its history in there."""
    position = rows["position"].to_numpy()
    if not len(position):
        return position
    row = np.arange(len(position))
    begins = row - (rows["bar"].to_numpy() - 1)
    oldest_seen = np.maximum(position - (lookback - 1), position[begins])
    # one ascending key over all histories, so that a single binary search finds the oldest bar of each row
    stride = rows["history"].to_numpy().astype(np.int64) * (position.max() + 1)
    oldest = np.searchsorted(stride + position, stride + oldest_seen)
    return (position - position[oldest]) - (row - oldest)


def last_rows(rows: pl.DataFrame, first: date | None, bars: int) -> pl.DataFrame:
    """Of `rows` of `histories`, those from session `first` on and the `bars` bars before them; none of a history that
    has no row from `first` on. All rows where `first` is None."""
    if first is None or rows.is_empty():
        return rows
    earlier = (rows["session"] < first).to_numpy()
    begins = np.flatnonzero(np.diff(rows["history"].to_numpy().astype(np.int64), prepend=-1))
    lengths = np.diff(begins, append=rows.height)
    before = np.add.reduceat(earlier, begins, dtype=np.int64)
    oldest = np.where(before < lengths, begins + before - bars, rows.height)
    return rows.filter(pl.Series(np.arange(rows.height) >= np.repeat(oldest, lengths)))


def by_session(
    rows: pl.DataFrame,
    compute: Callable[[pl.DataFrame], pl.DataFrame],
    columns: Sequence[str | pl.Expr],
    *,
    min_bar: int,
    first: date | None,
) -> pl.DataFrame:
    """`columns` of `compute` on whole histories of `rows`, some at a time, in order of session and ticker.

    `compute` keeps session, bar and enough. There remain the rows from their history's `min_bar`-th bar on with
    enough history, at or after `first`.
    """
    # the hundred columns that the features need on their way would take gigabytes for a whole market at once
    begins = np.flatnonzero(rows["bar"].to_numpy() == 1)
    parts = begins[np.diff(begins // _PART_ROWS, prepend=-1) > 0].tolist() or [0]
    asked_rows = (pl.col("bar") >= min_bar) & pl.col("enough") & (pl.col("session") >= (first or date.min))
    ends = [*parts[1:], rows.height]
    frames = [
        compute(rows.slice(begin, end - begin)).filter(asked_rows).select(columns)
        for begin, end in zip(parts, ends, strict=True)
    ]
    return pl.concat(frames).sort("session", maintain_order=True)
