"""The page of the back-test of bars: what the books and the baselines earned, what it cost, and the way there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts.lines import Format, Line, LineChart
from stock_assets.pages.templates import page_template
from stock_assets.trading.bar_tables import COSTS
from stock_assets.trading.books import EQUAL_WEIGHT, HOLD
from stock_assets.trading.tear_sheet_charts import FALL
from stock_assets.trading.trials import BASE

#: The looks of the lines, in the order of the books.
LOOKS = ("service", "ensemble", "buy", "expected")
_BASELINE_LOOKS = {HOLD: "naive", EQUAL_WEIGHT: "other"}
_PATH = Format(lambda tick: f"{100 * (tick - 1):+g}\N{NO-BREAK SPACE}%".replace("-", numbers.MINUS), numbers.score)


@dataclass(frozen=True)
class BarBacktestFacts:
    """What the numbers are about."""

    source: str
    """where the bars come from; 'simulated' puts a banner on top"""
    interval: str
    """as the setting spells it, such as 1m"""
    currency: str | None
    overnight: bool
    """whether positions are held while the exchange is closed"""


def session_equity(equity: pl.DataFrame, capitals: Mapping[str, float]) -> pl.DataFrame:
    """Rows of `bar_equity` by book and session, sorted by them: equity and drawdown (a fraction of the highest bar so
    far) at the last bar, deepest (the lowest drawdown of a bar), traded and each of COSTS (sums)."""
    worth, start = pl.col("equity"), pl.col("book").replace_strict(capitals, return_dtype=pl.Float64)
    fall = worth / pl.max_horizontal(worth.cum_max().over("book"), start) - 1
    rows = equity.sort("book", "bar_end").with_columns(drawdown=fall)
    return rows.group_by("book", "session", maintain_order=True).agg(
        pl.col("equity", "drawdown").last(), pl.col("drawdown").min().alias("deepest"), pl.col("traded", *COSTS).sum()
    )


def as_configured(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of `backtest` of every book as it is configured, and of the baselines; that of a book's own model is the
    first of its rows."""
    return table.filter(pl.col("variant") == BASE).unique("book", keep="first", maintain_order=True)


def book_rows(table: pl.DataFrame, sessions: pl.DataFrame) -> list[dict[str, Any]]:
    """Every book as it is configured and every baseline, one row each: those of the table `backtest`, with total (what
    its capital has grown by), deepest (the deepest fall at the end of a bar) and each of COSTS over the capital.

    `sessions` is that of `session_equity`."""
    own = sessions.group_by("book", maintain_order=True).agg(
        pl.col("equity").last(), pl.col("deepest").min(), pl.col(*COSTS).sum()
    )
    rows = as_configured(table).join(own, on="book", how="left", maintain_order="left")
    return (
        rows.with_columns(pl.col("equity") / pl.col("capital") - 1, *(pl.col(*COSTS) / pl.col("capital"),))
        .rename({"equity": "total"})
        .to_dicts()
    )


def render_bar_backtest(table: pl.DataFrame, sessions: pl.DataFrame, facts: BarBacktestFacts) -> str:
    """One self-contained HTML page of the table `backtest` and of `session_equity`."""
    rows = book_rows(table, sessions)
    configured = as_configured(table)
    others = table.join(configured, on=["book", "model", "variant"], how="anti", maintain_order="left")
    differs = pl.when(pl.col("variant") == BASE).then(pl.format("the model {}", "model")).otherwise("variant")
    variants = others.with_columns(variant=differs).to_dicts()
    return page_template("bar_backtest.html.j2", "stock_assets.trading").render(
        title=f"stock_assets: back-test of {facts.source} bars of {facts.interval}",
        facts=facts,
        rows=rows,
        variants=variants,
        charts=_charts(rows, sessions),
        baselines=(HOLD, EQUAL_WEIGHT),
    )


def _charts(rows: Sequence[Mapping[str, Any]], sessions: pl.DataFrame) -> list[Markup]:
    """The paths of the equity and the falls from their peaks; none of a single session."""
    days: list[date] = sessions["session"].unique().sort().to_list()
    if len(days) < 2:
        return []
    books = [row["book"] for row in rows]
    looks = dict(zip([book for book in books if book not in _BASELINE_LOOKS], LOOKS, strict=False)) | _BASELINE_LOOKS
    capital = {row["book"]: row["capital"] for row in rows}

    def lines(column: str, over: Mapping[str, float]) -> list[Line]:
        parts = []
        for book in books:
            own = dict(sessions.filter(pl.col("book") == book).select("session", column).iter_rows())
            values = [None if own.get(day) is None else own[day] / over[book] for day in days]
            parts.append(Line(book, values, looks.get(book, "other")))
        return parts

    growth = LineChart("Equity over the capital", days, lines("equity", capital), form=_PATH, whole=True)
    falls = lines("drawdown", dict.fromkeys(books, 1.0))
    return [growth.figure(), LineChart("Fall from the peak", days, falls, form=FALL, whole=True, zero=True).figure()]
