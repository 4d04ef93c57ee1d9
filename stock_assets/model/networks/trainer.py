"""One trainer for every network: AdamW on random segments, and the weights of the best epoch.

What is particular to a network is behind the protocol `Network`: how it is built, what its loss is and how an epoch is
judged.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stock_assets.errors import StockAssetsError
from stock_assets.model.config import NetworkConfig
from stock_assets.model.lesson import Course
from stock_assets.model.networks.layers import SeededDropout, device_of, weights_of
from stock_assets.model.networks.optimizer import FlatAdamW, Optimizer
from stock_assets.model.networks.trained import Epoch
from stock_assets.model.windows import Panel, random_segments
from stock_assets.private.torch import cpu_computes_in_bfloat16

Module = TypeVar("Module", bound=nn.Module)
Report = TypeVar("Report", bound=Epoch)
Report_co = TypeVar("Report_co", bound=Epoch, covariant=True)


class Network(Protocol[Module, Report_co]):
    """One network on the data of one training."""

    @property
    def config(self) -> NetworkConfig: ...
    @property
    def panel(self) -> Panel:
        """The rows of the training; those with a label enter the loss."""
        ...

    @property
    def report(self) -> type[Report_co]:
        """What `judge` returns."""
        ...

    def build(self, generator: torch.Generator) -> Module:
        """The untrained module on the CPU, its random weights drawn from `generator`."""
        ...

    def loss(self, module: Module, segments: Tensor) -> tuple[Tensor, int]:
        """(the mean loss of the labelled steps of `segments`, how many there are).

        `segments` are row indices, int64 [B, L], on the module's device; padding is `windows.PADDING`.
        """
        ...

    def judge(self, module: Module, epoch: int, train_loss: float | None) -> Report_co:
        """The report of epoch number `epoch`. `train_loss` is its mean training loss, None for epoch 0."""
        ...


@dataclass(frozen=True)
class Descent(Generic[Report]):
    """What the trainer returns. Epoch 0 of the curve is the untrained network."""

    curve: tuple[Report, ...]
    weights: dict[str, np.ndarray]
    """float32, of the epoch with the lowest validation loss"""
    best_epoch: int


def descend(network: Network[Module, Report], lesson: Course) -> Descent[Report]:
    """Trains until `config.patience` epochs brought no lower validation loss, and keeps the best epoch.

    The rate of AdamW falls along a half cosine to zero at the last epoch. Products are computed in bfloat16 where
    `config.bfloat16` asks for it and the machine has it. Of the lesson it reads seed, on_epoch and checkpoint.

    After each epoch everything that the next one needs goes to the checkpoint. A training of the same network, panel,
    configuration and seed resumes there, with exactly the figures of one that was never interrupted.

    Raises StockAssetsError for a loss that is not finite.
    """
    run, config = _Run(network, lesson.seed), network.config
    on_epoch, checkpoint = lesson.on_epoch or (lambda _: None), lesson.checkpoint
    saved_state = checkpoint.load() if checkpoint else None
    if not (saved_state and run.resume(*saved_state)):
        run.begin()
    for report in run.curve:
        on_epoch(report)
    for epoch in range(len(run.curve), config.epochs + 1):
        if len(run.curve) - 1 - run.best >= config.patience:
            break
        report = run.epoch(epoch)
        if checkpoint:
            checkpoint.save(*run.state())
        on_epoch(report)
    return Descent(tuple(run.curve), run.weights, run.best)


class _Run(Generic[Module, Report]):
    """A training under way: everything that its next epoch needs."""

    def __init__(self, network: Network[Module, Report], seed: int) -> None:
        self.network, self.config = network, network.config
        self.module = network.build(torch.Generator().manual_seed(seed)).to(best_device())
        self.optimizer = adamw(self.module, self.config, self.config.learning_rate)
        self.name = _name_of(self.module, network.panel, self.config, seed=seed, optimizer=self.optimizer)
        self.rng, self.drops = np.random.default_rng(seed), seed_dropout(self.module, seed)
        self.curve: list[Report] = []
        self.best = 0
        self.weights: dict[str, np.ndarray] = {}

    def begin(self) -> None:
        """Judges the untrained network."""
        self.curve, self.best, self.weights = [self.network.judge(self.module, 0, None)], 0, weights_of(self.module)

    def epoch(self, epoch: int) -> Report:
        """Trains and judges one epoch. Raises StockAssetsError for a loss that is not finite."""
        config = self.config
        segments = random_segments(self.network.panel, config.segment, self.rng)[: config.segments_per_epoch]
        loss = run_epoch(
            self.network, self.module, self.optimizer, segments=segments, epoch=epoch, epochs=config.epochs
        )
        self.curve.append(report := self.network.judge(self.module, epoch, loss))
        _require_finite(report.validation_loss, f"validation loss of epoch {epoch}", config.learning_rate)
        if report.validation_loss < self.curve[self.best].validation_loss:
            self.best, self.weights = epoch, weights_of(self.module)
        return report

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, description) for a checkpoint."""
        tensors = {f"best/{key}": value for key, value in self.weights.items()}
        tensors |= {f"last/{key}": value for key, value in weights_of(self.module).items()}
        tensors["drops"] = self.drops.get_state().numpy()
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": value.cpu().numpy() for key, value in moments.items()}
        description = {
            "training": self.name,
            "best": self.best,
            "curve": [asdict(report) for report in self.curve],
            "rng": self.rng.bit_generator.state,
        }
        return tensors, description

    def resume(self, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> bool:
        """Takes over what `state` saved. False, and nothing changed, where that is of another training."""
        if description.get("training") != self.name:
            return False

        def under(prefix: str) -> dict[str, np.ndarray]:
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

        self.module.load_state_dict({key: torch.from_numpy(value) for key, value in under("last/").items()})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in under("optimizer/").items():
            i, moment = key.split("/")
            moments.setdefault(int(i), {})[moment] = torch.from_numpy(value)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.rng.bit_generator.state = description["rng"]
        self.drops.set_state(torch.from_numpy(tensors["drops"]))
        self.curve = [self.network.report(**epoch) for epoch in description["curve"]]
        self.best, self.weights = description["best"], under("best/")
        return True


def run_epoch(
    network: Network[Module, Any],
    module: Module,
    optimizer: Optimizer,
    *,
    segments: np.ndarray,
    epoch: int,
    epochs: int,
) -> float:
    """The mean training loss of epoch number `epoch` of `epochs`, in one pass over `segments` (int64 [S, L])."""
    config, place, peak = network.config, device_of(module), optimizer.defaults["lr"]
    half = config.bfloat16 and has_bfloat16(place)
    batches = torch.from_numpy(segments).to(place).split(config.batch)
    total, rows = 0.0, 0
    module.train()
    for step, batch in enumerate(batches):
        progress = (epoch - 1 + step / len(batches)) / epochs
        for group in optimizer.param_groups:
            group["lr"] = peak * 0.5 * (1 + np.cos(np.pi * progress))
        with torch.autocast(place.type, torch.bfloat16, enabled=half):
            loss, count = network.loss(module, batch)
        value = loss.item()
        _require_finite(value, f"loss of epoch {epoch}, step {step + 1},", peak)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], config.gradient_clip)
        optimizer.step()
        total, rows = total + value * count, rows + count
    return total / rows


