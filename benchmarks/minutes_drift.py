"""How often drift of bars rings on markets that need no training, and whether it rings on one that changed.

    python -m benchmarks minutes_drift [--days N] [--tickers N] [--markets N]

The figure is that of `lifecycle/bar_drift.py`: five sessions against those that the model in service learned from, with
trainings every five sessions on twenty at most. An alarm is a session at or above the limit after one below it. Of the
simulated markets (other seeds) and the ten real days every alarm counts as false: nothing is known to have changed in
them. Plants: from a session in the middle on every log return and range of a bar is twice or half as large, or every
volume four times; the sessions until the figure reaches the limit are counted.
"""

import argparse
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.common import preamble, table
from benchmarks.minutes_models import FILE, read_bars
from stock_assets.features.bar_features import bar_features
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.bar_drift import COMPARED, INPUT_LIMIT, RECENT_BARS
from stock_assets.market.calendar import TradingCalendar, calendar_of, trading_calendar
from stock_assets.market.intervals import Interval
from stock_assets.market.sources.simulated_bars import SimulatedBars
from stock_assets.model.bar_lesson import answerable
from stock_assets.model.bar_schedule import first_served, training_of
from stock_assets.settings import read_settings

START, MINUTE = date(2025, 3, 1), Interval.parse("1m")
LIMITS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
#: The sessions of a month of a market that never closes.
MONTH = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=60, help="sessions of each simulated market (default: 60)")
    parser.add_argument("--tickers", type=int, default=6, help="its tickers (default: 6)")
    parser.add_argument("--markets", type=int, default=4, help="markets, by their seeds (default: 4)")
    options = parser.parse_args()
    last = START + timedelta(days=options.days - 1)
    calendar = trading_calendar("24/7", START, last)
    middle = calendar.sessions[options.days // 2]
    series, delays = [], {name: [] for name in PLANTS}
    for seed in range(options.markets):
        bars = simulated(seed, last, options.tickers)
        series.append(figures_of(calendar, bars))
        for name in PLANTS:
            found = figures_of(calendar, planted(bars, middle, name))
            delays[name].append([value for session, value in found if session >= middle])
    report(series, delays)
    if FILE.exists():
        bars = read_bars(FILE)
        whole = bars.group_by("session").agg(pl.col("bar_end").n_unique() == 1440).filter("bar_end")["session"].sort()
        real = trading_calendar("24/7", whole[0], whole[-1])
        found = figures_of(real, bars.filter(pl.col("session").is_between(whole[0], whole[-1])))
        print("The ten real days of BTC and ETH:\n")
        print(table([str(session) for session, _ in found], [[f"{value:.3f}" for _, value in found]]))


def simulated(seed: int, last: date, tickers: int) -> pl.DataFrame:
    """Rows of `bars` of the simulated market of `seed`."""
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(f"SIM{i:02d}" for i in range(1, tickers + 1))
        settings = read_settings(
            interval="1m", source="simulated", exchange="24/7", start=START, end=last, seed=seed, tickers=names,
            data_dir=Path(folder),
        )  # fmt: skip
        now = datetime.combine(last + timedelta(days=2), datetime.min.time(), UTC)
        source = SimulatedBars.of(settings)
        rows = source.fetch_bars(names, START, calendar_of(settings).sessions[-1], fetched_at=now).bars
    return rows.drop("source").with_columns(suspect=pl.lit(None, pl.String))


def wilder(factor: float) -> list[pl.Expr]:
    """Prices whose log returns and ranges are `factor` times as large."""
    close = pl.col("close")
    moved = (close.log().diff().over("ticker").fill_null(0.0) * factor).cum_sum().over("ticker").exp()
    path = close.first().over("ticker") * moved
    return [path.alias("close"), *((path * (pl.col(name) / close).pow(factor)).alias(name) for name in PRICES)]


PRICES = ("open", "high", "low")
PLANTS = {
    "twice as volatile": wilder(2.0),
    "half as volatile": wilder(0.5),
    "four times the volume": [pl.col("volume") * 4],
}


def planted(bars: pl.DataFrame, middle: date, name: str) -> pl.DataFrame:
    """`bars` changed from `middle` on."""
    later = bars.filter(pl.col("session") >= middle).sort("ticker", "bar_end").with_columns(PLANTS[name])
    return pl.concat([bars.filter(pl.col("session") < middle), later.select(bars.columns)])


def figures_of(calendar: TradingCalendar, bars: pl.DataFrame) -> list[tuple[date, float]]:
    """The drift of inputs of every session that a model serves, ascending."""
    rows = bar_features(bars, date.min, interval_minutes=1)
    rows = rows.filter(pl.Series(answerable(rows))).select("session", *COMPARED).drop_nulls()
    found: list[tuple[date, float]] = []
    for session in calendar.between(first_served(calendar, MINUTE), calendar.sessions[-1]):
        training = training_of(calendar, MINUTE, session, most=20, every=5)
        window = (*calendar.before(session, RECENT_BARS - 1), session)
        learned = rows.filter(pl.col("session").is_between(training.sessions[0], training.sessions[-1]))
        recent = rows.filter(pl.col("session").is_in(list(window)))
        figures = drift.drift_figures(learned, recent, COMPARED, sessions=window, length=RECENT_BARS)
        summary = drift.summary(figures.with_columns(kind=pl.lit(drift.INPUT)), drift.INPUT)
        found.append((session, float(summary["drift"][0])))
    return found


def alarms(values: Sequence[float], limit: float) -> int:
    """How often the figure reaches `limit` from below."""
    above = np.array(values) >= limit
    return int((above & ~np.append(False, above[:-1])).sum())


def report(series: Sequence[Sequence[tuple[date, float]]], delays: dict[str, list[list[float]]]) -> None:
    """Prints quantiles, false alarms and delays."""
    values = [[value for _, value in each] for each in series]
    every, months = np.concatenate(values), sum(map(len, values)) / MONTH
    print(f"{len(series)} simulated markets, {len(every)} sessions served; limit {INPUT_LIMIT:g}\n")
    quantiles = (0.5, 0.9, 0.95, 0.99, 1.0)
    print(table(list(map(str, quantiles)), [[f"{np.quantile(every, q):.3f}" for q in quantiles]]))
    rows = []
    for limit in LIMITS:
        false = sum(alarms(each, limit) for each in values) / months
        found = []
        for name in PLANTS:
            days = [next((k + 1 for k, value in enumerate(each) if value >= limit), None) for each in delays[name]]
            found.append(", ".join("–" if day is None else str(day) for day in days))
        rows.append([f"{limit:g}", f"{false:.2f}", *found])
    print(table(("limit", "false alarms a month", *(f"{name}: sessions until it rings" for name in PLANTS)), rows))


if __name__ == "__main__":
    preamble()
    main()
