"""Where the result of a book came from: its costs, its sectors, names and sides, and the markets it met.

All frames are those of the store, of one book: `equity`, `positions`, `fills`. Contributions are money over the equity
of the close before, so that those of a session sum to its return.
"""

from datetime import date

import numpy as np
import polars as pl

from stock_assets.trading import statistics
from stock_assets.trading.statistics import ANNUAL

COSTS = ("spread", "impact", "commission", "borrow")
GAINS = ("price_gain", "dividend", "ending", "interest")
REGIMES = ("calm", "normal", "stormy")
#: Sessions whose market returns make the volatility of a regime, all of them before the session.
REGIME_SESSIONS = 22
UNKNOWN_SECTOR = "unknown"


def with_equity_before(equity: pl.DataFrame) -> pl.DataFrame:
    """`equity` by session with `before`: the equity of the close before, from the return where there is none."""
    implied_equity = pl.col("equity") / (1 + pl.col("net_return").fill_null(0.0))
    return equity.sort("session").with_columns(before=pl.col("equity").shift(1).fill_null(implied_equity))


def parts_of_return(equity: pl.DataFrame) -> pl.DataFrame:
    """session, gains and costs, net: each over the equity before; costs are negative, and all sum to net."""
    rows = with_equity_before(equity)
    gains = [pl.col(name) / pl.col("before") for name in GAINS]
    costs = [-pl.col(name) / pl.col("before") for name in COSTS]
    return rows.select("session", *gains, *costs, net="net_return")


def contributions(positions: pl.DataFrame, fills: pl.DataFrame, equity: pl.DataFrame) -> pl.DataFrame:
    """session, ticker, side, contribution: what each ticker earned in each session after its own costs.

    side is long or short: that of the close before, or, where nothing was held, of the session's own close.
    """
    keys = ["session", "ticker"]
    costs = fills.select(*keys, cost=pl.sum_horizontal("spread", "impact", "commission"))
    gains = positions.select(
        *keys, "shares", earned=pl.sum_horizontal("price_gain", "dividend", "ending") - pl.col("borrow")
    )
    days = with_equity_before(equity).select("session", "before").with_row_index("day")
    rows = gains.join(costs, on=keys, how="full", coalesce=True).join(days, on="session")
    shares_of_day_before = rows.select("ticker", pl.col("day") + 1, shares_before="shares")
    side = pl.coalesce(pl.col("shares_before").replace(0.0, None), pl.col("shares").replace(0.0, None)).fill_null(0.0)
    return (
        rows.join(shares_of_day_before, on=["ticker", "day"], how="left")
        .with_columns(
            side=pl.when(side < 0).then(pl.lit("short")).otherwise(pl.lit("long")),
            contribution=(pl.col("earned").fill_null(0.0) - pl.col("cost").fill_null(0.0)) / pl.col("before"),
        )
        .select(*keys, "side", "contribution")
    )


def by_sector(contributions: pl.DataFrame, universe: pl.DataFrame) -> pl.DataFrame:
    """sector, contribution, names: the sum over all sessions, largest first."""
    sectors = universe.select("ticker", "sector").unique("ticker", keep="last", maintain_order=True)
    rows = contributions.join(sectors, on="ticker", how="left").with_columns(
        pl.col("sector").cast(pl.String).fill_null(UNKNOWN_SECTOR)
    )
    return _summed(rows, "sector")


def by_name(contributions: pl.DataFrame) -> pl.DataFrame:
    """ticker, contribution, names: the sum over all sessions, largest first."""
    return _summed(contributions, "ticker")


def by_side(contributions: pl.DataFrame) -> pl.DataFrame:
    """side, contribution, names: the sum over all sessions, largest first."""
    return _summed(contributions, "side")


