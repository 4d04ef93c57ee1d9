"""The processes of `test_work.py`: the steps of the data host, and models whose trainings stop until they may go on.

As an extension of a host with HELD it has every network wait, once its second epoch is saved, and every trial before it
begins, for the file `go` in that folder; a file beside it says who waits.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from stock_assets.model import tuning
from stock_assets.model.lesson import InputFrames, Lesson
from stock_assets.model.materialize.shared_tuning import search
from stock_assets.model.materialize.train import Tracking, train_models
from stock_assets.model.registry import MODELS, models_into
from stock_assets.model.trials import Heartbeat
from stock_assets.settings import Settings, settings
from stock_assets.storage.registry import NoRegistry
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.model.store import NOW
from stock_assets_tests.model.synthetic import HORIZON, synthetic_panel

HELD, GO = "HELD_TRAININGS", "go"
TABLE = "trained_rnn"
#: The cutoffs of two model years of `model.store.small_store`.
CUTOFFS = {2018: date(2017, 12, 29), 2019: date(2018, 12, 31)}
TRIALS = 3
#: A process is taken for dead after five seconds without a sign of life.
QUICKLY = Heartbeat(1, 5)


@dataclass(frozen=True)
class Waiting:
    """Trains as `train` does, and waits after its second epoch."""

    name: str
    train: Callable[[Lesson], Any]
    folder: Path

    def __call__(self, lesson: Lesson) -> Any:
        def on_epoch(report: Any) -> None:
            if lesson.on_epoch:
                lesson.on_epoch(report)
            if report.epoch == 2:
                wait(self.folder, f"{self.name}-{lesson.cutoff}")

        return self.train(replace(lesson, on_epoch=on_epoch))


def wait(folder: Path, name: str) -> None:
    (folder / f"{name}-{os.getpid()}").touch()
    while not (folder / GO).exists():
        time.sleep(0.05)


def train(chosen: Settings) -> None:
    """The step `trained_rnn`, whose lines are printed."""
    tracking = Tracking(NoRegistry(), lambda *_: b"")
    say = partial(print, flush=True)
    train_models(Warehouse.of(chosen), chosen, CUTOFFS, table=TABLE, tracking=tracking, now=NOW, say=say)


def study() -> tuning.Study:
    """Two tickers, and a segment or two an epoch: a trial takes a second or two."""
    features, labels = (rows.filter(pl.col("session") >= date(2010, 3, 22)) for rows in synthetic_panel(sessions=420))
    return tuning.prepare(
        "deepar",
        InputFrames(components=features),
        labels,
        cutoff=date(2011, 6, 30),
        horizon=HORIZON,
        seed=0,
        budget=tuning.Budget(tickers=2, rows_per_epoch=64, steps_per_epoch=1, every=9),
    )


def tune(chosen: Settings) -> None:
    """A search with one process of its own."""
    say = partial(print, flush=True)
    search(chosen, study(), TRIALS, workers=1, on_trial=None, say=say, heartbeat=QUICKLY)


def hold(folder: Path) -> None:
    for name, entry in models_into(TABLE).items():
        MODELS[name] = replace(entry, train=Waiting(name, entry.train, folder))
    evaluate = tuning.evaluate

    def evaluate_later(*arguments: Any) -> tuning.Score:
        wait(folder, "trial")
        return evaluate(*arguments)

    tuning.evaluate = evaluate_later


if HELD in os.environ and __name__ != "__main__":
    hold(Path(os.environ[HELD]))

if __name__ == "__main__":
    from stock_assets.extensions import load_extensions

    load_extensions(settings())
    {"train": train, "tune": tune}[sys.argv[1]](settings())
