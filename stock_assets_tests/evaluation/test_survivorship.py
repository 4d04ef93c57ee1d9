from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from stock_assets.evaluation.survivorship import members_at_the_end, survivorship

DAYS = [date(2020, 1, 1) + timedelta(days=i) for i in range(150)]
LEAVES = DAYS[99]
UNIVERSE = pl.DataFrame(
    [(f"S{j}", DAYS[0], None) for j in range(6)]
    + [(f"L{j}", DAYS[0], LEAVES) for j in range(4)]
    + [("N0", DAYS[120], None), ("S0", date(2010, 1, 1), date(2011, 1, 1))],
    ["ticker", "from_session", "to_session"],
    orient="row",
)


def market(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(scored, bars): the tickers L fall by 1 % a day and are predicted badly until they leave."""
    rng = np.random.default_rng(seed)
    rows, bars = [], []
    for ticker, first, last in UNIVERSE.head(11).iter_rows():
        for day in DAYS:
            member = first <= day <= (last or DAYS[-1])
            bad = ticker.startswith("L")
            value = (-0.01 if bad else 0.001) + rng.normal(0, 0.001)
            bars.append((ticker, day, value, member))
            if member:
                surprise = (1.4 if bad else 0.9) + rng.normal(0, 0.05)
                rows.append(("rnn", ticker, day, surprise, 0 if bad else 1, 1, rng.normal(), value))
    columns = ["model", "ticker", "session", "surprise", "predicted", "label", "score", "forward_return_1"]
    return (
        pl.DataFrame(rows, columns, orient="row"),
        pl.DataFrame(bars, ["ticker", "session", "total_return", "is_member"], orient="row"),
    )


def test_who_survived_are_the_members_of_the_last_session():
    assert members_at_the_end(UNIVERSE, DAYS[-1]) == ["N0", *(f"S{j}" for j in range(6))]
    assert members_at_the_end(UNIVERSE, LEAVES) == [*(f"L{j}" for j in range(4)), *(f"S{j}" for j in range(6))]


def test_what_survivors_flatter_is_measured_with_an_interval():
    scored, bars = market()
    table = {
        row["score"]: row
        for row in survivorship(scored, bars, "rnn", survivors=members_at_the_end(UNIVERSE, DAYS[-1])).to_dicts()
    }
    assert list(table) == ["log_loss", "accuracy", "rank_ic", "daily_return"]
    loss = table["log_loss"]
    # 4 of 10 tickers lose 0.5 more, on 100 of 150 sessions
    assert loss["difference"] == pytest.approx(-0.5 * 0.4 * 100 / 150, abs=0.01)
    assert loss["high"] < 0
    assert table["accuracy"]["difference"] == pytest.approx(0.4 * 100 / 150, abs=1e-9)
    returns = table["daily_return"]
    assert returns["low"] > 0
    assert returns["now"] == pytest.approx(0.001, abs=1e-4)
    assert returns["now"] - returns["then"] == pytest.approx(returns["difference"])


def test_today_s_list_counts_before_it_joined():
    scored, bars = market()
    alone = pl.col("ticker").str.starts_with("L").not_()
    richer = bars.with_columns(
        pl.when((pl.col("ticker") == "N0") & ~pl.col("is_member"))
        .then(0.05)
        .otherwise("total_return")
        .alias("total_return")
    ).filter(alone)
    table = survivorship(scored.filter(alone), richer, "rnn", survivors=members_at_the_end(UNIVERSE, DAYS[-1]))
    returns = table.row(by_predicate=pl.col("score") == "daily_return", named=True)
    assert returns["difference"] == pytest.approx(0.049 / 7 * 120 / 150, abs=2e-4)
    assert table.row(by_predicate=pl.col("score") == "log_loss", named=True)["difference"] == 0.0


def test_where_nobody_ever_left_there_is_nothing_to_measure():
    scored, bars = market()
    stay = pl.col("ticker").str.starts_with("S")
    assert survivorship(
        scored.filter(stay), bars.filter(stay), "rnn", survivors=members_at_the_end(UNIVERSE, DAYS[-1])
    ).is_empty()
