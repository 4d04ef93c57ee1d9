"""The cards of the versions that are published."""

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from stock_assets.errors import ArtifactError, MissingTableError, PublicationError
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.versions import REFERENCES, TRAINED
from stock_assets.model.registry import ENSEMBLE, MODELS, READS, live_yardsticks, naive_baselines
from stock_assets.publication.cards import Made, card, made_fields
from stock_assets.publication.materialize.monitoring import Monitored
from stock_assets.publication.read import open_publication
from stock_assets.publication.write import NewFiles
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import load_artifact
from stock_assets.storage.registry import Registry
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared


def put_cards(
    store: Warehouse,
    settings: Settings,
    registry: Registry,
    *,
    versions: Collection[str],
    monitoring: Monitored,
    into: NewFiles,
) -> None:
    """Puts the cards of `versions` into files.

    What never changes of a card is taken from the published one, so that an ordinary evening opens neither an artifact
    nor the model registry. A version that no table of trained models has any more keeps the card that it has.
    """
    fields = {version: _published_fields(settings, version) for version in versions}
    if new := sorted(version for version, of_version in fields.items() if of_version is None):
        fields |= _new_fields(store, settings, registry, versions=new)
    naive = sorted({*naive_baselines(), *live_yardsticks()})
    for version, of_version in sorted(fields.items()):
        if of_version is not None:
            content = card(
                of_version,
                monitoring.report,
                monitoring.promotions,
                naive=naive,
                simulated=settings.source == "simulated",
            )
            into.put("cards", version, content)


def _published_fields(settings: Settings, version: str) -> dict[str, Any] | None:
    """The fields of the published card that never change; None where it has to be made anew."""
    try:
        publication = open_publication(settings.published)
        published_card = publication.card(version) if publication else None
    except PublicationError:  # lost or damaged: it is made again
        return None
    if published_card is None:
        return None
    return {name: value for name, value in published_card.items() if name not in ("scores", "promotions", "limits")}


def _new_fields(
    store: Warehouse, settings: Settings, registry: Registry, *, versions: Collection[str]
) -> dict[str, dict[str, Any]]:
    runs, rows = registry.runs(), _trained_rows(store)
    fields_of_versions = {}
    for version in versions:
        of_version = rows.get(version)
        if of_version is None:
            continue
        fields = _training_fields(settings, of_version)
        if run := runs.get(version):
            url = settings.mlflow_uri if (settings.mlflow_uri or "").startswith("http") else None
            link = url and f"{url}/#/experiments/{run.experiment}/runs/{run.id}"
            fields |= {
                "run": {"id": run.id, "experiment": run.experiment, "url": link},
                "code_version": run.code_version,
            }
        fields_of_versions[version] = fields
    return fields_of_versions


def _trained_rows(store: Warehouse) -> dict[str, dict[str, Any]]:
    """The row of every trained version; that of an ensemble with its members."""
    rows: dict[str, dict[str, Any]] = {}
    for table in (*TRAINED, REFERENCES):
        rows |= {row["version"]: row for row in store.read_or(declared(table).empty(), table).iter_rows(named=True)}
    try:
        ensembles = store.read("trained_ensemble")
    except MissingTableError:
        return rows
    for (version,), members in ensembles.partition_by("version", as_dict=True).items():
        weights = members.filter(pl.col("weight") > 0).sort("member").select("member", "weight", "rows")
        rows[str(version)] = {**members.row(0, named=True), "model": ENSEMBLE, "members": weights.to_dicts()}
    return rows


def _training_fields(settings: Settings, row: Mapping[str, Any]) -> dict[str, Any]:
    entry = MODELS.get(row["model"])
    description = _description(settings, row)
    training = Made(
        version=row["version"],
        model=row["model"],
        title=entry.title if entry else "the weighted mean of its members",
        role=entry.role if entry else "champion",
        reads=READS[entry.reads] if entry else "the probabilities of its members",
        model_year=row["model_year"],
        trained_through=row["trained_through"],
        trained_at=row.get("trained_at"),
        first=calendar_of(settings).sessions[0],
        rows=row.get("training_rows"),
        seed=description.get("seed", settings.seed),
        code_version=None,
        columns=description.get("columns", []),
        columns_hash=description.get("schema"),
        config=description.get("config") or {},
        members=row.get("members", []),
        validation={
            "best_epoch": row.get("best_epoch"),
            "log_loss": row.get("validation_log_loss"),
            "accuracy": row.get("validation_accuracy"),
        },
        run=None,
    )
    return made_fields(training)


def _description(settings: Settings, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the artifact of a trained version says of itself; nothing where it is gone or damaged: its rows are there,
    and a model that cannot be loaded any more fails where it is to predict."""
    if not row.get("artifact"):
        return {}
    try:
        return load_artifact(settings.artifacts / row["artifact"]).description
    except ArtifactError:
        return {}
