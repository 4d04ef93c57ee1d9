"""What every room does with frames: the keys of a row, the classes of a label, and what is asked of numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import polars as pl

from stock_assets.escape import markdown

#: What names a row of prices, features, labels and predictions.
KEYS = ["ticker", "session"]
#: What names a row of a market of bars: `bar_end` is the end of the bar, UTC.
BAR_KEYS = ["ticker", "session", "bar_end"]
#: The labels in the order of every probability triple: sell, hold, buy.
CLASSES = (-1, 0, 1)
CLASS_NAMES = {-1: "sell", 0: "hold", 1: "buy"}
PROBABILITIES = ("p_sell", "p_hold", "p_buy")
#: Probabilities are cut at this from below before their logarithm, so that one certain miss costs 34.5 nats at most.
SMALLEST_PROBABILITY = 1e-15


@dataclass
class RowSummary:
    """What is said of rows that a step has stored, where they are too many to be kept: they are added in blocks."""

    columns: Sequence[str] = ()
    """whose numbers have to be finite"""
    may_be_null: bool = False
    """whether a null is none that is not"""
    counts: Counter[date] = field(default_factory=Counter)
    """rows by session"""
    last: pl.DataFrame = field(default_factory=pl.DataFrame)
    """the rows of the newest session"""
    not_finite: list[pl.DataFrame] = field(default_factory=list)
    """`rows_not_finite` of the columns, by block"""

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.counts.total()

    def add(self, rows: pl.DataFrame) -> None:
        """Looks at more rows."""
        self.counts.update(dict(rows.group_by("session").len().iter_rows()))
        rows_so_far = pl.concat([self.last, rows]) if self.last.width else rows
        self.last = rows_so_far.filter(pl.col("session") == pl.col("session").max())
        if self.columns:
            numbers = rows.with_columns(pl.col(self.columns).fill_null(0.0)) if self.may_be_null else rows
            self.not_finite.append(rows_not_finite(numbers, self.columns))

    def of_each(self, blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """`blocks` as they are, each looked at."""
        for rows in blocks:
            self.add(rows)
            yield rows


def probability_of_label(suffix: str = "") -> pl.Expr:
    """The probability (Float64) that a row of PROBABILITIES and `label` gave to its label; null without a label.

    `suffix` is that of the probabilities' names: `_new` reads p_sell_new, p_hold_new and p_buy_new.

    >>> rows = pl.DataFrame({"p_sell": [0.2], "p_hold": [0.5], "p_buy": [0.3], "label": [1]})
    >>> rows.select(probability_of_label()).item()
    0.3
    """
    branches = pl.when(pl.lit(value=False)).then(None)
    for label, name in zip(CLASSES, PROBABILITIES, strict=True):
        branches = branches.when(pl.col("label") == label).then(pl.col(f"{name}{suffix}").cast(pl.Float64))
    return branches


def surprise(suffix: str = "") -> pl.Expr:
    """-ln of `probability_of_label`, in nats; the probability is cut at SMALLEST_PROBABILITY from below."""
    return -probability_of_label(suffix).clip(lower_bound=SMALLEST_PROBABILITY).log()


def surprises(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float64 [N]: -ln of what `probabilities`, [N, 3] in the order of CLASSES, give to `labels`, [N] of CLASSES."""
    of_label = probabilities[np.arange(len(labels)), np.asarray(labels, np.int64) - CLASSES[0]]
    return -np.log(np.maximum(of_label, SMALLEST_PROBABILITY))


def improper(predictions: pl.DataFrame) -> pl.DataFrame:
    """The rows of `predictions` whose PROBABILITIES are null, not finite or negative, or do not sum to 1."""
    finite = pl.all_horizontal(pl.col(p).is_finite() & (pl.col(p) >= 0) for p in PROBABILITIES).fill_null(value=False)
    off = (pl.sum_horizontal(PROBABILITIES) - 1).abs() > 1e-6
    return predictions.filter(~finite | off)


