"""One model year with and without groups of inputs: which trainings that takes, and what each of them scores."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Any
from zlib import crc32

import polars as pl

from stock_assets.evaluation.input_groups import InputGroup
from stock_assets.evaluation.input_value import (
    ADDED,
    FULL,
    LEFT_OUT,
    PERMUTED,
    Variant,
    permuted,
    session_scores,
    without,
)
from stock_assets.frames import KEYS
from stock_assets.model.lesson import Checkpoint, InputFrames, Lesson
from stock_assets.model.registry import ModelEntry
from stock_assets.setting_values import LabelRule

#: What names a digest of frames, so that scores of other rows are not taken for those of these.
_DIGEST_BYTES = 10


@dataclass(frozen=True)
class WalkYear:
    """What a model year learns from, and what it is scored on."""

    year: int
    cutoff: date
    """the last session that its training may know"""
    features: pl.DataFrame
    """ticker, session and the columns that the model reads, up to the last scored session; sorted"""
    added: pl.DataFrame
    """ticker, session and the columns of groups that it does not read, of the same rows"""
    suspects: pl.DataFrame
    """ticker, session of the rows that count in no mean of a session"""
    train: pl.DataFrame
    """usable labels known by the cutoff"""
    scored: pl.DataFrame
    """usable labels of the year"""
    asked_from: date
    """the first session that its predictions look at"""

    def digest(self, *content: object) -> str:
        """Names all that the model as it is learns from and is scored on, and `content`."""
        digest = blake2b(repr((self.year, *content)).encode(), digest_size=_DIGEST_BYTES)
        for frame in (self.features, self.suspects.select(KEYS).sort(KEYS), self.train, self.scored):
            _take_in(digest, frame)
        return digest.hexdigest()

    def digest_of(self, group: InputGroup) -> str:
        """Names the values of a group that the model does not read."""
        digest = blake2b(digest_size=_DIGEST_BYTES)
        _take_in(digest, self.added.select(group.columns))
        return digest.hexdigest()


def _take_in(digest: Any, frame: pl.DataFrame) -> None:
    """One column at a time: a whole market twice takes a gigabyte."""
    digest.update(repr(frame.schema).encode())
    for column in frame.iter_columns():
        digest.update(column.rechunk().to_frame().write_ipc(None, compression="uncompressed").getvalue())


@dataclass(frozen=True)
class Training:
    """One training of the walk-forward, and what is asked of the trained model."""

    year: WalkYear
    seed: int
    variant: Variant
    group: InputGroup | None
    """the one that is left out or added; None for FULL"""
    shuffled: tuple[InputGroup, ...] = ()
    """those that FULL is asked with shuffled, one after the other"""

    @property
    def name(self) -> str:
        way = {LEFT_OUT: "without", ADDED: "with"}.get(self.variant.way, "as it is")
        return f"{self.year.year} {way} {self.variant.group}".strip()

    @property
    def variants(self) -> dict[Variant, InputGroup | None]:
        """All that it is asked for, with the groups that they are about."""
        return {self.variant: self.group} | {Variant(group.name, PERMUTED): group for group in self.shuffled}

    def inputs(self) -> pl.DataFrame:
        """The features of this variant."""
        features = self.year.features
        if self.group is None:
            return features
        if self.variant.way == LEFT_OUT:
            return without(features, self.group.columns)
        return features.with_columns(self.year.added.select(self.group.columns).get_columns())


def trainings_of(
    year: WalkYear, groups: Mapping[str, InputGroup], ways: Collection[str], *, seed: int
) -> list[Training]:
    """FULL, then one training for each of `groups` that is left out or added. A group that holds every input of the
    model is not left out: nothing would be left to learn from."""
    model_groups = [group for group in groups.values() if group.in_model]
    left_out = [group for group in model_groups if len(group.columns) < year.features.width - len(KEYS)]
    full = Training(year, seed, FULL, None, tuple(model_groups) if PERMUTED in ways else ())
    others = {LEFT_OUT: left_out, ADDED: [group for group in groups.values() if not group.in_model]}
    return [
        full,
        *(
            Training(year, seed, Variant(group.name, way), group)
            for way, of_way in others.items()
            if way in ways
            for group in of_way
        ),
    ]


def run_training(
    training: Training,
    entry: ModelEntry,
    *,
    rule: LabelRule,
    on_epoch: Callable[[Any], None] | None = None,
    checkpoint: Checkpoint | None = None,
    keep: Callable[[Variant, pl.DataFrame], None],
) -> None:
    """Trains the model of `entry` and hands the scores of sessions of each variant to `keep` once it is asked.

    Raises what a training and a prediction raise.
    """
    year, features = training.year, training.inputs()
    lesson = Lesson(
        InputFrames(features=features, suspects=year.suspects),
        year.train,
        year.cutoff,
        training.seed,
        rule.horizon,
        on_epoch,
        checkpoint,
        rule.buy_threshold,
        rule.sell_threshold,
    )
    trained_model = entry.train(lesson)
    requested_features = features.filter(pl.col("session") >= year.asked_from)
    sessions = year.scored["session"].unique().sort().to_list()

    def ask(variant: Variant, rows: pl.DataFrame) -> None:
        answers = entry.predict(trained_model, InputFrames(features=rows, suspects=year.suspects), sessions)
        keep(variant, session_scores(answers, year.scored, cutoff=year.cutoff))

    ask(training.variant, requested_features)
    for group in training.shuffled:
        seed_parts = (training.seed, year.year, crc32(group.name.encode()))  # whichever other groups are asked
        ask(Variant(group.name, PERMUTED), permuted(requested_features, group.columns, seed=seed_parts))
