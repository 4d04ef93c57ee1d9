"""The figures of the first section of a tear sheet: the net result, and how sure it is."""

from collections.abc import Iterator

import numpy as np

from stock_assets.trading import statistics
from stock_assets.trading.figures import Figure
from stock_assets.trading.findings import Findings
from stock_assets.trading.overfitting import minimum_backtest, minimum_track_record, probabilistic_sharpe
from stock_assets.trading.statistics import ANNUAL, SESSIONS_OF_A_YEAR


def result_figures(findings: Findings) -> Iterator[Figure]:
    """All of them, those that open the page first."""
    for part in (_result, _certainty, _overfitting, _attainable):
        yield from part(findings)


def _result(findings: Findings) -> Iterator[Figure]:
    """The head of the page: net Sharpe ratio, deflated one, trials, break-even cost, capacity."""
    trials, seed = findings.inputs.trials, findings.inputs.seed
    ends = statistics.sharpe_intervals(np.nan_to_num(findings.net)[:, None], seed=seed)[0]
    low, high = (None if np.isnan(end) else float(end) for end in ends)
    value = None if findings.moments is None else findings.moments.sharpe * ANNUAL
    yield Figure(
        "result",
        "net Sharpe ratio",
        "ratio",
        value,
        f"mean over standard deviation of the daily return after all costs and less that of cash, times "
        f"√{SESSIONS_OF_A_YEAR}; interval: 95 % of a circular bootstrap of blocks of 21 sessions",
        low,
        high,
    )
    yield Figure(
        "result",
        "deflated Sharpe ratio",
        "share",
        trials.deflated(findings.moments),
        "probability that the true Sharpe ratio exceeds what the best of all trials shows by luck (Bailey & López de "
        "Prado 2014); below 95 % luck explains the result",
    )
    yield Figure(
        "result",
        "trials",
        "count",
        trials.count,
        f"counted by the store: {trials.backtests} different back-tests, {trials.tunings} trials of hyperparameters, "
        f"{trials.challengers} judged versions of models",
    )
    turnover = findings.series("turnover")
    mean_turnover = float(np.nanmean(turnover)) if len(turnover) else 0.0
    even = statistics.ratio_interval(findings.gross, turnover, seed=seed)
    yield Figure(
        "result",
        "break-even cost of a trade",
        "bp",
        float(np.nanmean(findings.gross)) / mean_turnover if mean_turnover > 0 else None,
        "mean gross return over mean turnover: what a trade may cost, one way, before nothing is left; interval: that "
        "of the ratio, blocks of 21 sessions",
        *(even or (None, None)),
    )
    own = findings.own or {}
    yield Figure(
        "result",
        "capacity",
        "money",
        own.get("capacity"),
        "capital at which the gain in money is largest, 4/9 of the one at which impact, which grows with the root of "
        "the capital, leaves nothing; in the listing's currency; none where the return before impact is not positive",
        own.get("capacity_low"),
        own.get("capacity_high"),
    )


def _certainty(findings: Findings) -> Iterator[Figure]:
    moments, trials = findings.moments, findings.inputs.trials
    error = statistics.standard_error_hac(findings.net, sleeves=findings.sleeves)
    yield Figure(
        "result",
        "standard error of the Sharpe ratio",
        "error",
        None if error is None else error * ANNUAL,
        "a year, autocorrelation allowed for (Newey & West; Ledoit & Wolf 2008)",
    )
    yield Figure(
        "result",
        "Sharpe ratio by Lo",
        "ratio",
        statistics.annual_sharpe_lo(findings.net),
        "of a year, with the autocorrelation of 21 sessions instead of the root of the sessions (Lo 2002)",
    )
    yield Figure(
        "result",
        "luck of the best trial",
        "ratio",
        trials.annual_benchmark(len(findings.net)) if trials.count else None,
        "Sharpe ratio of a year that the best of so many worthless trials is expected to show, by the variance of the "
        "Sharpe ratios of the models and sleeves of this book",
    )
    yield Figure(
        "result",
        "probabilistic Sharpe ratio",
        "share",
        None if moments is None else probabilistic_sharpe(moments),
        "probability that the true Sharpe ratio is above 0, were this the only trial (Bailey & López de Prado 2012)",
    )


def _overfitting(findings: Findings) -> Iterator[Figure]:
    moments, trials, own = findings.moments, findings.inputs.trials, findings.own or {}
    yield Figure(
        "result",
        "probability of overfitting",
        "share",
        own.get("overfitting"),
        "how often the best of the tried models and sleeves in one half of the sessions is below the median in the "
        "other half (combinatorially symmetric cross-validation, 16 blocks)",
    )
    yield Figure(
        "result",
        "independent trials",
        "number",
        own.get("effective_trials"),
        "what the tried models and sleeves of the book are worth, correlated as they are: ρ̄ + (1 - ρ̄) M",
    )
    effective = own.get("effective_trials")
    yield Figure(
        "result",
        "deflated by independent trials",
        "share",
        None if effective is None else trials.deflated(moments, trials=effective),
        "the deflated Sharpe ratio with the independent trials instead of all: it leaves out other books and "
        "assumptions",
    )
    needed_sessions = None if moments is None else minimum_track_record(moments)
    yield Figure(
        "result",
        "record needed",
        "count",
        needed_sessions,
        "sessions after which a Sharpe ratio as high as this is above 0 with 95 % (Bailey & López de Prado 2012); none "
        "where it is not positive",
    )
    ratio = None if moments is None else moments.sharpe * ANNUAL
    yield Figure(
        "result",
        "years needed for so many trials",
        "number",
        None if ratio is None or not trials.count else minimum_backtest(trials.count, ratio),
        "below which the best of so many worthless trials is expected to show this Sharpe ratio",
    )


def _attainable(findings: Findings) -> Iterator[Figure]:
    best = findings.inputs.attainable
    if best is None or findings.moments is None:
        return
    ratio = findings.moments.sharpe * ANNUAL
    text = "the highest a year that the laws of the simulated market allow, held from close to close without costs"
    yield Figure("result", "attainable Sharpe ratio", "ratio", best, text)
    yield Figure(
        "result", "share of the attainable", "return", ratio / best, "net Sharpe ratio over the attainable one"
    )
