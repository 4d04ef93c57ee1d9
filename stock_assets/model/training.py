"""Train the recurrent network of one model year, and predict with it."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch.nn import functional

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.frames import CLASSES, KEYS
from stock_assets.model.config import RnnConfig, UpdateConfig
from stock_assets.model.descent import Checkpoint, Descent, best_device, descend, device_of, follow
from stock_assets.model.inference import answers_along, answers_at
from stock_assets.model.probabilities import probability_frame, softmax
from stock_assets.model.rnn import SegmentLSTM, network_of, weights_of_tensors, weights_to_tensors
from stock_assets.model.scaling import feature_columns, fit_scaler
from stock_assets.model.splits import labels_since, require_after, require_known, train_validation_split
from stock_assets.model.windows import IGNORE, Panel, build_panel


@dataclass(frozen=True)
class EpochReport:
    """What one epoch achieved. Epoch 0 is the untrained network, which is the class prior."""

    epoch: int
    epochs: int
    """Epochs that may come, at most."""
    train_loss: float
    """Mean log-loss over the epoch, with dropout, while the weights still moved."""
    validation_loss: float
    """Log-loss of the validation labels."""
    accuracy: float
    """Share of validation labels that the most probable class hits."""
    rmse: float
    """Root mean squared distance of that class to the validation label, both as -1, 0, 1."""


@dataclass(frozen=True)
class TrainedRnn:
    """Everything that inference needs, as plain values."""

    kind: ClassVar[str] = "rnn"
    configuration: ClassVar[type[RnnConfig]] = RnnConfig
    #: What a kind of network keeps beside these fields, each a list of texts in its description.
    further: ClassVar[tuple[str, ...]] = ()

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

    @property
    def validation_log_loss(self) -> float:
        return self.curve[self.best_epoch].validation_loss

    @property
    def validation_accuracy(self) -> float:
        return self.curve[self.best_epoch].accuracy

    def network(self) -> SegmentLSTM:
        """The network in evaluation mode. Raises ArtifactError when the weights do not fit the configuration."""
        return network_of(len(self.features), self.config, len(CLASSES), self.weights)

    def to_artifact(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for `storage.artifacts.save_artifact`."""
        return weights_to_tensors(self.weights) | {"mean": self.mean, "std": self.std}, {
            "kind": self.kind,
            "classes": list(CLASSES),
            "config": self.config.to_dict(),
            "features": list(self.features),
            **{name: list(getattr(self, name)) for name in self.further},
            "cutoff": self.cutoff.isoformat(),
            "seed": self.seed,
            "best_epoch": self.best_epoch,
            "curve": [asdict(report) for report in self.curve],
        }

    @classmethod
    def from_artifact(cls, tensors: dict[str, np.ndarray], description: dict[str, Any]) -> Self:
        """The network that `to_artifact` described. Raises ArtifactError when something is missing or unknown."""
        try:
            if (description["kind"], tuple(description["classes"])) != (cls.kind, CLASSES):
                raise ArtifactError(
                    f"artifact is a {description['kind']!r} with classes {description['classes']}; "
                    f"expected {cls.kind!r} with classes {list(CLASSES)}"
                )
            trained = cls(
                config=cls.configuration.from_dict(description["config"]),
                features=tuple(description["features"]),
                mean=tensors["mean"],
                std=tensors["std"],
                weights=weights_of_tensors(tensors),
                cutoff=date.fromisoformat(description["cutoff"]),
                seed=description["seed"],
                curve=tuple(EpochReport(**report) for report in description["curve"]),
                best_epoch=description["best_epoch"],
                **{name: tuple(description[name]) for name in cls.further},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"artifact of kind {cls.kind!r} is incomplete: {error!r}") from error
        if not len(trained.mean) == len(trained.std) == len(trained.features):
            raise ArtifactError(
                f"artifact of kind {cls.kind!r} has {len(trained.mean)} means and {len(trained.std)} deviations; "
                f"expected one each of its {len(trained.features)} features"
            )
        trained.network()  # so that weights of another shape are refused here, not at the first prediction
        return trained


