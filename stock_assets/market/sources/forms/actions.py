"""Dividends and splits as files state them, and the adjusted close that belongs to them."""

import polars as pl

from stock_assets.errors import SourceError
from stock_assets.market.sources.forms.reading import Reading

_NAMES = ("dividend", "split_ratio")


def with_actions(table: pl.DataFrame, place: str, reading: Reading) -> pl.DataFrame:
    """`table` with dividend, split_ratio and adj_close as Float64, of a file that may state none of them.

    An empty cell is no action, and a split of 0 is none; text becomes NaN, which the check of values refuses. Without
    dividends and splits a close without an adjusted one is one. With them STOCK_ASSETS_PRICES says what it is.

    Raises SourceError, which names the setting, where an action is stated and nothing says what the close is.
    """
    if not {*_NAMES} <= {*table.columns}:
        null = pl.lit(None, pl.Float64)
        table = table.with_columns(dividend=null, split_ratio=null)
        return table if "adj_close" in table.columns else table.with_columns(adj_close="close")
    table = table.with_columns(_action("dividend"), _action("split_ratio").replace(0.0, 1.0))
    if "adj_close" in table.columns:
        return table
    acts = table.filter((pl.col("dividend") != 0) | (pl.col("split_ratio") != 1))
    if acts.is_empty():
        return table.with_columns(adj_close="close")
    if reading.prices is None:
        row = acts.row(0, named=True)
        raise SourceError(
            f"{place} has dividends and splits but no column adj_close, so its close may be adjusted (ticker "
            f"{row['ticker']}, session {row['session']}: dividend {row['dividend']:g}, split {row['split_ratio']:g}); "
            "STOCK_ASSETS_PRICES says what the close is: as_traded (zipline), split_adjusted (yfinance with "
            "auto_adjust=False) or adjusted (yfinance without it)"
        )
    if reading.prices == "adjusted":
        null = pl.lit(None, pl.Float64)
        return table.with_columns(dividend=null, split_ratio=null, adj_close="close")
    return table.with_columns(adj_close="close")  # until `with_adjusted_closes`


def with_adjusted_closes(bars: pl.DataFrame, *, splits_applied: bool) -> pl.DataFrame:
    """`bars`, sorted by ticker and session, with the adjusted closes that closes, dividends and splits make.

    Before an ex-date it is smaller by the dividend's share of the close before and, with `splits_applied` False, by
    the split: ((c / s) - d) / c, where d is paid for a share after the split.
    """
    split = pl.lit(1.0) if splits_applied else pl.col("split_ratio")
    previous = pl.col("close").shift().over("ticker")
    steps = bars.with_columns(step=((previous / split - pl.col("dividend")) / previous).fill_null(1.0))
    later = pl.col("step").shift(-1, fill_value=1.0).cum_prod(reverse=True).over("ticker")
    return steps.with_columns(adj_close=pl.col("close") * later).drop("step")


def _action(column: str) -> pl.Expr:
    """0 where the cell is empty; text becomes NaN."""
    number = pl.col(column).cast(pl.Float64, strict=False).fill_null(float("nan"))
    return pl.when(pl.col(column).is_null()).then(0.0).otherwise(number).alias(column)
