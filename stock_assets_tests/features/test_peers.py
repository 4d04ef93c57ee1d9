from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stock_assets.features.peers import (
    COVERAGE,
    FACTORS,
    FEATURES,
    PEERS,
    SHORTEST,
    WINDOW,
    Returns,
    comovement,
    largest,
    peer_columns,
)

GROUPS, SIZE = 3, PEERS + 1


def sector_returns(seed: int = 0, sessions: int = WINDOW) -> np.ndarray:
    """[sessions, 48]: a market, three sectors, and noise of each ticker's own."""
    rng = np.random.default_rng(seed)
    market, sectors = rng.normal(0, 0.01, (sessions, 1)), rng.normal(0, 0.01, (sessions, GROUPS))
    return market + np.repeat(sectors, SIZE, axis=1) + rng.normal(0, 0.01, (sessions, GROUPS * SIZE))


def frame(returns: np.ndarray, first: date) -> pl.DataFrame:
    days = [first + timedelta(days=i) for i in range(len(returns))]
    sessions, tickers = returns.shape
    return pl.DataFrame(
        {
            "ticker": [f"T{i:02d}" for i in range(tickers)] * sessions,
            "session": [day for day in days for _ in range(tickers)],
            "suspect": pl.Series([None] * returns.size, dtype=pl.String),
            "r": returns.ravel(),
            "vol_total_1": returns.ravel() * 2,
            "vol_total_5": returns.ravel() * 3,
            "vol_total_22": returns.ravel() * 4,
        }
    )


def test_the_peers_are_those_of_the_sector():
    found = comovement(sector_returns())
    sector = np.arange(GROUPS * SIZE) // SIZE
    assert (found.peers == ((sector[:, None] == sector) & ~np.eye(len(sector), dtype=bool))).all()


def test_factors_are_those_of_a_singular_value_decomposition():
    returns = sector_returns(1)
    found = comovement(returns)
    standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    _, _, axes = np.linalg.svd(standard, full_matrices=False)
    np.testing.assert_allclose(found.loadings @ found.loadings.T, axes[:FACTORS].T @ axes[:FACTORS], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.scale, returns.std(axis=0), rtol=1e-12)


def test_a_ticker_with_too_few_sessions_is_nobodys_peer_and_all_others_are_its_own():
    returns = sector_returns(2)
    returns[: round(WINDOW * (1 - COVERAGE)) + 1, 5] = np.nan
    found = comovement(returns)
    assert not found.peers[:, 5].any()
    assert found.peers[5].sum() == GROUPS * SIZE - 1
    assert (found.loadings[5] == 0).all()


def test_without_enough_sessions_every_ticker_is_every_others_peer():
    found = comovement(sector_returns(3, SHORTEST - 1))
    assert (found.peers == ~np.eye(GROUPS * SIZE, dtype=bool)).all()
    assert (found.loadings == 0).all()


def test_columns_equal_their_formulas_row_by_row():
    returns = sector_returns(4, WINDOW + 90)
    rows = frame(returns, date(2020, 10, 1) - timedelta(days=WINDOW + 10))  # ten sessions of Q3, then Q4
    asked = rows.filter(pl.col("session") >= date(2020, 9, 25)).with_columns(
        suspect=pl.when((pl.col("ticker") == "T03") & (pl.col("session") == date(2020, 10, 9))).then(pl.lit("odd"))
    )
    found = asked.with_columns(peer_columns(asked, Returns.of(rows)))
    known = comovement(returns[10 : WINDOW + 10])  # the WINDOW sessions before the fourth quarter
    day = found.filter(pl.col("session") == date(2020, 10, 9)).sort("ticker")
    clean = day["suspect"].is_null().to_numpy()
    r = day["r"].to_numpy()
    common = known.loadings @ (known.loadings.T @ np.where(clean, r / known.scale, 0.0)) * known.scale
    for i, row in enumerate(day.iter_rows(named=True)):
        peers = known.peers[i] & clean
        assert row["peer_return_gap"] == pytest.approx(r[i] - r[peers].mean(), abs=1e-12)
        assert row["peer_vol_5"] == pytest.approx(3 * (r[peers].mean() - r[i]), abs=1e-12)
        assert row["factor_residual"] == pytest.approx(r[i] - common[i], abs=1e-12)
    assert found.select(*FEATURES).null_count().sum_horizontal().item() == 0


def test_returns_of_the_quarter_itself_do_not_decide_who_is_a_peer():
    returns = sector_returns(5, WINDOW + 60)
    rows = frame(returns, date(2020, 10, 1) - timedelta(days=WINDOW))
    asked = rows.filter(pl.col("session") == date(2020, 10, 1))
    later = rows.with_columns(r=pl.when(pl.col("session") >= date(2020, 10, 1)).then(-pl.col("r")).otherwise("r"))
    for found, again in zip(peer_columns(asked, Returns.of(rows)), peer_columns(asked, Returns.of(later)), strict=True):
        assert found.equals(again)


@given(
    values=arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(4, 400)), elements=st.integers(-9, 9)),
    count=st.integers(1, 3),
)
def test_the_largest_are_those_of_a_sort_and_the_first_of_equal_ones(values: np.ndarray, count: int):
    expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(largest(values, count), expected)


def test_sums_of_peers_are_those_of_a_product_with_all_pairs():
    returns = sector_returns(6)
    returns[:100, [3, 30]] = np.nan  # their peers are all others
    for found in (comovement(returns), comovement(returns[:, :9]), comovement(returns[:20])):
        values = np.random.default_rng(0).normal(size=(2, 3, len(found.common)))
        np.testing.assert_allclose(found.sums(values), values @ found.peers.T.astype(float), rtol=0, atol=1e-12)
