"""`stock-assets bars`: makes what is due of a market of bars, in this process and without Dagster."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from stock_assets.errors import SettingsError
from stock_assets.evaluation.bar_tables import BAR_REPORT
from stock_assets.evaluation.materialize.bars import make_bar_evaluation
from stock_assets.features.materialize.bars import make_bar_features, make_bar_labels
from stock_assets.lifecycle.bars import finished_due, judging_due, look_due, promotion_due, revision_due, training_due
from stock_assets.lifecycle.evening import Work
from stock_assets.lifecycle.materialize.alerts import channels_of
from stock_assets.lifecycle.materialize.bar_champions import judge_bar_challengers, serving_bar_versions
from stock_assets.lifecycle.materialize.bar_drift import make_bar_drift, tell_bar_drift
from stock_assets.lifecycle.materialize.bars import read_bar_state
from stock_assets.market.calendar import calendar_of
from stock_assets.market.intervals import Interval
from stock_assets.market.materialize.bars import clean_bars, fetch_raw_bars
from stock_assets.market.materialize.universe import make_universe
from stock_assets.market.sources.registry import settle_time
from stock_assets.model.bar_schedule import training_of
from stock_assets.model.materialize.bars import make_bar_predictions, train_bar_models
from stock_assets.publication.bar_files import read_backtest
from stock_assets.publication.materialize.bar_backtest import publish_bar_backtest
from stock_assets.publication.materialize.bars import publish_bars
from stock_assets.settings import PREFIX, Settings
from stock_assets.storage.trainings import NoRegistry, Registry
from stock_assets.storage.warehouse import Warehouse

#: Hears what is made.
Say = Callable[[str], None]
NO_REGISTRY = NoRegistry()


def make_due(
    store: Warehouse, settings: Settings, source: Any, *, now: datetime, say: Say, registry: Registry = NO_REGISTRY
) -> list[Work]:
    """Makes all that is due at `now`: sessions that are over, models, verdicts on challengers, predictions, the report,
    and a look at the running session; returns the works, in their order.

    Raises SettingsError at the interval 1d, and what the steps raise; what was made before stays.
    """
    if settings.interval == "1d":
        raise SettingsError(f"{PREFIX}INTERVAL=1d; expected 1m, 5m, 15m or 1h: a market of days has `stock-assets run`")
    calendar, interval = calendar_of(settings), Interval.parse(settings.interval)
    training = partial(training_of, calendar, interval, most=settings.training_sessions, every=settings.training_every)
    finished_works: list[Work] = []
    doing = partial(make, store, settings, source, now=now, say=say, registry=registry)
    while True:
        state = read_bar_state(store, now, settle_time(settings))
        work = (
            finished_due(calendar, state)
            or training_due(calendar, interval, state, training=training)
            or promotion_due(calendar, state)
            or judging_due(calendar, state)
            or revision_due(calendar, interval, state)
        )
        if work is None or work.name in {work_done.name for work_done in finished_works}:
            break
        doing(work=work)
        finished_works.append(work)
    look = look_due(calendar, interval, state, looked=None, every=interval.length)
    if not isinstance(look, str):
        doing(work=look[0])
        finished_works.append(look[0])
    return finished_works


def make(
    store: Warehouse,
    settings: Settings,
    source: Any,
    *,
    work: Work,
    now: datetime,
    say: Say,
    registry: Registry = NO_REGISTRY,
) -> None:
    """Makes the assets of `work`, one after the other."""
    say(work.reason)
    sessions: Sequence[date] = ()
    if work.first and work.last:
        sessions = calendar_of(settings).between(date.fromisoformat(work.first), date.fromisoformat(work.last))
    steps = _steps(store, settings, source, sessions=sessions, now=now, say=say, registry=registry)
    for asset in work.assets:
        steps[asset]()


def _steps(
    store: Warehouse,
    settings: Settings,
    source: Any,
    *,
    sessions: Sequence[date],
    now: datetime,
    say: Say,
    registry: Registry,
) -> dict[str, Callable[[], object]]:
    """The step of every asset of bars."""
    return {
        "universe": lambda: make_universe(store, settings, source, now=now),
        "raw_bars": lambda: fetch_raw_bars(store, settings, source, sessions=sessions, now=now),
        "bars": lambda: clean_bars(store, settings, sessions),
        "bar_features": lambda: make_bar_features(store, settings, sessions),
        "bar_labels": lambda: make_bar_labels(store, settings, sessions),
        "trained_bar_models": lambda: train_bar_models(store, settings, sessions, now=now, registry=registry, say=say),
        "promotions": lambda: judge_bar_challengers(store, settings, registry, now=now),
        "bar_predictions": lambda: make_bar_predictions(
            store,
            settings,
            sessions,
            now=now,
            champions=serving_bar_versions(store, registry, sessions, now=now),
        ),
        "bar_publication": lambda: publish_bars(store, settings, sessions, now=now),
        "drift": lambda: _watched(store, settings, sessions, now=now, say=say),
        "bar_report": lambda: make_bar_evaluation(store, settings),
        "backtest": lambda: publish_bar_backtest(store, settings, now=now),
    }


def _watched(store: Warehouse, settings: Settings, sessions: Sequence[date], *, now: datetime, say: Say) -> None:
    make_bar_drift(store, settings, sessions)
    for message in tell_bar_drift(store, settings, channels_of(settings), now=now):
        say(message)


def scores_of(settings: Settings) -> list[str]:
    """The newest scores as lines, and where the report is; what to wait for where there is none."""
    table = BAR_REPORT.fit(Warehouse.of(settings).read_or(BAR_REPORT.empty(), "bar_report"))
    if table.is_empty():
        return ["no report yet: it is made once a session that models serve is over"]
    lines = [f"{'model':14}{'log-loss':>10}{'gain':>9}{'accuracy':>10}{'MSE/none':>10}{'net a day':>11}"]
    for row in table.sort("log_loss").iter_rows(named=True):
        figures = (row["log_loss"], row["log_loss_gain"], row["accuracy"], row["mse_ratio"], row["net"])
        cells = ["–" if value is None else f"{value:.4f}" for value in figures]
        widths = (10, 9, 10, 10, 11)
        lines.append(f"{row['model']:14}" + "".join(f"{cell:>{n}}" for cell, n in zip(cells, widths, strict=True)))
    first = table.row(0, named=True)
    page = settings.artifacts / "bar_report" / "report.html"
    lines.append(f"{first['rows']:,} bars of {first['days']} session(s); the report with intervals: {page}")
    return lines + _earned(settings)


def _earned(settings: Settings) -> list[str]:
    """What the books of the back-test earned as lines, and where its page is; none before it is made."""
    published = read_backtest(settings.published)
    if published is None:
        return []
    lines = [f"back-test of {published['first']} to {published['last']}, after all costs:"]
    for book in published["books"]:
        lines.append(f"{book['book']:14}{book['total']:>+10.2%} net, turnover {book['turnover']:.1f} a session")
    return [*lines, f"the back-test: {settings.artifacts / 'bar_backtest' / 'report.html'}"]
