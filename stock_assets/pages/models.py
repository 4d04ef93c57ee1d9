"""Who serves, since when, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
from markupsafe import Markup

from stock_assets.pages import numbers
from stock_assets.pages.charts import bars
from stock_assets.pages.charts.bars import Interval

#: Decisions that are listed, and verdicts in the chart.
LISTED, DRAWN = 20, 12


@dataclass(frozen=True)
class ModelsView:
    """What the section on models shows."""

    model: str
    """the model in service"""
    service: Mapping[str, Any] | None
    """its champion"""
    requested: Mapping[str, Any] | None
    """the version that its alias asks for, where that is another one"""
    versions: tuple[dict[str, Any], ...]
    """model, alias, version, trained_through, …; the model in service first"""
    scores: tuple[dict[str, Any], ...]
    """walk-forward, the lowest log-loss first"""
    promotions: tuple[dict[str, Any], ...]
    """the newest first"""
    decisions: tuple[dict[str, Any], ...]
    """whether to train again, the newest first"""

    @cached_property
    def promotion_chart(self) -> Markup | None:
        """The verdicts that compared two versions; None without one."""
        judged_promotions = [row for row in self.promotions if row["improvement"] is not None][:DRAWN]
        if not judged_promotions:
            return None
        rows = [
            Interval(
                f"{row['decided_at']:%Y-%m-%d} {row['model']}",
                row["improvement"],
                row["improvement_low"],
                row["improvement_high"],
                "buy" if row["outcome"] == "champion" else "hold",
                f"{row['version']}: {row['outcome']}, better by {numbers.signed(row['improvement'])}",
            )
            for row in judged_promotions
        ]
        note = "log-loss of the champion less that of the challenger, nats, with its 95 % interval; filled: promoted"
        return bars.intervals("Challengers against champions", rows, note=note, unit="nats")

    @cached_property
    def score_chart(self) -> Markup | None:
        """Each model's lead over the best naive baseline; None without a baseline."""
        naive = next((row for row in self.scores if row["naive"]), None)
        if naive is None or len(self.scores) < 2:
            return None
        rows = [
            Interval(
                row["model"],
                naive["log_loss"] - row["log_loss"],
                None if row["high"] is None else naive["log_loss"] - row["high"],
                None if row["low"] is None else naive["log_loss"] - row["low"],
                "naive" if row["naive"] else "service" if row["model"] == self.model else "other",
                f"{row['model']}: {numbers.score(row['log_loss'])}",
            )
            for row in self.scores
            if row["log_loss"] is not None
        ]
        note = f"log-loss of {naive['model']} less that of the model, nats, over all years; right of 0 is skill"
        return bars.intervals("Walk-forward lead over the best naive baseline", rows, note=note, unit="nats")


def models_view(
    in_service: pl.DataFrame,
    promotions: pl.DataFrame,
    decisions: pl.DataFrame,
    *,
    scores: pl.DataFrame,
    model: str,
) -> ModelsView:
    """The view of `in_service` (model, alias, version, …), `promotions`, `decisions` (retraining) and `scores`."""
    versions = in_service.sort(pl.col("model") != model, "model", pl.col("alias") != "champion", "alias").to_dicts()
    own = {row["alias"]: row for row in versions if row["model"] == model}
    return ModelsView(
        model=model,
        service=own.get("champion"),
        requested=own.get("champion (requested)"),
        versions=tuple(versions),
        scores=tuple(scores.sort("log_loss", "model", nulls_last=True).to_dicts()),
        promotions=tuple(promotions.sort("decided_at", descending=True).head(LISTED).to_dicts()),
        decisions=tuple(decisions.sort("decided_at", descending=True).head(LISTED).to_dicts()),
    )


@dataclass(frozen=True)
class CardRow:
    """One line of a model's card: nested values are flattened to `name · name`."""

    name: str
    value: str


@dataclass(frozen=True)
class CardSection:
    """A part of a card."""

    title: str
    rows: tuple[CardRow, ...]


def card_sections(card: Mapping[str, Any]) -> tuple[CardSection, ...]:
    """The card's values by part: plain ones first, then each nested object.

    >>> [(s.title, [(r.name, r.value) for r in s.rows]) for s in card_sections({"seed": 1, "rows": {"train": 20}})]
    [('Version', [('seed', '1')]), ('Rows', [('train', '20')])]
    """
    plain = [CardRow(_words(name), _value(value)) for name, value in card.items() if not _is_nested(value)]
    parts = [CardSection("Version", tuple(plain))] if plain else []
    parts += [
        CardSection(_words(name).capitalize(), tuple(_flat(value))) for name, value in card.items() if _is_nested(value)
    ]
    return tuple(part for part in parts if part.rows)


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value if not isinstance(value, str))
    )


def _flat(value: Any, before: str = "") -> list[CardRow]:
    if isinstance(value, Mapping):
        items = [(_words(str(name)), item) for name, item in value.items()]
    else:
        items = [(str(i), item) for i, item in enumerate(value, 1)]
    rows: list[CardRow] = []
    for name, item in items:
        title = f"{before} · {name}" if before else name
        rows += _flat(item, title) if _is_nested(item) else [CardRow(title, _value(item))]
    return rows


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: object) -> str:
    if value is None:
        return numbers.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_value, value)) or numbers.NONE
    return str(value)
