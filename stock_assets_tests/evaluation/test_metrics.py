"""Every score against an independent plain loop."""

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.errors import CutoffError, StockAssetsError
from stock_assets.evaluation import bootstrap, classes, metrics
from stock_assets.market.calendar import trading_calendar

DAYS = trading_calendar("XNYS", date(2017, 7, 3), date(2018, 12, 31)).sessions
CUTOFF = date(2017, 6, 30)

Rows = list[tuple[int, tuple[float, float, float]]]


def guess(p: tuple[float, float, float]) -> int:
    return max((-1, 0, 1), key=lambda c: (p[c + 1], -c))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def naive_balanced(rows: Rows) -> float:
    recalls = []
    for c in (-1, 0, 1):
        of_class = [guess(p) == y for y, p in rows if y == c]
        if of_class:
            recalls.append(sum(of_class) / len(of_class))
    return mean(recalls)


def naive_f1(rows: Rows) -> float:
    scores = []
    for c in (-1, 0, 1):
        hits = sum(y == c == guess(p) for y, p in rows)
        wrong = sum((y == c) != (guess(p) == c) for y, p in rows)
        if hits + wrong:
            scores.append(hits / (hits + wrong / 2))
    return mean(scores)


ORACLES: dict[Callable[[np.ndarray, np.ndarray], float], Callable[[Rows], float]] = {
    metrics.accuracy: lambda rows: mean([guess(p) == y for y, p in rows]),
    metrics.balanced_accuracy: naive_balanced,
    metrics.macro_f1: naive_f1,
    metrics.log_loss: lambda rows: mean([-math.log(max(p[y + 1], 1e-15)) for y, p in rows]),
    metrics.brier: lambda rows: mean([sum((p[c + 1] - (y == c)) ** 2 for c in (-1, 0, 1)) for y, p in rows]),
    metrics.rmse: lambda rows: math.sqrt(mean([(guess(p) - y) ** 2 for y, p in rows])),
    metrics.ordinal_rmse: lambda rows: math.sqrt(mean([(p[2] - p[0] - y) ** 2 for y, p in rows])),
}

probability = st.tuples(*[st.integers(0, 9)] * 3).filter(any).map(lambda w: tuple(x / sum(w) for x in w))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(rows=st.lists(st.tuples(st.sampled_from((-1, 0, 1)), probability), min_size=1, max_size=30))
def test_scores_equal_plain_loops(rows: Rows):
    labels, probabilities = np.array([y for y, _ in rows]), np.array([p for _, p in rows])
    for score, oracle in ORACLES.items():
        assert score(labels, probabilities) == pytest.approx(oracle(rows), abs=1e-12), score.__name__


def test_certainty_about_the_wrong_class_costs_a_stated_maximum():
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0, 0.0]])) == pytest.approx(-math.log(1e-15))


