"""The feature rows of a whole market, and the means of its sessions: what the model `rnn` takes apart and adds up."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from stock_assets.frames import KEYS
from stock_assets.model.scaling import column_values, require_finite, zero_where_unknown
from stock_assets.model.targets import VOLATILITIES, volatility_ahead


class MarketRows:
    """N feature rows of all tickers, sorted by ticker and session. Suspect rows count in no mean of a session.

    Raises ArtifactError for a column that `rows` lack, BadBarsError for a value that is not finite.
    """

    keys: pl.DataFrame
    """ticker, session"""
    values: np.ndarray
    """float32 [N, F]: the features as they are, NaN where a column of the market context is null"""
    day: np.ndarray
    """int64 [N]: the number of the row's session, from 0"""

    def __init__(self, rows: pl.DataFrame, suspects: pl.DataFrame, columns: Sequence[str], *, horizon: int) -> None:
        rows = rows.sort(KEYS)
        require_finite(rows, columns)
        self.keys = rows.select(KEYS)
        self.values = np.empty((rows.height, len(columns)), np.float32)
        for i, column in enumerate(columns):
            self.values[:, i] = column_values(rows, column)
        self.day = rows["session"].rank("dense").cast(pl.Int64).to_numpy() - 1
        self._trusted = ~self.among(suspects)
        self._horizon = horizon
        ahead = volatility_ahead(rows, horizon)
        self._realised = ahead.select(VOLATILITIES).to_numpy()  # [N, 3], read where _over
        # A horizon with a missing row ends later than its session's others: it would be known too early.
        sessions = rows["session"].unique().sort()
        end = sessions.search_sorted(ahead["end"].fill_null(date.max)).to_numpy()
        self._over = (end == self.day + horizon) & ahead["end"].is_not_null().to_numpy()
        distrusted = np.cumsum(~self._trusted)  # equal at both ends of a horizon without a suspect row inside
        self._over &= self._trusted & (np.roll(distrusted, -horizon) == distrusted)

    @property
    def trusted(self) -> np.ndarray:
        """bool [N]: the rows that count in the means of their sessions."""
        return self._trusted

    def among(self, rows: pl.DataFrame) -> np.ndarray:
        """bool [N]: which of these rows are among `rows` (ticker, session)."""
        marked = rows.select(KEYS).unique().with_columns(_there=pl.lit(value=True))
        joined = self.keys.join(marked, on=KEYS, how="left", maintain_order="left")
        return joined["_there"].is_not_null().to_numpy()

    def every(self, count: int) -> np.ndarray:
        """bool [N]: the rows of every `count`-th session."""
        return self.day % count == 0

    def labels(self, labels: pl.DataFrame) -> np.ndarray:
        """int64 [N]: the labels, 0 where there is none."""
        rows = self.keys.join(labels.select(*KEYS, "label"), on=KEYS, how="left", maintain_order="left")
        return rows["label"].fill_null(0).cast(pl.Int64).to_numpy()

    def mean(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float64 [N, K]: of `values` [N, K] over the session's trusted ones of `rows` (bool [N]); 0 where none is."""
        counted = self._trusted & rows
        day, days = self.day[counted], int(self.day.max()) + 1 if len(self.day) else 0
        number = np.maximum(np.bincount(day, minlength=days), 1)
        sums = [np.bincount(day, column[counted], minlength=days) for column in values.T]
        return (np.column_stack(sums) / number[:, None])[self.day]

    def session_mean(self, column: int) -> np.ndarray:
        """float64 [S]: of a column of `values` over the trusted rows of each session; NaN where a session has none."""
        values = self.values[:, column]
        counted = self._trusted & ~np.isnan(values)
        days = int(self.day.max()) + 1 if len(self.day) else 0
        number = np.bincount(self.day[counted], minlength=days)
        total = np.bincount(self.day[counted], values[counted].astype(np.float64), minlength=days)
        return np.divide(total, number, out=np.full(days, np.nan), where=number > 0)

    def smoothed(self, of_session: np.ndarray, half_life: float, sessions: int) -> np.ndarray:
        """float64 [S]: the exponential mean of `of_session` [S] over the last `sessions` sessions, NaN left out."""
        there = ~np.isnan(of_session)
        total, weight = np.zeros(len(of_session)), np.zeros(len(of_session))
        for back in range(min(sessions, len(of_session))):
            share = 0.5 ** (back / half_life)
            end = len(of_session) - back
            total[back:] += share * np.where(there, of_session, 0.0)[:end]
            weight[back:] += share * there[:end]
        return np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0)

    def first_of_session(self, rows: np.ndarray) -> np.ndarray:
        """bool [N]: of each session the first of `rows` (bool [N]) that is trusted."""
        counted = np.flatnonzero(self._trusted & rows)
        out = np.zeros(len(rows), bool)
        out[counted[np.unique(self.day[counted], return_index=True)[1]]] = True
        return out

    def deviations(self) -> np.ndarray:
        """float32 [N + 1, F]: the values less their session's mean, 0 where unknown; the last row is padding."""
        out = np.zeros((len(self.values) + 1, self.values.shape[1]), np.float32)
        everything = np.ones(len(self.values), bool)
        for i in range(self.values.shape[1]):  # one at a time, as in `linear.spread`
            column = self.values[:, i : i + 1]
            out[:-1, i] = zero_where_unknown((column - self.mean(column, everything))[:, 0])
        return out

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
        errors = self.mean(np.where(self._over[:, None], self._realised, 0.0), self._over)
        errors -= self.mean(forecast, self._over)
        first = np.unique(self.day, return_index=True)[1]  # one row of each session
        by_session, there = errors[first], np.bincount(self.day[self._over], minlength=len(first)) > 0
        total, number = np.zeros_like(by_session), np.zeros(len(first))
        for back in range(self._horizon, min(sessions, len(first))):
            total[back:] += by_session[:-back]
            number[back:] += there[:-back]
        return (total / np.maximum(number, 1.0)[:, None])[self.day]


def standardise(deviations: np.ndarray, scale: np.ndarray, clip: float) -> None:
    """In place, since a whole market takes half a gigabyte."""
    deviations /= scale.astype(np.float32)
    np.clip(deviations, -clip, clip, out=deviations)
