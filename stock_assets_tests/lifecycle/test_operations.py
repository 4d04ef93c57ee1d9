"""The figures of the operations page, and that it renders with everything, with little and with nothing."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.evaluation import metrics, plots
from stock_assets.lifecycle.freshness import Freshness
from stock_assets.lifecycle.operations import (
    TABLES,
    OperationsFacts,
    live_skill,
    naive_baseline,
    render_operations,
    session_table,
    with_age,
)
from stock_assets.lifecycle.tables import OPERATIONS
from stock_assets.market.calendar import trading_calendar
from stock_assets_tests.evaluation.test_metrics import LABELS, PREDICTIONS
from stock_assets_tests.evaluation.test_report import Page
from stock_assets_tests.serving.pages.accounts import account_tables

XNYS = trading_calendar("XNYS", date(2017, 1, 3), date(2019, 12, 31))
NAMED = PREDICTIONS.with_columns(pl.col("model").replace({"knowing": "rnn", "prior": "class_prior"}))
SCORED = metrics.scored_rows(NAMED, LABELS)
SERVED = with_age(
    NAMED.group_by("session", "model", "trained_through")
    .agg(rows=pl.len())
    .with_columns(version=pl.col("model") + "-1"),
    XNYS,
)
SUSPECTS = NAMED.select("session").unique().head(3).with_columns(suspects=pl.lit(2))
NOW = datetime(2019, 1, 2, 3, tzinfo=UTC)
FRESH = Freshness(True, date(2018, 12, 31), 0, "2018-12-31 is predicted, and none after it is late")
FACTS = OperationsFacts("simulated", NOW, date(2018, 12, 31), FRESH, "class_prior")
HISTORY = {
    "in_service": SERVED.filter(pl.col("session") == SERVED["session"].max()),
    "failures": pl.DataFrame(
        {"at": [NOW], "what": ["daily_bars"], "partitions": ["2018-12-31"], "run_id": ["6f1c2a7e-22"]}
    ),
    "alerts": pl.DataFrame(
        {"title": ["daily_bars failed"], "text": ["<no> bar"], "first_at": [NOW], "last_at": [NOW], "sent_at": [None]}
        | {"count": [1], "resolved_at": [None]}
    ),
    "drift": pl.DataFrame(
        {"session": [date(2018, 12, 31)] * 2, "kind": ["input", "prediction"], "column": ["market_vol_22", "p_buy"]}
        | {"psi": [0.31, 0.02], "ks": [0.2, 0.01]}
    ),
    "retraining_decisions": pl.DataFrame(
        {
            "session": [date(2018, 12, 31)],
            "decided_at": [NOW],
            "rule": ["drift"],
            "retrain": [True],
            "reason": ["PSI 0.31"],
        }
    ),
    "promotions": pl.DataFrame(
        {"model": ["rnn"], "version": ["rnn-2"], "decided_at": [NOW], "outcome": ["challenger"], "kind": ["retrained"]}
        | {"replaced": [None], "improvement": [0.001], "reason": ["less than the margin"]}
    ),
}


def test_age_is_counted_in_sessions():
    served = pl.DataFrame(
        {"session": [date(2018, 1, 2), date(2018, 1, 16)], "trained_through": [date(2017, 12, 29)] * 2}
    )
    assert with_age(served, XNYS).sort("session")["age"].to_list() == [1, 10]  # the 15th was a holiday


def test_a_session_has_the_scores_of_its_rows():
    table = session_table(SERVED, SCORED, SUSPECTS)
    assert table.schema == OPERATIONS.schema
    assert table["session"].to_list() == sorted(NAMED["session"].unique())
    day = table["session"][5]
    for model, column in (("rnn", "log_loss"), ("class_prior", "naive_log_loss")):
        rows = SCORED.filter((pl.col("session") == day) & (pl.col("model") == model))
        labels, answers = rows["label"].to_numpy(), rows.select("p_sell", "p_hold", "p_buy").to_numpy()
        assert table[column][5] == pytest.approx(metrics.log_loss(labels, answers))
        if model == "rnn":
            assert table["accuracy"][5] == pytest.approx(metrics.accuracy(labels, answers))
            assert table["scored"][5] == rows.height
    assert table["ensemble_log_loss"].null_count() == table.height, "there is none among these models"
    assert set(live_skill(table)["model"]) == {"rnn", "naive"}
    assert table["suspects"].sum() == 6


def test_a_young_store_has_sessions_without_scores():
    table = session_table(SERVED, SCORED.clear(), SUSPECTS.clear())
    assert table.height == SERVED["session"].n_unique()
    assert table["scored"].sum() == table["suspects"].sum() == 0
    assert table["log_loss"].null_count() == table.height
    assert naive_baseline(SCORED.clear()) is None
    assert live_skill(table).is_empty()


def test_live_skill_rolls_and_sums():
    table = session_table(SERVED, SCORED, SUSPECTS)
    skill = live_skill(table, window=3)
    rnn = skill.filter(pl.col("model") == "rnn")
    daily = table["log_loss"].to_list()
    assert rnn["log_loss"][0] == pytest.approx(daily[0])
    assert rnn["log_loss"][7] == pytest.approx(sum(daily[5:8]) / 3)
    assert rnn["gain"][-1] == pytest.approx((table["naive_log_loss"] - table["log_loss"]).sum())
    assert rnn["gain"][-1] > 0, "this model knows the labels"
    assert skill.filter(pl.col("model") == "naive")["gain"].abs().max() == 0
    # what comes later changes nothing before
    assert_frame_equal(live_skill(table.head(20), 3).filter(pl.col("model") == "rnn"), rnn.head(20))


def test_the_page_shows_everything_in_one_file():
    page = Page(render_operations(session_table(SERVED, SCORED, SUSPECTS), HISTORY, facts=FACTS))
    assert page.open == []
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    for told in (
        "SIMULATED",
        "2018-12-31",
        "<no> bar",
        "market_vol_22",
        "PSI 0.31",
        "less than the margin",
        "1 open alert",
    ):
        assert told in page.text, told


def test_a_late_session_stands_on_top():
    late = Freshness(False, date(2019, 1, 2), 1, "1 session(s) behind: 2019-01-02")
    facts = OperationsFacts("snapshot", NOW, date(2018, 12, 31), late, None)
    page = Page(render_operations(session_table(SERVED, SCORED, SUSPECTS), HISTORY, facts=facts))
    assert "LATE. 1 session(s) behind: 2019-01-02" in " ".join(page.text.split())
    assert "SIMULATED" not in page.text


def test_an_empty_store_has_a_page_that_says_so():
    facts = OperationsFacts("snapshot", NOW, None, Freshness(True, None, 0, "no session is predicted yet"), None)
    page = Page(render_operations(OPERATIONS.empty(), dict.fromkeys(TABLES), facts=facts))
    for told in (
        "none yet",
        "No alarm yet",
        "No drift has been measured yet",
        "No decision yet",
        "No promotion yet",
        "no label is known",
    ):
        assert told in page.text, told


def test_what_the_page_does_not_know_is_named():
    with pytest.raises(ValueError, match="weather is no part of the page"):
        render_operations(OPERATIONS.empty(), {"weather": None}, facts=FACTS)
    with pytest.raises(ValueError, match="drift has no column ks, psi"):
        render_operations(OPERATIONS.empty(), {"drift": HISTORY["drift"].drop("psi", "ks")}, facts=FACTS)


@pytest.mark.parametrize("sessions", [1, 2, 40])
def test_figures_of_any_length(sessions: int):
    skill = live_skill(session_table(SERVED, SCORED, SUSPECTS).head(sessions))
    assert plots.live_skill(skill).startswith(b"\x89PNG")
    assert plots.drift(HISTORY["drift"]).startswith(b"\x89PNG")


SESSIONS = [date(2018, 12, 27), date(2018, 12, 28), date(2018, 12, 31)]


def page_of_account(*, trouble: bool, tickers: tuple[str, ...] = ("SIM01", "SIM02", "SIM03", "SIM04")) -> Page:
    paper = account_tables(SESSIONS, tickers, np.random.default_rng(0), trouble=trouble)
    return Page(render_operations(session_table(SERVED, SCORED, SUSPECTS), {**HISTORY, **paper}, facts=FACTS))


def test_the_account_is_a_section_of_the_page():
    page = page_of_account(trouble=False)
    assert "#paper" in page.addresses
    text = " ".join(page.text.split())
    assert "2 orders for the open of 2019-01-01; every gate holds." in text
    assert "simulated, account PA-long_only, book long_only" in text
    for title in (
        "Paper account",
        "Where the difference comes from",
        "prices of fills",
        "SIM04",
        "accepted",
        "all orders",
    ):
        assert title in text, title
    assert "NOT TRADED" not in text


def test_why_an_account_does_not_trade_stands_in_its_section():
    hostile = "<img src=x onerror=alert(1)>"
    page = page_of_account(trouble=True, tickers=(hostile, "SIM02", "SIM03"))
    text = " ".join(page.text.split())
    assert "NOT TRADED. Trading is halted by ada: a break. Only a person resumes it." in text
    assert "the broker has not booked the split of 2 for 1" in text
    assert "No order for the next open." in text
    assert hostile in page.text, "shown as text"
    assert "x" not in page.addresses


def test_a_store_without_an_account_has_no_section_of_it():
    paper = dict.fromkeys(account_tables(SESSIONS, ("SIM01",), np.random.default_rng(0)))
    for more in ({}, paper):
        page = Page(render_operations(session_table(SERVED, SCORED, SUSPECTS), {**HISTORY, **more}, facts=FACTS))
        assert "#paper" not in page.addresses
        assert "Paper account" not in page.text
