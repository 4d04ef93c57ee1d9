"""Networks trained in a process of their own and watched: what they learn from, how fast, and with how much memory."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import numpy as np
import polars as pl

from benchmarks.judging import peak_memory
from stock_assets.features.stationary import STATIONARY
from stock_assets.frames import KEYS
from stock_assets.model.lesson import InputFrames, Lesson
from stock_assets.model.splits import label_of_rows_ago, train_validation_split, training_rows, usable_labels
from stock_assets.model.windows import IGNORE
from stock_assets.storage.warehouse import Warehouse

#: The reference study's network, and the two that serve beside it.
NETWORKS = ("deepar", "rnn_classifier", "rnn")
HORIZON = 7

Result = TypeVar("Result")


class Epoch(NamedTuple):
    seconds: float  # of this epoch; of epoch 0, of preparing the panel
    cpu: float  # seconds of all cores
    clock: float  # seconds since training began
    targets: int  # known labels that entered the loss, each time they did
    distinct: int  # different (ticker, session) among them
    log_loss: float | None  # of the validation labels


class Learned(NamedTuple):
    network: str
    epochs: list[Epoch]
    seconds: float  # of the whole training, with judging
    ever: int  # different (ticker, session) over all epochs
    log_loss: float  # of the validation labels, by the weights that are kept
    memory_before: int  # bytes, with the libraries and the frames
    memory: int  # bytes, at the peak


class Material(NamedTuple):
    """What networks learn from, as frames."""

    components: pl.DataFrame
    features: pl.DataFrame  # stationary, single precision
    labels: pl.DataFrame  # known by the cutoff and usable
    suspects: pl.DataFrame

    @classmethod
    def of(cls, warehouse: Warehouse, cutoff: date) -> "Material":
        """Everything in the store up to `cutoff`."""
        bars = warehouse.read("daily_bars", last=cutoff, columns=["ticker", "session", "suspect"])
        suspects = bars.filter(pl.col("suspect").is_not_null())
        features = warehouse.read("stationary_features", last=cutoff, columns=["ticker", "session", *STATIONARY])
        return cls(
            warehouse.read("pca_components", last=cutoff).drop("pca_version"),
            features.cast({pl.Float64: pl.Float32}),
            usable_labels(training_rows(warehouse.read("labels"), cutoff), suspects)[0],
            suspects,
        )

    def inputs(self, known_labels: pl.DataFrame | None = None) -> InputFrames:
        """What networks read; `deepar` alone reads the known labels."""
        inputs = InputFrames(self.features, self.components, suspects=self.suspects)
        return inputs if known_labels is None else replace(inputs, known_labels=known_labels)

    def write(self, folder: Path) -> None:
        for name, frame in self._asdict().items():
            frame.write_parquet(folder / f"{name}.parquet")

    def part(self, tickers: int, first: date) -> "Material":
        """The rows from session `first` on of `tickers` of the tickers, spread over the alphabet."""
        names = self.components["ticker"].unique().sort()
        chosen_tickers = names.gather(np.linspace(0, len(names) - 1, tickers).round().astype(int)).to_list()
        in_part = pl.col("ticker").is_in(chosen_tickers) & (pl.col("session") >= first)
        return Material(*(frame.filter(in_part) for frame in self))


def sampled_validation(
    labels: pl.DataFrame, cutoff: date, sessions: int, count: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(the training labels, `count` of the validation labels drawn at random, or all where there are fewer).

    Raises ValueError where the draw leaves a session out: the two together would then be split elsewhere.
    """
    train, validation = train_validation_split(labels, cutoff, sessions)
    rows = validation.sort(KEYS)
    sample = rows.sample(min(count, rows.height), seed=seed).sort(KEYS)
    if (session_count := sample["session"].n_unique()) < sessions:
        raise ValueError(
            f"{sample.height} validation labels meet {session_count} sessions; expected all {sessions}: draw more"
        )
    return train, sample


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """What `function` returns in a fresh interpreter, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class Watch:
    """Counts what enters the loss of every epoch, and times the epochs, standing still while one is judged."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.ever = 0
        self._seen = self._before = np.empty(0, bool)
        self._targets, self._clock = 0, 0.0
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def descend(self, descend: Callable[..., Any]) -> Callable[..., Any]:
        """`networks.trainer.descend`, watched."""

        def watched(network: Any, lesson: Lesson) -> Any:
            self._seen, self._before = np.zeros((2, len(network.panel.labels)), bool)
            return descend(_Watched(network, self), lesson)

        return watched

    def count(self, rows: np.ndarray) -> None:
        """These rows entered the loss."""
        self._seen[rows] = True
        self._targets += len(rows)

    def judge(self, judge: Callable[[], Any]) -> Any:
        """The report that `judge` returns; ends the epoch and begins the next one."""
        from stock_assets.model.networks.trained import ClassifierEpoch

        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        self._clock += seconds
        report = judge()
        # what the model `rnn` is judged by is no log-loss
        loss = report.validation_loss if isinstance(report, ClassifierEpoch) else None
        self.epochs.append(Epoch(seconds, cpu, self._clock, self._targets, int(self._seen.sum()), loss))
        self._before |= self._seen
        self.ever = int(self._before.sum())
        self._seen[:], self._targets = False, 0
        self._began, self._cpu = time.perf_counter(), time.process_time()
        return report


class _Watched:
    """A `trainer.Network` that reports to a `Watch`."""

    def __init__(self, network: Any, watch: Watch) -> None:
        self._network, self._watch = network, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def loss(self, module: Any, segments: Any) -> Any:
        rows, labels = segments.cpu().numpy(), self._network.panel.labels
        self._watch.count(rows[labels[rows] != IGNORE])
        return self._network.loss(module, segments)

    def judge(self, module: Any, epoch: int, train_loss: float | None) -> Any:
        return self._watch.judge(lambda: self._network.judge(module, epoch, train_loss))


def learn(network: str, folder: Path, cutoff: date, seed: int = 0) -> Learned:
    """Trains `network` on the material in `folder`, and measures it. Call it in a process of its own.

    Reading the files and importing the libraries is not timed.
    """
    from stock_assets.model.networks import deepar, rnn, rnn_classifier

    def read(name: str) -> pl.DataFrame:
        return pl.read_parquet(folder / f"{name}.parquet")

    train = {"deepar": deepar.train_deepar, "rnn_classifier": rnn_classifier.train_rnn_classifier, "rnn": rnn.train_rnn}
    inputs = {
        "deepar": lambda: InputFrames(components=read("components"), known_labels=read("known")),
        "rnn_classifier": lambda: InputFrames(components=read("components")),
        "rnn": lambda: InputFrames(features=read("features"), suspects=read("suspects")),
    }
    lesson = Lesson(inputs[network](), read("labels"), cutoff, seed, HORIZON)
    before, watch = peak_memory(), Watch()
    start = time.perf_counter()
    with ExitStack() as stack:
        for module in (deepar, rnn, rnn_classifier):
            stack.enter_context(patch.object(module, "descend", watch.descend(module.descend)))
        trained_model = train[network](lesson)
    seconds = time.perf_counter() - start
    return Learned(network, watch.epochs, seconds, watch.ever, trained_model.validation_log_loss, before, peak_memory())


def known_labels(material: Material) -> pl.DataFrame:
    """The newest label that an honest forecast of each row may know: that of a horizon ago."""
    return label_of_rows_ago(material.components, material.labels, HORIZON)
