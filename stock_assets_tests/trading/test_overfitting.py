"""What the best of many trials shows by luck: published golden values, and purgedcv."""

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from stock_assets.errors import StockAssetsError
from stock_assets.trading import overfitting as o
from stock_assets.trading.statistics import Moments, moments

#: The example of Bailey & López de Prado 2014: an annual Sharpe ratio of 2.5 over 1,250 sessions.
BEST = Moments(1250, 2.5 / 250**0.5, -3.0, 10.0)
VARIANCE = 0.5 / 250


def test_probabilistic_sharpe_ratio_of_pypbo_and_mlfinlab():
    monthly = Moments(24, 1.585 / 12**0.5, -2.448, 10.164)
    assert o.probabilistic_sharpe(monthly) == pytest.approx(0.91323430688486018, rel=1e-12)
    assert o.probabilistic_sharpe(Moments(250, 1.14, 0.0, 3.0), 1.0) == pytest.approx(0.95727788, abs=5e-9)


def test_expected_maximum_of_pypbo_and_ffn():
    assert o.expected_maximum(100) == pytest.approx(2.5306028932016846, rel=1e-12)
    benchmark = VARIANCE**0.5 * o.expected_maximum(100)
    assert benchmark == pytest.approx(0.11317200186513214, rel=1e-12)
    assert benchmark * 250**0.5 == pytest.approx(1.78940646627, rel=1e-10)
    ffn = pytest.importorskip("ffn", reason="ffn comes with bt, of the dev extra")
    assert ffn.calc_expected_max_sharpe(100, VARIANCE**0.5) == pytest.approx(benchmark, rel=1e-12)


def test_deflated_sharpe_ratio_of_the_paper():
    assert o.deflated_sharpe(BEST, trials=100, variance=VARIANCE) == pytest.approx(0.90039683444939034, rel=1e-12)
    assert o.deflated_sharpe(BEST, trials=46, variance=VARIANCE) == pytest.approx(0.9505017, abs=5e-8)
    normal = Moments(1250, BEST.sharpe, 0.0, 3.0)
    assert o.deflated_sharpe(normal, trials=88, variance=VARIANCE) == pytest.approx(0.9504908, abs=5e-8)


def test_one_trial_deflates_nothing_and_none_is_refused():
    assert o.deflated_sharpe(BEST, trials=1, variance=VARIANCE) == o.probabilistic_sharpe(BEST)
    assert o.expected_maximum(1.0000001) == 0.0
    with pytest.raises(StockAssetsError, match="number of trials is 0; expected at least 1"):
        o.expected_maximum(0)


def test_more_trials_deflate_more():
    values = [o.deflated_sharpe(BEST, trials=n, variance=VARIANCE) for n in (1, 2, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


def test_minimum_track_record_of_pypbo_and_mlfinlab():
    def years(periods: int) -> float:
        found = o.minimum_track_record(Moments(0, 2 / periods**0.5, 0.0, 3.0), 1 / periods**0.5)
        assert found is not None
        return found / periods

    assert years(250) == pytest.approx(2.7311878017281761, rel=1e-9)
    assert years(52) == pytest.approx(2.8288335869452368, rel=1e-9)
    monthly = o.minimum_track_record(Moments(0, 3 / 12**0.5, -0.72, 5.78), 2.5 / 12**0.5)
    assert monthly is not None
    assert monthly / 12 == pytest.approx(27.352920196040301, rel=1e-9)
    assert o.minimum_track_record(Moments(0, 1.14, 0.0, 3.0), 1.0) == pytest.approx(228.73497911, abs=5e-8)
    assert o.minimum_track_record(Moments(0, 1.0, 0.0, 3.0), 1.0) is None


def test_minimum_backtest_of_pypbo_and_purgedcv():
    assert o.minimum_backtest(45, 1.0) == pytest.approx(4.9980870044434038, rel=1e-12)
    assert o.minimum_backtest(45, -0.5) is None
    purgedcv = pytest.importorskip("purgedcv", reason="of the dev extra")
    assert purgedcv.minimum_backtest_length(45, target_sharpe=1.0) == pytest.approx(4.9980870044434038, rel=1e-9)


def test_the_probabilistic_sharpe_ratio_is_that_of_purgedcv():
    """Which divides by T in the deviation and corrects skewness and kurtosis for their bias."""
    purgedcv = pytest.importorskip("purgedcv", reason="of the dev extra")
    returns = np.random.default_rng(4).standard_t(4, 900) * 0.01 + 0.0003
    third, fourth = skew(returns, bias=False), kurtosis(returns, fisher=False, bias=False)
    theirs = purgedcv.probabilistic_sharpe_ratio(returns, benchmark_skill=0.01)
    of_their_moments = Moments(900, returns.mean() / returns.std(), float(third), float(fourth))
    assert o.probabilistic_sharpe(of_their_moments, 0.01) == pytest.approx(theirs, rel=1e-12)
    ours = moments(returns)
    assert ours is not None
    assert o.probabilistic_sharpe(ours, 0.01) == pytest.approx(theirs, abs=3e-4)


def noise(configurations: int = 50) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1000, configurations)) * 0.01


def test_overfitting_is_certain_where_in_and_out_of_sample_sum_to_nothing():
    returns = noise()
    demeaned = returns - returns.mean(axis=0)
    assert o.overfitting_probability(demeaned, blocks=10, metric="mean") == 1.0


def test_overfitting_is_impossible_where_one_is_always_best():
    returns = noise()
    returns[:, 7] += 0.02
    assert o.overfitting_probability(returns, blocks=10) == 0.0


def test_overfitting_of_noise_is_that_of_purgedcv():
    assert o.overfitting_probability(noise(), blocks=10) == pytest.approx(0.32936507936507936, rel=1e-12)
    purgedcv = pytest.importorskip("purgedcv", reason="of the dev extra")
    theirs = purgedcv.probability_of_backtest_overfitting(noise().T, n_splits=10)
    assert theirs.pbo == pytest.approx(0.32936507936507936, rel=1e-12)


def test_overfitting_of_sixteen_blocks_a_short_record_and_no_choice():
    sixteen = o.overfitting_probability(noise(4))
    assert sixteen is not None
    assert 0 < sixteen < 1
    assert round(12_870 * sixteen, 6).is_integer()
    assert o.overfitting_probability(noise(1)) is None
    assert o.overfitting_probability(noise(4)[:31]) is None
    assert o.overfitting_probability(np.zeros((64, 3))) == 1.0  # equal ones are at the median
    with pytest.raises(StockAssetsError, match="15 blocks; expected an even number"):
        o.overfitting_probability(noise(4), blocks=15)


def test_correlated_trials_count_less():
    correlations = np.full((10, 10), 0.3) + 0.7 * np.eye(10)
    assert o.effective_trials(correlations) == pytest.approx(0.3 + 0.7 * 10)
    assert o.effective_trials(np.ones((1, 1))) == 1.0
    assert o.effective_trials(np.full((3, 3), np.nan)) == 3.0
    assert o.effective_trials(np.full((3, 3), 0.99)) >= 1.0
