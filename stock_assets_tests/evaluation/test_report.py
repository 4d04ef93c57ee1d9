import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import polars as pl
import pytest

from stock_assets.evaluation import breakdowns, classes, metrics
from stock_assets.evaluation.figures import FIGURES
from stock_assets.evaluation.report import Report, ReportFacts, render_report
from stock_assets.setting_values import LabelRule
from stock_assets_tests.evaluation.test_metrics import LABELS, PREDICTIONS

SIMULATED = ReportFacts("simulated", 12, date(2017, 7, 3), date(2018, 12, 31), LabelRule())
REAL = ReportFacts("snapshot", 12, date(2017, 7, 3), date(2018, 12, 31), LabelRule())
NAMED = PREDICTIONS.with_columns(pl.col("model").replace({"knowing": "rnn", "prior": "class_prior"}))
SCORED = metrics.scored_rows(NAMED, LABELS)
SCORES = metrics.score_table(SCORED)
VOLATILITY = SCORED.select("session").unique().with_columns(volatility=pl.col("session").dt.ordinal_day())
#: The signature and the size, 900 by 360, of a picture; nobody looks at the rest.
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x03\x84\x00\x00\x01\x68 not really"
SECTORS = pl.DataFrame({"ticker": SCORED["ticker"].unique().sort(), "sector": ["Energy", "Retail"] * 6})
TABLES = {
    "walk_forward": SCORES,
    "leakage": pl.DataFrame(
        {
            "protocol": ["honest", "cheating"],
            "model": ["logistic", "persistence"],
            "accuracy": [0.438, 0.7398],
            "rmse": [1.0, 0.695],
            "ordinal_rmse": [0.82, None],
            "log_loss": [1.03, None],
            "note": ["the features", "yesterday's <label>"],
        }
    ),
    "lag_sweep": pl.DataFrame(
        {"lag": [1, 7], "honest": [False, True], "rows": [1234, 1000], "accuracy": [0.74, 0.39], "rmse": [0.69, 1.1]}
    ),
    "market": pl.DataFrame(
        {"portfolio": ["top tenth", "market"], "sessions": [250, 250], "growth": [1.3, 1.2], "yearly": [0.31, 0.21]}
        | {"volatility": [0.2, 0.15], "sharpe": [1.4, 1.2], "drawdown": [-0.1, -0.08], "excess": [0.0004, None]}
        | {"excess_low": [-0.0001, None], "excess_high": [0.0009, None]}
    ),
    "survivorship": pl.DataFrame(
        {"score": ["log_loss", "accuracy", "rank_ic", "daily_return"]}
        | {"then": [1.02, 0.44, 0.01, 0.0004], "now": [1.01, 0.45, 0.02, 0.0005]}
        | {"difference": [-0.01, 0.01, 0.01, 0.0001], "low": [-0.02, 0.0, 0.0, 0.00005]}
        | {"high": [-0.005, 0.02, 0.02, 0.0002]}
    ),
    "spread": breakdowns.decile_spread(SCORED),
    "regimes": breakdowns.by_regime(SCORED, VOLATILITY),
    "tickers": breakdowns.by_ticker(SCORED, "rnn"),
    "sectors": breakdowns.by_sector(SCORED, "rnn", SECTORS),
    "classification": classes.classification_report(classes.confusion_table(SCORED), "rnn"),
    "ablation": pl.DataFrame(
        {"inputs": ["price and volume"] * 2, "year": [2019, None], "columns": [8, 8], "rows": [2345, 2345]}
        | {"accuracy": [0.41, 0.41], "log_loss": [1.0456, 1.0456]}
    ),
    "suspects": pl.DataFrame({"reason": ["frozen quote"], "rows": [4321]}),
    "coming": pl.DataFrame(
        {"reaction_session": [date(2019, 1, 16)], "companies": [14], "tickers": ["A<B, C and 12 more"]}
    ),
    "reactions": pl.DataFrame(
        {"ticker": ["AAA"], "reaction_session": [date(2018, 12, 20)], "day": [date(2018, 12, 19)], "moment": ["post"]}
        | {"origin": ["filed"], "total_return": [-0.123], "residual_return": [-0.117]}
    ),
    "input_value": pl.DataFrame(
        {"model": "rnn", "group": ["peers", "peers", "peers", "<tone>"], "way": ["left_out"] * 3 + ["added"]}
        | {"metric": ["log_loss", "accuracy", "rank_ic", "log_loss"], "difference": [-0.0123, 0.002, None, None]}
        | {"low": [-0.0222, -0.001, None, None], "high": [-0.0011, 0.005, None, None], "score": [1.01, 0.4, None, None]}
        | {"columns": [7, 7, 7, 1], "rows": 98765, "years": "2018, 2019", "seeds": 2, "variants": 40}
        | {"note": [None, None, None, "no row of <texts>"]}
    ),
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


def rendered(title: str, tables: Mapping[str, pl.DataFrame], figures: Mapping[str, bytes], facts: ReportFacts) -> str:
    return render_report(Report(title, tables, figures, facts))


def test_one_page_holds_every_section_and_needs_nothing_else():
    html = rendered("How good?", TABLES, dict.fromkeys(FIGURES, PNG), REAL)
    page = Page(html)
    for section in (
        "Walk-forward scores",
        "Calibration",
        "Class by class",
        "Confusion",
        "Rank IC",
        "Decile spread",
        "Compared with the market",
        "Survivorship bias",
        "Calm and stormy markets",
        "Ticker by ticker",
        "Sector by sector",
        "Announcements",
        "A<B, C and 12 more",
        "-11.7 %",
        "Leakage audit",
        "Suspect rows",
        "The study's own figures",
        "Most of the skill is volatility".lower(),
        "Differences below .005 in one year are noise",
    ):
        assert section in page.text
    assert "It cannot be had:" in html
    assert html.count('href="../tear_sheet/index.html"') == 2
    pictures = [address for address in page.addresses if not address.startswith(("#", "../tear_sheet/"))]
    assert pictures == [f"data:image/png;base64,{b64encode(PNG).decode()}"] * len(FIGURES)
    assert html.count('loading="lazy" decoding="async"') == html.count('width="900" height="360"') == len(FIGURES)
    assert html.count("<figcaption>") == len(FIGURES)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media (max-width" in html
    assert "prefers-color-scheme: dark" in html


def test_every_entry_of_the_contents_leads_to_a_section_and_every_section_has_one():
    for tables, figures in ((TABLES, dict.fromkeys(FIGURES, PNG)), ({"walk_forward": SCORES}, {"calibration": PNG})):
        html = rendered("t", tables, figures, REAL)
        entries = [address[1:] for address in Page(html).addresses if address.startswith("#")]
        assert entries == re.findall(r'<h2 id="([a-z-]+)">', html)
        assert entries


def test_classes_tickers_and_sectors_of_the_best_model_are_told():
    html = rendered("t", TABLES, {}, REAL)
    text, report = Page(html).text, TABLES["classification"]
    for column in ("precision", "recall", "f1"):
        assert f"{report[column][0]:.4f}" in text
    assert f"{report['support'][0]:,}" in text
    assert re.search(r"Energy\s*[\d.]+ %", text)
    assert "1.0456" in text
    assert "rnn: half of its 12 tickers" in text
    assert (
        re.findall(r"<tr><td>(T\d+)", html.split("The worst")[1])[:2] == TABLES["tickers"]["ticker"].to_list()[:-3:-1]
    )


def test_where_no_sector_is_known_one_line_says_so():
    text = Page(rendered("t", TABLES | {"sectors": TABLES["sectors"].clear()}, {}, REAL)).text
    assert "The source snapshot states no sector of any ticker" in text
    assert "Sector by sector" in text


def test_what_each_input_is_worth_is_said_with_how_sure_that_is():
    html = rendered("t", TABLES, {"input_values": PNG}, REAL)
    text = Page(html).text
    for part in ("What each input is worth", "model years 2018, 2019, 98,765 rows, 2 trainings of each", "helps"):
        assert part in text
    assert "Of 40 comparisons the intervals of about 2 miss 0 by luck" in text
    assert "mostly volatility known in advance" in text
    (row,) = re.findall(r"<tr><td class=\"text\">peers</td>.*</tr>", html)
    assert re.sub(r"<[^>]+>", " ", row).split() == [
        *("peers", "left", "out", "7", "-0.0123", "[-0.0222,", "-0.0011]"),
        *("+0.0020", "[-0.0010,", "+0.0050]", "–", "helps"),
    ]
    assert "&lt;tone&gt;: no row of &lt;texts&gt;" in html


def test_where_no_input_was_measured_one_line_says_how():
    html = rendered("t", TABLES | {"input_value": TABLES["input_value"].clear()}, {}, REAL)
    assert "Not measured yet: materialize the asset input_value, then this report again." in Page(html).text


def test_the_market_and_the_survivors_stand_beside_the_model():
    text = Page(rendered("t", TABLES, {}, REAL)).text
    assert "SPY bought once and held, with its dividends" in text
    assert "4.0[-1.0, 9.0]" in text
    assert "mean return, bp a day" in text
    assert "-0.0100[-0.0200, -0.0050]" in text
    none = Page(rendered("t", TABLES | {"survivorship": TABLES["survivorship"].clear()}, {}, REAL)).text
    assert "no ticker ever left this universe" in none


def test_thirteen_models_make_one_row_each_in_tables_that_scroll():
    names = [f"model_{i}" for i in range(12)]
    many = pl.concat([SCORES, *(SCORES.filter(pl.col("model") == "rnn").with_columns(model=pl.lit(n)) for n in names)])
    one = TABLES["regimes"].filter(pl.col("model") == "rnn")
    regimes = pl.concat([TABLES["regimes"], *(one.with_columns(model=pl.lit(n)) for n in names)])
    html = rendered("t", TABLES | {"walk_forward": many, "regimes": regimes}, {}, REAL)
    table = html.split('<h2 id="scores">')[1].split("<details>")[0]
    assert table.count("<tr") == 1 + 14
    assert html.split('<h2 id="regimes">')[1].split("</table>")[0].count("<tr") == 1 + 14
    assert html.count("<table>") == html.count('<div class="scroll"><table>')
    assert len(html) < 200_000


def test_a_regime_is_read_against_its_own_naive_baseline():
    html = rendered("t", TABLES, {}, REAL).split('<h2 id="regimes">')[1].split("</table>")[0]
    rows = {(r["regime"], r["model"]): r for r in TABLES["regimes"].iter_rows(named=True)}
    assert re.findall(r"<th[^>]*>([a-z]+)</th>", html) == ["model", "calm", "normal", "stormy"]
    for model in ("rnn", "class_prior"):
        cells = re.findall(r"<td>([\d.]+)<small>", html.split(f"<td>{model}</td>")[1].split("</tr>")[0])
        assert cells == [f"{rows[regime, model]['log_loss']:.4f}" for regime in ("calm", "normal", "stormy")]
    for regime in ("calm", "normal", "stormy"):
        gain = rows[regime, "class_prior"]["log_loss"] - rows[regime, "rnn"]["log_loss"]
        assert f"{gain:+.4f} gained, {100 * rows[regime, 'rnn']['accuracy']:.1f} %" in html
    without = TABLES["regimes"].filter((pl.col("model") != "rnn") | (pl.col("regime") != "normal"))
    html = rendered("t", TABLES | {"regimes": without}, {}, REAL).split('<h2 id="regimes">')[1]
    assert re.findall(r"<td>([–\d.]+)<?", html.split("<td>rnn</td>")[1].split("</tr>")[0])[1] == "–"


def test_scores_stand_beside_their_intervals_and_the_best_naive_baseline():
    text = Page(rendered("How good?", TABLES, {}, REAL)).text
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
    assert "no model beats the naive baseline" in Page(rendered("t", {"walk_forward": only}, {}, REAL)).text


def test_simulated_prices_are_called_so_and_real_ones_are_not():
    assert "SIMULATED" in Page(rendered("t", TABLES, {}, SIMULATED)).text
    assert "SIMULATED" not in rendered("t", TABLES, {}, REAL)


def test_it_says_what_the_models_lack():
    text = "The models lack ^VIX: <none>. It costs about .005 of log-loss."
    page = rendered("Evaluation", TABLES, {}, replace(REAL, absent=(text,)))
    assert '<div class="banner absent">The models lack ^VIX: &lt;none&gt;. It costs' in page
    assert "The models lack" not in rendered("Evaluation", TABLES, {}, REAL)


def test_text_from_data_is_escaped():
    html = rendered("<script>alert(1)</script>", TABLES, {}, REAL)
    assert "<script>" not in html
    assert "yesterday&#39;s &lt;label&gt;" in html


def test_sections_without_content_are_left_out_and_no_suspects_are_said():
    text = Page(rendered("t", {"walk_forward": SCORES}, {}, REAL)).text
    assert "Leakage audit" not in text
    assert "Calibration" not in text
    none = rendered("t", {"walk_forward": SCORES, "suspects": TABLES["suspects"].clear()}, {}, REAL)
    assert "no label touches a suspect bar" in Page(none).text


def test_unknown_or_missing_parts_are_named():
    with pytest.raises(ValueError, match="table, picture is no part of the report"):
        rendered("t", TABLES | {"table": SCORES}, {"picture": PNG}, REAL)
    with pytest.raises(ValueError, match="walk_forward is missing"):
        rendered("t", {}, {}, REAL)
