"""What the screens show, against independent computations on the published files."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from math import ceil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stock_assets.publication.read import Publication
from stock_assets.serving.pages.alerts import OpenAlerts, read_alerts, troubles
from stock_assets.serving.pages.announcements import announcements_view
from stock_assets.serving.pages.api import ApiFigures, api_view, figures_of
from stock_assets.serving.pages.screens import card_screen, inputs_screen, mlflow_address, models_screen, skill_screen
from stock_assets.serving.pages.signals import signals_view
from stock_assets.serving.pages.ticker import chart_data, ticker_view
from stock_assets.serving.pages.today import lag_of, today_view
from stock_assets_tests.serving.pages.conftest import published
from stock_assets_tests.serving.pages.markets import MODELS, RUN, market

NONE = OpenAlerts()


def all_predictions(publication: Publication) -> pl.DataFrame:
    return pl.concat(
        publication.predictions(day).with_columns(session=pl.lit(day)) for day in publication.pointer.sessions
    )


def test_an_evening_that_went_well(rich: Publication):
    now = rich.pointer.published_at + timedelta(hours=1)
    view = today_view(rich, read_alerts(rich.folder), now)
    assert (view.verdict.state, view.session, view.lag and view.lag.behind) == ("usable", date(2026, 11, 20), 0)
    assert "1 alert is open: read below before use." in view.verdict.why
    assert view.published_local == "Fri 20 Nov 16:47 EST"
    rows = rich.predictions(date(2026, 11, 20)).filter(pl.col("model").is_null() | (pl.col("model") == "rnn"))
    assert view.predicted == (rows["status"] == "predicted").sum() == 58
    assert sorted((group.reason, group.count) for group in view.absent) == sorted(
        rows.filter(pl.col("status") == "left_out").group_by("reason").len().rows()
    )
    best = rows.drop_nulls("score").sort("score", descending=True)
    assert [call.ticker for call in view.buys] == best["ticker"].head(5).to_list()
    assert [call.ticker for call in view.sells] == best["ticker"].tail(5).reverse().to_list()
    assert view.lead == pytest.approx(1.0821 - 1.0712)
    assert (view.version, view.age, view.trained_through) == (MODELS["rnn"], 225, date(2025, 12, 31))
    assert view.live_lead == skill_screen(rich).advantage
    assert [(check.check, check.blocks) for check in view.checks] == [("inputs_are_alike", False)]
    assert view.alerts[0].run == f"http://127.0.0.1:3000/runs/{RUN}"


@pytest.mark.parametrize(
    ("at", "behind"),
    [
        (datetime(2026, 11, 20, 22, tzinfo=UTC), 0),
        (datetime(2026, 11, 22, 22, tzinfo=UTC), 0),  # a weekend makes nothing late
        (datetime(2026, 11, 23, 23, 29, tzinfo=UTC), 0),  # due at 21:30, late two hours afterwards
        (datetime(2026, 11, 23, 23, 30, tzinfo=UTC), 1),
        (datetime(2026, 11, 25, 23, 45, tzinfo=UTC), 3),
        (datetime(2027, 11, 25, tzinfo=UTC), 5),
    ],
)
def test_lag_follows_the_calendar(rich: Publication, at: datetime, behind: int):
    lag = lag_of(rich.pointer.facts, date(2026, 11, 20), at)
    assert lag.behind == behind
    assert ("at least" in lag.reason) == (behind == 5)
    assert today_view(rich, NONE, at).verdict.state == ("late" if behind else "usable")


def test_a_snapshot_that_ended_is_not_late(rich: Publication):
    facts = replace(rich.pointer.facts, upcoming=())
    lag = lag_of(facts, date(2026, 11, 20), datetime(2030, 1, 1, tzinfo=UTC))
    assert (lag.behind, lag.coming) == (0, None)
    assert "the calendar ends at 2026-11-20" in lag.reason


def test_an_empty_store_says_so():
    view = today_view(None, NONE, datetime(2026, 11, 20, tzinfo=UTC))
    assert view.verdict.title == "Not usable: nothing is published yet"
    assert signals_view(None).predicted == skill_screen(None).scored == inputs_screen(None).columns == 0
    assert models_screen(None).versions == ()


def test_a_failed_check_forbids_use(rich: Publication, monkeypatch: pytest.MonkeyPatch):
    tables = {name: rich.monitoring(name) for name in ("checks",)}
    failed = tables["checks"].with_columns(passed=pl.col("check") != "probabilities_sum_to_one")
    monitoring = Publication.monitoring
    monkeypatch.setattr(
        Publication, "monitoring", lambda self, name: failed if name == "checks" else monitoring(self, name)
    )
    view = today_view(rich, NONE, rich.pointer.published_at)
    assert view.verdict.state == "unusable"
    assert view.verdict.why[0] == "The check probabilities_sum_to_one of predictions failed."


def test_alerts_that_are_damaged_or_over(tmp_path: Path):
    assert read_alerts(tmp_path) == NONE
    (tmp_path / "live").mkdir()
    file = tmp_path / "live" / "alerts.json"
    for text in ("[]", "{", '{"alerts": [3]}', '{"alerts": 3}', '{"alerts": [{}]}'):
        file.write_text(text)
        (trouble,) = troubles(read_alerts(tmp_path), None)
        assert trouble.title == "the open alerts cannot be read"
        assert "live/alerts.json is damaged" in trouble.text
        assert str(tmp_path) not in trouble.text
    file.write_text('{"alerts": [{"title": "a", "resolved_at": "2026-11-20T21:00:00+00:00"}, {"title": "b"}]}')
    assert [each.title for each in troubles(read_alerts(tmp_path), None)] == ["b"]
    both = read_alerts(tmp_path, trouble="current.json is damaged")
    assert [each.text for each in troubles(both, None)] == ["current.json is damaged", ""]
    assert both.digest != read_alerts(tmp_path).digest


def test_signals_against_the_files(rich: Publication):
    view = signals_view(rich)
    rows = all_predictions(rich).filter(pl.col("model") == "rnn")
    days = rich.pointer.sessions
    tonight = rows.filter(pl.col("session") == days[-1]).sort("score", descending=True)
    before = rows.filter(pl.col("session") == days[-2]).sort("score", descending=True)
    place = {ticker: i for i, ticker in enumerate(before["ticker"])}
    assert [call.ticker for call in view.buys] == tonight["ticker"].head(20).to_list()
    assert [call.moved for call in view.buys] == [place[t] - i for i, t in enumerate(tonight["ticker"].head(20))]
    top = [set(frame["ticker"].head(ceil(58 / 10))) for frame in (tonight, before)]
    assert view.turnover == pytest.approx(len(top[0] - top[1]) / 6)
    assert view.mean_score == pytest.approx(tonight["score"].mean())
    spread = view.spreads[0]
    counts, _ = np.histogram(tonight["p_buy"].to_numpy(), spread.edges)
    assert spread.tonight == pytest.approx(counts / 58)
    counts, _ = np.histogram(rows.filter(pl.col("session").is_in(days[-22:-1]))["p_buy"].to_numpy(), spread.edges)
    assert spread.before == pytest.approx(counts / (21 * 58))
    means = (
        tonight.join(rich.bars(days[-1]), on="ticker").group_by("sector").agg(pl.col("score").mean(), pl.len())
    ).sort("score", descending=True)
    assert [(row.sector, row.tickers) for row in view.sectors] == means.select("sector", "len").rows()


def test_skill_against_the_tables(rich: Publication):
    view = skill_screen(rich)
    sessions, rolling = rich.monitoring("sessions"), rich.monitoring("rolling_skill")
    assert view.scored == sessions["log_loss"].count() == 38
    last = rolling.filter(pl.col("session") == view.rolling_sessions[-1])
    own, naive = (last.filter(pl.col("model") == m)["log_loss"].item() for m in ("rnn", "naive"))
    assert (view.loss, view.advantage) == (own, pytest.approx(naive - own))
    expected, realised, _ = view.expected
    assert expected.values[-1] == pytest.approx(sessions["expected_log_loss"].tail(21).mean())
    assert realised.values[-1] is None, "its labels come a horizon later"
    assert realised.values[37] == pytest.approx(sessions["log_loss"][17:38].mean())
    assert [name for name, _, _ in view.reliability] == ["sell", "hold", "buy"]


def test_inputs_against_the_tables(rich: Publication):
    view, drift = inputs_screen(rich), rich.monitoring("drift")
    newest = drift.filter(pl.col("session") == drift["session"].max()).sort("psi", descending=True)
    assert [row["column"] for row in view.furthest] == newest["column"].head(10).to_list()
    assert view.changed == newest.filter(pl.col("psi") > 0.25).height
    cells = dict(zip(view.heat_columns, view.heat, strict=True))
    rows = drift.filter(pl.col("column") == "rsi_14").sort("session")["psi"].to_list()
    assert list(cells["rsi_14"]) == [0 if psi <= 0.10 else 1 if psi <= 0.25 else 2 for psi in rows]
    assert view.missing[0].values[-1] == pytest.approx(2 / 60)
    assert view.outcome_counts == (("halted", 1),)


def test_models_and_cards(rich: Publication):
    view = models_screen(rich)
    assert view.service
    assert view.service["version"] == MODELS["rnn"]
    assert view.versions[0]["model"] == "rnn"
    card = card_screen(rich, MODELS["rnn"])
    assert card
    assert card.mlflow == "http://127.0.0.1:5000/#/experiments/1/runs/ab12"
    assert [score.lead for score in card.scores] == [pytest.approx(1.0821 - 1.0712)]
    assert card_screen(rich, "rnn-1999") is None
    assert mlflow_address({"run": {"url": "javascript:alert(1)"}}) is None


def test_a_ticker_against_the_files(rich: Publication):
    view = ticker_view(rich, "SIM02")
    assert view
    rows = all_predictions(rich).filter(pl.col("model") == "rnn", pl.col("ticker") == "SIM02")
    assert [row["p_buy"] for row in view.rows] == rows["p_buy"].to_list()
    labels = {
        day: frame.filter(pl.col("ticker") == "SIM02")["label"].item()
        for day in rich.pointer.sessions
        if (frame := rich.outcomes(day)).height
    }
    said = {
        day: int(np.argmax(row)) - 1
        for day, row in zip(rows["session"], rows.select("p_sell", "p_hold", "p_buy").rows(), strict=True)
    }
    assert view.record
    assert view.record.scored == len(labels) == 38
    assert view.record.hits == pytest.approx(np.mean([said[day] == label for day, label in labels.items()]))
    assert {mark.look for mark in view.marks} == {"split", "dividend", "suspect"}
    data = chart_data(view)
    assert data["outcome"] == [
        None if day not in labels else {-1: "sell", 0: "hold", 1: "buy"}[labels[day]] for day in rich.pointer.sessions
    ]
    assert {call.sector for call in view.peers} == {"Information Technology"}
    assert "SIM02" in [call.ticker for call in view.peers]
    assert ticker_view(rich, "SIM60") is not None, "it is left out, and has a screen all the same"
    assert ticker_view(rich, "nothing") is None


def test_a_ticker_that_is_alone(alone: Publication):
    view = ticker_view(alone, "SIM01")
    assert view
    assert (view.record, view.sector_size, view.peers) == (None, 0, ())
    assert signals_view(alone).sells == ()
    assert skill_screen(alone).verdict.startswith("No label")


def test_the_calendar_of_announcements_and_the_last_reactions(rich: Publication):
    view = announcements_view(rich)
    rows = rich.monitoring("announcements")
    coming = rows.filter(pl.col("reaction_session") > date(2026, 11, 20))
    assert view.expected == coming.height > 0
    assert [day.session for day in view.days] == coming["reaction_session"].unique().sort().to_list()
    assert [row["ticker"] for day in view.days for _, group in day.groups for row in group] != []
    assert sum(len(group) for day in view.days for _, group in day.groups) == coming.height
    moves = [abs(row["residual_return"]) for row in view.reactions]
    assert moves == sorted(moves, reverse=True) != []
    ticker = ticker_view(rich, "SIM02")
    assert ticker is not None
    past = rows.filter(pl.col("ticker") == "SIM02", "happened").sort("reaction_session", descending=True)
    assert [row["residual_return"] for row in ticker.reactions] == past["residual_return"].to_list()
    assert announcements_view(None).days == ()


def test_the_lags_of_side_inputs_are_drawn(rich: Publication):
    view = inputs_screen(rich)
    assert [(lag.side_input, lag.rows) for lag in view.lags] == [("announcements", 8), ("fundamentals", 5)]
    assert all("below 0 known ahead" in lag.chart for lag in view.lags)
    assert len(view.lags[0].edges) == len(view.lags[0].shares) + 1


def test_500_tickers_stay_small(tmp_path: Path):
    from stock_assets.serving.pages.rendering import Moment, html

    of = market(500, 3)
    publication = published(tmp_path, of)
    view = signals_view(publication)
    assert (len(view.buys), len(view.sells)) == (20, 20)
    at = Moment(publication, NONE, publication.pointer.published_at)
    assert len(html("signals", at, "", title="Signals", here="/signals", view=view).content) < 150_000


def test_figures_of_the_process():
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    labels = ("route", "method", "status")
    requests = Counter("http_requests_total", "requests", labels, registry=registry)
    seconds = Histogram(
        "http_request_duration_seconds", "s", ("route", "method"), buckets=(0.1, 0.2), registry=registry
    )
    swaps = Counter("publication_swaps", "swaps", ("result",), registry=registry)
    swaps.labels("served").inc(3)
    for status, count in ((200, 8), (304, 1), (404, 1)):
        requests.labels("/v1/x", "GET", str(status)).inc(count)
    for _ in range(10):
        seconds.labels("/v1/x", "GET").observe(0.05)
    figures = figures_of(registry.collect())
    (route,) = figures.routes
    assert (route.route, route.requests, route.client_errors, route.server_errors) == ("/v1/x", 10, 1, 0)
    assert (route.p50, route.p99) == (pytest.approx(0.05), pytest.approx(0.099))
    assert figures.swaps == 3
    view = api_view(
        lambda: ApiFigures(datetime(2026, 1, 1, tzinfo=UTC), figures.routes), datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert (view.requests, view.client_errors, view.uptime) == (10, 1, "24 h 0 min")
    assert api_view(None, datetime(2026, 1, 1, tzinfo=UTC)).started_at is None
