"""The tear sheet of a book: one HTML file that needs nothing else, on a desk or on a phone, by day or by night."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from stock_assets.pages.templates import page_template
from stock_assets.trading import attribution, signals, tear_sheet_charts
from stock_assets.trading.figures import FORMS, SECTIONS, Figure, basis_points, money, table_of
from stock_assets.trading.findings import Findings, TearSheetInputs
from stock_assets.trading.page_figures import figures_of
from stock_assets.trading.sensitivities import CHOSEN
from stock_assets.trading.statistics import worst_falls
from stock_assets.trading.trials import BASE

#: The figures that open the page, and so many of the best and of the worst names.
HEAD, LISTED = 5, 8
#: The titles of the sections as the table of contents has them.
SHORT = dict(
    zip(
        SECTIONS,
        ("Result", "Costs", "Equity", "Years", "Signal", "Holdings", "Not filled", "Assumptions", "Replay"),
        strict=True,
    )
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class TearSheet:
    """The tear sheet of one book."""

    findings: Findings

    @cached_property
    def figures(self) -> list[Figure]:
        """All figures, in the order of the page."""
        return figures_of(self.findings)

    @property
    def table(self) -> pl.DataFrame:
        """Its rows of the table `tear_sheet`."""
        return table_of(self.figures, self.findings.inputs.book.name)

    @property
    def verdict(self) -> tuple[str, str]:
        """(state of the style, sentence): what the first two figures say."""
        net, deflated = self.figures[0], self.figures[1]
        if net.value is None:
            return "late", "There is no net Sharpe ratio yet: the book has no two sessions with different returns."
        if net.low is None or net.low <= 0:
            below = "below 0" if net.high is not None and net.high < 0 else "on both sides of 0"
            return (
                "unusable",
                f"Nothing is shown to be left after costs: the interval of the Sharpe ratio lies {below}.",
            )
        if deflated.value is None or deflated.value < 0.95:
            return "late", "The Sharpe ratio is above 0 after costs, and luck among so many trials explains it as well."
        return "usable", "The Sharpe ratio is above 0 after costs, and above what luck among so many trials shows."


def make_tear_sheet(inputs: TearSheetInputs) -> TearSheet:
    """The tear sheet that `inputs` make; a book without a trade or a session has one as well."""
    return TearSheet(Findings(inputs))


def render_tear_sheet(sheet: TearSheet, *, others: Sequence[str] = ()) -> str:
    """One self-contained HTML page; `others` are the names of the books whose pages stand in the same folder."""
    findings, inputs = sheet.findings, sheet.findings.inputs
    head = sheet.figures[:HEAD]
    return page_template("tear_sheet.html.j2", "stock_assets.trading").render(
        title=f"Tear sheet of {inputs.book.name}",
        inputs=inputs,
        book=inputs.book,
        others=[name for name in others if name != inputs.book.name],
        page_of=page_of,
        first=findings.sessions[0] if findings.sessions else None,
        last=findings.last,
        verdict=sheet.verdict,
        head=head,
        sections=SECTIONS,
        short=SHORT,
        figures={id: [f for f in sheet.figures if f.section == id and _is_card(f, head)] for id in SECTIONS},
        charts=tear_sheet_charts.charts_of(findings),
        tables=_tables(findings),
        months=MONTHS,
        bp=basis_points,
        money=money,
        form=FORMS,
        sleeves=_sleeves,
    )


def _is_card(figure: Figure, head: Sequence[Figure]) -> bool:
    """Whether it has a card of its own: not at the head, nor as a bar of a chart that states what it is."""
    return figure not in head and not figure.name.startswith("rank correlation")


def render_index(sheets: Sequence[TearSheet], *, source: str) -> str:
    """The page that lists the tear sheets of all books with the figures that open them."""
    return page_template("tear_sheets.html.j2", "stock_assets.trading").render(
        title="Tear sheets",
        simulated=source == "simulated",
        sheets=[(sheet.findings.inputs, sheet.figures[:HEAD], sheet.verdict) for sheet in sheets],
        page_of=page_of,
    )


def page_of(book: str) -> str:
    """The name of the file that holds the tear sheet of `book`."""
    return f"book_{book}.html"


def _sleeves(number: int) -> str:
    return "by year" if number == CHOSEN else str(number)


def _tables(findings: Findings) -> Mapping[str, Any]:
    """The rows of the page's tables, by name."""
    inputs, last = findings.inputs, findings.last
    names = attribution.by_name(findings.contributions)
    closes = inputs.bars.select("ticker", "session", "close")
    none = pl.DataFrame()
    tables = {
        "years": attribution.per_year(findings.equity, findings.correlations, inputs.fills)
        if findings.sessions
        else none,
        "best_names": names.head(LISTED).filter(pl.col("contribution") > 0),
        "worst_names": names.tail(LISTED).reverse().filter(pl.col("contribution") < 0),
        "sides": attribution.by_side(findings.contributions),
        "regimes": attribution.regimes(findings.equity),
        "sectors": attribution.sector_exposures(inputs.positions, inputs.universe, last) if last else none,
        "slowest": none,
        "unfilled": attribution.unfilled(inputs.fills, closes),
        "held": held(inputs.targets),
        "sleeves": findings.base,
        "models": models(inputs.backtest, inputs.book.sleeves or CHOSEN),
        "variants": variants(findings),
        "deciles": signals.deciles(findings.scores, findings.returns),
    }
    if last:
        part = inputs.book.costs.participation
        days = attribution.days_to_liquidate(inputs.positions, findings.adv, last, participation=part)
        tables["slowest"] = days.head(LISTED)
    return {name: table.to_dicts() for name, table in tables.items()} | {
        "months": (months := attribution.months(findings.equity)),
        "largest_month": max((abs(value) for year in months.values() for value in year if value), default=1.0),
        "falls": falls(findings),
        "frontier": frontier(findings),
    }


