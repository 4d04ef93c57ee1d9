"""Rows of all tickers in one resident array, cut into sequences by index.

A sequence runs over the ticker's own rows, or over every so many of them: a session on which the ticker has no row is
simply not a step, so that a row window means the same here as in the indicators, and nothing is filled in.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import BadBarsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.market_rows import PADDING
from stock_assets.model.scaling import standardised

#: The class index of a row without a label: torch's cross_entropy skips it.
IGNORE = -100


@dataclass(frozen=True)
class Panel:
    """The rows of all tickers, one after the other, each ticker's in the order of its sessions.

    The arrays end with one padding row (zero values, no label), which index -1 reaches.
    """

    keys: pl.DataFrame
    """ticker, session of the N rows"""
    values: np.ndarray
    """float32 [N + 1, F]"""
    labels: np.ndarray
    """int64 [N + 1]: 0 sell, 1 hold, 2 buy, IGNORE for a row without a label; int8 where it is `marked`"""
    starts: np.ndarray
    """int64 [T]: the first row of each ticker"""
    ends: np.ndarray
    """int64 [T]: one past its last row"""
    name: bytes = b""
    """A digest of the values, where there is one"""
    stride: int = 1
    """Rows from one step of a sequence to the next"""

    def labelled(self, labels: pl.DataFrame) -> "Panel":
        """The same rows with `labels` (ticker, session, label), which may cover any part of them."""
        rows_with_label = self.keys.join(labels.select(*KEYS, "label"), on=KEYS, how="left", maintain_order="left")
        classes = (rows_with_label["label"].cast(pl.Int64) - CLASSES[0]).fill_null(IGNORE).to_numpy()
        return replace(self, labels=np.append(classes, IGNORE))

    def marked(self, rows: np.ndarray) -> "Panel":
        """The same rows, those of `rows` (bool [N]) with some label: for a network whose targets are elsewhere."""
        labels = np.full(len(rows) + 1, IGNORE, np.int8)
        labels[:-1][rows] = 0
        return replace(self, labels=labels)

    def has_label(self) -> np.ndarray:
        """bool [N + 1]: the rows with a label; the padding row has none."""
        return self.labels != IGNORE


def build_panel(
    features: pl.DataFrame, columns: Sequence[str], *, mean: np.ndarray, std: np.ndarray, clip: float
) -> Panel:
    """The panel of `features`, without labels, each column standardised as (x - mean) / std and cut to ± clip.

    Raises BadBarsError for a (ticker, session) that comes twice and for a value that is not finite,
    ArtifactError for a column that `features` lack.
    """
    rows = features.sort(KEYS)
    values = standardised(rows, columns, mean=mean, std=std, clip=clip, dtype=np.float32)
    return panel_of(rows.select(KEYS), np.concatenate([values, np.zeros((1, len(columns)), np.float32)]))


def panel_of(keys: pl.DataFrame, values: np.ndarray) -> Panel:
    """The panel of sorted `keys` (ticker, session) and their `values`, float32 [N + 1, F], without labels.

    Raises BadBarsError for a (ticker, session) that comes twice.
    """
    _require_unique(keys)
    counts = keys.group_by("ticker", maintain_order=True).len()["len"].cast(pl.Int64).to_numpy()
    ends = np.cumsum(counts)
    return Panel(keys, values, np.full(len(values), IGNORE, np.int64), ends - counts, ends)


def random_segments(panel: Panel, length: int, rng: np.random.Generator) -> np.ndarray:
    """Row indices, int64 [S, length], of segments that hold every row exactly once; PADDING after a ticker's last row.

    A segment holds every `panel.stride`-th row of a ticker. Each ticker is cut into consecutive segments from a random
    phase on, and the segments are shuffled: over the epochs every row is met at every depth of a segment. Segments
    without a label are left out.
    """
    starts, ends, stride = [], [], panel.stride
    for first, end in _sequences(panel.starts, panel.ends, stride):
        cuts = np.arange(first + stride * rng.integers(1, length + 1), end, stride * length)
        starts.append(np.concatenate([[first], cuts]))
        ends.append(np.concatenate([cuts, [end]]))
    segments = _spans(np.concatenate(starts), np.concatenate(ends), length, stride=stride)
    return rng.permutation(segments[panel.has_label()[segments].any(axis=1)])


def labelled_spans(panel: Panel, context: int) -> np.ndarray:
    """Row indices, int64 [S, longest], of spans with labels; PADDING after a shorter one.

    Those of a ticker run from `context` - 1 rows before its first label (fewer where its rows begin) to its last label:
    one where the steps of the panel are neighbours, else up to `panel.stride`. Each label is in one of them.
    """
    labelled_rows = np.flatnonzero(panel.has_label())
    if not len(labelled_rows):
        return np.empty((0, 0), np.int64)
    low, high = np.searchsorted(labelled_rows, panel.starts), np.searchsorted(labelled_rows, panel.ends)
    has = high > low
    first = np.maximum(labelled_rows[low[has]] - context + 1, panel.starts[has])
    end = labelled_rows[high[has] - 1] + 1
    starts, ends = np.array(list(_sequences(first, end, panel.stride))).T
    longest = -(-int((end - first).max()) // panel.stride)
    spans = _spans(starts, ends, longest, stride=panel.stride)
    return spans[panel.has_label()[spans].any(axis=1)]


def rows_of_windows(last_rows: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [U], ends int64 [W]): the `context` rows that end at each of `last_rows` (int64 [W], ascending), and
    the place of its last one among them. What windows share is there once: those of window i are the rows at the
    places ends[i] - context + 1 to ends[i].

    >>> rows, ends = rows_of_windows(np.array([4, 5, 9]), 3)
    >>> rows.tolist(), ends.tolist()
    ([2, 3, 4, 5, 7, 8, 9], [2, 3, 6])
    """
    new = np.minimum(np.diff(last_rows, prepend=last_rows[:1] - context), context)
    ends = np.cumsum(new) - 1
    return np.repeat(last_rows - ends, new) + np.arange(new.sum()), ends


