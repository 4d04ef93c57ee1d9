"""Scores and report of bars, against scikit-learn, scipy and loops."""

import math
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import classification_report, log_loss, mean_squared_error

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.evaluation.bar_report import BarReportFacts, bar_markdown, make_bar_report, render_bar_report
from stock_assets.evaluation.bar_scores import SCORES, bar_score_table, by_day, scored_bars
from stock_assets.features.bar_labels import BarLabelRule
from stock_assets.features.bar_tables import BAR_LABELS
from stock_assets.frames import BAR_KEYS, PROBABILITIES

RULE = BarLabelRule(horizon_bars=5)
FACTS = BarReportFacts("simulated", "1m", RULE)
NAIVE = ("class_prior", "time_prior")
START = datetime(2025, 6, 2, tzinfo=UTC)
MODELS = ("bar_rnn", "class_prior", "time_prior", "trees")


def bars(days: int = 6, minutes: int = 60, tickers: int = 6, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(predictions of MODELS, labels). `trees` knows a little of the return, the naive ones nothing."""
    rng = np.random.default_rng(seed)
    keys = pl.DataFrame(
        [
            (f"T{i}", (START + timedelta(days=day)).date(), START + timedelta(days=day, minutes=minute + 1))
            for i in range(tickers)
            for day in range(days)
            for minute in range(minutes)
        ],
        schema={"ticker": pl.String, "session": pl.Date, "bar_end": pl.Datetime("us", "UTC")},
        orient="row",
    )
    future = 1e-3 * rng.standard_t(4, keys.height)
    label = np.where(future > 1e-3, 1, np.where(future < -1e-3, -1, 0))
    labels = keys.with_columns(
        known_at=pl.col("bar_end") + pl.duration(minutes=5),
        future_return=pl.Series(future),
        direction=pl.Series(np.sign(future).astype(np.int8)),
        label=pl.Series(label.astype(np.int8)),
    )
    parts = []
    for i, model in enumerate(MODELS):
        hint = future / 1e-3 if model == "trees" else np.zeros(keys.height)
        logits = np.column_stack([-0.3 * hint, np.full(keys.height, 0.5), 0.3 * hint]) + (
            0 if model in NAIVE else 0.2 * rng.normal(size=(keys.height, 3))
        )
        p = np.exp(logits + (0.05 * i if model in NAIVE else 0) * np.array([0, 1, 0]))
        p /= p.sum(axis=1, keepdims=True)
        parts.append(
            keys.with_columns(
                model=pl.lit(model),
                trained_through=pl.lit(START),
                expected_return=pl.Series(2e-4 * hint),
                **{name: pl.Series(p[:, k]) for k, name in enumerate(PROBABILITIES)},
                score=pl.Series(p[:, 2] - p[:, 0]),
            )
        )
    return pl.concat(parts), labels


PREDICTIONS, LABELS = bars()


@pytest.fixture(scope="module")
def report():
    return make_bar_report(PREDICTIONS, LABELS, FACTS, naive=NAIVE)


def scores_of(predictions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    return bar_score_table(by_day(scored_bars(predictions, labels), horizon_bars=5), NAIVE)


def own_rows(model: str) -> pl.DataFrame:
    return PREDICTIONS.filter(pl.col("model") == model).join(LABELS, on=BAR_KEYS).sort(BAR_KEYS)


# ---------------------------------------------------------------- scores, against independent answers


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_scikit_learn_and_scipy(report: Any, model: str):
    rows = own_rows(model)
    score = report.scores.filter(pl.col("model") == model).row(0, named=True)
    truth, returns = rows["label"].to_numpy(), rows["future_return"].to_numpy()
    assert score["log_loss"] == pytest.approx(log_loss(truth, rows.select(PROBABILITIES).to_numpy(), labels=[-1, 0, 1]))
    squares = mean_squared_error(returns, rows["expected_return"]), mean_squared_error(returns, np.zeros(len(returns)))
    assert score["mse_ratio"] == pytest.approx(squares[0] / squares[1])
    guesses = rows.select(PROBABILITIES).to_numpy().argmax(axis=1) - 1
    assert score["accuracy"] == pytest.approx((guesses == truth).mean())
    naive = min(
        log_loss(own_rows(n)["label"], own_rows(n).select(PROBABILITIES).to_numpy(), labels=[-1, 0, 1]) for n in NAIVE
    )
    assert score["log_loss_gain"] == pytest.approx(naive - score["log_loss"])
    theirs = classification_report(truth, guesses, labels=[-1, 0, 1], output_dict=True, zero_division=np.nan)
    assert isinstance(theirs, dict)
    for name, label in (("sell", "-1"), ("hold", "0"), ("buy", "1")):
        ours = report.classes[model].filter(pl.col("class") == name).row(0, named=True)
        for column, key in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "f1-score"),
            ("support", "support"),
        ):
            value = theirs[label][key]
            assert ours[column] == (None if math.isnan(value) else pytest.approx(value))


def test_rank_ic_is_the_mean_over_days_of_scipys_over_tickers(report: Any):
    rows = own_rows("trees")
    by_bar = {
        (session, end): spearmanr(own["score"], own["future_return"]).statistic
        for (session, end), own in rows.group_by("session", "bar_end")
    }
    sessions = {session for session, _ in by_bar}
    daily = [np.mean([ic for (own, _), ic in by_bar.items() if own == session]) for session in sessions]
    score = report.scores.filter(pl.col("model") == "trees").row(0, named=True)
    assert score["rank_ic"] == pytest.approx(np.mean(daily))
    assert score["rank_ic"] > 0.1
    # a score that is the same for all tickers ranks none
    assert report.scores.filter(pl.col("model") == "class_prior")["rank_ic"].item() is None


def test_fewer_than_five_tickers_are_not_ranked():
    predictions, labels = bars(tickers=4)
    made = make_bar_report(predictions, labels, FACTS, naive=NAIVE)
    assert made.scores["rank_ic"].null_count() == len(MODELS)
    assert "–" in bar_markdown(made)


def test_what_acting_earns_is_what_a_loop_over_sleeves_earns(report: Any):
    horizon, spread = RULE.horizon_bars, FACTS.spread
    for model in ("trees", "bar_rnn"):
        days: dict[date, list[float]] = {}
        for _, own in own_rows(model).group_by("ticker", maintain_order=True):
            sides, held = [], 0.0
            rows = own.to_dicts()
            for i, row in enumerate(rows):
                sides.append(float(np.sign(row["score"])))
                now = sum(sides[-horizon:]) / horizon
                turnover = abs(now - held) + (abs(now) if i == len(rows) - 1 else 0.0)
                held = now
                day = days.setdefault(row["session"], [0.0, 0.0])
                day[0] += sides[-1] * row["future_return"] / horizon / 6
                day[1] += turnover / 6
        ours = report.days.filter(pl.col("model") == model)
        for row in ours.iter_rows(named=True):
            gross, turnover = days[row["session"]]
            assert row["gross"] == pytest.approx(gross)
            assert row["turnover"] == pytest.approx(turnover)
            assert row["net"] == pytest.approx(gross - spread * turnover)


def test_a_score_that_names_no_side_trades_nothing_and_dearer_trading_never_helps():
    flat = PREDICTIONS.with_columns(score=pl.lit(0.0))
    days = by_day(scored_bars(flat, LABELS), horizon_bars=5)
    assert days.select("gross", "net", "turnover").sum().row(0) == (0.0, 0.0, 0.0)
    scored = scored_bars(PREDICTIONS, LABELS)
    cheap, dear = (by_day(scored, horizon_bars=5, spread=spread) for spread in (0.0, 0.01))
    assert (cheap["net"] == cheap["gross"]).all()
    assert (dear["net"] <= cheap["net"]).all()
    assert (dear["gross"] == cheap["gross"]).all()


def test_intervals_are_of_days_and_hold_the_score(report: Any):
    for row in report.scores.iter_rows(named=True):
        for name in SCORES:
            if row[name] is not None:
                assert row[f"{name}_low"] <= row[name] + 1e-12
                assert row[f"{name}_high"] >= row[name] - 1e-12
    # the same six daily losses, drawn by day
    rows = (
        own_rows("trees")
        .group_by("session")
        .agg(
            pl.len(),
            loss=-pl.when(pl.col("label") == 1)
            .then(pl.col("p_buy").log())
            .when(pl.col("label") == 0)
            .then(pl.col("p_hold").log())
            .otherwise(pl.col("p_sell").log())
            .mean(),
        )
        .sort("session")
    )
    draws = np.random.default_rng(5).integers(0, rows.height, (4000, rows.height))
    means = rows["loss"].to_numpy()[draws].mean(axis=1)
    score = report.scores.filter(pl.col("model") == "trees").row(0, named=True)
    width = score["log_loss_high"] - score["log_loss_low"]
    assert width == pytest.approx(np.quantile(means, 0.975) - np.quantile(means, 0.025), rel=0.15)


def test_a_day_counted_hundredfold_makes_no_interval_narrower():
    """Rows of one day are one observation: the same days with every bar thrice say no more."""
    one = scores_of(PREDICTIONS, LABELS)
    copies = [frame.with_columns(ticker=pl.col("ticker") + str(k)) for k in range(3) for frame in (PREDICTIONS,)]
    labels = [LABELS.with_columns(ticker=pl.col("ticker") + str(k)) for k in range(3)]
    three = scores_of(pl.concat(copies), pl.concat(labels))
    for name in ("log_loss", "log_loss_gain", "mse_ratio"):
        for end in ("", "_low", "_high"):
            np.testing.assert_allclose(three[f"{name}{end}"], one[f"{name}{end}"], atol=1e-12)


def test_a_model_without_a_naive_one_beside_it_has_no_gain():
    alone = PREDICTIONS.filter(pl.col("model") == "trees")
    made = make_bar_report(alone, LABELS, FACTS, naive=NAIVE)
    assert made.naive is None
    assert made.judged == "trees"
    assert made.scores["log_loss_gain"].item() is None
    assert "daily_gain" not in made.figures
    assert "trees" in render_bar_report(made)


def test_the_best_naive_model_is_the_one_with_the_lowest_loss_on_these_rows(report: Any):
    losses = {row["model"]: row["log_loss"] for row in report.scores.iter_rows(named=True)}
    assert report.naive == min(NAIVE, key=lambda name: losses[name])
    assert report.scores.filter(pl.col("model") == report.naive)["log_loss_gain"].item() == 0.0


# ---------------------------------------------------------------- which rows count


def test_models_are_compared_on_the_rows_that_all_of_them_predicted():
    fewer = PREDICTIONS.filter((pl.col("model") != "trees") | (pl.col("bar_end").dt.minute() > 30))
    assert scores_of(fewer, LABELS)["rows"].unique().to_list() == [
        LABELS.filter(pl.col("bar_end").dt.minute() > 30).height
    ]


def test_predictions_whose_label_is_not_known_are_left_out():
    waiting = LABELS.with_columns(pl.when(pl.col("ticker") != "T0").then("label").alias("label"))
    assert set(scored_bars(PREDICTIONS, waiting)["ticker"]) == {"T1", "T2", "T3", "T4", "T5"}
    with pytest.raises(StockAssetsError, match="whose horizon is over"):
        scored_bars(PREDICTIONS, BAR_LABELS.empty())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda rows: rows.with_columns(trained_through="bar_end"), CutoffError, "expected a cutoff before the end"),
        (lambda rows: pl.concat([rows, rows.tail(1)]), StockAssetsError, "one per model, ticker and bar_end"),
        (lambda rows: rows.with_columns(p_buy=pl.lit(0.9)), StockAssetsError, "probabilities that sum to 1"),
        (lambda rows: rows.with_columns(p_buy=pl.lit(float("nan"))), StockAssetsError, "finite probabilities"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(change: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        scored_bars(change(PREDICTIONS), LABELS)


# ---------------------------------------------------------------- the page


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.text, self.ids = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "href") if values.get(name)]
        if values.get("id"):
            self.ids.add(values["id"])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_else_and_shows_every_model(report: Any):
    page = Page(render_bar_report(report))
    assert "script" not in page.tags
    assert page.tags.count("img") == len(report.figures) == 4
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids
    text = " ".join(page.text)
    for model in MODELS:
        assert model in text
    assert "SIMULATED." in text
    assert f"{report.scores['log_loss'][0]:.4f}" in text
    assert "the return is not forecast" in text  # bar_rnn expects none


def test_real_bars_have_no_banner_and_a_gain_that_may_be_luck_is_called_so():
    made = make_bar_report(PREDICTIONS, LABELS, BarReportFacts("snapshot", "1m", RULE), naive=NAIVE)
    text = render_bar_report(made)
    assert "SIMULATED" not in text
    row = made.scores.filter(pl.col("model") == "bar_rnn").row(0, named=True)
    assert ("not told from luck" in text) == (row["log_loss_gain_low"] <= 0 <= row["log_loss_gain_high"])


def test_names_of_models_are_escaped():
    strange = PREDICTIONS.with_columns(pl.col("model").replace("trees", "<b>trees|x"))
    made = make_bar_report(strange, LABELS, FACTS, naive=NAIVE)
    assert "<b>trees" not in render_bar_report(made)
    assert "|x" not in bar_markdown(made).replace("\\|x", "")


def test_the_markdown_table_has_a_row_of_each_model(report: Any):
    lines = bar_markdown(report).splitlines()
    assert len(lines) == 2 + len(MODELS)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_same_rows_make_the_same_report(report: Any):
    again = make_bar_report(PREDICTIONS.sample(fraction=1.0, shuffle=True, seed=1), LABELS, FACTS, naive=NAIVE)
    assert again.scores.equals(report.scores)
    assert render_bar_report(again) == render_bar_report(report)


def test_scores_of_no_return_at_all_are_null_and_not_a_crash():
    still = LABELS.with_columns(future_return=pl.lit(0.0), direction=pl.lit(0, pl.Int8), label=pl.lit(0, pl.Int8))
    days = by_day(scored_bars(PREDICTIONS, still), horizon_bars=5)
    table = bar_score_table(days, NAIVE)
    assert table["mse_ratio"].null_count() == table.height
    assert table["log_loss"].null_count() == 0
