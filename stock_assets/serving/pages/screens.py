"""Screens 3, 4, 5 and 7: those whose sections the page `operations` shares, and the paper account."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from stock_assets.pages import paper
from stock_assets.pages.inputs import InputsView, inputs_view
from stock_assets.pages.models import CardSection, ModelsView, card_sections, models_view
from stock_assets.pages.paper import PaperView, paper_view
from stock_assets.pages.skill import SkillView, skill_view
from stock_assets.publication.read import Publication
from stock_assets.publication.tables import MONITORING


def _frames(publication: Publication | None, *names: str) -> list[Any]:
    """The monitoring tables of these names; empty ones before anything was published."""
    return [MONITORING[name].empty() if publication is None else publication.monitoring(name) for name in names]


def in_service(publication: Publication | None) -> str:
    """The model that answers when none is named."""
    return publication.pointer.facts.in_service if publication else ""


def skill_screen(publication: Publication | None) -> SkillView:
    """Screen 3: is it still good?"""
    frames = _frames(publication, "sessions", "rolling_skill", "reliability")
    days = publication.pointer.files["predictions"] if publication else {}
    last = date.fromisoformat(max(days)) if days else None
    return skill_view(*frames, model=in_service(publication), predicted_through=last)


def inputs_screen(publication: Publication | None) -> InputsView:
    """Screen 4: did the world change?"""
    names = ("drift", "histograms", "sessions", "fetch_outcomes", "known_lags")
    drift, histograms, sessions, outcomes, lags = _frames(publication, *names)
    return inputs_view(drift, histograms, sessions, outcomes=outcomes, lags=lags)


def models_screen(publication: Publication | None) -> ModelsView:
    """Screen 5: who serves, since when, why?"""
    model_rows, promotions, decisions, scores = _frames(
        publication, "in_service", "promotions", "retraining_decisions", "score"
    )
    return models_view(model_rows, promotions, decisions, scores=scores, model=in_service(publication))


@dataclass(frozen=True)
class CardView:
    """The card of one version."""

    version: str
    model: str | None
    title: str
    sections: tuple[CardSection, ...]
    scores: tuple["CardScore", ...]
    limits: tuple[str, ...]
    promotions: tuple[dict[str, Any], ...]
    """the decisions about it, the newest first"""
    mlflow: str | None
    """the address of its run"""


@dataclass(frozen=True)
class CardScore:
    """The score of the version's model in one year."""

    year: int | None
    """None for all years"""
    rows: int | None
    log_loss: float | None
    low: float | None
    high: float | None
    accuracy: float | None
    rank_ic: float | None
    naive: str | None
    """the best naive baseline"""
    naive_loss: float | None

    @property
    def lead(self) -> float | None:
        """The baseline's log-loss less the model's."""
        return None if self.log_loss is None or self.naive_loss is None else self.naive_loss - self.log_loss


def _score(row: Mapping[str, Any]) -> CardScore:
    names = {"low": "log_loss_low", "high": "log_loss_high", "naive_loss": "naive_log_loss"}
    return CardScore(**{name: row.get(names.get(name, name)) for name in CardScore.__dataclass_fields__})


def card_screen(publication: Publication | None, version: str) -> CardView | None:
    """The card of `version`; None where none is published."""
    card = publication.card(version) if publication else None
    if publication is None or card is None:
        return None
    decisions = publication.monitoring("promotions").sort("decided_at", descending=True)
    own_sections = ("version", "title", "run", "promotions", "scores", "limits")
    return CardView(
        version,
        card.get("model"),
        str(card.get("title") or card.get("model") or version),
        card_sections(
            {name: value for name, value in card.items() if name not in own_sections and value not in ([], {})}
        ),
        tuple(map(_score, card.get("scores") or ())),
        tuple(map(str, card.get("limits") or ())),
        tuple(decisions.filter(decisions["version"] == version).to_dicts()),
        mlflow_address(card),
    )


def mlflow_address(card: Mapping[str, Any]) -> str | None:
    """The address of the card's MLflow run; None where it has none that a browser opens."""
    run = card.get("run")
    address = run.get("url") if isinstance(run, Mapping) else None
    return address if isinstance(address, str) and urlsplit(address).scheme in ("http", "https") else None


def by_sector(
    publication: Publication | None, names: Sequence[tuple[str, str | None]]
) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """`names` (ticker, name) by the sector of the newest session, both sorted; those without one come last."""
    if publication is None or not publication.pointer.sessions:
        return []
    bars = publication.bars(publication.pointer.sessions[-1])
    sectors = dict(bars.select("ticker", "sector").iter_rows())
    groups: dict[str, list[tuple[str, str | None]]] = {}
    for ticker, name in names:
        groups.setdefault(sectors.get(ticker) or "", []).append((ticker, name))
    only_name = "All tickers" if len(groups) == 1 else "No sector is stated"
    return [
        (sector or only_name, rows) for sector, rows in sorted(groups.items(), key=lambda group: (not group[0], group))
    ]


def paper_screen(publication: Publication | None) -> PaperView:
    """Screen 7: what trading on the calls pays, and what the account does at the next open."""
    return paper_view(dict(zip(paper.TABLES, _frames(publication, *paper.TABLES), strict=True)))
