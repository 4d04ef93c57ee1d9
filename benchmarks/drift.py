"""When drift and decay ring, on years that need no training beyond the yearly one, and on planted ones that do.

    python -m benchmarks.drift

Every model year of the workload is served by the `rnn` and the naive baselines trained through the year before. An
alarm is a session at which a figure is beyond its threshold, outside the cool-down of the last. Nothing is trained
when it rings, so a long crossing counts once per cool-down. Ordinary years are all there are: every alarm counts as
false. Power: from the first session of July on, every log return and every range within a day is twice as large (a
market twice as volatile); features, labels and predictions are made again, and the sessions until the figure rings are
counted.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.common import DATA, fill, materialize, preamble, set_workload, table, use
from benchmarks.common import workload_parser as parser_of
from stock_assets.features.labels import barrier_labels
from stock_assets.features.lookback import LOOKBACK_SESSIONS
from stock_assets.features.stationary import BAR_COLUMNS, FIRST_BAR, STATIONARY, stationary_features
from stock_assets.frames import KEYS, PROBABILITIES
from stock_assets.lifecycle import drift
from stock_assets.lifecycle.materialize.drift import trusted_inputs
from stock_assets.lifecycle.retraining import Policy, daily_losses
from stock_assets.market.calendar import TradingCalendar, calendar_of
from stock_assets.model.lesson import Lesson
from stock_assets.model.materialize.inputs import StoredInputs, usable_between
from stock_assets.model.registry import IN_SERVICE, MODELS, live_yardsticks
from stock_assets.settings import PREFIX, Settings
from stock_assets.storage.warehouse import Warehouse

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.995, 1.0)
#: What one figure per session could be made of the columns' figures: (of which, at which quantile over the columns).
SUMMARIES = {
    f"{'median' if q == 0.5 else f'{q:.0%} quantile'} of {column.upper()}": (column, q)
    for column in ("ks", "psi")
    for q in (0.5, 0.75, 0.9)
}
#: 102 tickers with their dividends and splits, 2016 to 2025: years that set no threshold.
LATER = DATA / "yahoo_102_tickers_with_actions_2016_2026.parquet"
LATER_WORKLOAD = {"SNAPSHOT": str(LATER), "START": "2016-03-14", "END": "2025-12-31", "FIRST_MODEL_YEAR": "2018"}
RARE = 1 / 5  # alarms per year
TIMES = 2.0

Series = list[tuple[date, float]]


class Served(NamedTuple):
    """Models by (name, year), and what they answered for their year."""

    models: Mapping[tuple[str, int], Any]
    predictions: pl.DataFrame


def serve(config: Settings, stored_inputs: StoredInputs, years: Iterable[int]) -> Served:
    """Trains what is watched, year by year, and asks it."""
    models, answers = {}, []
    for year in years:
        cutoff, days = year_of(calendar_of(config), year)
        labels, _ = stored_inputs.labels_at(cutoff)
        for name in (IN_SERVICE, *live_yardsticks()):
            task = Lesson(stored_inputs, labels, cutoff, config.seed, config.horizon)  # pyright: ignore[reportArgumentType]
            models[name, year] = MODELS[name].train(task)
            answers.append(answer(models[name, year], name, stored_inputs, days))
    return Served(models, pl.concat(answers).join(stored_inputs.suspects, on=KEYS, how="anti"))


def answer(model: Any, name: str, inputs: Any, sessions: Sequence[date]) -> pl.DataFrame:
    rows = MODELS[name].predict(model, inputs, sessions)
    return rows.with_columns(model=pl.lit(name), trained_through=pl.lit(model.cutoff))


def year_of(calendar: TradingCalendar, year: int) -> tuple[date, Sequence[date]]:
    """(the cutoff of its model, its sessions)"""
    return calendar.before(date(year, 1, 1), 1)[0], calendar.between(date(year, 1, 1), date(year, 12, 31))


def of_year(rows: pl.DataFrame, year: int) -> pl.DataFrame:
    return rows.filter(pl.col("session").dt.year() == year)


def between(rows: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    return rows.filter(pl.col("session").is_between(first, last))


def year_of_drift(
    calendar: TradingCalendar,
    year: int,
    rows: pl.DataFrame,
    columns: Sequence[str],
    planted_rows: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The figures of one year against the year before its cutoff, of `planted_rows` instead from where they
    begin."""
    cutoff, days = year_of(calendar, year)
    reference = (*calendar.before(cutoff, drift.REFERENCE - 1), cutoff)
    window = (*calendar.before(days[0], drift.RECENT - 1), *days)
    recent = between(rows, window[0], window[-1])
    if planted_rows is not None:
        begins = planted_rows["session"].min()
        recent = pl.concat([recent.filter(pl.col("session") < begins), planted_rows.select(recent.columns)])
    return drift.drift_figures(between(rows, reference[0], cutoff), recent, columns, sessions=window)


