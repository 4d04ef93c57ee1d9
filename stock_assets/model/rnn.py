"""The recurrent network: an LSTM that answers at every step of a sequence."""

import torch
from torch import Tensor, nn

from stock_assets.model.config import CLASSES, RnnConfig


class SegmentLSTM(nn.Module):
    """Logits of sell, hold, buy at every step, from that step's inputs and those before it.

    A linear path beside the LSTM carries what a logistic regression would see. Both heads start at zero and
    the bias at the class prior, so an untrained network *is* the class prior and training can only depart
    from it.
    """

    def __init__(self, features: int, config: RnnConfig, prior: Tensor | None = None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            features,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, len(CLASSES))
        self.skip = nn.Linear(features, len(CLASSES), bias=False)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.skip.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.zeros(len(CLASSES)) if prior is None else prior.log())

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.lstm(inputs)  # [B, L, F] -> [B, L, H]
        return self.head(self.dropout(states)) + self.skip(inputs)  # [B, L, 3]

    def at_last_step(self, inputs: Tensor) -> Tensor:
        """The logits of the last step alone: [B, L, F] -> [B, 3]."""
        states, _ = self.lstm(inputs)
        return self.head(states[:, -1]) + self.skip(inputs[:, -1])