def predictable_rows(keys: pl.DataFrame, sessions: Collection[date], context: int) -> pl.Series:
    """Boolean [N]: which of the sorted `keys` are of `sessions` and have `context` rows of their ticker up to there."""
    has_lookback = pl.int_range(pl.len()).over("ticker") >= context - 1
    return keys.select((has_lookback & pl.col("session").is_in(list(sessions))).alias("predictable"))["predictable"]


def missing_history(features: pl.DataFrame, sessions: Collection[date], context: int) -> dict[str, int]:
    """How many feature rows at `sessions` get no prediction, by reason; empty when all do."""
    keys = features.select(KEYS).sort(KEYS)
    rows = keys.filter(pl.col("session").is_in(list(sessions))).height
    short = rows - int(predictable_rows(keys, sessions, context).sum())
    return {f"fewer than {context} feature rows": short} if short else {}


def _sequences(starts: np.ndarray, ends: np.ndarray, stride: int) -> Iterator[tuple[int, int]]:
    """(first row, end) of each sequence of every `stride`-th row of a ticker: `stride` of them, or one for each row of
    a ticker that has fewer."""
    for first, end in zip(starts, ends, strict=True):
        yield from ((begin, end) for begin in range(first, min(first + stride, end)))


def _spans(starts: np.ndarray, ends: np.ndarray, length: int, *, stride: int) -> np.ndarray:
    rows = starts[:, None] + stride * np.arange(length)
    return np.where(rows < ends[:, None], rows, PADDING)


def _require_unique(keys: pl.DataFrame) -> None:
    twice = keys.filter(
        (pl.col("ticker") == pl.col("ticker").shift()) & (pl.col("session") == pl.col("session").shift())
    )
    if not twice.is_empty():
        ticker, session = twice.row(0)
        raise BadBarsError(f"features hold {ticker} at {session} twice; expected one row per ticker and session")
