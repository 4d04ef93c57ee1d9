"""On the simulated market the best achievable score is known: how near does the model come to it?"""

import numpy as np
import pytest

from benchmarks.known_bound import PARTS, Market, from_parts, parts_of, walk_forward

#: The share of the way from the best naive baseline to the bound that the model has to make, and that of the way to
#: what a filter reaches that knows the laws and not the state.
SHARE, OF_THE_FILTER = 0.85, 0.94


@pytest.mark.drill
def test_walk_forward_the_model_comes_near_the_best_achievable_score():
    scored = walk_forward(Market())
    assert np.bincount(scored.year)[2020:].min() > 4000
    loss = {name: scored.log_loss(values) for name, values in scored.forecasts.items()}
    assert loss["bound"] < loss["rnn"] < min(loss["class_prior"], loss["ticker_prior"])
    assert loss["bound"] < loss["filter"]
    assert scored.share() >= SHARE, f"{scored.share():.1%} of the gap: {loss}"
    assert scored.share(best_name="filter") >= OF_THE_FILTER, (
        f"{scored.share(best_name='filter'):.1%} of the gap: {loss}"
    )


def test_a_forecast_is_the_sum_of_its_parts():
    rng = np.random.default_rng(0)
    probabilities, session = rng.dirichlet([2, 3, 4], 90), np.repeat(np.arange(9), 10)
    parts = parts_of(probabilities, session)
    assert parts.shape == (len(PARTS), 90)
    np.testing.assert_allclose(from_parts(parts), probabilities, rtol=1e-12)
    for level in (0, 2):  # one number a session, about which the others add up to nothing
        assert len(np.unique(parts[level].round(12))) == 9
        np.testing.assert_allclose(np.bincount(session, parts[level + 1]), 0, atol=1e-12)
