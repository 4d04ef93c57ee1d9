"""What the models of bars share: a lesson, its rows as arrays, the form of an answer, and which rows have one.

**Purge.** A model with cutoff c, a moment, learns only from labels with `known_at <= c`. Where a training judges itself,
on a block of time or on its newest part, the labels of `horizon_bars` bars on either side are left out of what
learns (the embargo): labels of neighbours share bars.

**Missing inputs.** A row is answered where `REQUIRED` are there, which takes 80 % of the last 240 bars; any other
unknown input counts as its training mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from stock_assets.errors import ArtifactError, CutoffError, StockAssetsError
from stock_assets.features.bar_features import BAR_INPUTS, TRAILING
from stock_assets.features.bar_labels import BarLabelRule
from stock_assets.frames import BAR_KEYS, PROBABILITIES
from stock_assets.model.lesson import Checkpoint
from stock_assets.model.scaling import column_values

#: Columns without which a row has no answer: what the others are measured by.
REQUIRED = (f"vol_{TRAILING}", "vol_240")
#: Harmonics of the day beside the first, which is among the features: the flexible Fourier form of the volatility
#: within a day (Andersen & Bollerslev 1997).
HARMONICS = range(2, 7)


@dataclass(frozen=True)
class BarLesson:
    """Everything that one training of a model of bars is given."""

    features: pl.DataFrame
    """BAR_KEYS and `BAR_FEATURES`; rows after the cutoff are not looked at"""
    labels: pl.DataFrame
    """BAR_KEYS and `BAR_LABELS`, purged: known by the cutoff; see `known_by`"""
    cutoff: datetime
    """the last moment that the training may have seen, with a time zone"""
    seed: int
    rule: BarLabelRule
    interval_minutes: int
    on_epoch: Callable[[Any], None] | None = None
    """receives the report of each epoch of a network"""
    checkpoint: Checkpoint | None = None

    @cached_property
    def rows(self) -> "BarRows":
        """The rows of the features up to the cutoff, with the labels that they have.

        Raises CutoffError for a label that was not known by the cutoff, StockAssetsError where no row has a label.
        """
        late = self.labels.filter(pl.col("known_at") > self.cutoff)
        if not late.is_empty():
            worst = late.sort("known_at").row(-1, named=True)
            raise CutoffError(
                f"{late.height} label(s) look past the cutoff {self.cutoff}: that of {worst['ticker']} at "
                f"{worst['bar_end']} is known only at {worst['known_at']}; expected labels purged by known_by"
            )
        past = self.features.filter(pl.col("bar_end") <= self.cutoff).sort(BAR_KEYS)
        rows = BarRows(past.join(self.labels, on=BAR_KEYS, how="left", maintain_order="left"), self.interval_minutes)
        if not rows.learnable.any():
            raise StockAssetsError(
                f"none of the {self.labels.height} label(s) known by {self.cutoff} has features with "
                f"{', '.join(REQUIRED)}; expected more than 240 bars of a ticker and a horizon before the cutoff"
            )
        return rows

    @property
    def horizon(self) -> int:
        """Bars that a label looks ahead."""
        return self.rule.horizon_bars


def known_by(labels: pl.DataFrame, cutoff: datetime) -> pl.DataFrame:
    """The labels that were known at the moment `cutoff`: those that a training with this cutoff may see."""
    return labels.filter(pl.col("known_at") <= cutoff)


class BarRows:
    """N feature rows sorted by BAR_KEYS, as arrays. Raises ArtifactError for a column that they lack."""

    def __init__(self, rows: pl.DataFrame, interval_minutes: int) -> None:
        """`rows` may have the columns of labels, too."""
        _require_columns(rows)
        self.frame = rows
        self.time = rows["bar_end"].dt.epoch("us").to_numpy() // (interval_minutes * 60_000_000)
        """int64 [N]: the number of the bar's interval since 1970"""

    @cached_property
    def inputs(self) -> np.ndarray:
        """float64 [N, F]: `bar_inputs`"""
        return bar_inputs(self.frame)

    @cached_property
    def answerable(self) -> np.ndarray:
        """bool [N]: the rows that have all REQUIRED columns"""
        return answerable(self.frame)

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [N]: -1, 0 or 1; 0 where there is none"""
        return self.frame["label"].cast(pl.Int64).fill_null(0).to_numpy()

    @cached_property
    def learnable(self) -> np.ndarray:
        """bool [N]: the rows with a label and all REQUIRED columns"""
        return self.answerable & self.frame["label"].is_not_null().to_numpy()

    @cached_property
    def ahead(self) -> np.ndarray:
        """int64 [N]: how many bars the label looks ahead; 0 where there is none"""
        known = self.frame["known_at"].dt.epoch("us").fill_null(0).to_numpy()
        step = known - self.frame["bar_end"].dt.epoch("us").to_numpy()
        minutes = np.where(known > 0, step, 0)
        return np.rint(minutes / self._interval).astype(np.int64)

    @cached_property
    def _interval(self) -> int:
        """Microseconds of a bar"""
        return int(self.frame["bar_end"].dt.epoch("us")[0] // self.time[0]) if len(self.time) else 1

    @cached_property
    def moves(self) -> np.ndarray:
        """float64 [N]: future_return in units of `unit`, 0 where there is no label"""
        unit = bar_unit(self.frame) * np.sqrt(np.maximum(self.ahead, 1))
        return np.where(self.learnable, column_values(self.frame, "future_return") / unit, 0.0)
