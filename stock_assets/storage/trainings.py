"""What is kept of a training, and what a registry of trainings does; `registry.py` is the one that MLflow keeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple, Protocol

from stock_assets.objects import Place


@dataclass(frozen=True)
class Training:
    """One training of one version of a model, in plain values.

    `version` is our own name of it, `curve` one dict per epoch (`epoch` and its metrics), `figures` PNGs by name, and
    `folder` the saved artifact, None for a model that is a row of a table. A metric that is None is left out.
    """

    model: str
    version: str
    model_year: int
    trained_through: date
    params: Mapping[str, str | int | float | bool | None]
    metrics: Mapping[str, float | None]
    code_version: str
    curve: Sequence[Mapping[str, float | None]] = ()
    figures: Mapping[str, bytes] = field(default_factory=dict)
    folder: Place | None = None
    pca_version: str | None = None


class TrackedRun(NamedTuple):
    """Where the training of a version is kept."""

    id: str
    experiment: str
    code_version: str | None


class Registry(Protocol):
    """Keeps trainings, and gives versions aliases. Every method raises RegistryError when there is no answer."""

    def track(self, training: Training) -> None:
        """Keeps the training as one run and registers its version; a second time changes nothing."""
        ...

    def alias(self, model: str, alias: str) -> str | None:
        """Our name of the version behind an alias, None without one."""
        ...

    def aliases(self) -> dict[str, dict[str, str]]:
        """Model → alias → our name of the version, for every model that was tracked here."""
        ...

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Points the alias at a version. Raises ArtifactError for one that was never tracked."""
        ...

    def runs(self) -> dict[str, TrackedRun]:
        """The run of every training that was tracked here, by our name of its version."""
        ...

    def versions(self) -> dict[str, datetime]:
        """Our name of every version that `remove` may remove, and when it was tracked (UTC)."""
        ...

    def remove(self, versions: Collection[str]) -> int:
        """Removes the runs, figures and copies of `versions`, none of which has an alias; their number."""
        ...


class NoRegistry:
    """The registry when it is off: it keeps nothing and has no alias."""

    def track(self, training: Training) -> None: ...

    def alias(self, model: str, alias: str) -> str | None: ...

    def aliases(self) -> dict[str, dict[str, str]]:
        return {}

    def set_alias(self, model: str, alias: str, version: str) -> None: ...

    def runs(self) -> dict[str, TrackedRun]:
        return {}

    def versions(self) -> dict[str, datetime]:
        return {}

    def remove(self, versions: Collection[str]) -> int:  # noqa: ARG002
        return 0
