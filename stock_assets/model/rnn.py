"""The recurrent network: an LSTM that answers at every step of a sequence."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stock_assets.errors import ArtifactError
from stock_assets.model.config import RnnConfig

# The steps of so small a network are over before a second thread has woken up, and beside other work it spins: one
# thread trains nearly as fast as two on an idle machine and far faster on a busy one, and gives the same figures
# everywhere.
torch.set_num_threads(1)


class SegmentLSTM(nn.Module):
    """`outputs` numbers at every step, from that step's inputs and those before it.

    A linear path beside the LSTM carries what a linear regression would see. Both heads start at zero and the
    bias at `bias` (zero when None), so that training can only depart from it: from the class prior where that is
    the bias of a classifier, from the mean where targets are centred.
    """

    def __init__(self, features: int, config: RnnConfig, outputs: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            features,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, outputs)
        self.skip = nn.Linear(features, outputs, bias=False)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.skip.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.zeros(outputs) if bias is None else bias)

    def forward(self, inputs: Tensor) -> Tensor:
        states, _ = self.lstm(inputs)  # [B, L, F] -> [B, L, H]
        return self.head(self.dropout(states)) + self.skip(inputs)  # [B, L, O]

    def at_last_step(self, inputs: Tensor) -> Tensor:
        """The answer at the last step alone: [B, L, F] -> [B, O]."""
        states, _ = self.lstm(inputs)
        return self.head(states[:, -1]) + self.skip(inputs[:, -1])


_PREFIX = "weights/"


def network_of(features: int, config: RnnConfig, outputs: int, weights: Mapping[str, np.ndarray]) -> SegmentLSTM:
    """The network with these weights, in evaluation mode. Raises ArtifactError when they do not fit."""
    network = SegmentLSTM(features, config, outputs)
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise ArtifactError(f"weights do not fit their configuration: {error}") from None
    return network.eval()


def weights_to_tensors(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights under the names that they have in an artifact."""
    return {f"{_PREFIX}{name}": value for name, value in weights.items()}


def weights_of_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights among the tensors of an artifact."""
    return {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