def adamw(module: nn.Module, config: NetworkConfig, rate: float) -> Optimizer:
    """The optimizer of every training; `rate` is its peak. On a GPU torch's own: its LSTMs want their weights in a form
    of their own there."""
    if device_of(module).type == "cpu":
        return FlatAdamW(module, rate=rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=config.weight_decay, fused=True)


def seed_dropout(module: nn.Module, seed: int) -> torch.Generator:
    """The generator that the dropout of `module` draws from, from now on."""
    drops = torch.Generator(device_of(module)).manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, SeededDropout):
            layer.generator = drops
    return drops


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; emulated it would be far slower than in single precision."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else cpu_computes_in_bfloat16()


def _name_of(module: nn.Module, panel: Panel, config: NetworkConfig, *, seed: int, optimizer: Optimizer) -> str:
    """A digest of the training, so that none resumes from the checkpoint of another, nor from one whose optimizer kept
    other moments: of a version before, or of a GPU."""
    digest = blake2b(repr((asdict(config), seed, type(optimizer).__name__)).encode(), digest_size=16)
    digest.update(panel.name or np.ascontiguousarray(panel.values).data)
    for array in (panel.labels, *weights_of(module).values()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _require_finite(loss: float, quantity: str, rate: float) -> None:
    if not np.isfinite(loss):
        raise StockAssetsError(
            f"the {quantity} became {loss}; expected a finite number. Lower the learning rate, {rate} now"
        )
