"""The step that makes `drift`: the sessions to compare, read from the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from stock_assets.errors import MissingSessionsError, MissingTableError
from stock_assets.features.materialize import MADE_BEFORE_PCA, trusted
from stock_assets.features.stationary import FIRST_BAR, STATIONARY
from stock_assets.frames import KEYS, PROBABILITIES
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.retraining import Policy
from stock_assets.lifecycle.tables import DRIFT
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.registry import IN_SERVICE
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


@dataclass(frozen=True)
class DriftHistory:
    """What the picture of drift shows."""

    lines: pl.DataFrame
    """session, kind, drift: `drift.summary` of each kind, from the first session on"""
    limits: Mapping[str, float]
    """the limit of each kind, from which on the model is trained again"""
    cutoffs: Sequence[date]
    """the cutoffs of the models that served"""


def make_drift(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> pl.DataFrame:
    """Writes the rows of `drift` of `sessions`, ascending, and returns them, sorted by session.

    Every session is compared with what its own version of the model in service was trained on. A market too young for
    a reference has no row. Raises MissingSessionsError where a session that is compared is not made yet.
    """
    calendar = calendar_of(settings)
    first_predicted = calendar.between(date(settings.model_start_year, 1, 1), calendar.sessions[-1])[0]
    by_cutoff: dict[date, list[date]] = {}
    for session, cutoff in cutoffs_of(store, sessions).items():
        by_cutoff.setdefault(cutoff, []).append(session)
    parts = [DRIFT.empty()]
    for cutoff, days in by_cutoff.items():
        reference = (*calendar.before(cutoff, drift.REFERENCE - 1), cutoff)
        recent = (*calendar.before(days[0], drift.RECENT - 1), *calendar.between(days[0], days[-1]))
        figures = [
            _drift_of_inputs(store, calendar, reference, recent=recent),
            _drift_of_predictions(store, reference, recent, first_predicted=first_predicted),
        ]
        parts += [
            rows.filter(pl.col("session").is_in(days))
            .with_columns(kind=pl.lit(kind), reference_through=pl.lit(cutoff))
            .select(DRIFT.names)
            for kind, rows in zip((drift.INPUT, drift.PREDICTION), figures, strict=True)
        ]
    rows = pl.concat(parts).sort("session", maintain_order=True)
    store.replace_sessions("drift", sessions, rows)
    return rows


def drift_history(store: Warehouse, last: date) -> DriftHistory | None:
    """Drift from the first session to `last`; None without a row."""
    figures = store.read("drift", last=last, columns=["session", "kind", "ks", "reference_through"])
    if figures.is_empty():
        return None
    policy = Policy()
    limits = {drift.INPUT: policy.input_drift, drift.PREDICTION: policy.prediction_drift}
    lines = pl.concat(drift.summary(figures, kind).with_columns(kind=pl.lit(kind)) for kind in limits)
    return DriftHistory(lines, limits, figures["reference_through"].unique().sort().to_list())


def trusted_inputs(store: Warehouse, first: date, last: date, *, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """ticker, session and the stationary inputs, or those `columns` of them (f32, as the network reads them), of the
    rows without a suspect bar."""
    rows = store.read("stationary_features", first, last, columns=[*KEYS, *(columns or STATIONARY)])
    return trusted(store, rows.cast({pl.Float64: pl.Float32}))


def cutoffs_of(store: Warehouse, sessions: Sequence[date]) -> dict[date, date]:
    """The cutoff of the version in service of each of `sessions`.

    Raises MissingSessionsError where the model in service did not predict a session.
    """
    statement = (
        "SELECT session, max(trained_through) FROM model.predictions "
        "WHERE model = ? AND session BETWEEN ? AND ? GROUP BY session"
    )
    try:
        cutoffs = dict(store.read_sql("predictions", statement, [IN_SERVICE, sessions[0], sessions[-1]]).iter_rows())
    except MissingTableError:
        cutoffs = {}
    if missing_sessions := [session for session in sessions if session not in cutoffs]:
        store.require([*MADE_BEFORE_PCA, "predictions"], missing_sessions, "drift")
        raise MissingSessionsError(
            "drift", "predictions", missing_sessions, why=f"rows of {IN_SERVICE}, whose cutoff it needs"
        )
    return {session: cutoffs[session] for session in sessions}


def _drift_of_inputs(
    store: Warehouse, calendar: TradingCalendar, reference: Sequence[date], *, recent: Sequence[date]
) -> pl.DataFrame:
    feature_sessions = [session for session in reference if calendar.position(session) >= FIRST_BAR - 1]
    if len(feature_sessions) < drift.SMALLEST_REFERENCE:
        return drift.FIGURES.to_frame()
    purpose = f"the {drift.RECENT} sessions of drift, and its reference, which ends at the cutoff {reference[-1]}"
    store.require(MADE_BEFORE_PCA, sorted({*feature_sessions, *recent}), "drift", why=purpose)
    learned_inputs, newest_inputs = (trusted_inputs(store, days[0], days[-1]) for days in (feature_sessions, recent))
    return drift.drift_figures(learned_inputs, newest_inputs, list(STATIONARY), sessions=recent)


def _drift_of_predictions(
    store: Warehouse, reference: Sequence[date], recent: Sequence[date], *, first_predicted: date
) -> pl.DataFrame:
    # the reference holds predictions by whichever version served then, all made before the cutoff: what a version
    # predicts for rows that it learned from is surer than anything it predicts later, and would be drift by itself
    earlier = _predictions(store, reference[0], reference[-1])
    if earlier["session"].n_unique() < drift.SMALLEST_REFERENCE:
        return drift.FIGURES.to_frame()
    predicted_sessions = [session for session in recent if session >= first_predicted]
    store.require(["predictions"], predicted_sessions, "drift", why=f"the {drift.RECENT} sessions of drift")
    return drift.drift_figures(earlier, _predictions(store, recent[0], recent[-1]), PROBABILITIES, sessions=recent)


def _predictions(store: Warehouse, first: date, last: date) -> pl.DataFrame:
    """session, p_sell, p_hold, p_buy of the model in service."""
    statement = (
        f"SELECT session, {', '.join(PROBABILITIES)} FROM model.predictions WHERE model = ? AND session BETWEEN ? AND ?"
    )
    return store.read_sql("predictions", statement, [IN_SERVICE, first, last])
