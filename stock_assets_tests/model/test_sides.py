import numpy as np
import pytest

from stock_assets.model.barriers import of_classes
from stock_assets.model.sides import IMAGINARY, Walk, side_odds, walk_between, walk_of_paths


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


def walk_with(steps: np.ndarray, horizons: float = 1e9) -> Walk:
    return walk_of_paths(steps, horizons, buy_threshold=0.027, sell_threshold=0.022)


def test_paths_without_skew_have_the_odds_of_the_walk_and_a_drift_is_none_of_theirs():
    rng = np.random.default_rng(1)
    half = rng.standard_t(5, (100_000, 7))
    steps = np.concatenate([half, -half])  # as many rises as falls of every size
    at, symmetric = np.array([0.5, 0.66, 0.8]), walk_between(0.027, 0.022, 7)
    np.testing.assert_allclose(walk_with(steps).odds(at), symmetric.odds(at), atol=0.015)
    drift = np.linspace(-0.5, 0.5, 7)
    np.testing.assert_allclose(walk_with(steps + drift).odds(at), walk_with(steps).odds(at), atol=1e-9)


def test_odds_of_paths_equal_those_that_are_counted_and_falls_that_make_volatile_steepen_them():
    """Where volatility is higher than it was forecast, prices fall: on calm days little else touches a barrier."""
    rng = np.random.default_rng(2)
    surprise = rng.normal(0, 0.4, (20_000, 1))
    steps = rng.normal(size=(20_000, 7)) * np.exp(surprise) - 0.25 * surprise
    walk, centred = walk_with(steps), steps - steps.mean(axis=0)
    for scale in (0.007, 0.015):
        growth = np.exp(np.cumsum(centred * scale, axis=1)) - 1
        first = [next((1 if g > 0.027 else -1 for g in path if g > 0.027 or g < -0.022), 0) for path in growth]
        up, down = first.count(1), first.count(-1)
        assert walk.odds(np.array([(up + down) / len(first)]))[0] == pytest.approx(np.log(up / down), abs=0.05)
    steep, even = (np.diff(each.odds(np.array([0.5, 0.8])))[0] for each in (walk, walk_between(0.027, 0.022, 7)))
    assert steep > even + 0.08
    turned = walk_with(-steps)
    assert np.diff(turned.odds(np.array([0.5, 0.8])))[0] < even - 0.08


def test_few_horizons_count_little_and_paths_that_stand_still_nothing():
    steps = np.random.default_rng(3).gamma(1.0, size=(5_000, 7))
    at, symmetric = np.array([0.5, 0.8]), walk_between(0.027, 0.022, 7).odds(np.array([0.5, 0.8]))
    none, all_of_it, half = (walk_with(-steps, horizons).odds(at) for horizons in (0.0, 1e9, float(IMAGINARY)))
    np.testing.assert_allclose(none, symmetric, atol=0.01)
    assert np.abs(all_of_it - symmetric).max() > 0.1
    np.testing.assert_allclose(half, (none + all_of_it) / 2, atol=0.01)
    np.testing.assert_array_equal(walk_with(np.zeros((50, 7))).odds(at), symmetric)
    np.testing.assert_array_equal(walk_with(np.eye(7)[:1].repeat(50, axis=0)).odds(at), symmetric)


def test_volatility_ranks_no_tickers_and_the_direction_does():
    move, calm = np.array([0.3, 0.6, 0.9]), np.zeros(3)
    of_day, odds = np.full(3, 0.6), np.full(3, -0.2)

    def expected_label(tilt: np.ndarray) -> np.ndarray:
        sell, _, buy = of_classes(move, side_odds(move, of_day, odds, tilt=tilt)).T
        return buy - sell

    np.testing.assert_allclose(expected_label(calm), 0.6 * np.tanh(-0.1))
    assert (np.diff(expected_label(np.array([0.1, 0.0, -0.1]))) < 0).all()
    assert np.isfinite(side_odds(np.array([0.0, 1e-9]), of_day[:2], odds[:2], tilt=calm[:2])).all()
