"""The charts of a tear sheet, each a figure of inline SVG."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts.bars import Interval, diverging_bars, intervals
from stock_assets.pages.charts.lines import Format, Line, LineChart
from stock_assets.trading import attribution, signals
from stock_assets.trading.figures import basis_points
from stock_assets.trading.findings import Findings, Replayed
from stock_assets.trading.sensitivities import CHOSEN
from stock_assets.trading.statistics import ANNUAL, drawdowns

#: Sessions of a rolling figure: half a year.
WINDOW = 126
GROWTH = Format(lambda tick: f"{tick:g}", lambda value: numbers.score(value, 3))
FALL = Format(lambda tick: f"{100 * tick:g}\N{NO-BREAK SPACE}%".replace("-", numbers.MINUS), numbers.signed_percent)
RATIO = Format(lambda tick: f"{tick:g}".replace("-", numbers.MINUS), lambda value: numbers.signed(value, 2))
#: The column of the table equity, its name and its look.
LINES = (
    ("net_return", "the book, net", "service"),
    ("market", "the market", "naive"),
    ("equal_weight", "equal weights", "other"),
)


def charts_of(findings: Findings) -> Mapping[str, Markup]:
    """Every chart that there is something for, by name."""
    charts: dict[str, Markup] = {}
    if len(findings.sessions) > 1:
        charts |= {"growth": _growth(findings), "drawdown": _drawdown(findings), "exposure": _exposure(findings)}
    if len(findings.sessions) > WINDOW:
        charts |= _rolling(findings)
    if any(findings.parts.values()):
        charts["costs"] = _costs(findings)
    if findings.by_lag.height:
        charts["lags"] = _lags(findings)
    if (deciles := signals.deciles(findings.scores, findings.returns)).height:
        charts["deciles"] = _deciles(deciles)
    if (sectors := attribution.by_sector(findings.contributions, findings.inputs.universe)).height > 1:
        charts["sectors"] = _sectors(sectors)
    if findings.base["net_sharpe"].count():
        charts["sleeves"] = _by_sleeves(findings)
    if findings.inputs.replay is not None and findings.inputs.replay.rows.height:
        charts["replay"] = _replay(findings.inputs.replay)
    return charts


def _replay(replay: Replayed) -> Markup:
    """Both paths, and the one between them."""
    names = {"as_said": ("as predicted each evening", "service"), "todays_bars": ("on today's bars", "other")}
    names["today"] = ("today's bars and models", "naive")
    rows, places = replay.rows.sort("session"), thinned(replay.rows.height)
    sessions = rows["session"].gather(places).to_list()
    paths = {column: np.cumprod(1 + rows[column].fill_null(0.0).fill_nan(0.0).to_numpy()) for column in names}
    lines = [Line(names[column][0], _values(path, places), names[column][1]) for column, path in paths.items()]
    title, note = (
        "What 1 has grown to, as predicted and in hindsight",
        "net; between the lines is the price of hindsight",
    )
    return LineChart(title, sessions, lines, GROWTH, note, whole=True).figure()


def _growth(findings: Findings) -> Markup:
    paths = {column: np.cumprod(1 + np.nan_to_num(findings.series(column))) for column, _, _ in _shown(findings)}
    return LineChart(
        "What 1 has grown to",
        *_thinned(findings, paths),
        GROWTH,
        "after all costs, the market with its dividends, the universe in equal weights without costs",
        whole=True,
        height=270,
    ).figure()


def _drawdown(findings: Findings) -> Markup:
    paths = {
        column: drawdowns(findings.series(column)) for column, _, _ in _shown(findings) if column != "equal_weight"
    }
    sessions, lines = _thinned(findings, paths)
    return LineChart("Below the last peak", sessions, lines, FALL, "at closes", zero=True, whole=True).figure()


def _shown(findings: Findings) -> list[tuple[str, str, str]]:
    """The lines that have a value."""
    return [line for line in LINES if findings.equity[line[0]].count()]


def _thinned(findings: Findings, paths: Mapping[str, np.ndarray]) -> tuple[list, list[Line]]:
    places = thinned(len(findings.sessions))
    names = {column: (name, look) for column, name, look in LINES}
    lines = [Line(names[column][0], _values(path, places), names[column][1]) for column, path in paths.items()]
    return [findings.sessions[i] for i in places], lines


def _exposure(findings: Findings) -> Markup:
    long, short = findings.series("long"), findings.series("short")
    series = {"long": (long, "buy"), "short": (-short, "sell"), "net": (long - short, "naive")}
    series["beta"] = (findings.series("beta"), "other")
    places = thinned(len(findings.sessions))
    if not short.any():
        series = {name: series[name] for name in ("long", "beta")}
    lines = [Line(name, _values(values, places), look) for name, (values, look) in series.items()]
    sessions = [findings.sessions[i] for i in places]
    return LineChart("Exposure", sessions, lines, RATIO, "over equity, at closes", zero=True, whole=True).figure()


def _rolling(findings: Findings) -> dict[str, Markup]:
    frame = pl.DataFrame({"net": findings.net, "market": findings.series("market")}, nan_to_null=True)
    net, market = pl.col("net"), pl.col("market")
    covariance = pl.rolling_cov(net, market, window_size=WINDOW)
    rolled = frame.with_columns(
        deviation=net.rolling_std(WINDOW), mean=net.rolling_mean(WINDOW), beta=covariance / market.rolling_var(WINDOW)
    )
    rolled = rolled.select(
        sharpe=pl.when(pl.col("deviation") > 0).then(pl.col("mean") / pl.col("deviation") * ANNUAL),
        volatility=pl.col("deviation") * ANNUAL,
        beta="beta",
    )
    titles = {
        "sharpe": ("Sharpe ratio of half a year", RATIO),
        "volatility": ("Volatility of half a year", FALL),
        "beta": ("Beta of half a year", RATIO),
    }
    places = thinned(len(findings.sessions))
    sessions = [findings.sessions[i] for i in places]
    charts = {}
    for column, (title, form) in titles.items():
        values = rolled[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        if np.isfinite(values).any():
            line = Line(f"last {WINDOW} sessions, net", _values(values, places), "service")
            charts[f"rolling_{column}"] = LineChart(
                title, sessions, [line], form, zero=True, whole=column == "beta"
            ).figure()
    return charts


def _costs(findings: Findings) -> Markup:
    names = {"price_gain": "prices", "dividend": "dividends", "ending": "ended listings", "interest": "interest"}
    rows = [(names.get(name, name), value, basis_points(value)) for name, value in findings.parts.items()]
    note = "mean of a session, in basis points of the equity before; the parts sum to the net return"
    return diverging_bars("From gains to the net return", rows, note=note)


def _lags(findings: Findings) -> Markup:
    rows = [
        Interval(
            f"t+{row['lag']} to t+{row['lag'] + 1}",
            row["ic"],
            row["ic_low"],
            row["ic_high"],
            "service",
            f"{numbers.signed(row['ic'], 4)}, 95 %: {numbers.interval(row['ic_low'], row['ic_high'])}",
        )
        for row in findings.by_lag.iter_rows(named=True)
    ]
    note = "Spearman's correlation of the score at the close of t and the return between two opens; bars hold 95 %"
    return intervals("Rank correlation by lag, from the open of t+1", rows, note=note, unit="correlation")


def _deciles(deciles: pl.DataFrame) -> Markup:
    names = {1: "1, lowest scores", 10: "10, highest scores"}
    rows = [
        (names.get(row["decile"], str(row["decile"])), row["mean"], basis_points(row["mean"]))
        for row in deciles.sort("decile", descending=True).iter_rows(named=True)
    ]
    note = "mean return from the open of t+1 to that of t+2 less that of all tickers of the session, before costs"
    return diverging_bars("Return by tenth of the score", rows, note=note, whole=False)


def _sectors(sectors: pl.DataFrame) -> Markup:
    rows = [
        (row["sector"], row["contribution"], numbers.signed_percent(row["contribution"]))
        for row in sectors.iter_rows(named=True)
    ]
    note = "sum over all sessions, after the costs of its trades"
    return diverging_bars("Contribution by sector", rows, note=note, whole=False)


def _by_sleeves(findings: Findings) -> Markup:
    rows = []
    for row in findings.base.filter(pl.col("net_sharpe").is_not_null()).iter_rows(named=True):
        name = "K chosen by year" if row["sleeves"] == CHOSEN else f"K = {row['sleeves']}"
        own = row["sleeves"] == (findings.inputs.book.sleeves or CHOSEN)
        low, high = row["net_sharpe_low"], row["net_sharpe_high"]
        label = f"{numbers.signed(row['net_sharpe'], 2)}, 95 %: {numbers.interval(low, high, 2)}"
        look = "service" if own else "hold"
        rows.append(Interval(name, row["net_sharpe"], low, high, look, label))
    note = "a year, after all costs, by the number of sleeves; bars hold 95 %; the book's own in colour"
    return intervals("Net Sharpe ratio by K", rows, note=note, unit="a year")


def _values(values: np.ndarray, places: Sequence[int]) -> list[float | None]:
    return [float(values[i]) if np.isfinite(values[i]) else None for i in places]


def thinned(length: int, limit: int = 500) -> list[int]:
    """At most about `limit` places of a series of `length`, the first and the last among them.

    >>> thinned(5), len(thinned(2516))
    ([0, 1, 2, 3, 4], 421)
    """
    step = max(1, -(-length // limit))
    places = [*range(0, length, step)]
    return places if not length or places[-1] == length - 1 else [*places, length - 1]
