"""The evaluation report: one HTML file that needs nothing else, on a desk or on a phone."""

import struct
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from stock_assets.escape import html_value
from stock_assets.evaluation.figures import FIGURES, SECTIONS, Section, draw
from stock_assets.evaluation.findings import ReportInputs, best_model, make_findings
from stock_assets.evaluation.input_value import COMPARED, reading, verdicts
from stock_assets.evaluation.metrics import METRICS, RANKED_BY, best_naive
from stock_assets.model.registry import naive_baselines
from stock_assets.setting_values import LabelRule

if TYPE_CHECKING:
    from jinja2 import Template

#: So many of the best tickers are listed, and so many of the worst.
LISTED = 10


@dataclass(frozen=True)
class ReportFacts:
    """What the numbers are about."""

    source: str
    """where the prices come from; 'simulated' puts a banner on top"""
    tickers: int
    first_session: date
    last_session: date
    """of the prices, not of the predictions"""
    rule: LabelRule
    currency: str | None = None
    market: str = "SPY"
    """the series that is bought and held"""
    absent: Sequence[str] = ()
    """what the models lack"""

    @property
    def simulated(self) -> bool:
        return self.source == "simulated"


@dataclass(frozen=True)
class Report:
    """The evaluation report as data.

    `tables` are, by name: `walk_forward` (required), that of `metrics.score_table`; of the best model `classification`
    (`classes.classification_report`), `market` (`portfolio.comparison`), `survivorship` (`survivorship.survivorship`;
    an empty one says that no ticker left), `tickers` and `sectors` (`breakdowns.by_ticker`, `by_sector`; an empty one
    says that the source states no sector); of all models `spread` and `regimes` (`breakdowns.decile_spread`,
    `by_regime`), `leakage` and `lag_sweep` (rows of the table `leakage_audit`); `ablation` (`study.ablation_table`),
    `input_value` (that table, of one model) and `suspects` (reason, rows). `figures` are PNGs, named as in FIGURES.

    Raises ValueError for a table or figure that no section has, and where `walk_forward` is missing.
    """

    title: str
    tables: Mapping[str, pl.DataFrame]
    figures: Mapping[str, bytes]
    facts: ReportFacts

    def __post_init__(self) -> None:
        tables = ["walk_forward", *(table for section in SECTIONS.values() for table in section.tables)]
        if unknown := sorted({*self.tables} - {*tables}) + sorted({*self.figures} - {*FIGURES}):
            raise ValueError(
                f"{', '.join(unknown)} is no part of the report; expected {', '.join([*tables, *FIGURES])}"
            )
        if "walk_forward" not in self.tables:
            raise ValueError("the table walk_forward is missing; a report without scores reports nothing")

    @property
    def means(self) -> pl.DataFrame:
        """The means of the yearly scores, one row per model, the lowest log-loss first."""
        scores = self.tables["walk_forward"]
        return scores.filter(pl.col("year").is_null()).sort(RANKED_BY, "model")

    @property
    def best(self) -> dict[str, Any]:
        """The mean scores of the best model, which the tables and figures of one model are about."""
        return best_model(self.means)

    @property
    def naive(self) -> dict[str, Any] | None:
        """The mean scores of the best naive baseline, None where there is none."""
        return best_naive(self.means, naive_baselines())


def make_report(inputs: ReportInputs) -> Report:
    """The report that `inputs` make. Raises as `findings.make_findings`."""
    findings = make_findings(inputs)
    sessions = inputs.bars["session"].sort()
    first, last = inputs.predicted
    return Report(
        title=f"stock_assets: {inputs.source} prices, judged {first} to {last}",
        tables=findings.tables,
        figures=draw(findings),
        facts=ReportFacts(
            source=inputs.source,
            tickers=inputs.bars["ticker"].n_unique(),
            first_session=sessions[0],
            last_session=sessions[-1],
            rule=inputs.rule,
            currency=inputs.currency,
            market=findings.market,
            absent=inputs.absent,
        ),
    )


def render_report(report: Report) -> str:
    """One self-contained HTML page: inline style, pictures as data URIs, no script, nothing from the network.

    A section without its table and figure is left out.
    """
    scores, regimes = report.tables["walk_forward"], report.tables.get("regimes", pl.DataFrame())
    means = report.means.to_dicts()
    return page_template("report.html.j2").render(
        title=report.title,
        facts=report.facts,
        metrics=sorted(
            (metric for metric in METRICS.values() if metric.below is None), key=lambda metric: metric.name != RANKED_BY
        ),
        below={name: [m for m in METRICS.values() if m.below == name] for name in METRICS},
        means=means,
        best=means[0],
        judged=report.best["model"],
        naive=report.naive,
        years=scores.filter(pl.col("year").is_not_null()).sort("year", RANKED_BY, "model").to_dicts(),
        tables={name: table.to_dicts() for name, table in report.tables.items()},
        sections=[section for section in SECTIONS.values() if _is_shown(section, report)],
        figures_of={id: [figure for figure in FIGURES.values() if figure.section == id] for id in SECTIONS},
        regimes=_by_model(regimes) if regimes.height else {},
        regime_names=regimes["regime"].unique(maintain_order=True).to_list() if regimes.height else [],
        listed=LISTED,
        worth=_worth(report.tables.get("input_value", pl.DataFrame())),
        figures={name: Image.of(png) for name, png in report.figures.items()},
    )


def _is_shown(section: Section, report: Report) -> bool:
    present = [report.tables[name] for name in section.tables if name in report.tables]
    return any(table.height or section.empty_too for table in present) or any(
        FIGURES[name].section == section.id for name in report.figures
    )


@cache
def page_template(name: str) -> "Template":
    """The template `name` of this room, with its filters, macros and style."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda part: files("stock_assets.evaluation").joinpath(part).read_text("utf-8"))
    environment = Environment(
        loader=loader,
        autoescape=True,
        finalize=html_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "signed": _signed,
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


def _worth(values: pl.DataFrame) -> dict[str, Any] | None:
    """What the section on the worth of inputs shows of the table `input_value`; None where nothing was measured."""
    measured_values = values.drop_nulls("difference") if values.height else values
    if measured_values.is_empty():
        return None
    cells = {(row["group"], row["way"], row["metric"]): row for row in measured_values.iter_rows(named=True)}
    return {
        "rows": [
            verdict | {"of": {m: cells.get((verdict["group"], verdict["way"], m)) for m in COMPARED}}
            for verdict in verdicts(measured_values).to_dicts()
        ],
        "reading": reading(measured_values),
        "about": measured_values.row(0, named=True),
        "titles": COMPARED,
        "left": values.drop_nulls("note").select("group", "note").unique(maintain_order=True).to_dicts(),
    }


def _score(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _basis_points(value: float | None) -> str:
    return "–" if value is None else f"{10_000 * value:.1f}"


def _interval(row: Mapping[str, float | None], metric: str, digits: int = 4) -> str:
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    return "" if low is None or high is None else f"[{low:.{digits}f}, {high:.{digits}f}]"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"
