import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.model.barriers import BarrierMap, fit_barrier_map

QUICK = settings(derandomize=True, deadline=None, max_examples=30)


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sigma, labels, true P(move)): a move is likelier the larger sigma, buy and sell equally so."""
    rng = np.random.default_rng(seed)
    sigma = rng.normal(-4, 0.4, rows)
    move = 1 / (1 + np.exp(-(1.0 + 3 * (sigma + 4))))
    side = np.where(rng.random(rows) < 0.5, 1, -1)
    return sigma, np.where(rng.random(rows) < move, side, 0), move


def test_it_finds_the_probabilities_that_drew_the_labels():
    sigma, labels, move = drawn(100_000)
    found = fit_barrier_map(sigma, labels).probabilities(sigma, np.zeros_like(sigma))
    inside = np.abs(sigma + 4) < 1
    assert np.abs(1 - found[:, 1] - move)[inside].max() < 0.02
    np.testing.assert_allclose(found.sum(axis=1), 1)


@QUICK
@given(seed=st.integers(0, 1000), rows=st.integers(10, 300))
def test_a_higher_volatility_never_makes_a_move_less_likely(seed, rows):
    rng = np.random.default_rng(seed)
    found = fit_barrier_map(rng.normal(size=rows), rng.integers(-1, 2, rows))
    grid = np.linspace(-6, 6, 200)
    answer = found.probabilities(grid, np.zeros_like(grid))
    assert np.isfinite(answer).all()
    assert (np.diff(1 - answer[:, 1]) >= -1e-12).all()


def test_the_odds_share_a_move_and_leave_hold_alone():
    barriers = BarrierMap(np.zeros(5), np.zeros(7))
    answer = barriers.probabilities(np.zeros(3), np.array([-0.06, 0.0, 0.12]))
    np.testing.assert_allclose(answer[:, 1], 0.5)
    np.testing.assert_allclose(np.log(answer[:, 2] / answer[:, 0]), [-0.06, 0.0, 0.12])


@pytest.mark.parametrize("only", [-1, 0, 1])
def test_a_class_that_is_all_there_is_stays_below_certainty(only):
    sigma = np.linspace(-5, -3, 50)
    answer = fit_barrier_map(sigma, np.full(50, only)).probabilities(sigma, np.zeros(50))
    assert (answer > 0).all()
    assert ((answer[:, 1] > 0.9) if only == 0 else (answer[:, 1] < 0.1)).all()
