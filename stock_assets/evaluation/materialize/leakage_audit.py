"""The step that makes `leakage_audit`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from stock_assets.evaluation.audited_models import AuditedModel, audited_models, audited_volatility
from stock_assets.evaluation.leakage import Audit, sweep_of
from stock_assets.evaluation.materialize.inputs import judged_predictions
from stock_assets.features.components import fit_pca, transform
from stock_assets.features.materialize import trusted
from stock_assets.features.stationary import STATIONARY, pca_inputs
from stock_assets.frames import KEYS
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import usable_between
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

#: The model that is cheap to train: it is trained on components of both fits, and at every lag.
CHEAP = "logistic"


@dataclass(frozen=True)
class MadeAudit:
    """What `make_leakage_audit` wrote."""

    table: pl.DataFrame
    """the table `leakage_audit`"""

    @property
    def sweep(self) -> pl.DataFrame:
        """The rows that copy the label of so many rows ago."""
        return sweep_of(self.table)


@dataclass(frozen=True)
class AuditInputs:
    """Everything that the audit is made from, of the last test year."""

    audit: Audit
    models: Mapping[str, AuditedModel]
    """those that read the components"""
    of_features: Mapping[str, AuditedModel]
    """those that read the stationary features"""
    features: pl.DataFrame
    """ticker, session and the stationary features, float32"""
    predictions: pl.DataFrame
    """the honest ones of the test year"""
    peeking: pl.DataFrame
    """components of a scaler and axes that were fitted on every session"""


def make_leakage_audit(store: Warehouse, settings: Settings) -> MadeAudit:
    """Makes the table `leakage_audit`: honest and cheating scores of the last test year, and what a known label is
    worth at each lag.

    Raises StockAssetsError where the year has nothing to learn from or to score.
    """
    table = audit_table(_read(store, settings))
    store.replace_table("leakage_audit", table)
    return MadeAudit(table)


def audit_table(inputs: AuditInputs) -> pl.DataFrame:
    """The table `leakage_audit`: the models of the components, those of the features, persistence and one model at each
    lag, in this order."""
    audit = inputs.audit
    of_features = replace(audit, components=inputs.features)
    return pl.concat(
        [
            audit.table(inputs.models, inputs.predictions, cheap=CHEAP, peeking=inputs.peeking),
            of_features.cheating(inputs.of_features, "the stationary features"),
            audit.copied(),
            audit.sweep(CHEAP, inputs.models[CHEAP]),
        ]
    )


def _read(store: Warehouse, settings: Settings) -> AuditInputs:
    calendar = calendar_of(settings)
    usable, _ = usable_between(store, settings, calendar.sessions[0])
    predicted = pl.col("session").filter(pl.col("session").dt.year() >= settings.model_start_year)
    year = usable.select(predicted.dt.year().max()).item()
    suspects = store.read("daily_bars", columns=[*KEYS, "suspect"]).drop_nulls("suspect")
    return AuditInputs(
        audit=Audit(
            components=store.read("pca_components").drop("pca_version"),
            labels=store.read("labels"),
            usable=usable,
            cutoffs={year: calendar.before(date(year, 1, 1), 1)[0]},
            horizon=settings.horizon,
        ),
        models=audited_models(settings.horizon, settings.seed),
        of_features=audited_volatility(settings.horizon, settings.seed, suspects),
        features=store.read("stationary_features", columns=[*KEYS, *STATIONARY]).cast({pl.Float64: pl.Float32}),
        predictions=judged_predictions(store, date(year, 1, 1), date(year, 12, 31)),
        peeking=_peeking_components(store),
    )


def _peeking_components(store: Warehouse) -> pl.DataFrame:
    """Components like `pca_components`, but of a scaler and axes fitted on every session there is."""
    features = store.read("stationary_features", columns=[*KEYS, *pca_inputs()])
    last = features.select(pl.col("session").max()).item()
    model = fit_pca(trusted(store, features), pca_inputs(), fit_through=last)
    return transform(model, features).drop("pca_version")
