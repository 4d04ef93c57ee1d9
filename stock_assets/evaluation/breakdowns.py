"""Scores in parts: what a ranking would have earned, and in which markets, tickers and sectors a model is good.

All functions take rows of `metrics.scored_rows`: one per model, session and ticker, with its label and next day's
return.
"""

import polars as pl

from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap, t_statistic

DECILES = 10
#: What a trade costs, as a fraction of what is bought or sold: 10 basis points.
COST = 0.001
REGIMES = ("calm", "normal", "stormy")


def decile_spread(scored_predictions: pl.DataFrame, *, cost: float = COST, seed: int = 0) -> pl.DataFrame:
    """model, sessions, spread, spread_low, spread_high, t, turnover, after_costs, after_low, after_high.

    Each session the tenth of the tickers with the highest score is bought and the tenth with the lowest sold short,
    in equal parts, and held until the next close. `spread` is the mean daily return of the one side less that of the
    other (fraction), with its 95 % interval from blocks of days and its t-statistic; `turnover` the mean share of the
    two sides together that is traded a session, 0 to 4 (all of both sides out and in); `after_costs` the spread less
    `cost` x turnover. A session with fewer than DECILES tickers, or without two different scores, does not count.

    Trading at the very close that the score is computed from is not possible: this is a measure of ranking.
    """
    table = []
    for (model,), rows in (
        _holdings_and_trades(scored_predictions, cost).partition_by("model", as_dict=True, maintain_order=True).items()
    ):
        row: dict[str, object] = {"model": model, "sessions": rows.height, "turnover": rows["turnover"].mean()}
        for name, short in (("spread", "spread"), ("after_costs", "after")):
            values = rows[name].to_numpy()
            low, high = block_bootstrap(values, BLOCK, seed) or (None, None)
            row |= {name: float(values.mean()), f"{short}_low": low, f"{short}_high": high}
        table.append(row | {"t": t_statistic(rows["spread"].to_numpy())})
    return pl.DataFrame(table, schema=_SPREAD).sort("spread", descending=True)


def _holdings_and_trades(scored_predictions: pl.DataFrame, cost: float) -> pl.DataFrame:
    """model, day, turnover, spread, after_costs of every session that counts, sorted by model and day."""
    holdings = _weights(scored_predictions)
    sessions = holdings.select("session").unique().sort("session").with_row_index("day")
    holdings = holdings.join(sessions, on="session").select(
        "model", "day", "ticker", "weight", paid=pl.col("weight") * pl.col("forward_return_1")
    )
    before = holdings.select("model", pl.col("day") + 1, "ticker", before="weight")
    return (
        holdings.join(before, on=["model", "day", "ticker"], how="full", coalesce=True)
        .filter(pl.col("day") < sessions.height)
        .group_by("model", "day")
        .agg(
            turnover=(pl.col("weight").fill_null(0.0) - pl.col("before").fill_null(0.0)).abs().sum(),
            spread=pl.col("paid").sum(),
        )
        .sort("model", "day")
        .with_columns(after_costs=pl.col("spread") - cost * pl.col("turnover"))
    )


def _weights(scored_predictions: pl.DataFrame) -> pl.DataFrame:
    """The rows of `scored_predictions` that are bought or sold short, with `weight`: those of one side sum to 1, or to
    -1."""
    of_session = ["model", "session"]
    return (
        scored_predictions.filter(pl.col("forward_return_1").is_finite())
        .filter((pl.len() >= DECILES).over(of_session) & (pl.col("score").n_unique() > 1).over(of_session))
        # equal scores in the order of tickers, so that the same rows give the same portfolio
        .sort("model", "session", "score", "ticker")
        .with_columns(
            place=pl.int_range(pl.len()).over(of_session),
            size=(pl.len() // DECILES).over(of_session),
            n=pl.len().over(of_session),
        )
        .with_columns(
            weight=pl.when(pl.col("place") < pl.col("size"))
            .then(-1 / pl.col("size"))
            .when(pl.col("place") >= pl.col("n") - pl.col("size"))
            .then(1 / pl.col("size"))
            .otherwise(0.0)
        )
        .filter(pl.col("weight") != 0)
    )


_SPREAD = {
    "model": pl.String,
    "sessions": pl.Int64,
    **dict.fromkeys(
        ("spread", "spread_low", "spread_high", "t", "turnover", "after_costs", "after_low", "after_high"), pl.Float64
    ),
}


def by_regime(scored_predictions: pl.DataFrame, market_volatility: pl.DataFrame) -> pl.DataFrame:
    """regime, model, sessions, accuracy, log_loss: a third of the scored sessions each, by `market_volatility`.

    `market_volatility` has session and volatility, any number that is known at the session's close; sessions without
    one do not count. Sorted from calm to stormy, then by log-loss.
    """
    days = (
        scored_predictions.select("session")
        .unique()
        .join(market_volatility, on="session")
        .sort("volatility", "session")
    )
    third = pl.int_range(pl.len()) * len(REGIMES) // pl.len()
    regimes = days.select("session", _regime=third)
    return (
        scored_predictions.join(regimes, on="session")
        .group_by("_regime", "model")
        .agg(
            sessions=pl.col("session").n_unique().cast(pl.Int64),
            accuracy=_HIT.mean(),
            log_loss=pl.col("surprise").mean(),
        )
        .sort("_regime", "log_loss", "model")
        .select(
            pl.col("_regime").replace_strict(dict(enumerate(REGIMES)), return_dtype=pl.String).alias("regime"),
            "model",
            "sessions",
            "accuracy",
            "log_loss",
        )
    )


def by_ticker(scored_predictions: pl.DataFrame, model: str) -> pl.DataFrame:
    """ticker, rows, accuracy, log_loss of one model, the most accurate first."""
    return (
        scored_predictions.filter(pl.col("model") == model)
        .group_by("ticker")
        .agg(rows=pl.len().cast(pl.Int64), accuracy=_HIT.mean(), log_loss=pl.col("surprise").mean())
        .sort(["accuracy", "ticker"], descending=[True, False])
    )


def by_sector(scored_predictions: pl.DataFrame, model: str, sectors: pl.DataFrame) -> pl.DataFrame:
    """sector, tickers, rows, accuracy, log_loss of one model, the most accurate sector first.

    `sectors` has ticker and sector, one row per ticker; tickers without a sector do not count. Empty where no ticker
    has a sector.
    """
    sector_of = sectors.select("ticker", "sector").drop_nulls("sector")
    return (
        scored_predictions.filter(pl.col("model") == model)
        .join(sector_of, on="ticker")
        .group_by("sector")
        .agg(
            tickers=pl.col("ticker").n_unique().cast(pl.Int64),
            rows=pl.len().cast(pl.Int64),
            accuracy=_HIT.mean(),
            log_loss=pl.col("surprise").mean(),
        )
        .sort(["accuracy", "sector"], descending=[True, False])
    )


_HIT = pl.col("predicted") == pl.col("label")
