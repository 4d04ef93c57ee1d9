"""The search: trials of a study in parallel processes, in an Optuna storage that outlives all of them.

The storage is one SQLite file, or, of a team, a Postgres database, where other hosts do trials as well. Optuna's
heartbeat finds the trial of a killed worker, marks it as failed and queues it once more.
`python -m stock_assets.model.trials FOLDER …` is one worker, see `work`.
"""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from stock_assets.errors import StockAssetsError
from stock_assets.files import disk_errors_of, make_folder, require_sqlite
from stock_assets.model.tuned import trial_row
from stock_assets.model.tuning import TUNABLE, Study, evaluate, network_of, read_study, write_study

if TYPE_CHECKING:
    import optuna

#: What the row of a trial holds by column.
TrialRow = dict[str, Any]
#: The variable with the address of a storage that is no file: a command line can be read by others.
STORAGE = "STOCKASSETS_TUNING_STORAGE"
#: A worker: it imports the extensions of the settings, then runs this module.
_WORKER = ("stock_assets.extensions", "stock_assets.model.trials")
#: Completed trials before the pruner compares, and before the sampler learns from them.
PRUNE_FROM, LEARN_FROM = 5, 10
#: Workers that may be killed in one search before it gives up.
DEATHS = 5
_POLL_SECONDS = 0.5
#: Steps of the pruner between one fold and the next: more than any number of epochs.
_FOLD_STEPS = 1_000


class Heartbeat(NamedTuple):
    """Whole seconds. A trial without a sign of life for `grace` is taken for that of a killed worker."""

    interval: int
    grace: int


HEARTBEAT = Heartbeat(10, 60)


class Helpers(Protocol):
    """Other hosts that do trials of the same study."""

    storage: str
    """the address of the storage that all share"""

    def look(self) -> None:
        """Called while the search waits. Raises StockAssetsError where one of them failed."""
        ...

    def at_work(self) -> bool:
        """Whether one of them may still be at work on a trial."""
        ...


def search(
    study: Study,
    folder: Path,
    trials: int,
    *,
    workers: int,
    on_trial: Callable[[TrialRow], None] | None = None,
    heartbeat: Heartbeat = HEARTBEAT,
    helpers: Helpers | None = None,
) -> "optuna.Study":
    """Runs until `trials` trials are complete or pruned, those of earlier calls included.

    The first trial is the default configuration, which is never pruned. `folder` holds the storage of all studies.
    `on_trial` receives the `tuned.trial_row` of each trial that came to an end. One search at a time may work on a
    study. One worker repeats the same trials; several draw in the order in which they are done, and may do up to
    `workers` - 1 trials more, where some end in the same instant.

    Raises StockAssetsError with the message of a worker that failed, or when DEATHS workers were killed.
    """
    if trials < 1 or workers < 1:
        raise StockAssetsError(f"tuning was asked for {trials} trial(s) in {workers} process(es); expected 1 or more")
    storage = helpers.storage if helpers else None
    optuna_study, inputs = open_storage(folder, study.name, heartbeat, address=storage), folder / study.name
    reported_trials = {trial.number for trial in optuna_study.trials if trial.state.is_finished()}

    def report() -> None:
        for trial in optuna_study.trials:
            if on_trial and trial.state.is_finished() and trial.number not in reported_trials:
                reported_trials.add(trial.number)
                on_trial(trial_row(study.name, trial))
        if helpers:
            helpers.look()

    write_study(study, inputs)
    deaths = 0
    try:
        fail_dead_trials(optuna_study, heartbeat, helpers)
        while (remaining_trials := trials - _count(optuna_study, "COMPLETE", "PRUNED")) > 0 or not _has_default(
            optuna_study, "COMPLETE"
        ):
            if not _has_default(optuna_study, "COMPLETE", "WAITING"):
                optuna_study.enqueue_trial(TUNABLE[study.network].default_params(), user_attrs={"default": True})
            arguments = (inputs, trials, len(optuna_study.trials), os.getpid(), *heartbeat)
            numbers = range(max(1, min(workers, remaining_trials)))
            deaths += run_workers(inputs, arguments, numbers, report=report, storage=storage)
            if deaths >= DEATHS:
                raise StockAssetsError(
                    f"{deaths} workers of {study.name} were killed; expected enough memory for all of them: ask for "
                    "fewer workers. What is done stays done"
                )
            fail_dead_trials(optuna_study, heartbeat, helpers)
            report()
    finally:
        for path in inputs.iterdir():
            path.unlink()
        inputs.rmdir()
    return optuna_study


def open_storage(
    folder: Path,
    name: str,
    heartbeat: Heartbeat = HEARTBEAT,
    *,
    sampler: "optuna.samplers.BaseSampler | None" = None,
    address: str | None = None,
) -> "optuna.Study":
    """The Optuna study `name` of the storage at `address`, or below `folder` without one, with the trials that it has;
    both made where they lack."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options: dict[str, Any] = {"pool_pre_ping": True}  # the server may have been started anew meanwhile
    if address is None:
        with disk_errors_of(folder):
            make_folder(folder)
        require_sqlite(folder / "trials.sqlite", "remove it, and the search begins anew")
        options = {"connect_args": {"timeout": 60}}
    with _experimental():
        storage = optuna.storages.RDBStorage(
            address or f"sqlite:///{folder / 'trials.sqlite'}",
            engine_kwargs=options,
            heartbeat_interval=heartbeat.interval,
            grace_period=heartbeat.grace,
            # once: a configuration that needs too much memory would kill every worker
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
        )
    warmup = max(1, int(TUNABLE[network_of(name)].space["epochs"].low) // 4)
    return optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNE_FROM, n_warmup_steps=warmup),
        direction="minimize",
        load_if_exists=True,
    )


@contextmanager
def _experimental() -> Iterator[None]:
    """Optuna calls the heartbeat experimental, and warns of it."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


