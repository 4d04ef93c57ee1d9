"""What a search found: its trials as rows, and what the best of many trials is worth.

The best of N noisy scores is optimistic: `deflate` takes off what N equally good tries would show by luck.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from stock_assets.model.tuning import TUNABLE, Score, Study, network_of
from stock_assets.tables import declared

if TYPE_CHECKING:
    import optuna


def trial_table(optuna_study: "optuna.Study") -> pl.DataFrame:
    """One row per trial that came to an end, as `tuned_hyperparameters` declares it.

    `value` is null but for complete trials.
    """
    rows = [trial_row(optuna_study.study_name, trial) for trial in optuna_study.trials if trial.state.is_finished()]
    return pl.DataFrame(rows, declared("tuned_hyperparameters").schema)


def trial_row(name: str, trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """The row of one trial of the study `name`, by column of `tuned_hyperparameters`."""
    complete = trial.state.name == "COMPLETE"
    return {
        "network": network_of(name),
        "study": name,
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if complete else None,
        "is_default": bool(trial.user_attrs.get("default")),
        "params": json.dumps(trial.params, sort_keys=True),
        "epochs": trial.user_attrs.get("epochs", len(trial.intermediate_values)),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "started": trial.datetime_start.astimezone(UTC) if trial.datetime_start else None,
    }


def trial_line(row: Mapping[str, Any]) -> str:
    """What the log says of a trial that came to an end (`trial_row`)."""
    score = f"log-loss {row['value']:.5f}" if row["value"] is not None else "no score"
    return f"{row['study']}: trial {row['trial']} {row['state']}, {score}, {row['params']}"


def score_of(trial: "optuna.trial.FrozenTrial") -> Score:
    """The score of a complete trial."""
    assert trial.value is not None
    return Score(trial.value, tuple(trial.user_attrs["per_session"]), trial.user_attrs["epochs"])


def importances(optuna_study: "optuna.Study", seed: int) -> dict[str, float]:
    """Share of the scores' variance that each hyperparameter explains, largest first (fANOVA, Hutter et al. 2014).

    Empty where fewer than four trials are complete or all scores are the same.
    """
    import optuna

    complete = [trial.value for trial in optuna_study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if len(complete) < 4 or len(set(complete)) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(optuna_study, evaluator=evaluator)


def expected_best(tries: int, deviation: float) -> float:
    """How far the best of `tries` scores is expected to lie from their mean where none is better than another.

    σ ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e))) with γ Euler's constant and σ = `deviation`, the standard deviation
    of the scores; 0 for a single try (Bailey & López de Prado 2014, The Deflated Sharpe Ratio). It takes the tries
    as independent and σ as pure luck: a search that draws near its best, and real differences in skill within σ,
    make it an over-estimate.

    >>> round(expected_best(30, 0.01), 4)
    0.0207
    """
    if tries < 2:
        return 0.0
    quantile = NormalDist().inv_cdf
    return deviation * (
        (1 - np.euler_gamma) * quantile(1 - 1 / tries) + np.euler_gamma * quantile(1 - 1 / (tries * np.e))
    )


@dataclass(frozen=True)
class Deflation:
    """What remains of an improvement when the number of tries is taken off. In nats; more is better."""

    tries: int
    best: float
    default: float
    improvement: float
    """The default configuration's log-loss less the best one's."""
    by_luck: float
    """`expected_best` of as many tries that are all equally good."""
    deflated: float
    """improvement - by_luck: above 0 where the search found more than luck would."""


def deflate(values: Sequence[float], default: float, tries: int) -> Deflation:
    """The deflated improvement of the lowest of `values`, the log-losses of the complete trials.

    `tries` counts the pruned ones too: they were looked at. `values` holds at least one.
    """
    best = min(values)
    by_luck = expected_best(tries, float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)
    return Deflation(tries, best, default, default - best, by_luck, default - best - by_luck)


def improvement_per_session(default: Score, best: Score) -> np.ndarray:
    """float64 [S]: the default's log-loss less the best one's, per session: what a day-block bootstrap draws from."""
    return np.asarray(default.per_session) - np.asarray(best.per_session)


@dataclass(frozen=True)
class TunedNetwork:
    """What the search found for one network."""

    network: str
    trials: pl.DataFrame
    """The rows of `tuned_hyperparameters`"""
    best_trial: int
    worth: Deflation
    gains: np.ndarray
    """float64 [S], `improvement_per_session`"""
    seed: int
    every: int
    """The scored sessions are so many sessions apart."""
    periods: str
    """The validation periods, in words."""
    sample: str
    """What the trials learned from and were scored on, in words."""
    configuration: str
    """The class in `stock_assets/model/config.py` whose defaults would change."""
    adopted: Mapping[str, Any]
    """The values of the best configuration, by field."""
    importances: Mapping[str, float]
    """Share of the scores' variance that each hyperparameter explains; empty for too few trials."""

    def verdict(self, low: float, high: float) -> str:
        """One sentence on the best configuration; `low` and `high` are the interval of the improvement."""
        worth = self.worth
        return (
            f"Trial {self.best_trial} scores {worth.best:.4f} on {self.periods}, the default configuration "
            f"{worth.default:.4f}: better by {worth.improvement:.4f} [{low:.4f}, {high:.4f}] (95 %, day-block "
            f"bootstrap). The best of {worth.tries} equally good tries would be better by {worth.by_luck:.4f}, which "
            f"leaves {worth.deflated:.4f} [{low - worth.by_luck:.4f}, {high - worth.by_luck:.4f}]: "
            + ("more than luck." if low > worth.by_luck else "this may be luck; the default stays the better choice.")
        )


def tuned_network(study: Study, optuna_study: "optuna.Study") -> TunedNetwork:
    """What a finished search found."""
    table = trial_table(optuna_study)
    default = next(
        score_of(t) for t in optuna_study.trials if t.user_attrs.get("default") and t.state.name == "COMPLETE"
    )
    gains = improvement_per_session(default, score_of(optuna_study.best_trial))
    tries = table.filter(pl.col("state") != "fail").height
    tunable, periods = TUNABLE[study.network], ", ".join(fold.name for fold in study.folds)
    best_configuration = tunable.configuration(optuna_study.best_trial.params).to_dict()
    return TunedNetwork(
        network=study.network,
        trials=table,
        best_trial=optuna_study.best_trial.number,
        worth=deflate(table["value"].drop_nulls().to_list(), default.log_loss, tries),
        gains=gains,
        seed=study.seed,
        every=study.budget.every,
        periods=periods,
        sample=(
            f"{study.features['ticker'].n_unique()} tickers, {len(gains)} sessions scored of {periods}, learned from "
            f"{study.features['session'].min()} on, nothing after {study.labels['horizon_end'].max()}"
        ),
        configuration=type(tunable.defaults).__name__,
        adopted={name: best_configuration[name] for name in sorted({*tunable.space, "patience", "segment"})},
        importances=importances(optuna_study, study.seed),
    )
