"""Tuning, on demand: trials of the networks' hyperparameters, judged before the first model year."""

import os
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
from pydantic import Field

from stock_assets.defs.market import SIMULATED
from stock_assets.defs.model import MADE_BEFORE_MODELS
from stock_assets.defs.tables import picture, preview, table_asset
from stock_assets.features.stationary import FIRST_BAR
from stock_assets.market.calendar import calendar_of
from stock_assets.model.materialize.inputs import Learnable
from stock_assets.model.tuning import NETWORKS, Study, prepare
from stock_assets.settings import Settings
from stock_assets.storage.warehouse import Warehouse

if TYPE_CHECKING:
    import optuna


class TuningConfig(dg.Config):
    """What to tune and how hard; shown in the launchpad."""

    networks: list[str] = Field(
        default=list(NETWORKS), description="deepar over the reference study's own ranges, rnn over ours"
    )
    trials: int = Field(
        default=30, ge=1, description="trials of each network, complete or pruned, those of earlier runs included"
    )
    workers: int = Field(default=os.cpu_count() or 1, ge=1, description="processes that run trials side by side")


def tuning_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    calendar = calendar_of(settings)
    note = SIMULATED if settings.source == "simulated" else ""

    @table_asset(
        "tuned_hyperparameters",
        description=(
            "Trials of hyperparameters by Optuna (TPE, median pruner), judged by the log-loss of purged walk-forward "
            "validation periods that all lie before the first model year: the test years stay untouched. Takes from "
            "minutes to an hour and holds the store meanwhile, so `make run` leaves it out: materialize it here. A run "
            "that was stopped resumes. The best of N noisy scores is optimistic: the improvement on the default "
            "configuration is stated with what N equally good tries would show by luck taken off (Bailey & López de "
            "Prado 2014). No model uses the result by itself." + note
        ),
        deps=["stationary_features", "pca_components", "labels", "daily_bars"],
        kinds=("optuna", "pytorch"),
    )
    def tuned_hyperparameters(
        context: dg.AssetExecutionContext, config: TuningConfig, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult:
        from stock_assets.model import trials

        cutoff = calendar.before(date(settings.model_start_year, 1, 1), 1)[0]
        sessions = calendar.between(calendar.sessions[0], cutoff)
        why = f"every session up to {cutoff}, the cutoff of the first model year"
        warehouse.require(MADE_BEFORE_MODELS, sessions[FIRST_BAR - 1 :], "tuned_hyperparameters", why)
        warehouse.require(["labels"], sessions[: -settings.horizon], "tuned_hyperparameters", why)
        known = Learnable(warehouse, settings, sessions[0], cutoff)
        labels, _ = known.labels_at(cutoff)

        def say(row: dict) -> None:
            score = f"log-loss {row['value']:.5f}" if row["value"] is not None else "no score"
            context.log.info(f"{row['study']}: trial {row['trial']} {row['state']}, {score}, {row['params']}")

        tables, about = [], {}
        for network in dict.fromkeys(config.networks):
            features = known.components if network == "deepar" else known.features
            study = prepare(network, features, labels, known.suspects, cutoff, settings.horizon, settings.seed)
            folder = settings.data_dir / "tuning"
            found = trials.search(study, folder, config.trials, config.workers, say)
            tables.append(trials.trial_table(found))
            about |= findings(study, found, tables[-1])
        table = pl.concat(tables)
        warehouse.replace_rows("tuned_hyperparameters", pl.DataFrame({"network": config.networks}), table)
        complete = table.filter(pl.col("state") == "complete").sort("value")
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": table.height,
                "pca_version": known.pca_version,
                "preview": preview(complete),
                **about,
            }
        )

    return [tuned_hyperparameters]


def findings(study: Study, found: "optuna.Study", table: pl.DataFrame) -> dict[str, object]:
    """Metadata of one study: its best configuration, what the improvement is worth, and two pictures."""
    from stock_assets.evaluation import plots
    from stock_assets.evaluation.bootstrap import block_bootstrap
    from stock_assets.model import trials
    from stock_assets.model.tuning import deflate, improvement_per_session

    network, default = study.network, trials.default_trial(found)
    values = table["value"].drop_nulls().to_list()
    tries = table.filter(pl.col("state") != "fail").height
    worth = deflate(values, trials.score_of(default).log_loss, tries)
    gains = improvement_per_session(trials.score_of(default), trials.score_of(found.best_trial))
    # a block of 21 sessions, of which every few are scored
    low, high = block_bootstrap(gains, block=max(1, 21 // study.budget.every), seed=study.seed) or (0.0, 0.0)
    periods = ", ".join(fold.name for fold in study.folds)
    verdict = (
        f"Trial {found.best_trial.number} scores {worth.best:.4f} on {periods}, the default configuration "
        f"{worth.default:.4f}: better by {worth.improvement:.4f} [{low:.4f}, {high:.4f}] (95 %, day-block bootstrap). "
        f"The best of {tries} equally good tries would be better by {worth.by_luck:.4f}, which leaves "
        f"{worth.deflated:.4f} [{low - worth.by_luck:.4f}, {high - worth.by_luck:.4f}]: "
        + ("more than luck." if low > worth.by_luck else "not told from luck; the default stays the better choice.")
    )
    chosen = NETWORKS[network].configuration(found.best_trial.params).to_dict()
    adopted = {name: chosen[name] for name in sorted({*NETWORKS[network].space, "patience", "segment"})}
    shares = trials.importances(found, study.seed)
    return {
        f"{network}_verdict": dg.MetadataValue.md(verdict),
        f"{network}_best": dg.MetadataValue.json(adopted),
        f"{network}_how_to_adopt": dg.MetadataValue.md(
            f"Put these values in the defaults of `{type(NETWORKS[network].defaults).__name__}` "
            "(`stock_assets/model/config.py`) and train every model year again."
        ),
        f"{network}_sample": (
            f"{study.features['ticker'].n_unique()} tickers, {len(gains)} sessions scored of {periods}, learned from "
            f"{study.features['session'].min()} on, nothing after {study.labels['horizon_end'].max()}"
        ),
        f"{network}_history": picture(
            plots.optimization_history(table, f"{tries} trials of {network}"), f"scores of the trials of {network}"
        ),
        **(
            {
                f"{network}_importance": picture(
                    plots.hyperparameter_importance(shares, f"What the score of {network} hangs on"),
                    f"importance of the hyperparameters of {network}",
                )
            }
            if shares
            else {}
        ),
    }