def held(targets: pl.DataFrame) -> pl.DataFrame:
    """reason, rows: tickers that were held as they are at a close, by the reason."""
    rows = targets.filter(pl.col("reason").is_not_null())
    return rows.group_by("reason").agg(rows=pl.len().cast(pl.Int64)).sort("rows", "reason", descending=[True, False])


def models(backtest: pl.DataFrame, sleeves: int) -> pl.DataFrame:
    """The back-tests of every model at the book's own sleeves, costs and capital, best first."""
    own = (pl.col("variant") == BASE) & (pl.col("sleeves") == sleeves)
    return backtest.filter(own).sort("net_sharpe", "model", descending=[True, False], nulls_last=True)


def variants(findings: Findings) -> pl.DataFrame:
    """The back-tests of the own model that differ in one assumption from the book, at its own sleeves."""
    own = (pl.col("model") == findings.inputs.model) & (pl.col("sleeves") == (findings.inputs.book.sleeves or CHOSEN))
    rows = findings.inputs.backtest.filter(own & ~pl.col("variant").str.contains("capital"))
    return rows.sort(pl.col("variant") != BASE, "variant")


def falls(findings: Findings) -> list[dict[str, Any]]:
    """The deepest drawdowns: depth, and the sessions of the peak, the valley and the recovery."""
    sessions = findings.sessions
    return [
        {
            "depth": fall.depth,
            "peak": sessions[fall.peak] if fall.peak >= 0 else None,
            "valley": sessions[fall.valley],
            "recovery": None if fall.recovery is None else sessions[fall.recovery],
            "sessions": (len(sessions) if fall.recovery is None else fall.recovery) - fall.peak,
        }
        for fall in worst_falls(findings.series("net_return"))
    ]


def frontier(findings: Findings) -> dict[str, Any]:
    """heads of a table, and per capital and number of sleeves the back-tests by scale of the spread."""
    own = findings.inputs.backtest.filter(
        (pl.col("model") == findings.inputs.model) & pl.col("variant").str.contains("^(base|spread|capital)")
    )
    scales = own["spread_scale"].unique().sort().to_list()
    cells = {(row["capital"], row["sleeves"], row["spread_scale"]): row for row in own.iter_rows(named=True)}
    keys = sorted({key[:2] for key in cells})
    rows = [
        {"capital": capital, "sleeves": number, "cells": [cells.get((capital, number, scale)) for scale in scales]}
        for capital, number in keys
    ]
    return {"heads": [("capital", ""), ("K", "text"), *((f"spread x{scale:g}", "") for scale in scales)], "rows": rows}
