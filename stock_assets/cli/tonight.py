"""Tonight's calls on a few lines: the strongest buys and sells, and how far to trust them."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from stock_assets.errors import MissingTableError
from stock_assets.escape import one_line
from stock_assets.evaluation.metrics import best_naive
from stock_assets.model.registry import IN_SERVICE, naive_baselines
from stock_assets.objects import Place
from stock_assets.publication.read import open_publication
from stock_assets.storage.warehouse import Warehouse

#: Buys and sells that are shown, and the columns of a terminal that they fit into.
SHOWN, WIDTH = 5, 40


@dataclass(frozen=True)
class Tonight:
    """The newest predictions of the model in service, and its score on all years."""

    session: date
    model: str
    simulated: bool
    scores: pl.DataFrame
    """ticker, score (p_buy - p_sell)"""
    skill: dict[str, Any] | None
    """log_loss, low, high of the model; None before it is scored"""
    naive: dict[str, Any] | None
    """model, log_loss of the best naive baseline"""


def tonight(publication_folder: Place, store: Warehouse, *, simulated: bool) -> Tonight | None:
    """What is published of the newest session; what is stored where nothing is published; None without predictions.

    Raises PublicationError for a publication that is damaged.
    """
    publication = open_publication(publication_folder)
    if publication is None or not publication.pointer.sessions:
        return _stored_calls(store, simulated=simulated)
    facts, session = publication.pointer.facts, publication.pointer.sessions[-1]
    rows = publication.predictions(session).filter(pl.col("model") == facts.in_service)
    skill = publication.monitoring("score")
    return Tonight(
        session,
        facts.in_service,
        facts.simulated,
        rows.select("ticker", "score"),
        _first(skill.filter(pl.col("model") == facts.in_service)),
        _first(skill.filter("naive")),
    )


def _stored_calls(store: Warehouse, *, simulated: bool) -> Tonight | None:
    session = store.last_session("predictions")
    if session is None:
        return None
    rows = store.read("predictions", session, session, columns=["ticker", "model", "score"])
    try:
        means = store.read("evaluation_report").filter(pl.col("year").is_null())
    except MissingTableError:
        means = None
    skill = naive = None
    if means is not None:
        naive = best_naive(means, naive_baselines())
        means = means.rename({"log_loss_low": "low", "log_loss_high": "high"})
        skill = _first(means.filter(pl.col("model") == IN_SERVICE))
    of_model = rows.filter(pl.col("model") == IN_SERVICE).select("ticker", "score")
    return Tonight(session, IN_SERVICE, simulated, of_model, skill, naive)


def tonight_lines(calls: Tonight) -> list[str]:
    """The lines, none of them wider than WIDTH."""
    scores_in_order = calls.scores.sort(-pl.col("score"), "ticker").rows()
    count = min(SHOWN, len(scores_in_order) // 2)  # no ticker on both sides
    lines = [f"{calls.model} of {calls.session}: p_buy - p_sell"]
    if calls.simulated:
        lines.append("SIMULATED market, no real prices")
    lines.append(f"{'strongest buys':<{WIDTH // 2}}strongest sells")
    for buy, sell in zip(scores_in_order[:count], scores_in_order[::-1][:count], strict=True):
        lines.append(f"{_call(*buy)}  {_call(*sell)}")
    if not count:
        lines.append(f"{len(scores_in_order)} ticker(s) predicted: none to compare")
    return [*lines, *_score_lines(calls)]


def _call(ticker: str, score: float) -> str:
    name = one_line(ticker)
    short_name = name if len(name) <= 11 else f"{name[:10]}…"
    return f"{short_name:<11} {score:+.3f}"


def _score_lines(calls: Tonight) -> list[str]:
    """The log-loss of the model and that of the best naive baseline, and whether they can be told apart."""
    skill, naive = calls.skill, calls.naive
    if skill is None or naive is None:
        return ["not scored yet: trust none of it"]
    lines = [
        f"log-loss {skill['log_loss']:.4f} {_interval(skill)}".rstrip(),
        f"  naive  {naive['log_loss']:.4f} {one_line(naive['model'])}"[:WIDTH],
    ]
    if skill["low"] is None or skill["high"] is None:
        return [*lines, "too few sessions for an interval"]
    if skill["high"] < naive["log_loss"]:
        return [*lines, "better than the best naive baseline"]
    if skill["low"] > naive["log_loss"]:
        return [*lines, "WORSE than the best naive baseline"]
    return [*lines, "NOT told apart from the naive baseline"]


def _interval(skill: dict[str, Any]) -> str:
    if skill["low"] is None or skill["high"] is None:
        return ""
    return f"[{skill['low']:.4f}, {skill['high']:.4f}]"


def _first(rows: pl.DataFrame) -> dict[str, Any] | None:
    return rows.row(0, named=True) if rows.height else None
