"""What the ranking of a model would have earned beside the market that anybody can buy."""

import numpy as np
import polars as pl

from stock_assets.evaluation.breakdowns import COST, DECILES
from stock_assets.evaluation.metrics import BLOCK, block_bootstrap
from stock_assets.market.context import FUND, INDEX

TOP, AFTER_COSTS, ALL = "top tenth", "top tenth after costs", "all tickers"


def market_returns(context: pl.DataFrame) -> tuple[str, pl.DataFrame]:
    """(series, session and market): the return from the close of each session to that of the next one in `context`.

    `context` has series, session and total_return. Of SPY, which pays its dividends, else of ^GSPC, which has none.
    """
    series = FUND if context["series"].is_in([FUND]).any() else INDEX
    rows = context.filter(pl.col("series") == series).sort("session")
    return series, rows.select("session", market=pl.col("total_return").shift(-1)).drop_nulls()


def daily_returns(scored: pl.DataFrame, model: str, market: pl.DataFrame, cost: float = COST) -> pl.DataFrame:
    """session, TOP, AFTER_COSTS, ALL, market: returns to the next close (fractions), sorted by session.

    TOP holds, in equal parts, the tenth of the session's tickers with the highest score of `model`; each session what
    leaves and what enters it costs `cost` (buying it first included). Of fewer than ten tickers it is the best one. ALL
    holds every ticker that the model scored. `scored` is that of `metrics.scored_rows`, `market` that of
    `market_returns`; sessions that only one of them has do not count.
    """
    known = scored.filter(pl.col("model") == model, pl.col("forward_return_1").is_finite())
    rows = known.sort("session", "score", "ticker")
    size = (pl.len() // DECILES).clip(lower_bound=1).over("session")
    top = rows.with_columns(weight=1 / size).filter(
        pl.int_range(pl.len()).over("session") >= pl.len().over("session") - size
    )
    day = rows.select("session").unique().sort("session").with_row_index("day")
    held = top.join(day, on="session").select("day", "ticker", "weight")
    before = held.select(pl.col("day") + 1, "ticker", before="weight")
    traded = (
        held.join(before, on=["day", "ticker"], how="full", coalesce=True)
        .group_by("day")
        .agg(traded=(pl.col("weight").fill_null(0.0) - pl.col("before").fill_null(0.0)).abs().sum())
    )
    earned = top.group_by("session").agg(pl.col("forward_return_1").mean().alias(TOP))
    return (
        day.join(earned, on="session")
        .join(traded, on="day")
        .join(rows.group_by("session").agg(pl.col("forward_return_1").mean().alias(ALL)), on="session")
        .join(market, on="session")
        .sort("session")
        .select("session", TOP, (pl.col(TOP) - cost * pl.col("traded")).alias(AFTER_COSTS), ALL, "market")
    )


def growth(returns: pl.DataFrame) -> pl.DataFrame:
    """session and what 1 has grown to by the next close, per column of `returns`."""
    return returns.select("session", (pl.exclude("session") + 1).cum_prod())


def comparison(returns: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """portfolio, sessions, growth, yearly, volatility, sharpe, drawdown, excess, excess_low, excess_high.

    growth is what 1 became; yearly its return a year and volatility the standard deviation of a year (fractions);
    sharpe the mean over the standard deviation, a year, without a riskless rate; drawdown the deepest fall from a
    peak; excess the mean daily return less the market's (fraction), with its 95 % interval from blocks of days.
    """
    days = returns["session"]
    years = max((days.max() - days.min()).days, 1) / 365.25 if len(days) else 0.0  # pyright: ignore
    rows = []
    for name in [column for column in returns.columns if column != "session"] if len(days) > 1 else []:
        daily, excess = returns[name].to_numpy(), (returns[name] - returns["market"]).to_numpy()
        path = np.cumprod(1 + daily)
        deviation = float(daily.std(ddof=1))
        low, high = block_bootstrap(excess, BLOCK, seed) or (None, None)
        rows.append(
            {
                "portfolio": name,
                "sessions": len(daily),
                "growth": float(path[-1]),
                "yearly": float(path[-1] ** (1 / years) - 1),
                "volatility": deviation * np.sqrt(len(daily) / years),
                "sharpe": float(daily.mean() / deviation * np.sqrt(len(daily) / years)) if deviation > 0 else None,
                "drawdown": float((path / np.maximum.accumulate(np.maximum(path, 1.0)) - 1).min()),
                **(
                    {} if name == "market" else {"excess": float(excess.mean()), "excess_low": low, "excess_high": high}
                ),
            }
        )
    return pl.DataFrame(rows, schema=_SCHEMA)


_SCHEMA = {
    "portfolio": pl.String,
    "sessions": pl.Int64,
    **dict.fromkeys(
        ("growth", "yearly", "volatility", "sharpe", "drawdown", "excess", "excess_low", "excess_high"), pl.Float64
    ),
}
