"""Online learning: a trained network takes a few steps on the labels that became known since its cutoff.

No model of the package does so: `benchmarks.online` measures whether it pays, and docs/decisions says why it does not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from torch import nn

from stock_assets.errors import CutoffError, SettingsError, StockAssetsError
from stock_assets.model.crossfit import Blocks
from stock_assets.model.history import History
from stock_assets.model.lesson import Lesson
from stock_assets.model.level import fit_market_levels, session_inputs
from stock_assets.model.networks.layers import weights_of
from stock_assets.model.networks.rnn import Rnn, RnnNetwork
from stock_assets.model.networks.rnn_classifier import RnnClassifier, RnnClassifierNetwork
from stock_assets.model.networks.trainer import Network, adamw, best_device, run_epoch, seed_dropout
from stock_assets.model.splits import require_known
from stock_assets.model.windows import Panel, build_panel, labelled_spans, random_segments


@dataclass(frozen=True)
class UpdateConfig:
    """How a trained network follows labels that became known since. Raises SettingsError for a value out of its range.

    Chosen on 2013 alone (`benchmarks.online`).
    """

    rate: float = 0.3
    """Peak learning rate as a share of the training's; falls along a half cosine to zero at the last step."""
    passes: int = 1
    """Times that the newest labels are met; with 0 the weights stay, and only level and map are fitted again."""
    memory: float = 1.0
    """Segments from anywhere in the history for each one of the newest labels, against forgetting."""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise SettingsError(f"UpdateConfig.rate={self.rate}; expected more than 0")
        for name in ("passes", "memory"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"UpdateConfig.{name}={getattr(self, name)}; expected 0 or more")


def update_rnn(model: Rnn, lesson: Lesson, update: UpdateConfig) -> Rnn:
    """`model` after a few steps on the labels that became known since its cutoff, with the cutoff of `lesson`.

    The lesson holds all inputs and labels there are: segments of older labels are mixed with the new ones, and the
    level is fitted again on all of them. The map, scales, the linear direction, seed, curve and validation
    scores stay those of the training, and the seed of the lesson is not read. The same arguments give the same model.

    Raises CutoffError for a cutoff that is not later or a label that ends after it, ArtifactError for a column that
    the features lack, BadBarsError for features that are not finite, StockAssetsError where no label became known.
    """
    fresh = labels_since(lesson.labels, model.cutoff, lesson.cutoff)
    config = model.config
    history = History.of(replace(lesson, horizon=model.horizon), model.features)
    market, complete = history.market, history.complete
    panel, inputs = history.panel.marked(complete), model.scaling.inputs(market, config.input_clip)
    blocks = Blocks.of(market.day, complete, count=config.members, horizon=model.horizon)
    network = RnnNetwork(config, panel, blocks, inputs=inputs, goals=history.goals(model.target_scale))
    newest, seed = panel.marked(history.rows_of(fresh)), _seed_of(model, lesson)
    weights = follow(network, model.module().to(best_device()), newest, update, seed)
    regular, sessions = complete & market.every(config.every), session_inputs(market, model.features, config.context)
    levels = fit_market_levels(market, history.targets[:, :3], regular, blocks=blocks, sessions=sessions, config=config)
    return replace(model, weights=weights, cutoff=lesson.cutoff, level=levels[0])


def update_rnn_classifier(model: RnnClassifier, lesson: Lesson, update: UpdateConfig) -> RnnClassifier:
    """`model` after a few steps on the labels that became known since its cutoff; see `update_rnn`."""
    fresh = labels_since(lesson.labels, model.cutoff, lesson.cutoff)
    past = lesson.past(lesson.inputs.components)
    panel = build_panel(past, model.features, mean=model.mean, std=model.std, clip=model.config.input_clip)
    network = RnnClassifierNetwork(model.config, panel.labelled(lesson.labels), panel)
    module, seed = model.module().to(best_device()), _seed_of(model, lesson)
    weights = follow(network, module, panel.labelled(fresh), update, seed)
    return replace(model, weights=weights, cutoff=lesson.cutoff)


#: How the networks that can be updated are.
UPDATES: dict[str, Callable[[Any, Lesson, UpdateConfig], Any]] = {
    "rnn": update_rnn,
    "rnn_classifier": update_rnn_classifier,
}


def follow(
    network: Network[Any, Any], module: nn.Module, newest: Panel, update: UpdateConfig, seed: int
) -> dict[str, np.ndarray]:
    """The weights (float32) after a few steps from those of `module`, which is trained in place.

    `newest` holds the rows of `network.panel` with the new labels alone. Each pass meets the segment of every ticker
    that ends at its newest label, and `update.memory` times as many random ones of the panel; nothing is held back to
    choose the best step. Loss and rate are those of the training. The same arguments give the same weights.

    Raises StockAssetsError where `newest` has no label and for a loss that is not finite.
    """
    rng, config = np.random.default_rng(seed), network.config
    seed_dropout(module, seed)
    optimizer = adamw(module, config, config.learning_rate * update.rate)
    spans = labelled_spans(newest, (config.segment - 1) * newest.stride + 1)
    if not len(spans):
        raise StockAssetsError("none of the new labels has features; expected rows of the same tickers and sessions")
    for number in range(1, update.passes + 1):
        older = random_segments(network.panel, spans.shape[1], rng)[: round(update.memory * len(spans))]
        segments = rng.permutation(np.concatenate([spans, older]))
        run_epoch(network, module, optimizer, segments=segments, epoch=number, epochs=update.passes)
    return weights_of(module)


def labels_since(labels: pl.DataFrame, before: date, cutoff: date) -> pl.DataFrame:
    """The labels that became known after session `before` and by session `cutoff`: what an update may learn anew.

    Raises CutoffError where `cutoff` is not later than `before` or a label was not fully known by it, StockAssetsError
    where none became known in between.
    """
    if cutoff <= before:
        raise CutoffError(f"a model trained through {before} was to be updated to {cutoff}; expected a later cutoff")
    require_known(labels, cutoff)
    fresh = labels.filter(pl.col("horizon_end") > before)
    if fresh.is_empty():
        raise StockAssetsError(f"no label became known after {before} and by {cutoff}; expected some to learn from")
    return fresh


def _seed_of(model: Rnn | RnnClassifier, lesson: Lesson) -> int:
    return model.seed + lesson.cutoff.toordinal()
