"""What a score foresees of prices that can still be had: from the open after the close that it was computed at.

A return of lag j runs from the open of session t + j to that of t + j + 1, dividends and splits between included; the
score is that of the close of t, so lag 1 is the first one that an order can earn. Correlations are Spearman's over the
tickers of a session, and their mean over sessions has an interval from blocks of sessions.
"""

import numpy as np
import polars as pl

from stock_assets.evaluation.bootstrap import block_bootstrap

LAGS = 10
DECILES = 10
#: A session with fewer tickers, or with scores that do not differ, has no correlation and no deciles.
FEWEST_TICKERS = DECILES


def opening_returns(bars: pl.DataFrame, sessions: pl.Series, *, lags: int = LAGS) -> pl.DataFrame:
    """ticker, session, lag_1 … lag_`lags`: (open + dividend) * split_ratio / open before - 1, of the opens named above.

    `bars` are rows of daily_bars, `sessions` those of the market, ascending. A return is null where an open is missing
    or a bar is suspect; null split ratios and dividends are none.
    """
    places = pl.DataFrame({"session": sessions}).with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    usable = pl.when(pl.col("suspect").is_null()).then(pl.col("open"))
    own = bars.join(places, on="session").select("ticker", "session", "place", "dividend", "split_ratio", open=usable)
    before = own.select("ticker", place=pl.col("place") + 1, before="open")
    worth = (pl.col("open") + pl.col("dividend").fill_null(0.0)) * pl.col("split_ratio").fill_null(1.0)
    returns = own.join(before, on=["ticker", "place"]).select(
        "ticker", ends=pl.col("place"), earned=worth / pl.col("before") - 1
    )
    wide = own.select("ticker", "session", "place")
    for lag in range(1, lags + 1):
        of_lag = returns.select("ticker", place=pl.col("ends") - lag - 1, **{f"lag_{lag}": pl.col("earned")})
        wide = wide.join(of_lag, on=["ticker", "place"], how="left")
    return wide.drop("place")


def correlations_by_lag(scores: pl.DataFrame, returns: pl.DataFrame) -> pl.DataFrame:
    """session, lag, ic: Spearman's correlation of the score of a session and its return of each lag.

    `scores` has session, ticker, score; `returns` is that of `opening_returns`.
    """
    scores_and_returns = scores.filter(pl.col("score").is_not_null()).join(returns, on=["session", "ticker"])
    lags = [name for name in returns.columns if name.startswith("lag_")]
    parts = [
        _rank_correlation(scores_and_returns.select("session", "score", other=lag)).with_columns(
            lag=pl.lit(int(lag[4:]))
        )
        for lag in lags
    ]
    none = pl.DataFrame(schema={"session": pl.Date, "lag": pl.Int32, "ic": pl.Float64})
    return pl.concat([none, *(part.select("session", pl.col("lag").cast(pl.Int32), "ic") for part in parts)])


def score_autocorrelation(scores: pl.DataFrame) -> pl.DataFrame:
    """session, ic: Spearman's correlation of the scores of a session and those of the session before."""
    present = scores.filter(pl.col("score").is_not_null())
    order = present.select("session").unique().sort("session").with_row_index("day")
    numbered_scores = present.join(order, on="session")
    before = numbered_scores.select("ticker", pl.col("day") + 1, other="score")
    return _rank_correlation(numbered_scores.join(before, on=["ticker", "day"]).select("session", "score", "other"))


def summary(correlations: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """lag, ic, ic_low, ic_high, sessions: the mean of `correlations_by_lag` with its 95 % interval."""
    rows = []
    for lag, of_lag in correlations.sort("lag", "session").group_by("lag", maintain_order=True):
        values = of_lag["ic"].to_numpy()
        low, high = block_bootstrap(values, seed=seed) or (None, None)
        rows.append(
            {"lag": lag[0], "ic": float(values.mean()), "ic_low": low, "ic_high": high, "sessions": len(values)}
        )
    schema = {"lag": pl.Int32, "ic": pl.Float64, "ic_low": pl.Float64, "ic_high": pl.Float64, "sessions": pl.Int64}
    return pl.DataFrame(rows, schema)


def deciles(scores: pl.DataFrame, returns: pl.DataFrame) -> pl.DataFrame:
    """decile (1 has the lowest scores), mean, rows: the mean return of lag 1 less that of the session's tickers."""
    scores_and_returns = scores.filter(pl.col("score").is_not_null()).join(
        returns.select("session", "ticker", earned="lag_1").drop_nulls(), on=["session", "ticker"]
    )
    place = (pl.col("score").rank("average").over("session") - 0.5) / pl.len().over("session")
    return (
        scores_and_returns.filter(_is_ranked("score"))
        .with_columns(
            decile=(place * DECILES).floor().cast(pl.Int64).clip(0, DECILES - 1) + 1,
            excess=pl.col("earned") - pl.col("earned").mean().over("session"),
        )
        .group_by("decile")
        .agg(mean=pl.col("excess").mean(), rows=pl.len().cast(pl.Int64))
        .sort("decile")
    )


def _rank_correlation(pairs: pl.DataFrame) -> pl.DataFrame:
    """session, ic of `pairs` with session, score, other."""
    pairs_with_ranks = pairs.drop_nulls().filter(_is_ranked("score") & _is_ranked("other"))
    ranks = pairs_with_ranks.with_columns(pl.col("score", "other").rank("average").over("session"))
    return ranks.group_by("session").agg(ic=pl.corr("score", "other")).filter(pl.col("ic").is_finite()).sort("session")


def _is_ranked(column: str) -> pl.Expr:
    differ = pl.col(column).min().over("session") < pl.col(column).max().over("session")
    return (pl.len().over("session") >= FEWEST_TICKERS) & differ


def half_life(summary: pl.DataFrame) -> float | None:
    """The lag by which half of the sum of the positive mean correlations is earned, counted linearly; None without."""
    gains = np.maximum(summary.sort("lag")["ic"].to_numpy(), 0.0)
    if not gains.sum():
        return None
    share = np.concatenate([[0.0], np.cumsum(gains) / gains.sum()])
    return float(np.interp(0.5, share, np.arange(len(share))))
