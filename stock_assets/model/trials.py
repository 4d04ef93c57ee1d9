"""The search: trials of a study in parallel processes, in an Optuna storage that outlives all of them.

The storage is one SQLite file. A trial that is done stays done; one whose process died is marked as failed and
another takes its place. `python -m stock_assets.model.trials FOLDER NUMBER` is one worker.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from stock_assets.errors import StockAssetsError
from stock_assets.model.tuning import NETWORKS, Score, Study, evaluate, read_study, write_study

if TYPE_CHECKING:
    import optuna

#: Completed trials before the pruner compares, and before the sampler learns from them.
PRUNE_FROM, LEARN_FROM = 5, 10
#: Workers that may be killed in one search before it gives up.
DEATHS = 5
_POLL_SECONDS = 0.5
_WORKING = "stock_assets.model.trials"
#: Imports the extensions of the settings, then runs the module that is named after it.
_LAUNCHER = "stock_assets.extensions"
#: Steps of the pruner between one fold and the next: more than any number of epochs.
_FOLD_STEPS = 1_000

TRIAL_SCHEMA = {
    "network": pl.String,
    "study": pl.String,
    "trial": pl.Int64,
    "state": pl.String,
    "value": pl.Float64,
    "is_default": pl.Boolean,
    "params": pl.String,
    "epochs": pl.Int64,
    "seconds": pl.Float64,
    "started": pl.Datetime("us", "UTC"),
}


def search(
    study: Study,
    folder: Path,
    trials: int,
    workers: int,
    on_trial: Callable[[dict], None] | None = None,
) -> "optuna.Study":
    """Runs until `trials` trials are complete or pruned, those of earlier calls included; the first is the default
    configuration, which is never pruned.

    `folder` holds the storage of all studies. `on_trial` is told each row of `trial_table` that came to an end. One
    search at a time may work on a study. The same trials come out of one worker; several draw in whichever order
    they are done.

    Raises StockAssetsError with what a worker said that failed, or when DEATHS workers were killed.
    """
    if trials < 1 or workers < 1:
        raise StockAssetsError(f"tuning was asked for {trials} trial(s) in {workers} process(es); expected 1 or more")
    found = open_storage(folder, study.name)
    _bury(found, found.trials)  # whoever left them running is dead: a search has its study for itself
    _enqueue_default(found)
    told = {trial.number for trial in found.trials if trial.state.is_finished()}
    inputs = folder / study.name
    write_study(study, inputs)
    try:
        while (left := trials - _tried(found)) > 0:
            _work_off(found, inputs, trials, min(workers, left), told, on_trial or (lambda _: None))
            _bury(found, found.trials)
    finally:
        for path in inputs.iterdir():
            path.unlink()
        inputs.rmdir()
    return found


def open_storage(folder: Path, name: str, sampler: "optuna.samplers.BaseSampler | None" = None) -> "optuna.Study":
    """The Optuna study `name` of the storage below `folder`, with the trials that it has; both made where they lack."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    network = NETWORKS[_network_of(name)]
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / 'trials.sqlite'}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    warmup = max(1, int(network.space["epochs"].low) // 4)
    return optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNE_FROM, n_warmup_steps=warmup),
        direction="minimize",
        load_if_exists=True,
    )


def trial_table(found: "optuna.Study") -> pl.DataFrame:
    """One row per trial that came to an end, as TRIAL_SCHEMA says; `value` is null but for complete ones."""
    rows = [_row(found.study_name, trial) for trial in found.trials if trial.state.is_finished()]
    return pl.DataFrame(rows, TRIAL_SCHEMA, orient="row")


def score_of(trial: "optuna.trial.FrozenTrial") -> Score:
    """The score of a complete trial."""
    assert trial.value is not None
    return Score(trial.value, tuple(trial.user_attrs["per_session"]), trial.user_attrs["epochs"])


def default_trial(found: "optuna.Study") -> "optuna.trial.FrozenTrial":
    """The complete trial of the default configuration."""
    return next(t for t in found.trials if t.user_attrs.get("default") and t.state.name == "COMPLETE")


