"""Does it pay to update a network every week, or to train it more often than once a year?

    python -m benchmarks.online [--networks rnn,rnn_classifier] [--years 2016,2017,2018,2019] [--scratch quarterly]
    python -m benchmarks.online --validate

Walk-forward over the test years, on every sixth ticker of the alphabet, whose inputs are those of the whole market. All
schedules know the same labels at the same time and forecast the same rows:

- yearly: trained at the end of the year before, which is what serves by default;
- weekly: the yearly model, updated after the last session of every week;
- quarterly, monthly: trained anew at the end of every quarter, month.

Differences to `yearly` are paired by session, with intervals from blocks of 21 days. `--validate` chooses the settings
of the update on 2013, before the test years. `--material` names a folder that keeps what the store holds for the
networks: read where it is there, written where it is not.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from benchmarks.common import fill, preamble, set_workload, table, use
from benchmarks.common import workload_parser as parser_of
from benchmarks.learning import HORIZON, Material
from benchmarks.updating import UPDATES, UpdateConfig
from stock_assets.evaluation import metrics
from stock_assets.evaluation.bootstrap import block_bootstrap
from stock_assets.features.lookback import MAX_MISSED
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.model.lesson import Lesson
from stock_assets.model.splits import training_rows
from stock_assets.storage.warehouse import Warehouse

VALIDATION_YEAR = 2013
#: What `--validate` compares. The first refits level and map and leaves the weights alone.
SETTINGS = (
    UpdateConfig(passes=0),
    UpdateConfig(rate=0.1),
    UpdateConfig(rate=0.3),
    UpdateConfig(rate=0.3, passes=3),
)
#: Schedules that train anew, and the block of sessions that one model serves.
SCRATCH: dict[str, Callable[[date], Any]] = {
    "yearly": lambda day: day.year,
    "quarterly": lambda day: (day.year, (day.month - 1) // 3),
    "monthly": lambda day: (day.year, day.month),
}


class Serving(NamedTuple):
    """Which sessions a model serves, and what it may know."""

    cutoff: date
    sessions: list[date]


def servings(sessions: list[date], year: int, block: Callable[[date], Any]) -> list[Serving]:
    """The blocks of `sessions` of `year`, each with the session before it as its cutoff."""
    blocks = [list(days) for _, days in groupby((day for day in sessions if day.year == year), block)]
    before = [sessions[sessions.index(days[0]) - 1] for days in blocks]
    return [Serving(*part) for part in zip(before, blocks, strict=True)]


class Learner:
    """One network on one material: trained, updated, asked; and the seconds that took."""

    def __init__(self, network: str, material: Material, seed: int = 0) -> None:
        self.network, self.material, self.seed = network, material, seed
        self.sessions = material.features["session"].unique().sort().to_list()
        self.seconds: dict[str, list[tuple[float, float]]] = {}
        self.trained = cache(self._trained_model)  # the yearly model also serves the first quarter, month and week

    def _timed(self, work: str, do: Callable[[], Any]) -> Any:
        start, cpu = time.perf_counter(), time.process_time()
        answer = do()
        self.seconds.setdefault(work, []).append((time.perf_counter() - start, time.process_time() - cpu))
        return answer

    def _trained_model(self, cutoff: date) -> Any:
        from stock_assets.model.registry import MODELS

        return self._timed("training", lambda: MODELS[self.network].train(self._lesson(cutoff)))

    def updated(self, model: Any, cutoff: date, update: UpdateConfig) -> Any:
        return self._timed("update", lambda: UPDATES[self.network](model, self._lesson(cutoff), update))

    def answers(self, model: Any, serving: Serving) -> pl.DataFrame:
        from stock_assets.model.registry import MODELS, longest_lookback

        first = self.sessions[max(0, self.sessions.index(serving.sessions[0]) - longest_lookback() + 1 - MAX_MISSED)]
        window = pl.col("session").is_between(first, serving.sessions[-1])
        part = Material(*(frame.filter(window) for frame in self.material))
        answer = MODELS[self.network].predict(model, part.inputs(), serving.sessions)
        return answer.with_columns(trained_through=pl.lit(serving.cutoff))

    def scratch(self, year: int, block: Callable[[date], Any]) -> Iterator[pl.DataFrame]:
        for serving in servings(self.sessions, year, block):
            yield self.answers(self.trained(serving.cutoff), serving)

    def weekly(self, year: int, update: UpdateConfig) -> Iterator[pl.DataFrame]:
        first, *later = servings(self.sessions, year, lambda day: day.isocalendar()[:2])
        model = self.trained(first.cutoff)
        yield self.answers(model, first)
        for serving in later:
            model = self.updated(model, serving.cutoff, update)
            yield self.answers(model, serving)

    def _lesson(self, cutoff: date) -> Lesson:
        labels = training_rows(self.material.labels, cutoff)
        return Lesson(self.material.inputs(), labels, cutoff, self.seed, HORIZON)


def paired(scored_predictions: pl.DataFrame, model: str, against: str) -> dict[str, tuple[float, float, float]]:
    """(difference, low, high) of log-loss and rank IC, `model` less `against`, on the sessions of both.

    `scored_predictions` is that of `scored_rows`; both models answered the same rows. Sessions weigh alike.
    """
    losses = scored_predictions.group_by("model", "session").agg(value=pl.col("surprise").mean())
    ics = metrics.daily_rank_ic(scored_predictions).select("model", "session", value="rank_ic")

    def difference(daily: pl.DataFrame) -> tuple[float, float, float]:
        first, second = (daily.filter(pl.col("model") == name) for name in (model, against))
        joint_days = first.join(second, on="session").sort("session").select(pl.col("value") - pl.col("value_right"))
        values = joint_days["value"].drop_nulls().to_numpy()
        low, high = block_bootstrap(values) or (float("nan"), float("nan"))
        return float(values.mean()), low, high

    return {"log_loss": difference(losses), "rank_ic": difference(ics)}


def compare(answers: dict[str, list[pl.DataFrame]], labels: pl.DataFrame) -> str:
    """The table of all schedules against the first one, and the log-loss of each year, as Markdown."""
    frames = [pl.concat(parts).with_columns(model=pl.lit(name)) for name, parts in answers.items()]
    first, *others = (frame.select(KEYS).sort(KEYS) for frame in frames)
    if not all(rows.equals(first) for rows in others):
        raise ValueError(f"{', '.join(answers)} did not answer the same rows")
    scored_predictions = metrics.scored_rows(pl.concat(frames), labels)
    scores = metrics.score_table(scored_predictions)
    lines, base = [], next(iter(answers))
    for name in answers:
        row = scores.row(by_predicate=(pl.col("model") == name) & pl.col("year").is_null(), named=True)
        cells = [f"{row[m]:.4f} [{row[f'{m}_low']:.4f}, {row[f'{m}_high']:.4f}]" for m in ("log_loss", "rank_ic")]
        differences = {} if name == base else paired(scored_predictions, name, base)
        cells += [f"{d:+.4f} [{low:+.4f}, {high:+.4f}]" for d, low, high in differences.values()] or ["–", "–"]
        lines.append([name, row["rows"], *cells])
    header = ("schedule", "rows", "log-loss", "rank IC", f"log-loss less {base}", f"rank IC less {base}")
    text = table(header, lines)
    by_year = scores.drop_nulls("year").pivot("year", index="model", values="log_loss")
    rows_in_order = [by_year.row(by_predicate=pl.col("model") == name) for name in answers]
    cells_of_years = [[name, *(f"{value:.4f}" for value in values)] for name, *values in rows_in_order]
    return text + "\n" + table(("log-loss", *by_year.columns[1:]), cells_of_years)


def cost(learner: Learner) -> str:
    def median(values: list[float]) -> float:
        return sorted(values)[len(values) // 2]

    rows = [
        [work, len(seconds), median([wall for wall, _ in seconds]), median([cpu for _, cpu in seconds])]
        for work, seconds in learner.seconds.items()
    ]
    return table(("step", "times", "seconds, median", "of all cores, median"), rows)


def evaluate(learner: Learner, years: list[int], schedules: list[str], update: UpdateConfig) -> str:
    answers = {name: [a for y in years for a in learner.scratch(y, SCRATCH[name])] for name in ("yearly",)}
    answers["weekly"] = [answer for year in years for answer in learner.weekly(year, update)]
    for name in schedules:
        answers[name] = [answer for year in years for answer in learner.scratch(year, SCRATCH[name])]
    return compare(answers, learner.material.labels)


def validate(learner: Learner) -> str:
    answers = {"yearly": list(learner.scratch(VALIDATION_YEAR, SCRATCH["yearly"]))}
    for update in SETTINGS:
        answers[str(update)] = list(learner.weekly(VALIDATION_YEAR, update))
    return compare(answers, learner.material.labels)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=lambda text: text.split(","), default=["rnn", "rnn_classifier"])
    parser.add_argument(
        "--years", type=lambda text: [int(y) for y in text.split(",")], default=[2016, 2017, 2018, 2019]
    )
    parser.add_argument("--scratch", type=lambda text: text.split(","), default=["quarterly"], help="beside yearly")
    parser.add_argument("--every", type=int, default=6, help="every so many tickers (default: 6)")
    parser.add_argument("--material", type=Path, help="a folder, so that a second run need not fill a store")
    parser.add_argument("--validate", action="store_true", help="the settings of the update on 2013, and no test year")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        set_workload(options, Path(name))
        folder = options.material or Path(name)
        if not Path(folder, "features.parquet").exists():
            config = use(Path(name, "store"))
            fill(config, calendar_of(config).sessions)
            folder.mkdir(parents=True, exist_ok=True)
            Material.of(Warehouse(config.database), calendar_of(config).sessions[-1]).write(folder)
        material = Material(*(pl.read_parquet(folder / f"{frame}.parquet") for frame in Material._fields))
    tickers = material.features["ticker"].unique().sort().gather_every(options.every).to_list()
    material = Material(*(frame.filter(pl.col("ticker").is_in(tickers)) for frame in material))
    print(f"{len(tickers)} tickers.\n", flush=True)
    for network in options.networks:
        learner = Learner(network, material)
        comparison = (
            validate(learner) if options.validate else evaluate(learner, options.years, options.scratch, UpdateConfig())
        )
        print(f"### {network}\n\n{comparison}\n{cost(learner)}", flush=True)


if __name__ == "__main__":
    preamble()
    main()
