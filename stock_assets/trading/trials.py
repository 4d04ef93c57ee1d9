"""What was tried: every back-test that was ever computed, and how many the best of them was chosen from.

A back-test is named by a digest of what it was computed from. A trial is the same without its last session and its
scores: when the span grows by an evening, or a bar is restated, nothing else was tried. Another first session, another
limit or another cost is another trial.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime

import numpy as np
import polars as pl

from stock_assets.trading.books import Book
from stock_assets.trading.overfitting import deflated_sharpe, expected_maximum
from stock_assets.trading.statistics import ANNUAL, Moments, moments
from stock_assets.trading.tables import BACKTESTS

#: The variant of a back-test at the book's own costs, capital and fills: those whose variance a deflation is made with.
BASE = "base"


@dataclass(frozen=True)
class Computed:
    """One back-test, as it is kept among the trials."""

    book: Book
    """with the costs, the fill and the capital that it was computed with"""
    model: str
    sleeves: int
    variant: str
    first: date
    last: date
    scores: str
    """a digest of the scores that it followed"""
    returns: np.ndarray
    """float64 [T]: net of a session"""

    @property
    def trial(self) -> str:
        """What is tried, as a digest."""
        book = {key: value for key, value in asdict(self.book).items() if key not in ("model", "sleeves")}
        return _digest(book, self.model, self.sleeves, str(self.first))

    @property
    def digest(self) -> str:
        """What it was computed from, as a digest."""
        return _digest(self.trial, str(self.last), len(self.returns), self.scores)


def digest_of_scores(scores: np.ndarray) -> str:
    """A digest of `scores`, float64 [T, N]: two histories of predictions differ in it unless every score is equal."""
    return hashlib.sha256(np.ascontiguousarray(scores + 0.0).tobytes()).hexdigest()[:16]


def trial_rows(back_tests: Iterable[Computed], *, computed_at: datetime) -> pl.DataFrame:
    """The rows of the table `backtests`; sharpe, skewness and kurtosis are null without variance."""
    rows = []
    for back_test in back_tests:
        moments_of_returns = moments(back_test.returns)
        rows.append(
            {
                "digest": back_test.digest,
                "trial": back_test.trial,
                "book": back_test.book.name,
                "variant": back_test.variant,
                "model": back_test.model,
                "sleeves": back_test.sleeves,
                "costs": json.dumps(asdict(back_test.book.costs)),
                "first": back_test.first,
                "last": back_test.last,
                "sessions": len(back_test.returns),
                "sharpe": moments_of_returns and moments_of_returns.sharpe,
                "skewness": moments_of_returns and moments_of_returns.skewness,
                "kurtosis": moments_of_returns and moments_of_returns.kurtosis,
                "computed_at": computed_at,
            }
        )
    return pl.DataFrame(rows, BACKTESTS.schema)


@dataclass(frozen=True)
class Trials:
    """How many trials the store has counted, and how their Sharpe ratios vary."""

    backtests: int
    """different trials among the rows of `backtests`"""
    tunings: int
    """trials of hyperparameters"""
    challengers: int
    """versions that were judged for service"""
    variance: float | None
    """of the Sharpe ratios of a session, over the trials of one book in the variant BASE; None for fewer than two"""

    @property
    def count(self) -> int:
        """N of the deflated Sharpe ratio."""
        return self.backtests + self.tunings + self.challengers

    def benchmark(self, sessions: int) -> float:
        """The Sharpe ratio of a session that the best of the trials is expected to show by luck."""
        return self._variance(sessions) ** 0.5 * expected_maximum(max(self.count, 1))

    def deflated(self, moments_of_returns: Moments | None, *, trials: float | None = None) -> float | None:
        """The deflated Sharpe ratio of `moments_of_returns`, for another number of `trials` where given; None without
        one."""
        if moments_of_returns is None:
            return None
        count = max(self.count if trials is None else trials, 1)
        return deflated_sharpe(moments_of_returns, trials=count, variance=self._variance(moments_of_returns.sessions))

    def annual_benchmark(self, sessions: int) -> float:
        """`benchmark` of a year."""
        return self.benchmark(sessions) * ANNUAL

    def _variance(self, sessions: int) -> float:
        # of a worthless strategy over so many sessions, where too few trials are there to show theirs
        return 1 / max(sessions, 1) if self.variance is None else self.variance


def trials_of(backtests: pl.DataFrame, book: str | None = None, *, tunings: int, challengers: int) -> Trials:
    """The trials among the rows of the table `backtests`, of which a trial's last one shows its Sharpe ratio.

    All of them count. The variance is that of the models and sleeves of `book`, of every book where it is None: other
    books and dearer costs differ by what they cost, and not by luck.
    """
    newest = backtests.sort("last", "computed_at", "digest").unique("trial", keep="last", maintain_order=True)
    own = pl.lit(True) if book is None else pl.col("book") == book
    ratios = newest.filter(own & (pl.col("variant") == BASE))["sharpe"].drop_nulls()
    variance = ratios.var() if len(ratios) > 1 else None
    return Trials(newest.height, tunings, challengers, float(variance) if isinstance(variance, float) else None)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
