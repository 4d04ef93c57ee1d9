"""What a computed column is: its text, its bounds and its formula in one record, and how formulas are computed.

A formula is a polars expression. One of a ticker's own bars looks back `.over("history")`, the unbroken bars of one
ticker (see `lookback`); one of a session compares its tickers `.over("session")`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from math import isfinite
from typing import Literal

import polars as pl

#: Bars before a row that a formula of a ticker may look at, on the way through other formulas too: as many as
#: 500 days have, and as many as most need. An exponential mean looks further, with weights that fade.
FAR, NEAR = 350, 100


@dataclass(frozen=True, eq=False)
class Feature:
    """One input of the models. Raises ValueError for bounds that are not finite or in the wrong order.

    `text` describes it, with the source of its formula. Values are cut at `low` and `high`. A formula `of` a ticker
    is computed before one of a session, which reads the columns as cut. With `in_pca`, the next fit of
    `pca_model` takes it. A formula of a ticker looks at no more than the `bars` bars before its row, at most FAR.
    """

    text: str
    low: float
    high: float
    formula: pl.Expr
    of: Literal["ticker", "session"] = "ticker"
    in_pca: bool = False
    bars: int = FAR

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the bounds of a feature are {self.low} and {self.high}; expected finite ones, low first")

    @property
    def description(self) -> str:
        """The text with the bounds, as the UI shows it."""
        return f"{self.text}; cut at {self.low:g} and {self.high:g}"

    def cut(self, values: pl.Expr) -> pl.Expr:
        """`values` cut at the bounds; a null stays null."""
        return values.clip(self.low, self.high)


def in_stages(rows: pl.DataFrame, formulas: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """`rows` with a column for each of `formulas`, which may read each other's columns; the order does not matter.

    A formula that reads its own name leaves or changes a column of `rows`. Raises graphlib.CycleError (a ValueError)
    where formulas read each other in a circle.

    >>> rows = pl.DataFrame({"close": [1.0, 4.0]})
    >>> in_stages(rows, {"double_gap": 2 * pl.col("gap"), "gap": pl.col("close").diff()})["double_gap"].to_list()
    [None, 6.0]
    """
    reads = {name: set(formula.meta.root_names()) & formulas.keys() - {name} for name, formula in formulas.items()}
    sorter = TopologicalSorter(reads)
    sorter.prepare()
    while sorter.is_active():
        stage = sorter.get_ready()
        rows = rows.with_columns(**{name: formulas[name] for name in stage})
        sorter.done(*stage)
    return rows


def needed_for(names: Iterable[str], formulas: Mapping[str, pl.Expr]) -> dict[str, pl.Expr]:
    """Those of `formulas` that `names` are, and that these read, directly or through others.

    >>> formulas = {"a": pl.col("close"), "b": pl.col("a").diff(), "c": pl.col("close").diff()}
    >>> sorted(needed_for(["b"], formulas))
    ['a', 'b']
    """
    formulas_by_name, remaining_names = {}, [*names]
    while remaining_names:
        if (name := remaining_names.pop()) not in formulas_by_name:
            formulas_by_name[name] = formulas[name]
            remaining_names += [other_name for other_name in formulas[name].meta.root_names() if other_name in formulas]
    return formulas_by_name


def mean_of(column: str, bars: int, min_bars: int | None = None) -> pl.Expr:
    """The mean of `column` over the last `bars` bars of its history, null where there are fewer than `min_bars`."""
    return pl.col(column).rolling_mean(bars, min_samples=min_bars).over("history")


def volatility(variance: pl.Expr) -> pl.Expr:
    """½ ln(variance + 1e-5) of a daily variance, not annualised: a frozen quote has about 0.3 % a day."""
    return 0.5 * (variance.clip(lower_bound=0.0) + 1e-5).log()


def of_session(column: pl.Expr, statistic: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """The statistic over the session's rows that are not suspect, over all of them where none is left."""
    unsuspected = pl.when(pl.col("suspect").is_null()).then(column)
    return pl.coalesce(statistic(unsuspected), statistic(column)).over("session")


def rank_of(column: str) -> pl.Expr:
    """(rank - ½) / count - ½ among the session's rows that are not suspect; 0, the middle, for suspect ones."""
    # rounded, so that equal values stay equal whatever the last bit of their sums
    unsuspected = pl.when(pl.col("suspect").is_null()).then(pl.col(column).round(9))
    rank = (unsuspected.rank("average") - 0.5) / unsuspected.count() - 0.5
    return rank.over("session").fill_null(0.0)
