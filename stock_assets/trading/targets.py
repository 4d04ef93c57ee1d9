"""Rows of `target_weights` from predictions and bars: own targets session by session, then the mean over sleeves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from stock_assets.errors import TradingError
from stock_assets.trading.book_files import digest_of, model_of
from stock_assets.trading.books import Book
from stock_assets.trading.panel import Panel
from stock_assets.trading.portfolio import HOLDS, SLEEVES, Evening, best_sleeves, own_target, sleeved
from stock_assets.trading.simulation import grid_of, net_returns
from stock_assets.trading.tables import TARGET_WEIGHTS

#: The columns of predictions that a target is made of.
PREDICTION_COLUMNS = ("ticker", "session", "model", "model_version", "p_sell", "p_buy", "score")


@dataclass(frozen=True)
class OwnTargets:
    """The own targets of T sessions of a panel: arrays [T, N] over its tickers."""

    panel: Panel
    scores: np.ndarray
    """float64, NaN without a prediction"""
    own: np.ndarray
    """float64, NaN holds what there is"""
    reason: np.ndarray
    """int8: index into `portfolio.HOLDS`"""
    eligible: np.ndarray
    """int64 [T]: tickers that could be chosen"""


def lookback_of(book: Book) -> int:
    """Sessions before a session that its rows of `target_weights` look at."""
    return max((book.sleeves or max(SLEEVES)) - 1, book.limits.frozen_sessions)


def scores_of(predictions: pl.DataFrame, panel: Panel, book: Book) -> np.ndarray:
    """float64 [T, N]: what `book` ranks by, NaN without a prediction of it. `predictions` are of its model alone.

    Raises TradingError for a ticker that has no bar in the panel.
    """
    rows = predictions.filter(pl.col("session").is_in(list(panel.sessions)))
    if strange := rows.filter(~pl.col("ticker").is_in(list(panel.tickers))).head(1).rows(named=True):
        raise TradingError(
            f"book {book.name}, session {strange[0]['session']}: the ticker {strange[0]['ticker']} is predicted and "
            "has no bar; expected one in daily_bars. Materialize daily_bars and predictions again"
        )
    score = pl.col("score")
    if book.score == "direction":
        moves = pl.col("p_buy") + pl.col("p_sell")
        score = pl.when(moves > 0).then(pl.col("p_buy") / moves).otherwise(0.5)
    return grid_of(
        rows.select("session", "ticker", score=score), "score", sessions=panel.sessions, tickers=panel.tickers
    )


def own_targets(panel: Panel, scores: np.ndarray, book: Book) -> OwnTargets:
    """The own target of every session of `panel`, each from what its close shows."""
    trusted = panel.trusted
    targets = [
        own_target(
            Evening(scores[t], panel.close[t], trusted[t], panel.adv[t], panel.beta[t], panel.sector),
            book,
        )
        for t in range(len(panel.sessions))
    ]
    return OwnTargets(
        panel,
        scores,
        np.array([target.own for target in targets]).reshape(scores.shape),
        np.array([target.reason for target in targets], dtype=np.int8).reshape(scores.shape),
        np.array([target.eligible for target in targets], dtype=np.int64),
    )


def weights_of(targets: OwnTargets, sleeves: Mapping[int, int]) -> np.ndarray:
    """float64 [T, N]: the targets of all sessions, with the number of `sleeves` of each year."""
    years = np.array([session.year for session in targets.panel.sessions])
    weights = np.full(targets.own.shape, np.nan)
    for year, number in sleeves.items():
        weights[years == year] = sleeved(targets.own, number)[years == year]
    return weights


def choose_sleeves(targets: OwnTargets, book: Book, years: Collection[int]) -> dict[int, int]:
    """The number of sleeves of each of `years`, by the net returns of all years before it that `targets` have.

    `targets` begin at the first session of the book. A year without one before it gets the default.
    """
    of_year = np.array([session.year for session in targets.panel.sessions])
    before = int(np.count_nonzero(of_year < max(years, default=0)))
    if not before:
        return {year: best_sleeves(np.empty((0, len(SLEEVES)))) for year in years}
    panel = replace(targets.panel, sessions=targets.panel.sessions[:before])
    returns = np.column_stack([net_returns(panel, sleeved(targets.own[:before], number), book) for number in SLEEVES])
    return {year: best_sleeves(returns[of_year[:before] < year]) for year in years}


def target_rows(
    targets: OwnTargets,
    predictions: pl.DataFrame,
    sessions: Sequence[date],
    *,
    book: Book,
    sleeves: Mapping[int, int],
) -> pl.DataFrame:
    """The rows of `target_weights` of `sessions`, which the panel has with `lookback_of(book)` sessions before them.

    A row is there for every ticker with a prediction, every member with a bar, and every ticker that was predicted
    within the look-back. `predictions` are of the book's model.
    """
    panel, weights = targets.panel, weights_of(targets, sleeves)
    is_scored = ~np.isnan(targets.scores)
    scored_counts = np.cumsum(np.vstack([np.zeros((1, is_scored.shape[1]), np.int64), is_scored]), axis=0)
    since = np.maximum(np.arange(len(is_scored)) - lookback_of(book), 0)
    is_written = (scored_counts[1:] - scored_counts[since] > 0) | panel.member
    is_written &= np.isin(np.array(panel.sessions, dtype="datetime64[D]"), np.array(sessions, dtype="datetime64[D]"))[
        :, None
    ]
    t, n = np.nonzero(is_written)
    days = pl.Series("session", panel.sessions, dtype=pl.Date)
    rows = pl.DataFrame(
        {
            "session": days.gather(t),
            "ticker": pl.Series(panel.tickers, dtype=pl.String).gather(n),
            "score": targets.scores[t, n],
            "own": targets.own[t, n],
            "weight": weights[t, n],
            "reason": pl.Series(HOLDS, dtype=pl.String).gather(targets.reason[t, n].astype(np.int64)),
        }
    ).with_columns(pl.col("score", "own", "weight").fill_nan(None), pl.col("reason").replace("", None))
    versions = predictions.select("session", "ticker", "model_version")
    rows = rows.join(versions, on=["session", "ticker"], how="left", maintain_order="left")
    years = rows["session"].dt.year().cast(pl.Int64)
    return rows.with_columns(
        book=pl.lit(book.name),
        model=pl.lit(model_of(book)),
        sleeves=years.replace_strict(dict(sleeves), return_dtype=pl.Int64, default=None),
        settings=pl.lit(digest_of(book)),
    ).select(TARGET_WEIGHTS.names)
