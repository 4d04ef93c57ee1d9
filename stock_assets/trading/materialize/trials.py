"""The trials that the store counts: what is added to them, and how many there are."""

from collections.abc import Sequence
from datetime import datetime

from stock_assets.lifecycle.tables import PROMOTIONS
from stock_assets.model.tables import TUNED_HYPERPARAMETERS
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.tables import BACKTESTS
from stock_assets.trading.trials import Computed, Trials, trial_rows, trials_of


def add_trials(store: Warehouse, back_tests: Sequence[Computed], *, now: datetime) -> None:
    """Adds those of `back_tests` that the table `backtests` lacks, in one transaction; none is ever taken out."""
    store.add_new("backtests", trial_rows(back_tests, computed_at=now))


def count_trials(store: Warehouse, book: str | None = None) -> Trials:
    """The trials of the store by now: back-tests, trials of hyperparameters, and judged challengers.

    Their variance is that of `book` (`trials_of`)."""
    tuning_trials = store.read_or(TUNED_HYPERPARAMETERS.empty(), "tuned_hyperparameters", columns=["study", "trial"])
    judged_versions = store.read_or(PROMOTIONS.empty(), "promotions", columns=["model", "version"])
    return trials_of(
        store.read_or(BACKTESTS.empty(), "backtests"),
        book,
        tunings=tuning_trials.unique().height,
        challengers=judged_versions.unique().height,
    )