def _summed(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    sums = rows.group_by(key).agg(pl.col("contribution").sum(), names=pl.col("ticker").n_unique().cast(pl.Int64))
    return sums.sort("contribution", key, descending=[True, False])


def sector_exposures(positions: pl.DataFrame, universe: pl.DataFrame, last: date) -> pl.DataFrame:
    """sector, long, short, net: weights at the close of session `last`; short is not below zero."""
    sectors = universe.select("ticker", "sector").unique("ticker", keep="last", maintain_order=True)
    rows = positions.filter(pl.col("session") == last).join(sectors, on="ticker", how="left")
    return (
        rows.with_columns(pl.col("sector").cast(pl.String).fill_null(UNKNOWN_SECTOR))
        .group_by("sector")
        .agg(
            long=pl.col("weight").clip(lower_bound=0.0).sum(),
            short=(-pl.col("weight")).clip(lower_bound=0.0).sum(),
            net=pl.col("weight").sum(),
        )
        .sort(pl.col("net").abs(), "sector", descending=[True, False])
    )


def per_year(equity: pl.DataFrame, correlations: pl.DataFrame, fills: pl.DataFrame) -> pl.DataFrame:
    """year, sessions, return, volatility, sharpe, drawdown, market, turnover, costs, worst, worst_session, names, ic,
    suspect: a row a calendar year.

    return and market are compounded over the year; costs is the sum of a year over the equity of each session; ic the
    mean correlation of lag 1; suspect the orders that a suspect bar refused.
    """
    costs = parts_of_return(equity).select("session", costs=-pl.sum_horizontal(COSTS))
    first = correlations.filter(pl.col("lag") == 1).select("session", "ic")
    refused_orders = fills.group_by("session").agg(suspect=(pl.col("reason") == "suspect").sum().cast(pl.Int64))
    rows = equity.sort("session").join(costs, on="session").join(first, on="session", how="left")
    rows = rows.join(refused_orders, on="session", how="left", maintain_order="left")
    table = []
    for (year,), of_year in rows.group_by(pl.col("session").dt.year(), maintain_order=True):
        net = _array(of_year["net_return"])
        ratio = statistics.sharpe(net)
        worst = None if np.isnan(net).all() else int(np.nanargmin(net))
        table.append(
            {
                "year": year,
                "sessions": of_year.height,
                "return": statistics.total_return(net),
                "volatility": statistics.annual_volatility(net),
                "sharpe": None if ratio is None else ratio * ANNUAL,
                "drawdown": statistics.deepest_drawdown(net),
                "market": _compounded(of_year["market"]),
                "turnover": of_year["turnover"].mean(),
                "costs": of_year["costs"].sum(),
                "worst": None if worst is None else float(net[worst]),
                "worst_session": None if worst is None else of_year["session"][worst],
                "names": of_year["names"].mean(),
                "ic": of_year["ic"].mean(),
                "suspect": of_year["suspect"].sum(),
            }
        )
    return pl.DataFrame(table, infer_schema_length=None)


def months(equity: pl.DataFrame) -> dict[int, list[float | None]]:
    """year → the compounded net return of its twelve months; None where there was no session."""
    rows = equity.sort("session").group_by(
        year=pl.col("session").dt.year(), month=pl.col("session").dt.month(), maintain_order=True
    )
    table: dict[int, list[float | None]] = {}
    for (year, month), of_month in rows:
        table.setdefault(int(str(year)), [None] * 12)[int(str(month)) - 1] = _compounded(of_month["net_return"])
    return table


def regimes(equity: pl.DataFrame) -> pl.DataFrame:
    """regime, sessions, mean, sharpe: net returns of thirds of the sessions by what the market's volatility was before.

    The volatility is the standard deviation of the market's return (of the universe's without one) over REGIME_SESSIONS
    sessions, the last of which is the one before. Sessions without it are left out.
    """
    rows = equity.sort("session")
    market = pl.coalesce("market", "equal_weight")
    rows = rows.with_columns(before=market.rolling_std(REGIME_SESSIONS).shift(1)).drop_nulls("before")
    if rows.height < len(REGIMES):
        return pl.DataFrame(schema=_REGIMES)
    third = ((pl.col("before").rank("ordinal") - 1) * len(REGIMES) // pl.len()).cast(pl.Int64)
    table = []
    for number, name in enumerate(REGIMES):
        net = _array(rows.filter(third == number)["net_return"])
        ratio = statistics.sharpe(net)
        row = {"regime": name, "sessions": len(net), "mean": float(np.nanmean(net)) if len(net) else None}
        table.append(row | {"sharpe": None if ratio is None else ratio * ANNUAL})
    return pl.DataFrame(table, _REGIMES)


_REGIMES = {"regime": pl.String, "sessions": pl.Int64, "mean": pl.Float64, "sharpe": pl.Float64}


def unfilled(fills: pl.DataFrame, closes: pl.DataFrame) -> pl.DataFrame:
    """reason, orders, share, value: orders by what became of them, the most frequent first.

    share is that of all orders; value the money of the part that was not filled, at the close of the session (`closes`:
    ticker, session, close), without those that have none.
    """
    unfilled_shares = (pl.col("ordered") - pl.col("filled").fill_null(0.0)).abs()
    rows = fills.filter(pl.col("ordered") != 0).join(closes, on=["ticker", "session"], how="left")
    return (
        rows.with_columns(missing=unfilled_shares * pl.col("close"))
        .group_by("reason")
        .agg(orders=pl.len().cast(pl.Int64), value=pl.col("missing").sum())
        .with_columns(share=pl.col("orders") / pl.col("orders").sum())
        .sort("orders", "reason", descending=[True, False])
    )


def holding_period(equity: pl.DataFrame) -> float | None:
    """Sessions that a position is held on average: mean gross exposure over half of the mean turnover; None without."""
    gross = (equity["long"] + equity["short"]).mean()
    turnover = equity["turnover"].mean()
    if not isinstance(gross, float) or not isinstance(turnover, float) or not turnover:
        return None
    return gross / (turnover / 2)


def concentration(positions: pl.DataFrame, last: date, *, top: int = 10) -> tuple[float | None, float | None]:
    """(share, names): that of the `top` largest positions of session `last` in its gross exposure, and the inverse of
    the sum of squared shares: so many positions of equal size are as concentrated. (None, None) without a position."""
    weights = positions.filter(pl.col("session") == last)["weight"].abs()
    weights = weights.filter(weights > 0).sort(descending=True)
    gross = float(weights.sum())
    if not gross:
        return None, None
    return float(weights.head(top).sum()) / gross, gross**2 / float((weights**2).sum())


def days_to_liquidate(positions: pl.DataFrame, adv: pl.DataFrame, last: date, *, participation: float) -> pl.DataFrame:
    """ticker, days: how long `participation` of the mean value traded (`adv`: ticker, adv) takes to sell a position of
    session `last`, longest first; null where nothing is known to be traded."""
    last_positions = positions.filter((pl.col("session") == last) & (pl.col("shares") != 0)).join(
        adv, on="ticker", how="left"
    )
    pace = participation * pl.col("adv")
    days = pl.when(pace > 0).then(pl.col("value").abs() / pace)
    return last_positions.select("ticker", days=days).sort("days", "ticker", descending=[True, False], nulls_last=False)


def _compounded(returns: pl.Series) -> float | None:
    values = returns.drop_nulls().to_numpy()
    return float(np.prod(1 + values) - 1) if len(values) else None


def _array(column: pl.Series) -> np.ndarray:
    """float64 [T], NaN for null."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
