import re
from base64 import b64encode
from datetime import date
from html.parser import HTMLParser

import polars as pl
import pytest

from stock_assets.evaluation import breakdowns, metrics
from stock_assets.evaluation.report import ReportFacts, render_report
from stock_assets_tests.evaluation.test_metrics import LABELS, PREDICTIONS

SIMULATED = ReportFacts("simulated", 12, date(2017, 7, 3), date(2018, 12, 31))
REAL = ReportFacts("snapshot", 12, date(2017, 7, 3), date(2018, 12, 31))
NAMED = PREDICTIONS.with_columns(pl.col("model").replace({"knowing": "rnn", "prior": "class_prior"}))
SCORES = metrics.walk_forward_table(NAMED, LABELS)
SCORED = metrics.scored_rows(NAMED, LABELS)
VOLATILITY = SCORED.select("session").unique().with_columns(volatility=pl.col("session").dt.ordinal_day())
PNG = b"\x89PNG\r\n\x1a\n not really"
TABLES = {
    "walk_forward": SCORES,
    "leakage": pl.DataFrame(
        {
            "protocol": ["honest", "cheating"],
            "model": ["logistic", "persistence"],
            "accuracy": [0.438, 0.7398],
            "rmse": [1.0, 0.695],
            "log_loss": [1.03, None],
            "note": ["the features", "yesterday's <label>"],
        }
    ),
    "lag_sweep": pl.DataFrame(
        {"lag": [1, 7], "honest": [False, True], "rows": [1234, 1000], "accuracy": [0.74, 0.39], "rmse": [0.69, 1.1]}
    ),
    "spread": breakdowns.decile_spread(SCORED),
    "regimes": breakdowns.by_regime(SCORED, VOLATILITY),
    "tickers": breakdowns.by_ticker(SCORED, "rnn"),
    "suspects": pl.DataFrame({"reason": ["frozen quote"], "rows": [4321]}),
}


class Page(HTMLParser):
    """The text, the tags and the addresses of a page; fails on tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_one_page_holds_every_section_and_needs_nothing_else():
    html = render_report("How good?", TABLES, {"calibration": PNG, "confusion": PNG, "rank_ic": PNG}, REAL)
    page = Page(html)
    for section in (
        "Walk-forward scores",
        "Calibration",
        "Confusion",
        "Rank IC",
        "Decile spread",
        "Calm and stormy markets",
        "Ticker by ticker",
        "Leakage audit",
        "Suspect rows",
    ):
        assert section in page.text
    assert page.addresses == [f"data:image/png;base64,{b64encode(PNG).decode()}"] * 3
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media (max-width" in html


def test_scores_stand_beside_their_intervals_and_the_best_naive_baseline():
    text = Page(render_report("How good?", TABLES, {}, REAL)).text
    best = SCORES.row(by_predicate=(pl.col("model") == "rnn") & pl.col("year").is_null(), named=True)
    naive = SCORES.row(by_predicate=(pl.col("model") == "class_prior") & pl.col("year").is_null(), named=True)
    assert f"{best['log_loss']:.4f} [{best['log_loss_low']:.4f}, {best['log_loss_high']:.4f}]" in text
    assert f"{naive['log_loss'] - best['log_loss']:.4f}" in text
    assert re.search(r"Best naive baseline\s*class_prior", text)
    assert re.search(r"Best model\s*rnn", text)
    assert "73.98 %" in text
    assert "frozen quote" in text
    assert "4,321" in text


def test_it_says_when_nothing_beats_the_naive_baseline():
    only = SCORES.filter(pl.col("model") == "class_prior")
    assert "no model beats the naive baseline" in Page(render_report("t", {"walk_forward": only}, {}, REAL)).text


def test_simulated_prices_are_called_so_and_real_ones_are_not():
    assert "SIMULATED" in Page(render_report("t", TABLES, {}, SIMULATED)).text
    assert "SIMULATED" not in render_report("t", TABLES, {}, REAL)


def test_text_from_data_is_escaped():
    html = render_report("<script>alert(1)</script>", TABLES, {}, REAL)
    assert "<script>" not in html
    assert "yesterday&#39;s &lt;label&gt;" in html


def test_sections_without_content_are_left_out_and_no_suspects_are_said():
    text = Page(render_report("t", {"walk_forward": SCORES}, {}, REAL)).text
    assert "Leakage audit" not in text
    assert "Calibration" not in text
    none = render_report("t", {"walk_forward": SCORES, "suspects": TABLES["suspects"].clear()}, {}, REAL)
    assert "no label touches a suspect bar" in Page(none).text


def test_unknown_or_missing_parts_are_named():
    with pytest.raises(ValueError, match="table, picture is no part of the report"):
        render_report("t", TABLES | {"table": SCORES}, {"picture": PNG}, REAL)
    with pytest.raises(ValueError, match="walk_forward is missing"):
        render_report("t", {}, {}, REAL)