def importances(found: "optuna.Study", seed: int) -> dict[str, float]:
    """Share of the scores' variance that each hyperparameter explains, largest first (fANOVA, Hutter et al. 2014);
    empty where fewer than four trials are complete or all scores are the same."""
    import optuna

    complete = [trial.value for trial in found.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if len(complete) < 4 or len(set(complete)) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(found, evaluator=evaluator)


# ---------------------------------------------------------------- the parent


def _work_off(
    found: "optuna.Study",
    inputs: Path,
    trials: int,
    workers: int,
    told: set[int],
    on_trial: Callable[[dict], None],
) -> None:
    """Workers until nobody has anything left to do; a killed one is replaced."""
    with ExitStack() as running:
        started = len(found.trials)
        alive = {number: _start(running, inputs, trials, number, started) for number in range(workers)}
        deaths = 0
        while alive:
            time.sleep(_POLL_SECONDS)
            for number, process in list(alive.items()):
                code = process.poll()
                if code is None:
                    continue
                del alive[number]
                if code > 0:
                    said = (inputs / f"worker-{number}.log").read_text().strip().splitlines() or ["nothing"]
                    raise StockAssetsError(f"a worker of {found.study_name} failed: {said[-1]}")
                if code < 0:
                    deaths += 1
                    if deaths >= DEATHS:
                        raise StockAssetsError(
                            f"{deaths} workers of {found.study_name} were killed, the last by signal {-code}; expected "
                            "enough memory for all of them: ask for fewer workers. What is done stays done"
                        )
                    _bury(found, [t for t in found.trials if t.user_attrs.get("pid") == process.pid])
                    again = number + workers
                    alive[again] = _start(running, inputs, trials, again, started)
            for trial in found.trials:
                if trial.state.is_finished() and trial.number not in told:
                    told.add(trial.number)
                    on_trial(_row(found.study_name, trial))


def _start(running: ExitStack, inputs: Path, trials: int, number: int, started: int) -> subprocess.Popen:
    log = running.enter_context((inputs / f"worker-{number}.log").open("w"))
    process = subprocess.Popen(
        [sys.executable, "-m", _LAUNCHER, _WORKING, *map(str, (inputs, trials, number, started, os.getpid()))],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # a process per core: threads of their own would only fight for it
        env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
    )
    running.callback(process.wait)
    running.callback(process.kill)
    return process


def _tried(found: "optuna.Study") -> int:
    """Trials that are complete or pruned."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in found.trials)


def _bury(found: "optuna.Study", trials: "Sequence[optuna.trial.FrozenTrial]") -> None:
    """Marks those of `trials` as failed that were running when their process died."""
    import optuna

    for trial in trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            if trial.user_attrs.get("default"):  # first, so that nobody takes the free place
                _enqueue_default(found)
            found.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _enqueue_default(found: "optuna.Study") -> None:
    network = _network_of(found.study_name)
    if not any(t.user_attrs.get("default") and t.state.name in ("WAITING", "COMPLETE") for t in found.trials):
        found.enqueue_trial(NETWORKS[network].default_params(), user_attrs={"default": True})


def _network_of(name: str) -> str:
    """The network of the study `name`, see `tuning.Study.name`."""
    return name.split("-")[0]


def _row(name: str, trial: "optuna.trial.FrozenTrial") -> dict:
    complete = trial.state.name == "COMPLETE"
    return {
        "network": _network_of(name),
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


# ---------------------------------------------------------------- a worker


def work(inputs: Path, trials: int, number: int, started: int, parent: int) -> None:
    """Takes one trial after the other until `trials` are done or under way.

    `number` tells the workers of a search apart and `started` the searches: so no two draw the same.
    """
    import optuna

    study = read_study(inputs)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=LEARN_FROM, constant_liar=True, seed=study.seed + 1_000 * started + number
    )
    found = open_storage(inputs.parent, study.name, sampler)
    while trial := _claim(found, inputs, trials):
        try:
            _try(study, trial, parent)
        except optuna.TrialPruned:
            found.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except Exception as error:
            found.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise StockAssetsError(f"trial {trial.number} with {trial.params}: {error}") from error
        else:
            found.tell(trial, trial.user_attrs["value"])


def _claim(found: "optuna.Study", inputs: Path, trials: int) -> "optuna.Trial | None":
    """The next trial; None when enough are done or under way. One worker at a time, so that none comes too many."""
    with (inputs / "claim.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the kernel should we be killed
        if sum(trial.state.name in ("COMPLETE", "PRUNED", "RUNNING") for trial in found.trials) >= trials:
            return None
        trial = found.ask()
        trial.set_user_attr("pid", os.getpid())
        return trial


def _try(study: Study, trial: "optuna.Trial", parent: int) -> None:
    """Judges the configuration that `trial` suggests. Raises TrialPruned where the median is out of reach."""
    import optuna

    params = {}
    for name, wanted in NETWORKS[study.network].space.items():
        if isinstance(wanted.low, int) and isinstance(wanted.high, int):
            params[name] = trial.suggest_int(name, wanted.low, wanted.high, log=wanted.log)
        else:
            params[name] = trial.suggest_float(name, wanted.low, wanted.high, log=wanted.log)

    def on_epoch(fold: int, epoch: int, loss: float) -> None:
        if os.getppid() != parent:  # nobody waits for the answer
            sys.exit(f"the search {parent} is gone")
        trial.report(loss, fold * _FOLD_STEPS + epoch)
        if trial.should_prune() and not trial.user_attrs.get("default"):
            raise optuna.TrialPruned

    score = evaluate(study, params, on_epoch)
    for name, value in (
        ("value", score.log_loss),
        ("per_session", list(score.per_session)),
        ("epochs", score.epochs),
        ("sample", f"{study.features['ticker'].n_unique()} tickers, {len(score.per_session)} sessions scored"),
    ):
        trial.set_user_attr(name, value)


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    try:
        work(Path(folder), *map(int, numbers))
    except StockAssetsError as error:
        sys.exit(str(error))
