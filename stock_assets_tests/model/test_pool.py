import numpy as np
import pytest

from stock_assets.model.pool import SMALLEST, pool_weights


def log_loss(right: np.ndarray, weights: np.ndarray) -> float:
    return float(-np.log(right @ weights).mean())


def test_no_other_average_has_a_smaller_log_loss():
    rng = np.random.default_rng(0)
    right = np.column_stack([rng.beta(2, 3, 4000), rng.beta(2.1, 3, 4000), rng.beta(2, 2.8, 4000)])
    weights = pool_weights(right)
    assert weights.sum() == pytest.approx(1)
    best = log_loss(right, weights)
    assert all(best <= log_loss(right, other) + 1e-5 for other in rng.dirichlet(np.ones(3), 500))
    assert best < min(log_loss(right, alone) for alone in np.eye(3))


def test_a_model_that_only_harms_gets_nothing():
    rng = np.random.default_rng(1)
    good = rng.beta(5, 3, 2000)
    weights = pool_weights(np.column_stack([good, good, good * 0.5]))
    assert weights[2] == 0
    assert log_loss(np.column_stack([good, good, good * 0.5]), weights) == pytest.approx(float(-np.log(good).mean()))


def test_small_weights_are_dropped():
    rng = np.random.default_rng(2)
    weights = pool_weights(np.column_stack([rng.beta(5, 3, 3000), rng.beta(1, 4, 3000)]))
    assert all(weight == 0 or weight >= SMALLEST for weight in weights)


def test_an_answer_that_was_impossible_is_survived():
    weights = pool_weights(np.array([[0.0, 0.4], [0.5, 0.4]]))
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("wrong", [np.empty((0, 2)), np.array([[0.5, np.nan]]), np.array([[0.5, -0.1]])])
def test_what_is_no_probability_is_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match="expected finite numbers"):
        pool_weights(wrong)
