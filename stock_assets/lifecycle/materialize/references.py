"""What the reference models lack, read from the store."""

from datetime import date

from stock_assets.lifecycle.evening import State, Work
from stock_assets.lifecycle.references import references_due
from stock_assets.market.calendar import calendar_of
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


def next_references(store: Warehouse, settings: Settings, state: State) -> list[Work]:
    """The runs that bring the reference models up to date, in order; none where nothing is due.

    Raises StoreBusyError while a writer holds the store.
    """
    calendar = calendar_of(settings)
    answers = store.read_each(
        {
            "reference_predictions": "SELECT max(session) AS last FROM reference_predictions",
            "trained_references": "SELECT DISTINCT model_year FROM trained_references",
        }
    )
    predictions, trained_years = answers["reference_predictions"], answers["trained_references"]
    return references_due(
        calendar,
        first_served=calendar.between(date(settings.model_start_year, 1, 1), date.max)[0],
        predicted_through=state.predicted_through,
        model_years=state.model_years,
        references_through=None if predictions is None else predictions.item(),
        reference_years=frozenset() if trained_years is None else frozenset(trained_years["model_year"]),
    )
