"""Tuning, on demand: trials of the networks' hyperparameters, judged before the first model year."""

import dagster as dg
import polars as pl
from pydantic import Field

from stock_assets.cores import usable_cores
from stock_assets.defs.tables import SIMULATED, picture, preview, table_asset
from stock_assets.features.materialize import feature_tables
from stock_assets.model.materialize.tuning import TABLE, tune_networks
from stock_assets.model.tuned import TunedNetwork, trial_line
from stock_assets.model.tuning import TUNABLE
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse


class TuningConfig(dg.Config):
    """What to tune and how hard; shown in the launchpad."""

    networks: list[str] = Field(
        default=list(TUNABLE), description="deepar over the reference study's own ranges, rnn over ours"
    )
    trials: int = Field(
        default=30, ge=1, description="trials of each network, complete or pruned, those of earlier runs included"
    )
    workers: int = Field(default=usable_cores(), ge=1, description="processes that run trials side by side")


def tuning_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        TABLE,
        description=(
            "Trials of hyperparameters by Optuna (TPE, median pruner), judged by the log-loss of purged walk-forward "
            "validation periods that all lie before the first model year: the test years stay untouched. Takes from "
            "minutes to an hour and holds the store meanwhile, so `make run` leaves it out: materialize it here. A run "
            "that was stopped resumes. The best of N noisy scores is optimistic: the improvement on the default "
            "configuration is stated with what N equally good tries would show by luck taken off (Bailey & López de "
            "Prado 2014). No model uses the result by itself." + note
        ),
        deps=[*feature_tables(settings), "pca_components", "labels", "daily_bars"],
        kinds=("optuna", "pytorch"),
    )
    def tuned_hyperparameters(
        context: dg.AssetExecutionContext, config: TuningConfig, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        tuned = tune_networks(
            warehouse,
            settings,
            config.networks,
            trials=config.trials,
            workers=config.workers,
            on_trial=lambda row: context.log.info(trial_line(row)),
            say=context.log.info,
        )
        metadata = {"dagster/row_count": tuned.rows.height, "pca_version": tuned.pca_version}
        metadata["preview"] = preview(tuned.rows.filter(pl.col("state") == "complete").sort("value"))
        for network in tuned.networks:
            metadata |= findings(network)
        return dg.MaterializeResult(metadata=metadata)

    return [tuned_hyperparameters]


def findings(tuned: TunedNetwork) -> dict[str, dg.MetadataValue | str]:
    """Metadata of one network: its best configuration, what the improvement is worth, and two pictures."""
    from stock_assets.evaluation import plots
    from stock_assets.evaluation.bootstrap import block_bootstrap

    network = tuned.network
    # a block of 21 sessions, of which every few are scored
    low, high = block_bootstrap(tuned.gains, block=max(1, 21 // tuned.every), seed=tuned.seed) or (0.0, 0.0)
    history = plots.optimization_history(tuned.trials, f"{tuned.worth.tries} trials of {network}")
    metadata: dict[str, dg.MetadataValue | str] = {
        f"{network}_verdict": dg.MetadataValue.md(tuned.verdict(low, high)),
        f"{network}_best": dg.MetadataValue.json(dict(tuned.adopted)),
        f"{network}_how_to_adopt": dg.MetadataValue.md(
            f"Put these values in the defaults of `{tuned.configuration}` (`stock_assets/model/config.py`) and train "
            "every model year again."
        ),
        f"{network}_sample": tuned.sample,
        f"{network}_history": picture(history, f"scores of the trials of {network}"),
    }
    if tuned.importances:
        shares = plots.hyperparameter_importance(dict(tuned.importances), f"What the score of {network} depends on")
        metadata[f"{network}_importance"] = picture(shares, f"importance of the hyperparameters of {network}")
    return metadata
