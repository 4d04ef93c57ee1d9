"""One way to train every network: AdamW on random segments, and the weights of the best epoch. And to update it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stock_assets.errors import StockAssetsError
from stock_assets.model.config import RnnConfig, UpdateConfig
from stock_assets.model.rnn import SeededDropout
from stock_assets.model.windows import Panel, labelled_spans, random_segments


class Epoch(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def validation_loss(self) -> float: ...


class Checkpoint(Protocol):
    """Where a training keeps its last epoch. `storage.artifacts.CheckpointFile` is one."""

    def load(self) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]] | None:
        """(tensors, description) as they were saved last; None when there are none that can be read."""
        ...

    def save(self, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
        """Puts these in the place of what was saved before, whole or not at all."""
        ...


Report = TypeVar("Report", bound=Epoch)


@dataclass(frozen=True)
class Descent(Generic[Report]):
    """What training found. Epoch 0 of the curve is the untrained network."""

    curve: tuple[Report, ...]
    weights: dict[str, np.ndarray]
    """float32, of the epoch with the lowest validation loss"""
    best_epoch: int


def descend(
    network: nn.Module,
    panel: Panel,
    config: RnnConfig,
    seed: int,
    loss_of: Callable[[Tensor], tuple[Tensor, int]],
    judge: Callable[[int, float | None], Report],
    report: type[Report],
    on_epoch: Callable[[Report], None],
    checkpoint: Checkpoint | None = None,
) -> Descent[Report]:
    """Trains until `config.patience` epochs brought nothing, and keeps the best.

    `loss_of` gives the mean loss of the known steps of segments (row indices, int64 [B, L], on the network's device),
    and how many there are; `judge` the `report` of an epoch from its number and mean training loss, which is None for
    epoch 0. The rate of AdamW falls along a half cosine to zero at the last epoch. Products are computed in bfloat16
    where `config.bfloat16` asks for it and the machine has it.

    After each epoch everything that the next one needs goes to `checkpoint`. A training of the same network, `panel`,
    `config` and `seed` goes on from there, with the very figures of one that was never interrupted.

    Raises StockAssetsError for a loss that is not finite.
    """
    rng, drops = np.random.default_rng(seed), _seeded_dropout(network, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    name = _name_of(network, panel, config, seed)
    saved = checkpoint.load() if checkpoint else None
    if saved and saved[1].get("training") == name:
        curve, best, weights = _resume(*saved, report, network, optimizer, rng, drops)
        for epoch in curve:
            on_epoch(epoch)
    else:
        curve, best, weights = [judge(0, None)], 0, _weights(network)
        on_epoch(curve[0])
    for epoch in range(len(curve), config.epochs + 1):
        if len(curve) - 1 - best >= config.patience:
            break
        segments = random_segments(panel, config.segment, rng)[: config.segments_per_epoch]
        curve.append(judge(epoch, _epoch(network, optimizer, segments, config, loss_of, epoch, config.epochs)))
        _require_finite(curve[-1].validation_loss, f"validation loss of epoch {epoch}", config.learning_rate)
        if curve[-1].validation_loss < curve[best].validation_loss:
            best, weights = epoch, _weights(network)
        if checkpoint:
            checkpoint.save(*_state(name, curve, best, weights, network, optimizer, rng, drops))
        on_epoch(curve[-1])
    return Descent(tuple(curve), weights, best)


def follow(
    network: nn.Module,
    panel: Panel,
    fresh: Panel,
    config: RnnConfig,
    update: UpdateConfig,
    seed: int,
    loss_of: Callable[[Tensor], tuple[Tensor, int]],
) -> dict[str, np.ndarray]:
    """The weights (float32) after a few steps from those of `network`, which is trained in place.

    `panel` and `fresh` are the same rows, with all known labels and with the new ones. Each pass meets the segment of
    every ticker that ends at its newest label, and `update.memory` times as many random ones of `panel`; nothing is
    held back to choose the best step. `loss_of` and the rate are those of `descend`. The same arguments give the same
    weights.

    Raises StockAssetsError where `fresh` has no label and for a loss that is not finite.
    """
    rng = np.random.default_rng(seed)
    _seeded_dropout(network, seed)
    rate = config.learning_rate * update.rate
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=config.weight_decay)
    newest = labelled_spans(fresh, config.segment)
    if not len(newest):
        raise StockAssetsError("none of the new labels has features; expected rows of the same tickers and sessions")
    for one in range(1, update.passes + 1):
        older = random_segments(panel, newest.shape[1], rng)[: round(update.memory * len(newest))]
        segments = rng.permutation(np.concatenate([newest, older]))
        _epoch(network, optimizer, segments, config, loss_of, one, update.passes)
    return _weights(network)


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; emulated it would be far slower than in single precision."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()


def _epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    segments: np.ndarray,
    config: RnnConfig,
    loss_of: Callable[[Tensor], tuple[Tensor, int]],
    epoch: int,
    epochs: int,
) -> float:
    """The mean training loss of epoch number `epoch` of `epochs`, in one pass over `segments` (int64 [S, L])."""
    place, peak = device_of(network), optimizer.defaults["lr"]
    half = config.bfloat16 and has_bfloat16(place)
    batches = torch.from_numpy(segments).to(place).split(config.batch)
    total, rows = 0.0, 0
    network.train()
    for step, batch in enumerate(batches):
        progress = (epoch - 1 + step / len(batches)) / epochs
        for group in optimizer.param_groups:
            group["lr"] = peak * 0.5 * (1 + np.cos(np.pi * progress))
        with torch.autocast(place.type, torch.bfloat16, enabled=half):
            loss, known = loss_of(batch)
        _require_finite(loss.item(), f"loss of epoch {epoch}, step {step + 1},", peak)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        total, rows = total + loss.item() * known, rows + known
    return total / rows


def _seeded_dropout(network: nn.Module, seed: int) -> torch.Generator:
    """What the dropout of `network` draws from now on."""
    drops = torch.Generator(device_of(network)).manual_seed(seed)
    for module in network.modules():
        if isinstance(module, SeededDropout):
            module.generator = drops
    return drops


def _name_of(network: nn.Module, panel: Panel, config: RnnConfig, seed: int) -> str:
    """What this training is, so that it goes on from no other one's checkpoint."""
    digest = blake2b(repr((asdict(config), seed)).encode(), digest_size=16)
    for array in (panel.values, panel.labels, *_weights(network).values()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _state(
    name: str,
    curve: list[Report],
    best: int,
    weights: dict[str, np.ndarray],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    drops: torch.Generator,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors = {f"best/{key}": value for key, value in weights.items()}
    tensors |= {f"last/{key}": value for key, value in _weights(network).items()}
    tensors["drops"] = drops.get_state().numpy()
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{key}": value.cpu().numpy() for key, value in moments.items()}
    description = {
        "training": name,
        "best": best,
        "curve": [asdict(epoch) for epoch in curve],  # pyright: ignore[reportArgumentType]
        "rng": rng.bit_generator.state,
    }
    return tensors, description


def _resume(
    tensors: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    report: type[Report],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    drops: torch.Generator,
) -> tuple[list[Report], int, dict[str, np.ndarray]]:
    """(curve, best epoch, its weights), with everything else put back as `_state` found it."""

    def under(prefix: str) -> dict[str, np.ndarray]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    network.load_state_dict({key: torch.from_numpy(value) for key, value in under("last/").items()})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in under("optimizer/").items():
        i, moment = key.split("/")
        moments.setdefault(int(i), {})[moment] = torch.from_numpy(value)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    rng.bit_generator.state = description["rng"]
    drops.set_state(torch.from_numpy(tensors["drops"]))
    return [report(**epoch) for epoch in description["curve"]], description["best"], under("best/")


def _require_finite(loss: float, what: str, rate: float) -> None:
    if not np.isfinite(loss):
        raise StockAssetsError(
            f"the {what} became {loss}; expected a finite number. Lower the learning rate, {rate} now"
        )


def _weights(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}
