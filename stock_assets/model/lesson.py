"""What one training is given: inputs, labels, the cutoff and the seed, handed over as one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.frames import KEYS, in_order
from stock_assets.model.market_rows import HoldsMarket, MarketRows
from stock_assets.model.splits import require_known, train_validation_split
from stock_assets.setting_values import LabelRule


class Inputs(Protocol):
    """What models read, all of the same tickers and sessions. Each model reads the frames that it needs."""

    @property
    def features(self) -> pl.DataFrame:
        """ticker, session and the stationary inputs (f32)"""
        ...

    @property
    def components(self) -> pl.DataFrame:
        """ticker, session and the principal components (f64)"""
        ...

    @property
    def known_labels(self) -> pl.DataFrame:
        """ticker, session, known_label (i8): the newest label known at the session's close, null where none is"""
        ...

    @property
    def suspects(self) -> pl.DataFrame:
        """ticker, session of the rows that neither train nor count in a session's mean"""
        ...

    def market(self, columns: tuple[str, ...], horizon: int) -> MarketRows:
        """`columns` of the features of all tickers; see `HoldsMarket`."""
        ...


def _no_rows() -> pl.DataFrame:
    return pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date})


def _no_known_labels() -> pl.DataFrame:
    return pl.DataFrame(schema={"ticker": pl.String, "session": pl.Date, "known_label": pl.Int8})


@dataclass(frozen=True)
class InputFrames(HoldsMarket):
    """`Inputs` of frames in memory. A frame that is left out has no rows."""

    features: pl.DataFrame = field(default_factory=_no_rows)
    components: pl.DataFrame = field(default_factory=_no_rows)
    known_labels: pl.DataFrame = field(default_factory=_no_known_labels)
    suspects: pl.DataFrame = field(default_factory=_no_rows)


class Checkpoint(Protocol):
    """Where a training keeps its last epoch. `storage.artifacts.CheckpointFile` is one."""

    def load(self) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]] | None:
        """(tensors, description) as they were saved last; None when there are none that can be read."""
        ...

    def save(self, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        """Replaces what was saved before, whole or not at all."""
        ...


class Course(Protocol):
    """What the trainer of networks reads of a lesson."""

    @property
    def seed(self) -> int: ...
    @property
    def on_epoch(self) -> Callable[[Any], None] | None:
        """Receives the report of each epoch of a network."""
        ...

    @property
    def checkpoint(self) -> Checkpoint | None: ...


@dataclass(frozen=True)
class Lesson:
    """Everything that one training is given."""

    inputs: Inputs
    labels: pl.DataFrame
    """ticker, session, label (i8), horizon_end, forward_return_1; usable, and purged: known by the cutoff"""
    cutoff: date
    """Last session whose close the training may see."""
    seed: int
    horizon: int
    """Sessions that a label looks ahead."""
    on_epoch: Callable[[Any], None] | None = None
    """Receives the report of each epoch of a network."""
    checkpoint: Checkpoint | None = None
    buy_threshold: float = LabelRule.buy_threshold
    """The return (fraction) at which a label is buy."""
    sell_threshold: float = LabelRule.sell_threshold
    """The loss (fraction, positive) at which a label is sell."""

    def split(self, validation_sessions: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(train, validation) of the labels; see `splits.train_validation_split`.

        Raises CutoffError for a label that ends after the cutoff, StockAssetsError for too little history.
        """
        require_known(self.labels, self.cutoff)
        return train_validation_split(self.labels, self.cutoff, validation_sessions)

    def past(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of sessions up to the cutoff, sorted by ticker and session."""
        later = pl.col("session") > self.cutoff
        return in_order(rows.filter(~later) if rows.select(later.any()).item() else rows)

    def labelled(self, past: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
        """The rows of `past` that have a label in `train`, with it, in the order of `past`.

        Raises StockAssetsError where none has one.
        """
        rows = past.join(train.select(*KEYS, "label"), on=KEYS, maintain_order="left")
        if rows.is_empty():
            raise StockAssetsError(
                f"none of the {train.height} training label(s) known by {self.cutoff} has features; expected rows of "
                "the same tickers and sessions"
            )
        return rows