# ---------------------------------------------------------------- the parent


def _count(optuna_study: "optuna.Study", *states: str) -> int:
    return sum(trial.state.name in states for trial in optuna_study.trials)


def _has_default(optuna_study: "optuna.Study", *states: str) -> bool:
    return any(trial.user_attrs.get("default") and trial.state.name in states for trial in optuna_study.trials)


def enough(optuna_study: "optuna.Study", trials: int) -> bool:
    """Whether `trials` trials are done or under way."""
    return _count(optuna_study, "COMPLETE", "PRUNED", "RUNNING") >= trials


def fail_dead_trials(optuna_study: "optuna.Study", heartbeat: Heartbeat, helpers: Helpers | None = None) -> None:
    """Waits until the trials of dead workers are marked as failed, and `helpers` have ended theirs. No worker of this
    process may be at work."""
    import optuna

    deadline = time.monotonic() + heartbeat.grace + heartbeat.interval
    while _count(optuna_study, "RUNNING") and time.monotonic() < deadline:
        with _experimental():
            optuna.storages.fail_stale_trials(optuna_study)
        time.sleep(_POLL_SECONDS)
        if helpers:
            helpers.look()
            if helpers.at_work():
                deadline = time.monotonic() + heartbeat.grace + heartbeat.interval
    for trial in optuna_study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # killed before the first heartbeat
        optuna_study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def run_workers(
    inputs: Path,
    arguments: Sequence[object],
    numbers: Sequence[int],
    *,
    report: Callable[[], None],
    storage: str | None = None,
) -> int:
    """Runs a worker for each of `numbers` until all have ended, and calls `report` meanwhile; returns how many were
    killed. Raises StockAssetsError for one that failed, and what `report` raises: none of them is left then."""
    # a process per core: threads of their own would only fight for it
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    environment |= {STORAGE: storage} if storage else {}
    processes: list[subprocess.Popen] = []
    try:
        for number in numbers:
            command = [sys.executable, "-m", *_WORKER, *map(str, arguments), str(number)]
            with (inputs / f"worker-{number}.log").open("w") as log:
                processes.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
                )
        while any(process.poll() is None for process in processes):
            time.sleep(_POLL_SECONDS)
            report()
            for number, process in zip(numbers, processes, strict=True):
                if (process.poll() or 0) > 0:
                    lines = (inputs / f"worker-{number}.log").read_text().strip().splitlines() or ["no message"]
                    raise StockAssetsError(f"a worker of {inputs.name} failed: {lines[-1]}")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return sum(process.returncode < 0 for process in processes)


# ---------------------------------------------------------------- a worker


def work(inputs: Path, trials: int, *, started: int, parent: int, heartbeat: Heartbeat, number: int) -> None:
    """Runs one trial after the other until `trials` are done or under way.

    `started` is the number of trials before this worker and `number` its place among the workers that start together,
    so that no two draw the same.
    """
    import optuna

    states, study = optuna.trial.TrialState, read_study(inputs)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=LEARN_FROM, constant_liar=True, seed=study.seed + 1_000 * started + number
    )
    address = os.environ.get(STORAGE)
    optuna_study = open_storage(inputs.parent, study.name, heartbeat, sampler=sampler, address=address)
    until = optuna.study.MaxTrialsCallback(trials, (states.COMPLETE, states.PRUNED, states.RUNNING))
    optuna_study.optimize(lambda trial: _score(study, trial, parent), callbacks=[until])


def _score(study: Study, trial: "optuna.Trial", parent: int) -> float:
    """The log-loss of the configuration that `trial` suggests.

    Raises TrialPruned where the median is out of reach, StockAssetsError with the configuration where it fails.
    """
    import optuna

    params = {}
    for name, values in TUNABLE[study.network].space.items():
        if isinstance(values.low, int) and isinstance(values.high, int):
            params[name] = trial.suggest_int(name, values.low, values.high, log=values.log)
        else:
            params[name] = trial.suggest_float(name, values.low, values.high, log=values.log)

    def on_epoch(fold: int, epoch: int, loss: float) -> None:
        if os.getppid() != parent:  # the search was killed: nothing reads the result
            sys.exit(f"the search {parent} is gone")
        trial.report(loss, fold * _FOLD_STEPS + epoch)
        if trial.should_prune() and not trial.user_attrs.get("default"):
            raise optuna.TrialPruned

    try:
        score = evaluate(study, params, on_epoch)
    except optuna.TrialPruned:
        raise
    except Exception as error:
        raise StockAssetsError(f"trial {trial.number} with {params}: {error}") from error
    trial.set_user_attr("per_session", list(score.per_session))
    trial.set_user_attr("epochs", score.epochs)
    return score.log_loss


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    trials, started, parent, interval, grace, number = map(int, numbers)
    try:
        work(Path(folder), trials, started=started, parent=parent, heartbeat=Heartbeat(interval, grace), number=number)
    except StockAssetsError as error:
        sys.exit(str(error))
