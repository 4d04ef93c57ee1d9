"""The report on predictions of bars within the session: one HTML file that needs nothing else, and a Markdown table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.evaluation.bar_scores import SPREAD_PER_SIDE, bar_score_table, by_day, scored_bars
from stock_assets.evaluation.classes import calibration_table, classification_report, confusion_table
from stock_assets.evaluation.metrics import best_naive
from stock_assets.evaluation.plots import bars as bar_plots
from stock_assets.evaluation.plots import calibration, confusion
from stock_assets.evaluation.report import Image, page_template
from stock_assets.features.bar_labels import BarLabelRule
from stock_assets.frames import markdown_table
from stock_assets.model.bar_models import BAR_IN_SERVICE, naive_bar_models

#: So many models of the lowest log-loss are drawn, the one in service always.
DRAWN = 4


@dataclass(frozen=True)
class BarReportFacts:
    """What the numbers are about."""

    source: str
    """where the bars come from; 'simulated' puts a banner on top"""
    interval: str
    """as the setting spells it, such as 1m"""
    rule: BarLabelRule
    spread: float = SPREAD_PER_SIDE
    """what one side of a trade costs, a fraction of the price"""


@dataclass(frozen=True)
class BarReport:
    """The report as data."""

    facts: BarReportFacts
    tickers: int
    first_session: date
    last_session: date
    """of the bars that are scored"""
    scores: pl.DataFrame
    """`bar_scores.bar_score_table`"""
    days: pl.DataFrame
    """`bar_scores.by_day`"""
    classes: Mapping[str, pl.DataFrame]
    """`classes.classification_report` by model, in the order of `scores`"""
    naive: str | None
    """the naive model with the lowest log-loss"""
    judged: str
    """the model that the figures of one model are about: the one in service, the best where it is absent"""
    figures: Mapping[str, bytes]
    """PNGs by name"""


def make_bar_report(
    predictions: pl.DataFrame, labels: pl.DataFrame, facts: BarReportFacts, *, naive: Sequence[str] | None = None
) -> BarReport:
    """The report on `predictions` and `labels`, as `bar_scores.scored_bars` takes them; raises as that does.

    `naive` names the models that skill is measured against; unset, those of role naive.
    """
    scored_predictions = scored_bars(predictions, labels)
    days = by_day(scored_predictions, horizon_bars=facts.rule.horizon_bars, spread=facts.spread)
    naive = naive_bar_models() if naive is None else naive
    scores, table = bar_score_table(days, naive), confusion_table(scored_predictions)
    models = scores["model"].to_list()
    judged_model = BAR_IN_SERVICE if BAR_IN_SERVICE in models else models[0]
    best = (best_naive(scores, naive) or {}).get("model")
    drawn_models = sorted({judged_model, *[model for model in models if model not in naive][:DRAWN]})
    figures = {
        "calibration": calibration(
            pl.concat(calibration_table(scored_predictions.filter(pl.col("model") == model)) for model in drawn_models)
        ),
        "confusion": confusion(table, judged_model),
        "earned": bar_plots.earned(days, drawn_models),
        **({} if best is None else {"daily_gain": bar_plots.daily_gain(_gains(days, best, drawn_models), best)}),
    }
    return BarReport(
        facts=facts,
        tickers=scored_predictions["ticker"].n_unique(),
        first_session=days["session"].min(),  # pyright: ignore[reportArgumentType]: a date, as there are rows
        last_session=days["session"].max(),  # pyright: ignore[reportArgumentType]
        scores=scores,
        days=days,
        classes={model: classification_report(table, model) for model in models},
        naive=best,
        judged=judged_model,
        figures=figures,
    )


def _gains(days: pl.DataFrame, naive: str, models: Sequence[str]) -> pl.DataFrame:
    """model, session, gain: what `naive` loses more than each of `models`, in nats."""
    yardstick = days.filter(pl.col("model") == naive).select("session", yardstick="surprise")
    own = days.filter(pl.col("model").is_in(list(models))).join(yardstick, on="session")
    return own.select("model", "session", gain=pl.col("yardstick") - pl.col("surprise"))


def render_bar_report(report: BarReport) -> str:
    """One self-contained HTML page: inline style, pictures as data URIs, no script, nothing from the network."""
    rows = report.scores.to_dicts()
    return page_template("bar_report.html.j2").render(
        title=f"stock_assets: {report.facts.source} bars of {report.facts.interval}, "
        f"judged {report.first_session} to {report.last_session}",
        report=report,
        facts=report.facts,
        rows=rows,
        of={row["model"]: row for row in rows},
        classes={model: table.to_dicts() for model, table in report.classes.items()},
        figures={name: Image.of(png) for name, png in report.figures.items()},
    )


def bar_markdown(report: BarReport) -> str:
    """The scores as a Markdown table, for the UI and for documents."""

    def cell(row: dict, name: str, digits: int, *, unit: float = 1.0) -> str:
        if row[name] is None:
            return "–"
        value, low, high = (unit * row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    return markdown_table(
        pl.DataFrame(
            [
                {
                    "model": row["model"],
                    "log-loss": cell(row, "log_loss", 4),
                    "gained over the best naive": cell(row, "log_loss_gain", 4),
                    "accuracy": cell(row, "accuracy", 3),
                    "MSE / no change": cell(row, "mse_ratio", 4),
                    "rank IC": cell(row, "rank_ic", 4),
                    "gross a day (%)": cell(row, "gross", 2, unit=100),
                    "net a day (%)": cell(row, "net", 2, unit=100),
                    "turnover a day": cell(row, "turnover", 0),
                    "rows": f"{row['rows']:,}",
                }
                for row in report.scores.iter_rows(named=True)
            ]
        )
    )
