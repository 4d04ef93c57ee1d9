"""Tonight's calls: from the publication, else from the store, on 40 columns."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from stock_assets.cli.tonight import WIDTH, Tonight, tonight, tonight_lines
from stock_assets.errors import PublicationError
from stock_assets.publication.layout import POINTER
from stock_assets.publication.tables import MONITORING
from stock_assets.publication.write import NewFiles, publish
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.publication.folders import MODELS, facts_of, predictions_of
from stock_assets_tests.tables import rows_of

SESSION = date(2026, 11, 20)
CALLS = Tonight(
    SESSION,
    "rnn",
    simulated=False,
    scores=pl.DataFrame({"ticker": [f"T{i:02d}" for i in range(20)], "score": [(i - 10) / 20 for i in range(20)]}),
    skill={"log_loss": 1.05, "low": 1.04, "high": 1.06},
    naive={"model": "ticker_prior", "log_loss": 1.07},
)


def test_the_strongest_five_of_each_side_stand_beside_the_score():
    assert tonight_lines(CALLS) == [
        "rnn of 2026-11-20: p_buy - p_sell",
        "strongest buys      strongest sells",
        "T19         +0.450  T00         -0.500",
        "T18         +0.400  T01         -0.450",
        "T17         +0.350  T02         -0.400",
        "T16         +0.300  T03         -0.350",
        "T15         +0.250  T04         -0.300",
        "log-loss 1.0500 [1.0400, 1.0600]",
        "  naive  1.0700 ticker_prior",
        "better than the best naive baseline",
    ]


@pytest.mark.parametrize(
    ("skill", "last"),
    [
        ({"log_loss": 1.065, "low": 1.05, "high": 1.08}, "NOT told apart from the naive baseline"),
        ({"log_loss": 1.09, "low": 1.08, "high": 1.1}, "WORSE than the best naive baseline"),
        ({"log_loss": 1.09, "low": None, "high": None}, "too few sessions for an interval"),
        (None, "not scored yet: trust none of it"),
    ],
)
def test_the_verdict_is_that_of_the_interval(skill, last: str):
    assert tonight_lines(replace(CALLS, skill=skill))[-1] == last


def test_long_names_and_few_tickers_fit_and_no_ticker_is_on_both_sides():
    scores = pl.DataFrame({"ticker": ["A" * 32, "\x1b[31mB", "C"], "score": [0.3, 0.2, -0.1]})
    lines = tonight_lines(replace(CALLS, scores=scores, simulated=True))
    assert lines[1] == "SIMULATED market, no real prices"
    assert lines[3] == "AAAAAAAAAA… +0.300  C           -0.100"
    assert all(len(line) <= WIDTH and "\x1b" not in line for line in lines)
    one = tonight_lines(replace(CALLS, scores=scores.head(1)))
    assert "1 ticker(s) predicted: none to compare" in one


def test_it_is_read_from_the_publication(tmp_path: Path):
    new = NewFiles(tmp_path)
    rows = predictions_of(SESSION)
    new.put("predictions", str(SESSION), rows)
    score = pl.DataFrame(
        {"model": ["rnn", "prior"], "naive": [False, True], "log_loss": [1.05, 1.07], "low": [1.04, None]}
    ).with_columns(high=pl.lit(1.06), accuracy=pl.lit(0.4), rank_ic=pl.lit(0.02), rows=pl.lit(9))
    new.put("monitoring", "score", MONITORING["score"].fit(score))
    publish(
        tmp_path,
        new,
        facts_of((SESSION,)),
        champions=MODELS,
        reason="test",
        code_version="0",
        now=datetime(2026, 11, 20, 22, tzinfo=UTC),
    )
    calls = tonight(tmp_path, Warehouse(tmp_path / "none.duckdb"), simulated=False)
    assert calls is not None
    assert (calls.session, calls.model, calls.simulated) == (SESSION, "rnn", True)  # as the publication has it
    expected = rows.filter(pl.col("model") == "rnn").select("ticker", "score")
    assert calls.scores.sort("ticker").equals(expected.sort("ticker"))
    assert calls.skill is not None
    assert calls.naive is not None
    assert (calls.skill["log_loss"], calls.naive["model"]) == (1.05, "prior")
    (tmp_path / POINTER).write_text("{")
    with pytest.raises(PublicationError, match="damaged"):
        tonight(tmp_path, Warehouse(tmp_path / "none.duckdb"), simulated=False)


def test_where_nothing_is_published_the_store_answers(tmp_path: Path):
    store = Warehouse(tmp_path / "stock_assets.duckdb")
    assert tonight(tmp_path / "published", store, simulated=True) is None
    rows = pl.DataFrame({"model": ["rnn", "rnn", "class_prior"], "ticker": ["A", "B", "A"], "score": [0.1, 0.2, 0.0]})
    rows = rows.with_columns(session=pl.lit(SESSION), p_sell=0.2, p_hold=0.3, p_buy=0.5)
    store.append("predictions", rows_of("predictions", rows))
    calls = tonight(tmp_path / "published", store, simulated=True)
    assert calls is not None
    assert (calls.scores.rows(), calls.skill) == ([("A", 0.1), ("B", 0.2)], None)
    means = pl.DataFrame({"model": ["rnn", "class_prior"], "log_loss": [1.05, 1.07]})
    means = means.with_columns(log_loss_low=pl.lit(1.04), log_loss_high=pl.lit(1.06))
    store.append("evaluation_report", rows_of("evaluation_report", means))
    calls = tonight(tmp_path / "published", store, simulated=True)
    assert calls is not None
    assert tonight_lines(calls)[-3:-1] == ["log-loss 1.0500 [1.0400, 1.0600]", "  naive  1.0700 class_prior"]
