"""The step `drift` of a market of bars, and the alerts that follow from it."""

from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.features.bar_tables import BAR_FEATURE_TABLE
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.alerts import Channel
from stock_assets.lifecycle.bar_drift import (
    COMPARED,
    DRIFT_KEY,
    RECENT_BARS,
    SKILL_KEY,
    YARDSTICK,
    drift_alert,
    session_rows,
    skill_alert,
)
from stock_assets.lifecycle.bar_tables import BAR_SESSIONS
from stock_assets.lifecycle.materialize.alerts import raise_alarm, resolve
from stock_assets.lifecycle.tables import DRIFT
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.market.intervals import Interval
from stock_assets.model.bar_lesson import answerable
from stock_assets.model.bar_models import BAR_IN_SERVICE, naive_bar_models
from stock_assets.model.bar_schedule import training_of
from stock_assets.model.bar_tables import TRAINED_BAR_MODELS
from stock_assets.settings import Settings
from stock_assets.storage.changes import Change
from stock_assets.storage.warehouse import Warehouse

_SERVED = """
SELECT session, max(model_version) AS version FROM model.bar_predictions
WHERE model = ? AND session IN (SELECT unnest(?::DATE[])) GROUP BY session
"""
_LOSSES = """
SELECT session, model, count(*) AS rows,
    avg(-ln(greatest(CASE label WHEN 1 THEN p_buy WHEN 0 THEN p_hold ELSE p_sell END, 1e-15))) AS log_loss
FROM model.bar_predictions JOIN features.bar_labels USING (ticker, session, bar_end)
WHERE label IS NOT NULL AND session BETWEEN ? AND ? AND model IN (SELECT unnest(?::VARCHAR[]))
GROUP BY session, model ORDER BY session, model
"""
_NO_LOSSES = pl.DataFrame(schema={"session": pl.Date, "model": pl.String, "rows": pl.Int64, "log_loss": pl.Float64})


def make_bar_drift(store: Warehouse, settings: Settings, sessions: Sequence[date]) -> pl.DataFrame:
    """Writes `drift` and `bar_sessions` of `sessions` (ascending), and returns the latter.

    The RECENT_BARS sessions to each one are compared with those that its champion learned from; a session with fewer
    before it has no figure. Raises MissingSessionsError where a session is not predicted.
    """
    store.require(["bars", "bar_features", "bar_predictions"], sessions, "drift")
    calendar, naive = calendar_of(settings), naive_bar_models()
    served_versions = store.read_sql("bar_predictions", _SERVED, [BAR_IN_SERVICE, list(sessions)])
    versions = dict(served_versions.iter_rows())
    parts = [DRIFT.empty()]
    for version in sorted(set(versions.values())):
        days = sorted(day for day, model_version in versions.items() if model_version == version)
        parts.append(_figures(store, settings, calendar, version=version, days=days))
    figures = pl.concat(parts).sort("session", maintain_order=True)
    first = (*calendar.before(sessions[0], YARDSTICK - 1), sessions[0])[0]
    try:
        losses = store.read_sql("bar_labels", _LOSSES, [first, sessions[-1], [BAR_IN_SERVICE, *naive]])
    except MissingTableError:
        losses = _NO_LOSSES
    summary = drift.summary(figures, drift.INPUT)
    rows = BAR_SESSIONS.fit(session_rows(losses, versions, naive, champion=BAR_IN_SERVICE, drift=summary))
    days = pl.DataFrame({"session": list(sessions)}, {"session": pl.Date})
    store.write([Change("drift", figures, days, makes=list(sessions)), Change("bar_sessions", rows, days)])
    return rows


def tell_bar_drift(store: Warehouse, settings: Settings, channels: Sequence[Channel], *, now: datetime) -> list[str]:
    """Alerts of drifted inputs and of a champion that is worse than the best naive model, and ends the alarms that are
    over; returns what was done, in words."""
    rows = BAR_SESSIONS.fit(store.read_or(BAR_SESSIONS.empty(), "bar_sessions"))
    figures = DRIFT.fit(store.read_or(DRIFT.empty(), "drift"))
    alerts = {DRIFT_KEY: drift_alert(rows, figures, now), SKILL_KEY: skill_alert(rows, now, seed=settings.seed)}
    messages = [f"{a.title}: {raise_alarm(store, channels, a, now=now)}" for a in alerts.values() if a is not None]
    resolved_keys = [key for key, alert in alerts.items() if alert is None and resolve(store, key, now=now)]
    return [*messages, *(f"the alarm {key} is over" for key in resolved_keys)]


def _figures(
    store: Warehouse, settings: Settings, calendar: TradingCalendar, *, version: str, days: Sequence[date]
) -> pl.DataFrame:
    """Rows of `drift` of `days`, ascending, which `version` served."""
    recent = (*calendar.before(days[0], RECENT_BARS - 1), *calendar.between(days[0], days[-1]))
    if len(recent) < RECENT_BARS:
        return DRIFT.empty()
    trained_models = TRAINED_BAR_MODELS.fit(store.read("trained_bar_models")).filter(pl.col("version") == version)
    training = training_of(
        calendar,
        Interval.parse(settings.interval),
        trained_models["session"].min(),  # pyright: ignore[reportArgumentType]: a date
        most=settings.training_sessions,
        every=settings.training_every,
    )
    learned_inputs, newest_inputs = (_inputs(store, part[0], part[-1]) for part in (training.sessions, recent))
    figures = drift.drift_figures(learned_inputs, newest_inputs, COMPARED, sessions=recent, length=RECENT_BARS)
    return DRIFT.fit(
        figures.filter(pl.col("session").is_in(list(days))).with_columns(
            kind=pl.lit(drift.INPUT), reference_through=pl.lit(training.cutoff.date())
        )
    )


def _inputs(store: Warehouse, first: date, last: date) -> pl.DataFrame:
    """session and COMPARED of the bars that a model answers and that have all of them."""
    rows = BAR_FEATURE_TABLE.fit(store.read("bar_features", first, last))
    return rows.filter(pl.Series(answerable(rows))).select("session", *COMPARED).drop_nulls()
