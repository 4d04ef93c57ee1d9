from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.evaluation import plots
from stock_assets.evaluation.portfolio import (
    AFTER_COSTS,
    ALL,
    TOP,
    comparison,
    daily_returns,
    growth,
    market_returns,
)

DAYS = [date(2020, 1, 1) + timedelta(days=i) for i in range(120)]


def scored(seed: int = 0, tickers: int = 25) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(f"T{j:02d}", day, float(rng.normal()), float(rng.normal(0, 0.02))) for day in DAYS for j in range(tickers)]
    frame = pl.DataFrame(rows, ["ticker", "session", "score", "forward_return_1"], orient="row")
    return frame.with_columns(model=pl.lit("rnn"))


def held(rate: float = 0.001, series: str = "SPY") -> pl.DataFrame:
    return pl.DataFrame({"series": series, "session": DAYS, "total_return": [None, *[rate] * (len(DAYS) - 1)]})


def test_the_market_of_a_session_is_what_comes_after_its_close():
    context = pl.DataFrame({"series": ["SPY"] * 3, "session": DAYS[:3], "total_return": [None, 0.01, 0.02]})
    name, rows = market_returns(context.reverse())
    assert name == "SPY"
    assert rows.rows() == [(DAYS[0], DAYS[1], 0.01), (DAYS[1], DAYS[2], 0.02)]
    assert market_returns(held(series="^GSPC"))[0] == "^GSPC"
    assert market_returns(held(series="^VIX"))[1].is_empty()


def test_the_top_tenth_as_a_loop_would_hold_it():
    rows = scored()
    found = daily_returns(rows, "rnn", market_returns(held())[1])
    assert found["session"].to_list() == DAYS[:-1]  # the market's last return is not known
    before: set[str] = set()
    for day, _, top, after, everyone, _ in found.rows():
        of_day = rows.filter(pl.col("session") == day).sort("score")
        best = of_day.tail(2)
        assert top == pytest.approx(best["forward_return_1"].mean())
        assert everyone == pytest.approx(of_day["forward_return_1"].mean())
        now = set(best["ticker"])
        assert top - after == pytest.approx(0.001 * len(now ^ before) / 2)
        before = now


def test_the_order_of_rows_and_other_models_change_nothing():
    rows, market = scored(), market_returns(held())[1]
    other = pl.concat([rows, rows.with_columns(pl.lit("mlp").alias("model"), pl.col("score") * -1)])
    shuffled = other.sample(fraction=1, shuffle=True, seed=1)
    assert_frame_equal(daily_returns(shuffled, "rnn", market), daily_returns(rows, "rnn", market))


def test_a_perfect_ranking_beats_the_market_and_the_market_itself_is_exact():
    rows = scored().with_columns(score="forward_return_1")
    returns = daily_returns(rows, "rnn", market_returns(held())[1])
    table = {row["portfolio"]: row for row in comparison(returns).iter_rows(named=True)}
    assert list(table) == [TOP, AFTER_COSTS, ALL, "market"]
    market = table["market"]
    assert market["growth"] == pytest.approx(1.001**119)
    assert market["yearly"] == pytest.approx(1.001**365.25 - 1)
    assert (market["drawdown"], market["excess"]) == (0.0, None)
    assert table[TOP]["excess_low"] > 0.02
    assert table[AFTER_COSTS]["growth"] < table[TOP]["growth"]
    assert table[ALL]["excess"] == pytest.approx(0.0, abs=0.002)
    assert growth(returns)["market"][-1] == pytest.approx(market["growth"])


def test_a_fall_is_counted_from_the_peak_that_includes_the_start():
    returns = pl.DataFrame({"session": DAYS[:4], "until": DAYS[1:5], "market": [-0.5, 0.5, 0.5, -0.2]})
    assert comparison(returns)["drawdown"].item() == pytest.approx(-0.5)


def test_without_a_market_there_is_nothing_to_compare():
    none = daily_returns(scored(), "rnn", market_returns(held().clear())[1])
    assert comparison(none).is_empty()


def test_of_a_few_tickers_the_best_is_held():
    rows = scored(tickers=3)
    found = daily_returns(rows, "rnn", market_returns(held())[1])
    best = rows.sort("score").group_by("session").agg(pl.col("forward_return_1").last()).sort("session")
    assert found[TOP].to_list() == best["forward_return_1"].to_list()[:-1]


def test_the_picture_is_one():
    returns = daily_returns(scored(), "rnn", market_returns(held())[1])
    assert plots.growth(growth(returns), "SPY").startswith(b"\x89PNG")


def test_annual_figures_span_the_time_from_the_first_close_to_the_one_after_the_last():
    """Eleven returns of 1 % and of none in turn, from the close of 4 January to that of 20 January: 16 days."""
    sessions = [date(2021, 1, day) for day in (4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 19, 20)]
    rows = {"session": sessions[:-1], "until": sessions[1:], "market": [0.01, 0.0] * 5 + [0.01]}
    (row,) = comparison(pl.DataFrame(rows)).iter_rows(named=True)
    years = 16 / 365.25
    assert row["yearly"] == pytest.approx(1.01 ** (6 / years) - 1)
    deviation = float(np.std([0.01, 0.0] * 5 + [0.01], ddof=1))
    assert row["volatility"] == pytest.approx(deviation * (11 / years) ** 0.5)
    assert row["sharpe"] == pytest.approx(0.06 / 11 / deviation * (11 / years) ** 0.5)
