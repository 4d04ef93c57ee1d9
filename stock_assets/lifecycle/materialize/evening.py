"""How far the tables are, read in one connection: what every tick of the automation asks first."""

from dataclasses import dataclass
from datetime import date

from stock_assets.model.materialize.versions import TRAINED
from stock_assets.storage.warehouse import Warehouse

#: The tables of the models of a year; it is served once every one of them has rows of it.
MODELS = (*TRAINED, "trained_ensemble")


@dataclass(frozen=True)
class Progress:
    """How far the tables are; None before a table has a row."""

    predicted_through: date | None
    """the last session of `predictions`"""
    labelled_through: date | None
    """the last session of `labels`"""
    model_years: frozenset[int]
    """the model years of which every table of MODELS has rows"""


def read_progress(store: Warehouse) -> Progress:
    """How far predictions, labels and models are. Raises StoreBusyError while a writer holds the store."""
    answers = store.read_each(
        {table: f"SELECT max(session) AS last FROM {table}" for table in ("predictions", "labels")}
        | {table: f"SELECT DISTINCT model_year FROM {table}" for table in MODELS}
    )
    predicted, labelled = (
        rows.item() if (rows := answers[table]) is not None else None for table in ("predictions", "labels")
    )
    years = [frozenset(rows["model_year"]) if (rows := answers[table]) is not None else frozenset() for table in MODELS]
    return Progress(predicted, labelled, frozenset.intersection(*years))
