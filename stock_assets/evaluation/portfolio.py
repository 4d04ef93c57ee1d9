"""What a model's ranking would have earned, compared with the market that anybody can buy."""

import numpy as np
import polars as pl

from stock_assets.evaluation.bootstrap import BLOCK, block_bootstrap
from stock_assets.evaluation.breakdowns import COST, DECILES
from stock_assets.market.context import FUND, INDEX

#: The mean length of a year of the Gregorian calendar, leap years included.
DAYS_OF_A_YEAR = 365.25
TOP, AFTER_COSTS, ALL = "top tenth", "top tenth after costs", "all tickers"
#: The columns of `daily_returns` that say from which close to which a return runs.
INTERVAL = ("session", "until")


def market_returns(context: pl.DataFrame) -> tuple[str, pl.DataFrame]:
    """(series, rows): the series that stands for the market, and its return from each close to the next.

    `context` has series, session and total_return. The series is SPY, which pays its dividends, or, without it, ^GSPC,
    which has none. The rows are session, until (the next session) and market (fraction), ascending.
    """
    series = FUND if context["series"].is_in([FUND]).any() else INDEX
    rows = context.filter(pl.col("series") == series).sort("session")
    after = rows.select("session", until=pl.col("session").shift(-1), market=pl.col("total_return").shift(-1))
    return series, after.drop_nulls()


def daily_returns(
    scored_predictions: pl.DataFrame, model: str, market: pl.DataFrame, *, cost: float = COST
) -> pl.DataFrame:
    """session, until, TOP, AFTER_COSTS, ALL, market: returns from a session's close to the next, `until` (fractions).

    TOP holds, in equal parts, the tenth of the session's tickers with the highest score of `model`; each session what
    leaves and what enters it costs `cost` (buying it first included). Of fewer than ten tickers it is the best one. ALL
    holds every ticker that the model scored. `scored_predictions` is that of `metrics.scored_rows`, `market` that of
    `market_returns`; sessions that only one of them has do not count. Sorted by session.
    """
    of_model = scored_predictions.filter(pl.col("model") == model, pl.col("forward_return_1").is_finite())
    rows = of_model.sort("session", "score", "ticker")
    size = (pl.len() // DECILES).clip(lower_bound=1).over("session")
    top = rows.with_columns(weight=1 / size).filter(
        pl.int_range(pl.len()).over("session") >= pl.len().over("session") - size
    )
    day = rows.select("session").unique().sort("session").with_row_index("day")
    holdings = top.join(day, on="session").select("day", "ticker", "weight")
    before = holdings.select(pl.col("day") + 1, "ticker", before="weight")
    trades = (
        holdings.join(before, on=["day", "ticker"], how="full", coalesce=True)
        .group_by("day")
        .agg(traded=(pl.col("weight").fill_null(0.0) - pl.col("before").fill_null(0.0)).abs().sum())
    )
    top_returns = top.group_by("session").agg(pl.col("forward_return_1").mean().alias(TOP))
    return (
        day.join(top_returns, on="session")
        .join(trades, on="day")
        .join(rows.group_by("session").agg(pl.col("forward_return_1").mean().alias(ALL)), on="session")
        .join(market, on="session")
        .sort("session")
        .select(*INTERVAL, TOP, (pl.col(TOP) - cost * pl.col("traded")).alias(AFTER_COSTS), ALL, "market")
    )


def growth(returns: pl.DataFrame) -> pl.DataFrame:
    """session and, per portfolio of `returns` (`daily_returns`), what 1 has grown to by the next session's close."""
    return returns.select("session", (pl.exclude(INTERVAL) + 1).cum_prod())


def comparison(returns: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """portfolio, sessions, growth, yearly, volatility, sharpe, drawdown, excess, excess_low, excess_high.

    `returns` are those of `daily_returns`; n of them span the time from the close of the first session to the close
    after the last one. growth is what 1 became; yearly its return a year and volatility the standard deviation of a
    year (fractions); sharpe the mean over the standard deviation, a year, without a riskless rate (Sharpe 1994);
    drawdown the deepest fall from a peak, the start included; excess the mean daily return less the market's
    (fraction), with its 95 % interval from blocks of days, null for the market itself. Empty for fewer than two
    sessions.
    """
    if returns.height < 2:
        return pl.DataFrame(schema=_SCHEMA)
    days = returns.select((pl.col("until").max() - pl.col("session").min()).dt.total_days()).item()
    years = days / DAYS_OF_A_YEAR
    a_year = np.sqrt(returns.height / years)
    rows = []
    for name in (column for column in returns.columns if column not in INTERVAL):
        daily, excess = returns[name].to_numpy(), (returns[name] - returns["market"]).to_numpy()
        path = np.cumprod(1 + daily)
        deviation = float(daily.std(ddof=1))
        low, high = block_bootstrap(excess, BLOCK, seed) or (None, None)
        lead = {"excess": float(excess.mean()), "excess_low": low, "excess_high": high}
        rows.append(
            {
                "portfolio": name,
                "sessions": len(daily),
                "growth": float(path[-1]),
                "yearly": float(path[-1] ** (1 / years) - 1),
                "volatility": deviation * a_year,
                "sharpe": float(daily.mean() / deviation * a_year) if deviation > 0 else None,
                "drawdown": float((path / np.maximum.accumulate(np.maximum(path, 1.0)) - 1).min()),
                **({} if name == "market" else lead),
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
