"""The evaluation report: one HTML file that needs nothing else, on a desk or on a phone."""

import struct
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import polars as pl
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from stock_assets.evaluation.metrics import best_naive
from stock_assets.model.registry import naive_baselines

TABLES = (
    "walk_forward",
    "classification",
    "spread",
    "market",
    "survivorship",
    "regimes",
    "tickers",
    "sectors",
    "ablation",
    "leakage",
    "lag_sweep",
    "suspects",
)
FIGURES = (
    "confusion",
    "calibration",
    "rank_ic",
    "growth",
    "accuracy_by_ticker",
    "accuracy_by_sector",
    "lag_sweep",
    "label_thresholds",
    "label_distribution",
    "price_and_volume",
    "bollinger",
    "rsi_and_momentum",
    "epochs",
    "ablation",
)
#: So many of the best tickers are listed, and so many of the worst.
LISTED = 10


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
    currency: str | None = None
    market: str = "SPY"
    """The series that is bought and held."""

    @property
    def simulated(self) -> bool:
        return self.source == "simulated"


def render_report(
    title: str, tables: Mapping[str, pl.DataFrame], figures: Mapping[str, bytes], facts: ReportFacts
) -> str:
    """One self-contained HTML page: inline style, pictures as data URIs, no script, nothing from the network.

    `tables` are those of `metrics.score_table` (`walk_forward`, required), `classification_report` of the best model
    (`classification`), `leakage.leakage_table` (`leakage`), `leakage.lag_sweep` (`lag_sweep`),
    `breakdowns.decile_spread` (`spread`), `benchmark.comparison` and `survivorship.survivorship` of the best model
    (`market`, `survivorship`; an empty one says that nobody left), `breakdowns.by_regime` (`regimes`), `by_ticker` and
    `by_sector` of the best model (`tickers`, `sectors`; an empty one says that no sector is known),
    `study.ablation_table` (`ablation`), and suspect rows by reason (`suspects`: reason, rows). `figures` are PNGs,
    named as in FIGURES after the functions of `plots`. A section without its table and figure is left out.

    The best model of the single tables and figures is the one with the lowest log-loss that is not naive.

    Raises ValueError for a table or figure it does not know and when `walk_forward` is missing.
    """
    unknown = sorted({*tables} - {*TABLES}) + sorted({*figures} - {*FIGURES})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no part of the report; expected {', '.join(TABLES + FIGURES)}")
    if "walk_forward" not in tables:
        raise ValueError("the table walk_forward is missing; a report without scores reports nothing")
    scores = tables["walk_forward"]
    means = scores.filter(pl.col("year").is_null()).sort("log_loss", "model").to_dicts()
    return page_template("report.html.j2").render(
        title=title,
        facts=facts,
        means=means,
        best=means[0],
        judged=next((row for row in means if row["model"] not in naive_baselines()), means[0])["model"],
        naive=best_naive(scores, naive_baselines()),
        years=scores.filter(pl.col("year").is_not_null()).sort("year", "log_loss", "model").to_dicts(),
        tables={name: table.to_dicts() for name, table in tables.items()},
        regimes=_by_model(tables["regimes"]) if "regimes" in tables else {},
        regime_names=tables["regimes"]["regime"].unique(maintain_order=True).to_list() if "regimes" in tables else [],
        listed=LISTED,
        figures={name: Image.of(png) for name, png in figures.items()},
    )


@cache
def page_template(name: str, package: str = "stock_assets.evaluation") -> Template:
    """The template `name` of `package`, with the filters, macros and the style of this room that all pages share."""
    loader = FunctionLoader(
        lambda part: files(package if part == name else "stock_assets.evaluation").joinpath(part).read_text("utf-8")
    )
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "score": _score,
        "interval": _interval,
        "percent": _percent,
        "basis_points": _basis_points,
        "count": _count,
    }
    return environment.get_template(name)


class Image(NamedTuple):
    """A PNG as an HTML page holds it."""

    address: str
    width: int
    height: int
    """Pixels: a reader's place on the page must not jump while pictures are decoded."""

    @classmethod
    def of(cls, png: bytes) -> "Image":
        width, height = struct.unpack(">II", png[16:24])  # of the IHDR chunk, which comes first
        return cls(f"data:image/png;base64,{b64encode(png).decode()}", width, height)


def _by_model(regimes: pl.DataFrame) -> dict[str, list[dict | None]]:
    """model → its row in each regime with `gain`, the log-loss that the regime's best naive baseline loses more.

    Models in the order of their mean log-loss over the regimes; the regimes of each in that of `regimes`.
    """
    order = regimes["regime"].unique(maintain_order=True).to_list()
    naive = pl.col("log_loss").filter(pl.col("model").is_in(naive_baselines())).min().over("regime")
    rows = regimes.with_columns(gain=naive - pl.col("log_loss")).sort(pl.col("log_loss").mean().over("model"), "model")
    models = rows["model"].unique(maintain_order=True).to_list()
    cells = {(row["model"], row["regime"]): row for row in rows.iter_rows(named=True)}
    return {model: [cells.get((model, regime)) for regime in order] for model in models}


def _score(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _basis_points(value: float | None) -> str:
    return "–" if value is None else f"{10_000 * value:.1f}"


def _interval(row: Mapping[str, float | None], metric: str, digits: int = 4) -> str:
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return "" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"
