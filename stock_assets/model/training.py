"""Train the recurrent network of one model year, and predict with it."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.nn import functional

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.model.config import CLASSES, RnnConfig
from stock_assets.model.probabilities import probability_frame, softmax
from stock_assets.model.rnn import SegmentLSTM
from stock_assets.model.scaling import feature_columns, fit_scaler
from stock_assets.model.splits import KEYS, require_after, require_known, train_validation_split
from stock_assets.model.windows import (
    IGNORE,
    Panel,
    build_panel,
    context_windows,
    labelled_spans,
    random_segments,
)

#: Windows of one forward pass. Passes are filled up to this size: with a fixed shape the same window gives
#: the same figures whichever windows share its pass, so a day predicted alone equals the day inside a
#: range.
INFERENCE_BATCH = 256


@dataclass(frozen=True)
class EpochReport:
    """What one epoch achieved. Epoch 0 is the untrained network, which is the class prior."""

    epoch: int
    epochs: int
    """Epochs that may come, at most."""
    train_log_loss: float
    """Mean over the epoch, with dropout, while the weights still moved."""
    validation_log_loss: float
    accuracy: float
    """Share of validation labels that the most probable class hits."""
    rmse: float
    """Root mean squared distance of that class to the validation label, both as -1, 0, 1."""


@dataclass(frozen=True)
class TrainedRnn:
    """Everything that inference needs, as plain values."""

    config: RnnConfig
    features: tuple[str, ...]
    """Input columns, in order."""
    mean: np.ndarray
    """float64 [F], of the training rows alone"""
    std: np.ndarray
    """float64 [F], likewise; 1 where a column is constant"""
    weights: dict[str, np.ndarray]
    """float32, the state of `SegmentLSTM` after the best epoch"""
    cutoff: date
    """Last session whose close the training has seen."""
    seed: int
    curve: tuple[EpochReport, ...]
    best_epoch: int

    def network(self) -> SegmentLSTM:
        """The network in evaluation mode. Raises ArtifactError when the weights do not fit the configuration."""
        network = SegmentLSTM(len(self.features), self.config)
        try:
            network.load_state_dict({name: torch.from_numpy(value) for name, value in self.weights.items()})
        except RuntimeError as error:
            raise ArtifactError(f"weights do not fit their configuration: {error}") from None
        return network.eval()

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for `storage.artifacts.save_artifact`."""
        tensors = {f"weights/{name}": value for name, value in self.weights.items()}
        return tensors | {"mean": self.mean, "std": self.std}, {
            "kind": "rnn",
            "classes": list(CLASSES),
            "config": self.config.to_dict(),
            "features": list(self.features),
            "cutoff": self.cutoff.isoformat(),
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "curve": [asdict(report) for report in self.curve],
        }

    @classmethod
    def from_artifact(cls, tensors: dict[str, np.ndarray], description: dict[str, Any]) -> "TrainedRnn":
        """The network that `to_artifact` described. Raises ArtifactError when something is missing or unknown."""
        try:
            if (description["kind"], tuple(description["classes"])) != ("rnn", CLASSES):
                raise ArtifactError(
                    f"artifact is a {description['kind']!r} with classes {description['classes']}; "
                    f"expected 'rnn' with classes {list(CLASSES)}"
                )
            trained = cls(
                config=RnnConfig.from_dict(description["config"]),
                features=tuple(description["features"]),
                mean=tensors["mean"],
                std=tensors["std"],
                weights={
                    name.removeprefix("weights/"): value
                    for name, value in tensors.items()
                    if name.startswith("weights/")
                },
                cutoff=date.fromisoformat(description["cutoff"]),
                seed=description["seed"],
                curve=tuple(EpochReport(**report) for report in description["curve"]),
                best_epoch=description["best_epoch"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"artifact of an rnn is incomplete: {error!r}") from error
        trained.network()  # so that weights of another shape are refused here, not at the first prediction
        return trained


def train_rnn(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    config: RnnConfig,
    cutoff: date,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> TrainedRnn:
    """The network of the best epoch, trained on what was known when session `cutoff` was over.

    `features` has ticker, session and the inputs, which are its columns of floating-point numbers; rows
    after `cutoff` are not looked at. `labels` are usable and purged. The last `config.validation_sessions`
    sessions of the labels choose the epoch, from 0 (the class prior) on, and the scaler and the weights
    come from the labels that end before them. The same seed, inputs and number of torch threads give the
    same weights; torch's own random state is left as it was.

    Raises CutoffError for a label that ends after `cutoff`, BadBarsError for features that are not finite,
    and StockAssetsError for too little history or a loss that is not finite.
    """
    require_known(labels, cutoff)
    train, validation = train_validation_split(labels, cutoff, config.validation_sessions)
    past = features.filter(pl.col("session") <= cutoff).sort(KEYS)
    columns = feature_columns(features)
    rows = past.join(train.select(KEYS), on=KEYS, how="semi", maintain_order="left")
    if rows.is_empty():
        raise StockAssetsError(
            f"none of the {train.height} training label(s) known by {cutoff} has features; expected rows "
            "of the same tickers and sessions"
        )
    mean, std = fit_scaler(rows, columns)
    panel = build_panel(past, columns, mean, std, config.input_clip)
    train_panel, validation_panel = panel.labelled(train), panel.labelled(validation)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SegmentLSTM(len(columns), config, _prior(train_panel.labels))
        curve, best = _fit(network, train_panel, validation_panel, config, seed, on_epoch or (lambda _: None))
    weights, best_epoch = best
    return TrainedRnn(config, columns, mean, std, weights, cutoff, seed, tuple(curve), best_epoch)


def predict(trained: TrainedRnn, features: pl.DataFrame, sessions: Collection[date]) -> pl.DataFrame:
    """Probabilities of sell, hold, buy for every ticker and session that has enough history.

    Returns ticker, session, p_sell, p_hold, p_buy, score = p_buy - p_sell, sorted by ticker and session.
    Each row looks at exactly the last `config.context` rows of its ticker, that of the session included;
    where there are fewer there is no row (`missing_history` counts them). Rows of `features` after a
    session never touch it.

    Raises CutoffError when a session is not after the cutoff, ArtifactError when an input column is missing,
    BadBarsError for features that are not finite.
    """
    require_after(trained.cutoff, sessions)
    panel = build_panel(features, trained.features, trained.mean, trained.std, trained.config.input_clip)
    asked = _asked(panel.keys, sessions, trained.config.context)
    last_rows = np.flatnonzero(asked.to_numpy())
    values, network = torch.from_numpy(panel.values), trained.network()
    logits = np.empty((len(last_rows), len(CLASSES)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(last_rows), INFERENCE_BATCH):
            chunk = last_rows[start : start + INFERENCE_BATCH]
            windows = torch.from_numpy(context_windows(np.resize(chunk, INFERENCE_BATCH), trained.config.context))
            answer = network.at_last_step(values[windows])  # [256, context, F] -> [256, 3]
            logits[start : start + len(chunk)] = answer[: len(chunk)].numpy()
    return probability_frame(panel.keys.filter(asked), softmax(logits))


def missing_history(features: pl.DataFrame, sessions: Collection[date], context: int) -> dict[str, int]:
    """How many feature rows at `sessions` get no prediction, by reason; empty when all do."""
    keys = features.select(KEYS).sort(KEYS)
    rows = keys.filter(pl.col("session").is_in(list(sessions))).height
    short = rows - int(_asked(keys, sessions, context).sum())
    return {f"fewer than {context} feature rows": short} if short else {}


def _asked(keys: pl.DataFrame, sessions: Collection[date], context: int) -> pl.Series:
    """Which of the sorted `keys` are asked for and have `context` rows of their ticker up to themselves."""
    enough = pl.int_range(pl.len()).over("ticker") >= context - 1
    return keys.select((enough & pl.col("session").is_in(list(sessions))).alias("asked"))["asked"]


def _prior(labels: np.ndarray) -> torch.Tensor:
    # one imaginary row per class keeps the logarithm finite when a class is absent
    counts = torch.from_numpy(np.bincount(labels[labels != IGNORE], minlength=len(CLASSES)) + 1.0)
    return (counts / counts.sum()).float()


def _fit(
    network: SegmentLSTM,
    train: Panel,
    validation: Panel,
    config: RnnConfig,
    seed: int,
    on_epoch: Callable[[EpochReport], None],
) -> tuple[list[EpochReport], tuple[dict[str, np.ndarray], int]]:
    """(learning curve, (weights, epoch) of the lowest validation log-loss)."""
    values, labels = torch.from_numpy(train.values), torch.from_numpy(train.labels)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    prior_loss = functional.cross_entropy(network.head.bias.detach().expand(len(labels), -1), labels).item()
    curve = [_judge(network, validation, config, 0, prior_loss)]
    best = _weights(network), 0
    on_epoch(curve[0])
    for epoch in range(1, config.epochs + 1):
        batches = torch.from_numpy(_segments_of_epoch(train, config, rng)).split(config.batch)
        total, rows = 0.0, 0
        network.train()
        for step, batch in enumerate(batches):
            progress = (epoch - 1 + step / len(batches)) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * 0.5 * (1 + np.cos(np.pi * progress))
            targets = labels[batch].flatten()  # [B * L]
            known = int((targets != IGNORE).sum())
            loss = functional.cross_entropy(network(values[batch]).flatten(0, 1), targets, ignore_index=IGNORE)
            _require_finite(loss.item(), f"loss of epoch {epoch}, step {step + 1},", config)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            total, rows = total + loss.item() * known, rows + known
        curve.append(_judge(network, validation, config, epoch, total / rows))
        _require_finite(curve[-1].validation_log_loss, f"validation loss of epoch {epoch}", config)
        on_epoch(curve[-1])
        if curve[-1].validation_log_loss < curve[best[1]].validation_log_loss:
            best = _weights(network), epoch
        elif epoch - best[1] >= config.patience:
            break
    return curve, best


def _segments_of_epoch(panel: Panel, config: RnnConfig, rng: np.random.Generator) -> np.ndarray:
    """Row indices, int64 [segments_per_epoch, segment], of as many passes over the panel as it takes."""
    passes = [random_segments(panel, config.segment, rng)]
    while sum(map(len, passes)) < config.segments_per_epoch:
        passes.append(random_segments(panel, config.segment, rng))
    return np.concatenate(passes)[: config.segments_per_epoch]


def _judge(network: SegmentLSTM, panel: Panel, config: RnnConfig, epoch: int, train_log_loss: float) -> EpochReport:
    """The report of an epoch, on the panel's labels.

    One pass along each ticker's tail: its later steps remember more than the `context` rows of a
    prediction, which costs a sixty-fourth of separate windows and ranks the epochs alike.
    """
    values, labels = torch.from_numpy(panel.values), torch.from_numpy(panel.labels)
    network.eval()
    answers, truths = [], []
    with torch.inference_mode():
        for spans in torch.from_numpy(labelled_spans(panel, config.context)).split(config.batch):
            known = labels[spans] != IGNORE  # [B, L]
            answers.append(network(values[spans])[known])
            truths.append(labels[spans][known])
    if not answers:
        raise StockAssetsError("no label of the validation sessions has features; expected rows of the same sessions")
    logits, truth = torch.cat(answers), torch.cat(truths)  # [V, 3], [V]
    distance = (logits.argmax(dim=1) - truth).double()
    return EpochReport(
        epoch=epoch,
        epochs=config.epochs,
        train_log_loss=train_log_loss,
        validation_log_loss=functional.cross_entropy(logits, truth).item(),
        accuracy=(distance == 0).double().mean().item(),
        rmse=distance.square().mean().sqrt().item(),
    )


def _require_finite(loss: float, what: str, config: RnnConfig) -> None:
    if not np.isfinite(loss):
        raise StockAssetsError(
            f"the {what} became {loss}; expected a finite number. Lower the learning rate, {config.learning_rate} now"
        )


def _weights(network: SegmentLSTM) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
