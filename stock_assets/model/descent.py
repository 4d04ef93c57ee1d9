"""One way to train every network: AdamW on random segments, and the weights of the best epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stock_assets.errors import StockAssetsError
from stock_assets.model.config import RnnConfig
from stock_assets.model.windows import Panel, random_segments


class Epoch(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def validation_loss(self) -> float: ...


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
    rng: np.random.Generator,
    loss_of: Callable[[Tensor], tuple[Tensor, int]],
    judge: Callable[[int, float | None], Report],
    on_epoch: Callable[[Report], None],
) -> Descent[Report]:
    """Trains until `config.patience` epochs brought nothing, and keeps the best.

    `loss_of` gives the mean loss of the known steps of segments (row indices, int64 [B, L]), and how many there are;
    `judge` the report of an epoch from its number and mean training loss, which is None for epoch 0. The rate of
    AdamW falls along a half cosine to zero at the last epoch.

    Raises StockAssetsError for a loss that is not finite.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    curve = [judge(0, None)]
    on_epoch(curve[0])
    best, weights = 0, _weights(network)
    for epoch in range(1, config.epochs + 1):
        segments = random_segments(panel, config.segment, rng)[: config.segments_per_epoch]
        batches = torch.from_numpy(segments).split(config.batch)
        total, rows = 0.0, 0
        network.train()
        for step, batch in enumerate(batches):
            progress = (epoch - 1 + step / len(batches)) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * 0.5 * (1 + np.cos(np.pi * progress))
            loss, known = loss_of(batch)
            _require_finite(loss.item(), f"loss of epoch {epoch}, step {step + 1},", config)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
            optimizer.step()
            total, rows = total + loss.item() * known, rows + known
        curve.append(judge(epoch, total / rows))
        _require_finite(curve[-1].validation_loss, f"validation loss of epoch {epoch}", config)
        on_epoch(curve[-1])
        if curve[-1].validation_loss < curve[best].validation_loss:
            best, weights = epoch, _weights(network)
        elif epoch - best >= config.patience:
            break
    return Descent(tuple(curve), weights, best)


def _require_finite(loss: float, what: str, config: RnnConfig) -> None:
    if not np.isfinite(loss):
        raise StockAssetsError(
            f"the {what} became {loss}; expected a finite number. Lower the learning rate, {config.learning_rate} now"
        )


def _weights(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}
