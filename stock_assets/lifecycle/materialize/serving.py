"""Which versions predict which sessions: the champions, once the aliases that a person moved are followed."""

from collections.abc import Sequence
from datetime import date, datetime

from stock_assets.lifecycle.materialize.champions import champions_of, follow_aliases
from stock_assets.model.materialize.versions import Assignment, base_versions, by_year
from stock_assets.model.registry import ENSEMBLE, models_of
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse


def serving_versions(
    store: Warehouse, registry: Registry, sessions: Sequence[date], *, pca_version: str, now: datetime
) -> Assignment:
    """The versions that serve `sessions`, ascending, one span after the other.

    A session that is predicted already keeps the version that predicted it; new ones follow the model registry, for
    the models that have a version in their year. Raises as `champions_of` and `follow_aliases`.
    """
    last_predicted = store.last_session("predictions")
    new = [session for session in sessions if last_predicted is None or session > last_predicted]
    notes: list[str] = []
    if new:
        year, days = by_year(new)[-1]
        base_versions(store, year, days[0], pca_version=pca_version)
        models = (*models_of("champion", "naive"), ENSEMBLE)
        notes = follow_aliases(store, registry, models, session=days[0], now=now)
    years = [champions_of(store, days, pca_version=pca_version) for _, days in by_year(sessions)]
    spans = [span for assignment in years for span in assignment.spans]
    return Assignment(spans, [*notes, *(note for assignment in years for note in assignment.notes)])
