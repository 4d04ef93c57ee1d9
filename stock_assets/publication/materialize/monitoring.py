"""What the monitoring tables of a publication are made of, read from the store."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.evaluation.tables import EVALUATION_REPORT
from stock_assets.features.materialize import announced_of, lags_of
from stock_assets.features.stationary import STATIONARY
from stock_assets.features.tables import LABELS
from stock_assets.frames import KEYS
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.materialize.champions import models_in_service, read_promotions
from stock_assets.lifecycle.materialize.drift import trusted_inputs
from stock_assets.lifecycle.tables import DRIFT, OPERATIONS, RETRAINING_DECISIONS
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.tables import FETCH_OUTCOMES
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.model.registry import IN_SERVICE, live_yardsticks, naive_baselines
from stock_assets.publication import monitoring
from stock_assets.publication.materialize.sessions import left_out_between
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.overview import overview

#: Sessions of drift, of decisions and of outcomes that are published: a month, and three.
RECENT, DECISIONS = 21, 63
_IN_SERVICE = (
    "SELECT ticker, session, p_sell, p_hold, p_buy, score FROM model.predictions WHERE model = ? AND session >= ?"
)


@dataclass(frozen=True)
class Monitored:
    """The monitoring tables that follow from the store, by name, and what else is made of them."""

    tables: dict[str, pl.DataFrame]
    report: pl.DataFrame
    """the table evaluation_report"""
    promotions: pl.DataFrame
    """the table promotions"""

    @property
    def champions(self) -> dict[str, str]:
        """The version that serves, by model."""
        serving = self.tables["in_service"].filter(pl.col("alias") == "champion")
        return dict(serving.select("model", "version").iter_rows())


def read_monitoring(store: Warehouse, settings: Settings, registry: Registry, *, last: date) -> Monitored:
    """All of `tables.MONITORING` but failures and checks, as of `last`, the newest predicted session.

    Raises RegistryError where the model registry does not answer.
    """
    with store.reading():
        return _read(store, settings, registry, last=last)


def _read(store: Warehouse, settings: Settings, registry: Registry, *, last: date) -> Monitored:
    calendar = calendar_of(settings)
    operations = store.read_or(OPERATIONS.empty(), "operations")
    report = store.read_or(EVALUATION_REPORT.empty(), "evaluation_report")
    promotions = read_promotions(store)
    since = (*calendar.before(last, RECENT - 1), last)[0]
    drift_rows = store.read_or(DRIFT.empty(), "drift", since)
    decisions = store.read_or(RETRAINING_DECISIONS.empty(), "retraining_decisions")
    outcomes = store.read_or(FETCH_OUTCOMES.empty(), "fetch_outcomes")
    fit = monitoring.fitted
    tables = _skill(store, settings, operations) | {
        "score": monitoring.score_rows(report, (*naive_baselines(), *live_yardsticks())),
        "drift": fit("drift", drift_rows),
        "histograms": _histograms(store, calendar, drift_rows),
        "promotions": fit("promotions", promotions, "decided_at", "model", "version"),
        "retraining_decisions": fit("retraining_decisions", decisions).tail(DECISIONS),
        "in_service": fit("in_service", models_in_service(store, registry, calendar)),
        "fetch_outcomes": fit("fetch_outcomes", outcomes.filter(pl.col("last") >= since)),
    }
    return Monitored(tables | _paper(store, settings) | _beside_prices(store, settings, last), report, promotions)


def _beside_prices(store: Warehouse, settings: Settings, last: date) -> dict[str, pl.DataFrame]:
    """The tables about the side inputs that have a row."""
    tables = {"announcements": announced_of(store, settings, last), "known_lags": lags_of(store)}
    return {name: monitoring.fitted(name, rows) for name, rows in tables.items() if rows.height}


def _paper(store: Warehouse, settings: Settings) -> dict[str, pl.DataFrame]:
    """The tables of the account at the broker; none before its first evening."""
    paper_overview = overview(store, settings.paper_book)
    if paper_overview.equity.is_empty():
        return {}
    return {name: monitoring.fitted(name, rows) for name, rows in paper_overview.frames.items()}


def _skill(store: Warehouse, settings: Settings, operations: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The tables about the sessions of `operations`."""
    sessions = operations["session"].sort().to_list()
    first = sessions[0] if sessions else date.max
    predictions = store.read_sql("predictions", _IN_SERVICE, [IN_SERVICE, first])
    labels = _usable(store, settings, first)
    return {
        "sessions": monitoring.session_rows(
            operations,
            predictions,
            labels,
            left_out=left_out_between(store, settings, sessions, predictions=predictions),
        ),
        "rolling_skill": monitoring.rolling_skill(operations, seed=settings.seed),
        "reliability": monitoring.reliability(predictions.join(labels, on=KEYS)),
    }


def _usable(store: Warehouse, settings: Settings, first: date) -> pl.DataFrame:
    """The usable labels from session `first` on; none before there are labels."""
    try:
        return usable_between(store, settings, first)[0]
    except MissingTableError:
        return LABELS.empty()


def _histograms(store: Warehouse, calendar: TradingCalendar, drift_rows: pl.DataFrame) -> pl.DataFrame:
    """The histograms of the newest session of `drift_rows`, over the windows that its figures compare."""
    inputs = drift_rows.filter(pl.col("column").is_in(list(STATIONARY)))  # a feature may be registered no more
    if inputs.is_empty():
        return monitoring.histograms(inputs, inputs, [])
    last, cutoff = inputs.sort("session").select("session", "reference_through").row(-1)
    columns = monitoring.worst_columns(inputs, last)
    windows = ((cutoff, drift.REFERENCE), (last, drift.RECENT))
    spans = [((*calendar.before(day, count - 1), day)[0], day) for day, count in windows]
    reference, recent = (trusted_inputs(store, first, day, columns=columns) for first, day in spans)
    return monitoring.histograms(reference, recent, columns)
