"""Drift, skill and freshness of a market of bars, against figures by hand."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from stock_assets.lifecycle.bar_drift import RECENT_BARS, drift_alert, session_rows, skill_alert
from stock_assets.lifecycle.bar_tables import BAR_SESSIONS
from stock_assets.lifecycle.bars import bar_freshness
from stock_assets.lifecycle.drift import drift_figures
from stock_assets.lifecycle.materialize.alerts import open_alerts
from stock_assets.lifecycle.materialize.bar_drift import make_bar_drift, tell_bar_drift
from stock_assets.lifecycle.materialize.watch import tell_lateness, watch
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.intervals import LATE_BARS, Interval
from stock_assets.storage.changes import Change
from stock_assets.tables import declared
from stock_assets_tests.lifecycle.test_bars import DAY, END, QUIET, begun, look, make_due, quick, template  # noqa: F401

NOW = datetime(2025, 6, 30, tzinfo=UTC)
DAYS = [date(2025, 6, 1) + timedelta(days=k) for k in range(8)]


def test_the_distances_are_those_of_the_rows_of_so_many_sessions():
    rng = np.random.default_rng(0)
    reference = pl.DataFrame({"x": rng.normal(size=400)})
    recent = pl.DataFrame(
        {
            "session": [day for day in DAYS for _ in range(30)],
            "x": np.repeat(np.arange(8) / 4, 30) + rng.normal(size=240),
        }
    )
    figures = drift_figures(reference, recent, ["x"], sessions=DAYS, length=RECENT_BARS)
    assert figures["session"].to_list() == DAYS[RECENT_BARS - 1 :]
    for session, ks in figures.select("session", "ks").iter_rows():
        first = session - timedelta(days=RECENT_BARS - 1)
        rows = recent.filter(pl.col("session").is_between(first, session))["x"].to_numpy()
        at = np.concatenate([reference["x"].to_numpy(), rows])
        apart = [abs((rows <= x).mean() - (reference["x"].to_numpy() <= x).mean()) for x in at]
        assert ks == pytest.approx(max(apart), abs=1e-3)


def rows_of(leads: list[float], moved: float | None = None) -> pl.DataFrame:
    """`BAR_SESSIONS` in which the champion's log-loss is lower than the naive one's by so much."""
    rows = [
        (day, "bar_rnn-1", 100, 1.0 - lead, "class_prior", 1.0, moved) for day, lead in zip(DAYS, leads, strict=False)
    ]
    return pl.DataFrame(rows, BAR_SESSIONS.schema, orient="row")


def test_a_champion_that_is_surely_worse_is_an_alert_and_an_unlucky_one_is_none():
    bad = [-0.02, -0.01, -0.015, -0.03, -0.02]
    assert skill_alert(rows_of(bad), NOW) is not None
    assert skill_alert(rows_of(bad[:4]), NOW) is None
    assert skill_alert(rows_of([*bad[:4], 0.2]), NOW) is None
    assert skill_alert(rows_of([*bad, 0.01, 0.02, 0.01]), NOW) is None  # the newest five count


def test_inputs_that_moved_are_an_alert_that_names_the_columns():
    figures = pl.DataFrame({"session": [DAYS[4]] * 2, "column": ["vol_60", "gap_5"], "ks": [0.7, 0.1]})
    alert = drift_alert(rows_of([0.0] * 5, moved=0.6), figures, NOW)
    assert alert is not None
    assert "vol_60 0.70" in alert.text
    assert drift_alert(rows_of([0.0] * 5, moved=0.2), figures, NOW) is None
    assert drift_alert(rows_of([0.0] * 5), figures, NOW) is None


def test_the_yardstick_is_the_naive_model_that_was_best_over_the_sessions_before():
    losses = pl.DataFrame(
        [(day, model, 10, loss) for day in DAYS[:3] for model, loss in (("a", 1.0), ("b", 1.1), ("rnn", 0.9))]
        + [(DAYS[3], "a", 10, 1.2), (DAYS[3], "b", 10, 1.0), (DAYS[3], "rnn", 10, 0.95)],
        ["session", "model", "rows", "log_loss"],
        orient="row",
    )
    drift = pl.DataFrame({"session": [DAYS[3]], "drift": [0.3]})
    row = session_rows(losses, {DAYS[3]: "v"}, ["a", "b"], champion="rnn", drift=drift).row(0)
    assert row == (DAYS[3], "v", 10, 0.95, "a", 1.2, 0.3)


def test_a_session_that_is_over_has_its_log_loss_and_an_alarm_ends(begun):  # noqa: F811
    store, config, source = begun
    make_due(store, config, source, now=END, say=QUIET)
    row = declared("bar_sessions").fit(store.read("bar_sessions")).row(0, named=True)
    labels = declared("bar_labels").fit(store.read("bar_labels", DAY, DAY)).drop_nulls("label")
    answers = declared("bar_predictions").fit(store.read("bar_predictions", DAY, DAY)).filter(model="bar_rnn")
    both = answers.join(labels, on=["ticker", "bar_end"])
    losses = [-np.log((r["p_sell"], r["p_hold"], r["p_buy"])[r["label"] + 1]) for r in both.iter_rows(named=True)]
    assert (row["session"], row["rows"], row["naive"]) == (DAY, len(losses), "class_prior")
    assert row["log_loss"] == pytest.approx(np.mean(losses))
    assert set(store.read("drift")["session"]) == {DAY}
    # another time gives the same; an alarm begins with the figures and ends with them
    assert make_bar_drift(store, config, [DAY]).row(0, named=True) == row
    wild = declared("bar_sessions").fit(store.read("bar_sessions")).with_columns(input_drift=pl.lit(0.9))
    store.write([Change("bar_sessions", wild, wild.select("session"))])
    tell_bar_drift(store, config, [], now=NOW)
    assert [record.alert.key for record in open_alerts(store)] == ["drift/bar_features"]
    make_bar_drift(store, config, [DAY])
    tell_bar_drift(store, config, [], now=NOW)
    assert open_alerts(store) == []


def test_bars_are_late_while_the_exchange_is_open_and_at_no_other_time():
    new_york, minute = trading_calendar("XNYS", date(2025, 6, 2), date(2025, 6, 30)), Interval.parse("1m")
    friday = date(2025, 6, 6)
    closed, opened = new_york.closes[friday], new_york.opens[date(2025, 6, 9)]
    grace = (LATE_BARS + 1) * minute.length

    def behind(newest: datetime | None, now: datetime) -> int:
        state = bar_freshness(new_york, minute, newest=newest, now=now, grace=grace)
        assert state.fresh == (state.sessions_behind == 0)
        return state.sessions_behind

    assert behind(None, closed) == 0
    assert behind(closed - timedelta(minutes=20), closed - timedelta(minutes=20) + grace) == 0
    assert behind(closed - timedelta(minutes=20), closed - timedelta(minutes=15) + grace) == 5
    assert behind(closed, opened - timedelta(minutes=1)) == 0
    assert behind(closed, opened + grace) == 0
    assert behind(closed, opened + grace + timedelta(minutes=3)) == 3


def test_a_running_session_without_new_bars_is_an_alert_that_ends_with_the_next_one(begun):  # noqa: F811
    store, config, source = begun
    look(store, config, source, datetime(2025, 6, 22, 3, 0, 5, tzinfo=UTC))

    def seen(hour: int) -> bool:
        now = datetime(2025, 6, 22, hour, 0, 10, tzinfo=UTC)
        watched = watch(store, config, [], now=now)
        assert watched.state is not None
        tell_lateness(store, [], watched.state, now=now)
        return watched.state.fresh

    assert seen(14)
    assert not seen(15)
    (alarm,) = open_alerts(store)
    assert alarm.alert.title == "predictions are 1 bar(s) late"
    look(store, config, source, datetime(2025, 6, 22, 15, 0, 20, tzinfo=UTC))
    assert seen(16)
    assert open_alerts(store) == []