def summarised(figures: pl.DataFrame, column: str, quantile: float) -> Series:
    by_session = figures.group_by("session").agg(pl.col(column).quantile(quantile, "linear")).sort("session")
    return list(by_session.iter_rows())


def watched(figures: pl.DataFrame) -> Series:
    return summarised(figures, "ks", drift.QUANTILE)


def decay(
    predictions: pl.DataFrame, labels: pl.DataFrame, calendar: TradingCalendar, last: int, horizon: int
) -> Series:
    """Minus `skill_of` the `last` sessions whose labels are known, at each session that has them; of one model year.

    Minus, so that larger is worse, as with drift.
    """
    losses = daily_losses(predictions, labels, (IN_SERVICE, *live_yardsticks()))
    means = losses.select("session", pl.exclude("session").rolling_mean(last)).drop_nulls()
    loss_differences = means.select("session", pl.col(IN_SERVICE) - pl.min_horizontal(*live_yardsticks()))
    known_losses = ((calendar.shift(session, horizon), figure) for session, figure in loss_differences.iter_rows())
    return [(session, figure) for session, figure in known_losses if session]


def alarms(series: Series, threshold: float, cool_down: int, calendar: TradingCalendar) -> list[date]:
    rung: list[date] = []
    for session, figure in series:
        cool = not rung or calendar.position(session) - calendar.position(rung[-1]) >= cool_down
        if figure >= threshold and cool:
            rung.append(session)
    return rung


def rare_threshold(series: Series, years: int, cool_down: int, calendar: TradingCalendar) -> float:
    """The smallest figure of the series at which it rings so rarely."""
    for threshold in np.unique(np.quantile([figure for _, figure in series], np.linspace(0.8, 1, 401))):
        if len(alarms(series, threshold, cool_down, calendar)) <= years * RARE:
            return float(threshold)
    return max(figure for _, figure in series)


