"""Which hyperparameters to try, and how one configuration is judged.

A configuration is judged as it would have served: trained through the session before a validation period exactly as
a model year is trained, then asked for that period. All periods lie before the first model year, so the test years
stay untouched. `trials` runs the search, `tuned` states what its best configuration is worth.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.files import make_folder
from stock_assets.frames import KEYS, surprise
from stock_assets.model.config import DeepArConfig, NetworkConfig, RnnConfig
from stock_assets.model.lesson import InputFrames, Inputs, Lesson
from stock_assets.model.splits import label_of_rows_ago, training_rows


@dataclass(frozen=True)
class Range:
    """The values that a hyperparameter may take, `low` and `high` included; whole numbers where both are."""

    low: float
    high: float
    log: bool = False
    """Whether it is searched on a logarithmic scale."""


@dataclass(frozen=True)
class Budget:
    """What one trial may cost. Every trial of a study works on the same sample."""

    tickers: int = 120
    """Tickers, drawn once with the study's seed; all where there are fewer."""
    rows_per_epoch: int = 131_072
    """Rows of the segments of one epoch, at most."""
    steps_per_epoch: int | None = None
    """Steps of the optimizer in one epoch, whatever the batch; None for as many as its rows take."""
    every: int = 3
    """Every so many sessions of a validation period are scored: neighbours share six of seven days."""


@dataclass(frozen=True)
class Tunable:
    """A network that can be tuned."""

    reads: Literal["features", "components"]
    """The frame of `lesson.Inputs` that holds its inputs."""
    defaults: NetworkConfig
    space: Mapping[str, Range]
    """Field of the configuration: its range."""
    budget: Budget = field(default_factory=Budget)

    def configuration(self, params: Mapping[str, float]) -> NetworkConfig:
        """The defaults with `params` in their place.

        It trains to the last epoch: the number of epochs is searched for, and only the pruner ends a training early.
        """
        new_configuration = replace(self.defaults, **params)
        if isinstance(new_configuration, DeepArConfig):  # it learns from as many rows as it predicts from
            new_configuration = replace(new_configuration, segment=new_configuration.context)
        return replace(new_configuration, patience=new_configuration.epochs)

    def default_params(self) -> dict[str, float]:
        """The values of the defaults in the search space."""
        return {name: getattr(self.defaults, name) for name in self.space}


#: The networks and their ranges: those of the reference study, and ours about the defaults.
TUNABLE: Mapping[str, Tunable] = {
    "deepar": Tunable(
        "components",
        DeepArConfig(),
        {
            "epochs": Range(20, 100),
            "context": Range(10, 60),
            "batch": Range(32, 256),
            "learning_rate": Range(1e-5, 1e-3, log=True),
            "hidden": Range(30, 200),
            "dropout": Range(0.0, 0.1),
            "layers": Range(1, 3),
        },
        Budget(rows_per_epoch=24_576, steps_per_epoch=4),
    ),
    "rnn": Tunable(
        "features",
        RnnConfig(),
        {
            "epochs": Range(2, 8),
            "context": Range(RnnConfig().reach, 64),
            "batch": Range(64, 512, log=True),
            "learning_rate": Range(5e-4, 8e-3, log=True),
            "weight_decay": Range(0.005, 0.2, log=True),
            "hidden": Range(32, 128, log=True),
            "dropout": Range(0.0, 0.5),
            "direction_weight": Range(0.05, 1.0, log=True),
            "tilt": Range(0.02, 0.15, log=True),
        },
    ),
}


@dataclass(frozen=True)
class Fold:
    """One step of the walk-forward: learn through `cutoff`, be judged from session `first` to `last`."""

    name: str
    cutoff: date
    first: date
    last: date
    tail: int
    """Last sessions of the labels known by the cutoff that choose the epoch: a third of them at most."""


@dataclass(frozen=True)
class Study:
    """All that a trial reads. Nothing in it is later than the cutoff of the first model year."""

    network: str
    features: pl.DataFrame
    """ticker, session and the inputs, sorted by ticker and session"""
    labels: pl.DataFrame
    """usable ones, known by the cutoff"""
    suspects: pl.DataFrame
    """ticker, session of the rows that count in no mean of a session"""
    folds: tuple[Fold, ...]
    horizon: int
    seed: int
    budget: Budget
    digest: str
    """Of all the above and the search space: trials are comparable where it is the same."""

    @property
    def name(self) -> str:
        return f"{self.network}-{self.digest}"


def network_of(name: str) -> str:
    """The network of the study of this `Study.name`.

    >>> network_of("rnn-0123456789ab")
    'rnn'
    """
    return name.split("-")[0]


