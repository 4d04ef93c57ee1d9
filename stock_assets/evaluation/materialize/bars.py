"""The step `bar_report`: scores of the predictions of bars, and their page."""

from typing import NamedTuple

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.evaluation.bar_report import (
    BarReport,
    BarReportFacts,
    bar_markdown,
    make_bar_report,
    render_bar_report,
)
from stock_assets.evaluation.bar_tables import BAR_REPORT
from stock_assets.features.bar_tables import BAR_LABELS
from stock_assets.features.materialize.bars import bar_label_rule
from stock_assets.model.bar_models import BAR_MODELS
from stock_assets.model.bar_tables import BAR_PREDICTIONS
from stock_assets.objects import Place, put
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: The report is about the newest sessions that every model has predicted, so many at most.
SESSIONS = 60


class MadeBarReport(NamedTuple):
    """What `make_bar_evaluation` wrote."""

    report: BarReport
    page: Place
    markdown: str
    """the table of scores"""


def make_bar_evaluation(store: Warehouse, settings: Settings) -> MadeBarReport:
    """Makes the table `bar_report` of the last SESSIONS sessions that are over, and the page `bar_report/report.html`.

    Raises MissingTableError before there are predictions, StockAssetsError where no session is predicted by all models.
    """
    session_counts = store.read_sql(
        "bar_predictions",
        "SELECT session FROM model.bar_predictions GROUP BY session HAVING count(DISTINCT model) >= ? ORDER BY session",
        [len(BAR_MODELS)],
    )
    sessions = session_counts["session"].to_list()[-SESSIONS:]
    if not sessions:
        raise StockAssetsError("no session is over that every model has predicted; expected one before a report")
    in_sessions = pl.col("session").is_in(sessions)
    predictions = BAR_PREDICTIONS.fit(store.read("bar_predictions", sessions[0], sessions[-1])).filter(in_sessions)
    labels = BAR_LABELS.fit(store.read("bar_labels", sessions[0], sessions[-1])).filter(in_sessions)
    facts = BarReportFacts(settings.source, settings.interval, bar_label_rule(settings))
    report = make_bar_report(predictions, labels, facts)
    page = settings.artifacts / "bar_report" / "report.html"
    put(page, render_bar_report(report).encode())
    store.replace_table("bar_report", report.scores.select(BAR_REPORT.names))
    return MadeBarReport(report, page, bar_markdown(report))
