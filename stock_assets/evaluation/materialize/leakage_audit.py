"""The step that makes `leakage_audit`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import polars as pl

from stock_assets.evaluation.audited_models import audited_models, audited_rnn
from stock_assets.evaluation.leakage import Audit, sweep_of
from stock_assets.evaluation.materialize.inputs import judged_predictions
from stock_assets.features.components import fit_pca_in_blocks, transform
from stock_assets.features.materialize import trusted
from stock_assets.features.materialize.blocks import blocks_of_features
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


def make_leakage_audit(store: Warehouse, settings: Settings) -> MadeAudit:
    """Makes the table `leakage_audit`: honest and cheating scores of the last test year, and what a known label is
    worth at each lag. Its rows are the models of the components, those of the features, persistence and one model at
    each lag, in this order.

    Raises StockAssetsError where the year has nothing to learn from or to score.
    """
    calendar = calendar_of(settings)
    usable, _ = usable_between(store, settings, calendar.sessions[0])
    predicted_sessions = pl.col("session").filter(pl.col("session").dt.year() >= settings.model_start_year)
    year = usable.select(predicted_sessions.dt.year().max()).item()
    cutoff = calendar.before(date(year, 1, 1), 1)[0]
    components = store.read("pca_components").drop("pca_version")
    audit = Audit(components, store.read("labels"), usable, {year: cutoff}, settings.horizon)
    models = audited_models(settings.horizon, settings.seed)
    predictions = judged_predictions(store, date(year, 1, 1), date(year, 12, 31))
    of_components = audit.table(models, predictions, cheap=CHEAP, peeking=_peeking_components(store, settings))
    sweep = audit.sweep(CHEAP, models[CHEAP])
    del components  # the inputs of every session are gigabytes: components and features are not held at once
    audit = replace(audit, components=_features(store, settings))
    suspects = store.read("daily_bars", columns=[*KEYS, "suspect"]).drop_nulls("suspect")
    of_features = audit.cheating(audited_rnn(settings.horizon, settings.seed, suspects), "the stationary features")
    table = pl.concat([of_components, of_features, audit.copied(), sweep])
    store.replace_table("leakage_audit", table)
    return MadeAudit(table)


def _peeking_components(store: Warehouse, settings: Settings) -> pl.DataFrame:
    """Components like `pca_components`, but of a scaler and axes fitted on every session there is."""
    sessions, columns = _sessions(store, settings), pca_inputs()
    parts = partial(blocks_of_features, store, sessions, columns=columns)
    model = fit_pca_in_blocks(lambda: (trusted(store, rows) for rows in parts()), columns, fit_through=sessions[-1])
    return pl.concat(transform(model, rows).drop("pca_version") for rows in parts())


def _features(store: Warehouse, settings: Settings) -> pl.DataFrame:
    """ticker, session and the stationary features, float32, of every session."""
    parts = blocks_of_features(store, _sessions(store, settings), columns=list(STATIONARY))
    return pl.concat(rows.cast({pl.Float64: pl.Float32}) for rows in parts)


def _sessions(store: Warehouse, settings: Settings) -> Sequence[date]:
    """The sessions of the calendar up to the last one that has features."""
    last = store.read("stationary_features", columns=["session"]).select(pl.col("session").max()).item()
    return calendar_of(settings).between(date.min, last)