def train_rnn(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    config: RnnConfig,
    cutoff: date,
    seed: int,
    on_epoch: Callable[[EpochReport], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainedRnn:
    """The network of the best epoch, trained on what was known when session `cutoff` was over.

    `features` has ticker, session and the inputs, which are its columns of floating-point numbers; rows
    after `cutoff` are not looked at. `labels` are usable and purged. The last `config.validation_sessions`
    sessions of the labels choose the epoch, from 0 (the class prior) on, and the scaler and the weights
    come from the labels that end before them. The same seed, inputs and kind of processor give the same
    weights, also when a training that was interrupted goes on from `checkpoint`; torch's own random state is not used.

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

    generator = torch.Generator().manual_seed(seed)
    network = SegmentLSTM(len(columns), config, len(CLASSES), _prior(train_panel.labels).log(), generator)
    found = _fit(
        network.to(best_device()), train_panel, validation_panel, config, seed, on_epoch or (lambda _: None), checkpoint
    )
    return TrainedRnn(config, columns, mean, std, found.weights, cutoff, seed, found.curve, found.best_epoch)


def update_rnn(
    trained: TrainedRnn,
    features: pl.DataFrame,
    labels: pl.DataFrame,
    cutoff: date,
    update: UpdateConfig,
) -> TrainedRnn:
    """`trained` after a few steps on the labels that became known since its cutoff, with the new `cutoff`.

    `features` and `labels` are as for `train_rnn`: all there are, as segments of older labels stand beside the new
    ones. Scaler, seed and the curve stay those of the training. The same arguments give the same network.

    Raises CutoffError for a cutoff that is not later or a label that ends after it, ArtifactError for a column that
    `features` lack, BadBarsError for features that are not finite, and StockAssetsError where no label became known.
    """
    fresh = labels_since(labels, trained.cutoff, cutoff)
    past = features.filter(pl.col("session") <= cutoff)
    panel = build_panel(past, trained.features, trained.mean, trained.std, trained.config.input_clip)
    panel, fresh = panel.labelled(labels), panel.labelled(fresh)
    network = trained.network().to(best_device())
    loss_of = _loss_of(network, panel)
    weights = follow(network, panel, fresh, trained.config, update, trained.seed + cutoff.toordinal(), loss_of)
    return replace(trained, weights=weights, cutoff=cutoff)


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
    asked = asked_rows(panel.keys, sessions, trained.config.context)
    last_rows = np.flatnonzero(asked.to_numpy())
    values, network = torch.from_numpy(panel.values), trained.network()
    logits = answers_at(
        last_rows, trained.config.context, len(CLASSES), lambda windows: network.at_last_step(values[windows])
    )
    return probability_frame(panel.keys.filter(asked), softmax(logits))


def missing_history(features: pl.DataFrame, sessions: Collection[date], context: int) -> dict[str, int]:
    """How many feature rows at `sessions` get no prediction, by reason; empty when all do."""
    keys = features.select(KEYS).sort(KEYS)
    rows = keys.filter(pl.col("session").is_in(list(sessions))).height
    short = rows - int(asked_rows(keys, sessions, context).sum())
    return {f"fewer than {context} feature rows": short} if short else {}


def asked_rows(keys: pl.DataFrame, sessions: Collection[date], context: int) -> pl.Series:
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
    checkpoint: Checkpoint | None,
) -> Descent[EpochReport]:
    labels = torch.from_numpy(train.labels).to(device_of(network))

    def judge(epoch: int, train_loss: float | None) -> EpochReport:
        if train_loss is None:
            prior = network.head.bias.detach().expand(len(labels), -1)
            train_loss = functional.cross_entropy(prior, labels, ignore_index=IGNORE).item()
        return _judge(network, validation, config, epoch, train_loss)

    loss_of = _loss_of(network, train)
    return descend(network, train, config, seed, loss_of, judge, EpochReport, on_epoch, checkpoint)


def _loss_of(network: SegmentLSTM, panel: Panel) -> Callable[[torch.Tensor], tuple[torch.Tensor, int]]:
    """The log-loss of segments of `panel`, and how many labels they hold."""
    place = device_of(network)
    values, labels = torch.from_numpy(panel.values).to(place), torch.from_numpy(panel.labels).to(place)

    def loss_of(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        targets = labels[rows].flatten()  # [B * L]
        loss = functional.cross_entropy(network(values[rows]).flatten(0, 1), targets, ignore_index=IGNORE)
        return loss, int((targets != IGNORE).sum())

    return loss_of


def _judge(network: SegmentLSTM, panel: Panel, config: RnnConfig, epoch: int, train_loss: float) -> EpochReport:
    """The report of an epoch, on the panel's labels."""
    place = device_of(network)
    values = torch.from_numpy(panel.values).to(place)
    network.eval()
    rows, answers = answers_along(panel, config, len(CLASSES), lambda spans: network(values[spans.to(place)]))
    if not len(rows):
        raise StockAssetsError("no label of the validation sessions has features; expected rows of the same sessions")
    logits, truth = torch.from_numpy(answers), torch.from_numpy(panel.labels[rows])  # [V, 3], [V]
    distance = (logits.argmax(dim=1) - truth).double()
    return EpochReport(
        epoch=epoch,
        epochs=config.epochs,
        train_loss=train_loss,
        validation_loss=functional.cross_entropy(logits, truth).item(),
        accuracy=(distance == 0).double().mean().item(),
        rmse=distance.square().mean().sqrt().item(),
    )
