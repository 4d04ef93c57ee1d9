"""Every figure of the tear sheet, section by section."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from stock_assets.evaluation.bootstrap import block_bootstrap
from stock_assets.pages import numbers
from stock_assets.trading import attribution, signals, statistics
from stock_assets.trading.figures import SECTIONS, Figure
from stock_assets.trading.findings import Findings
from stock_assets.trading.result_figures import result_figures
from stock_assets.trading.statistics import ANNUAL, SESSIONS_OF_A_YEAR


def figures_of(findings: Findings) -> list[Figure]:
    """All figures, in the order of the page. One that does not exist has no value."""
    parts = (result_figures, _risk, _costs, _market, _signal, _holdings, _unfilled, _replay)
    order = list(SECTIONS)
    figures = [figure for part in parts for figure in part(findings)]
    return sorted(figures, key=lambda figure: order.index(figure.section))


def _risk(findings: Findings) -> Iterator[Figure]:
    net = findings.series("net_return")
    deepest = statistics.drawdown_interval(net, seed=findings.inputs.seed)
    yield Figure(
        "equity",
        "return a year",
        "return",
        statistics.annual_return(net),
        f"net, compounded: (1 + total)^({SESSIONS_OF_A_YEAR} / sessions) - 1",
    )
    yield Figure(
        "equity",
        "volatility a year",
        "share",
        statistics.annual_volatility(net),
        f"standard deviation (T - 1) of the daily net return times √{SESSIONS_OF_A_YEAR}",
    )
    yield Figure(
        "equity",
        "deepest drawdown",
        "return",
        statistics.deepest_drawdown(net),
        "deepest fall from a peak, the start included, at closes; interval: over resampled histories of equal length",
        *(deepest or (None, None)),
    )
    yield Figure(
        "equity",
        "Sortino ratio",
        "ratio",
        statistics.sortino(net),
        "mean over the root of the mean of min(r, 0)², a year",
    )
    yield Figure(
        "equity",
        "Calmar ratio",
        "ratio",
        statistics.calmar(net),
        "return a year over the depth of the deepest drawdown",
    )
    yield Figure(
        "equity",
        "stability",
        "share",
        statistics.stability(net),
        "R² of a straight line through the cumulated log returns",
    )


def _costs(findings: Findings) -> Iterator[Figure]:
    parts, seed = findings.parts, findings.inputs.seed
    for name, values in (
        ("gross return", findings.series("gross_return")),
        ("net return", findings.series("net_return")),
    ):
        ends = block_bootstrap(values, seed=seed) or (None, None)
        mean = float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else None
        text = "mean of a session before every cost" if name[0] == "g" else "mean of a session after every cost"
        yield Figure("costs", name, "bp", mean, f"{text}, in basis points of the equity before", *ends)
    for name in attribution.COSTS:
        yield Figure(
            "costs",
            f"cost: {name}",
            "bp",
            parts.get(name),
            f"{_COST_TEXTS[name]}; mean of a session, in basis points of the equity before",
        )
    turnover = findings.series("turnover")
    mean_turnover = float(np.nanmean(turnover)) if len(turnover) else None
    yield Figure(
        "costs", "turnover", "share", mean_turnover, "value traded, bought and sold, over the equity before; a session"
    )
    cost_sum = sum(parts.get(name, 0.0) for name in ("spread", "impact", "commission"))
    yield Figure(
        "costs",
        "mean cost of a trade",
        "bp",
        -cost_sum / mean_turnover if mean_turnover else None,
        "spread, impact and commission over the value traded, one way; compare it with the break-even cost",
    )


_COST_TEXTS = {
    "spread": "half the spread at the open, by a stated table",
    "impact": "the root law of the share of the value traded",
    "commission": "with the fees of sales",
    "borrow": "of the shares of short positions",
}


def _market(findings: Findings) -> Iterator[Figure]:
    for name, column in (("the market", "market"), ("equal weights", "equal_weight")):
        series = findings.series(column)
        ratio = statistics.sharpe(series - findings.interest)
        text = "the market's fund, dividends included" if column == "market" else "the mean of the universe, no cost"
        yield Figure(
            "equity", f"Sharpe ratio of {name}", "ratio", None if ratio is None else ratio * ANNUAL, f"{text}; a year"
        )
    line = statistics.regression(findings.net, findings.series("market") - findings.interest, sleeves=findings.sleeves)
    yield Figure(
        "equity",
        "alpha a year",
        "return",
        line and line.alpha,
        "intercept of net returns on those of the market, compounded",
    )
    yield Figure("equity", "t of alpha", "ratio", line and line.alpha_t, "alpha over its standard error (Newey & West)")
    yield Figure("equity", "beta", "ratio", line and line.beta, "slope of net returns on those of the market")


def _signal(findings: Findings) -> Iterator[Figure]:
    for row in findings.by_lag.iter_rows(named=True):
        yield Figure(
            "signal",
            f"rank correlation, lag {row['lag']}",
            "correlation",
            row["ic"],
            f"Spearman's, mean over sessions, of the score at the close of t and the return from the open of "
            f"t+{row['lag']} to that of t+{row['lag'] + 1}",
            row["ic_low"],
            row["ic_high"],
        )
    yield Figure(
        "signal",
        "half of it is earned by lag",
        "number",
        signals.half_life(findings.by_lag),
        "lag by which half of the sum of the positive correlations of lags 1 to 10 is there",
    )
    follows = signals.score_autocorrelation(findings.scores)["ic"]
    yield Figure(
        "signal",
        "autocorrelation of the score",
        "ratio",
        float(follows.mean()) if len(follows) else None,  # pyright: ignore[reportArgumentType]: of numbers
        "Spearman's, mean over sessions, with the score of the session before: low means that much is traded",
    )


def _holdings(findings: Findings) -> Iterator[Figure]:
    inputs, equity = findings.inputs, findings.equity
    texts = {
        "long": ("long exposure", "value of the long positions over equity"),
        "short": ("short exposure", "value of the short positions over equity, not below zero"),
        "beta": ("beta of the positions", "by the betas measured before each session"),
    }
    for column, (name, text) in texts.items():
        form = "ratio" if column == "beta" else "share"
        yield Figure("holdings", name, form, _mean(equity[column]), f"{text}; mean over sessions")
    net = equity.select((pl.col("long") - pl.col("short")).alias("net"))["net"]
    yield Figure("holdings", "net exposure", "return", _mean(net), "long less short; mean over sessions")
    yield Figure(
        "holdings", "names", "number", _mean(equity["names"].cast(pl.Float64)), "positions held; mean over sessions"
    )
    yield Figure(
        "holdings",
        "holding period",
        "number",
        attribution.holding_period(equity),
        "sessions: mean exposure, long and short, over half of the mean turnover",
    )
    if findings.last is None:
        return
    share, names = attribution.concentration(inputs.positions, findings.last)
    yield Figure("holdings", "ten largest positions", "share", share, "share of the exposure, at the newest close")
    yield Figure(
        "holdings",
        "equal positions",
        "number",
        names,
        "so many positions of one size are as concentrated (1 / Σ share²)",
    )
    part = inputs.book.costs.participation
    days = attribution.days_to_liquidate(inputs.positions, findings.adv, findings.last, participation=part)[
        "days"
    ].drop_nulls()
    yield Figure(
        "holdings",
        "sessions to liquidate",
        "number",
        float(days.max()) if len(days) else None,  # pyright: ignore[reportArgumentType]: of numbers
        f"the slowest position, at {numbers.percent(part)} of the mean value traded in 20 sessions",
    )


def _unfilled(findings: Findings) -> Iterator[Figure]:
    orders = findings.inputs.fills.filter(pl.col("ordered") != 0)
    short = orders.filter(pl.col("filled").fill_null(0.0) != pl.col("ordered")).height
    yield Figure(
        "unfilled", "orders", "count", orders.height, "of all sessions; an order is in shares, decided at a close"
    )
    yield Figure(
        "unfilled",
        "not wholly filled",
        "share",
        short / orders.height if orders.height else None,
        "orders of which a part expired, for the reasons below",
    )


def _replay(findings: Findings) -> Iterator[Figure]:
    replay = findings.inputs.replay
    if replay is None:
        return
    texts = {
        "as_said": ("as predicted each evening", "by the versions that served then, on the bars as known then"),
        "todays_bars": ("the same on today's bars", "with what was revised since"),
        "today": ("today's bars and models", "what a back-test made today shows"),
    }
    for column, (name, text) in texts.items():
        yield Figure("replay", name, "bp", _mean(replay.rows[column]), f"{text}; mean net return of a session")
    text = "what they add to a session in hindsight: above 0 no evening could have had it"
    for name, value in {"revised bars": replay.by_bars, "changed models": replay.by_models}.items():
        yield Figure("replay", f"hindsight of {name}", "bp", value / 10_000, text)
    yield Figure("replay", "evenings with revised bars", "count", replay.changed_bars, "of all evenings replayed")
    text = "predictions that another version makes today"
    yield Figure("replay", "predictions of other versions", "count", replay.changed_versions, text)


def _mean(column: pl.Series) -> float | None:
    mean = column.drop_nulls().mean()
    return float(mean) if isinstance(mean, int | float) else None
