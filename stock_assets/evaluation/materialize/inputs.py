"""What the steps of this room read of other rooms, each in one place."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from stock_assets.model.materialize.predict import predictions_with_references
from stock_assets.model.materialize.versions import REFERENCES
from stock_assets.settings import Settings
from stock_assets.storage.artifacts import load_artifact
from stock_assets.storage.warehouse import Warehouse
from stock_assets.tables import declared

#: The columns that scores are made of.
JUDGED_COLUMNS = ("model", "trained_through", "ticker", "session", "p_sell", "p_hold", "p_buy", "score")
_CURVE = {
    "model_year": pl.Int64,
    "model": pl.String,
    "epoch": pl.Int64,
    "accuracy": pl.Float64,
    "rmse": pl.Float64,
}


def judged_predictions(store: Warehouse, first: date | None = None, last: date | None = None) -> pl.DataFrame:
    """The walk-forward predictions of all models, of references where they are made, with JUDGED_COLUMNS.

    From session `first` to `last`, both included and open where None.
    """
    return predictions_with_references(store, first, last, columns=JUDGED_COLUMNS)


def trained_networks(store: Warehouse) -> pl.DataFrame:
    """model_year, model, artifact (its folder below the artifacts) of every trained network."""
    columns = ["model_year", "model", "artifact"]
    none = declared(REFERENCES).empty().select(columns)
    tables = [store.read("trained_rnn", columns=columns), store.read_or(none, REFERENCES, columns=columns)]
    return pl.concat(tables).unique()


def learning_curves(store: Warehouse, settings: Settings) -> pl.DataFrame:
    """model_year, model, epoch, accuracy, rmse of every trained network that judged its classes after each epoch.

    A network whose folder is gone has no curve: the report is about its predictions, which are in the store.
    """
    rows = []
    for year, model, folder in trained_networks(store).sort("model_year", "model").iter_rows():
        if folder and (settings.artifacts / folder).is_dir():
            curve = load_artifact(settings.artifacts / folder).description.get("curve", [])
            judged_epochs: Sequence[dict] = [epoch for epoch in curve if {"accuracy", "rmse"} <= {*epoch}]
            rows += [{"model_year": year, "model": model, **epoch} for epoch in judged_epochs]
    return pl.DataFrame(rows, _CURVE, strict=False)
