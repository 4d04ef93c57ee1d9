"""The feature rows of a whole market, and the means of its sessions: what the model `rnn` takes apart and adds up."""

import mmap
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from stock_assets.frames import KEYS, beside_tickers, in_order
from stock_assets.model.scaling import require_finite, zero_where_unknown
from stock_assets.model.targets import VOLATILITIES, daily_returns, volatility_ahead

#: Rows of one step of the arithmetic on a whole market (`row_parts`).
PART_ROWS = 4096
#: Rows that are joined at once: a join takes several times the memory of its rows.
JOINED_ROWS = 1_000_000
#: The place of the padding row, after all others: it is zero.
PADDING = -1
#: Bytes of a market that stays in memory; a larger one lies in a file that has no name, and is gone with the process.
IN_MEMORY = 2**28
_MAKING = threading.Lock()


class MarketRows:
    """N feature rows of all tickers, sorted by ticker and session. Suspect rows count in no mean of a session.

    Raises ArtifactError for a column that `rows` lack, BadBarsError for a value that is not finite.
    """

    keys: pl.DataFrame
    """ticker, session"""
    padded: np.ndarray
    """float32 [N + 1, F]: `values` and the padding row"""
    day: np.ndarray
    """int64 [N]: the number of the row's session, from 0"""

    def __init__(
        self,
        rows: pl.DataFrame,
        suspects: pl.DataFrame,
        columns: Sequence[str],
        *,
        horizon: int,
        scratch: Path | None = None,
    ) -> None:
        """`scratch` is a folder for what is larger than IN_MEMORY."""
        rows = in_order(rows)
        require_finite(rows, columns)
        self.keys = rows.select(KEYS)
        self.padded, self._map = _room((rows.height + 1, len(columns)), np.float32, scratch)
        self._scratch = scratch
        for part in row_parts(rows.height):
            rows_of_part = rows.slice(part.start, part.stop - part.start).select(pl.col(columns).cast(pl.Float32))
            self.padded[part] = rows_of_part.to_numpy()
        self.release()
        self.day = rows["session"].rank("dense").cast(pl.Int64).to_numpy() - 1
        self._trusted = ~self.among(suspects)
        self._horizon, self._rows = horizon, rows

    @property
    def values(self) -> np.ndarray:
        """float32 [N, F]: the features as they are, NaN where a column of the market context is null"""
        return self.padded[:-1]

    def release(self) -> None:
        """Memory that holds pages of the file is free for others; they are read again where they are needed."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def digest(self) -> bytes:
        """A name of the values."""
        digest = blake2b(digest_size=16)
        digest.update(self.padded.data)
        return digest.digest()

    def spans(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(starts, ends), int64 [T]: each ticker's rows among `rows` (bool [N], of each ticker its first ones)."""
        counts = self.keys.with_columns(counted=pl.Series(rows)).group_by("ticker", maintain_order=True)
        own = counts.agg(rows=pl.len().cast(pl.Int64), counted=pl.col("counted").sum().cast(pl.Int64))
        starts = (own["rows"].cum_sum() - own["rows"]).to_numpy()
        label_counts = own["counted"].to_numpy()
        return starts[label_counts > 0], (starts + label_counts)[label_counts > 0]

    @cached_property
    def _came(self) -> tuple[np.ndarray, np.ndarray]:
        """(float64 [N, 3]: VOLATILITIES as they came, bool [N]: where they may be read)."""
        ahead = volatility_ahead(self._rows, self._horizon)
        # A horizon with a missing row ends later than its session's others: it would be known too early.
        sessions = self._rows["session"].unique().sort()
        end = sessions.search_sorted(ahead["end"].fill_null(date.max)).to_numpy()
        is_over = (end == self.day + self._horizon) & ahead["end"].is_not_null().to_numpy()
        distrusted_count = np.cumsum(~self._trusted)  # equal at both ends of a horizon without a suspect row inside
        is_over &= self._trusted & (np.roll(distrusted_count, -self._horizon) == distrusted_count)
        return ahead.select(VOLATILITIES).to_numpy(), is_over

    def returns_ahead(self, at: np.ndarray) -> np.ndarray:
        """float64 [R, horizon]: log returns of the rows after those in the places `at`, whose horizons are complete."""
        return daily_returns(self._rows, at[:, None] + np.arange(1, self._horizon + 1))

    @property
    def trusted(self) -> np.ndarray:
        """bool [N]: the rows that count in the means of their sessions."""
        return self._trusted

    def among(self, rows: pl.DataFrame) -> np.ndarray:
        """bool [N]: which of these rows are among `rows` (ticker, session)."""
        is_among = np.zeros(self.keys.height, bool)
        for part, joint_rows in self._beside(rows.select(*KEYS, pl.lit(value=True).alias("_there")), unique=True):
            is_among[part] = joint_rows["_there"].is_not_null().to_numpy()
        return is_among

    def every(self, count: int) -> np.ndarray:
        """bool [N]: the rows of every `count`-th session."""
        return self.day % count == 0

    def labels(self, labels: pl.DataFrame) -> np.ndarray:
        """int8 [N]: the labels, 0 where there is none."""
        labels_of_rows = np.zeros(self.keys.height, np.int8)
        for part, joint_rows in self._beside(labels.select(*KEYS, "label")):
            labels_of_rows[part] = joint_rows["label"].fill_null(0).to_numpy()
        return labels_of_rows

    def numbers(self, rows: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
        """float64 [N, K]: `columns` of `rows` (ticker, session, …), NaN where a row is not among them; in a file where
        they are larger than IN_MEMORY and the market may lie in one, too."""
        columns_of_rows, _ = _room((len(columns), self.keys.height), np.float64, self._scratch)
        for part, joint_rows in self._beside(rows.select(*KEYS, *columns)):
            for of_column, name in zip(columns_of_rows, columns, strict=True):
                of_column[part] = joint_rows[name].fill_null(np.nan).to_numpy()
        return columns_of_rows.T

    def _beside(self, rows: pl.DataFrame, *, unique: bool = False) -> Iterator[tuple[slice, pl.DataFrame]]:
        """(places, keys with the columns of `rows`, null where there is none), some tickers at a time; with `unique` of
        rows that may be there twice."""
        begin = 0
        for keys, those in beside_tickers(self.keys, rows, JOINED_ROWS):
            those = those.unique() if unique else those
            yield slice(begin, begin + keys.height), keys.join(those, on=KEYS, how="left", maintain_order="left")
            begin += keys.height

    def mean(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 [N, K]: of `values` [N, K] over the session's trusted ones of `rows` (bool [N]); 0 where none is."""
        is_counted = self._trusted & rows
        day, days = self.day[is_counted], int(self.day.max()) + 1 if len(self.day) else 0
        number = np.maximum(np.bincount(day, minlength=days), 1)
        sums = [np.bincount(day, column[is_counted], minlength=days) for column in values.T]
        return (np.column_stack(sums) / number[:, None])[self.day]

    def session_mean(self, column: int) -> np.ndarray:
        """float64 [S]: of a column of `values` over the trusted rows of each session; NaN where a session has none."""
        values = self.values[:, column]
        is_counted = self._trusted & ~np.isnan(values)
        days = int(self.day.max()) + 1 if len(self.day) else 0
        number = np.bincount(self.day[is_counted], minlength=days)
        total = np.bincount(self.day[is_counted], values[is_counted].astype(np.float64), minlength=days)
        return np.divide(total, number, out=np.full(days, np.nan), where=number > 0)

    def smoothed(self, of_session: np.ndarray, half_life: float, sessions: int) -> np.ndarray:
        """float64 [S]: the exponential mean of `of_session` [S] over the last `sessions` sessions, NaN left out."""
        is_number = ~np.isnan(of_session)
        total, weight = np.zeros(len(of_session)), np.zeros(len(of_session))
        for back in range(min(sessions, len(of_session))):
            share = 0.5 ** (back / half_life)
            end = len(of_session) - back
            total[back:] += share * np.where(is_number, of_session, 0.0)[:end]
            weight[back:] += share * is_number[:end]
        return np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)

    def first_of_session(self, rows: np.ndarray) -> np.ndarray:
        """bool [N]: of each session the first of `rows` (bool [N]) that is trusted."""
        counted_rows = np.flatnonzero(self._trusted & rows)
        is_first = np.zeros(len(rows), bool)
        is_first[counted_rows[np.unique(self.day[counted_rows], return_index=True)[1]]] = True
        return is_first

    @cached_property
    def session_means(self) -> np.ndarray:
        """float64 [S, F]: of each session's trusted rows; NaN where one of them is unknown."""
        from scipy.sparse import csr_array

        mean = np.zeros((int(self.day.max()) + 1 if len(self.day) else 0, self.values.shape[1]))
        for part in row_parts(len(self.values)):  # a sum by session is a product with the rows' sessions
            rows = np.flatnonzero(self._trusted[part])
            at = self.day[part][rows]
            of_sessions = csr_array((np.ones(len(at)), (at, np.arange(len(at)))), shape=(len(mean), len(at)))
            mean += of_sessions @ self.values[part][rows].astype(np.float64)
        mean /= np.maximum(np.bincount(self.day[self._trusted], minlength=len(mean)), 1)[:, None]
        self.release()
        return mean

    def scores(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 [N]: `values` [N] in standard deviations about their mean over the session's trusted `rows`."""
        centred = values[:, None] - self.mean(values[:, None], rows)
        deviation = np.sqrt(self.mean(centred**2, rows))
        return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12)[:, 0]

    def recent_error(self, forecast: np.ndarray, sessions: int) -> np.ndarray:
        """float64 [N, 3]: VOLATILITIES as they came less `forecast` [N, 3], the same for all rows of a session.

        The mean over those of the last `sessions` sessions whose horizon is over, of the mean of their tickers; 0
        where there is none.
        """
        realised_targets, is_over = self._came
        errors = self.mean(np.where(is_over[:, None], realised_targets, 0.0), is_over)
        errors -= self.mean(forecast, is_over)
        first = np.unique(self.day, return_index=True)[1]  # one row of each session
        by_session, has_outcome = errors[first], np.bincount(self.day[is_over], minlength=len(first)) > 0
        total, number = np.zeros_like(by_session), np.zeros(len(first))
        for back in range(self._horizon, min(sessions, len(first))):
            total[back:] += by_session[:-back]
            number[back:] += has_outcome[:-back]
        return (total / np.maximum(number, 1.0)[:, None])[self.day]


def row_parts(count: int) -> list[slice]:
    """The places 0 to `count` in parts so small that a processor keeps what it computes of one close by."""
    return [slice(start, min(start + PART_ROWS, count)) for start in range(0, count, PART_ROWS)]


@dataclass(frozen=True)
class Standardised:
    """The inputs of a network, made where they are read, since those of all rows are as large as the market itself.

    In the place of `rows`, int64 of any shape, they are float32 [*shape, F]: the values less their session's mean, 0
    where unknown, by `scale` (float64 [F]) and cut to ± `clip`; 0 for the padding.
    """

    market: MarketRows
    scale: np.ndarray
    clip: float = np.inf
    of_session: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By column that is the same for all tickers what stands in the place of the difference, float32 [S]"""

    @property
    def shape(self) -> tuple[int, int]:
        return self.market.values.shape

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        day = self.market.day[rows]
        values_of_rows = zero_where_unknown(self.market.padded[rows] - self.market.session_means[day]).astype(
            np.float32
        )
        for column, values in self.of_session.items():
            values_of_rows[..., column] = values[day]
        values_of_rows /= self.scale.astype(np.float32)
        np.clip(values_of_rows, -self.clip, self.clip, out=values_of_rows)
        values_of_rows[rows == PADDING] = 0.0
        return values_of_rows


class _Frames(Protocol):
    @property
    def features(self) -> pl.DataFrame: ...
    @property
    def suspects(self) -> pl.DataFrame: ...
    @property
    def scratch(self) -> Path | None: ...


class HoldsMarket:
    """Inputs that make their market once for all models that read the same columns."""

    scratch: Path | None = None

    def market(self: _Frames, columns: tuple[str, ...], horizon: int) -> MarketRows:
        """The `MarketRows` of `columns`. Raises as they do."""
        with _MAKING:
            markets = self.__dict__.setdefault("_markets", {})
            if (columns, horizon) not in markets:
                markets[columns, horizon] = MarketRows(
                    self.features, self.suspects, columns, horizon=horizon, scratch=self.scratch
                )
            return markets[columns, horizon]


def _room(shape: tuple[int, int], dtype: type, scratch: Path | None) -> tuple[np.ndarray, mmap.mmap | None]:
    """(zeros; the file in the folder `scratch` that holds them, where they are larger than IN_MEMORY)."""
    size = np.dtype(dtype).itemsize * shape[0] * shape[1]
    if scratch is None or size <= IN_MEMORY:
        return np.zeros(shape, dtype), None
    with tempfile.TemporaryFile(dir=scratch) as file:
        file.truncate(size)
        mapped = mmap.mmap(file.fileno(), size)
    return np.frombuffer(mapped, dtype).reshape(shape), mapped
