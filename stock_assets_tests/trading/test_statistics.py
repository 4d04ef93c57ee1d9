"""Figures of a series of returns: published golden values, other libraries, and what is no number."""

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from stock_assets.trading import statistics as s
from stock_assets.trading.capacity import Capacity, almgren, fitted_capacity

#: empyrical's `mixed_returns` and `negative_returns` (tests/test_stats.py), in fractions.
MIXED = np.array([np.nan, 1, 10, -4, 2, 3, 2, 1, -10]) / 100
NEGATIVE = np.array([0, -6, -7, -1, -9, -2, -6, -8, -5]) / 100


def daily(sessions: int = 1500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, sessions) * 0.01 + 0.0004


def test_golden_values_of_empyrical():
    assert s.total_return(MIXED) == pytest.approx(0.03893, abs=5e-6)
    assert s.annual_return(MIXED) == pytest.approx(1.9135925373194231, rel=1e-12)
    assert s.annual_volatility(MIXED) == pytest.approx(0.9136465399704637, rel=1e-12)
    ratio = s.sharpe(MIXED)
    assert ratio is not None
    assert ratio * s.ANNUAL == pytest.approx(1.7238613961706866, rel=1e-12)
    assert s.sortino(MIXED) == pytest.approx(2.605531251673693, rel=1e-12)
    assert s.calmar(MIXED) == pytest.approx(19.135925373194233, rel=1e-12)
    assert s.stability(MIXED) == pytest.approx(0.1529973665111273, rel=1e-12)


def test_alpha_and_beta_of_empyrical():
    line = s.regression(MIXED, NEGATIVE)
    assert line is not None
    assert line.alpha == pytest.approx(-0.9997853834885004, rel=1e-12)
    assert line.beta == pytest.approx(-0.71296296296296313, rel=1e-12)


def test_the_t_statistic_of_alpha_is_that_of_statsmodels_formula():
    """At lag 0, White's covariance, written out."""
    market = daily(300, seed=1)
    returns = 0.5 * market + daily(300, seed=2)
    design = np.stack([np.ones(300), market], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, returns, rcond=None)
    residuals = returns - design @ coefficients
    lag = s.newey_west_lag(300)
    long_run = sum(
        (1 - abs(i - j) / (lag + 1)) * residuals[i] * residuals[j] * np.outer(design[i], design[j])
        for i in range(300)
        for j in range(max(0, i - lag), min(300, i + lag + 1))
    )
    bread = np.linalg.inv(design.T @ design)
    line = s.regression(returns, market)
    assert line is not None
    assert line.alpha_t == pytest.approx(coefficients[0] / (bread @ long_run @ bread)[0, 0] ** 0.5, rel=1e-9)


def test_moments_are_those_of_scipy():
    returns = daily()
    found = s.moments(returns)
    assert found is not None
    assert found.skewness == pytest.approx(skew(returns), rel=1e-12)
    assert found.kurtosis == pytest.approx(kurtosis(returns, fisher=False), rel=1e-12)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)


def test_figures_are_those_of_ffn():
    ffn = pytest.importorskip("ffn", reason="ffn comes with bt, of the dev extra")
    pandas = pytest.importorskip("pandas")
    index = pandas.bdate_range("2015-01-01", periods=1501)
    returns = daily()
    series = pandas.Series([np.nan, *returns], index)
    prices = pandas.Series([1.0, *np.cumprod(1 + returns)], index)
    ratio = s.sharpe(returns)
    assert ratio is not None
    assert ratio * s.ANNUAL == pytest.approx(ffn.calc_sharpe(series, nperiods=252), rel=1e-9)
    assert s.deepest_drawdown(returns) == pytest.approx(ffn.calc_max_drawdown(prices), rel=1e-9)


def test_without_autocorrelation_the_two_standard_errors_are_one():
    """The identity of Ledoit & Wolf with Mertens at lag 0."""
    for seed in range(5):
        returns = daily(700, seed)
        assert s.standard_error_hac(returns, lag=0) == pytest.approx(s.standard_error_iid(returns), abs=1e-16)


def test_autocorrelation_makes_a_sharpe_ratio_less_sure():
    """AR(.2) over 1,500 sessions: the true standard error is .0325, and independence claims .0258."""
    generator = np.random.default_rng(0)
    iid, hac, ratios = [], [], []
    for _ in range(200):
        shocks = generator.standard_normal(1600)
        series = np.zeros(1600)
        for t in range(1, 1600):
            series[t] = 0.2 * series[t - 1] + shocks[t]
        series = series[100:] + 0.05
        iid.append(s.standard_error_iid(series))
        hac.append(s.standard_error_hac(series))
        ratios.append(s.sharpe(series))
    assert np.mean(iid) == pytest.approx(0.0258, abs=0.0002)
    assert np.mean(hac) == pytest.approx(0.0308, abs=0.0007)
    assert np.std(ratios) == pytest.approx(0.0325, abs=0.004)


@pytest.mark.parametrize(("rho", "factor"), [(0.9, 1.21), (0.5, 2.12), (0.2, 2.88), (0.0, 3.46), (-0.2, 4.17)])
def test_lo_s_factor_of_an_autoregression(rho: float, factor: float):
    assert s.annual_factor(rho ** np.arange(1, 12), 12) == pytest.approx(factor, abs=0.005)


def test_a_drawdown_is_measured_from_the_start_and_its_recovery_is_found():
    falls = s.worst_falls(np.array([-0.1, 0.2, -0.5, 0.1, 1.0, -0.2]))
    assert [(round(fall.depth, 3), fall.peak, fall.valley, fall.recovery) for fall in falls] == [
        (-0.5, 1, 2, 4),
        (-0.2, 4, 5, None),
        (-0.1, -1, 0, 1),
    ]


