"""What a recurrent network is made of, as one documented value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from stock_assets.errors import SettingsError


@dataclass(frozen=True)
class RnnConfig:
    """Size, training and inference of a `SegmentLSTM`. Raises SettingsError for a value out of its range."""

    hidden: int = 32
    """Cells of each LSTM layer."""
    layers: int = 1
    """LSTM layers."""
    dropout: float = 0.4
    """Share of a layer's outputs that is dropped in training, in [0, 1)."""
    segment: int = 128
    """Rows of a training segment. Random segments of 128 gave better skill than whole histories."""
    context: int = 64
    """Rows a prediction looks at, the session's own included: fixed, so that how a day is asked for never shows."""
    epochs: int = 8
    """Epochs, at most."""
    segments_per_epoch: int = 1024
    """Segments of an epoch, at most: of a large panel a random part is met, so that every model year costs about the
    same."""
    batch: int = 16
    """Segments of one optimizer step."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW; falls along a half cosine to zero at the last epoch."""
    weight_decay: float = 0.02
    """Decoupled weight decay of AdamW."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient."""
    patience: int = 3
    """Epochs without a better validation log-loss after which training stops."""
    validation_sessions: int = 126
    """Last sessions of the known labels that choose the best epoch and never train."""
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
            if getattr(self, name) < 1:
                raise SettingsError(f"RnnConfig.{name}={getattr(self, name)}; expected 1 or more")
        for name in ("learning_rate", "gradient_clip", "input_clip"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"RnnConfig.{name}={getattr(self, name)}; expected more than 0")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"RnnConfig.dropout={self.dropout}; expected 0 or more and below 1")
        if self.weight_decay < 0:
            raise SettingsError(f"RnnConfig.weight_decay={self.weight_decay}; expected 0 or more")

    @classmethod
    def for_tests(cls, **changes: Any) -> "RnnConfig":
        """A network that trains in well under a second."""
        tiny: dict[str, Any] = {
            "hidden": 8,
            "dropout": 0.1,
            "learning_rate": 2e-3,
            "segment": 32,
            "context": 12,
            "epochs": 2,
            "segments_per_epoch": 64,
            "validation_sessions": 20,
        }
        return cls(**(tiny | changes))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


@dataclass(frozen=True)
class VolatilityConfig(RnnConfig):
    """A `RnnConfig` for the volatility network, and what stands beside it. Raises SettingsError likewise."""

    hidden: int = 64
    dropout: float = 0.2
    context: int = 32
    """Rows a prediction looks at. Fewer than the classifier's: the inputs look back up to 250 bars themselves."""
    epochs: int = 4
    segments_per_epoch: int = 3072
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    input_clip: float = 5.0
    direction_weight: float = 0.25
    """Weight of the direction's squared error beside the mean smooth L1 of the volatilities."""
    level_ridge: float = 0.02
    """Ridge penalty of the level, per row, on standardised inputs."""
    level_memory: float = 0.5
    """Share of the level's mean error over the sessions of the context whose horizon is over that is added to it."""
    direction_ridge: float = 1.0
    """Ridge penalty of the linear direction score, as `level_ridge`."""
    every: int = 3
    """The level learns from every so many sessions: neighbours share six of seven days."""
    tilt: float = 0.06
    """ln(P(buy) / P(sell)) per standard deviation of the day's direction score."""

    @classmethod
    def for_tests(cls, **changes: Any) -> "VolatilityConfig":
        """A network that trains in about a second."""
        tiny: dict[str, Any] = RnnConfig.for_tests().to_dict() | {"context": 8, "segments_per_epoch": 64}
        return cls(**(tiny | changes))


@dataclass(frozen=True)
class UpdateConfig:
    """How a trained network follows labels that became known since. Raises SettingsError for a value out of its range.

    Chosen on 2013 alone (`benchmarks.online`).
    """

    rate: float = 0.3
    """Peak learning rate as a share of the training's; falls along a half cosine to zero at the last step."""
    passes: int = 1
    """Times that the newest labels are met; with 0 the weights stay and what stands beside the network is refitted."""
    memory: float = 1.0
    """Segments from anywhere in the known history for each one of the newest labels, against forgetting."""

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise SettingsError(f"UpdateConfig.rate={self.rate}; expected more than 0")
        for name in ("passes", "memory"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"UpdateConfig.{name}={getattr(self, name)}; expected 0 or more")


@dataclass(frozen=True)
class DeepArConfig(RnnConfig):
    """A `RnnConfig` for the reference study's own network, at its tuned values. Raises SettingsError likewise."""

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
    """Numbers that stand for a ticker: the default of the study's library, as the study names none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding < 1:
            raise SettingsError(f"DeepArConfig.embedding={self.embedding}; expected 1 or more")

    @classmethod
    def for_tests(cls, **changes: Any) -> "DeepArConfig":
        """A network that trains in about a second."""
        tiny: dict[str, Any] = RnnConfig.for_tests().to_dict()
        tiny |= {"segment": 12, "batch": 16, "weight_decay": 0.0, "embedding": 2}
        return cls(**(tiny | changes))