def two_models(tickers: int = 12, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(predictions, labels) of a model that knows something and a prior that says the same to all."""
    rng = np.random.default_rng(seed)
    names = [f"T{i:02d}" for i in range(tickers)]
    keys = pl.DataFrame({"ticker": names * len(DAYS), "session": [day for day in DAYS for _ in names]})
    edge = rng.normal(size=keys.height)
    logits = np.stack([-edge, np.zeros_like(edge), edge], axis=1)
    label = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1) - 1
    labels = keys.with_columns(
        label=pl.Series(label, dtype=pl.Int8),
        forward_return_1=pl.Series(0.01 * edge + rng.normal(scale=0.03, size=len(edge))),
    )
    knowing = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = {"knowing": knowing, "prior": np.tile([0.3, 0.4, 0.3], (len(edge), 1))}
    predictions = pl.concat(
        keys.with_columns(
            model=pl.lit(model),
            model_version=pl.lit("v1"),
            trained_through=pl.lit(CUTOFF),
            p_sell=pl.Series(p[:, 0]),
            p_hold=pl.Series(p[:, 1]),
            p_buy=pl.Series(p[:, 2]),
            score=pl.Series(p[:, 2] - p[:, 0]),
        )
        for model, p in answers.items()
    )
    return predictions, labels


PREDICTIONS, LABELS = two_models()


def ranks(values: list[float]) -> list[float]:
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def correlation(a: list[float], b: list[float]) -> float:
    x, y = [v - mean(a) for v in a], [v - mean(b) for v in b]
    return math.fsum(p * q for p, q in zip(x, y, strict=True)) / math.sqrt(
        math.fsum(p * p for p in x) * math.fsum(q * q for q in y)
    )


def test_rank_ic_equals_a_plain_spearman_correlation_with_ties():
    scored = metrics.scored_rows(PREDICTIONS, LABELS).with_columns(pl.col("score").round(1))
    ic = metrics.daily_rank_ic(scored).filter(pl.col("model") == "knowing")
    for session in (DAYS[0], DAYS[100], DAYS[-1]):
        rows = scored.filter((pl.col("session") == session) & (pl.col("model") == "knowing"))
        expected = correlation(ranks(rows["score"].to_list()), ranks(rows["forward_return_1"].to_list()))
        assert ic.filter(pl.col("session") == session)["rank_ic"].item() == pytest.approx(expected, abs=1e-12)


def test_a_score_that_never_tells_tickers_apart_has_no_rank_ic():
    scored = metrics.scored_rows(PREDICTIONS, LABELS)
    assert metrics.daily_rank_ic(scored).filter(pl.col("model") == "prior")["rank_ic"].null_count() == len(DAYS)
    few = metrics.daily_rank_ic(scored.filter(pl.col("ticker").is_in(["T00", "T01"])))
    assert few["rank_ic"].null_count() == few.height == 2 * len(DAYS)


def test_rows_without_a_return_leave_the_rank_ic_alone():
    labels = LABELS.with_columns(
        forward_return_1=pl.when(pl.col("ticker") == "T03").then(float("nan")).otherwise("forward_return_1")
    )
    without = metrics.daily_rank_ic(metrics.scored_rows(PREDICTIONS, LABELS.filter(pl.col("ticker") != "T03")))
    assert metrics.daily_rank_ic(metrics.scored_rows(PREDICTIONS, labels)).equals(without)


def test_the_table_holds_the_scores_of_each_year_and_their_mean():
    table = metrics.score_table(metrics.scored_rows(PREDICTIONS, LABELS))
    assert table.select("model", "year").rows() == [
        *(("knowing", year) for year in (2017, 2018, None)),
        *(("prior", year) for year in (2017, 2018, None)),
    ]
    joined = PREDICTIONS.filter(pl.col("model") == "knowing").join(LABELS, on=["ticker", "session"])
    years = []
    for year in (2017, 2018):
        part = joined.filter(pl.col("session").dt.year() == year)
        rows = [(y, tuple(p)) for y, *p in part.select("label", "p_sell", "p_hold", "p_buy").rows()]
        row = table.row(by_predicate=(pl.col("model") == "knowing") & (pl.col("year") == year), named=True)
        assert (row["rows"], row["sessions"]) == (len(rows), part["session"].n_unique())
        for score, oracle in ORACLES.items():
            assert row[score.__name__] == pytest.approx(oracle(rows), abs=1e-12)
        ic = metrics.daily_rank_ic(joined.filter(pl.col("session").dt.year() == year))["rank_ic"].to_list()
        assert row["rank_ic"] == pytest.approx(mean(ic))
        spread = math.sqrt(sum((x - mean(ic)) ** 2 for x in ic) / (len(ic) - 1))
        assert row["rank_ic_t"] == pytest.approx(mean(ic) / spread * math.sqrt(len(ic)))
        years.append(row)
    total = table.row(by_predicate=(pl.col("model") == "knowing") & pl.col("year").is_null(), named=True)
    for name in ("accuracy", "log_loss", "rank_ic", "brier", "macro_f1"):
        assert total[name] == pytest.approx(mean([row[name] for row in years]))
    for name in ("accuracy", "log_loss", "rank_ic"):
        widths = [row[f"{name}_high"] - row[f"{name}_low"] for row in years]
        assert total[f"{name}_low"] < total[name] < total[f"{name}_high"]
        assert total[f"{name}_high"] - total[f"{name}_low"] < max(widths)


def test_the_order_of_rows_does_not_show():
    shuffled = PREDICTIONS.sample(fraction=1.0, shuffle=True, seed=1), LABELS.sample(fraction=1.0, shuffle=True, seed=2)
    once, again = (
        metrics.score_table(metrics.scored_rows(PREDICTIONS, LABELS)),
        metrics.score_table(metrics.scored_rows(*shuffled)),
    )
    assert once.equals(again)


def test_nothing_to_score_is_an_error():
    with pytest.raises(StockAssetsError, match="no prediction has a usable label"):
        metrics.score_table(metrics.scored_rows(PREDICTIONS, LABELS.clear()))


def test_predictions_that_are_no_probabilities_are_named():
    bad = PREDICTIONS.with_columns(p_buy=pl.when(pl.col("ticker") == "T07").then(float("nan")).otherwise("p_buy"))
    with pytest.raises(StockAssetsError, match=rf"knowing for T07 at {DAYS[0]}.*p_buy nan"):
        metrics.scored_rows(bad, LABELS)
    with pytest.raises(StockAssetsError, match="sum to 1"):
        metrics.scored_rows(PREDICTIONS.with_columns(pl.col("p_buy") + 0.1), LABELS)
    with pytest.raises(StockAssetsError, match=rf"2 predictions of knowing for T00 at {DAYS[0]}"):
        metrics.scored_rows(pl.concat([PREDICTIONS, PREDICTIONS[:1]]), LABELS)


def test_a_model_that_knew_the_session_is_refused():
    late = PREDICTIONS.with_columns(trained_through=pl.lit(DAYS[5]))
    with pytest.raises(CutoffError, match=rf"at {DAYS[0]} though trained through {DAYS[5]}"):
        metrics.scored_rows(late, LABELS)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Days that remember the last one: intervals from single days would be far too narrow."""
    rng = np.random.default_rng(0)
    covered = {21: 0, 1: 0}
    for trial in range(120):
        noise = rng.normal(size=504)
        for t in range(1, 504):
            noise[t] += 0.7 * noise[t - 1]
        for block in covered:
            interval = bootstrap.block_bootstrap(noise, block=block, seed=trial, draws=300)
            assert interval is not None
            covered[block] += interval[0] <= 0 <= interval[1]
    assert 0.85 <= covered[21] / 120 <= 1.0
    assert covered[1] / 120 < 0.75


def test_an_interval_leaves_out_missing_days_and_weighs_the_others():
    values = np.array([1.0, np.nan, 3.0, np.nan, 1.0, 3.0] * 20)
    assert bootstrap.block_bootstrap(values) == bootstrap.block_bootstrap(values[~np.isnan(values)])
    assert bootstrap.block_bootstrap(np.array([np.nan])) is None
    assert bootstrap.block_bootstrap(np.full(50, 2.5)) == (2.5, 2.5)
    low, high = bootstrap.block_bootstrap(values, weights=np.where(values == 3.0, 0.0, 1.0)) or (0, 0)
    assert (low, high) == (1.0, 1.0)
    assert bootstrap.block_bootstrap(values, seed=1) == bootstrap.block_bootstrap(values, seed=1)


@pytest.mark.parametrize("day", [0, 25, 49])
def test_every_day_is_drawn_alike_also_the_first_and_the_last(day: int):
    low, high = bootstrap.block_bootstrap(np.eye(50)[day], block=10, draws=4000) or (0, 0)
    # the day lies in none, one, … of five blocks, each of which holds it in one draw out of five
    assert (low, high) == pytest.approx((0, 3 / 50))


def test_a_t_statistic_needs_two_different_values():
    assert bootstrap.t_statistic(np.array([1.0])) is None
    assert bootstrap.t_statistic(np.array([1.0, 1.0])) is None
    assert bootstrap.t_statistic(np.array([1.0, 3.0, np.nan])) == pytest.approx(2.0)


def test_the_confusion_table_counts_every_pair():
    table = classes.confusion_table(metrics.scored_rows(PREDICTIONS, LABELS))
    assert table.height == 18
    joined = PREDICTIONS.filter(pl.col("model") == "knowing").join(LABELS, on=["ticker", "session"])
    pairs = [(y, guess((a, b, c))) for y, a, b, c in joined.select("label", "p_sell", "p_hold", "p_buy").rows()]
    for label, predicted, rows, share in table.filter(pl.col("model") == "knowing").drop("model").rows():
        assert rows == pairs.count((label, predicted))
        assert share == pytest.approx(rows / sum(y == label for y, _ in pairs))
    assert table.filter((pl.col("model") == "prior") & (pl.col("predicted") != 0))["rows"].to_list() == [0] * 6


def test_the_calibration_table_sets_what_was_said_beside_what_came():
    table = classes.calibration_table(metrics.scored_rows(PREDICTIONS, LABELS), bins=10)
    joined = PREDICTIONS.filter(pl.col("model") == "knowing").join(LABELS, on=["ticker", "session"])
    said = [(p, y == 1) for p, y in joined.select("p_buy", "label").rows() if 0.2 <= p < 0.3]
    row = table.row(
        by_predicate=(pl.col("model") == "knowing") & (pl.col("class") == 1) & (pl.col("bin") == 2), named=True
    )
    assert row["rows"] == len(said)
    assert row["forecast"] == pytest.approx(mean([p for p, _ in said]))
    assert row["observed"] == pytest.approx(mean([came for _, came in said]))
    certain = PREDICTIONS.with_columns(p_sell=pl.lit(0.0), p_hold=pl.lit(0.0), p_buy=pl.lit(1.0))
    assert set(classes.calibration_table(metrics.scored_rows(certain, LABELS), bins=10)["bin"]) == {0, 9}


def test_the_best_naive_model_is_the_one_with_the_lowest_log_loss():
    table = metrics.score_table(metrics.scored_rows(PREDICTIONS, LABELS))
    means = table.filter(pl.col("year").is_null())
    best = metrics.best_naive(means, ("prior", "absent"))
    assert best is not None
    assert (best["model"], best["year"]) == ("prior", None)
    assert metrics.best_naive(means, ("absent",)) is None
    with pytest.raises(ValueError, match=r"3 rows of 1 baseline\(s\); expected one row per model"):
        metrics.best_naive(table, ("prior",))


def test_the_classification_report_is_that_of_scikit_learn():
    from sklearn.metrics import classification_report

    rng = np.random.default_rng(0)
    label, predicted = rng.choice([-1, 0, 1], 500, p=[0.2, 0.3, 0.5]), rng.choice([-1, 0, 1], 500, p=[0.5, 0.4, 0.1])
    scored = pl.DataFrame({"model": "m", "label": label, "predicted": predicted}).cast({pl.Int64: pl.Int8})
    report = classes.classification_report(classes.confusion_table(scored), "m")
    oracle = classification_report(label, predicted, output_dict=True)
    assert isinstance(oracle, dict)
    theirs = {"sell": "-1", "hold": "0", "buy": "1", "mean": "macro avg", "weighted mean": "weighted avg"}
    assert report["class"].to_list() == list(theirs)
    for name, precision, recall, f1, support in report.rows():
        found = {"precision": precision, "recall": recall, "f1-score": f1, "support": support}
        assert found == pytest.approx(oracle[theirs[name]]), name
    certain = np.eye(3)[predicted + 1]
    means = report.row(by_predicate=pl.col("class") == "mean", named=True)
    assert means["recall"] == pytest.approx(metrics.balanced_accuracy(label, certain))
    assert means["f1"] == pytest.approx(metrics.macro_f1(label, certain))


def test_a_class_that_is_never_predicted_has_no_precision():
    """The prior always says hold."""
    report = classes.classification_report(classes.confusion_table(metrics.scored_rows(PREDICTIONS, LABELS)), "prior")
    held = LABELS.filter(pl.col("label") == 0).height / LABELS.height
    assert report["precision"].to_list() == [None, pytest.approx(held), None, *[pytest.approx(held)] * 2]
    assert report["recall"].to_list() == [0.0, 1.0, 0.0, pytest.approx(1 / 3), pytest.approx(held)]
    assert report["f1"].to_list()[0] == 0.0


def test_the_predicted_class_of_a_row_is_the_first_of_equals():
    p = [(0.4, 0.4, 0.2), (0.2, 0.4, 0.4), (0.4, 0.2, 0.4), (0.2, 0.3, 0.5), (1 / 3, 1 / 3, 1 / 3), (0.0, 1.0, 0.0)]
    some = PREDICTIONS[: len(p)].with_columns(
        pl.Series(name, [row[i] for row in p]) for i, name in enumerate(("p_sell", "p_hold", "p_buy"))
    )
    scored = metrics.scored_rows(some, LABELS)
    probabilities = scored.select("p_sell", "p_hold", "p_buy").to_numpy()
    assert scored["predicted"].to_list() == metrics.predicted(probabilities).tolist()
    assert scored["surprise"].mean() == pytest.approx(metrics.log_loss(scored["label"].to_numpy(), probabilities))
