"""The evaluation report: one HTML file that needs nothing else, on a desk or on a phone."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files

import polars as pl
from jinja2 import Environment, StrictUndefined

from stock_assets.evaluation.metrics import best_naive
from stock_assets.model.baselines import NAIVE

TABLES = ("walk_forward", "spread", "regimes", "tickers", "leakage", "lag_sweep", "suspects")
FIGURES = ("label_distribution", "learning_curve", "calibration", "confusion", "rank_ic", "lag_sweep")


@dataclass(frozen=True)
class ReportFacts:
    """What the numbers are about."""

    source: str
    """Where the prices come from; 'simulated' puts a banner on top."""
    tickers: int
    first_session: date
    last_session: date
    """Of the prices, not of the predictions."""
    horizon: int = 7
    buy_threshold: float = 0.027
    sell_threshold: float = 0.022

    @property
    def simulated(self) -> bool:
        return self.source == "simulated"


def render_report(
    title: str, tables: Mapping[str, pl.DataFrame], figures: Mapping[str, bytes], facts: ReportFacts
) -> str:
    """One self-contained HTML page: inline style, pictures as data URIs, no script, nothing from the network.

    `tables` are those of `metrics.walk_forward_table` (`walk_forward`, required), `leakage.leakage_table`
    (`leakage`), `leakage.lag_sweep` (`lag_sweep`), `breakdowns.decile_spread` (`spread`), `by_regime` (`regimes`) and
    `by_ticker` of the best model (`tickers`), and suspect rows by reason (`suspects`: reason, rows).
    `figures` are PNGs, named as in FIGURES. A section without its table and figure is left out.

    Raises ValueError for a table or figure it does not know and when `walk_forward` is missing.
    """
    unknown = sorted({*tables} - {*TABLES}) + sorted({*figures} - {*FIGURES})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no part of the report; expected {', '.join(TABLES + FIGURES)}")
    if "walk_forward" not in tables:
        raise ValueError("the table walk_forward is missing; a report without scores reports nothing")
    scores = tables["walk_forward"]
    means = scores.filter(pl.col("year").is_null()).sort("log_loss", "model").to_dicts()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"score": _score, "interval": _interval, "percent": _percent, "basis_points": _basis_points}
    template = environment.from_string(files("stock_assets.evaluation").joinpath("report.html.j2").read_text("utf-8"))
    return template.render(
        title=title,
        facts=facts,
        means=means,
        best=means[0],
        naive=best_naive(scores, NAIVE),
        years=scores.filter(pl.col("year").is_not_null()).sort("year", "log_loss", "model").to_dicts(),
        tables={name: table.to_dicts() for name, table in tables.items()},
        figures={name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in figures.items()},
    )


def _score(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _basis_points(value: float | None) -> str:
    return "–" if value is None else f"{10_000 * value:.1f}"


def _interval(row: Mapping[str, float | None], metric: str, digits: int = 4) -> str:
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return "" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"
