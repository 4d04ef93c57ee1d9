"""A figure of the tear sheet: its value, its interval, and in one sentence what it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from stock_assets.pages import numbers
from stock_assets.trading.tables import TEAR_SHEET

#: The sections of the page, in its order: their ids and titles.
SECTIONS = {
    "result": "Net result, and how sure it is",
    "costs": "Gross, each cost, net",
    "equity": "Equity and drawdown",
    "years": "Year by year",
    "signal": "What the score foresees, and for how long",
    "holdings": "What it holds, and where the result came from",
    "unfilled": "What was not filled, and why",
    "sensitivities": "Under other assumptions",
    "replay": "What was predicted each evening, against today's history",
}


def basis_points(value: float | None) -> str:
    """A fraction in basis points.

    >>> basis_points(-0.00123).split(), basis_points(0.00000512).split()
    (['−12.3', 'bp'], ['+0.05', 'bp'])
    """
    if value is None:
        return numbers.NONE
    return f"{numbers.signed(10_000 * value, 1 if abs(value) >= 0.0001 else 2)}\N{NO-BREAK SPACE}bp"


def money(value: float | None) -> str:
    """An amount, in thousands or millions where it is large.

    >>> money(12_345_678.0), money(950.0)
    ('12.3 million', '950')
    """
    if value is None:
        return numbers.NONE
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if abs(value) >= unit:
            return f"{numbers.score(value / unit, 1)} {name}"
    return numbers.count(value)


#: How a figure is shown.
FORMS: dict[str, Callable[[float | None], str]] = {
    "ratio": lambda value: numbers.signed(value, 2),
    "correlation": lambda value: numbers.signed(value, 4),
    "error": lambda value: numbers.score(value, 2),
    "share": numbers.percent,
    "return": numbers.signed_percent,
    "bp": basis_points,
    "count": numbers.count,
    "number": lambda value: numbers.score(value, 1),
    "money": money,
}


@dataclass(frozen=True)
class Figure:
    """One figure of the page."""

    section: str
    name: str
    form: str
    value: float | None
    definition: str
    low: float | None = None
    high: float | None = None

    @property
    def shown(self) -> str:
        """Its value as the page shows it."""
        return FORMS[self.form](self.value)

    @property
    def interval(self) -> str:
        """Its 95 % interval as the page shows it; empty without one."""
        if self.low is None or self.high is None:
            return ""
        return f"{FORMS[self.form](self.low)} to {FORMS[self.form](self.high)}"


def table_of(figures: Sequence[Figure], book: str) -> pl.DataFrame:
    """The rows of the table `tear_sheet`."""
    rows = [
        {
            "book": book,
            "position": position,
            "section": SECTIONS[figure.section],
            "figure": figure.name,
            "value": _finite(figure.value),
            "low": _finite(figure.low),
            "high": _finite(figure.high),
            "definition": figure.definition,
        }
        for position, figure in enumerate(figures, 1)
    ]
    return pl.DataFrame(rows, TEAR_SHEET.schema)


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
