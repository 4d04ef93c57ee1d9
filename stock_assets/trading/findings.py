"""What the tear sheet of a book is computed from, and what is computed of it once."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl

from stock_assets.trading import attribution, signals
from stock_assets.trading.books import Book
from stock_assets.trading.ledger import DAYS_OF_A_YEAR
from stock_assets.trading.measures import ADV_SESSIONS
from stock_assets.trading.statistics import Moments, moments
from stock_assets.trading.trials import BASE, Trials


class Replayed(Protocol):
    """What the page shows of a replay."""

    @property
    def rows(self) -> pl.DataFrame:
        """session, as_said, todays_bars, today: net returns (fraction)."""
        ...

    @property
    def changed_bars(self) -> int:
        """Evenings whose bars have been revised since."""
        ...

    @property
    def changed_versions(self) -> int:
        """Predictions that another version makes today."""
        ...

    @property
    def by_bars(self) -> float:
        """Basis points a session that revised bars add."""
        ...

    @property
    def by_models(self) -> float:
        """Basis points a session that changed models add."""
        ...


@dataclass(frozen=True)
class TearSheetInputs:
    """Everything that the tear sheet of one book is made from: rows of the store, of this book alone."""

    book: Book
    model: str
    source: str
    """where the prices come from"""
    currency: str | None
    equity: pl.DataFrame
    positions: pl.DataFrame
    fills: pl.DataFrame
    targets: pl.DataFrame
    """session, ticker, score, reason of target_weights"""
    backtest: pl.DataFrame
    trials: Trials
    bars: pl.DataFrame
    """ticker, session, open, close, volume, dividend, split_ratio, suspect"""
    universe: pl.DataFrame
    """ticker, sector"""
    seed: int = 0
    replay: "Replayed | None" = None
    """the book on what was predicted each evening, and with the hindsight of today"""
    attainable: float | None = None
    """the best Sharpe ratio of a year that the market has, where it is known"""

    @property
    def simulated(self) -> bool:
        """Whether the prices were made up."""
        return self.source == "simulated"


@dataclass(frozen=True)
class Findings:
    """What the figures and the charts of a tear sheet share."""

    inputs: TearSheetInputs

    @cached_property
    def equity(self) -> pl.DataFrame:
        """The rows of the table, by session, but for the first of an account, which has no return."""
        return self.inputs.equity.sort("session").filter(pl.col("net_return").is_not_null())

    @cached_property
    def sessions(self) -> list[date]:
        """Those with a return."""
        return self.equity["session"].to_list()

    @property
    def last(self) -> date | None:
        """The newest session; None without one."""
        return self.inputs.equity["session"].max()  # pyright: ignore[reportReturnType]: it is a date

    def series(self, column: str) -> np.ndarray:
        """float64 [T]: a column of the table equity, NaN for null."""
        return self.equity[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    @cached_property
    def interest(self) -> np.ndarray:
        """float64 [T]: what cash earned of the nights before each session, by the book's rate."""
        nights = self.equity["session"].diff().dt.total_days().fill_null(1).to_numpy()
        return self.inputs.book.costs.credit * nights / DAYS_OF_A_YEAR

    @cached_property
    def net(self) -> np.ndarray:
        """float64 [T]: net return less that of cash."""
        return self.series("net_return") - self.interest

    @cached_property
    def gross(self) -> np.ndarray:
        """float64 [T]: the same before costs."""
        return self.series("gross_return") - self.interest

    @cached_property
    def moments(self) -> Moments | None:
        """Of the net returns."""
        return moments(self.net)

    @cached_property
    def sleeves(self) -> int:
        """K at most: the lag that standard errors allow for."""
        return self.inputs.book.sleeves or 14

    @cached_property
    def parts(self) -> dict[str, float]:
        """The mean of a session of every gain and cost over the equity before, by name."""
        means = attribution.parts_of_return(self.equity).drop("session").mean()
        return (
            {name: 0.0 if value is None else value for name, value in means.row(0, named=True).items()}
            if (self.equity.height)
            else {}
        )

    @cached_property
    def scores(self) -> pl.DataFrame:
        """session, ticker, score."""
        return self.inputs.targets.select("session", "ticker", "score")

    @cached_property
    def returns(self) -> pl.DataFrame:
        """Those between opens, by lag (`signals.opening_returns`)."""
        sessions = self.inputs.bars["session"].unique().sort()
        return signals.opening_returns(self.inputs.bars, sessions)

    @cached_property
    def correlations(self) -> pl.DataFrame:
        """session, lag, ic."""
        return signals.correlations_by_lag(self.scores, self.returns)

    @cached_property
    def by_lag(self) -> pl.DataFrame:
        """lag, ic and its interval."""
        return signals.summary(self.correlations, seed=self.inputs.seed)

    @cached_property
    def contributions(self) -> pl.DataFrame:
        """session, ticker, side, contribution."""
        return attribution.contributions(self.inputs.positions, self.inputs.fills, self.inputs.equity)

    @cached_property
    def adv(self) -> pl.DataFrame:
        """ticker, adv: mean value traded over the newest sessions."""
        newest = self.inputs.bars["session"].unique().sort().tail(ADV_SESSIONS)
        rows = self.inputs.bars.filter(pl.col("session").is_in(newest.implode()))
        return rows.group_by("ticker").agg(adv=(pl.col("close") * pl.col("volume")).sum() / max(len(newest), 1))

    @cached_property
    def base(self) -> pl.DataFrame:
        """The back-tests at the book's own costs and capital, of its own model."""
        own = pl.col("model") == self.inputs.model
        return self.inputs.backtest.filter((pl.col("variant") == BASE) & own).sort("sleeves")

    @property
    def own(self) -> dict | None:
        """The back-test of the book as it is configured; None where there is none."""
        rows = self.base.filter(pl.col("sleeves") == (self.inputs.book.sleeves or 0))
        return rows.row(0, named=True) if rows.height else None
