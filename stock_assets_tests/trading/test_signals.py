"""Correlations with later opens, and the parts of a result, against loops over rows."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from stock_assets.trading import attribution, signals
from stock_assets_tests.trading.sheets import SMALL_SHORT, inputs_of, market


@pytest.fixture(scope="module")
def small() -> tuple[pl.DataFrame, pl.DataFrame]:
    """(bars, scores) of 12 tickers, some bars suspect."""
    bars, scores = market(30, 12)
    return bars, bars.select("session", "ticker").with_columns(score=pl.Series(scores.ravel()))


def test_returns_run_between_the_opens_after_the_close(small):
    bars, _ = small
    sessions = bars["session"].unique().sort()
    returns = signals.opening_returns(bars, sessions)
    row = {(r["session"], r["ticker"]): r for r in bars.iter_rows(named=True)}
    for found in returns.filter(pl.col("ticker") == "T05").iter_rows(named=True):
        t = sessions.index_of(found["session"])
        for lag in (1, 2, 10):
            both = [sessions[k] for k in (t + lag, t + lag + 1) if k < len(sessions)]
            rows = [row[session, "T05"] for session in both]
            if len(rows) < 2 or any(each["suspect"] for each in rows):
                assert found[f"lag_{lag}"] is None
            else:
                expected = (rows[1]["open"] + rows[1]["dividend"]) / rows[0]["open"] - 1
                assert found[f"lag_{lag}"] == pytest.approx(expected, rel=1e-12)


def test_a_split_and_a_dividend_are_no_loss():
    days = [date(2024, 1, day) for day in (2, 3, 4)]
    bars = pl.DataFrame(
        {
            "ticker": "A",
            "session": days,
            "open": [100.0, 50.0, 24.0],
            "dividend": [0.0, 0.0, 1.0],
            "split_ratio": [1.0, 2.0, 2.0],
            "suspect": [None] * 3,
        },
        schema_overrides={"suspect": pl.String},
    )
    returns = signals.opening_returns(bars, pl.Series(days), lags=1)
    assert returns.sort("session")["lag_1"].to_list() == [pytest.approx(0.0), None, None]


def test_correlations_are_those_of_scipy(small):
    bars, scores = small
    returns = signals.opening_returns(bars, bars["session"].unique().sort())
    found = signals.correlations_by_lag(scores, returns)
    joined = scores.join(returns, on=["session", "ticker"])
    for row in found.filter(pl.col("lag").is_in([1, 4])).iter_rows(named=True):
        pairs = joined.filter(pl.col("session") == row["session"]).drop_nulls(f"lag_{row['lag']}")
        assert row["ic"] == pytest.approx(spearmanr(pairs["score"], pairs[f"lag_{row['lag']}"]).statistic, abs=1e-12)
    means = signals.summary(found)
    assert means["lag"].to_list() == list(range(1, 11))
    assert means["ic"][3] == pytest.approx(found.filter(pl.col("lag") == 4)["ic"].mean())


def test_sessions_without_a_ranking_do_not_count(small):
    bars, scores = small
    returns = signals.opening_returns(bars, bars["session"].unique().sort())
    flat = scores.with_columns(score=pl.lit(0.5))
    assert signals.correlations_by_lag(flat, returns).is_empty()
    assert signals.deciles(flat, returns).is_empty()
    assert signals.score_autocorrelation(flat).is_empty()
    few = scores.filter(pl.col("ticker").is_in(["T01", "T02"]))
    assert signals.correlations_by_lag(few, returns).is_empty()
    assert signals.summary(signals.correlations_by_lag(few, returns)).is_empty()


def test_deciles_rise_with_a_planted_signal():
    bars, scores = market(120, 30, signal=0.6)
    scored = bars.select("session", "ticker").with_columns(score=pl.Series(scores.ravel()))
    tenths = signals.deciles(scored, signals.opening_returns(bars, bars["session"].unique().sort()))
    assert tenths["decile"].to_list() == list(range(1, 11))
    assert tenths["mean"][0] < -0.002 < 0.002 < tenths["mean"][-1]
    assert (tenths["mean"] * tenths["rows"]).sum() == pytest.approx(0.0, abs=1e-9)


def test_a_score_that_stays_has_an_autocorrelation_of_one(small):
    _, scores = small
    constant = scores.with_columns(score=pl.col("ticker").rank("dense").over("session").cast(pl.Float64))
    assert signals.score_autocorrelation(constant)["ic"].to_list() == [pytest.approx(1.0)] * 29


def test_half_of_the_correlation():
    by_lag = pl.DataFrame({"lag": [1, 2, 3], "ic": [0.02, 0.01, 0.01]})
    assert signals.half_life(by_lag) == pytest.approx(1.0)
    assert signals.half_life(by_lag.with_columns(ic=-pl.col("ic"))) is None


@pytest.fixture(scope="module")
def book():
    return inputs_of(SMALL_SHORT, 60, 12)


def test_contributions_sum_to_the_return(book):
    rows = attribution.contributions(book.positions, book.fills, book.equity)
    by_session = dict(rows.group_by("session").agg(pl.col("contribution").sum()).iter_rows())
    for row in book.equity.filter(pl.col("net_return").is_not_null()).iter_rows(named=True):
        assert by_session.get(row["session"], 0.0) == pytest.approx(row["net_return"], abs=1e-9)
    total = rows["contribution"].sum()
    for parts in (
        attribution.by_name(rows),
        attribution.by_side(rows),
        attribution.by_sector(rows, book.universe),
    ):
        assert parts["contribution"].sum() == pytest.approx(total, abs=1e-12)
    assert attribution.by_sector(rows, book.universe.clear())["sector"].to_list() == ["unknown"]


def test_parts_sum_to_the_net_return(book):
    parts = attribution.parts_of_return(book.equity).drop_nulls("net")
    names = [*attribution.GAINS, *attribution.COSTS]
    np.testing.assert_allclose(parts.select(pl.sum_horizontal(names)).to_series(), parts["net"], atol=1e-12)


def test_years_and_months_compound_to_the_equity(book):
    years = attribution.per_year(
        book.equity, pl.DataFrame(schema={"session": pl.Date, "lag": pl.Int32, "ic": pl.Float64}), book.fills
    )
    equity = book.equity.sort("session")["equity"]
    assert (years["return"] + 1).product() == pytest.approx(equity[-1] / equity[0], rel=1e-9)
    months = [value for year in attribution.months(book.equity).values() for value in year if value is not None]
    assert np.prod([1 + value for value in months]) == pytest.approx(equity[-1] / equity[0], rel=1e-9)


def test_exposures_and_concentration_of_the_newest_close(book):
    last = book.equity["session"].max()
    row = book.equity.filter(pl.col("session") == last).row(0, named=True)
    sectors = attribution.sector_exposures(book.positions, book.universe, last)
    assert sectors["long"].sum() == pytest.approx(row["long"])
    assert sectors["short"].sum() == pytest.approx(row["short"])
    share, names = attribution.concentration(book.positions, last, top=100)
    assert share == pytest.approx(1.0)
    assert names is not None
    assert 1 <= names <= row["names"]
    adv = pl.DataFrame({"ticker": book.bars["ticker"].unique(), "adv": 1e6})
    days = attribution.days_to_liquidate(book.positions, adv, last, participation=0.1)
    held = book.positions.filter((pl.col("session") == last) & (pl.col("shares") != 0))
    assert days["days"][0] == pytest.approx(held["value"].abs().max() / 1e5)
    assert attribution.concentration(book.positions.clear(), last) == (None, None)


def test_what_was_not_filled_is_counted_by_its_reason(book):
    found = attribution.unfilled(book.fills, book.bars.select("ticker", "session", "close"))
    assert found["orders"].sum() == book.fills.filter(pl.col("ordered") != 0).height
    assert found["share"].sum() == pytest.approx(1.0)
    refused = book.fills.filter(pl.col("reason") == "suspect")
    assert refused.height == found.filter(pl.col("reason") == "suspect")["orders"].item() > 0


def test_regimes_are_thirds_by_the_volatility_before(book):
    thirds = attribution.regimes(book.equity)
    assert thirds["regime"].to_list() == ["calm", "normal", "stormy"]
    assert thirds["sessions"].max() - thirds["sessions"].min() <= 1  # pyright: ignore[reportOperatorIssue]
    assert attribution.regimes(book.equity.head(5)).is_empty()
