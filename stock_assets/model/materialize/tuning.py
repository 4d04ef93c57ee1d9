"""Tuning on what the store holds before the first model year."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from stock_assets.market.calendar import calendar_of
from stock_assets.model import trials as trials_of
from stock_assets.model.cutoffs import first_cutoff
from stock_assets.model.materialize.inputs import inputs_through
from stock_assets.model.progress import Say
from stock_assets.model.trials import TrialRow
from stock_assets.model.tuned import TunedNetwork, tuned_network
from stock_assets.model.tuning import prepare
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

TABLE = "tuned_hyperparameters"


class Tuned(NamedTuple):
    """What the step stored."""

    rows: pl.DataFrame
    """Of TABLE, all trials of the networks"""
    networks: tuple[TunedNetwork, ...]
    pca_version: str


def tune_networks(
    store: Warehouse,
    settings: Settings,
    networks: Sequence[str],
    *,
    trials: int,
    workers: int,
    on_trial: Callable[[TrialRow], None] | None = None,
    say: Say = lambda _: None,
) -> Tuned:
    """Runs until each of `networks` has `trials` trials, those of earlier calls included, and stores all of them.

    `workers` processes run side by side; `on_trial` receives each new row, and `say` what other hosts do. See
    `trials.search`.

    Raises MissingSessionsError where tables end before the cutoff of the first model year, StockAssetsError as
    `tuning.prepare` and `trials.search`.
    """
    cutoff = first_cutoff(calendar_of(settings), settings.model_start_year)
    inputs = inputs_through(store, settings, cutoff, needed_by=TABLE)
    labels, _ = inputs.labels_at(cutoff)
    tuned = []
    for network in dict.fromkeys(networks):
        study = prepare(
            network,
            inputs,  # pyright: ignore[reportArgumentType]: its properties are cached
            labels,
            cutoff=cutoff,
            horizon=settings.horizon,
            seed=settings.seed,
        )
        if settings.dagster_postgres is None:
            folder = settings.data_dir / "tuning"
            optuna_study = trials_of.search(study, folder, trials, workers=workers, on_trial=on_trial)
        else:
            from stock_assets.model.materialize.shared_tuning import search

            optuna_study = search(settings, study, trials, workers=workers, on_trial=on_trial, say=say)
        tuned.append(tuned_network(study, optuna_study))
    rows = pl.concat([network.trials for network in tuned])
    store.replace_rows(TABLE, pl.DataFrame({"network": list(networks)}), rows)
    return Tuned(rows, tuple(tuned), inputs.pca_version)
