"""Another version for the newest predicted session, on which a person acts: decided, predicted and mirrored at once.

An alias that was moved and a rollback serve from the first session without a prediction on. `predict_newest_again`
brings the decision forward by one session. Sessions before it keep the version that predicted them, also when they are
made again, since the table `promotions` names one for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from stock_assets.errors import ArtifactError, StockAssetsError
from stock_assets.lifecycle.champions import (
    CHAMPION_ALIAS,
    MIRROR_ALIAS,
    Promotion,
    after_all,
    champion_history,
    champions_at,
    decisions_from,
    promotion_rows,
    reconcile,
)
from stock_assets.lifecycle.materialize.aliases import mirror, set_aliases
from stock_assets.lifecycle.materialize.alone import alone
from stock_assets.lifecycle.materialize.champions import (
    champions_of,
    read_promotions,
    require_usable_alias,
    trained_versions,
)
from stock_assets.model.materialize.predict import Predictions, make_predictions
from stock_assets.model.materialize.versions import Assignment
from stock_assets.model.registry import ENSEMBLE, models_of
from stock_assets.settings import Settings
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse

#: What the reason of such a decision begins with.
REPUBLISH = "republish: "


@dataclass(frozen=True)
class PredictedAgain:
    """What `predict_newest_again` left behind."""

    session: date
    """the newest predicted one"""
    decisions: list[Promotion]
    """those that it recorded"""
    predictions: Predictions | None
    """the rows it wrote; None where the versions that serve had predicted the session already"""
    reason: str | None
    """which versions took the place of which on the session and why, in one sentence; None where none did"""
    notes: list[str]
    """sentences about aliases and models for a person"""


@alone
def predict_newest_again(
    store: Warehouse, settings: Settings, registry: Registry, *, now: datetime, model: str | None = None
) -> PredictedAgain:
    """Predicts the newest predicted session by the versions that the newest decisions or a moved alias name.

    The decisions, which serve from that session on, and its rows are written in one transaction; then the aliases are
    set. A second call changes nothing, and completes what a killed one left out. `model` limits it to one model.

    Raises StockAssetsError before the first prediction, for a model without a version in the session's year, and where
    another session was predicted meanwhile; CutoffError, with both dates, for a version that was trained through the
    session or later; ArtifactError and RegistryError as `champions_of` and `Registry`. Nothing is changed then, but for
    a RegistryError while aliases are set, which says so.
    """
    session = store.last_session("predictions")
    if session is None:
        raise StockAssetsError("there are no predictions yet, so no version serves. Materialize predictions first.")
    versions, history = trained_versions(store), read_promotions(store)
    of_year = versions.filter(pl.col("model_year") == session.year)
    models = sorted(set(of_year["model"]) & {*models_of("champion", "naive"), ENSEMBLE})
    if model is not None and model not in models:
        raise ArtifactError(
            f"there is no model {model} with a version for {session.year}; expected one of "
            f"{', '.join(models) or 'none'}"
        )
    chosen_models = models if model is None else [model]
    causes, repaired_aliases = _causes(
        registry.aliases(), history, versions, models=chosen_models, session=session, now=now
    )
    decisions = [decision for cause in causes for decision in decisions_from(history, versions, cause, session=session)]
    new_history = pl.concat([history, promotion_rows(decisions)])

    def assign(pca_version: str) -> Assignment:
        if (newest := store.last_session("predictions")) != session:
            raise StockAssetsError(
                f"{newest} was predicted while {session} was predicted again, and nothing was changed; republish once "
                f"more if another version is to serve {newest}"
            )
        return champions_of(store, [session], pca_version=pca_version, promotions=new_history)

    new_predictions, rows, stored_rows = None, promotion_rows(decisions), store.read("predictions", session, session)
    if not _predicted_by(stored_rows, new_history, versions, session=session, models=chosen_models):
        new_predictions = make_predictions(
            store, settings, [session], assign=assign, beside={"promotions": rows}, stored_rows=stored_rows
        )
    elif decisions:  # about later sessions alone
        store.append("promotions", rows)
    notes = [*(new_predictions.notes if new_predictions else []), *mirror(registry, decisions)]
    for name, version in repaired_aliases:
        notes += set_aliases(registry, name, version)
    return PredictedAgain(session, decisions, new_predictions, _reason(new_history, session), notes)


def _causes(
    aliases: dict[str, dict[str, str]],
    history: pl.DataFrame,
    all_versions: pl.DataFrame,
    *,
    models: Sequence[str],
    session: date,
    now: datetime,
) -> tuple[list[Promotion], list[tuple[str, str]]]:
    """(the newest decision about each of `models`, an alias that a person moved included; the models whose aliases were
    cut off, each with the version that they have to name)."""
    causes: list[Promotion] = []
    repaired_aliases: list[tuple[str, str]] = []
    decided_at = after_all(history, now)
    for model in models:
        newest = champion_history(history, all_versions, model, year=session.year).row(-1, named=True)
        of_model = aliases.get(model, {})
        alias, years = of_model.get(CHAMPION_ALIAS), all_versions.filter(pl.col("model") == model)
        action = reconcile(alias, of_model.get(MIRROR_ALIAS), newest["version"])
        if alias is not None and action == "follow":
            require_usable_alias(all_versions, model, alias, session=session)
            version, kind, reason = alias, "alias", f"the alias {CHAMPION_ALIAS} was set to {alias} in the registry"
        else:
            version, kind, reason = newest["version"], newest["kind"], newest["reason"].removeprefix(REPUBLISH)
            # the aliases of a year that has begun since are not those of this session
            of_session = years.filter(pl.col("model_year") == session.year)["version"]
            if alias is not None and action == "repair" and alias in of_session:
                repaired_aliases.append((model, version))
        causes.append(
            Promotion(model, version, session.year, session, decided_at, "champion", kind, None, f"{REPUBLISH}{reason}")
        )
    return causes, repaired_aliases


def _predicted_by(
    stored_rows: pl.DataFrame, history: pl.DataFrame, versions: pl.DataFrame, *, session: date, models: Sequence[str]
) -> bool:
    """Whether the `stored_rows` of `session` are those of the versions of `models` that serve it by `history`."""
    return all(
        version == champions_at(history, versions, model, sessions=[session])[session]
        for model, version in stored_rows.select("model", "model_version").unique().iter_rows()
        if model in models and model != ENSEMBLE
    )


def _reason(history: pl.DataFrame, session: date) -> str | None:
    """What `history` says about the versions that serve from `session` on, one after the other; None without one."""
    rows = history.filter((pl.col("serves_from") == session) & (pl.col("outcome") == "champion"))
    newest = rows.sort("decided_at").unique("model", keep="last").sort("model")
    sentences = [
        f"{version} in place of {replaced_version} on {session}, {reason.removeprefix(REPUBLISH)}"
        for version, replaced_version, reason in newest.select("version", "replaced", "reason").iter_rows()
    ]
    return REPUBLISH + "; ".join(sentences) if sentences else None