def planted_year(
    config: Settings, warehouse: Warehouse, stored_inputs: StoredInputs, served_models: Served, year: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(features, predictions, usable labels) from July on of a market that is TIMES as volatile from then on."""
    calendar = calendar_of(config)
    days = [day for day in year_of(calendar, year)[1] if day.month >= 7]
    lookback = calendar.before(days[0], LOOKBACK_SESSIONS - 1)
    bars = warehouse.read(
        "daily_bars", lookback[0], days[-1], columns=["ticker", "session", "total_return", *BAR_COLUMNS]
    )
    wilder = pl.when(pl.col("session") >= days[0]).then(TIMES).otherwise(1.0)
    close = pl.col("close")
    bars = bars.with_columns(
        (1 + pl.col("total_return")).pow(wilder) - 1,
        *((close * (pl.col(name) / close).pow(wilder)).alias(name) for name in ("open", "high", "low")),
    )
    rows = stationary_features(bars, days[0], calendar.between(lookback[0], days[-1]))
    rows = rows.select("ticker", "session", *STATIONARY).cast({pl.Float64: pl.Float32})
    before = between(stored_inputs.features, calendar.before(days[0], 200)[0], calendar.before(days[0], 1)[0])

    class Inputs:
        features = pl.concat([before, rows.select(before.columns)])
        suspects = stored_inputs.suspects
        known_labels = stored_inputs.known_labels.filter(pl.col("session") >= days[0])

    answers = [
        answer(served_models.models[name, year], name, Inputs, days) for name in (IN_SERVICE, *live_yardsticks())
    ]
    labels = barrier_labels(bars.filter(pl.col("session") >= days[0]), config.label_rule)
    trusted = [frame.join(stored_inputs.suspects, on=KEYS, how="anti") for frame in (rows, pl.concat(answers), labels)]
    return trusted[0], trusted[1], trusted[2]


def report(
    config: Settings, warehouse: Warehouse, stored_inputs: StoredInputs, served_models: Served, years: Sequence[int]
) -> None:
    calendar, policy, horizon = calendar_of(config), Policy(), config.horizon
    features = stored_inputs.features.join(stored_inputs.suspects, on=KEYS, how="anti")
    predictions_in_service = served_models.predictions.filter(pl.col("model") == IN_SERVICE).sort("session")
    labels, _ = usable_between(warehouse, config, date(years[0], 1, 1))

    # inputs need no model: every year whose reference has sessions enough
    first = calendar.sessions[FIRST_BAR - 1 + drift.SMALLEST_REFERENCE]
    compared_years = list(range(first.year + 1, years[-1] + 1))
    of_inputs = {year: year_of_drift(calendar, year, features, list(STATIONARY)) for year in compared_years}
    of_predictions = {year: year_of_drift(calendar, year, predictions_in_service, PROBABILITIES) for year in years[1:]}
    losses = [
        pair
        for year in years
        for pair in decay(of_year(served_models.predictions, year), labels, calendar, policy.skill_sessions, horizon)
    ]
    ordinary: dict[str, tuple[Series, float, int]] = {
        "drift of inputs": (
            [pair for year in compared_years for pair in watched(of_inputs[year])],
            policy.input_drift,
            len(compared_years),
        ),
        "drift of predictions": (
            [pair for year in years[1:] for pair in watched(of_predictions[year])],
            policy.prediction_drift,
            len(years) - 1,
        ),
        "skill lost, minus the lead": (losses, 0.0 - policy.skill, len(years)),
    }
    print(
        f"Thresholds at quantiles of the daily figures, and alarms per year (cool-down {policy.cool_down} sessions):\n"
    )
    rows = []
    for name, (series, _, count) in ordinary.items():
        threshold_values = [float(np.quantile([figure for _, figure in series], q)) for q in QUANTILES]
        rung = [len(alarms(series, threshold, policy.cool_down, calendar)) / count for threshold in threshold_values]
        rows.append(
            [f"{name}, {count} years", *(f"{t:.3f}: {r:.2f}" for t, r in zip(threshold_values, rung, strict=True))]
        )
    print(table(("figure", *map(str, QUANTILES)), rows))
    print("Largest figure of each year:\n")
    rows = []
    for name, (series, _, _) in ordinary.items():
        largest: dict[int, float] = {}
        for session, figure in series:
            largest[session.year] = max(figure, largest.get(session.year, -np.inf))
        rows.append([name, *(f"{largest[year]:.3f}" if year in largest else "–" for year in compared_years)])
    textbook = [figures.group_by("session").agg((pl.col("psi") >= 0.25).mean()) for figures in of_inputs.values()]
    rows.append(
        ["share of inputs with PSI from .25 on, median day", *(f"{days['psi'].median():.2f}" for days in textbook)]
    )
    print(table(("figure", *map(str, compared_years)), rows))
    print("At the thresholds of the policy:\n")
    rows = []
    for name, (series, threshold, count) in ordinary.items():
        rung = alarms(series, threshold, policy.cool_down, calendar)
        rows.append([name, f"{threshold:.3f}", f"{len(rung) / count:.2f}", ", ".join(map(str, rung)) or "none"])
    print(table(("figure", "threshold", "alarms a year", "rings at"), rows))

    print(f"A market {TIMES:g} times as volatile from July on, sessions until it rings (– never that year):\n")
    rows, delays = [], {name: [] for name in SUMMARIES}
    thresholds = {}
    for name, (column, quantile) in SUMMARIES.items():
        series = [pair for year in compared_years for pair in summarised(of_inputs[year], column, quantile)]
        thresholds[name] = rare_threshold(series, len(compared_years), policy.cool_down, calendar)
    for year in years:
        wild, answers, wild_labels = planted_year(config, warehouse, stored_inputs, served_models, year)
        days = sorted(set(answers["session"]))
        figures = year_of_drift(calendar, year, features, list(STATIONARY), wild)
        for name, (column, quantile) in SUMMARIES.items():
            delays[name].append(delay(summarised(figures, column, quantile), thresholds[name], days))
        wild_said = answers.filter(pl.col("model") == IN_SERVICE)
        so_far = of_year(served_models.predictions, year).filter(pl.col("session") < days[0])
        together = pl.concat([so_far, answers.select(so_far.columns)])
        known_then = pl.concat([labels.filter(pl.col("session") < days[0]), wild_labels.select(labels.columns)])
        series = decay(together, known_then, calendar, policy.skill_sessions, horizon)
        row: list[object] = [
            str(year),
            shown(delay(watched(figures), policy.input_drift, days)),
            shown(delay(series, 0.0 - policy.skill, days)),
        ]
        if year in years[1:]:
            watched_drift = watched(year_of_drift(calendar, year, predictions_in_service, PROBABILITIES, wild_said))
            row.insert(2, shown(delay(watched_drift, policy.prediction_drift, days)))
        else:
            row.insert(2, "no reference")
        rows.append(row)
    print(table(("year", "drift of inputs", "drift of predictions", "skill"), rows))
    print(f"Other summaries of the inputs, each at a threshold that rings at most {RARE:g} times a year:\n")
    print(
        table(
            ("summary", "threshold", *map(str, years)),
            [[name, f"{thresholds[name]:.3f}", *map(shown, delays[name])] for name in SUMMARIES],
        )
    )


def later_years(config: Settings, warehouse: Warehouse) -> None:
    """Drift of inputs in years that set no threshold."""
    calendar, policy = calendar_of(config), Policy()
    materialize(config, ["universe"])
    materialize(config, ["raw_ohlcv", "daily_bars", "stationary_features"], calendar.sessions)
    features = trusted_inputs(warehouse, calendar.sessions[0], calendar.sessions[-1])
    first = calendar.sessions[FIRST_BAR - 1 + drift.SMALLEST_REFERENCE]
    years = range(first.year + 1, calendar.sessions[-1].year + 1)
    by_year = {year: watched(year_of_drift(calendar, year, features, list(STATIONARY))) for year in years}
    print(f"Years that set no threshold: {LATER.name}, inputs alone, threshold {policy.input_drift:.3f}:\n")
    largest = [f"{max(figure for _, figure in series):.3f}" for series in by_year.values()]
    print(table(("figure", *map(str, years)), [["largest drift of inputs", *largest]]))
    together = [pair for series in by_year.values() for pair in series]
    rung = alarms(together, policy.input_drift, policy.cool_down, calendar)
    print(f"Rings {len(rung) / len(years):.2f} times a year: {', '.join(map(str, rung)) or 'never'}.\n")


def delay(series: Series, threshold: float, planted_days: Sequence[date]) -> int | None:
    """Sessions of `planted_days` until the series rings, the one at which it rings included; 0 where it rang before."""
    for session, figure in series:
        if figure >= threshold and session >= planted_days[0]:
            return planted_days.index(session) + 1
    return None


def shown(sessions: int | None) -> str:
    return "–" if sessions is None else str(sessions)


def main() -> None:
    options = parser_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        set_workload(options, Path(folder))
        config = use(Path(folder, "store"))
        fill(config, calendar_of(config).sessions)
        warehouse = Warehouse(config.database)
        stored_inputs = StoredInputs(
            warehouse, config, first=calendar_of(config).sessions[0], last=calendar_of(config).sessions[-1]
        )
        years = range(config.model_start_year, calendar_of(config).sessions[-1].year + 1)
        report(config, warehouse, stored_inputs, serve(config, stored_inputs, years), years)
        if LATER.exists():
            os.environ |= {PREFIX + name: value for name, value in LATER_WORKLOAD.items()}
            del os.environ[PREFIX + "TICKERS"]
            config = use(Path(folder, "later"))
            later_years(config, Warehouse(config.database))


if __name__ == "__main__":
    preamble()
    main()
