"""Baselines that look at no feature: the best of them is what any score must be read against."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, BadBarsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.baselines.base import Baseline, register_baseline, require_labels
from stock_assets.model.lesson import Lesson

#: Calendar days after which a ticker's newest label no longer counts as known, so that results do not depend on how
#: far back labels were read.
LABEL_LIFETIME = 60


@register_baseline
@dataclass(frozen=True)
class ClassPrior(Baseline):
    """Every row gets the class frequencies of the training labels."""

    name, role, reads, naive = "class_prior", "naive", "none", True
    title = "the class frequencies"
    prior: np.ndarray
    """float64 [3]"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "ClassPrior":
        return fit_class_prior(lesson.labels, lesson.cutoff)

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return np.tile(self.prior, (rows.height, 1))


@register_baseline
@dataclass(frozen=True)
class TickerPrior(Baseline):
    """Every row gets its ticker's class frequencies, a ticker unknown to the training the class prior."""

    name, role, reads, naive = "ticker_prior", "naive", "none", True
    title = "the class frequencies of each ticker"
    prior: np.ndarray
    """float64 [3], of all tickers"""
    tickers: tuple[str, ...]
    by_ticker: np.ndarray
    """float64 [T, 3]"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "TickerPrior":
        return fit_ticker_prior(lesson.labels, lesson.cutoff)

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        position = {ticker: i for i, ticker in enumerate(self.tickers)}
        table = np.vstack([self.by_ticker, self.prior])
        return table[[position.get(ticker, -1) for ticker in rows["ticker"]]]


@register_baseline
@dataclass(frozen=True)
class Persistence(Baseline):
    """Every row gets the class frequencies that followed its `known_label`, the newest that was fully known."""

    name, role, reads, naive = "persistence", "reference", "known_labels", True
    title = "the class frequencies after the newest known label"
    after: np.ndarray
    """float64 [4, 3]: after a known sell, hold, buy, and after none"""

    @classmethod
    def fit(cls, lesson: Lesson) -> "Persistence":
        return fit_persistence(lesson.inputs.known_labels, lesson.labels, lesson.cutoff)

    def probabilities(self, rows: pl.DataFrame) -> np.ndarray:
        return self.after[_known_class(rows)]


def fit_class_prior(labels: pl.DataFrame, cutoff: date) -> ClassPrior:
    """The class frequencies of `labels`, which are usable and purged, with one imaginary label per class.

    Raises CutoffError for a label that ends after `cutoff`, StockAssetsError for no label at all.
    """
    require_labels(labels, cutoff)
    counts = _class_counts(labels) + 1.0  # so that a class never seen does not cost an infinite log-loss
    return ClassPrior(cutoff, counts / counts.sum())


def fit_ticker_prior(labels: pl.DataFrame, cutoff: date, *, pseudo_count: float = 100.0) -> TickerPrior:
    """The class frequencies of each ticker, shrunk to those of all.

    (count of the ticker and class + pseudo_count × class prior) / (count of the ticker + pseudo_count).
    At a horizon of seven sessions neighbouring labels share six days, so a hundred labels are about fifteen
    observations. Raises as `fit_class_prior`.
    """
    prior = fit_class_prior(labels, cutoff).prior
    counts = labels.group_by("ticker").agg((pl.col("label") == c).sum().alias(str(c)) for c in CLASSES).sort("ticker")
    table = counts.drop("ticker").cast(pl.Float64).to_numpy() + pseudo_count * prior
    return TickerPrior(cutoff, prior, tuple(counts["ticker"]), table / table.sum(axis=1, keepdims=True))


def known_labels(labels: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """ticker, session, known_label (i8) of `rows`: the newest label of the ticker that was known at the close.

    `labels` are rows of ticker, session, label, horizon_end, in any order; that of session s is known at the close of t
    when horizon_end <= t, so as a rule it is that of `horizon` bars ago. known_label is null where no label of the
    last LABEL_LIFETIME days is known. So labels from that many days before the first row on give the same result as
    all labels. Sorted by ticker and session.
    """
    newest = labels.drop_nulls("label").select("ticker", "horizon_end", known_label="label", labelled="session")
    rows_with_label = rows.select(KEYS).sort("session", "ticker")
    rows_with_label = rows_with_label.join_asof(
        newest.sort("horizon_end", "labelled"),
        left_on="session",
        right_on="horizon_end",
        by="ticker",
        check_sortedness=False,  # polars warns that it cannot check it within tickers; both sides are sorted here
    )
    fresh = pl.col("labelled") >= pl.col("session") - pl.duration(days=LABEL_LIFETIME)
    return rows_with_label.select(*KEYS, pl.when(fresh).then("known_label").cast(pl.Int8)).sort(KEYS)


def fit_persistence(
    newest_labels: pl.DataFrame, labels: pl.DataFrame, cutoff: date, *, pseudo_count: float = 100.0
) -> Persistence:
    """The class frequencies after each `known_label` of `known_labels`, shrunk to those of all.

    Shrunk as in `fit_ticker_prior`. Labels without a row in `newest_labels` do not count. Raises as `fit_class_prior`,
    and BadBarsError for a known label that is no class.
    """
    prior = fit_class_prior(labels, cutoff).prior
    pairs = newest_labels.join(labels.select(*KEYS, "label"), on=KEYS)
    counts = np.zeros((len(CLASSES) + 1, len(CLASSES)))
    np.add.at(counts, (_known_class(pairs), pairs["label"].to_numpy() - CLASSES[0]), 1.0)
    after = counts + pseudo_count * prior
    return Persistence(cutoff, after / after.sum(axis=1, keepdims=True))


def _known_class(rows: pl.DataFrame) -> np.ndarray:
    """int64 [N], the row of `Persistence.after` that each of `rows` reads."""
    if "known_label" not in rows.columns:
        raise ArtifactError("persistence reads the column known_label, which the rows lack; make it by known_labels")
    wrong_rows = rows.filter(~pl.col("known_label").is_in(CLASSES))
    if not wrong_rows.is_empty():
        ticker, session, label = wrong_rows.select(*KEYS, "known_label").row(0)
        raise BadBarsError(f"known_label of {ticker} at {session} is {label}; expected null or one of {CLASSES}")
    return rows["known_label"].cast(pl.Int64).fill_null(CLASSES[-1] + 1).to_numpy() - CLASSES[0]


def _class_counts(labels: pl.DataFrame) -> np.ndarray:
    return np.array([(labels["label"] == c).sum() for c in CLASSES], np.float64)