def columns_not_finite(frame: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """Those of `columns` that hold a null, a NaN or an infinity, in their order. Looks at a whole row before at one."""
    if not columns:
        return []
    whole = frame.select(pl.col(name).is_finite().fill_null(value=False).all() for name in columns).row(0)
    return [name for name, finite in zip(columns, whole, strict=True) if not finite]


def first_not_finite(frame: pl.DataFrame, column: str) -> dict[str, object]:
    """The first row of `frame` in which `column`, one of `columns_not_finite`, is null or not finite, by column."""
    return frame.filter(~pl.col(column).is_finite().fill_null(value=False)).row(0, named=True)


def rows_not_finite(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """ticker, session, column, value of every number of `columns` (at least one) that is null, NaN or infinite."""
    faulty_columns = columns_not_finite(frame, columns) or columns[:1]  # without a fault the first, for its type
    return pl.concat(
        frame.filter(~pl.col(name).is_finite().fill_null(value=False)).select(
            *KEYS, column=pl.lit(name), value=pl.col(name)
        )
        for name in faulty_columns
    )


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` sorted by ticker and session: themselves where they are, since sorting a wide frame takes long."""
    ticker, session = pl.col("ticker"), pl.col("session")
    same_ticker = ticker == ticker.shift()
    ascending = (ticker > ticker.shift()) | (same_ticker & (session >= session.shift()))
    return rows if rows.select(ascending.fill_null(value=True).all()).item() else rows.sort(KEYS)


def by_tickers(rows: pl.DataFrame, size: int | None) -> Iterator[pl.DataFrame]:
    """`rows`, sorted by ticker unless `size` is None, in parts of whole tickers: each of `size` rows or more but the
    last. All at once where it is None or there is no row.

    >>> rows = pl.DataFrame({"ticker": ["A", "A", "B", "C"]})
    >>> [part.height for part in by_tickers(rows, 1)], [part.height for part in by_tickers(rows, 3)]
    ([2, 1, 1], [3, 1])
    """
    if size is None or rows.is_empty():
        yield rows
        return
    ends, begin = rows.group_by("ticker", maintain_order=True).len()["len"].cum_sum(), 0
    for end in ends:
        if end - begin >= size or end == rows.height:
            yield rows.slice(begin, end - begin)
            begin = end


def beside_tickers(
    rows: pl.DataFrame, others: pl.DataFrame, size: int | None
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each part of `by_tickers`, and those of `others`, in any order, that are of its tickers or between them.

    >>> rows = pl.DataFrame({"ticker": ["A", "B", "C"]})
    >>> [(part.height, those.height) for part, those in beside_tickers(rows, rows.reverse(), 2)]
    [(2, 2), (1, 1)]
    """
    for part in by_tickers(rows, size):
        if part.height == rows.height:
            yield part, others
            continue
        first, last = (pl.lit(part["ticker"][place]) for place in (0, -1))
        yield part, others.filter(pl.col("ticker").is_between(first, last))


def repeated(rows: pl.DataFrame, keys: Sequence[str] = KEYS) -> pl.DataFrame:
    """The `keys` that come more than once in `rows`, with their number as `rows`; sorted by `keys`."""
    return rows.group_by(keys).agg(rows=pl.len()).filter(pl.col("rows") > 1).sort(keys)


def differing(stored_rows: pl.DataFrame, rows: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What makes `rows` of `stored_rows`, which has the same columns and one row per `keys` as they have: the rows that
    are new or other than stored, and the keys of the stored rows that are other, or are gone.

    >>> stored = pl.DataFrame({"ticker": ["A", "B"], "close": [1.0, 2.0]})
    >>> changed, replaced = differing(stored, pl.DataFrame({"ticker": ["A", "B"], "close": [1.0, 3.0]}), ["ticker"])
    >>> changed.rows(), replaced.rows()
    ([('B', 3.0)], [('B',)])
    """
    if stored_rows.is_empty() or rows.is_empty():
        return rows, stored_rows.select(keys)
    new_rows = rows.join(stored_rows, on=rows.columns, how="anti", nulls_equal=True, maintain_order="left")
    return new_rows, stored_rows.join(rows, on=rows.columns, how="anti", nulls_equal=True).select(keys)


def markdown_table(frame: pl.DataFrame) -> str:
    """`frame` as a Markdown table of text that is shown as it is; numbers with six significant digits.

    >>> print(markdown_table(pl.DataFrame({"ticker": ["AAPL"], "close": [1.25]})))
    | ticker | close |
    | --- | --- |
    | AAPL | 1.25 |
    """

    def text(value: object) -> str:
        if value is None:
            return "–"
        return f"{value:.6g}" if isinstance(value, float) else markdown(value)

    lines = ["| " + " | ".join(map(text, frame.columns)) + " |", "|" + " --- |" * frame.width]
    lines += ["| " + " | ".join(map(text, row)) + " |" for row in frame.iter_rows()]
    return "\n".join(lines)
