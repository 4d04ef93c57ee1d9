import numpy as np
import pytest

from stock_assets.model.barriers import of_classes
from stock_assets.model.sides import side_odds, walk_between


def test_the_walk_agrees_with_paths_that_are_drawn():
    """A million driftless paths, as the labels are made: the first close beyond a barrier decides."""
    rng, steps, up, down = np.random.default_rng(0), 7, np.log(1.027), np.log(1 - 0.022)
    walk = walk_between(0.027, 0.022, steps)
    for deviation in (0.008, 0.016):
        paths = np.cumsum(rng.standard_t(5, (500_000, steps)) * deviation * np.sqrt(3 / 5), axis=1)
        beyond = np.where(paths >= up, 1, np.where(paths <= down, -1, 0))
        first = beyond[np.arange(len(beyond)), (beyond != 0).argmax(axis=1)]
        move, odds = (first != 0).mean(), np.log((first == 1).sum() / (first == -1).sum())
        assert walk.odds(np.array([move]))[0] == pytest.approx(odds, abs=0.01)


def test_the_nearer_barrier_leads_less_the_wilder_the_walk():
    walk = walk_between(0.027, 0.022, 7)
    np.testing.assert_allclose(walk.odds(np.array([0.5, 0.66, 0.8])), [-0.263, -0.198, -0.157], atol=0.008)
    assert (np.diff(walk.move) > 0).all()
    assert (np.diff(walk.odds(np.linspace(0.2, 0.95, 50))) > 0).all()
    even, turned = walk_between(1 / 0.98 - 1, 0.02, 7), walk_between(1 / 0.978 - 1, 1 - 1 / 1.027, 7)
    np.testing.assert_allclose(even.odds(np.array([0.3, 0.7])), 0.0, atol=1e-9)  # barriers at the same distance
    np.testing.assert_allclose(turned.odds(np.array([0.5, 0.8])), -walk.odds(np.array([0.5, 0.8])), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 30])
def test_other_horizons_reach_from_calm_to_wild(steps: int):
    walk = walk_between(0.05, 0.03, steps)
    assert walk.move[0] < 0.1
    assert walk.move[-1] > 0.8
    assert np.isfinite(walk.up_to_down).all()


def test_volatility_ranks_no_tickers_and_the_direction_does():
    move, calm = np.array([0.3, 0.6, 0.9]), np.zeros(3)
    of_day, odds = np.full(3, 0.6), np.full(3, -0.2)

    def expected_label(tilt: np.ndarray) -> np.ndarray:
        sell, _, buy = of_classes(move, side_odds(move, of_day, odds, tilt=tilt)).T
        return buy - sell

    np.testing.assert_allclose(expected_label(calm), 0.6 * np.tanh(-0.1))
    assert (np.diff(expected_label(np.array([0.1, 0.0, -0.1]))) < 0).all()
    assert np.isfinite(side_odds(np.array([0.0, 1e-9]), of_day[:2], odds[:2], tilt=calm[:2])).all()
