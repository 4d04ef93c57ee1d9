"""The layers that the networks share: LSTMs that answer at every step of a sequence, and dropout with its own seed."""

from collections.abc import Mapping
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stock_assets.errors import ArtifactError
from stock_assets.model.config import NetworkConfig, RnnConfig

# The steps of so small a network are over before a second thread has woken up, and beside other work it spins: one
# thread trains nearly as fast as two on an idle machine and far faster on a busy one, and gives the same figures
# everywhere. Several networks are trained side by side instead.
torch.set_num_threads(1)

Module = TypeVar("Module", bound=nn.Module)


#: Windows, or rows, of one pass at inference. Passes are filled up to this size: with a fixed shape the same window
#: gives the same figures whichever windows share its pass, so a day predicted alone equals the day inside a range.
INFERENCE_BATCH = 256
#: The range of all bits of a number (`Tensor.random_`).
_ANY = (-(2**63), None)


class SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own (see `trainer.seed_dropout`).

    So several networks can train at the same time, and a training can be resumed, each with the same figures as alone
    and in one go.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.share:
            return inputs
        # four decisions of 16 bits from each number drawn: a number of the generator takes longer than all the rest
        count, place = inputs.numel(), inputs.device
        random_bits = torch.empty(-(-count // 4), dtype=torch.int64, device=place).random_(
            *_ANY, generator=self.generator
        )
        is_kept = random_bits.view(torch.int16)[:count].view(inputs.shape) >= round(self.share * 2**16) - 2**15
        return inputs * is_kept.to(inputs.dtype).div_(1 - self.share)


class EmptyLSTM(nn.LSTM):
    """Without the initial values that would be drawn from torch's own random state."""

    def reset_parameters(self) -> None:
        pass


class EmptyLinear(nn.Linear):
    """Likewise. Torch's own way, the device `meta`, imports what compiles networks, which takes a second."""

    def reset_parameters(self) -> None:
        pass


class StackedLSTM(nn.Module):
    """`layers` of LSTM with dropout between them, [B, L, F] -> [B, L, H].

    The weights are drawn as `nn.LSTM` draws them, but from `generator`.
    """

    def __init__(self, features: int, config: NetworkConfig, generator: torch.Generator | None) -> None:
        super().__init__()
        widths = [features, *[config.hidden] * (config.layers - 1)]
        self.layers = nn.ModuleList(EmptyLSTM(width, config.hidden, batch_first=True) for width in widths)
        self.dropout = SeededDropout(config.dropout)
        bound = config.hidden**-0.5
        for parameter in self.layers.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        states = inputs
        for i, layer in enumerate(self.layers):
            states, _ = layer(states if i == 0 else self.dropout(states))
        return states

    def at_windows(self, rows: Tensor, ends: Tensor, steps: int, *, stride: int = 1) -> Tensor:
        """The state at the end of each window of `steps` of the `rows`, every `stride`-th: [U, F] and int64 [W], the
        places of the windows' last rows, -> [W, H]. W is a multiple of INFERENCE_BATCH."""
        back = stride * torch.arange(steps - 1, -1, -1)
        return torch.cat([self(rows[own[:, None] - back])[:, -1] for own in ends.split(INFERENCE_BATCH)])


class SegmentLSTM(nn.Module):
    """`outputs` numbers at every step, from that step's inputs and those before it.

    A linear path parallel to the LSTM carries what a linear regression would see. Both heads start at zero and the
    bias at `bias` (zero when None), so that training can only depart from it: from the class prior where that is
    the bias of a classifier, from the mean where targets are centred. The LSTM starts from `generator`. With a
    `projection` the inputs of a step are drawn together to so many numbers before it.
    """

    def __init__(
        self,
        features: int,
        config: NetworkConfig,
        outputs: int,
        *,
        bias: Tensor | None = None,
        projection: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.projection = EmptyLinear(features, projection) if projection else None
        if self.projection is not None:
            for parameter in self.projection.parameters():
                nn.init.uniform_(parameter, -(features**-0.5), features**-0.5, generator=generator)
        self.lstm = StackedLSTM(projection or features, config, generator)
        self.dropout = SeededDropout(config.dropout)
        self.head = EmptyLinear(config.hidden, outputs)
        self.skip = EmptyLinear(features, outputs, bias=False)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.skip.weight)
        with torch.no_grad():
            self.head.bias.copy_(torch.zeros(outputs) if bias is None else bias)

    def forward(self, inputs: Tensor) -> Tensor:
        projected_inputs = inputs if self.projection is None else self.dropout(self.projection(inputs))
        states = self.lstm(projected_inputs)  # [B, L, F] -> [B, L, H]
        return (self.head(self.dropout(states)) + self.skip(inputs)).float()  # [B, L, O]

    def at_windows(self, rows: Tensor, ends: Tensor, steps: int, *, stride: int = 1) -> Tensor:
        """The answer at the end of each window: [U, F] and [W] -> [W, O], as `StackedLSTM.at_windows`.

        A row is drawn together once, in however many windows it stands. U is a multiple of INFERENCE_BATCH, too.
        """
        return self.from_states(rows, ends, steps, stride=stride) + each_row(self.skip.weight, rows[ends])

    def from_states(self, rows: Tensor, ends: Tensor, steps: int, *, stride: int = 1) -> Tensor:
        """`at_windows` without the linear path."""
        inputs = rows if self.projection is None else _drawn_together(self.projection, rows)
        return each_row(self.head.weight, self.lstm.at_windows(inputs, ends, steps, stride=stride)) + self.head.bias


class Members(nn.Module):
    """`config.members` networks of one kind, whose mean is the answer. They differ by their first weights, and by what
    each is trained on."""

    def __init__(
        self, features: int, config: RnnConfig, outputs: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            SegmentLSTM(features, config, outputs, projection=config.projection, generator=generator)
            for _ in range(config.members)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """The answer of each: [B, L, F] -> [K, B, L, O].

        What the members do alike is done at once: one product for all that reads the inputs, one for the heads.
        """
        members = [cast("SegmentLSTM", member) for member in self.members]
        of_inputs = [layer for member in members for layer in (member.projection, member.skip) if layer is not None]
        weights = torch.cat([layer.weight for layer in of_inputs])
        parts = iter(functional.linear(inputs, weights).split([len(layer.weight) for layer in of_inputs], dim=-1))
        states, direct_parts = [], []
        for member in members:
            projection = member.projection
            states.append(member.lstm(member.dropout(next(parts) + projection.bias) if projection else inputs))
            direct_parts.append(next(parts))
        hidden = members[0].dropout(torch.stack(states))
        heads = torch.stack([member.head.weight for member in members]).transpose(1, 2)[:, None]
        biases = torch.stack([member.head.bias for member in members])[:, None, None]
        return (hidden @ heads + torch.stack(direct_parts)).float() + biases

    def at_windows(self, rows: Tensor, ends: Tensor, steps: int, *, stride: int = 1) -> Tensor:
        """The mean answer at the end of each window, as `SegmentLSTM.at_windows`: [U, F] and [W] -> [W, O]."""
        members = [cast("SegmentLSTM", member) for member in self.members]
        linear = torch.stack([member.skip.weight for member in members]).mean(dim=0)
        answers = torch.stack([member.from_states(rows, ends, steps, stride=stride) for member in members]).mean(dim=0)
        return answers + each_row(linear, rows[ends])


def each_row(weights: Tensor, rows: Tensor) -> Tensor:
    """The product of `weights`, [O, F], and each of `rows`, [B, F] -> [B, O], with the same figures in whichever place
    a row stands.

    A matrix product adds a row of few answers in another order where the row begins at another alignment: in single
    precision 1e-8 between places, unless F is a multiple of four.
    """
    return (rows[:, None] * weights).sum(dim=-1)


def _drawn_together(layer: nn.Linear, rows: Tensor) -> Tensor:
    """`layer` of rows, [U, F] -> [U, O], likewise: they all begin at the same alignment."""
    padding = (0, -rows.shape[1] % 16)
    weight, passes = functional.pad(layer.weight, padding), functional.pad(rows, padding).split(INFERENCE_BATCH)
    return torch.cat([functional.linear(own, weight, layer.bias) for own in passes])


def with_weights(module: Module, weights: Mapping[str, np.ndarray]) -> Module:
    """The module with these weights, in evaluation mode. Raises ArtifactError when they do not fit."""
    try:
        module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise ArtifactError(f"weights do not fit their configuration: {error}") from None
    return module.eval()


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """A copy of the module's weights by name, float32."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def device_of(module: nn.Module) -> torch.device:
    """The device on which the module computes."""
    return next(module.parameters()).device