@dataclass(frozen=True)
class Score:
    """How good a configuration is on the folds."""

    log_loss: float
    """Mean of the folds' log-losses, in nats."""
    per_session: tuple[float, ...]
    """Mean log-loss of each scored session, in order."""
    epochs: int
    """Epochs trained, over all folds."""


def validation_folds(
    sessions: Sequence[date], horizon: int, fold_limit: int = 2, *, tail: int = 126
) -> tuple[Fold, ...]:
    """The last `fold_limit` calendar years that can be judged, else half-years.

    `sessions` are those with features and labels, all before the first model year. A year is judged where 200
    sessions and the purge lie before it, a half-year where 50 do.

    Raises StockAssetsError where not even a half-year can be.
    """
    sessions_in_order = sorted(sessions)
    for least, period_of in ((200, _year), (50, _half_year)):
        periods: dict[str, list[date]] = {}
        for session in sessions_in_order:
            periods.setdefault(period_of(session), []).append(session)
        folds = []
        for name, days in periods.items():
            before = sessions_in_order.index(days[0])
            if before >= least + horizon:
                folds.append(
                    Fold(name, sessions_in_order[before - 1], days[0], days[-1], min(tail, (before - horizon) // 3))
                )
        if folds:
            return tuple(folds[-fold_limit:])
    span = f", {sessions_in_order[0]} to {sessions_in_order[-1]}" if sessions_in_order else ""
    raise StockAssetsError(
        f"tuning found {len(sessions_in_order)} session(s) with features and labels before the first model year{span}; "
        f"expected {50 + horizon} or more and then a half-year to judge. Start earlier, or with a later first model "
        "year"
    )


def _year(session: date) -> str:
    return str(session.year)


def _half_year(session: date) -> str:
    return f"{session.year}-H{1 if session.month <= 6 else 2}"


def prepare(
    network: str,
    inputs: Inputs,
    labels: pl.DataFrame,
    *,
    cutoff: date,
    horizon: int,
    seed: int,
    budget: Budget | None = None,
) -> Study:
    """The study of `network` on a seeded sample of the tickers, from what was known when session `cutoff` was over.

    Input rows after `cutoff` are not looked at, nor are labels that end after it. `cutoff` is that of the first model
    year: it lies before every test year.

    Raises StockAssetsError for an unknown network and for too little history.
    """
    if network not in TUNABLE:
        raise StockAssetsError(f"there is no network {network!r} to tune; expected one of {', '.join(TUNABLE)}")
    tunable = TUNABLE[network]
    budget = budget or tunable.budget
    usable = training_rows(labels, cutoff)
    is_sampled = pl.col("ticker").is_in(_sample(usable["ticker"].unique().sort(), budget.tickers, seed))
    past = getattr(inputs, tunable.reads).filter((pl.col("session") <= cutoff) & is_sampled)
    past = past.cast({pl.Float64: pl.Float32}).sort(KEYS)
    usable = usable.filter(is_sampled).join(past.select(KEYS), on=KEYS, how="semi").sort(KEYS)
    suspects = inputs.suspects.filter((pl.col("session") <= cutoff) & is_sampled).select(KEYS).sort(KEYS)
    folds = validation_folds(usable["session"].unique().to_list(), horizon)
    description = {
        "network": network,
        "defaults": tunable.defaults.to_dict(),
        "space": {name: asdict(range_) for name, range_ in tunable.space.items()},
        "folds": [asdict(fold) for fold in folds],
        "horizon": horizon,
        "seed": seed,
        "budget": asdict(budget),
    }
    digest = hashlib.sha256(json.dumps(description, default=str, sort_keys=True).encode())
    for frame in (past, usable, suspects):
        digest.update(frame.rechunk().write_ipc(None, compression="uncompressed").getvalue())
    return Study(network, past, usable, suspects, folds, horizon, seed, budget, digest.hexdigest()[:12])


def _sample(tickers: pl.Series, limit: int, seed: int) -> list[str]:
    """At most `limit` of the sorted `tickers`, drawn with `seed`."""
    if len(tickers) <= limit:
        return tickers.to_list()
    return np.random.default_rng(seed).choice(tickers.to_numpy(), limit, replace=False).tolist()


def write_study(study: Study, folder: Path) -> None:
    """Writes what `read_study` reads; DuckDB has one writer, so that workers read files of their own."""
    make_folder(folder)
    for name in _FRAMES:
        getattr(study, name).write_ipc(folder / f"{name}.arrow")
    plain = {name: getattr(study, name) for name in ("network", "horizon", "seed", "digest")}
    plain |= {"folds": [asdict(fold) for fold in study.folds], "budget": asdict(study.budget)}
    (folder / "study.json").write_text(json.dumps(plain, default=str))


def read_study(folder: Path) -> Study:
    """The study that `write_study` wrote."""
    plain = json.loads((folder / "study.json").read_text())
    dates = ("cutoff", "first", "last")
    folds = tuple(Fold(**fold | {day: date.fromisoformat(fold[day]) for day in dates}) for fold in plain.pop("folds"))
    frames = {name: pl.read_ipc(folder / f"{name}.arrow") for name in _FRAMES}
    return Study(**frames, **plain | {"folds": folds, "budget": Budget(**plain["budget"])})


_FRAMES = ("features", "labels", "suspects")


def judged_rows(study: Study, fold: Fold) -> pl.DataFrame:
    """ticker, session, label of the fold's scored rows, the same for every configuration.

    They are those with as many feature rows behind them as the longest context of the search space asks for.
    """
    fewest_rows = int(TUNABLE[study.network].space["context"].high)
    old = study.features.select(*KEYS).filter(pl.int_range(pl.len()).over("ticker") >= fewest_rows - 1)
    inside = study.labels.filter(pl.col("session").is_between(fold.first, fold.last)).join(old, on=KEYS, how="semi")
    days = inside["session"].unique().sort().gather_every(study.budget.every)
    return inside.filter(pl.col("session").is_in(days.to_list())).select(*KEYS, "label").sort("session", "ticker")


def evaluate(
    study: Study, params: Mapping[str, float], on_epoch: Callable[[int, int, float], None] | None = None
) -> Score:
    """The log-loss of a configuration on the study's folds, the latest fold first.

    `on_epoch` receives the number of the fold, the epoch, and the validation loss less that of the untrained network,
    which makes folds comparable: it is measured on the tail of the labels known by the fold's cutoff.

    Raises StockAssetsError where a fold has no row to score, and what training raises.
    """
    config = TUNABLE[study.network].configuration(params)
    losses: list[np.ndarray] = []
    per_session: list[pl.DataFrame] = []
    epochs = 0
    for number, fold in enumerate(reversed(study.folds)):
        rows = judged_rows(study, fold)
        at_start: list[float] = []

        def pass_on(report: Any, number: int = number, at_start: list[float] = at_start) -> None:
            nonlocal epochs
            if not at_start:
                at_start.append(report.validation_loss)
            elif on_epoch:
                on_epoch(number, report.epoch, report.validation_loss - at_start[0])
            epochs += report.epoch > 0

        answers = answers_on(study, fold, _within_budget(config, study.budget, fold), rows=rows, on_epoch=pass_on)
        scored_answers = rows.join(answers, on=KEYS).select("session", loss=surprise())
        if scored_answers.is_empty():
            raise StockAssetsError(
                f"the fold {fold.name} has {rows.height} label(s) and no prediction to score; expected rows of the "
                "same tickers and sessions"
            )
        losses.append(scored_answers["loss"].to_numpy())
        per_session.append(scored_answers.group_by("session").agg(pl.col("loss").mean()))
    return Score(
        log_loss=float(np.mean([loss.mean() for loss in losses])),
        per_session=tuple(pl.concat(per_session).sort("session")["loss"]),
        epochs=epochs,
    )


def answers_on(
    study: Study, fold: Fold, config: NetworkConfig, *, rows: pl.DataFrame, on_epoch: Callable[[Any], None]
) -> pl.DataFrame:
    """The probabilities of the sessions of `rows`, from a model trained through the fold's cutoff."""
    past = study.features.filter(pl.col("session") <= fold.last)
    inputs = InputFrames(past, past, label_of_rows_ago(past, study.labels, study.horizon), study.suspects)
    labels = training_rows(study.labels, fold.cutoff)
    lesson = Lesson(inputs, labels, fold.cutoff, study.seed, study.horizon, on_epoch)
    return _trainer(study.network)(lesson, config).predict(inputs, rows["session"].unique().to_list())


def _trainer(network: str) -> Callable[[Lesson, Any], Any]:
    # imported here: torch loads no earlier than a trial needs it
    from stock_assets.model.networks.deepar import train_deepar
    from stock_assets.model.networks.rnn import train_rnn

    return {"deepar": train_deepar, "rnn": train_rnn}[network]


def _within_budget(config: NetworkConfig, budget: Budget, fold: Fold) -> NetworkConfig:
    segments = budget.rows_per_epoch // config.segment
    if budget.steps_per_epoch:
        segments = min(segments, budget.steps_per_epoch * config.batch)
    return replace(config, segments_per_epoch=max(segments, 1), validation_sessions=fold.tail)