def test_the_interval_of_a_ratio_is_that_of_a_loop():
    generator = np.random.default_rng(3)
    gross, turnover = generator.normal(0.001, 0.01, 90), generator.uniform(0.1, 0.5, 90)
    from stock_assets.evaluation.bootstrap import BLOCK, DRAWS, drawn_sessions

    ratios = [
        gross[drawn].mean() / turnover[drawn].mean()
        for drawn in drawn_sessions(np.random.default_rng(0), 90, BLOCK, draws=DRAWS)
    ]
    assert s.ratio_interval(gross, turnover) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), rel=1e-9)


def test_intervals_of_many_series_are_those_of_each():
    from stock_assets.evaluation.bootstrap import BLOCK, DRAWS, drawn_sessions

    returns = np.stack([daily(120, seed) for seed in range(3)] + [np.zeros(120)], axis=1)
    intervals = s.sharpe_intervals(returns)
    drawn = drawn_sessions(np.random.default_rng(0), 120, BLOCK, draws=DRAWS)
    ratios = [returns[i, 1].mean() / returns[i, 1].std(ddof=1) * s.ANNUAL for i in drawn]
    assert intervals[1] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), rel=1e-9)
    assert np.isnan(intervals[3]).all()
    assert intervals[0] == pytest.approx(s.sharpe_intervals(returns[:, :1])[0], rel=1e-9)


def test_the_best_capital_is_four_ninths_of_the_last():
    capitals = np.array([1e6, 1e7, 1e8, 1e9])
    capacity = fitted_capacity(0.0003, capitals, 2e-8 * np.sqrt(capitals))
    assert capacity.exhausted == pytest.approx((0.0003 / 2e-8) ** 2, rel=1e-12)
    assert capacity.best is not None
    grid = np.linspace(1e6, 2.2e8, 20_001)
    assert grid[np.argmax([capacity.gain(a) for a in grid])] == pytest.approx(capacity.best, rel=1e-3)
    assert Capacity(-0.0001, 1e-8).best is None
    assert Capacity(0.0001, 0.0).best is None


@pytest.mark.parametrize(
    ("volume", "outstanding", "volatility", "permanent", "temporary", "realised"),
    [
        (6.561e6, 1728e6, 0.0157, 19.86, (22.3, 14.7, 8.5), (32.2, 24.6, 18.4)),
        (1.929e6, 168e6, 0.0226, 21.68, (32.1, 21.2, 12.2), (42.9, 32.0, 23.1)),
    ],
    ids=["IBM", "DRI"],
)
def test_the_examples_of_almgren_2005(volume, outstanding, volatility, permanent, temporary, realised):
    """A tenth of the daily volume over .1, .2 and .5 days; basis points."""
    impacts = [
        almgren(0.1 * volume, volume=volume, outstanding=outstanding, volatility=volatility, days=days)
        for days in (0.1, 0.2, 0.5)
    ]
    assert [10_000 * impact.permanent for impact in impacts] == pytest.approx([permanent] * 3, abs=0.01)
    assert [10_000 * impact.temporary for impact in impacts] == pytest.approx(temporary, abs=0.06)
    assert [10_000 * impact.realised for impact in impacts] == pytest.approx(realised, abs=0.06)


FIGURES = (
    s.sharpe, s.standard_error_iid, s.standard_error_hac, s.annual_sharpe_lo, s.annual_volatility, s.sortino, s.calmar,
    s.stability, s.moments,
)  # fmt: skip


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)
@pytest.mark.parametrize("returns", [np.array([]), np.array([np.nan, np.nan])], ids=["empty", "NaN"])
def test_of_no_return_there_is_no_figure(figure, returns):
    assert figure(returns) is None


@pytest.mark.parametrize(
    "figure", [figure for figure in FIGURES if figure is not s.annual_volatility], ids=lambda figure: figure.__name__
)
@pytest.mark.parametrize("value", [0.0, 0.001, 0.1])
def test_of_equal_returns_there_is_no_ratio(figure, value):
    """0.1 has a deviation of rounding, which is none."""
    if figure is s.stability and value:  # a straight line of log returns
        assert figure(np.full(7, value)) == pytest.approx(1.0)
    else:
        assert figure(np.full(7, value)) is None


def test_of_one_session_and_of_a_total_loss():
    one = np.array([0.01])
    assert [figure(one) for figure in FIGURES] == [None] * len(FIGURES)
    assert s.annual_return(one) == pytest.approx(1.01**252 - 1)
    assert s.deepest_drawdown(one) == 0.0
    assert s.annual_return(np.array([0.1, -1.0, 0.5])) == -1.0
    assert s.stability(np.array([0.1, -1.0, 0.5])) is None
    assert s.deepest_drawdown(np.array([])) is None
    assert s.worst_falls(np.array([])) == []
    assert s.drawdown_interval(np.array([])) is None
    assert s.ratio_interval(np.zeros(3), np.zeros(3)) is None
    assert s.regression(one, one) is None
    assert s.regression(np.array([0.1, 0.2, 0.3]), np.full(3, 0.1)) is None


def test_nan_is_left_out():
    returns = daily(300)
    holes = np.insert(returns, [0, 100, 300], np.nan)
    for figure in set(FIGURES) - {s.calmar, s.moments}:
        assert figure(holes) == pytest.approx(figure(returns), rel=1e-12)
