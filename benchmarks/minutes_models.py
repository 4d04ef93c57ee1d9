"""Minute bars: how good the models of bars honestly are on ten real days, and how long features and predictions take.

    python -m benchmarks minutes_models [--days N] [--report FILE] [--file FILE]

Walk-forward by day: each day from the one with four whole days before it is predicted by models that were trained on
every label known when it began. All models of model/bar_models.py, on the rows that all of them predicted; intervals of
whole days. The page is what `evaluation/bar_report.py` makes of the same rows.

The file has ticker, ts (when the bar begins, UTC), open, high, low, close and volume. Without it nothing is scored.

Then the speed: features and labels of 30 days of 20 simulated tickers at one minute, the features of the newest bar of
all of them from their look-back alone, and a prediction of them, in processor seconds.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.common import DATA, Target, preamble, table, targets
from stock_assets.evaluation.bar_report import BarReportFacts, bar_markdown, make_bar_report, render_bar_report
from stock_assets.features.bar_features import LOOKBACK_BARS, bar_features
from stock_assets.features.bar_labels import BarLabelRule, bar_labels
from stock_assets.frames import BAR_KEYS
from stock_assets.model.bar_lesson import BarLesson, known_by
from stock_assets.model.bar_models import BAR_IN_SERVICE, BAR_MODELS

#: One minute bars of two currencies, ten days.
FILE = DATA / "crypto_1m_btc_eth_2025_06.parquet"
#: Whole days before the first one that is predicted.
TRAINING_DAYS = 4
RULE = BarLabelRule()
#: The workload of the speed.
TICKERS, DAYS = 20, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=FILE, help="minute bars (default: the shared file)")
    parser.add_argument("--days", type=int, help="predict so many days alone (default: all)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    options = parser.parse_args()
    if options.file.exists():
        print_scores(read_bars(options.file), options.days, options.report)
    else:
        print(f"{options.file.name} is not in {options.file.parent.name}/: nothing is scored.\n")
    print(targets(*speed()))


def read_bars(file: Path) -> pl.DataFrame:
    """Rows of the table `bars` of a file of a market that never closes, with sessions in UTC."""
    return pl.read_parquet(file).select(
        "ticker",
        session=pl.col("ts").dt.date(),
        bar_end=pl.col("ts") + pl.duration(minutes=1),
        **{name: name for name in ("open", "high", "low", "close", "volume")},
        suspect=pl.lit(None, pl.String),
    )


def print_scores(bars: pl.DataFrame, days: int | None, page: Path | None) -> None:
    features = bar_features(bars, date.min, interval_minutes=1)
    labels = bar_labels(bars, RULE, interval_minutes=1)
    predictions, trainings = walk_forward(features, labels, test_days(bars)[:days])
    report = make_bar_report(predictions, labels, BarReportFacts("real", "1m", RULE))
    first, last = bars["bar_end"].min(), bars["bar_end"].max()
    print(
        f"{bars['ticker'].n_unique()} tickers, {bars.height:,} bars, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} "
        f"UTC; predicted {report.first_session} to {report.last_session}. Labels: the next {RULE.horizon_bars} bars, "
        f"barriers at ± {RULE.width} volatilities.\n"
    )
    print(bar_markdown(report), "\n")
    for model in (report.judged, "trees"):
        print(f"Classes of `{model}`:\n")
        rows = [["–" if value is None else value for value in row] for row in report.classes[model].rows()]
        print(table(("class", "precision", "recall", "F1", "support"), rows))
    by_day = report.days.pivot("session", index="model", values="surprise")
    by_day = report.scores.select("model").join(by_day, on="model", maintain_order="left")
    print("Log-loss by day:\n")
    print(table(by_day.columns, [[row[0], *(f"{value:.3f}" for value in row[1:])] for row in by_day.rows()]))
    print("Trainings, each day's:\n")
    print(table(("model", "processor seconds", "best epoch"), trainings))
    if page:
        page.write_text(render_bar_report(report))
        print(f"The page is in {page}.\n")


def test_days(bars: pl.DataFrame) -> list[date]:
    """The sessions that have TRAINING_DAYS whole ones before them."""
    sessions = bars["session"].unique().sort().to_list()
    whole = bars.group_by("session").agg(minutes=pl.col("bar_end").n_unique()).filter(pl.col("minutes") == 1440)
    begins = whole["session"].sort().to_list()[TRAINING_DAYS - 1]
    return [session for session in sessions if session > begins]


def walk_forward(
    features: pl.DataFrame, labels: pl.DataFrame, sessions: Sequence[date]
) -> tuple[pl.DataFrame, list[list[Any]]]:
    """(predictions of all models and `sessions`, rows of model, processor seconds and best epochs of the trainings)."""
    parts, seconds_of, epochs = [], dict.fromkeys(BAR_MODELS, 0.0), {name: [] for name in BAR_MODELS}
    for session in sessions:
        cutoff = datetime(session.year, session.month, session.day, tzinfo=UTC)
        lesson = BarLesson(
            features=features, labels=known_by(labels, cutoff), cutoff=cutoff, seed=0, rule=RULE, interval_minutes=1
        )
        keys = features.filter(pl.col("session") == session).select(BAR_KEYS)
        # a row looks back over the midnight
        nearby_features = features.filter(pl.col("session").is_between(session - timedelta(days=1), session))
        for name, entry in BAR_MODELS.items():
            model, seconds = measured(lambda entry=entry, lesson=lesson: entry.train(lesson))
            seconds_of[name] += seconds
            if (best := getattr(model, "best_epoch", None)) is not None:
                epochs[name].append(best)
            rows = entry.predict(model, nearby_features, keys)
            parts.append(rows.with_columns(model=pl.lit(name), trained_through=pl.lit(cutoff)))
    trainings = [
        [name, round(seconds / len(sessions), 1), ", ".join(map(str, epochs[name])) or "–"]
        for name, seconds in seconds_of.items()
    ]
    return pl.concat(parts), trainings


def measured(call: Callable[[], Any]) -> tuple[Any, float]:
    """(what `call` returned, its processor seconds)"""
    begin = time.process_time()
    answer = call()
    return answer, time.process_time() - begin


def simulated(tickers: int, days: int) -> pl.DataFrame:
    """Random walks whose volatility wanders, as rows of the table `bars`; every minute of every day."""
    rng, count = np.random.default_rng(0), days * 1440
    ends = pl.datetime_range(
        datetime(2025, 1, 1, 0, 1, tzinfo=UTC),
        interval="1m",
        end=datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days),
        eager=True,
        time_unit="us",
    )
    parts = []
    for i in range(tickers):
        volatility = 5e-4 * np.exp(np.clip(np.cumsum(rng.normal(0, 0.03, count)), -1, 1))
        close = 100 * np.exp(np.cumsum(volatility * rng.standard_normal(count)))
        parts.append(
            pl.DataFrame(
                {"bar_end": ends, "close": close, "spread": volatility, "volume": rng.exponential(1, count)}
            ).with_columns(ticker=pl.lit(f"S{i:02}"), session=(pl.col("bar_end") - pl.duration(minutes=1)).dt.date())
        )
    bars = pl.concat(parts).with_columns(open="close", high=pl.col("close") * (1 + pl.col("spread")))
    bars = bars.with_columns(low=pl.col("close") * (1 - pl.col("spread")), suspect=pl.lit(None, pl.String))
    return bars.drop("spread")


def speed() -> list[Target]:
    """What the issue asks of the time of features and predictions."""
    bars = simulated(TICKERS, DAYS)
    features, whole = measured(lambda: bar_features(bars, date.min, interval_minutes=1))
    labels, labelling = measured(lambda: bar_labels(bars, RULE, interval_minutes=1))
    end = bars["bar_end"].max()
    newest = bars.filter(pl.col("bar_end") >= end - timedelta(minutes=LOOKBACK_BARS))
    latest, seconds_of_features = measured(lambda: bar_features(newest, date.min, interval_minutes=1))
    is_same = latest.filter(pl.col("bar_end") == end).equals(features.filter(pl.col("bar_end") == end))
    if not is_same:
        raise RuntimeError("the newest bar's features differ between the range and its look-back alone")
    entry, cutoff = BAR_MODELS[BAR_IN_SERVICE], end - timedelta(days=1)
    lesson = BarLesson(
        features=features, labels=known_by(labels, cutoff), cutoff=cutoff, seed=0, rule=RULE, interval_minutes=1
    )
    model, training = measured(lambda: entry.train(lesson))
    nearby_features = features.filter(pl.col("bar_end") > end - timedelta(minutes=entry.lookback_rows))
    keys = nearby_features.filter(pl.col("bar_end") == end).select(BAR_KEYS)
    entry.predict(model, nearby_features, keys)  # once, so that nothing is imported any more
    predictions, answer = measured(lambda: entry.predict(model, nearby_features, keys))
    if predictions.height != TICKERS:
        raise RuntimeError(f"{predictions.height} predictions; expected {TICKERS}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    rows = f"{bars.height:,} rows"
    return [
        Target(f"features of {rows}, processor seconds", whole, 10.0),
        Target(f"labels of {rows}, processor seconds", labelling, 10.0),
        Target(f"features of the newest bar of {TICKERS} tickers, processor seconds", seconds_of_features, 0.2),
        Target(f"prediction of {TICKERS} tickers, processor seconds", answer, 0.5),
        Target(f"training of {BAR_IN_SERVICE} on {rows}, processor seconds", training, 600.0),
        Target("memory at most, GiB", memory, 4.0),
    ]


if __name__ == "__main__":
    preamble()
    main()
