"""How large a recurrent network is and how it trains, as one documented value for each network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from stock_assets.errors import SettingsError


@dataclass(frozen=True)
class NetworkConfig:
    """Size, training and inference of a recurrent network. Raises SettingsError for a value out of its range."""

    hidden: int = 32
    """Cells of each LSTM layer."""
    layers: int = 1
    """LSTM layers."""
    dropout: float = 0.4
    """Share of a layer's outputs that is dropped in training, in [0, 1)."""
    segment: int = 128
    """Rows of a training segment. Random segments of 128 gave better skill than whole histories."""
    context: int = 64
    """Rows a prediction looks at, the session's own included. It is fixed, so that a day gets the same prediction
    alone and in a range."""
    epochs: int = 8
    """Epochs, at most."""
    segments_per_epoch: int = 1024
    """Segments of an epoch, at most. An epoch of a large panel meets a random part of it, so that every model year
    costs about the same."""
    batch: int = 16
    """Segments of one optimizer step."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW; falls along a half cosine to zero at the last epoch."""
    weight_decay: float = 0.02
    """Decoupled weight decay of AdamW."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient."""
    patience: int = 3
    """Epochs without a lower validation loss after which training stops."""
    validation_sessions: int = 126
    """Last sessions of the labels that choose the best epoch and never train."""
    bfloat16: bool = True
    """Train in bfloat16 where the machine computes in it, which is faster. Predictions are made in single precision."""
    input_clip: float = 6.0
    """Standardised inputs are cut to ± this many standard deviations, so that one wild bar cannot flood the state."""

    def __post_init__(self) -> None:
        for name in (
            "hidden",
            "layers",
            "segment",
            "context",
            "epochs",
            "segments_per_epoch",
            "batch",
            "patience",
            "validation_sessions",
        ):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "gradient_clip", "input_clip"):
            self._require(name, getattr(self, name) > 0, "more than 0")
        self._require("dropout", 0 <= self.dropout < 1, "0 or more and below 1")
        self._require("weight_decay", self.weight_decay >= 0, "0 or more")

    def _require(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise SettingsError(f"{type(self).__name__}.{name}={getattr(self, name)}; expected {expected}")

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` gave."""
        return cls(**values)


@dataclass(frozen=True)
class RnnConfig(NetworkConfig):
    """The model `rnn`: its networks, and the level, the map and the sides that complete them."""

    dropout: float = 0.2
    segment: int = 4
    """As many steps as a prediction reads: many short segments at once meet more rows in the time of few long ones."""
    steps: int = 4
    """Rows of the context that the networks read. Few: the inputs look back up to 250 bars themselves."""
    stride: int = 16
    """Every so many rows the networks read one, in a segment as in the context. The horizons of neighbours are nearly
    the same, so that a segment of them tells little more than one of its rows."""
    epochs: int = 3
    segments_per_epoch: int = 131072
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    input_clip: float = 5.0
    members: int = 4
    """Networks, whose mean is the forecast. Each leaves out one block of the training sessions (`crossfit`)."""
    projection: int = 32
    """Numbers that the inputs of a step are drawn together to before the LSTM; 0 for none."""
    direction_weight: float = 0.25
    """Weight of the direction's squared error in the loss; the mean smooth L1 of the volatilities has weight 1."""
    level_ridge: float = 0.02
    """Ridge penalty of both parts of the level, per row, on standardised inputs."""
    direction_ridge: float = 0.3
    """Ridge penalty of the linear direction score, as `level_ridge`."""
    every: int = 3
    """Level and map learn from every so many sessions: neighbours share six of seven days."""
    tilt: float = 0.08
    """ln(P(buy) / P(sell)) per standard deviation of the day's direction score."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("members", self.members >= 2, "2 or more")
        self._require("projection", self.projection >= 0, "0 or more")
        self._require("stride", self.stride >= 1, "1 or more")
        fits = self.steps >= 1 and self.reach <= self.context
        self._require("steps", fits, "1 or more, and with the stride no longer than the context")

    @property
    def reach(self) -> int:
        """Rows from the first that a prediction reads to the last, both included."""
        return (self.steps - 1) * self.stride + 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` gave; of one that was stored before there was a stride, its rows are
        neighbours."""
        return super().from_dict({"stride": 1} | dict(values))


@dataclass(frozen=True)
class BarRnnConfig(RnnConfig):
    """The model `bar_rnn`: as `RnnConfig`, over bars within the session."""

    context: int = 16
    """Bars that a prediction looks at, beside what their features look back."""
    segment: int = 16
    steps: int = 16
    stride: int = 1
    epochs: int = 12
    patience: int = 4
    segments_per_epoch: int = 8192
    batch: int = 16
    """Small: a few days are few segments, and what only a sequence shows takes some hundred steps to be found."""
    learning_rate: float = 1e-3
    hidden: int = 24
    projection: int = 24
    direction_weight: float = 0.05
    """The return of the next minutes is nearly noise: with a larger weight it alone would choose the epoch."""


@dataclass(frozen=True)
class BarLstmConfig(NetworkConfig):
    """The model `bar_lstm`."""

    segment: int = 64
    context: int = 32
    segments_per_epoch: int = 2048
    dropout: float = 0.2


@dataclass(frozen=True)
class EarlierRnnConfig(NetworkConfig):
    """The model `rnn` as it was trained until November 2026; stored versions hold these fields."""

    direction_weight: float = 0.25
    level_ridge: float = 0.02
    level_memory: float = 0.5
    """Share of the level's mean error over the sessions of the context whose horizon is over that is added to it."""
    direction_ridge: float = 1.0
    every: int = 3
    tilt: float = 0.06


@dataclass(frozen=True)
class RnnClassifierConfig(NetworkConfig):
    """The model `rnn_classifier`: the defaults of `NetworkConfig` are its own."""


@dataclass(frozen=True)
class DeepArConfig(NetworkConfig):
    """The model `deepar`: the reference study's own network, at its tuned values."""

    hidden: int = 177
    dropout: float = 0.022
    segment: int = 59
    context: int = 59
    epochs: int = 41
    segments_per_epoch: int = 4 * 244
    """Four steps of the optimizer, so that a model year of a million rows trains in about a minute on one core. The
    study's library takes fifty, which is ten minutes, and learns more; a small panel is met whole either way."""
    batch: int = 244
    learning_rate: float = 1.04e-4
    weight_decay: float = 0.0
    patience: int = 5
    embedding: int = 10
    """Numbers that represent a ticker: the default of the study's library, as the study names none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("embedding", self.embedding >= 1, "1 or more")
