"""Every model, one entry each: its role, what it reads, how it is trained, loaded and asked, and where its rows go.

The steps, the texts in the UI and the reports find a model here and nowhere else. A model from outside the package is
one call of `register_model` before the definitions are loaded.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.model.lesson import Inputs, Lesson

#: The model whose predictions are the platform's: its skill, drift and age are watched.
IN_SERVICE = "rnn"
#: The name under which the weighted mean of the models predicts.
ENSEMBLE = "ensemble"

#: champion: may serve, and is judged against its own later versions. naive: looks at no feature, and is what live
#: skill is measured against. reference: trained and scored for the report and the audit alone, never every evening.
Role = Literal["champion", "naive", "reference"]
#: The frame of `lesson.Inputs` whose columns feed a model; none for one that looks at ticker and session alone.
Reads = Literal["none", "features", "components", "known_labels"]
READS: Mapping[Reads, str] = {
    "none": "no feature",
    "features": "the stationary features",
    "components": "the principal components",
    "known_labels": "the newest known label",
}


class CurveTitles(NamedTuple):
    """What the epochs of a network report, as the titles of its learning curve."""

    loss: str
    skill: str
    column: str
    """the field of an epoch that holds the skill, a fraction"""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model: what it is, and how it is trained, loaded and asked."""

    name: str
    role: Role
    title: str
    """what it is in a few words, for the UI"""
    reads: Reads
    table: str
    """the table of trained models that its versions are rows of"""
    train: Callable[[Lesson], Any]
    """returns something with `cutoff` and `to_artifact`; a network's also has `config`, `curve`, `best_epoch`,
    `validation_log_loss` and `validation_accuracy`"""
    load: Callable[[dict[str, np.ndarray], dict[str, Any]], Any]
    """what `train` returned, from its tensors and description"""
    predict: Callable[[Any, Inputs, Collection[date]], pl.DataFrame]
    """returns ticker, session, p_sell, p_hold, p_buy, score"""
    naive: bool = False
    """whether it looks at no feature; the best of these is what a report's score is read against"""
    lookback_rows: int = 1
    """rows of a ticker that a prediction looks at, that of the session included"""
    curve: CurveTitles | None = None
    """None for a model without epochs"""

    @property
    def frame(self) -> Literal["features", "components", "known_labels"]:
        """The frame of `Inputs` that it is given; the smallest one where it looks at the keys alone."""
        return "known_labels" if self.reads == "none" else self.reads


#: Every model by name, in the order in which they are trained. `register_model` adds to it.
MODELS: dict[str, ModelEntry] = {}


def register_model(entry: ModelEntry) -> ModelEntry:
    """`entry`, which is trained and predicted from now on.

    Raises StockAssetsError where another entry has its name, which the ensemble's is, too.
    """
    if entry.name == ENSEMBLE or MODELS.setdefault(entry.name, entry) != entry:
        raise StockAssetsError(f"there is a model {entry.name} already; expected another name")
    return entry


def models_into(table: str) -> dict[str, ModelEntry]:
    """The models whose versions are rows of `table`."""
    return {name: entry for name, entry in MODELS.items() if entry.table == table}


def models_of(*roles: Role) -> dict[str, ModelEntry]:
    """The models of any of `roles`."""
    return {name: entry for name, entry in MODELS.items() if entry.role in roles}


def naive_baselines() -> tuple[str, ...]:
    """The models that look at no feature: the report compares every score with the best of them."""
    return tuple(name for name, entry in MODELS.items() if entry.naive)


def live_yardsticks() -> tuple[str, ...]:
    """The models of role naive, which are predicted every evening: live skill is measured against the best of them."""
    return tuple(models_of("naive"))


def longest_lookback() -> int:
    """The rows of a ticker that the model with the longest memory looks at."""
    return max(entry.lookback_rows for entry in MODELS.values())


def described(entries: Iterable[ModelEntry]) -> str:
    """Sentences of the UI: each model with its title and what it reads."""
    return "; ".join(f"`{entry.name}`: {entry.title}, reads {READS[entry.reads]}" for entry in entries)


def named(entries: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    *others, final = entries
    return f"{', '.join(others)} {last} {final}" if others else final


def learning_curve(entry: ModelEntry, epochs: Sequence[Mapping[str, Any]]) -> tuple[pl.DataFrame, str, str]:
    """(epochs with `skill`, title of the loss, title of the skill) of a network, as a plot of its curve takes them."""
    if entry.curve is None:
        raise StockAssetsError(f"{entry.name} has no learning curve; expected an entry with `curve`")
    return pl.DataFrame(epochs).with_columns(skill=entry.curve.column), entry.curve.loss, entry.curve.skill
